//! Committed configurations follow each other one by one, and other voters come only through a joint configuration of the
//! two; no log holds more than one configuration that is not committed.

use std::collections::BTreeMap;

use paxos::{Configuration, Entry, GroupId, Index, NodeId, Payload, PersistOp};

use super::{Check, Committed, Invariant, Stepped};
use crate::disk::GroupDisk;

/// See the module.
pub struct ConfigurationsFollow {
    committed: BTreeMap<GroupId, Configuration>,
    /// Known to be committed by anybody.
    commit: BTreeMap<GroupId, Index>,
}

impl ConfigurationsFollow {
    /// For groups that were founded so.
    pub fn new(groups: &[(GroupId, Configuration)]) -> ConfigurationsFollow {
        ConfigurationsFollow {
            committed: groups.iter().cloned().collect(),
            commit: BTreeMap::new(),
        }
    }
}

impl Invariant for ConfigurationsFollow {
    fn name(&self) -> &'static str {
        "one change at a time, and a joint configuration between other voters"
    }

    fn founded(&mut self, group: GroupId, configuration: &Configuration) {
        self.committed.insert(group, configuration.clone());
    }

    fn stepped(&mut self, step: &Stepped<'_>) -> Check {
        let commit = self.commit.entry(step.group).or_default();
        *commit = (*commit).max(step.replica.status().commit);
        Ok(())
    }

    fn persisted(
        &mut self,
        group: GroupId,
        node: NodeId,
        ops: &[PersistOp],
        disk: &GroupDisk,
    ) -> Check {
        let configures = |entry: &Entry| matches!(entry.payload, Payload::Config(_));
        let changes = |op: &PersistOp| match op {
            PersistOp::Append(entries) => entries.iter().any(configures),
            _ => false,
        };
        if !ops.iter().any(changes) {
            return Ok(());
        }
        let commit = self.commit.get(&group).copied().unwrap_or_default();
        let open: Vec<Index> = disk
            .entries
            .range(commit + 1..)
            .filter(|(_, entry)| configures(entry))
            .map(|(index, _)| *index)
            .collect();
        if open.len() > 1 {
            return Err(format!(
                "node {} of group {} has uncommitted configurations at {open:?} (commit {commit})",
                node.0, group.0
            ));
        }
        Ok(())
    }

    fn committed(&mut self, committed: &Committed<'_>) -> Check {
        let Some(before) = self.committed.get_mut(&committed.group) else {
            return Ok(());
        };
        for entry in committed.entries {
            let Payload::Config(next) = &entry.payload else {
                continue;
            };
            if next.generation <= before.generation {
                continue;
            }
            let same = |a: &[paxos::Member], b: &[paxos::Member]| {
                a.len() == b.len() && a.iter().all(|m| b.contains(m))
            };
            let fits = match (&before.joint, &next.joint) {
                (None, None) => same(&before.members, &next.members),
                (None, Some(old)) => same(&before.members, old),
                (Some(_), None) => {
                    same(&before.members, &next.members) && before.learners == next.learners
                }
                (Some(_), Some(_)) => false,
            };
            if next.generation != before.generation + 1 || !fits {
                return Err(format!("{next:?} follows {before:?}"));
            }
            *before = next.clone();
        }
        Ok(())
    }
}
