//! Which admin gives orders: a lease in a record of the system table. Pure. The clock is the local monotonic one, counted from when a
//! change of the record was *seen*; no time of another machine is ever compared, so clock jumps do no harm.
//!
//! The holder renews by rewriting the record on condition that nobody else did. Who sees the same record for longer than the lease may
//! take it over, with an epoch that is larger by one. A holder counts its lease from *before* it wrote; it stops giving orders when
//! that time is over, and whatever it sent before is refused by every node that has heard of the next epoch.
//!
//! Where it is certain that no other admin is alive (`Mesh::succeeds_the_dead`), nobody's lease is waited for; the epoch grows all the same.

use serde::{Deserialize, Serialize};

use crate::records::Stored;

/// Others wait longer than the holder believes, permille of the lease: clocks of two machines may drift by so much.
const DRIFT_PERMILLE: u64 = 250;
/// Renewals in the time of one lease.
const RENEWALS: u64 = 4;

/// The record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaseRecord {
    /// Instance number of the holder …
    pub(crate) instance: u64,
    /// … and its incarnation, drawn at its start.
    pub(crate) incarnation: u64,
    /// Grows with every change of the holder; never reused.
    pub(crate) epoch: u64,
    /// For how long others leave it alone after they saw it change, milliseconds.
    pub(crate) lease_ms: u64,
    /// The holder went away in good order: anyone may take over at once.
    #[serde(default)]
    pub(crate) released: bool,
}

/// What to do next with the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LeaseAction {
    /// Read it and tell `read`.
    Read,
    /// Write this on condition of the token (none: there is no record) and tell `written`.
    Write {
        record: LeaseRecord,
        expected: Option<String>,
    },
}

/// A record that was seen.
#[derive(Debug)]
struct Seen {
    stored: Option<Stored<LeaseRecord>>,
    /// When it was first seen like this.
    since_ms: u64,
}

/// One admin's part.
#[derive(Debug)]
pub(crate) struct Lease {
    instance: u64,
    incarnation: u64,
    lease_ms: u64,
    /// All other admins are dead.
    alone: bool,
    seen: Option<Seen>,
    /// Epoch and end of the lease that is ours.
    held: Option<(u64, u64)>,
    /// An action is under way since …
    busy_since_ms: Option<u64>,
    next_ms: u64,
}

impl Lease {
    pub(crate) fn new(instance: u64, incarnation: u64, lease_ms: u64) -> Self {
        Self {
            instance,
            incarnation,
            lease_ms: lease_ms.max(RENEWALS),
            alone: false,
            seen: None,
            held: None,
            busy_since_ms: None,
            next_ms: 0,
        }
    }

    /// The same; `alone`: no other admin is alive.
    pub(crate) fn alone(self, alone: bool) -> Self {
        Self { alone, ..self }
    }

    /// Whether the stored lease is waited for by no one.
    fn free(&self, stored: &LeaseRecord) -> bool {
        stored.released || (self.alone && !self.ours(stored))
    }

    /// The epoch under which this admin may give orders now.
    pub(crate) fn epoch(&self, now_ms: u64) -> Option<u64> {
        self.held
            .filter(|&(_, until_ms)| now_ms < until_ms)
            .map(|(epoch, _)| epoch)
    }

    /// The greatest epoch seen in the record.
    pub(crate) fn known_epoch(&self) -> u64 {
        self.record().map_or(0, |record| record.epoch)
    }

    fn record(&self) -> Option<&LeaseRecord> {
        let seen = self.seen.as_ref()?;
        seen.stored.as_ref().map(|stored| &stored.value)
    }

    fn ours(&self, record: &LeaseRecord) -> bool {
        (record.instance, record.incarnation) == (self.instance, self.incarnation)
    }

    /// What is due; the caller must tell how it ended.
    pub(crate) fn step(&mut self, now_ms: u64) -> Option<LeaseAction> {
        if self.busy_since_ms.is_some() || now_ms < self.next_ms {
            return None;
        }
        self.busy_since_ms = Some(now_ms);
        let Some(seen) = &self.seen else {
            return Some(LeaseAction::Read);
        };
        let epoch = match &seen.stored {
            None => 1,
            Some(stored) if self.ours(&stored.value) && !stored.value.released => {
                stored.value.epoch
            }
            Some(stored) => {
                let lease_ms = stored.value.lease_ms;
                let wait_ms = lease_ms + lease_ms * DRIFT_PERMILLE / 1_000;
                if !self.free(&stored.value) && now_ms.saturating_sub(seen.since_ms) < wait_ms {
                    return Some(LeaseAction::Read);
                }
                stored.value.epoch + 1
            }
        };
        let record = LeaseRecord {
            instance: self.instance,
            incarnation: self.incarnation,
            epoch,
            lease_ms: self.lease_ms,
            released: false,
        };
        let expected = seen.stored.as_ref().map(|stored| stored.token.clone());
        Some(LeaseAction::Write { record, expected })
    }

    /// The record as it is; none if it could not be read.
    pub(crate) fn read(&mut self, found: Option<Option<Stored<LeaseRecord>>>, now_ms: u64) {
        self.done(now_ms);
        let Some(stored) = found else { return };
        let token = |stored: &Option<Stored<LeaseRecord>>| stored.as_ref().map(|s| s.token.clone());
        let same = self
            .seen
            .as_ref()
            .is_some_and(|seen| token(&seen.stored) == token(&stored));
        if !same {
            let free = stored.as_ref().is_none_or(|s| self.free(&s.value));
            if free {
                // Nobody's: take it at once.
                self.next_ms = now_ms;
            }
            if stored.as_ref().is_none_or(|s| !self.ours(&s.value)) {
                self.held = None;
            }
            self.seen = Some(Seen {
                stored,
                since_ms: now_ms,
            });
        }
    }

    /// How the write of `record` ended: the new token, or none if somebody else wrote first or the outcome is not known.
    pub(crate) fn written(&mut self, record: LeaseRecord, token: Option<String>, now_ms: u64) {
        let began_ms = self.busy_since_ms.unwrap_or(now_ms);
        self.done(now_ms);
        let Some(token) = token else {
            // Whoever wrote it, the record tells; a lease that is still running goes on.
            self.seen = None;
            self.next_ms = now_ms;
            return;
        };
        self.held = (!record.released).then_some((record.epoch, began_ms + record.lease_ms));
        let stored = Stored {
            value: record,
            token,
        };
        self.seen = Some(Seen {
            stored: Some(stored),
            since_ms: now_ms,
        });
    }

    /// A node knows of a greater epoch than ours: step back and look.
    pub(crate) fn outdated(&mut self, epoch: u64) {
        if self.held.is_some_and(|(held, _)| held < epoch) {
            self.held = None;
            self.seen = None;
            self.next_ms = 0;
        }
    }

    /// Something is newer than this admin knows, perhaps the epoch: look at the record soon. A lease that runs goes on meanwhile.
    pub(crate) fn look(&mut self) {
        self.seen = None;
        self.next_ms = 0;
    }

    /// Whether the record was ever seen.
    pub(crate) fn looked(&self) -> bool {
        self.seen.is_some()
    }

    /// The write that gives the lease back, if it is ours.
    pub(crate) fn release(&mut self, now_ms: u64) -> Option<LeaseAction> {
        self.epoch(now_ms)?;
        self.held = None;
        let stored = self.seen.as_ref()?.stored.as_ref()?;
        if !self.ours(&stored.value) {
            return None;
        }
        let record = LeaseRecord {
            released: true,
            ..stored.value.clone()
        };
        let expected = Some(stored.token.clone());
        Some(LeaseAction::Write { record, expected })
    }

    fn done(&mut self, now_ms: u64) {
        self.busy_since_ms = None;
        self.next_ms = now_ms + self.lease_ms / RENEWALS;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The record, as a table with conditional writes keeps it.
    #[derive(Default)]
    pub(crate) struct Table {
        stored: Option<Stored<LeaseRecord>>,
        tokens: u64,
    }

    impl Table {
        fn put(&mut self, record: &LeaseRecord, expected: Option<&str>) -> Option<String> {
            if self.stored.as_ref().map(|s| s.token.as_str()) != expected {
                return None;
            }
            self.tokens += 1;
            let token = self.tokens.to_string();
            self.stored = Some(Stored {
                value: record.clone(),
                token: token.clone(),
            });
            Some(token)
        }

        /// Lets one admin do what is due, all at once.
        pub(crate) fn turn(&mut self, lease: &mut Lease, now_ms: u64) {
            while let Some(action) = lease.step(now_ms) {
                match action {
                    LeaseAction::Read => lease.read(Some(self.stored.clone()), now_ms),
                    LeaseAction::Write { record, expected } => {
                        let token = self.put(&record, expected.as_deref());
                        lease.written(record, token, now_ms);
                    }
                }
            }
        }
    }

    #[test]
    fn the_first_takes_it_and_keeps_it() {
        let (mut table, mut a, mut b) = (
            Table::default(),
            Lease::new(1, 10, 4_000),
            Lease::new(2, 20, 4_000),
        );
        for now_ms in (0..60_000).step_by(100) {
            table.turn(&mut a, now_ms);
            table.turn(&mut b, now_ms);
            assert_eq!(
                (a.epoch(now_ms), b.epoch(now_ms)),
                (Some(1), None),
                "{now_ms}"
            );
        }
    }

    #[test]
    fn a_silent_holder_is_followed_after_its_own_belief_has_ended() {
        let (mut table, mut a, mut b) = (
            Table::default(),
            Lease::new(1, 10, 4_000),
            Lease::new(2, 20, 4_000),
        );
        table.turn(&mut a, 0);
        let mut taken = None;
        for now_ms in (0..20_000).step_by(100) {
            table.turn(&mut b, now_ms);
            assert!(
                a.epoch(now_ms).is_none() || b.epoch(now_ms).is_none(),
                "two at {now_ms}"
            );
            if b.epoch(now_ms).is_some() {
                taken.get_or_insert(now_ms);
            }
        }
        assert!((4_000..7_000).contains(&taken.unwrap()), "{taken:?}");
        assert_eq!(b.epoch(19_900), Some(2));
        // The old holder wakes up, finds its lease over, and does not get it back while the other one renews.
        for now_ms in (20_000..30_000).step_by(100) {
            table.turn(&mut a, now_ms);
            table.turn(&mut b, now_ms);
            assert_eq!((a.epoch(now_ms), b.epoch(now_ms)), (None, Some(2)));
        }
        assert_eq!(a.known_epoch(), 2);
    }

    #[test]
    fn a_released_lease_is_taken_at_the_next_look() {
        let (mut table, mut a, mut b) = (
            Table::default(),
            Lease::new(1, 10, 4_000),
            Lease::new(2, 20, 4_000),
        );
        table.turn(&mut a, 0);
        table.turn(&mut b, 0);
        let Some(LeaseAction::Write { record, expected }) = a.release(500) else {
            panic!()
        };
        assert_eq!(a.epoch(500), None);
        assert!(table.put(&record, expected.as_deref()).is_some());
        table.turn(&mut b, 1_000);
        assert_eq!(b.epoch(1_000), Some(2));
        assert_eq!(b.release(2_000_000), None, "it is over by then");
    }

    #[test]
    fn another_life_of_the_same_admin_waits_like_anyone_else() {
        let mut table = Table::default();
        table.turn(&mut Lease::new(1, 10, 4_000), 0);
        let mut again = Lease::new(1, 11, 4_000);
        table.turn(&mut again, 1_000);
        assert_eq!(again.epoch(1_000), None);
        for now_ms in (1_000..8_000).step_by(500) {
            table.turn(&mut again, now_ms);
        }
        assert_eq!(again.epoch(7_500), Some(2));
    }

    #[test]
    fn who_knows_that_all_others_are_dead_waits_for_none_and_takes_the_next_epoch() {
        let mut table = Table::default();
        table.turn(&mut Lease::new(1, 10, 4_000), 0);
        let mut again = Lease::new(1, 11, 4_000).alone(true);
        table.turn(&mut again, 100);
        assert_eq!(again.epoch(100), Some(2), "at its first look");
        // It keeps what it has as anybody does, and does not take it from itself.
        for now_ms in (200..20_000).step_by(100) {
            table.turn(&mut again, now_ms);
            assert_eq!(again.epoch(now_ms), Some(2));
        }
    }

    #[test]
    fn the_lease_counts_from_before_the_write() {
        let mut a = Lease::new(1, 10, 4_000);
        a.step(0);
        a.read(Some(None), 100);
        let Some(LeaseAction::Write { record, .. }) = a.step(100) else {
            panic!()
        };
        a.written(record, Some("t".into()), 3_100);
        assert_eq!((a.epoch(4_099), a.epoch(4_100)), (Some(1), None));
    }

    #[test]
    fn a_write_of_unknown_outcome_is_read_back_and_a_stale_epoch_ends_it() {
        let (mut table, mut a) = (Table::default(), Lease::new(1, 10, 4_000));
        table.turn(&mut a, 0);
        let Some(LeaseAction::Write { record, expected }) = a.step(1_000) else {
            panic!()
        };
        // It was done, but the answer got lost.
        table.put(&record, expected.as_deref());
        a.written(record, None, 2_000);
        assert_eq!(a.epoch(2_000), Some(1), "the old lease runs on");
        table.turn(&mut a, 2_000);
        table.turn(&mut a, 3_000);
        assert_eq!(a.epoch(6_500), Some(1), "and is renewed");
        a.outdated(1);
        assert_eq!(a.epoch(3_000), Some(1));
        a.outdated(2);
        assert_eq!(a.epoch(3_000), None);
    }

    #[test]
    fn a_record_that_cannot_be_read_changes_nothing() {
        let mut a = Lease::new(1, 10, 4_000);
        assert_eq!(a.step(0), Some(LeaseAction::Read));
        assert_eq!(a.step(0), None, "one at a time");
        a.read(None, 10);
        assert_eq!(a.step(10), None, "not at once");
        assert_eq!(a.step(1_010), Some(LeaseAction::Read));
    }
}
