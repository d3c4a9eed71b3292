//! Global admission control: shares the tables' rates among the routers (ADR 0005). Decides nothing itself (`tokens::Instance` does), holds nothing that
//! routers would not tell it again within seconds, and no request ever waits for it.

mod service;
mod settings;

pub use service::{Running, start};
pub use settings::GacSettings;
