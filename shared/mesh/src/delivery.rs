//! One message that arrived, and the way to answer it. Never decides who gets it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bus_settings::SenderId;
use crate::calls::Calls;
use crate::deadline::Deadline;
use crate::envelope::{Envelope, FRAME_BYTES_MAX, Kind, encode_frame, refusal};
use crate::error::{CallError, MeshError};
use crate::outbox::{Outbox, with_scratch};
use crate::stats::Stats;
use crate::trace_context::TraceContext;

/// What a subscription does with a message. Must not block: it runs on the bus' own thread (or, in process, on the
/// sender's). It typically hands the delivery to an actor or a channel.
pub(crate) type Handler = Arc<dyn Fn(Delivery) + Send + Sync>;

/// One message that arrived.
pub struct Delivery {
    /// Who sent it.
    pub sender: SenderId,
    /// By when an answer is of use.
    pub deadline: Option<Deadline>,
    /// Trace context of the request that this belongs to.
    pub trace: TraceContext,
    /// MessagePack body.
    pub body: Bytes,
    pub(crate) responder: Responder,
}

impl Delivery {
    /// Decode the body.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, MeshError> {
        decode(&self.body)
    }
    /// Whether the sender waits for an answer.
    pub fn wants_reply(&self) -> bool {
        !matches!(self.responder.to, ReplyTo::Nobody)
    }
    /// Answer at once.
    pub fn reply<T: Serialize + ?Sized>(self, body: &T) {
        self.responder.reply(body);
    }
    /// To answer later, from any thread. Dropping it leaves the caller waiting until its deadline.
    pub fn responder(self) -> Responder {
        self.responder
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("sender", &self.sender)
            .field("deadline", &self.deadline)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Decode a body.
pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, MeshError> {
    rmp_serde::from_slice(body).map_err(|error| MeshError::Malformed {
        expected: std::any::type_name::<T>(),
        reason: error.to_string(),
    })
}

pub(crate) enum ReplyTo {
    /// One way.
    Nobody,
    /// Over the wire.
    Outbox(Arc<Outbox>, u64),
    /// In this process.
    Local(Arc<Calls>, u64),
}

/// Answers one request, once, from any thread. Does nothing for a message that wants no answer.
pub struct Responder {
    pub(crate) to: ReplyTo,
    pub(crate) deadline: Option<Deadline>,
    pub(crate) stats: Arc<Stats>,
}

impl Responder {
    /// Whether an answer would come too late.
    pub fn expired(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline.expired())
    }

    /// Answer; never blocks. An answer that is too late or finds a full queue is dropped and counted.
    pub fn reply<T: Serialize + ?Sized>(self, body: &T) {
        if self.expired() {
            self.stats.replies_dropped.one();
            return;
        }
        match &self.to {
            ReplyTo::Nobody => {}
            ReplyTo::Outbox(outbox, correlation) => {
                let envelope = self.envelope(Kind::Reply, *correlation, None);
                with_scratch(|frame| match encode_frame(frame, &envelope, body) {
                    Ok(()) => self.push(outbox, frame),
                    Err(reason) => {
                        tracing::error!(%reason, "cannot encode an answer");
                        self.refuse(refusal::NO_ANSWER);
                    }
                });
            }
            ReplyTo::Local(calls, correlation) => {
                let answer = match rmp_serde::to_vec_named(body) {
                    Ok(encoded) if encoded.len() <= FRAME_BYTES_MAX => Ok(encoded.into()),
                    _ => {
                        tracing::error!("cannot encode an answer");
                        Err(refused(Some(refusal::NO_ANSWER)))
                    }
                };
                calls.complete(*correlation, answer);
            }
        }
    }

    /// Say that there will be no answer.
    pub(crate) fn refuse(&self, reason: u8) {
        match &self.to {
            ReplyTo::Nobody => {}
            ReplyTo::Outbox(outbox, correlation) => {
                let envelope = self.envelope(Kind::Refusal, *correlation, Some(reason));
                let mut frame = Vec::new();
                if encode_frame(&mut frame, &envelope, &()).is_ok() {
                    self.push(outbox, &frame);
                }
            }
            ReplyTo::Local(calls, correlation) => {
                calls.complete(*correlation, Err(refused(Some(reason))));
            }
        }
    }

    fn envelope(&self, kind: Kind, correlation: u64, reason: Option<u8>) -> Envelope<'static> {
        Envelope {
            kind: kind.code(),
            correlation,
            deadline_unix_ms: self.deadline.map_or(0, |deadline| deadline.unix_ms()),
            reason,
            ..Envelope::default()
        }
    }

    fn push(&self, outbox: &Arc<Outbox>, frame: &[u8]) {
        let deadline = self.deadline.map_or(0, |deadline| deadline.unix_ms());
        if outbox.push(frame, deadline, None).is_err() {
            self.stats.replies_dropped.one();
        }
    }
}

/// What a refusal means to the caller.
pub(crate) fn refused(reason: Option<u8>) -> CallError {
    match reason {
        Some(refusal::INCOMPATIBLE) => CallError::Incompatible,
        Some(refusal::NOT_SERVED) => CallError::NoResponders,
        _ => CallError::Malformed("the answer could not be encoded".to_owned()),
    }
}

/// Run a handler. A panic in it must not silently end the subscription for everybody else.
pub(crate) fn run_handler(handler: &Handler, delivery: Delivery, stats: &Stats) {
    let run = std::panic::AssertUnwindSafe(|| handler(delivery));
    if std::panic::catch_unwind(run).is_err() {
        stats.handler_panics.one();
        tracing::error!("a message handler panicked; the message is lost");
    }
}
