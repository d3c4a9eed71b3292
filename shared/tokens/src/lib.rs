//! The table line of admission (ADR 0005): how the routers share a table's rate. `share` is a router's side, what one direction of a
//! table may spend there; `shares` all of a router's tables and their exchange with the GAC instances; `ring` says which instance
//! looks after which table; `pool` is an instance's side, one direction of a table with all its routers; `instance` all tables of
//! an instance; `growth` how the limit of an on-demand table follows its traffic.
//!
//! Pure: the clock (milliseconds of any monotonic origin of one's own) and random numbers are passed in. Never sends anything, and never says
//! what a request costs.

mod growth;
mod instance;
mod pool;
mod ring;
mod share;
mod shares;

pub use instance::{Instance, InstanceSettings};
pub use ring::Ring;
pub use shares::{Admission, Answered, ShareSettings, Shares};
