//! A new leader holds, durably, every entry that was committed in a lower ballot. (One that wins late, in a ballot below
//! one in which others already commit, need not: it gets no quorum any more.)

use std::collections::BTreeMap;

use paxos::{Ballot, GroupId, Index, NodeId, Standing};

use super::{Check, Committed, Invariant, Stepped};
use crate::disk::GroupDisk;

/// See the module.
#[derive(Default)]
pub struct LeaderCompleteness {
    /// Ballot of each committed entry, and a ballot at or above the one in which it was committed.
    committed: BTreeMap<GroupId, BTreeMap<Index, (Ballot, Ballot)>>,
    leading: BTreeMap<(GroupId, NodeId), Ballot>,
}

impl Invariant for LeaderCompleteness {
    fn name(&self) -> &'static str {
        "a new leader holds every committed entry"
    }

    fn committed(&mut self, committed: &Committed<'_>) -> Check {
        let known = self.committed.entry(committed.group).or_default();
        for entry in committed.entries {
            let (_, at) = known
                .entry(entry.index)
                .or_insert((entry.ballot, committed.promised));
            *at = (*at).min(committed.promised);
        }
        Ok(())
    }

    fn stepped(&mut self, step: &Stepped<'_>) -> Check {
        let who = (step.group, step.node);
        let status = step.replica.status();
        if !matches!(status.standing, Standing::Leader { .. }) {
            self.leading.remove(&who);
            return Ok(());
        }
        if self.leading.insert(who, status.promised) == Some(status.promised) {
            return Ok(());
        }
        let Some(committed) = self.committed.get(&step.group) else {
            return Ok(());
        };
        for (index, (ballot, at)) in committed.range(step.disk.floor.index..) {
            if *at <= status.promised && step.disk.ballot_at(*index) != Some(*ballot) {
                return Err(format!(
                    "node {} leads in {:?} and has {:?} where {ballot:?} is committed at {index}",
                    step.node.0,
                    status.promised,
                    step.disk.ballot_at(*index)
                ));
            }
        }
        Ok(())
    }

    fn restarted(&mut self, group: GroupId, node: NodeId, _: &GroupDisk) -> Check {
        self.leading.remove(&(group, node));
        Ok(())
    }

    fn gone(&mut self, group: GroupId, node: NodeId) {
        self.leading.remove(&(group, node));
    }
}
