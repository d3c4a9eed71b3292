//! At any moment at most one replica of a group believes that it may answer strong reads.

use paxos::{GroupId, Millis, NodeId, Replica};

use super::{Check, Invariant};

/// See the module.
pub struct OneServes;

impl Invariant for OneServes {
    fn name(&self) -> &'static str {
        "at most one lease holder"
    }

    fn swept(&mut self, _: GroupId, replicas: &[(NodeId, &Replica, Millis)]) -> Check {
        let mut serving = replicas
            .iter()
            .filter(|(_, replica, now)| replica.can_serve_reads(*now));
        match (serving.next(), serving.next()) {
            (Some((a, first, _)), Some((b, second, _))) => Err(format!(
                "nodes {} and {} both serve: {:?} and {:?}",
                a.0,
                b.0,
                first.status(),
                second.status()
            )),
            _ => Ok(()),
        }
    }
}
