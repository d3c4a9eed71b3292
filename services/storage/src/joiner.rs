//! Orders of a leader to other nodes: `JoinReplica`, with a deadline, not too many at a time. Owns the call only.

use std::sync::Arc;
use std::time::Duration;

use mesh::{Deadline, TraceContext};
use paxos::{GroupId, NodeId, Role};
use protocol::control::{Order, OrderCall, OrderReply};
use protocol::subjects;

use crate::inbox::{Event, Inbox};
use crate::node::Node;

/// Such orders of one node under way at a time; the others wait within their time.
pub(crate) const JOINS_MAX: usize = 64;

/// An order on its way.
pub(crate) struct JoinCall {
    pub(crate) group: GroupId,
    pub(crate) node: NodeId,
    pub(crate) role: Role,
    pub(crate) order: Order,
    pub(crate) within_ms: u64,
    /// What it is part of.
    pub(crate) cause: TraceContext,
}

impl JoinCall {
    /// Sends it; `Event::JoinAnswered` says what became of it. Does not block.
    pub(crate) fn start(self, node: Arc<Node>, inbox: Arc<Inbox>) {
        let runtime = node.runtime.clone();
        runtime.spawn(async move {
            let patience = Duration::from_millis(self.within_ms);
            let result = tokio::time::timeout(patience, self.call(&node)).await;
            let result = result.unwrap_or_else(|_| Err("no answer in time".to_owned()));
            inbox.event(Event::JoinAnswered {
                group: self.group,
                node: self.node,
                role: self.role,
                result,
            });
        });
    }

    async fn call(&self, node: &Node) -> Result<u64, String> {
        // Closed with the node only.
        let _permit = node.joins.acquire().await.map_err(|e| e.to_string())?;
        let call = OrderCall {
            epoch: 0,
            order: self.order.clone(),
        };
        let subject = subjects::node_control(self.node);
        let deadline = Deadline::after(Duration::from_millis(self.within_ms));
        let reply = (node.mesh.call(&subject, &call, deadline, &self.cause)).await;
        match reply.map_err(|error| error.to_string())? {
            OrderReply::Joined { incarnation } => Ok(incarnation),
            other => Err(format!("{other:?}")),
        }
    }
}
