//! Whoever leads was promised its ballot by a quorum of the configuration that is in force in its log, each replica counted by
//! its incarnation; and nobody runs for leadership without a vote, or without a B-tree.

use std::collections::{BTreeMap, BTreeSet};

use paxos::{Ballot, Body, GroupId, NodeId, Role, Standing};

use super::{Check, Invariant, Stepped};
use crate::disk::GroupDisk;

/// See the module.
#[derive(Default)]
pub struct VotersElect {
    /// Who promised a ballot.
    promises: BTreeMap<(GroupId, Ballot), BTreeSet<(NodeId, u64)>>,
    standing: BTreeMap<(GroupId, NodeId), Standing>,
}

impl Invariant for VotersElect {
    fn name(&self) -> &'static str {
        "only voters elect, only storage voters are elected"
    }

    fn stepped(&mut self, step: &Stepped<'_>) -> Check {
        let status = step.replica.status();
        let identity = step.replica.identity();
        let me = (step.node, identity.incarnation);
        for (_, message) in step.sent {
            let ballot = match &message.body {
                Body::Promise(promise) => promise.ballot,
                Body::Prepare { ballot } => *ballot,
                _ => continue,
            };
            self.promises
                .entry((step.group, ballot))
                .or_default()
                .insert(me);
        }
        let who = (step.group, step.node);
        let before = self.standing.insert(who, status.standing);
        if before == Some(status.standing) {
            return Ok(());
        }
        let configuration = status.configuration;
        match status.standing {
            Standing::Follower => {}
            Standing::Candidate => {
                let votes = configuration.votes(step.node, identity.incarnation);
                if !votes || identity.role == Role::Log {
                    return Err(format!("{who:?}, {identity:?}, runs in {configuration:?}"));
                }
            }
            Standing::Leader { .. } => {
                if matches!(before, Some(Standing::Leader { .. })) {
                    return Ok(());
                }
                let promised = self.promises.get(&(step.group, status.promised));
                let elected = configuration.quorum(|m| {
                    (m.node, m.incarnation) == me
                        || promised.is_some_and(|p| p.contains(&(m.node, m.incarnation)))
                });
                if !elected || identity.role == Role::Log {
                    return Err(format!(
                        "{who:?}, {identity:?}, leads in {configuration:?} with promises of {promised:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    fn restarted(&mut self, group: GroupId, node: NodeId, _: &GroupDisk) -> Check {
        self.standing.remove(&(group, node));
        Ok(())
    }

    fn gone(&mut self, group: GroupId, node: NodeId) {
        self.standing.remove(&(group, node));
    }
}
