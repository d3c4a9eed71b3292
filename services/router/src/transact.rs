//! Transactions at the router (ADR 0010): the shell around their coordinators, the ledger, and recovery. What the operations of the API
//! validate and answer is in `operations`; what is to be done next is decided in `transactions`.

mod ledger;
mod recovery;
mod run;

pub(crate) use recovery::Recovery;
pub(crate) use run::{Finished, Part, WriteRequest, write};
