//! The model checker's side of the replication core: small worlds in which everything that can happen does, in every order. The
//! replicas are the real `paxos::Replica`; this crate owns the disks, the network, the clocks and the checks around them, and decides
//! nothing about replication. docs/verification.md says what is proven by it, and what is not.

pub mod action;
pub mod campaign;
pub mod checks;
pub mod disk;
pub mod host;
pub mod invariant;
pub mod report;
pub mod run;
pub mod scenario;
pub mod scenarios;
pub mod space;
pub mod state;
pub mod step;
pub mod system;
pub mod words;
