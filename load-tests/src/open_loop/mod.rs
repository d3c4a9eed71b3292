//! `evenkeel-load run`: requests at times that are fixed in advance (open loop), to any DynamoDB endpoint or to a mesh that is started for it,
//! while things are done to it; and what was promised of that, in numbers.
//!
//! Pure: when (`schedule`), what for (`keys`, `items`), what is known (`knowledge`), what happened (`outcome`, `record`), what it means
//! (`numbers`, `promise`, `report`, `page`), what is asked for (`scenario`, `workload`). Shells: `drive`, `stream`, `fill`, `mesh`, `metrics`, `live`.

mod drive;
mod fill;
mod items;
mod keys;
mod knowledge;
mod live;
mod mesh;
mod metrics;
mod numbers;
mod outcome;
mod page;
mod promise;
mod record;
mod report;
mod scenario;
mod schedule;
mod stream;
pub mod sweep;
mod workload;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use keys::Choice;
use promise::Promise;
use report::Report;
use scenario::{MeshNeeds, Phase, PromiseSpec, Scenario, StreamSpec, TableSpec};
use schedule::Rate;
use workload::Workload;

use crate::peak::Output;
use signature::Signer;

/// What was promised did not hold.
const BROKEN: u8 = 1;
/// Wrong usage, or it could not be run.
const USAGE: u8 = 2;

/// Options of `run`.
#[derive(clap::Args)]
#[command(
    after_long_help = "Exit codes: 0 every promise held (or none was made), 1 a promise was broken or the run was stopped, 2 wrong usage, or it could not be run.

Rates:     2000           constant
           500..4000      evenly from one to the other
           500,1000,2000  steps of equal length
           500^4000:10:2  500, and every 10 s for 2 s 4000

Keys:      uniform, zipfian[:SKEW], latest, hotspot[:ITEMS_PERCENT:REQUESTS_PERCENT], single
Workloads: YCSB's a, b, c, d, f; read, write, insert

Promises:  comparisons of numbers: --promise 'p99(writes) <= 20' --promise 'errors() == 0'. Arguments are phases, streams and
           reads/writes; none = all. Functions: p50 p90 p99 p999 max (ms), sent ok throttled conflicts timeouts failed
           refused wrong errors, seconds, ok_rate, min_ok max_ok (in a second), gap (s), rate(METRIC) mean(METRIC) last(METRIC).

Examples:
  evenkeel-load run --endpoint 127.0.0.1:8000 --workload a --keys zipfian --rate 2000 --seconds 30 --promise 'p99() <= 50'
  evenkeel-load run load-tests/scenarios/constant-work.toml --mesh infra/local --report constant-work.html
  evenkeel-load run scenario.toml --endpoint router-1=10.0.0.1:8000 --endpoint router-2=10.0.0.2:8000 --metrics memds-1=10.0.0.3:9100"
)]
pub struct Options {
    /// Scenario file (TOML, docs/load-tests.md). Without it: one table, one stream, one phase, as the options say.
    scenario: Option<PathBuf>,
    /// Start the mesh with the scripts in this folder (infra/local), and take it away at the end.
    #[arg(long, conflicts_with_all = ["endpoints", "metrics"])]
    mesh: Option<PathBuf>,
    /// Endpoint: host:port (plain HTTP), or NAME=host:port for scenarios that name routers; repeatable.
    #[arg(long = "endpoint", default_value = "127.0.0.1:8000")]
    endpoints: Vec<String>,
    /// A process's health endpoint, for its metrics: NAME=host:port; repeatable.
    #[arg(long)]
    metrics: Vec<String>,
    /// Workload.
    #[arg(long, default_value = "c", value_parser = workload, conflicts_with = "scenario")]
    workload: Workload,
    /// Which items the requests are for; by default what the workload says.
    #[arg(long, conflicts_with = "scenario")]
    keys: Option<Choice>,
    /// Requests a second over time, see below.
    #[arg(long, default_value = "1000", conflicts_with = "scenario")]
    rate: Rate,
    /// Length, seconds.
    #[arg(long, default_value_t = 10.0, conflicts_with = "scenario")]
    seconds: f64,
    /// Items that the table is filled with.
    #[arg(long, default_value_t = 10_000, conflicts_with = "scenario")]
    items: u64,
    /// Size of an item in bytes.
    #[arg(long, default_value_t = 900, conflicts_with = "scenario")]
    item_bytes: usize,
    /// Connections: a request waits for a free one, and the wait counts.
    #[arg(long, default_value_t = 64, conflicts_with = "scenario")]
    connections: u64,
    /// Eventually consistent reads.
    #[arg(long, conflicts_with = "scenario")]
    eventual: bool,
    /// The client's patience, milliseconds from the intended time.
    #[arg(long, default_value_t = 5_000, conflicts_with = "scenario")]
    timeout_ms: u64,
    /// Tries of a request, at the next endpoint in turn.
    #[arg(long, default_value_t = 1, conflicts_with = "scenario")]
    tries: u32,
    /// What must hold, see below; repeatable.
    #[arg(long = "promise", conflicts_with = "scenario")]
    promises: Vec<Promise>,
    /// Only check the scenario file.
    #[arg(long, requires = "scenario")]
    check: bool,
    #[command(flatten)]
    common: Common,
}

/// Options of all open-loop commands.
#[derive(clap::Args)]
pub struct Common {
    /// Draws items and kinds of requests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leave the tables there.
    #[arg(long)]
    keep_tables: bool,
    /// The report: a page; its data goes beside it with the ending .json.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Show nothing while it runs.
    #[arg(long)]
    quiet: bool,
    /// Output.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    /// Access key.
    #[arg(long, default_value = "evenkeel", env = "AWS_ACCESS_KEY_ID")]
    access_key: String,
    /// Secret key.
    #[arg(
        long,
        default_value = "evenkeel",
        env = "AWS_SECRET_ACCESS_KEY",
        hide_env_values = true
    )]
    secret_key: String,
}

impl Common {
    fn manner(&self) -> drive::Manner {
        drive::Manner {
            signer: Signer::new(&self.access_key, &self.secret_key),
            seed: self.seed,
            keep_tables: self.keep_tables,
            quiet: self.quiet,
        }
    }
}

fn workload(name: &str) -> Result<Workload, String> {
    Workload::named(name).ok_or_else(|| "none of a, b, c, d, f, read, write, insert".to_owned())
}

/// Runs a scenario.
pub fn run(options: Options) -> ExitCode {
    exit_code(crate::block_on(carry_out(options)))
}

/// 0: held; 1: broken; 2: could not be run.
fn exit_code(outcome: anyhow::Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(BROKEN),
        Err(error) => {
            eprintln!("evenkeel-load: {error:#}");
            ExitCode::from(USAGE)
        }
    }
}

async fn carry_out(options: Options) -> anyhow::Result<bool> {
    let scenario = match &options.scenario {
        Some(file) => {
            let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
            let scenario = Scenario::parse(&text).map_err(anyhow::Error::msg);
            scenario.with_context(|| file.display().to_string())?
        }
        None => from_options(&options)?,
    };
    if options.check {
        println!(
            "{}: {} s, {} streams, {} promises: all right",
            scenario.name,
            scenario.length().as_secs_f64(),
            scenario.streams.len(),
            scenario.promises.len()
        );
        return Ok(true);
    }
    let mesh = match options.mesh {
        Some(scripts) => {
            let scripts = scripts
                .canonicalize()
                .with_context(|| scripts.display().to_string())?;
            mesh::Mesh::start(scripts, &scenario.mesh).await?
        }
        None => mesh::Mesh::there(&options.endpoints, &options.metrics)?,
    };
    let mesh = Arc::new(mesh);
    let report = drive::run(scenario, mesh.clone(), &options.common.manner()).await;
    mesh.stop().await?;
    let report = report?;
    write_report(&report, &options.common)?;
    match options.common.output {
        Output::Json => println!("{}", serde_json::to_string(&report)?),
        Output::Table => print!("{}", table(&report)),
    }
    Ok(report.passed)
}

/// One table, one stream, one phase.
fn from_options(options: &Options) -> anyhow::Result<Scenario> {
    let promises = options.promises.iter().map(|promise| PromiseSpec {
        text: promise.to_string(),
        holds: promise.clone(),
    });
    let scenario = Scenario {
        promises: promises.collect(),
        ..plain(
            "run",
            options.workload,
            options.items,
            options.item_bytes,
            vec![("all".to_owned(), options.seconds, options.rate.clone())],
            |stream| {
                stream.keys = options.keys;
                stream.connections = options.connections;
                stream.strong = !options.eventual;
                stream.timeout_ms = options.timeout_ms;
                stream.tries = options.tries;
            },
        )
    };
    scenario.check().map_err(anyhow::Error::msg)?;
    Ok(scenario)
}

/// A scenario of one table and one stream.
fn plain(
    name: &str,
    workload: Workload,
    items: u64,
    item_bytes: usize,
    phases: Vec<(String, f64, Rate)>,
    change: impl FnOnce(&mut StreamSpec),
) -> Scenario {
    let mut stream = StreamSpec {
        name: "requests".into(),
        table: "items".into(),
        workload,
        keys: None,
        rate: BTreeMap::new(),
        strong: true,
        connections: 64,
        endpoints: Vec::new(),
        timeout_ms: 5_000,
        tries: 1,
        try_timeout_ms: None,
        jitter: false,
        verify: true,
        closed: false,
    };
    change(&mut stream);
    let mut specs = Vec::new();
    for (name, seconds, rate) in phases {
        stream.rate.insert(name.clone(), rate);
        specs.push(Phase { name, seconds });
    }
    Scenario {
        name: name.into(),
        about: String::new(),
        mesh: MeshNeeds::default(),
        tables: vec![TableSpec {
            name: "items".into(),
            items,
            item_bytes,
            collection_items: 0,
            read_units: None,
            write_units: None,
            load_write_units: None,
            read_units_max: None,
            write_units_max: None,
        }],
        phases: specs,
        streams: vec![stream],
        faults: Vec::new(),
        metrics: Vec::new(),
        promises: Vec::new(),
    }
}

/// Writes the page and its data, if they are wanted.
fn write_report(report: &Report, common: &Common) -> anyhow::Result<()> {
    if let Some(path) = &common.report {
        write_file(path, page::render(report).as_bytes())?;
        write_file(
            &path.with_extension("json"),
            &serde_json::to_vec_pretty(report)?,
        )?;
        eprintln!("report: {}", path.display());
    }
    Ok(())
}

fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    std::fs::write(path, bytes).with_context(|| path.display().to_string())
}

/// The result for people.
fn table(report: &Report) -> String {
    let mut text = String::new();
    let ms = |value: Option<f64>| value.map_or("–".to_owned(), |ms| format!("{ms:.2}"));
    // Writing into a String can't fail.
    let _ = writeln!(
        text,
        "{:16} {:12} {:6} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7}",
        "STREAM",
        "PHASE",
        "CLASS",
        "SENT",
        "OK/S",
        "P50 MS",
        "P99 MS",
        "MAX MS",
        "THROTTLED",
        "ERRORS"
    );
    for stream in &report.streams {
        for phase in &stream.phases {
            let count = |wanted: &dyn Fn(outcome::Kind) -> bool| -> u64 {
                let kinds = outcome::Kind::ALL.into_iter().filter(|kind| wanted(*kind));
                kinds.filter_map(|kind| phase.ends.get(kind.name())).sum()
            };
            let _ = writeln!(
                text,
                "{:16} {:12} {:6} {:>9} {:>9.1} {:>9} {:>9} {:>9} {:>9} {:>7}",
                stream.name,
                phase.phase,
                phase.class,
                phase.sent,
                phase.ok_rate,
                ms(phase.p50_ms),
                ms(phase.p99_ms),
                ms(phase.max_ms),
                count(&|kind| kind == outcome::Kind::Throttled),
                count(&|kind| kind.is_error())
            );
        }
        for phase in stream
            .phases
            .iter()
            .filter(|phase| !phase.reasons.is_empty())
        {
            for (reason, count) in &phase.reasons {
                let _ = writeln!(
                    text,
                    "  {} {}: {count} × {reason}",
                    stream.name, phase.phase
                );
            }
        }
        for wrong in &stream.wrong {
            let _ = writeln!(text, "  WRONG {}: {wrong}", stream.name);
        }
    }
    for strike in report
        .faults
        .iter()
        .filter(|strike| !strike.error.is_empty())
    {
        let _ = writeln!(text, "NOT DONE  {}: {}", strike.name, strike.error);
    }
    for promise in &report.promises {
        let mark = if promise.held { "held   " } else { "BROKEN " };
        let _ = writeln!(
            text,
            "{mark} {}: {}   [{}]",
            promise.text, promise.numbers, promise.holds
        );
    }
    text
}
