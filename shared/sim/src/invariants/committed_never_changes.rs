//! What one replica handed out as committed at an index is what every replica ever hands out there.

use std::collections::BTreeMap;

use paxos::{Entry, GroupId, Index};

use super::{Check, Committed, Invariant};

/// See the module.
#[derive(Default)]
pub struct CommittedNeverChanges {
    committed: BTreeMap<(GroupId, Index), Entry>,
}

impl Invariant for CommittedNeverChanges {
    fn name(&self) -> &'static str {
        "a committed index never changes"
    }

    fn committed(&mut self, committed: &Committed<'_>) -> Check {
        for entry in committed.entries {
            let key = (committed.group, entry.index);
            let known = self.committed.entry(key).or_insert_with(|| entry.clone());
            if known != entry {
                let node = committed.node.0;
                return Err(format!(
                    "node {node} commits {entry:?}, elsewhere it was {known:?}"
                ));
            }
        }
        Ok(())
    }
}
