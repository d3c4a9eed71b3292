//! The scrubber: `evenkeel-scrubber --config FILE`.

use std::path::PathBuf;

use clap::Parser;
use mesh::BusSettings;
use objects::ArchiveSettings;
use scrubber::ScrubberSettings;
use serde::Deserialize;
use telemetry::TelemetrySettings;

/// Compares the replicas of every partition with each other and with the archive, for ever and at a bounded rate.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Settings file (TOML) with the sections `[bus]`, `[scrubber]` and `[archive]`; the environment (EVENKEEL_SCRUBBER__INSTANCE=2 …) has precedence.
    #[arg(long)]
    config: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    bus: BusSettings,
    scrubber: ScrubberSettings,
    archive: ArchiveSettings,
    telemetry: TelemetrySettings,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    telemetry::init("scrubber");
    let file: File = settings::load("scrubber", arguments.config.as_deref())?;
    telemetry::traces::init(&file.telemetry.traces);
    actix::System::with_tokio_rt(telemetry::runtime).block_on(async move {
        let incarnation = telemetry::incarnation();
        let mesh =
            telemetry::connect(&file.bus, "scrubber", file.scrubber.instance, incarnation).await?;
        let running = scrubber::start(file.scrubber, &file.archive, mesh).await?;
        telemetry::wait_for_shutdown().await;
        running.stop().await;
        telemetry::traces::shut_down().await;
        Ok(())
    })
}
