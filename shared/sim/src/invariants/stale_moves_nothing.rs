//! Messages from or to a disk that is not the member's change nothing and cause nothing.

use super::{Check, Invariant, Stale};

/// See the module.
pub struct StaleMovesNothing;

impl Invariant for StaleMovesNothing {
    fn name(&self) -> &'static str {
        "stale incarnations move nothing"
    }

    fn stale(&mut self, stale: &Stale<'_>) -> Check {
        let (before, after) = stale.states;
        if stale.acted || before != after {
            let (group, node) = (stale.group.0, stale.node.0);
            return Err(format!(
                "group {group}, node {node}: from {before} to {after}"
            ));
        }
        Ok(())
    }
}
