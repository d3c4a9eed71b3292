//! memds: answers every route lookup of the mesh from memory. Owns a copy of all routing metadata and how it is filled; never a
//! store of record, never decides about membership (storage nodes push it).

mod hydration;
mod map;
mod service;
mod settings;

pub use map::RouteMap;
pub use service::{Running, start};
pub use settings::MemdsSettings;
