//! The object store (ADR 0007), as the services that archive, scrub and restore see it: a folder (`file://`) or any S3-compatible service
//! (`s3://`). Owns connections, time-outs, retries and typed errors; the probe whether conditional writes are honest; reading and writing the
//! archive's objects, each verified; and the rebuild of a partition from them. Knows no format (`archive` does) and decides no retention.

mod ahead;
mod commits;
mod credentials;
mod error;
pub mod fault;
mod memory;
mod mend;
mod probe;
mod reader;
mod rebuild;
mod remote;
mod settings;
mod sink;
mod store;
mod tables;
mod tree;
mod writer;

pub use commits::read_commits;
pub use error::{ObjectError, ReadError, Reason};
pub use fault::FaultStore;
pub use memory::MemoryStore;
pub use mend::{MendError, Mender};
pub use probe::{Honesty, probe};
pub use reader::ArchiveReader;
pub use rebuild::{Rebuild, RebuildError, Rebuilt, Target};
pub use settings::ArchiveSettings;
pub use sink::{MemorySink, Sink, SinkError};
pub use store::{Listed, Objects, Put, PutMode, Store};
pub use tables::{ArchivedTable, TableError};
pub use tree::TreeSink;
pub use writer::{ArchiveWriter, WriteError, Written};
