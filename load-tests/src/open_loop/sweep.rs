//! `evenkeel-load sweep`: how latency grows with the load. Finds out what the endpoint does at most (closed loop), then offers shares of that
//! (open loop), and draws p50 and p99 of reads and of writes over the offered share: a write waits for disks that a read does not, so the two
//! together would say nothing about the spread of either.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::ensure;
use serde::Serialize;

use super::keys::Choice;
use super::report::{Report, Summary};
use super::schedule::Rate;
use super::workload::Workload;
use super::{Common, drive, exit_code, mesh, plain, workload, write_file, write_report};
use crate::page::chart::{self, ShareLine};
use crate::peak::Output;

/// Each share is offered this long before its measurement begins, seconds.
const SETTLE_S: f64 = 3.0;

/// Options of `sweep`.
#[derive(clap::Args)]
#[command(
    after_long_help = "Saturation is the rate that as many connections reach with one request at a time each, unless --saturation names it. \
Exit codes: 0 done, 1 p99 of reads or of writes was above --ratio-max × its p50 at some share, 2 wrong usage, or it could not be run."
)]
pub struct Options {
    /// Endpoint: host:port (plain HTTP); repeatable.
    #[arg(long = "endpoint", default_value = "127.0.0.1:8000")]
    endpoints: Vec<String>,
    /// Workload.
    #[arg(long, default_value = "b", value_parser = workload)]
    workload: Workload,
    /// Which items the requests are for.
    #[arg(long, default_value = "uniform")]
    keys: Choice,
    /// Items that the table is filled with.
    #[arg(long, default_value_t = 10_000)]
    items: u64,
    /// Size of an item in bytes.
    #[arg(long, default_value_t = 900)]
    item_bytes: usize,
    /// Connections.
    #[arg(long, default_value_t = 64)]
    connections: u64,
    /// Requests a second at saturation; found out if not given.
    #[arg(long)]
    saturation: Option<f64>,
    /// Shares of saturation to offer, percent.
    #[arg(long, value_delimiter = ',', default_value = "10,20,30,40,50,60,70,80,90", value_parser = clap::value_parser!(u32).range(1..=200))]
    shares: Vec<u32>,
    /// Seconds of each share that count; three more before them don't.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Write the plot as an SVG file.
    #[arg(long)]
    svg: Option<std::path::PathBuf>,
    /// p99 may be so many times p50; nothing is demanded if it is not given.
    #[arg(long)]
    ratio_max: Option<f64>,
    #[command(flatten)]
    common: Common,
}

/// What came of one share.
#[derive(Clone, Debug, Serialize)]
pub struct Share {
    /// Percent of saturation.
    pub percent: u32,
    /// Requests a second that were offered.
    pub offered: f64,
    /// Requests a second that succeeded.
    pub ok_rate: f64,
    /// By class of requests; those of which there were none are left out.
    pub classes: Vec<Latency>,
    /// Anything that was not ok.
    pub not_ok: u64,
}

/// Latency of the successful requests of a class.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// `reads` or `writes`.
    pub class: &'static str,
    /// Milliseconds.
    pub p50_ms: f64,
    /// Milliseconds.
    pub p99_ms: f64,
}

/// The classes that are told apart.
const CLASSES: [&str; 2] = ["reads", "writes"];

/// Sweeps.
pub fn run(options: Options) -> ExitCode {
    exit_code(crate::block_on(carry_out(options)))
}

async fn carry_out(options: Options) -> anyhow::Result<bool> {
    ensure!(
        options.seconds > 0.0 && !options.shares.is_empty(),
        "nothing to measure"
    );
    let mesh = Arc::new(mesh::Mesh::there(&options.endpoints, &[])?);
    let saturation = match options.saturation {
        Some(saturation) => saturation,
        None => find_saturation(&options, &mesh).await?,
    };
    let mut phases = Vec::new();
    for percent in &options.shares {
        let rate = Rate::Constant((saturation * f64::from(*percent) / 100.0).round());
        phases.push((format!("settle{percent}"), SETTLE_S, rate.clone()));
        phases.push((format!("share{percent}"), options.seconds, rate));
    }
    let scenario = plain(
        "sweep",
        options.workload,
        options.items,
        options.item_bytes,
        phases,
        |stream| {
            stream.keys = Some(options.keys);
            stream.connections = options.connections;
        },
    );
    scenario.check().map_err(anyhow::Error::msg)?;
    let report = drive::run(scenario, mesh, &options.common.manner()).await?;
    let mut shares = Vec::new();
    for percent in &options.shares {
        let phase = format!("share{percent}");
        let Some(all) = phase_of(&report, &phase, "all") else {
            continue;
        };
        let latency = |class| {
            let summary = phase_of(&report, &phase, class)?;
            Some(Latency {
                class,
                p50_ms: summary.p50_ms?,
                p99_ms: summary.p99_ms?,
            })
        };
        shares.push(Share {
            percent: *percent,
            offered: saturation * f64::from(*percent) / 100.0,
            ok_rate: all.ok_rate,
            classes: CLASSES.into_iter().filter_map(latency).collect(),
            not_ok: all.sent - all.ends.get("ok").copied().unwrap_or(0),
        });
    }
    if let Some(path) = &options.svg {
        let title = format!("Latency over offered load; saturation {saturation:.0} requests/s");
        write_file(path, chart::shares(&title, &lines(&shares)).as_bytes())?;
    }
    let flat = shares.iter().all(|share| {
        let limit = options.ratio_max.unwrap_or(f64::INFINITY);
        let mut classes = share.classes.iter();
        classes.all(|latency| latency.p99_ms / latency.p50_ms <= limit)
    });
    match options.common.output {
        Output::Json => println!(
            "{}",
            serde_json::json!({"saturation": saturation, "shares": shares, "passed": flat && !report.interrupted})
        ),
        Output::Table => print!("{}", table(saturation, &shares)),
    }
    write_report(&report, &options.common)?;
    Ok(flat && !report.interrupted)
}

fn lines(shares: &[Share]) -> Vec<ShareLine> {
    type Pick = fn(&Latency) -> f64;
    let percentiles: [(&str, &str, Pick); 2] = [
        ("p50", "", |latency| latency.p50_ms),
        ("p99", "7 3", |latency| latency.p99_ms),
    ];
    let mut lines = Vec::new();
    for (class, colour) in CLASSES.into_iter().zip(["one", "two"]) {
        for (percentile, dashes, pick) in percentiles {
            let point = |share: &Share| {
                let latency = share
                    .classes
                    .iter()
                    .find(|latency| latency.class == class)?;
                Some((f64::from(share.percent), pick(latency)))
            };
            let points: Vec<_> = shares.iter().filter_map(point).collect();
            if !points.is_empty() {
                lines.push(ShareLine {
                    name: format!("{class} {percentile}"),
                    class: colour,
                    dashes,
                    points,
                });
            }
        }
    }
    lines
}

fn table(saturation: f64, shares: &[Share]) -> String {
    let mut text = format!(
        "saturation: {saturation:.0} requests/s\n\n| share of saturation | offered/s | ok/s | reads p50 ms | p99 ms | p99/p50 | writes p50 ms | p99 ms | p99/p50 | not ok |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
    );
    for share in shares {
        let cells = |class: &str| {
            let latency = share.classes.iter().find(|latency| latency.class == class);
            latency.map_or("| | |".to_owned(), |Latency { p50_ms, p99_ms, .. }| {
                format!("{p50_ms:.2} | {p99_ms:.2} | {:.1}", p99_ms / p50_ms)
            })
        };
        // Writing into a String can't fail.
        let _ = writeln!(
            text,
            "| {} % | {:.0} | {:.0} | {} | {} | {} |",
            share.percent,
            share.offered,
            share.ok_rate,
            cells("reads"),
            cells("writes"),
            share.not_ok
        );
    }
    text
}

/// The rate of so many connections that never pause.
async fn find_saturation(options: &Options, mesh: &Arc<mesh::Mesh>) -> anyhow::Result<f64> {
    let phases = [("warm", SETTLE_S), ("full", options.seconds)];
    let phases = phases.map(|(name, seconds)| (name.to_owned(), seconds, Rate::Constant(0.0)));
    let scenario = plain(
        "saturation",
        options.workload,
        options.items,
        options.item_bytes,
        phases.into(),
        |stream| {
            stream.keys = Some(options.keys);
            stream.connections = options.connections;
            stream.closed = true;
        },
    );
    scenario.check().map_err(anyhow::Error::msg)?;
    let report = drive::run(scenario, mesh.clone(), &options.common.manner()).await?;
    ensure!(!report.interrupted, "stopped");
    let rate = phase_of(&report, "full", "all").map_or(0.0, |full| full.ok_rate);
    ensure!(rate >= 1.0, "nothing succeeded at full load");
    Ok(rate)
}

/// The requests of a class in a phase.
fn phase_of<'a>(report: &'a Report, name: &str, class: &str) -> Option<&'a Summary> {
    let mut phases = report.streams.iter().flat_map(|stream| &stream.phases);
    phases.find(|phase| phase.phase == name && phase.class == class)
}
