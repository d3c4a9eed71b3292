//! The canary: a customer of its own in every zone, through every endpoint; and the ear that hears what routers say of all other customers. Tells
//! availability, and raises the customer-facing alarms. What they follow from is decided by `availability`, pure; it holds nothing that a restart
//! may not lose, and nothing waits for it.

mod customers;
mod probe;
mod service;
mod settings;
mod webhook;

pub use service::{Running, start};
pub use settings::{CanarySettings, Endpoint, Secret};
