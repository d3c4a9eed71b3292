//! `sim --seeds N`: runs seeds, says which failed and how to run them again.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use sim::coverage::Coverage;
use sim::run::run;
use sim::scenario::Options;

/// Runs the deterministic simulation.
#[derive(Parser)]
#[command(name = "sim")]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// First seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Number of nodes (drawn by the seed if absent).
    #[arg(long)]
    nodes: Option<u64>,
    /// Number of partitions (drawn by the seed if absent).
    #[arg(long)]
    partitions: Option<u64>,
    /// Length of the phase with faults, in simulated milliseconds.
    #[arg(long)]
    faults_ms: Option<u64>,
    /// Make every run a storm of elections.
    #[arg(long)]
    storm: bool,
    /// Whether the members of the groups change (drawn by the seed if absent).
    #[arg(long)]
    members_change: Option<bool>,
    /// Print the trace of every run (for a single seed).
    #[arg(long)]
    trace: bool,
    /// Switch a deliberate bug on, by its name in `paxos::Mutation`.
    #[arg(long)]
    mutation: Option<String>,
    /// Go on after a failing seed.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        nodes: arguments.nodes,
        partitions: arguments.partitions,
        faults_ms: arguments.faults_ms,
        storm: arguments.storm,
        members_change: arguments.members_change,
        mutations: paxos::MUTATIONS
            .into_iter()
            .filter(|m| Some(format!("{m:?}")) == arguments.mutation)
            .collect(),
        keep_trace: arguments.trace,
    };
    let mut coverage = Coverage::default();
    let (mut done, mut events, mut failed) = (0_u64, 0_u64, 0_u64);
    for seed in arguments.from..arguments.from.saturating_add(arguments.seeds) {
        let report = run(seed, &options);
        done += 1;
        events += report.events;
        coverage.add(&report.coverage);
        if arguments.trace {
            // A closed pipe is the reader's business.
            let _ = std::io::stdout().write_all(report.trace.as_bytes());
        }
        if let Some(violation) = &report.violation {
            failed += 1;
            println!("seed {seed}: {}\n{}", violation.invariant, violation.detail);
            println!("again: {}", replay(seed, &arguments));
            if !arguments.keep_going {
                break;
            }
        }
        if done.is_multiple_of(100) {
            println!(
                "{done} of {} seeds, {events} events, {failed} failed",
                arguments.seeds
            );
        }
    }
    println!("{coverage}{done} seeds, {events} events, {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The command that runs one seed again.
fn replay(seed: u64, arguments: &Arguments) -> String {
    let mut command = format!("cargo run -p sim --release -- --seeds 1 --from {seed} --trace");
    let given = [
        ("nodes", arguments.nodes),
        ("partitions", arguments.partitions),
        ("faults-ms", arguments.faults_ms),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            command.push_str(&format!(" --{name} {value}"));
        }
    }
    if let Some(change) = arguments.members_change {
        command.push_str(&format!(" --members-change {change}"));
    }
    if arguments.storm {
        command.push_str(" --storm");
    }
    if let Some(mutation) = &arguments.mutation {
        command.push_str(&format!(" --mutation {mutation}"));
    }
    command
}
