//! The admin service: `evenkeel-admin --config FILE`.

use std::path::PathBuf;

use admin::AdminSettings;
use clap::Parser;
use mesh::BusSettings;
use serde::Deserialize;
use telemetry::TelemetrySettings;

/// The control plane of the mesh: tables and their placement.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Settings file (TOML); the environment (EVENKEEL_ADMIN__INSTANCE=2 …) has precedence.
    #[arg(long)]
    config: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    bus: BusSettings,
    admin: AdminSettings,
    telemetry: TelemetrySettings,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    telemetry::init("admin");
    let file: File = settings::load("admin", arguments.config.as_deref())?;
    telemetry::traces::init(&file.telemetry.traces);
    actix::System::with_tokio_rt(telemetry::runtime).block_on(async move {
        let incarnation = telemetry::incarnation();
        let mesh = telemetry::connect(&file.bus, "admin", file.admin.instance, incarnation).await?;
        let running = admin::start(file.admin, mesh).await?;
        telemetry::wait_for_shutdown().await;
        running.stop().await;
        telemetry::traces::shut_down().await;
        Ok(())
    })
}
