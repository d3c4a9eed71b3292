//! A log replica never leads and never serves.

use paxos::{Role, Standing};

use super::{Check, Invariant, Stepped};

/// See the module.
pub struct LogReplicasNeverLead;

impl Invariant for LogReplicasNeverLead {
    fn name(&self) -> &'static str {
        "log replicas never lead or serve"
    }

    fn stepped(&mut self, step: &Stepped<'_>) -> Check {
        let status = step.replica.status();
        let role = step.replica.identity().role;
        if role == Role::Log && status.standing != Standing::Follower {
            return Err(format!(
                "node {} is a log replica and {:?}",
                step.node.0, status.standing
            ));
        }
        Ok(())
    }
}
