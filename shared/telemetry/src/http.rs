//! The health server: `/healthz` (the process runs), `/readyz` (it wants traffic), `/metrics` (Prometheus text), `/log` (levels of the logs: GET shows
//! them, PUT changes them until the process ends).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpResponse, HttpServer as ActixServer, web};
use prometheus::{Encoder, TextEncoder};

use crate::logs;

/// What the health endpoints say.
#[derive(Clone, Default)]
pub struct Health {
    /// Ready for traffic: `/readyz` answers 200.
    pub ready: Arc<AtomicBool>,
}

/// The health server; stop it last.
pub struct HttpServer {
    address: SocketAddr,
    handle: ServerHandle,
}

impl HttpServer {
    /// Where it listens (the port that was drawn, if 0 was asked for).
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops; answers under way are finished.
    pub async fn stop(self) {
        self.handle.stop(true).await;
    }
}

/// Serves `/healthz`, `/readyz` and `/metrics` on `address`.
///
/// # Errors
/// When the address can't be bound; the error names it.
pub async fn serve_http(address: SocketAddr, health: Health) -> std::io::Result<HttpServer> {
    serve_http_with(address, health, |_| ()).await
}

/// As `serve_http`, with further routes of the service's own.
///
/// # Errors
/// As `serve_http`.
pub async fn serve_http_with(
    address: SocketAddr,
    health: Health,
    routes: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
) -> std::io::Result<HttpServer> {
    let server = ActixServer::new(move || {
        App::new()
            .app_data(web::Data::new(health.clone()))
            .route("/healthz", web::get().to(healthz))
            .route("/readyz", web::get().to(readyz))
            .route("/metrics", web::get().to(metrics))
            .route("/log", web::get().to(show_levels))
            .route("/log", web::put().to(change_levels))
            .configure(routes.clone())
    })
    .workers(1)
    .disable_signals()
    .shutdown_timeout(2)
    .bind(address)
    .map_err(|error| {
        std::io::Error::new(
            error.kind(),
            format!("the health endpoints can't listen on {address}: {error}"),
        )
    })?;
    let address = server.addrs().first().copied().unwrap_or(address);
    let server = server.run();
    let handle = server.handle();
    // Ends when `stop` is called; its result says nothing that the handle does not.
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the health server failed");
        }
    });
    Ok(HttpServer { address, handle })
}

async fn healthz() -> HttpResponse {
    HttpResponse::Ok().body("ok\n")
}

async fn readyz(health: web::Data<Health>) -> HttpResponse {
    if health.ready.load(Ordering::Relaxed) {
        HttpResponse::Ok().body("ready\n")
    } else {
        HttpResponse::ServiceUnavailable().body("not ready\n")
    }
}

async fn show_levels() -> HttpResponse {
    HttpResponse::Ok().body(format!("{}\n", logs::levels()))
}

async fn change_levels(levels: web::Bytes) -> HttpResponse {
    let text = String::from_utf8_lossy(&levels);
    match logs::set_levels(&text) {
        Ok(()) => HttpResponse::Ok().body(format!("{}\n", logs::levels())),
        Err(why) => HttpResponse::BadRequest().body(format!("{why}\n")),
    }
}

async fn metrics() -> HttpResponse {
    let mut text = Vec::new();
    match TextEncoder::new().encode(&prometheus::gather(), &mut text) {
        Ok(()) => HttpResponse::Ok()
            .content_type("text/plain; version=0.0.4")
            .body(text),
        Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[actix_web::test]
    async fn says_ready_only_when_it_is() {
        let health = Health::default();
        let server = serve_http(([127, 0, 0, 1], 0).into(), health.clone())
            .await
            .unwrap();
        let address = server.address();
        assert!(get(address, "/healthz").await.contains(" 200 "));
        assert!(get(address, "/readyz").await.contains(" 503 "));
        health.ready.store(true, Ordering::Relaxed);
        assert!(get(address, "/readyz").await.contains(" 200 "));
        prometheus::register_int_counter!("evenkeel_test_total", "A test.")
            .unwrap()
            .inc();
        assert!(
            get(address, "/metrics")
                .await
                .contains("evenkeel_test_total 1")
        );
        server.stop().await;
    }
}
