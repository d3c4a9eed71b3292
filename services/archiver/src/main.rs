//! The archiver service: `evenkeel-archiver --config FILE`.

use std::path::PathBuf;

use archiver::ArchiverSettings;
use clap::Parser;
use mesh::BusSettings;
use objects::ArchiveSettings;
use serde::Deserialize;
use telemetry::TelemetrySettings;

/// Archives logs and snapshots of all partitions in an object store.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Settings file (TOML) with the sections `[bus]`, `[archiver]` and `[archive]`; the environment (EVENKEEL_ARCHIVE__URL=s3://… …) has
    /// precedence.
    #[arg(long)]
    config: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    bus: BusSettings,
    archiver: ArchiverSettings,
    archive: ArchiveSettings,
    telemetry: TelemetrySettings,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    telemetry::init("archiver");
    let file: File = settings::load("archiver", arguments.config.as_deref())?;
    telemetry::traces::init(&file.telemetry.traces);
    actix::System::with_tokio_rt(telemetry::runtime).block_on(async move {
        let incarnation = telemetry::incarnation();
        let mesh =
            telemetry::connect(&file.bus, "archiver", file.archiver.instance, incarnation).await?;
        let running = archiver::start(file.archiver, &file.archive, mesh).await?;
        telemetry::wait_for_shutdown().await;
        running.stop().await;
        telemetry::traces::shut_down().await;
        Ok(())
    })
}
