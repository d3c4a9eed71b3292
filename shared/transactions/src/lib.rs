//! Transactions as their coordinators see them (ADR 0010), pure: what to do next, and what the ledger remembers. Never sends anything, never
//! looks at a clock, never evaluates a write (`partition`).

pub mod coordinator;
pub mod ledger;

pub use coordinator::{Action, Coordinator, Input, Verdict, Vote};
pub use ledger::{Existing, Participant, Record, State};
