//! In one ballot only one node leads, and it leads in it once: never again after it stopped.

use std::collections::BTreeMap;

use paxos::{Ballot, GroupId, NodeId, Standing};

use super::{Check, Invariant, Stepped};
use crate::disk::GroupDisk;

/// See the module.
#[derive(Default)]
pub struct OneLeaderABallot {
    /// Who led in a ballot, and whether that is over.
    leaders: BTreeMap<(GroupId, Ballot), (NodeId, bool)>,
    /// The ballot that a node leads in.
    leading: BTreeMap<(GroupId, NodeId), Ballot>,
}

impl OneLeaderABallot {
    fn stops(&mut self, group: GroupId, node: NodeId) {
        if let Some(ballot) = self.leading.remove(&(group, node)) {
            self.leaders.insert((group, ballot), (node, true));
        }
    }
}

impl Invariant for OneLeaderABallot {
    fn name(&self) -> &'static str {
        "one leader a ballot"
    }

    fn stepped(&mut self, step: &Stepped<'_>) -> Check {
        let status = step.replica.status();
        let ballot = status.promised;
        let before = self.leading.get(&(step.group, step.node)).copied();
        if !matches!(status.standing, Standing::Leader { .. }) {
            self.stops(step.group, step.node);
            return Ok(());
        }
        if before == Some(ballot) {
            return Ok(());
        }
        self.stops(step.group, step.node);
        self.leading.insert((step.group, step.node), ballot);
        match self
            .leaders
            .insert((step.group, ballot), (step.node, false))
        {
            None if ballot.node == step.node => Ok(()),
            None => Err(format!(
                "node {} leads in {ballot:?}, not its own",
                step.node.0
            )),
            Some((other, over)) => Err(format!(
                "node {} leads in {ballot:?}, in which node {} led (over: {over})",
                step.node.0, other.0
            )),
        }
    }

    fn restarted(&mut self, group: GroupId, node: NodeId, _: &GroupDisk) -> Check {
        self.stops(group, node);
        Ok(())
    }

    fn gone(&mut self, group: GroupId, node: NodeId) {
        self.stops(group, node);
    }
}
