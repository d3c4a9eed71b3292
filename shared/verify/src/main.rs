//! `verify`: runs the models, as they are or with wider bounds, and tells paths.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use verify::report::{Steps, tell};
use verify::run::{Manner, Report, run};
use verify::scenario::Scenario;
use verify::scenarios;
use verify::system::System;

/// Explores every state that the replication core can get into, in small worlds.
#[derive(Parser)]
#[command(name = "verify")]
struct Arguments {
    /// Models to run, by name; all if none. `--list` shows them.
    models: Vec<String>,
    /// Say what models there are, and their bounds.
    #[arg(long)]
    list: bool,
    /// Attempts at leadership.
    #[arg(long)]
    campaigns: Option<u8>,
    /// Commands proposed.
    #[arg(long)]
    proposals: Option<u8>,
    /// Crashes.
    #[arg(long)]
    crashes: Option<u8>,
    /// Changes of the members ordered.
    #[arg(long)]
    changes: Option<u8>,
    /// Transfers of leadership ordered.
    #[arg(long)]
    transfers: Option<u8>,
    /// Disks lost for good.
    #[arg(long)]
    losses: Option<u8>,
    /// Steps of real time.
    #[arg(long)]
    ticks: Option<u8>,
    /// Timers that fire: with clocks, heartbeats.
    #[arg(long)]
    wakes: Option<u8>,
    /// Full copies installed.
    #[arg(long)]
    copies: Option<u8>,
    /// Writes become durable by events of their own, also where the model leaves that out.
    #[arg(long)]
    syncs: bool,
    /// With clocks: any message may take longer than a tick, not just answers.
    #[arg(long)]
    late: bool,
    /// Switch a deliberate bug on, by its name in `paxos::Mutation`.
    #[arg(long)]
    mutation: Option<String>,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Give up after so many steps between states.
    #[arg(long)]
    states_max: Option<usize>,
    /// Give up after so many seconds.
    #[arg(long)]
    seconds_max: Option<u64>,
    /// Tell the way to everything that was to be reached, too.
    #[arg(long)]
    witnesses: bool,
    /// Do not explore: tell the path with these steps (as printed with a counterexample).
    #[arg(long)]
    replay: Option<Steps>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut good = true;
    for mut scenario in scenarios::all() {
        if !arguments.models.is_empty() && !arguments.models.iter().any(|m| m == scenario.name) {
            continue;
        }
        arguments.widen(&mut scenario);
        println!("{}: {}", scenario.name, scenario.about);
        if arguments.list {
            println!("    {:?}", scenario.bounds);
        } else if let Some(steps) = &arguments.replay {
            match tell(&System::new(scenario), steps) {
                Ok(text) => println!("{text}"),
                Err(error) => {
                    println!("{error}");
                    good = false;
                }
            }
        } else {
            let name = scenario.name;
            let report = run(scenario, arguments.manner());
            good &= arguments.print(name, &report);
        }
    }
    match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

impl Arguments {
    fn manner(&self) -> Manner {
        Manner {
            threads: self.threads,
            states_max: self.states_max,
            time_max: self.seconds_max.map(Duration::from_secs),
            progress: Some(Duration::from_secs(10)),
            ..Manner::default()
        }
    }

    fn bounds(&self) -> [(&'static str, Option<u8>); 9] {
        [
            ("campaigns", self.campaigns),
            ("proposals", self.proposals),
            ("crashes", self.crashes),
            ("changes", self.changes),
            ("transfers", self.transfers),
            ("losses", self.losses),
            ("ticks", self.ticks),
            ("wakes", self.wakes),
            ("copies", self.copies),
        ]
    }

    fn widen(&self, scenario: &mut Scenario) {
        let bounds = &mut scenario.bounds;
        for (name, value) in self.bounds() {
            let Some(value) = value else { continue };
            match name {
                "campaigns" => bounds.campaigns = value,
                "proposals" => bounds.proposals = value,
                "crashes" => bounds.crashes = value,
                "changes" => bounds.changes = value,
                "transfers" => bounds.transfers = value,
                "losses" => bounds.losses = value,
                "wakes" => bounds.wakes = value,
                "ticks" => bounds.ticks = value,
                _ => bounds.copies = value,
            }
        }
        scenario.late |= self.late;
        scenario.sync_at_once &= !self.syncs;
        if self.syncs {
            scenario.slow_disks.clear();
        }
        let named = |m: &paxos::Mutation| Some(format!("{m:?}")) == self.mutation;
        scenario
            .mutations
            .extend(paxos::MUTATIONS.into_iter().filter(named));
    }

    /// Prints what came of it. False: not all is well.
    fn print(&self, name: &str, report: &Report) -> bool {
        let (hosts, messages, steps) = report.system.space.sizes();
        let rate = report.states as f64 / report.took.as_secs_f64();
        println!(
            "    {} states, {} transitions, depth {}, in {:.1?} ({rate:.0} states/s); {hosts} replicas, {messages} messages, {steps} steps of replicas{}",
            report.states,
            report.transitions,
            report.depth,
            report.took,
            if report.complete {
                ""
            } else {
                "; NOT ALL STATES"
            },
        );
        for (what, way) in &report.reached {
            match way {
                None => println!("    never: {what}"),
                Some(way) if self.witnesses => {
                    println!("    sometimes: {what}");
                    self.tell(name, report, way);
                }
                Some(_) => println!("    sometimes: {what}"),
            }
        }
        for (what, way) in &report.broken {
            println!("    BROKEN: {what}");
            self.tell(name, report, way);
        }
        report.good()
    }

    fn tell(&self, name: &str, report: &Report, way: &Steps) {
        match tell(&report.system, way) {
            Ok(text) => print!("{text}"),
            Err(error) => println!("    {error}"),
        }
        let mut options = String::new();
        for (option, value) in self.bounds() {
            if let Some(value) = value {
                options.push_str(&format!(" --{option} {value}"));
            }
        }
        if self.syncs {
            options.push_str(" --syncs");
        }
        if self.late {
            options.push_str(" --late");
        }
        if let Some(mutation) = &self.mutation {
            options.push_str(&format!(" --mutation {mutation}"));
        }
        println!("    again: cargo run -p verify --release -- {name}{options} --replay {way}");
    }
}
