//! Inputs and messages in few words, for the trace and the coverage.

use std::fmt::{Display, Formatter, Result};

use paxos::{Body, Input, Member, Message, NodeId, Replica};

use crate::coverage::Coverage;

struct Words<'a>(&'a Input);

/// An input in few words.
pub(crate) fn of_input(input: &Input) -> impl Display + '_ {
    Words(input)
}

impl Display for Words<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self.0 {
            Input::Message {
                from,
                incarnation,
                message,
            } => {
                write!(f, "< n{}.{incarnation} ", from.0)?;
                of_body(&message.body, f)
            }
            Input::Propose(commands) => write!(f, "proposes {}", commands.len()),
            Input::LogRead { to, from, entries } => {
                write!(f, "read {} from {from} for n{}", entries.len(), to.0)
            }
            other => write!(f, "{other:?}"),
        }
    }
}

/// A replica in one line.
pub(crate) fn of_replica(node: NodeId, replica: &Replica) -> String {
    let status = replica.status();
    let list = |members: &[Member]| {
        let words = members
            .iter()
            .map(|m| format!("n{}.{}{:?}", m.node.0, m.incarnation, m.role));
        words.collect::<Vec<_>>().join(" ")
    };
    let configuration = status.configuration;
    format!(
        "  n{} {:?} is {:?}, promised {}.{}, commit {}, delivered {}, durable {}, last {}, floor {}, flushed {}{}{}; {}: {} | {} | {}",
        node.0,
        replica.identity(),
        status.standing,
        status.promised.round,
        status.promised.node.0,
        status.commit,
        status.delivered,
        status.durable,
        status.last.index,
        status.floor.index,
        status.flushed,
        if status.copying { ", copying" } else { "" },
        if status.healthy { ", healthy" } else { "" },
        configuration.generation,
        list(&configuration.members),
        list(configuration.joint.as_deref().unwrap_or_default()),
        list(&configuration.learners),
    )
}

fn of_body(body: &Body, f: &mut Formatter<'_>) -> Result {
    match body {
        Body::Append(append) => write!(
            f,
            "append {}.{} behind {}@{}.{} +{} sent {} commit {} floor {} {}",
            append.ballot.round,
            append.ballot.node.0,
            append.prev.index,
            append.prev.ballot.round,
            append.prev.ballot.node.0,
            append.entries.len(),
            append.sent.0,
            append.commit,
            append.floor,
            if append.healthy {
                "healthy"
            } else {
                "unhealthy"
            }
        ),
        Body::Fetched { from, entries, .. } => write!(f, "fetched {} from {from}", entries.len()),
        other => write!(f, "{other:?}"),
    }
}

/// Counts what a message shows.
pub(crate) fn cover(coverage: &mut Coverage, message: &Message, of_storage: bool) {
    match &message.body {
        Body::Reject(_) => coverage.hit("append rejected"),
        Body::TimeoutNow { .. } => coverage.hit("transfer completed"),
        Body::Fetched { entries, .. } if !entries.is_empty() => {
            coverage.hit(if of_storage {
                "adopted suffix"
            } else {
                "adopted suffix of a log replica"
            });
        }
        Body::CopyNeeded { .. } => coverage.hit("copy needed"),
        Body::ProbeReply { healthy: true, .. } => coverage.hit("probe calmed"),
        _ => {}
    }
}
