//! The replication core: leader-based Multi-Paxos over a contiguous log with a ballot history, as a pure state machine.
//! Owns elections, leases, replication, commitment, catch-up and (joint) membership of one replication group. Never reads
//! a clock, never draws a random number, never does I/O: `Replica::step` says what to persist and what to send.

mod acceptor;
mod configuration;
mod durability;
mod election;
mod entry;
mod follower;
mod ids;
mod io;
mod leader;
mod lease;
mod log;
mod membership;
mod message;
#[cfg(feature = "model")]
mod model;
#[cfg(feature = "mutations")]
mod mutations;
mod progress;
mod replica;
mod replication;
mod status;
mod timing;

pub use configuration::{Configuration, Member, Role};
pub use entry::{ENTRY_OVERHEAD_BYTES, Entry, Outline, Payload};
pub use ids::{Ballot, GroupId, Index, Millis, NodeId, Position, Token};
pub use io::{
    FollowerStatus, Identity, Input, Output, PersistOp, ReadLog, ReconfigureRefusal, Refusal,
    Restored, Standing,
};
pub use message::{Ack, Append, Body, Message, Promise, Reject};
#[cfg(feature = "mutations")]
pub use mutations::{MUTATIONS, Mutation};
pub use replica::Replica;
pub use status::Status;
pub use timing::{Limits, Timing};
