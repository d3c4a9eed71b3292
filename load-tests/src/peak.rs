//! `evenkeel-load peak`: closed loop, one request at a time on each connection: what an endpoint does at most.

mod report;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::connection::Connection;
use crate::table;
use report::Report;
use signature::Signer;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Operation {
    /// GetItem, strongly consistent.
    Get,
    /// GetItem, eventually consistent.
    EventualGet,
    /// PutItem.
    Put,
    /// Half GetItem, half PutItem (YCSB A).
    Mixed,
    /// PutItem requests to a floor server: no table is made.
    Floor,
}

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Options of `peak`.
#[derive(clap::Args)]
pub struct Options {
    /// Endpoint, host:port (plain HTTP).
    #[arg(long, default_value = "127.0.0.1:8000")]
    endpoint: String,
    /// Operation.
    #[arg(long, value_enum, default_value = "get")]
    operation: Operation,
    /// Connections.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    connections: u64,
    /// Seconds to measure.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Seconds before that which do not count.
    #[arg(long, default_value_t = 2)]
    warm_up: u64,
    /// Items, keys drawn uniformly.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    items: u64,
    /// Size of an item in bytes.
    #[arg(long, default_value_t = 900)]
    item_bytes: usize,
    /// Table; made and filled if absent.
    #[arg(long, default_value = "load")]
    table: String,
    /// Do not fill the table first.
    #[arg(long)]
    skip_load: bool,
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
    /// Output.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// What one connection saw.
struct Seen {
    latencies_us: Histogram<u64>,
    errors: BTreeMap<String, u64>,
}

impl Seen {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            latencies_us: Histogram::new_with_bounds(1, 60_000_000, 3)?,
            errors: BTreeMap::new(),
        })
    }
}

/// Runs the load and prints the report. Fails when no request succeeded.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let options = Arc::new(options);
    let signer = Signer::new(&options.access_key, &options.secret_key);
    if options.operation != Operation::Floor {
        let mut connection = Connection::open(&options.endpoint, signer.clone()).await?;
        table::create(&mut connection, &options.table, None).await?;
        if !options.skip_load {
            fill(&options, &signer).await?;
        }
    }
    let measuring = Arc::new(AtomicBool::new(false));
    let stopping = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for number in 0..options.connections {
        tasks.push(tokio::spawn(drive(
            options.clone(),
            signer.clone(),
            number,
            measuring.clone(),
            stopping.clone(),
        )));
    }
    tokio::time::sleep(Duration::from_secs(options.warm_up)).await;
    measuring.store(true, Ordering::Relaxed);
    let start = Instant::now();
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    stopping.store(true, Ordering::Relaxed);
    let took = start.elapsed();
    let mut all = Seen::new()?;
    for task in tasks {
        let seen = task.await.context("a connection's task failed")??;
        all.latencies_us.add(&seen.latencies_us)?;
        for (error, count) in seen.errors {
            *all.errors.entry(error).or_default() += count;
        }
    }
    let report = Report::new(
        &format!("{:?}", options.operation),
        options.connections,
        took,
        &all.latencies_us,
        all.errors,
    );
    match options.output {
        Output::Json => println!("{}", serde_json::to_string(&report)?),
        Output::Table => print!("{report}"),
    }
    anyhow::ensure!(!all.latencies_us.is_empty(), "no request succeeded");
    Ok(())
}

async fn fill(options: &Arc<Options>, signer: &Signer) -> anyhow::Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for _ in 0..options.connections.min(64) {
        let (options, signer, next) = (options.clone(), signer.clone(), next.clone());
        tasks.push(tokio::spawn(async move {
            let mut connection = Connection::open(&options.endpoint, signer).await?;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= options.items {
                    return anyhow::Ok(());
                }
                if number % 10_000 == 0 {
                    eprintln!("loading: {number} of {} items", options.items);
                }
                let body = table::put(&options.table, number, options.item_bytes, 'a');
                let (status, body) = connection.call("PutItem", &body).await?;
                anyhow::ensure!(
                    status == 200,
                    "loading: {status} {}",
                    String::from_utf8_lossy(body)
                );
            }
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn drive(
    options: Arc<Options>,
    signer: Signer,
    number: u64,
    measuring: Arc<AtomicBool>,
    stopping: Arc<AtomicBool>,
) -> anyhow::Result<Seen> {
    let mut random = SmallRng::seed_from_u64(number);
    let mut seen = Seen::new()?;
    let mut connection = Connection::open(&options.endpoint, signer.clone()).await?;
    while !stopping.load(Ordering::Relaxed) {
        let item = random.random_range(0..options.items);
        let write = match options.operation {
            Operation::Get | Operation::EventualGet => false,
            Operation::Put | Operation::Floor => true,
            Operation::Mixed => random.random_bool(0.5),
        };
        let (operation, body) = if write {
            (
                "PutItem",
                table::put(&options.table, item, options.item_bytes, 'b'),
            )
        } else {
            let strong = options.operation != Operation::EventualGet;
            ("GetItem", table::get(&options.table, item, strong))
        };
        let start = Instant::now();
        let outcome = match connection.call(operation, &body).await {
            Ok((200, _)) => None,
            Ok((status, body)) => Some(format!("{status} {}", error_type(body))),
            Err(error) => {
                // what is measured may be down for a while: count it and go on, that is part of the result
                match Connection::open(&options.endpoint, signer.clone()).await {
                    Ok(fresh) => connection = fresh,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
                Some(error.to_string())
            }
        };
        if !measuring.load(Ordering::Relaxed) {
            continue;
        }
        match outcome {
            None => {
                let took = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
                seen.latencies_us.saturating_record(took.max(1));
            }
            Some(error) => *seen.errors.entry(error).or_default() += 1,
        }
    }
    Ok(seen)
}

fn error_type(body: &[u8]) -> String {
    serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|error| error["__type"].as_str().map(str::to_owned))
        .unwrap_or_else(|| "unknown error".to_owned())
}
