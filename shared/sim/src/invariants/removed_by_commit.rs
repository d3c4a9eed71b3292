//! A replica goes only when a committed configuration, newer than the one it was made for, does not name it; and none that
//! is committed later names it again.

use std::collections::{BTreeMap, BTreeSet};

use paxos::{Configuration, GroupId, NodeId, Payload};

use super::{Check, Committed, Gone, Invariant};

/// See the module.
pub struct RemovedByCommit {
    newest: BTreeMap<GroupId, Configuration>,
    gone: BTreeSet<(GroupId, NodeId, u64)>,
}

impl RemovedByCommit {
    /// For groups that were founded so.
    pub fn new(groups: &[(GroupId, Configuration)]) -> RemovedByCommit {
        RemovedByCommit {
            newest: groups.iter().cloned().collect(),
            gone: BTreeSet::new(),
        }
    }
}

impl Invariant for RemovedByCommit {
    fn name(&self) -> &'static str {
        "a replica that goes was removed by a committed configuration, for good"
    }

    fn founded(&mut self, group: GroupId, configuration: &Configuration) {
        self.newest.insert(group, configuration.clone());
    }

    fn retired(&mut self, gone: &Gone) -> Check {
        let Some(newest) = self.newest.get(&gone.group) else {
            return Ok(());
        };
        let incarnation = gone.identity.incarnation;
        self.gone.insert((gone.group, gone.node, incarnation));
        let named = newest.contains(gone.node, incarnation);
        if named || newest.generation <= gone.identity.generation {
            let (node, identity) = (gone.node.0, gone.identity);
            return Err(format!(
                "node {node} drops {identity:?}, committed is {newest:?}"
            ));
        }
        Ok(())
    }

    fn committed(&mut self, committed: &Committed<'_>) -> Check {
        let group = committed.group;
        let Some(newest) = self.newest.get_mut(&group) else {
            return Ok(());
        };
        for entry in committed.entries {
            let Payload::Config(next) = &entry.payload else {
                continue;
            };
            if next.generation <= newest.generation {
                continue;
            }
            let back = next
                .all()
                .find(|m| self.gone.contains(&(group, m.node, m.incarnation)));
            if let Some(member) = back {
                return Err(format!("{member:?} was dropped, and is in {next:?}"));
            }
            *newest = next.clone();
        }
        Ok(())
    }
}
