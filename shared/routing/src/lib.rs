//! Where items live, and how to reach them: the route cache and the storage client of routers and admins. Owns the cache of
//! table definitions and partitions, the lookups to the memds fleet (one a request, hit or miss) and the retries of what was
//! certainly not executed. Never evaluates expressions, never decides placement, never keeps what the mesh could not tell again.

mod attempts;
mod client;
mod errors;
mod fleet;
mod lookups;
mod misses;
mod pages;
mod reach;
mod resolve;
mod routes;
mod storage_calls;
#[cfg(test)]
mod testing;

pub use client::{Client, ClientSettings, ClientStats};
pub use routes::{Routes, RoutesLimits};
pub use storage_calls::REQUEST_TIME;
