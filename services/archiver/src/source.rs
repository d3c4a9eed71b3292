//! What storage nodes are asked. Owns the calls, their deadlines and their pages; judges no answer.

use std::time::Duration;

use bytes::Bytes;
use mesh::{CallError, Deadline, Mesh, TraceContext};
use paxos::{Entry, GroupId, Index, NodeId};
use protocol::archive::{ArchiveCall, ArchiveReply, LedLog};
use protocol::operate::{Answer, Command};
use protocol::replication::{CopyChunk, CopyRequest};
use protocol::subjects;

/// Pages of one node's status: a node that never ends does not hold us up for ever.
const PAGES_MAX: usize = 10_000;

/// Why a node did not give what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SourceError {
    /// It says that it cannot, and why.
    #[error("{0}")]
    Unavailable(String),
    /// Its log begins behind this position: what was before is no longer in it.
    #[error("its log begins behind {0}")]
    Gone(Index),
    /// No answer, or none that can be read.
    #[error("no answer: {0}")]
    Silent(String),
}

impl From<CallError> for SourceError {
    fn from(error: CallError) -> Self {
        Self::Silent(error.to_string())
    }
}

/// The way to the storage nodes.
#[derive(Clone)]
pub(crate) struct Source {
    mesh: Mesh,
    within: Duration,
}

impl Source {
    pub(crate) fn new(mesh: Mesh, call_ms: u64) -> Self {
        Self {
            mesh,
            within: Duration::from_millis(call_ms),
        }
    }

    async fn ask(&self, node: NodeId, call: &ArchiveCall) -> Result<ArchiveReply, SourceError> {
        let (deadline, trace) = (Deadline::after(self.within), TraceContext::default());
        let subject = subjects::node_archive(node);
        match self.mesh.call(&subject, call, deadline, &trace).await? {
            ArchiveReply::Unavailable(why) => Err(SourceError::Unavailable(why)),
            ArchiveReply::Gone { floor } => Err(SourceError::Gone(floor)),
            reply => Ok(reply),
        }
    }

    /// All logs that a node leads.
    pub(crate) async fn status(&self, node: NodeId) -> Result<Vec<LedLog>, SourceError> {
        let (mut all, mut after) = (Vec::new(), GroupId(0));
        for _ in 0..PAGES_MAX {
            match self.ask(node, &ArchiveCall::Status { after }).await? {
                ArchiveReply::Status { logs, next } => {
                    all.extend(logs);
                    match next.filter(|next| *next > after) {
                        Some(next) => after = next,
                        None => break,
                    }
                }
                other => return Err(strange(&other)),
            }
        }
        Ok(all)
    }

    /// Entries from `first` on, at least one, none behind `last`.
    pub(crate) async fn entries(
        &self,
        node: NodeId,
        partition: GroupId,
        (first, last): (Index, Index),
    ) -> Result<Vec<Entry>, SourceError> {
        let call = ArchiveCall::Entries {
            partition,
            first,
            last,
        };
        match self.ask(node, &call).await? {
            ArchiveReply::Entries(entries) if !entries.is_empty() => Ok(entries),
            other => Err(strange(&other)),
        }
    }

    /// SHA-256 of the canonical segment of a range, from the node's own log.
    pub(crate) async fn digest(
        &self,
        node: NodeId,
        partition: GroupId,
        table_uuid: &str,
        (first, last): (Index, Index),
    ) -> Result<Bytes, SourceError> {
        let call = ArchiveCall::Digest {
            partition,
            table_uuid: table_uuid.to_owned(),
            first,
            last,
        };
        match self.ask(node, &call).await? {
            ArchiveReply::Digest(digest) => Ok(digest),
            other => Err(strange(&other)),
        }
    }

    /// Tells a leader what is archived.
    pub(crate) async fn archived(
        &self,
        node: NodeId,
        partition: GroupId,
        index: Index,
    ) -> Result<(), SourceError> {
        match self
            .ask(node, &ArchiveCall::Archived { partition, index })
            .await?
        {
            ArchiveReply::Noted => Ok(()),
            other => Err(strange(&other)),
        }
    }

    /// What the active admin answers.
    pub(crate) async fn ask_admin(&self, command: &Command) -> Result<Answer, SourceError> {
        let (deadline, trace) = (Deadline::after(self.within), TraceContext::default());
        let subject = subjects::ADMIN_OPERATE;
        Ok(self.mesh.call(subject, command, deadline, &trace).await?)
    }

    /// A chunk of a copy of a replica's B-tree.
    pub(crate) async fn copy(
        &self,
        node: NodeId,
        request: &CopyRequest,
    ) -> Result<CopyChunk, SourceError> {
        let (deadline, trace) = (Deadline::after(self.within), TraceContext::default());
        let subject = subjects::node_bulk(node);
        Ok(self.mesh.call(&subject, request, deadline, &trace).await?)
    }
}

fn strange(reply: &ArchiveReply) -> SourceError {
    let text = format!("{reply:?}");
    SourceError::Silent(format!(
        "an answer to something else: {}",
        text.chars().take(80).collect::<String>()
    ))
}
