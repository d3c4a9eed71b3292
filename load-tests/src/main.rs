//! Load driver for any DynamoDB endpoint, and the floors it is compared with.

mod connection;
mod floor;
mod health;
mod open_loop;
mod page;
mod peak;
mod power_off;
mod sink;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Loads a DynamoDB endpoint, measures throughput and latency, and says whether what was promised held.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make and fill a table, then send requests as fast as they are answered, for some seconds (closed loop).
    Peak(peak::Options),
    /// Send requests at times fixed in advance, whatever becomes of them (open loop), while things are done to the mesh; say what held.
    Run(open_loop::Options),
    /// Find out how latency grows with the load, from a tenth of saturation on.
    Sweep(open_loop::sweep::Options),
    /// Make empty tables with so many partitions together.
    Tables(table::TablesOptions),
    /// Serve the floor: an actix-web handler that echoes the request, with or without one NATS request inside.
    Floor(floor::FloorOptions),
    /// Take spans (OTLP over HTTP) and throw them away.
    Sink(sink::SinkOptions),
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
        Command::Run(options) => return open_loop::run(options),
        Command::Sweep(options) => return open_loop::sweep::run(options),
        Command::Failover(options) => power_off::run_failover(&options),
        Command::Peak(options) => block_on(peak::run(options)),
        Command::Tables(options) => block_on(table::create_many(options)),
        Command::Floor(options) => actix_web::rt::System::new().block_on(floor::serve(options)),
        Command::Sink(options) => actix_web::rt::System::new().block_on(sink::serve(options)),
        Command::Echo(options) => block_on(floor::echo(options)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("evenkeel-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs it to its end on all cores.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(work)
}
