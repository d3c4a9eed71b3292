//! The archive of a mesh in the object store (ADR 0007), pure: what lies where, in which format, and what may be concluded from it.
//! Owns the formats of births, segments, snapshots and their manifests, each with its version; the chain of segments; the checks before an
//! upload; which partitions a table consists of at a time; and what retention may delete. Never reads or writes an object (`objects` does).

pub mod birth;
mod bytes_of;
pub mod chain;
pub mod check;
pub mod course;
mod digest;
mod document;
mod error;
pub mod key;
pub mod lineage;
pub mod manifest;
pub mod retention;
pub mod segment;
pub mod snapshot;
mod tail;

pub use birth::{Birth, Origin};
pub use chain::Chain;
pub use digest::Digest;
pub use error::{Fault, Refusal};
pub use key::{ObjectName, PartitionRef, SegmentName, SnapshotName, TableUuid};
pub use manifest::SegmentManifest;
pub use segment::Segment;
pub use snapshot::SnapshotManifest;
pub use tail::{SplitMark, Tail};
