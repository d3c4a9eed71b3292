//! Item requests for another node that their sender cannot reach: a link between two zones is cut, and this node is in a third one. Owns the
//! passing on and its bound; never evaluates, never tries twice.

use std::sync::Arc;

use mesh::{CallError, Deadline, Delivery, TraceContext};
use paxos::NodeId;
use protocol::item::{ItemCall, ItemFault, ItemReply};
use protocol::subjects;

use crate::node::Node;

/// Requests passed on at a time; more are refused.
pub(crate) const FORWARDS_MAX: usize = 4_096;

/// Passes the call on and gives its sender the answer. Does not block.
pub(crate) fn forward(node: &Arc<Node>, mut call: ItemCall, to: NodeId, delivery: Delivery) {
    let Ok(permit) = node.forwards.clone().try_acquire_owned() else {
        return delivery.reply(&ItemReply::Fault(ItemFault::Overloaded));
    };
    let Some(deadline) = delivery.deadline else {
        // Nobody says how long the answer is of use.
        return delivery.reply(&ItemReply::Fault(ItemFault::NotReady));
    };
    node.metrics.forwarded.inc();
    call.forward_to = None;
    let (trace, runtime, node) = (delivery.trace, node.runtime.clone(), node.clone());
    let responder = delivery.responder();
    runtime.spawn(async move {
        let reply = pass_on(&node, &call, to, deadline, &trace).await;
        responder.reply(&reply);
        drop(permit);
    });
}

async fn pass_on(
    node: &Node,
    call: &ItemCall,
    to: NodeId,
    deadline: Deadline,
    trace: &TraceContext,
) -> ItemReply {
    let subject = subjects::node_item(to);
    let reply: Result<ItemReply, CallError> = node.mesh.call(&subject, call, deadline, trace).await;
    reply.unwrap_or_else(|error| ItemReply::Fault(fault(&error)))
}

/// What the sender may conclude: only what was certainly not executed may be tried again.
fn fault(error: &CallError) -> ItemFault {
    match error {
        CallError::NoResponders | CallError::Incompatible => ItemFault::NotReady,
        CallError::Overloaded => ItemFault::Overloaded,
        CallError::TimedOut | CallError::Closed | CallError::Malformed(_) => ItemFault::Unknown,
    }
}
