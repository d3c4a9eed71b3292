//! Nothing above the archived position is truncated. (A log that starts anew behind a copy of the B-tree has nothing to truncate.)

use std::collections::BTreeMap;

use paxos::{GroupId, Index, NodeId, PersistOp};

use super::{Check, Invariant};
use crate::disk::GroupDisk;

/// See the module.
#[derive(Default)]
pub struct ArchivedBeforeTruncated {
    archived: BTreeMap<GroupId, Index>,
}

impl Invariant for ArchivedBeforeTruncated {
    fn name(&self) -> &'static str {
        "nothing above the archived position is truncated"
    }

    fn archived(&mut self, group: GroupId, index: Index) {
        self.archived.insert(group, index);
    }

    fn persisted(
        &mut self,
        group: GroupId,
        node: NodeId,
        ops: &[PersistOp],
        _: &GroupDisk,
    ) -> Check {
        let archived = self.archived.get(&group).copied().unwrap_or_default();
        for op in ops {
            if let PersistOp::Floor { index, .. } = op
                && *index > archived
            {
                return Err(format!(
                    "node {} truncated group {} up to {index}, archived is {archived}",
                    node.0, group.0
                ));
            }
        }
        Ok(())
    }
}
