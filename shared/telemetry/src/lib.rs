//! Logs, metrics and health endpoints.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What the health endpoints say.
#[derive(Clone, Default)]
pub struct Health {
    /// Ready for traffic: `/readyz` answers 200.
    pub ready: Arc<AtomicBool>,
}

/// The health server; stop it last.
pub struct HttpServer {}
impl HttpServer {
    /// Where it listens (the port that was drawn, if 0 was asked for).
    pub fn address(&self) -> SocketAddr {
        todo!()
    }
    /// Stop, gracefully.
    pub async fn stop(self) {}
}

/// Set up logging, once a process; further calls do nothing.
pub fn init(_service: &str) {}

/// `/healthz`, `/readyz`, `/metrics` on `address`.
pub async fn serve_http(_address: SocketAddr, _health: Health) -> std::io::Result<HttpServer> {
    todo!()
}

/// Resolves on SIGTERM or SIGINT.
pub async fn wait_for_shutdown() {}
