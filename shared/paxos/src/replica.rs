//! One member of one replication group.

use crate::{GroupId, Input, Millis, NodeId, Output, Restored, Status, Timing};

/// A member of a replication group. Pure: no clock, no randomness, no I/O.
#[derive(Debug)]
pub struct Replica {}

impl Replica {
    /// A replica from what its disk holds.
    pub fn new(
        _me: NodeId,
        _incarnation: u64,
        _group: GroupId,
        _restored: Restored,
        _timing: Timing,
        _now: Millis,
    ) -> Replica {
        todo!()
    }

    /// Lets something happen to the replica.
    pub fn step(&mut self, _now: Millis, _input: Input) -> Output {
        todo!()
    }

    /// When the next `Input::Tick` is due at the latest.
    pub fn wake_at(&self) -> Millis {
        todo!()
    }

    /// What can be seen from outside.
    pub fn status(&self) -> Status<'_> {
        todo!()
    }

    /// Whether this replica may answer strong reads from its applied state at this moment.
    pub fn can_serve_reads(&self, _now: Millis) -> bool {
        todo!()
    }

    /// Whether this replica is, or heard from, a leader within the last `ms` milliseconds.
    pub fn heard_from_leader_within(&self, _now: Millis, _ms: u64) -> bool {
        todo!()
    }
}
