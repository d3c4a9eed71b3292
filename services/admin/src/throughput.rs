//! A table's throughput in the control plane: what requests may ask for (`request`), what a change does to a table and how often it may
//! be made (`change`), and what an account may have (`quota`). Pure; never enforces throughput (routers and storage nodes do).

mod calendar;
mod change;
mod quota;
mod request;

pub(crate) use change::ThroughputChange;
pub use quota::Quotas;
pub(crate) use quota::reserved;
pub(crate) use request::{
    OnDemand, Throughput, Warm, billing, constrain, constrain_as, maximum, maximum_in_range, units,
    warm,
};
