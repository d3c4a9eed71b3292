//! The services' only way to each other. (signatures published first; bodies follow)

mod bus_settings;
mod deadline;
mod error;

use std::time::Duration;

pub use bus_settings::{BusSettings, Identity, SenderId};
use bytes::Bytes;
pub use deadline::{Deadline, TraceContext};
pub use error::{CallError, CastError, MeshError};
use serde::{Serialize, de::DeserializeOwned};

/// In-process bus.
#[derive(Clone, Default)]
pub struct LocalBus {}
impl LocalBus {
    /// A new, empty bus.
    pub fn new() -> Self {
        todo!()
    }
}

/// Cheap handle.
#[derive(Clone)]
pub struct Mesh {}

/// A served subject; dropping it unsubscribes.
#[must_use]
pub struct Subscription {}

/// Answers one request, later, from any thread.
pub struct Responder {}
impl Responder {
    /// Answer.
    pub fn reply<T: Serialize>(self, _body: &T) {
        todo!()
    }
}

/// One message that arrived.
pub struct Delivery {
    /// Who sent it.
    pub sender: SenderId,
    /// By when an answer is of use.
    pub deadline: Option<Deadline>,
    /// Trace context.
    pub trace: TraceContext,
    /// MessagePack body.
    pub body: Bytes,
}
impl Delivery {
    /// Decode the body.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, MeshError> {
        todo!()
    }
    /// Answer at once.
    pub fn reply<T: Serialize>(self, _body: &T) {
        todo!()
    }
    /// To answer later.
    pub fn responder(self) -> Responder {
        todo!()
    }
}

impl Mesh {
    /// NATS.
    pub async fn connect(_settings: &BusSettings, _identity: Identity) -> Result<Mesh, MeshError> {
        todo!()
    }
    /// In process.
    pub fn local(_bus: &LocalBus, _identity: Identity) -> Mesh {
        todo!()
    }
    /// Who we are.
    pub fn identity(&self) -> &Identity {
        todo!()
    }
    /// Request and reply.
    pub async fn call<Q: Serialize, R: DeserializeOwned>(
        &self,
        _subject: &str,
        _request: &Q,
        _deadline: Deadline,
        _trace: &TraceContext,
    ) -> Result<R, CallError> {
        todo!()
    }
    /// One way; never blocks.
    pub fn cast<Q: Serialize>(&self, _subject: &str, _message: &Q) -> Result<(), CastError> {
        todo!()
    }
    /// Handler must not block.
    pub async fn serve(
        &self,
        _subject: &str,
        _queue_group: Option<&str>,
        _handler: impl Fn(Delivery) + Send + Sync + 'static,
    ) -> Result<Subscription, MeshError> {
        todo!()
    }
    /// Whether the bus is connected now (local: always).
    pub fn connected(&self) -> bool {
        todo!()
    }
    /// Flush outgoing.
    pub async fn drain(&self, _within: Duration) {}
}
