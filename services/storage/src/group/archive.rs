//! What a replica says about its log to archivers, and what a leader makes of what they say. Owns the age of what is not archived; reads no
//! log itself (`log_reader`).

use std::collections::VecDeque;

use partition::PartitionError;
use paxos::{Index, Input, Millis, Standing};
use protocol::archive::{ArchiveReply, LedLog, LogReplica};

use super::Group;
use crate::env::Env;
use crate::log_reader::{ArchiveJob, ArchiveRead, LogJob};
use crate::orders::ArchiveCaller;

/// Marks that are kept; beyond it every other one is forgotten, so that the age becomes coarser and not the memory larger.
const MARKS_MAX: usize = 128;
/// A time is closed so long after it has passed, milliseconds: clocks of other leaders may be so far behind.
const CLOSED_AFTER_MS: u64 = 1_000;

/// When which position was applied here: tells the age of the oldest entry that is not archived.
#[derive(Debug, Default)]
pub(super) struct LogAge {
    /// Positions and times, ascending.
    marks: VecDeque<(Index, Millis)>,
}

impl LogAge {
    /// Everything up to `applied` is applied by now.
    fn note(&mut self, applied: Index, now: Millis) {
        if self.marks.back().is_some_and(|(last, _)| *last >= applied) {
            return;
        }
        if self.marks.len() >= MARKS_MAX {
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.marks.push_back((applied, now));
    }

    /// Nothing up to here needs an age any more.
    fn forget(&mut self, archived: Index) {
        while self.marks.front().is_some_and(|(at, _)| *at <= archived) {
            self.marks.pop_front();
        }
    }

    /// For how long the oldest entry above `archived` has been applied at least, milliseconds; 0 = there is none.
    fn of(&self, archived: Index, now: Millis) -> u64 {
        let mut above = self.marks.iter().filter(|(at, _)| *at > archived);
        above.next().map_or(0, |(_, since)| now.since(*since))
    }
}

impl Group {
    /// The log of a partition that this replica leads and serves; none if it does not. From now on what it says to be closed is.
    pub(crate) fn led_log(&mut self, env: &Env) -> Option<LedLog> {
        let status = self.replica.status();
        if !matches!(status.standing, Standing::Leader { .. })
            || !self.replica.can_serve_reads(env.now)
        {
            self.log_age = LogAge::default();
            return None;
        }
        let store = self.store.as_mut()?;
        self.log_age.note(status.delivered, env.now);
        self.log_age.forget(status.archived);
        let closed_ms = env.unix_ms.saturating_sub(CLOSED_AFTER_MS);
        store.partition.close(closed_ms);
        let state = store.partition.state();
        let configuration = status.configuration;
        let replica = |votes: bool| {
            move |member: &paxos::Member| LogReplica {
                node: member.node,
                incarnation: member.incarnation,
                role: member.role,
                votes,
            }
        };
        let voters = configuration.voters().map(replica(true));
        let learners = configuration.learners.iter().map(replica(false));
        Some(LedLog {
            partition: self.id,
            table: state.table.id,
            table_uuid: state.table.uuid.clone(),
            table_version: state.table.version,
            definition: (status.archived == 0).then(|| Box::new(state.table.clone())),
            range: state.range.clone(),
            parent: state.parent,
            begins: state.begins,
            ended: state.has_ended(),
            generation: configuration.generation,
            replicas: voters.chain(learners).collect(),
            round: status.promised.round,
            floor: status.floor.index,
            committed: status.delivered,
            archived: status.archived,
            unarchived_bytes: match status.archived < status.delivered {
                true => status.unarchived_bytes,
                false => 0,
            },
            unarchived_ms: self.log_age.of(status.archived, env.now),
            closed_ms,
            closed: status.last.index,
            items: state.items,
            bytes: state.bytes,
        })
    }

    /// Has committed, durable entries read for an archiver.
    pub(crate) fn read_for_archive(&self, env: &Env, read: ArchiveRead, caller: ArchiveCaller) {
        let status = self.replica.status();
        let (first, last) = (read.first, read.last);
        let (floor, committed) = (status.floor.index, status.delivered);
        if first <= floor {
            return caller.answer(&ArchiveReply::Gone { floor });
        }
        if last > committed || first > last {
            let what = format!("entries {first} to {last} are wanted, committed is {committed}");
            return caller.unavailable(what);
        }
        let job = ArchiveJob {
            group: self.id,
            read,
            caller,
            inbox: env.inbox.clone(),
        };
        // Queue full: no answer, and the archiver asks again.
        let _ = env.log_reader.submit(LogJob::Archive(job));
    }

    /// Everything up to `index` is archived.
    pub(crate) fn archived(
        &mut self,
        env: &mut Env,
        index: Index,
        caller: ArchiveCaller,
    ) -> Result<(), PartitionError> {
        if !matches!(self.replica.status().standing, Standing::Leader { .. }) {
            caller.unavailable("this replica does not lead".to_owned());
            return Ok(());
        }
        self.step(env, Input::Archived { index })?;
        caller.answer(&ArchiveReply::Noted);
        Ok(())
    }

    /// At a leader: not all that it has committed is archived, as far as it knows.
    pub(crate) fn is_unarchived(&self, env: &Env) -> bool {
        let status = self.replica.status();
        env.node.settings.archive && status.archived < status.delivered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_that_of_the_oldest_entry_that_is_not_archived() {
        let mut age = LogAge::default();
        assert_eq!(age.of(0, Millis(100)), 0);
        age.note(5, Millis(100));
        age.note(5, Millis(200));
        age.note(9, Millis(300));
        assert_eq!(age.of(0, Millis(1_000)), 900);
        assert_eq!(age.of(4, Millis(1_000)), 900);
        assert_eq!(age.of(5, Millis(1_000)), 700);
        age.forget(5);
        assert_eq!(age.of(5, Millis(1_000)), 700);
        assert_eq!(age.of(9, Millis(1_000)), 0);
    }

    #[test]
    fn hours_without_an_archive_cost_no_memory_and_never_make_the_log_older() {
        let mut age = LogAge::default();
        for second in 1..20_000 {
            age.note(second, Millis(second * 1_000));
        }
        assert!(age.marks.len() <= MARKS_MAX);
        let now = Millis(20_000_000);
        for archived in (0..19_999).step_by(97) {
            let exact = now.0 - (archived + 1) * 1_000;
            assert!(age.of(archived, now) <= exact, "{archived}");
        }
        assert_eq!(age.of(0, now), 19_999_000, "the oldest is exact");
    }
}
