//! Where spans go while it is measured what tracing costs: takes OTLP over HTTP and throws it away, as cheaply as that can be done on the measured
//! machine. A deployment's collector is somewhere else.

use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::Context as _;
use bytes::Bytes;

/// Bytes of one request.
const BODY_MAX: usize = 64 << 20;

/// Options of `sink`.
#[derive(clap::Args)]
pub struct SinkOptions {
    /// Address to listen on; spans go to `/v1/traces` there, and `/received` says how many requests came.
    #[arg(long, default_value = "127.0.0.1:4318")]
    listen: String,
}

/// Serves until killed.
pub async fn serve(options: SinkOptions) -> anyhow::Result<()> {
    let received = web::Data::new(AtomicU64::new(0));
    HttpServer::new(move || {
        App::new()
            .app_data(received.clone())
            .app_data(web::PayloadConfig::new(BODY_MAX))
            .route("/v1/traces", web::post().to(take))
            .route("/received", web::get().to(say))
    })
    .workers(1)
    .bind(&options.listen)
    .with_context(|| format!("{} can't be had", options.listen))?
    .run()
    .await?;
    Ok(())
}

async fn take(received: web::Data<AtomicU64>, _spans: Bytes) -> HttpResponse {
    received.fetch_add(1, Ordering::Relaxed);
    // An empty ExportTraceServiceResponse: all were taken.
    HttpResponse::Ok()
        .content_type("application/x-protobuf")
        .finish()
}

async fn say(received: web::Data<AtomicU64>) -> String {
    received.load(Ordering::Relaxed).to_string()
}
