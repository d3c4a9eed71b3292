//! Admission by capacity units, pure: token buckets, the two-part bucket of a partition, the bucket that a node's shards
//! share, and decayed rates. The clock (milliseconds of any monotonic origin) is passed in. Never says what an operation
//! costs (`model::capacity`), and never what a refused client is told (`model::error`).
//!
//! A request is admitted on a balance and settled afterwards: a bucket admits while its balance covers what the request
//! surely costs, and is then charged what it really cost. So it may owe, and admits nothing until that is paid.

mod bucket;
mod node;
mod partition;
mod rate;

pub use bucket::TokenBucket;
pub use node::NodeBucket;
pub use partition::{Grant, PartitionBucket, PartitionLimits};
pub use rate::DecayedRate;
