//! What a shard does while the node's disk is nearly full, or its log as large as it may be: it leads nothing that somebody else could
//! lead. Writes are refused, and entries of leaders not taken, by the groups themselves (`Node::is_full`, `Node::refuses_entries`); reads, votes and flushes go on.

use mesh::TraceContext;
use paxos::{NodeId, Role, Standing};

use super::Shard;

/// Between the first two attempts, milliseconds: a transfer takes some round trips.
const PAUSE_MS_MIN: u64 = 1_000;
/// The pause doubles up to this: where all members are full, leadership must come to rest, or reads would suffer.
const PAUSE_MS_MAX: u64 = 64_000;

impl Shard {
    /// Hands away what is led here, one candidate after the other.
    pub(super) fn flee_full_disk(&mut self) {
        if !self.env.node.is_full() {
            self.flee_pause_ms = 0;
            return;
        }
        if self.env.now.since(self.fled_at) < self.flee_pause_ms {
            return;
        }
        self.fled_at = self.env.now;
        self.flee_pause_ms = (2 * self.flee_pause_ms).clamp(PAUSE_MS_MIN, PAUSE_MS_MAX);
        let me = self.env.node.id;
        let turn = self.env.now.0 / PAUSE_MS_MIN;
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
            if let Err(error) = group.give_away(
                &mut self.env,
                to,
                "the disk is full",
                TraceContext::default(),
            ) {
                failed.push((group.id, error.into()));
            }
        }
        for (id, why) in failed {
            self.fence(id, why);
        }
    }
}
