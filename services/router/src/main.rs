//! The `evenkeel-router` process: settings, bus, router, signals.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use mesh::BusSettings;
use router::RouterSettings;
use serde::Deserialize;
use telemetry::TelemetrySettings;

/// The router: HTTP front door of an Evenkeel mesh.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// TOML file with the sections `[bus]` and `[router]`. Environment variables (`EVENKEEL_ROUTER__LISTEN`) win over it.
    #[arg(long)]
    config: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    bus: BusSettings,
    router: RouterSettings,
    telemetry: TelemetrySettings,
}

// Requests are many short-lived buffers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    telemetry::init("router");
    match telemetry::runtime().block_on(run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let settings: Settings = settings::load("router", arguments.config.as_deref())?;
    telemetry::traces::init(&settings.telemetry.traces);
    let incarnation = telemetry::incarnation();
    let mesh = telemetry::connect(
        &settings.bus,
        "router",
        settings.router.instance,
        incarnation,
    )
    .await?;
    let running = router::start(settings.router, mesh).await?;
    telemetry::wait_for_shutdown().await;
    running.stop().await;
    telemetry::traces::shut_down().await;
    Ok(())
}
