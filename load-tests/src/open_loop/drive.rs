//! Carries a scenario out: tables, streams, faults, samples, live view, in this order and bounded in time. What comes of it is `report`'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::fill;
use super::items::Items;
use super::knowledge;
use super::live::{Live, Look, StreamLook};
use super::mesh::Mesh;
use super::metrics::{self, Samples};
use super::outcome::Kind;
use super::record::{Class, Record};
use super::report::{Ran, Report, Strike};
use super::scenario::Scenario;
use super::stream::{Stream, Surroundings};
use crate::connection::Connection;
use signature::Signer;

/// Between two looks of the live view and, every fourth, two samples of the metrics.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// New items of a stream that are kept track of at most.
const INSERTS_MAX: f64 = 20_000_000.0;

/// How a run is to be done, besides the scenario.
pub struct Manner {
    /// Signs.
    pub signer: Signer,
    /// Draws items and kinds.
    pub seed: u64,
    /// Leave the tables there.
    pub keep_tables: bool,
    /// Show nothing.
    pub quiet: bool,
}

/// What is shared while a run goes on.
struct Going {
    scenario: Scenario,
    mesh: Arc<Mesh>,
    streams: Vec<Arc<Stream>>,
    samples: Mutex<Vec<Samples>>,
    strikes: Mutex<Vec<Strike>>,
    start: Instant,
}

/// Runs a scenario on a mesh. The tables are made anew, under names that nobody else has, and dropped at the end.
pub async fn run(scenario: Scenario, mesh: Arc<Mesh>, manner: &Manner) -> anyhow::Result<Report> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    // Tells this run's items from those of any other.
    let run = (since.as_millis() & 0x7fff_ffff) as u32;
    let mut live = Live::new(manner.quiet);
    let endpoint = mesh.endpoints(&[])?.swap_remove(0);
    let prepared = prepare(&scenario, run, &endpoint, manner, &mut live).await;
    let result = match prepared {
        Ok(tables) => {
            drive(
                scenario.clone(),
                mesh,
                manner,
                tables,
                since.as_secs(),
                &mut live,
            )
            .await
        }
        Err(error) => Err(error),
    };
    if !manner.keep_tables {
        let dropped = drop_tables(&scenario, run, &endpoint, manner).await;
        if let Err(error) = dropped {
            live.say(&format!("the tables could not be dropped: {error:#}"));
        }
    }
    result
}

fn table_name(scenario: &Scenario, table: &str, run: u32) -> String {
    format!("load.{}.{table}.{run:x}", scenario.name)
}

/// A table's items and what is known of them.
type Filled = (Items, Arc<knowledge::Table>);

/// Makes and fills the tables.
async fn prepare(
    scenario: &Scenario,
    run: u32,
    endpoint: &str,
    manner: &Manner,
    live: &mut Live,
) -> anyhow::Result<Vec<Filled>> {
    let mut connection = Connection::open(endpoint, manner.signer.clone()).await?;
    let mut tables = Vec::new();
    for spec in &scenario.tables {
        let items = Items {
            table: table_name(scenario, &spec.name, run),
            bytes: spec.item_bytes,
            collection: spec.collection_items,
            run,
        };
        fill::create(&mut connection, &items.table, spec).await?;
        let done = Arc::new(AtomicU64::new(0));
        let filling = fill::fill(endpoint, &manner.signer, &items, spec.items, done.clone());
        tokio::pin!(filling);
        let mut shown = 0;
        loop {
            tokio::select! {
                filled = &mut filling => break filled?,
                () = tokio::time::sleep(Duration::from_secs(2)) => {
                    let percent = 100 * done.load(Ordering::Relaxed) / spec.items;
                    if percent > shown {
                        live.say(&format!("filling {}: {percent} % of {} items", spec.name, spec.items));
                        shown = percent;
                    }
                }
            }
        }
        fill::settle(&mut connection, &items.table, spec).await?;
        let inserts = scenario
            .streams
            .iter()
            .filter(|stream| stream.table == spec.name);
        let inserts: f64 = inserts
            .map(|stream| {
                stream.schedule(&scenario.phases).arrivals() as f64 * stream.workload.insert / 100.0
            })
            .sum();
        // Some more: kinds are drawn.
        let room = (inserts * 1.2 + if inserts > 0.0 { 1_000.0 } else { 0.0 }).min(INSERTS_MAX);
        tables.push((
            items.clone(),
            Arc::new(knowledge::Table::new(spec.items, room as u64)),
        ));
    }
    Ok(tables)
}

async fn drop_tables(
    scenario: &Scenario,
    run: u32,
    endpoint: &str,
    manner: &Manner,
) -> anyhow::Result<()> {
    let mut connection = Connection::open(endpoint, manner.signer.clone()).await?;
    for spec in &scenario.tables {
        fill::drop_table(&mut connection, &table_name(scenario, &spec.name, run)).await?;
    }
    Ok(())
}

/// The run itself.
async fn drive(
    scenario: Scenario,
    mesh: Arc<Mesh>,
    manner: &Manner,
    tables: Vec<Filled>,
    started: u64,
    live: &mut Live,
) -> anyhow::Result<Report> {
    let lengths: Vec<Duration> = (scenario.phases.iter())
        .map(|phase| Duration::from_secs_f64(phase.seconds))
        .collect();
    let mut endpoints = Vec::new();
    let mut streams = Vec::new();
    for (number, spec) in scenario.streams.iter().enumerate() {
        let table = scenario
            .tables
            .iter()
            .position(|table| table.name == spec.table);
        let table = table.context("a stream without a table")?;
        let (items, known) = &tables[table];
        let of = mesh.endpoints(&spec.endpoints)?;
        endpoints.push(of.clone());
        let with = Surroundings {
            endpoints: of,
            items: items.clone(),
            loaded: scenario.tables[table].items,
            known: known.clone(),
            signer: manner.signer.clone(),
            seed: manner.seed.wrapping_add(number as u64 * 0x1_0000_0001),
        };
        let schedule = spec.schedule(&scenario.phases);
        let record = Record::new(lengths.iter().copied());
        streams.push(Arc::new(Stream::new(spec.clone(), schedule, record, with)));
    }
    let stop = Arc::new(AtomicBool::new(false));
    // The tasks and threads are there before the first request is due.
    let start = Instant::now() + Duration::from_millis(200);
    let going = Arc::new(Going {
        samples: Mutex::new(vec![Samples::default(); scenario.metrics.len()]),
        strikes: Mutex::default(),
        scenario,
        mesh,
        streams,
        start,
    });
    going.sample().await;
    let mut strikes = strike_all(&going);
    let mut running = JoinSet::new();
    for stream in &going.streams {
        running.spawn(stream.clone().run(start, stop.clone()));
    }
    let interrupted = watch(&going, &mut running, &stop, live).await?;
    if interrupted {
        strikes.abort_all();
    }
    // Every one of them is bounded by its own time.
    while let Some(strike) = strikes.join_next().await {
        if let Err(error) = strike
            && !error.is_cancelled()
        {
            return Err(error).context("a fault's task failed");
        }
    }
    going.sample().await;
    let lasted_s = start.elapsed().as_secs_f64();
    for stream in &going.streams {
        let until = if interrupted {
            lasted_s
        } else {
            going.scenario.length().as_secs_f64()
        };
        stream.record.lock().close(until.ceil() as usize);
    }
    drop(strikes);
    let going = Arc::into_inner(going).context("the run is still going on")?;
    let records: Vec<Record> = (going.streams.into_iter())
        .map(|stream| Arc::into_inner(stream).map(|stream| stream.record.into_inner()))
        .collect::<Option<_>>()
        .context("a stream is still going on")?;
    let mut strikes = going.strikes.into_inner();
    strikes.sort_by(|a, b| a.from_s.total_cmp(&b.from_s));
    Ok(Report::new(Ran {
        scenario: &going.scenario,
        records: &records,
        metrics: &going.samples.into_inner(),
        endpoints: &endpoints,
        strikes,
        started,
        lasted_s,
        interrupted,
    }))
}

/// Starts all faults' tasks; each waits for its time.
fn strike_all(going: &Arc<Going>) -> JoinSet<()> {
    let mut strikes = JoinSet::new();
    for fault in &going.scenario.faults {
        for at in fault.times(&going.scenario.phases) {
            let (going, fault) = (going.clone(), fault.clone());
            strikes.spawn(async move {
                tokio::time::sleep_until((going.start + at).into()).await;
                let from_s = going.start.elapsed().as_secs_f64();
                let done = going.mesh.strike(&fault).await;
                let strike = Strike {
                    name: fault.name.clone(),
                    from_s,
                    to_s: going
                        .start
                        .elapsed()
                        .as_secs_f64()
                        .max(from_s + fault.lasts_s),
                    error: done
                        .err()
                        .map_or(String::new(), |error| format!("{error:#}")),
                };
                going.strikes.lock().push(strike);
            });
        }
    }
    strikes
}

/// Shows and samples until all streams are done. Says whether that was before their time.
async fn watch(
    going: &Arc<Going>,
    running: &mut JoinSet<anyhow::Result<()>>,
    stop: &AtomicBool,
    live: &mut Live,
) -> anyhow::Result<bool> {
    let mut ticks = 0_u64;
    let mut said = 0;
    let mut sampling = JoinSet::new();
    let mut ticker = tokio::time::interval_at(going.start.into(), LOOK_EVERY);
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            done = running.join_next() => match done {
                Some(done) => done.context("a stream's task failed")??,
                None => break,
            },
            _ = tokio::signal::ctrl_c(), if !stop.load(Ordering::Relaxed) => {
                live.say("stopping: requests under way end first");
                stop.store(true, Ordering::Relaxed);
            }
            _ = ticker.tick() => {
                let now = going.start.elapsed();
                if ticks.is_multiple_of(4) {
                    // At most one at a time; each takes less than a second.
                    while sampling.try_join_next().is_some() {}
                    if sampling.is_empty() {
                        let going = going.clone();
                        sampling.spawn(async move { going.sample().await });
                    }
                    for stream in &going.streams {
                        let over = now.saturating_sub(stream.patience() + Duration::from_secs(1));
                        stream.record.lock().close(over.as_secs() as usize);
                    }
                }
                ticks += 1;
                let strikes = going.strikes.lock().clone();
                for strike in &strikes[said..] {
                    let outcome = if strike.error.is_empty() { "" } else { ": FAILED: " };
                    live.say(&format!("{:>4.0} s {}{outcome}{}", strike.from_s, strike.name, strike.error));
                }
                said = strikes.len();
                live.show(&going.look(now.as_secs_f64(), strikes.last()));
            }
        }
    }
    while sampling.join_next().await.is_some() {}
    Ok(stop.load(Ordering::Relaxed))
}

impl Going {
    async fn sample(&self) {
        if self.scenario.metrics.is_empty() {
            return;
        }
        let asked = Instant::now();
        let sampled = metrics::sample(&self.mesh.sources, &self.scenario.metrics).await;
        // The value is from some time between question and answer.
        let middle = asked + asked.elapsed() / 2;
        let at_s = match middle.checked_duration_since(self.start) {
            Some(since) => since.as_secs_f64(),
            None => -(self.start - middle).as_secs_f64(),
        };
        let mut samples = self.samples.lock();
        for (metric, process, value) in sampled {
            samples[metric].push(&process, at_s, value);
        }
    }

    fn look(&self, now_s: f64, strike: Option<&Strike>) -> Look {
        let mut span_s = (0.0, 0.0);
        let mut name = String::new();
        for phase in &self.scenario.phases {
            span_s = (span_s.1, span_s.1 + phase.seconds);
            name.clone_from(&phase.name);
            if now_s < span_s.1 {
                break;
            }
        }
        // The last second whose requests have mostly been answered.
        let over = (now_s as usize).saturating_sub(1);
        let streams = self.streams.iter().map(|stream| {
            let record = stream.record.lock();
            let second = |at: usize| {
                record
                    .second(at)
                    .map_or_else(Default::default, |rows| rows[2])
            };
            let counted = |wanted: &dyn Fn(Kind) -> bool| {
                let phases = 0..self.scenario.phases.len();
                let tallies =
                    phases.flat_map(|phase| Class::ALL.map(|class| record.phase(phase, class)));
                let tallies = tallies.flatten();
                let kinds =
                    tallies.flat_map(|tally| Kind::ALL.map(|kind| (kind, tally.count(kind))));
                kinds
                    .filter(|(kind, _)| wanted(*kind))
                    .map(|(_, count)| count)
                    .sum()
            };
            StreamLook {
                name: stream.spec.name.clone(),
                target: stream
                    .schedule
                    .rate(Duration::from_secs_f64((over as f64 - 0.5).max(0.0))),
                row: over.checked_sub(1).map_or_else(Default::default, second),
                p99_ms: (over.saturating_sub(32)..over)
                    .map(|at| f64::from(second(at).p99_ms))
                    .collect(),
                throttled: counted(&|kind| kind == Kind::Throttled),
                errors: counted(&Kind::is_error),
            }
        });
        let samples = self.samples.lock();
        let metrics = self
            .scenario
            .metrics
            .iter()
            .zip(samples.iter())
            .map(|(spec, samples)| {
                let times: Vec<f64> = samples.times().collect();
                let times = &times[times.len().saturating_sub(33)..];
                let values = match spec.gauge {
                    true => times.iter().filter_map(|at| samples.value(*at)).collect(),
                    false => {
                        let between = times.windows(2).map(|pair| (pair[0], pair[1]));
                        between
                            .filter_map(|(from, to)| {
                                Some(samples.increase(from, to)? / (to - from))
                            })
                            .collect()
                    }
                };
                (spec.name.clone(), values)
            });
        Look {
            name: self.scenario.name.clone(),
            now_s: now_s.min(self.scenario.length().as_secs_f64()),
            length_s: self.scenario.length().as_secs_f64(),
            phase: name,
            span_s,
            streams: streams.collect(),
            metrics: metrics.collect(),
            strike: strike.map(|strike| (strike.name.clone(), strike.from_s)),
        }
    }
}
