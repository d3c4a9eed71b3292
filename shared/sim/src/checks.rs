//! Shows the invariants everything that happens.

use paxos::{GroupId, Input, Millis, NodeId, Output, Replica, Role};

use crate::disk::GroupDisk;
use crate::invariants::{Check, Committed, Stale, Stepped};
use crate::world::{Violation, World};

impl World {
    /// A log replica that has restarted knows entries in outline, and hands out what comes behind them without them. An onlooker would see a gap, so
    /// it sees that only once a storage replica has handed out what lies between.
    pub(crate) fn hide_gap(&mut self, node: NodeId, group: GroupId, output: &mut Output) {
        let (Some(first), Some(last)) = (output.committed.first(), output.committed.last()) else {
            return;
        };
        let handed_out = self.handed_out.get(&group).copied().unwrap_or_default();
        let log = self.identity(node, group).map(|(role, _)| role) == Some(Role::Log);
        if log && first.index > handed_out + 1 {
            output.committed.clear();
        } else {
            let last = last.index.max(handed_out);
            self.handed_out.insert(group, last);
        }
    }

    pub(crate) fn check_step(
        &mut self,
        node: NodeId,
        group: GroupId,
        output: &Output,
    ) -> Result<(), Violation> {
        let Some(host) = self.hosts.get(&node) else {
            return Ok(());
        };
        let (Some(hosted), Some(disk)) = (host.groups.get(&group), host.disk.groups.get(&group))
        else {
            return Ok(());
        };
        let graves = self
            .registry
            .get(group)
            .map_or(&[][..], |known| &known.graves);
        let hosts = self.hosts.values();
        let disks: Vec<(NodeId, &GroupDisk)> = hosts
            .filter_map(|host| Some((host.node, host.disk.groups.get(&group)?)))
            .chain(graves.iter().map(|(node, disk)| (*node, disk)))
            .collect();
        let stepped = Stepped {
            group,
            node,
            replica: &hosted.replica,
            disk,
            disks: &disks,
            sent: &output.send,
            committed: &output.committed,
        };
        for invariant in &mut self.invariants {
            blame(invariant.name(), invariant.stepped(&stepped))?;
        }
        if output.committed.is_empty() {
            return Ok(());
        }
        let committed = Committed {
            group,
            node,
            entries: &output.committed,
            promised: hosted.replica.status().promised,
        };
        for invariant in &mut self.invariants {
            blame(invariant.name(), invariant.committed(&committed))?;
        }
        Ok(())
    }

    pub(crate) fn check_persisted(
        &mut self,
        node: NodeId,
        durable: Vec<(GroupId, &[paxos::PersistOp])>,
    ) -> Result<(), Violation> {
        for (group, ops) in durable {
            let Some(disk) = self
                .hosts
                .get(&node)
                .and_then(|h| h.disk.groups.get(&group))
            else {
                continue;
            };
            for invariant in &mut self.invariants {
                let check = invariant.persisted(group, node, ops, disk);
                blame(invariant.name(), check)?;
            }
        }
        Ok(())
    }

    pub(crate) fn check_group(&mut self, group: GroupId) -> Result<(), Violation> {
        let now = self.now;
        let replicas: Vec<(NodeId, &Replica, Millis)> = self
            .hosts
            .values()
            .filter_map(|host| {
                let hosted = host.groups.get(&group)?;
                Some((host.node, &hosted.replica, host.clock.at(now)))
            })
            .collect();
        for invariant in &mut self.invariants {
            blame(invariant.name(), invariant.swept(group, &replicas))?;
        }
        Ok(())
    }

    /// Delivers a message that may move nothing.
    pub(crate) fn step_stale(
        &mut self,
        node: NodeId,
        group: GroupId,
        input: Input,
    ) -> Result<(), Violation> {
        let Some(host) = self.hosts.get_mut(&node).filter(|host| host.up) else {
            return Ok(());
        };
        let now = host.clock.at(self.now);
        let Some(hosted) = host.groups.get_mut(&group) else {
            return Ok(());
        };
        // Whatever time alone brings about happens first.
        let nothing = Input::Flushed { index: 0 };
        let output = hosted.replica.step(now, nothing);
        self.carry_out(node, group, output)?;
        let Some(hosted) = self.hosted(node, group) else {
            return Ok(());
        };
        let before = format!("{:?}", hosted.replica.status());
        let output = hosted.replica.step(now, input);
        let after = format!("{:?}", hosted.replica.status());
        let acted = !output.persist.is_empty() || !output.committed.is_empty();
        let states = (&before[..], &after[..]);
        let stale = Stale {
            group,
            node,
            states,
            acted,
        };
        for invariant in &mut self.invariants {
            blame(invariant.name(), invariant.stale(&stale))?;
        }
        self.carry_out(node, group, output)
    }
}

/// Turns an invariant's finding into a violation.
pub(crate) fn blame(invariant: &'static str, check: Check) -> Result<(), Violation> {
    check.map_err(|detail| Violation { invariant, detail })
}
