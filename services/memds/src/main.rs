//! The memds service: `evenkeel-memds --config FILE`.

use std::path::PathBuf;

use clap::Parser;
use memds::MemdsSettings;
use mesh::BusSettings;
use serde::Deserialize;
use telemetry::TelemetrySettings;

/// Answers the route lookups of the mesh from memory.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Settings file (TOML); the environment (EVENKEEL_MEMDS__INSTANCE=2 …) has precedence.
    #[arg(long)]
    config: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    bus: BusSettings,
    memds: MemdsSettings,
    telemetry: TelemetrySettings,
}

// Lookups and answers are many short-lived buffers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    telemetry::init("memds");
    let file: File = settings::load("memds", arguments.config.as_deref())?;
    telemetry::traces::init(&file.telemetry.traces);
    actix::System::with_tokio_rt(telemetry::runtime).block_on(async move {
        let incarnation = telemetry::incarnation();
        let mesh = telemetry::connect(&file.bus, "memds", file.memds.instance, incarnation).await?;
        let running = memds::start(file.memds, mesh).await?;
        telemetry::wait_for_shutdown().await;
        running.stop().await;
        telemetry::traces::shut_down().await;
        Ok(())
    })
}
