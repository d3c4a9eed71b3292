//! The services' only way to each other: subjects, calls with deadlines, one-way casts; over NATS or within one process,
//! with the same semantics. Owns envelopes, batching, chunking, correlation and the bounds on all of them; never knows what
//! a body means (that is `protocol`).
//!
//! What a caller may rely on: a message arrives at most once and in order for one sender and subject; it may get lost; it
//! is dropped unread once its deadline has passed. A time-out never means "not done".
//!
//! Three connections a process, each opened at first use: subjects that end in `.repl` (consensus), in `.bulk` (copies),
//! and all others; so a copy never delays a heartbeat.
//!
//! A frame above 512 KiB travels in chunks; do not send such to a queue group of several members (each would get a part).

mod bus_settings;
mod calls;
mod chunk;
mod deadline;
mod delivery;
mod envelope;
mod error;
mod inbound;
mod link;
mod local;
mod lock;
mod mesh;
mod nats;
mod outbox;
mod stats;
mod trace_context;

pub use bus_settings::{BusSettings, Identity, SenderId};
pub use deadline::Deadline;
pub use delivery::{Delivery, Responder};
pub use error::{CallError, CastError, MeshError};
pub use local::LocalBus;
pub use lock::MeshLock;
pub use mesh::{Mesh, Subscription};
pub use stats::{Counter, Stats};
pub use trace_context::TraceContext;
