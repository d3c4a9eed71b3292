//! `evenkeel-load power-off`: traffic against a mesh whose nodes, zones, links and bus fail on a schedule drawn from a seed, and the proof
//! afterwards: every acknowledged write is there, histories are linearizable, replicas are equal.
//!
//! Owns the processes it starts (`processes`), the faults between its namespaces (`network`), the schedule (`plan`, pure), the traffic
//! (`traffic`, `client`, `requests`), what was seen of it (`record`), the checks (`checks`) and the report (`report`, `page`). Never decides
//! how the mesh is laid out: that is `infra/zones/prepare`, told in `mesh.json`.

mod checks;
mod client;
mod drill;
pub mod failover;
mod network;
mod page;
mod plan;
mod processes;
mod record;
mod report;
mod requests;
mod samples;
mod topology;
mod traffic;

use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `power-off`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// What to run where: written by infra/zones/prepare.
    #[arg(long)]
    mesh: PathBuf,
    /// Minutes of traffic with faults.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Draws the schedule of faults and the traffic.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The short form for CI: about 45 s of traffic, one fault of each main kind.
    #[arg(long)]
    quick: bool,
    /// Also take all power at once: no availability is demanded meanwhile, only that nothing is lost.
    #[arg(long)]
    beyond: bool,
    /// Only these kinds of fault (repeatable); see the report for their names.
    #[arg(long = "only")]
    only: Vec<String>,
    /// Requests a second, over all zones (open loop: sent whether or not earlier ones were answered).
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// The report: a page; its data goes beside it with the ending .json.
    #[arg(long, default_value = "power-off.html")]
    report: PathBuf,
}

/// Runs the test. 0: all held; 1: something did not; 2: it could not be run.
pub fn run(options: &Options) -> ExitCode {
    match crate::block_on(drill::run(options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("power-off: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Measures what single faults cost.
pub fn run_failover(options: &failover::Options) -> anyhow::Result<()> {
    crate::block_on(failover::run(options))
}
