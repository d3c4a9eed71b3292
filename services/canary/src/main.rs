//! The canary service: `evenkeel-canary --config FILE`.

use std::path::PathBuf;

use canary::CanarySettings;
use clap::Parser;
use mesh::BusSettings;
use serde::Deserialize;
use telemetry::TelemetrySettings;

/// Uses the mesh as a customer does, and raises alarms about what customers see.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Settings file (TOML) with the sections `[bus]` and `[canary]`; the environment (EVENKEEL_CANARY__INSTANCE=2 …) has precedence.
    #[arg(long)]
    config: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    bus: BusSettings,
    canary: CanarySettings,
    telemetry: TelemetrySettings,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    telemetry::init("canary");
    let file: File = settings::load("canary", arguments.config.as_deref())?;
    telemetry::traces::init(&file.telemetry.traces);
    actix::System::with_tokio_rt(telemetry::runtime).block_on(async move {
        let incarnation = telemetry::incarnation();
        let mesh =
            telemetry::connect(&file.bus, "canary", file.canary.instance, incarnation).await?;
        let running = canary::start(file.canary, mesh).await?;
        telemetry::wait_for_shutdown().await;
        running.stop().await;
        telemetry::traces::shut_down().await;
        Ok(())
    })
}
