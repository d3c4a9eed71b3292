//! The floors: what an actix-web handler that echoes its request does here at best, alone and with one NATS request inside.

use std::sync::Arc;

use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::Context as _;
use bytes::Bytes;
use futures::StreamExt;

const SUBJECT: &str = "floor.echo";

/// Options of `floor`.
#[derive(clap::Args)]
pub struct FloorOptions {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: String,
    /// NATS server; without it the handler answers by itself.
    #[arg(long)]
    nats: Option<String>,
}

/// Options of `echo`.
#[derive(clap::Args)]
pub struct EchoOptions {
    /// NATS server.
    #[arg(long)]
    nats: String,
}

struct Floor {
    nats: Option<async_nats::Client>,
}

/// Serves until killed.
pub async fn serve(options: FloorOptions) -> anyhow::Result<()> {
    let nats = match &options.nats {
        Some(url) => Some(async_nats::connect(url).await.context("NATS")?),
        None => None,
    };
    let floor = web::Data::from(Arc::new(Floor { nats }));
    HttpServer::new(move || {
        App::new()
            .app_data(floor.clone())
            .app_data(web::PayloadConfig::new(1024 * 1024))
            .route("/", web::post().to(answer))
    })
    .bind(&options.listen)
    .with_context(|| format!("{} can't be had", options.listen))?
    .run()
    .await?;
    Ok(())
}

async fn answer(floor: web::Data<Floor>, body: Bytes) -> HttpResponse {
    match &floor.nats {
        None => HttpResponse::Ok()
            .content_type("application/json")
            .body(body),
        Some(nats) => match nats.request(SUBJECT, body).await {
            Ok(reply) => HttpResponse::Ok()
                .content_type("application/json")
                .body(reply.payload),
            Err(error) => HttpResponse::InternalServerError().body(error.to_string()),
        },
    }
}

/// Answers the floor's requests until killed.
pub async fn echo(options: EchoOptions) -> anyhow::Result<()> {
    let nats = async_nats::connect(&options.nats).await.context("NATS")?;
    let mut requests = nats.subscribe(SUBJECT).await?;
    while let Some(message) = requests.next().await {
        if let Some(reply) = message.reply {
            nats.publish(reply, message.payload).await?;
        }
    }
    Ok(())
}
