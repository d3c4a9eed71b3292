//! `sim --seeds N`: runs seeds on as many threads as asked, says how it goes, which failed and how to run them again.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use sim::coverage::Coverage;
use sim::run::{Report, run};
use sim::scenario::{Members, Options};

/// Between two lines that say how far it is.
const PROGRESS: Duration = Duration::from_secs(10);

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
    /// Threads.
    #[arg(long, default_value_t = 1)]
    jobs: u64,
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
    /// What happens to the members: fixed, churn or healing (drawn by the seed if absent).
    #[arg(long)]
    members: Option<Members>,
    /// Split partitions in every run.
    #[arg(long)]
    splits: bool,
    /// Compare replicas at markers of scrubs.
    #[arg(long)]
    scrubs: bool,
    /// Archive the logs in every run.
    #[arg(long)]
    archive: bool,
    /// Print the trace of every run (for a single seed).
    #[arg(long)]
    trace: bool,
    /// Switch a deliberate bug on, by its name in `paxos::Mutation` or `partition::Mutation`.
    #[arg(long)]
    mutation: Option<String>,
    /// Go on after a failing seed.
    #[arg(long)]
    keep_going: bool,
}

/// What all threads together came to.
#[derive(Default)]
struct Sum {
    coverage: Coverage,
    done: u64,
    events: u64,
    failed: Vec<u64>,
    said: Duration,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        nodes: arguments.nodes,
        partitions: arguments.partitions,
        faults_ms: arguments.faults_ms,
        storm: arguments.storm,
        members: arguments.members,
        mutations: paxos::MUTATIONS
            .into_iter()
            .filter(|m| Some(format!("{m:?}")) == arguments.mutation)
            .collect(),
        splits: arguments.splits,
        split_mutations: partition::MUTATIONS
            .into_iter()
            .filter(|m| Some(format!("{m:?}")) == arguments.mutation)
            .collect(),
        scrubs: arguments.scrubs,
        archive: arguments.archive,
        keep_trace: arguments.trace,
    };
    let (next, stop) = (AtomicU64::new(arguments.from), AtomicBool::new(false));
    let end = arguments.from.saturating_add(arguments.seeds);
    let sum = Mutex::new(Sum::default());
    let began = now();
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let report = run(seed, &options);
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    if !take(&mut sum, &report, &arguments) {
                        stop.store(true, Ordering::Relaxed);
                    }
                    say(&mut sum, &arguments, began.elapsed());
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    let seconds = began.elapsed().as_secs();
    let failed = sum.failed.len();
    println!(
        "{}{} seeds, {} events, {seconds} s, {failed} failed",
        sum.coverage, sum.done, sum.events
    );
    if failed == 0 {
        return ExitCode::SUCCESS;
    }
    println!("failed seeds: {:?}", sum.failed);
    ExitCode::FAILURE
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long it takes is shown, and nothing depends on it"
)]
fn now() -> Instant {
    Instant::now()
}

/// Takes a run's report in. False: it failed, and nothing more is to be run.
fn take(sum: &mut Sum, report: &Report, arguments: &Arguments) -> bool {
    sum.done += 1;
    sum.events += report.events;
    sum.coverage.add(&report.coverage);
    if arguments.trace {
        // A closed pipe is the reader's business.
        let _ = std::io::stdout().write_all(report.trace.as_bytes());
    }
    let Some(violation) = &report.violation else {
        return true;
    };
    let seed = report.seed;
    sum.failed.push(seed);
    println!("seed {seed}: {}\n{}", violation.invariant, violation.detail);
    println!("again: {}", replay(seed, arguments));
    arguments.keep_going
}

/// Says now and then how far it is.
fn say(sum: &mut Sum, arguments: &Arguments, elapsed: Duration) {
    if elapsed < sum.said + PROGRESS {
        return;
    }
    sum.said = elapsed;
    let rate = sum.done * 1_000 / (elapsed.as_millis() as u64).max(1);
    println!(
        "{} of {} seeds, {rate} a second, {} failed",
        sum.done,
        arguments.seeds,
        sum.failed.len()
    );
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
    if let Some(members) = arguments.members {
        command.push_str(&format!(" --members {members}"));
    }
    if arguments.storm {
        command.push_str(" --storm");
    }
    if arguments.splits {
        command.push_str(" --splits");
    }
    if arguments.scrubs {
        command.push_str(" --scrubs");
    }
    if arguments.archive {
        command.push_str(" --archive");
    }
    if let Some(mutation) = &arguments.mutation {
        command.push_str(&format!(" --mutation {mutation}"));
    }
    command
}
