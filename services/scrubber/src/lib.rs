//! The scrubber: compares the replicas of every partition with each other, and with what the archive alone says, for ever and at a bounded
//! rate (ADR 0007); and global secondary indexes with their tables. What is found is told to the operator, kept as evidence, and the replica that stands alone is fenced by the admin's
//! order. Holds nothing that the mesh needs: without it, only nobody looks.

pub mod cycle;
mod desk;
mod evidence;
pub mod index_check;
mod index_cycle;
mod indexes;
mod ledger;
mod memory;
mod nodes;
mod reference;
mod round;
mod service;
mod settings;

pub use service::{Running, start};
pub use settings::ScrubberSettings;
