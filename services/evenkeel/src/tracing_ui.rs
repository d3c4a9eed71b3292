//! Tracing of `evenkeel dev`, and `evenkeel traces`: Jaeger's pages and an OTLP receiver, in memory (crate `otlp-embedded`). Owns their addresses and bounds; what is
//! traced is the services' business.

use std::net::SocketAddr;

use anyhow::Context as _;
use otlp_embedded::{Config, State, TraceServiceImpl, TraceServiceServer, ui_app};
use telemetry::traces::{Protocol, TraceSettings};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;

/// Traces that are kept at once, some 50 KB each; the least recently used go first. It is the only bound: once the crate's own estimate of bytes is off, which
/// it is after some hundred requests, it would keep nothing any more.
const TRACES_MAX: u32 = 500;

/// What dev traces unless it is told otherwise: every request, as long as there are few.
const SAMPLED_PER_SECOND_MAX: u32 = 20;
/// Background flows of a name that dev keeps a minute: they must not push requests out of its memory.
const FLOWS_PER_MINUTE_MAX: u32 = 6;
/// Short, so that a trace can be looked at right after its request.
const BATCH_MS: u64 = 100;
/// A laptop has little memory and dev little traffic.
const RECORDS_MAX: usize = 4_096;

/// Options of `evenkeel traces`.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  evenkeel traces &\n  EVENKEEL_TELEMETRY__TRACES__ENDPOINT=http://127.0.0.1:4317 infra/local/up"
)]
pub struct Options {
    /// Address of the pages.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:16686")]
    pages: SocketAddr,
    /// Address of the receiver (OTLP over gRPC).
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4317")]
    otlp: SocketAddr,
}

/// Serves until Ctrl-C or SIGTERM.
pub fn run(options: &Options) -> anyhow::Result<()> {
    telemetry::init_at("traces", "warn");
    telemetry::runtime().block_on(async {
        let TracingUi { pages, receiver } = TracingUi::start(options.pages, options.otlp).await?;
        println!("pages     http://{pages}\nreceiver  http://{receiver} (OTLP/gRPC)");
        telemetry::wait_for_shutdown().await;
        Ok(())
    })
}

/// The pages and the receiver.
pub struct TracingUi {
    /// Where the pages are.
    pub pages: SocketAddr,
    /// Where spans are taken, OTLP over gRPC.
    pub receiver: SocketAddr,
}

impl TracingUi {
    /// Listens; both end with the runtime. A port that is taken is replaced by another one.
    pub async fn start(pages: SocketAddr, receiver: SocketAddr) -> anyhow::Result<Self> {
        let (pages, receiver) = (listen(pages).await?, listen(receiver).await?);
        let ui = Self {
            pages: pages.local_addr()?,
            receiver: receiver.local_addr()?,
        };
        let state = State::new(Config {
            max_length: TRACES_MAX,
            max_memory_usage: usize::MAX,
        });
        let app = ui_app(state.clone(), "/");
        tokio::spawn(async move {
            if let Err(error) = axum::serve(pages, app).await {
                tracing::error!(%error, "the tracing pages ended");
            }
        });
        let service = TraceServiceServer::new(TraceServiceImpl::new(state));
        tokio::spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            if let Err(error) = server
                .serve_with_incoming(TcpIncoming::from(receiver))
                .await
            {
                tracing::error!(%error, "the receiver of spans ended");
            }
        });
        Ok(ui)
    }

    /// How the services trace then: as `given`, but to this receiver.
    pub fn settings(&self, given: &TraceSettings) -> TraceSettings {
        let defaults = TraceSettings::default();
        TraceSettings {
            endpoint: format!("http://{}", self.receiver),
            protocol: Protocol::Grpc,
            sample_ratio: given.sample_ratio.or(Some(1.0)),
            sampled_per_second_max: match given.sampled_per_second_max {
                max if max == defaults.sampled_per_second_max => SAMPLED_PER_SECOND_MAX,
                max => max,
            },
            flows_per_minute_max: given.flows_per_minute_max.min(FLOWS_PER_MINUTE_MAX),
            batch_ms: given.batch_ms.min(BATCH_MS),
            records_max: given.records_max.min(RECORDS_MAX),
            ..given.clone()
        }
    }
}

async fn listen(wanted: SocketAddr) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(wanted).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(SocketAddr::new(wanted.ip(), 0))
            .await
            .with_context(|| format!("no port on {} can be had for traces", wanted.ip())),
    }
}
