//! A replica applies only what it knows to be committed and has on its own disk.

use super::{Check, Invariant, Stepped};

/// See the module.
pub struct AppliedIsDurable;

impl Invariant for AppliedIsDurable {
    fn name(&self) -> &'static str {
        "applied is at most what is known to be committed and durable"
    }

    fn stepped(&mut self, step: &Stepped<'_>) -> Check {
        let status = step.replica.status();
        if status.delivered > status.commit {
            return Err(format!(
                "node {} applied beyond commit: {status:?}",
                step.node.0
            ));
        }
        if status.faults > 0 {
            return Err(format!(
                "node {} met a broken protocol: {status:?}",
                step.node.0
            ));
        }
        for entry in step.committed {
            if step.disk.ballot_at(entry.index) != Some(entry.ballot) {
                return Err(format!(
                    "node {} applies {entry:?} before it is durable",
                    step.node.0
                ));
            }
        }
        Ok(())
    }
}
