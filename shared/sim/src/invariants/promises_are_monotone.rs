//! A promise never falls, not across restarts either: whatever a node said it promised stays promised, and leaves the
//! node only once it is durable.

use std::collections::BTreeMap;

use paxos::{Ballot, Body, GroupId, NodeId};

use super::{Check, Invariant, Stepped};
use crate::disk::GroupDisk;

/// See the module.
#[derive(Default)]
pub struct PromisesAreMonotone {
    /// Highest promise in memory since the start.
    memory: BTreeMap<(GroupId, NodeId), Ballot>,
    /// Highest ballot for which a promise or an acknowledgement left.
    said: BTreeMap<(GroupId, NodeId), Ballot>,
}

impl Invariant for PromisesAreMonotone {
    fn name(&self) -> &'static str {
        "promises are monotone and durable before they are made"
    }

    fn stepped(&mut self, step: &Stepped<'_>) -> Check {
        let who = (step.group, step.node);
        let promised = step.replica.status().promised;
        let memory = self.memory.entry(who).or_default();
        if promised < *memory {
            return Err(format!("{who:?} promised {memory:?} and now {promised:?}"));
        }
        *memory = promised;
        for (_, message) in step.sent {
            let ballot = match &message.body {
                Body::Promise(promise) => promise.ballot,
                Body::Ack(ack) => ack.ballot,
                Body::Reject(reject) => reject.ballot,
                Body::Prepare { ballot } => *ballot,
                _ => continue,
            };
            if step.disk.promised < ballot {
                let durable = step.disk.promised;
                return Err(format!(
                    "{who:?} says {ballot:?}, durable is {durable:?}: {message:?}"
                ));
            }
            let said = self.said.entry(who).or_default();
            *said = (*said).max(ballot);
        }
        Ok(())
    }

    fn restarted(&mut self, group: GroupId, node: NodeId, disk: &GroupDisk) -> Check {
        let who = (group, node);
        self.memory.insert(who, disk.promised);
        let said = self.said.get(&who).copied().unwrap_or_default();
        if disk.promised < said {
            return Err(format!(
                "{who:?} restarts with {:?}, had promised {said:?}",
                disk.promised
            ));
        }
        Ok(())
    }

    fn gone(&mut self, group: GroupId, node: NodeId) {
        // Another replica on the same node begins anew.
        self.memory.remove(&(group, node));
        self.said.remove(&(group, node));
    }
}
