//! An acceptor acknowledges only in the ballot that it has promised, and only what is durable.

use paxos::Body;

use super::{Check, Invariant, Stepped};

/// See the module.
pub struct AcceptAtPromise;

impl Invariant for AcceptAtPromise {
    fn name(&self) -> &'static str {
        "accept only at the promised ballot, acknowledge only what is durable"
    }

    fn stepped(&mut self, step: &Stepped<'_>) -> Check {
        let status = step.replica.status();
        for (_, message) in step.sent {
            let Body::Ack(ack) = &message.body else {
                continue;
            };
            if ack.ballot != status.promised {
                let promised = status.promised;
                return Err(format!(
                    "node {} promised {promised:?}: {ack:?}",
                    step.node.0
                ));
            }
            let durable = step.disk.last();
            if ack.matched > durable.index {
                return Err(format!("node {} has {durable:?}: {ack:?}", step.node.0));
            }
        }
        Ok(())
    }
}
