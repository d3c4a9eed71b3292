//! Talks to storage nodes and the admin: one call each, with a deadline. Decides nothing.

use std::time::Duration;

use mesh::{Deadline, Mesh, TraceContext};
use paxos::{GroupId, NodeId};
use protocol::operate::{Answer, Command, PartitionStatus};
use protocol::scrub::{ScrubCall, ScrubReply, ScrubRequest};
use protocol::subjects;

/// Time for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// A partition's scrub at a node.
#[derive(Clone)]
pub(crate) struct Nodes {
    pub(crate) mesh: Mesh,
    pub(crate) partition: GroupId,
    pub(crate) scrub: u64,
}

impl Nodes {
    /// The node's answer; in words, if there is none.
    pub(crate) async fn ask(&self, node: NodeId, what: ScrubRequest) -> Result<ScrubReply, String> {
        let call = ScrubCall {
            partition: self.partition,
            scrub: self.scrub,
            what,
        };
        let subject = subjects::node_scrub(node);
        let (deadline, trace) = (Deadline::after(ANSWER_MAX), TraceContext::default());
        let asked = self.mesh.call(&subject, &call, deadline, &trace).await;
        asked.map_err(|error| format!("node {}: {error}", node.0))
    }
}

/// What the active admin answers; the command is part of this trace.
pub(crate) async fn ask_admin(
    mesh: &Mesh,
    command: &Command,
    trace: &TraceContext,
) -> Result<Answer, String> {
    let deadline = Deadline::after(ANSWER_MAX);
    let asked = mesh.call(subjects::ADMIN_OPERATE, command, deadline, trace);
    asked.await.map_err(|error| format!("the admin: {error}"))
}

/// All partitions, as the active admin has them.
pub(crate) async fn partitions(mesh: &Mesh) -> Result<Vec<PartitionStatus>, String> {
    let (mut all, mut after) = (Vec::new(), GroupId(0));
    loop {
        let table = None;
        let (command, trace) = (
            Command::Partitions { table, after },
            TraceContext::default(),
        );
        match ask_admin(mesh, &command, &trace).await? {
            Answer::Partitions { partitions, next } => {
                all.extend(partitions);
                match next.filter(|next| *next > after) {
                    Some(next) => after = next,
                    None => return Ok(all),
                }
            }
            other => return Err(format!("the admin answered {other:?}")),
        }
    }
}
