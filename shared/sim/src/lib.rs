//! The deterministic simulator: many nodes and partitions with the real pure cores (`paxos`, `partition`), on a network,
//! disks, clocks and clients that are simulated and go wrong in every way that the design allows for. A run follows from
//! its seed alone. Checks the invariants of the protocol after every step, and the clients' histories at the end.

mod archive;
mod care;
mod checks;
mod churn;
pub mod client;
pub mod coverage;
pub mod disk;
mod event;
mod figure_eight;
pub mod fixture;
mod havoc;
mod healing;
pub mod host;
pub mod invariants;
mod markers;
pub mod nemesis;
pub mod network;
mod orders;
pub mod registry;
pub mod rng;
pub mod run;
pub mod scenario;
mod shell;
pub mod splits;
pub mod trace;
mod traffic;
mod words;
pub mod world;
