//! What a leader knows of one follower. Owns the window of appends under way; never builds a message.

use std::collections::VecDeque;

use crate::{Index, Limits, Member, Millis, NodeId, Role};

/// How entries go to the follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// Where the logs part is not known: one append at a time, beginning at `from`, under way since `sent`.
    Probe { from: Index, sent: Option<Millis> },
    /// Appends are pipelined.
    Stream,
    /// Entries from `from` on are being read from the own log since then.
    Read { from: Index, since: Millis },
    /// The follower needs a full copy.
    Copy,
}

/// An append under way.
#[derive(Clone, Copy, Debug, Hash)]
struct Flight {
    last: Index,
    bytes: u64,
    sent: Millis,
}

/// One follower.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Progress {
    pub node: NodeId,
    pub incarnation: u64,
    pub role: Role,
    /// Acknowledgements of messages with an older generation move nothing.
    pub since_generation: u64,
    pub stage: Stage,
    /// Next index to send.
    pub next: Index,
    /// Durable and equal to the leader's log up to here.
    pub matched: Index,
    /// Equal in memory up to here, as of the message sent at `received_at`.
    received: Index,
    received_at: Millis,
    /// Durable B-tree position.
    pub flushed: Index,
    /// Send time of the latest message that was acknowledged: dates the lease.
    pub acked_sent: Option<Millis>,
    /// When anything last arrived from it.
    pub heard: Option<Millis>,
    /// When anything was last sent to it.
    pub last_sent: Option<Millis>,
    /// What it was last told to be committed.
    pub commit_sent: Index,
    flights: VecDeque<Flight>,
    flight_bytes: u64,
}

impl Progress {
    /// A follower of which nothing is known; `next` is the first index tried.
    pub fn new(member: &Member, generation: u64, next: Index, heard: Option<Millis>) -> Progress {
        Progress {
            node: member.node,
            incarnation: member.incarnation,
            role: member.role,
            since_generation: generation,
            stage: Stage::Probe {
                from: next,
                sent: None,
            },
            next,
            matched: 0,
            received: 0,
            received_at: Millis(0),
            flushed: 0,
            acked_sent: None,
            heard,
            last_sent: None,
            commit_sent: 0,
            flights: VecDeque::new(),
            flight_bytes: 0,
        }
    }

    /// Whether another append may be sent now.
    pub fn has_room(&self, now: Millis, lease_ms: u64, limits: &Limits) -> bool {
        match self.stage {
            // Entries are sent to a follower only once it shows signs of life; heartbeats find that out.
            Stage::Probe { sent: None, .. } => {
                self.heard.is_some_and(|heard| now.since(heard) <= lease_ms)
            }
            Stage::Probe { sent: Some(_), .. } | Stage::Read { .. } | Stage::Copy => false,
            Stage::Stream => {
                self.flights.len() < limits.window_messages_max
                    && self.flight_bytes < limits.window_bytes_max
            }
        }
    }

    /// An append up to `last` was sent.
    pub fn sent(&mut self, last: Index, bytes: u64, now: Millis) {
        self.next = last + 1;
        self.flights.push_back(Flight {
            last,
            bytes,
            sent: now,
        });
        self.flight_bytes += bytes;
        if let Stage::Probe { sent, .. } = &mut self.stage {
            *sent = Some(now);
        }
    }

    /// An acknowledgement came: `matched` is durable, `received` is in memory as of the message sent at `sent`.
    pub fn acknowledged(&mut self, matched: Index, received: Index, sent: Millis) {
        self.matched = self.matched.max(matched);
        if sent >= self.received_at {
            self.received_at = sent;
            self.received = received;
        }
        while self
            .flights
            .front()
            .is_some_and(|flight| flight.last <= self.matched)
        {
            let done = self.flights.pop_front().map_or(0, |flight| flight.bytes);
            self.flight_bytes -= done;
        }
        let agreed = self.confirmed();
        match self.stage {
            // The logs agree where the probe began: from now on appends are pipelined.
            Stage::Probe { from, .. } if agreed + 1 >= from => self.stage = Stage::Stream,
            Stage::Copy => self.restart(agreed + 1),
            _ => {}
        }
        if !matches!(self.stage, Stage::Probe { .. }) {
            self.next = self.next.max(agreed + 1);
        }
    }

    /// The logs agree up to here, as far as the follower last said.
    pub fn confirmed(&self) -> Index {
        self.matched.max(self.received)
    }

    /// Starts over at `next`: what is under way counts as lost.
    pub fn restart(&mut self, next: Index) {
        self.next = next;
        self.flights.clear();
        self.flight_bytes = 0;
        self.stage = Stage::Probe {
            from: next,
            sent: None,
        };
    }

    /// The follower needs a copy; nothing is sent but heartbeats.
    pub fn needs_copy(&mut self) {
        self.flights.clear();
        self.flight_bytes = 0;
        self.stage = Stage::Copy;
    }

    /// Forgets what only limits and timers ask for.
    #[cfg(feature = "model")]
    pub fn forget_traffic(&mut self) {
        self.flights.clear();
        self.flight_bytes = 0;
        self.received = self.confirmed();
        self.received_at = Millis(0);
        // Whoever was heard once counts as heard just now.
        self.heard = self.heard.map(|_| Millis(u64::MAX));
    }

    /// When `check_lost` is due.
    pub fn lost_at(&self, retransmit_ms: u64, log_read_ms: u64) -> Option<Millis> {
        match self.stage {
            Stage::Probe { sent, .. } => sent.map(|sent| sent.plus(retransmit_ms)),
            Stage::Stream => self
                .flights
                .front()
                .map(|flight| flight.sent.plus(retransmit_ms)),
            Stage::Read { since, .. } => Some(since.plus(log_read_ms)),
            Stage::Copy => None,
        }
    }

    /// Called at `lost_at`: what the follower does not report to have will be sent again.
    pub fn check_lost(&mut self, now: Millis) {
        let have = self.confirmed();
        match self.stage {
            Stage::Probe { from, .. } => self.restart(from),
            Stage::Read { .. } => self.restart(self.next),
            Stage::Copy => {}
            Stage::Stream => match self.flights.front_mut() {
                // It is there, only the disk is slow.
                Some(flight) if flight.last <= have => flight.sent = now,
                Some(_) => self.restart(have + 1),
                None => {}
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_000);

    fn follower(next: Index) -> Progress {
        let member = Member {
            node: NodeId(2),
            role: Role::Storage,
            incarnation: 1,
        };
        Progress::new(&member, 1, next, Some(NOW))
    }

    fn room(progress: &Progress) -> bool {
        progress.has_room(NOW, 1_500, &Limits::default())
    }

    #[test]
    fn a_probe_goes_alone_until_answered() {
        let mut progress = follower(5);
        assert!(room(&progress));
        progress.sent(7, 100, NOW);
        assert!(!room(&progress));
        progress.acknowledged(0, 3, NOW);
        assert!(
            !room(&progress),
            "an answer to something older proves nothing about index 4"
        );
        progress.acknowledged(0, 7, NOW);
        assert!(room(&progress));
        assert_eq!(
            (progress.next, progress.confirmed(), progress.matched),
            (8, 7, 0)
        );
    }

    #[test]
    fn nothing_is_sent_to_a_silent_follower() {
        let progress = follower(5);
        assert!(!progress.has_room(NOW.plus(1_501), 1_500, &Limits::default()));
    }

    #[test]
    fn the_window_bounds_bytes_and_messages() {
        let limits = Limits {
            window_bytes_max: 100,
            window_messages_max: 3,
            ..Limits::default()
        };
        let mut progress = follower(1);
        progress.sent(1, 1, NOW);
        progress.acknowledged(1, 1, NOW);
        for last in 2..5 {
            assert!(progress.has_room(NOW, 1_500, &limits));
            progress.sent(last, 1, NOW);
        }
        assert!(!progress.has_room(NOW, 1_500, &limits), "three messages");
        progress.acknowledged(3, 4, NOW);
        assert!(progress.has_room(NOW, 1_500, &limits));
        progress.sent(5, 100, NOW);
        assert!(!progress.has_room(NOW, 1_500, &limits), "100 bytes");
    }

    #[test]
    fn only_what_is_missing_is_sent_again() {
        let mut progress = follower(1);
        progress.sent(1, 1, NOW);
        progress.acknowledged(1, 1, NOW);
        progress.sent(2, 1, NOW);
        progress.sent(3, 1, NOW);
        let due = progress.lost_at(600, 5_000).unwrap();
        assert_eq!(due, NOW.plus(600));
        progress.acknowledged(1, 2, NOW.plus(500));
        progress.check_lost(due);
        assert_eq!(
            progress.stage,
            Stage::Stream,
            "2 is there, its disk is slow"
        );
        progress.acknowledged(2, 2, NOW.plus(700));
        progress.check_lost(due);
        assert_eq!(
            (progress.stage, progress.next),
            (
                Stage::Probe {
                    from: 3,
                    sent: None
                },
                3
            )
        );
    }

    #[test]
    fn an_older_answer_does_not_move_what_was_received() {
        let mut progress = follower(1);
        progress.acknowledged(0, 9, NOW.plus(5));
        progress.acknowledged(0, 4, NOW.plus(9));
        assert_eq!(
            progress.confirmed(),
            4,
            "the follower restarted and lost the rest"
        );
        progress.acknowledged(0, 9, NOW.plus(7));
        assert_eq!(progress.confirmed(), 4);
        progress.acknowledged(6, 9, NOW.plus(7));
        assert_eq!(progress.matched, 6, "durable stays durable");
    }
}
