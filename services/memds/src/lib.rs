//! memds: answers every route lookup of the mesh from memory. Owns a copy of all routing metadata and how it is filled; never a
//! store of record, never decides about membership (storage nodes push it). Nodes compare their maps every second and repair what
//! differs.

mod entry;
mod hydration;
mod map;
mod metrics;
mod partitions;
mod peers;
mod repair;
mod service;
mod settings;

pub use map::RouteMap;
pub use service::{Running, start};
pub use settings::MemdsSettings;
