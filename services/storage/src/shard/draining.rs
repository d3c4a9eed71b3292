//! The end of a shard's work in good order: leadership handed over, overlays flushed.

use mesh::TraceContext;
use paxos::{FollowerStatus, NodeId, Role, Standing};
use tokio::sync::oneshot;

use super::Shard;
use crate::group::Group;

impl Shard {
    pub(super) fn hand_over(&mut self, done: oneshot::Sender<()>) {
        self.handing_over = Some((done, 0));
        self.check_hand_over();
        self.retry_hand_over();
    }

    /// Asks each group that is still led to go to its next candidate.
    pub(super) fn retry_hand_over(&mut self) {
        let Some((_, attempt)) = &mut self.handing_over else {
            return;
        };
        let attempt = std::mem::replace(attempt, *attempt + 1);
        // A transfer takes a round trip or more: not at every tick.
        if !attempt.is_multiple_of(10) {
            return;
        }
        let me = self.env.node.id;
        let mut failed = Vec::new();
        for group in self.groups.values_mut() {
            let status = group.replica.status();
            if !matches!(status.standing, Standing::Leader { .. }) {
                continue;
            }
            let healthy = status.healthy;
            let followers = group.replica.followers();
            let able = |f: &&FollowerStatus| !f.learner && f.member.role == Role::Storage;
            let able = || {
                followers
                    .iter()
                    .filter(able)
                    .filter(|f| f.member.node != me)
            };
            // Who is in step takes over at once; nothing is written while the others catch up.
            let mut others: Vec<NodeId> = able()
                .filter(|f| f.in_step)
                .map(|f| f.member.node)
                .collect();
            if others.is_empty() {
                others = able().map(|f| f.member.node).collect();
            }
            if others.is_empty() || !healthy {
                continue;
            }
            let to = others[(attempt / 10 + group.id.0 as usize) % others.len()];
            if let Err(error) =
                group.give_away(&mut self.env, to, "the node stops", TraceContext::default())
            {
                failed.push((group.id, error.into()));
            }
        }
        for (id, why) in failed {
            self.fence(id, why);
        }
        self.finish_round();
        self.check_hand_over();
    }

    /// Ends the hand-over when nothing is led that could be handed over.
    pub(super) fn check_hand_over(&mut self) {
        let me = self.env.node.id;
        let leads = |group: &Group| {
            let status = group.replica.status();
            matches!(status.standing, Standing::Leader { .. })
                && status.healthy
                && status
                    .configuration
                    .members
                    .iter()
                    .any(|m| m.node != me && m.role == Role::Storage)
        };
        if self.handing_over.is_some()
            && !self.groups.values().any(leads)
            && let Some((done, _)) = self.handing_over.take()
        {
            let _ = done.send(());
        }
    }

    pub(super) fn check_flushed(&mut self) {
        if self.flushing_all.is_none() {
            return;
        }
        // An earlier flush may have left newer entries.
        for group in self.groups.values_mut() {
            group.start_flush(&mut self.env);
        }
        if self.groups.values().all(Group::is_flushed)
            && let Some(done) = self.flushing_all.take()
        {
            let _ = done.send(());
        }
    }
}
