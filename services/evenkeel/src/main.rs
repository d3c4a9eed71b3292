//! The operator's binary. `evenkeel dev` runs the whole mesh in one process; `evenkeel ctl` talks to a running one.

mod banner;
mod ctl;
mod dev;
mod recover;
mod tracing_ui;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Evenkeel: a self-hosted database that speaks the DynamoDB API.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the whole mesh in this process: three storage nodes in three zones, memds, admin and router.
    Dev(dev::Options),
    /// Serve Jaeger's pages and a receiver of spans from memory, for a mesh of processes on one machine.
    Traces(tracing_ui::Options),
    /// Look at a running mesh, and give it orders: health, nodes, partitions, drain, replace, leaders.
    Ctl(ctl::Options),
}

// LMDB pages are mapped, items are short-lived buffers: an allocator that gives memory back matters more than the last percent.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Dev(options) => dev::run(options),
        Command::Traces(options) => tracing_ui::run(&options),
        Command::Ctl(options) => return ctl::run(options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("evenkeel: {error:#}");
            ExitCode::FAILURE
        }
    }
}
