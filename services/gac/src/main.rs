//! The GAC service: `evenkeel-gac --config FILE`.

use std::path::PathBuf;

use clap::Parser;
use gac::GacSettings;
use mesh::BusSettings;
use serde::Deserialize;
use telemetry::TelemetrySettings;

/// Shares the throughput of tables among the routers.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Settings file (TOML) with the sections `[bus]` and `[gac]`; the environment (EVENKEEL_GAC__INSTANCE=2 …) has precedence.
    #[arg(long)]
    config: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    bus: BusSettings,
    gac: GacSettings,
    telemetry: TelemetrySettings,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    telemetry::init("gac");
    let file: File = settings::load("gac", arguments.config.as_deref())?;
    telemetry::traces::init(&file.telemetry.traces);
    actix::System::with_tokio_rt(telemetry::runtime).block_on(async move {
        let incarnation = telemetry::incarnation();
        let mesh = telemetry::connect(&file.bus, "gac", file.gac.instance, incarnation).await?;
        let running = gac::start(file.gac, mesh).await?;
        telemetry::wait_for_shutdown().await;
        running.stop().await;
        Ok(())
    })
}
