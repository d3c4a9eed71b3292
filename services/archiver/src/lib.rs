//! The archiver (ADR 0007): brings every partition's log and snapshots into the object store, and deletes there what nothing needs any more. Holds
//! no state of its own: whatever it must know is in the store, or storage nodes and admins say it again. Any number of instances; each
//! partition is looked after by the one that rendezvous hashing names, and two at once do no harm. What is next is decided by
//! `archive::course`; nothing that serves requests ever waits for it.

mod alarms;
mod archiving;
mod desk;
mod drive;
mod retention;
mod service;
mod settings;
mod snapshot;
mod source;
mod survey;
mod suspects;
mod trouble;
#[cfg(test)]
mod world;

pub use service::{Running, start, start_over};
pub use settings::ArchiverSettings;
