//! The storage service: `evenkeel-storage --config FILE`.

use std::path::PathBuf;

use clap::Parser;
use mesh::BusSettings;
use serde::Deserialize;
use storage::StorageSettings;
use telemetry::TelemetrySettings;

/// Keeps partitions of tables on this machine's disk, replicated with other storage nodes.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Settings file (TOML); the environment (EVENKEEL_STORAGE__NODE_ID=2 …) has precedence.
    #[arg(long)]
    config: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    bus: BusSettings,
    storage: StorageSettings,
    telemetry: TelemetrySettings,
}

// Requests and log entries are many short-lived buffers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    telemetry::init("storage");
    let file: File = settings::load("storage", arguments.config.as_deref())?;
    telemetry::traces::init(&file.telemetry.traces);
    file.storage.check()?;
    actix::System::with_tokio_rt(telemetry::runtime).block_on(async move {
        let incarnation = storage::incarnation(&file.storage)?;
        let mesh =
            telemetry::connect(&file.bus, "storage", file.storage.node_id, incarnation).await?;
        let running = storage::start(file.storage, mesh).await?;
        telemetry::wait_for_shutdown().await;
        running.stop().await;
        telemetry::traces::shut_down().await;
        Ok(())
    })
}
