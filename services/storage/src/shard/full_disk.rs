//! What a shard does while the node's disk is nearly full: it leads nothing that somebody else could lead. Writes are refused and
//! entries of leaders not taken by the groups themselves (`Node::disk_low`); reads, votes and flushes go on.

use paxos::{Input, NodeId, Role, Standing};

use super::Shard;

/// Between two attempts, milliseconds: a transfer takes some round trips.
const EVERY_MS: u64 = 1_000;

impl Shard {
    /// Hands away what is led here, one candidate after the other.
    pub(super) fn flee_full_disk(&mut self) {
        if !self.env.node.disk_low() || self.env.now.since(self.fled_at) < EVERY_MS {
            return;
        }
        self.fled_at = self.env.now;
        let me = self.env.node.id;
        let turn = self.env.now.0 / EVERY_MS;
        let mut failed = Vec::new();
        for group in self.groups.values_mut() {
            let status = group.replica.status();
            if !matches!(status.standing, Standing::Leader { .. }) || !status.healthy {
                continue;
            }
            let others = status.configuration.members.iter();
            let others = others.filter(|member| member.node != me && member.role == Role::Storage);
            let others: Vec<NodeId> = others.map(|member| member.node).collect();
            let Some(at) = turn
                .wrapping_add(group.id.0)
                .checked_rem(others.len() as u64)
            else {
                continue;
            };
            let to = others[at as usize];
            if let Err(error) = group.step(&mut self.env, Input::TransferLeadership { to }) {
                failed.push((group.id, error.into()));
            }
        }
        for (id, why) in failed {
            self.fence(id, why);
        }
    }
}
