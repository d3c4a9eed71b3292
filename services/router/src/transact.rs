//! Transactions at the router (ADR 0010): the shell around their coordinators, the ledger, and recovery. What the operations of the API
//! validate and answer is in `operations`; what is to be done next is decided in `transactions`.

/// Whether the API serves transactions: not before `tests/api/test_transact_*.py` were seen to pass. (They run once docs/compatibility.md says
/// that it does.)
pub(crate) const SERVED: bool = false;

mod ledger;
mod recovery;
mod run;

pub(crate) use recovery::Recovery;
pub(crate) use run::{Finished, Part, WriteRequest, write};
