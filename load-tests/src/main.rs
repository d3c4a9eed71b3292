//! Load driver for any DynamoDB endpoint, and the floors it is compared with.

mod connection;
mod floor;
mod power_off;
mod report;
mod run;
mod signature;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Drives a DynamoDB endpoint with a fixed number of connections and measures throughput and latency.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make and fill a table, then send requests for some seconds.
    Run(run::Options),
    /// Make empty tables with so many partitions together.
    Tables(table::TablesOptions),
    /// Serve the floor: an actix-web handler that echoes the request, with or without one NATS request inside.
    Floor(floor::FloorOptions),
    /// Answer the floor's NATS requests.
    Echo(floor::EchoOptions),
    /// Break a mesh on a schedule while clients use it, and prove that nothing was lost (infra/power-off starts this).
    PowerOff(power_off::Options),
    /// Measure what single faults cost a mesh (load-tests/failover starts this).
    Failover(power_off::failover::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::PowerOff(options) => return power_off::run(&options),
        Command::Failover(options) => power_off::run_failover(&options),
        Command::Run(options) => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(Into::into)
            .and_then(|runtime| runtime.block_on(run::run(options))),
        Command::Tables(options) => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Into::into)
            .and_then(|runtime| runtime.block_on(table::create_many(options))),
        Command::Floor(options) => actix_web::rt::System::new().block_on(floor::serve(options)),
        Command::Echo(options) => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Into::into)
            .and_then(|runtime| runtime.block_on(floor::echo(options))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("evenkeel-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}
