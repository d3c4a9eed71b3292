//! The client against memds and storage nodes that do what a test says, on the in-process bus.

mod calls;
mod detours;
mod lookups;
mod pages;
mod world;
