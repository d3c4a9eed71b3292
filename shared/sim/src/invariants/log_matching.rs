//! Two logs that hold the same ballot at the same index are equal up to there. (By induction: an entry is determined by
//! its index and ballot, and so is its predecessor's ballot.)

use std::collections::BTreeMap;

use paxos::{Ballot, Entry, GroupId, Index, NodeId, PersistOp};

use super::{Check, Invariant};
use crate::disk::GroupDisk;

/// See the module.
#[derive(Default)]
pub struct LogMatching {
    /// Every entry ever durable anywhere, with its predecessor's ballot.
    entries: BTreeMap<(GroupId, Index, Ballot), (Entry, Ballot)>,
}

impl Invariant for LogMatching {
    fn name(&self) -> &'static str {
        "logs match"
    }

    fn persisted(
        &mut self,
        group: GroupId,
        node: NodeId,
        ops: &[PersistOp],
        disk: &GroupDisk,
    ) -> Check {
        for op in ops {
            let PersistOp::Append(entries) = op else {
                continue;
            };
            for entry in entries {
                // Later operations may have removed it, or truncated what came before.
                if disk.ballot_at(entry.index) != Some(entry.ballot) {
                    continue;
                }
                let Some(before) = disk.ballot_at(entry.index - 1) else {
                    continue;
                };
                let key = (group, entry.index, entry.ballot);
                let known = self
                    .entries
                    .entry(key)
                    .or_insert_with(|| (entry.clone(), before));
                if *known != (entry.clone(), before) {
                    return Err(format!(
                        "node {} has {entry:?} behind {before:?}; elsewhere that is {known:?}",
                        node.0
                    ));
                }
            }
        }
        Ok(())
    }
}
