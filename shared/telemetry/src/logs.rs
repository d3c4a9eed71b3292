//! Structured logs on standard error.

use std::io::IsTerminal;
use std::sync::Once;

use tracing_subscriber::EnvFilter;

static INIT: Once = Once::new();

/// Sets up logging, once a process; further calls do nothing.
///
/// `EVENKEEL_LOG` sets the levels (`info`, `warn,storage=debug` …; default `info`); `EVENKEEL_LOG_FORMAT` is `json` or `text` (default:
/// text on a terminal, JSON lines otherwise).
pub fn init(service: &str) {
    init_at(service, "info,async_nats=warn,actix_server=warn");
}

/// As `init`, with other default levels.
pub fn init_at(service: &str, default_levels: &str) {
    INIT.call_once(|| {
        let filter = EnvFilter::try_from_env("EVENKEEL_LOG")
            .unwrap_or_else(|_| EnvFilter::new(default_levels));
        let json = match std::env::var("EVENKEEL_LOG_FORMAT").as_deref() {
            Ok("json") => true,
            Ok("text") => false,
            _ => !std::io::stderr().is_terminal(),
        };
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr);
        // A subscriber that a test or an embedding program set earlier stays.
        let _ = if json {
            builder.json().flatten_event(true).try_init()
        } else {
            builder.try_init()
        };
    });
    tracing::info!(service, version = env!("CARGO_PKG_VERSION"), "starting");
}
