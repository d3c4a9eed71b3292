//! What every service shows of itself: logs, metrics, health endpoints; and the process-wide set-up they share (runtime, signals).
//! Owns no metric of any service; never decides whether a service is healthy.

mod counters;
mod families;
mod http;
mod logs;
mod process;
mod settings;
pub mod traces;

pub use counters::{Values, Words, export};
pub use families::{Families, Name, Sample, Samples, export_families};
pub use http::{Health, HttpServer, serve_http, serve_http_with};
pub use logs::{init, init_at, levels, set_levels};
pub use process::{connect, incarnation, runtime, wait_for_shutdown};
pub use settings::TelemetrySettings;
