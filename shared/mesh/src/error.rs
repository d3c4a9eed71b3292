//! What can go wrong on the bus, from the view of the one who uses it. Never formats answers for customers.

use thiserror::Error;

/// Connecting, subscribing or decoding failed.
#[derive(Debug, Error)]
pub enum MeshError {
    /// No server answered in time.
    #[error("cannot reach the bus at {urls}: {reason}; is nats-server running there?")]
    Unreachable {
        /// The servers that were tried.
        urls: String,
        /// The last failure.
        reason: String,
    },
    /// The settings do not make sense, or a file that they name cannot be read.
    #[error("bus settings: {0}")]
    Settings(String),
    /// Not a subject: empty, too long, or with white space or wildcards.
    #[error("not a subject: {0:?}")]
    Subject(String),
    /// The mesh was closed, or its thread is gone.
    #[error("the bus is closed")]
    Closed,
    /// The body is not what was expected.
    #[error("cannot decode a {expected}: {reason}")]
    Malformed {
        /// Name of the expected type.
        expected: &'static str,
        /// Why.
        reason: String,
    },
}

/// A call failed. Only `NoResponders`, `Overloaded` and `Incompatible` say that it was certainly not executed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CallError {
    /// No answer before the deadline. The request may have been executed.
    #[error("no answer before the deadline")]
    TimedOut,
    /// The bus was closed while waiting. The request may have been executed.
    #[error("the bus is closed")]
    Closed,
    /// Not sent: a bound was reached (calls in flight, bytes queued).
    #[error("too many calls in flight or bytes queued")]
    Overloaded,
    /// Not executed: nobody serves the subject at the moment. Says nothing about whether the node is dead.
    #[error("nobody serves the subject")]
    NoResponders,
    /// Not executed: the other side does not speak this protocol version.
    #[error("the other side does not speak this protocol version")]
    Incompatible,
    /// The request could not be encoded (not sent), or the answer could not be decoded (executed).
    #[error("malformed: {0}")]
    Malformed(String),
}

impl CallError {
    /// Whether the request was certainly not executed, so that even a write may be sent again.
    pub fn certainly_not_executed(&self) -> bool {
        matches!(
            self,
            Self::Overloaded | Self::NoResponders | Self::Incompatible
        )
    }
}

/// A one-way message was not sent.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CastError {
    /// The queue is full (disconnected for long, or the bus is too slow). The drop is counted.
    #[error("the outgoing queue is full")]
    Overloaded,
    /// The bus is closed.
    #[error("the bus is closed")]
    Closed,
    /// Could not be encoded, is too large, or the subject is none.
    #[error("malformed: {0}")]
    Malformed(String),
}
