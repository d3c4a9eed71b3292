//! What is handed out as committed for the first time is durable on a quorum of every active configuration.

use std::collections::BTreeMap;

use paxos::{GroupId, Index};

use super::{Check, Committed, Invariant};

/// See the module.
#[derive(Default)]
pub struct CommittedIsDurable {
    checked: BTreeMap<GroupId, Index>,
}

impl Invariant for CommittedIsDurable {
    fn name(&self) -> &'static str {
        "committed means durable on a quorum of every active configuration"
    }

    fn committed(&mut self, committed: &Committed<'_>) -> Check {
        let checked = self.checked.entry(committed.group).or_default();
        for entry in committed
            .entries
            .iter()
            .filter(|entry| entry.index > *checked)
        {
            let durable = committed.configuration.quorum(|member| {
                committed.disks.iter().any(|(node, disk)| {
                    let there = disk.ballot_at(entry.index) == Some(entry.ballot)
                        || disk.floor.index >= entry.index;
                    *node == member.node && there
                })
            });
            if !durable {
                return Err(format!(
                    "node {} takes {entry:?} for committed, but it is on no quorum",
                    committed.node.0
                ));
            }
        }
        if let Some(last) = committed.entries.last() {
            *checked = (*checked).max(last.index);
        }
        Ok(())
    }
}
