//! The admin service: `evenkeel-admin --config FILE`.

use std::path::PathBuf;

use admin::AdminSettings;
use clap::Parser;
use mesh::{BusSettings, Identity, Mesh};
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
        let identity = Identity {
            service: "admin".to_owned(),
            instance: file.admin.instance,
            incarnation: telemetry::incarnation(),
        };
        let mesh = Mesh::connect(&file.bus, identity).await?;
        let stats = mesh.stats().clone();
        telemetry::export("evenkeel_mesh", "Messages between services.", move || {
            stats.values()
        });
        let running = admin::start(file.admin, mesh).await?;
        telemetry::wait_for_shutdown().await;
        running.stop().await;
        Ok(())
    })
}
