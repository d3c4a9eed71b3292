//! Scrubs at a shard: markers, and replicas that were found to differ.

use mesh::Responder;
use paxos::GroupId;
use protocol::scrub::{Marker, ScrubReply};

use super::Shard;
use crate::fence::{Fence, Reason};
use crate::orders::OrderCaller;

impl Shard {
    /// `Begin` of a scrub.
    pub(super) fn mark(&mut self, id: GroupId, marker: &Marker, responder: Responder) {
        let mut reply = ScrubReply::NotLeader;
        self.with_group(id, |group, env| {
            reply = group.mark(env, marker)?;
            Ok::<_, Fence>(())
        });
        responder.reply(&reply);
    }

    /// Which replica is here.
    pub(super) fn incarnation(&self, id: GroupId) -> Option<u64> {
        let group = self.groups.get(&id)?;
        Some(group.replica.identity().incarnation)
    }

    /// `FenceReplica`: the replica differs from the others. Done, too, if it is fenced already or no longer here.
    pub(super) fn condemn(
        &mut self,
        id: GroupId,
        incarnation: u64,
        why: String,
        caller: OrderCaller,
    ) {
        match self.incarnation(id) {
            Some(here) if here == incarnation => {
                self.fence(id, Fence::new(Reason::ScrubMismatch, why));
                caller.done();
            }
            Some(_) => caller.refused("there is another replica of the partition"),
            None => caller.done(),
        }
    }
}
