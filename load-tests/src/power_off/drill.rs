//! The course of a test: start, traffic, strikes, quiet, checks, report. Ends all it started, whatever happens in between.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Options;
use super::checks::{self, Check};
use super::client::Client;
use super::network::{Links, Rule};
use super::plan::{self, Fault, Strike, Targets, Terms};
use super::processes::Processes;
use super::record::Record;
use super::report::{Report, Run, Struck};
use super::samples::{self, Sample};
use super::topology::{Kind, Topology};
use super::traffic::{Shared, Traffic};
use crate::connection::Connection;
use crate::table;
use signature::Signer;

/// The table that is made and driven.
pub const TABLE: &str = "power-off";
/// For the whole mesh to be ready at the start.
const START_MAX: Duration = Duration::from_secs(180);
/// For what was struck to be ready again: a node may have to pull full copies.
const READY_MAX: Duration = Duration::from_secs(120);
/// Traffic before the first strike, milliseconds.
const WARM_UP_MS: u64 = 5_000;
/// Length of the traffic in the short form, milliseconds.
const QUICK_MS: u64 = 58_000;
/// Between the end of the traffic and the checks: followers hear of the last commit.
const QUIET: Duration = Duration::from_secs(1);
/// The bus notices a dead server within about so long (pings); a strike's end waits for it.
const SETTLE: Duration = Duration::from_secs(2);

/// Runs it all. Whether all held.
pub async fn run(options: &Options) -> anyhow::Result<bool> {
    for kind in &options.only {
        anyhow::ensure!(
            plan::kinds().contains(&kind.as_str()),
            "there is no kind of fault {kind}; there are: {}",
            plan::kinds().join(", ")
        );
    }
    let topology = Topology::read(&options.mesh)?;
    let mut processes = Processes::new(&topology)?;
    let outcome = tokio::select! {
        outcome = drill(options, &topology, &mut processes) => outcome,
        _ = interrupted() => bail!("interrupted"),
    };
    let stopped = processes.stop_all().await;
    let report = outcome?;
    stopped.context("stopping the mesh")?;
    report.write(&options.report)?;
    print!("{report}");
    Ok(report.passed)
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminated) = signal(SignalKind::terminate()) else {
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}

async fn drill(
    options: &Options,
    topology: &Topology,
    processes: &mut Processes,
) -> anyhow::Result<Report> {
    let mut links = Links::new(topology).await?;
    if !topology.no_namespaces.is_empty() {
        eprintln!(
            "power-off: zones are no network namespaces ({}): NO FAULTS OF THE NETWORK are tested",
            topology.no_namespaces
        );
    }
    let terms = Terms {
        length_ms: if options.quick {
            QUICK_MS
        } else {
            (options.minutes * 60_000.0) as u64
        },
        quick: options.quick,
        cuts: links.is_some(),
        slow_links: links.is_some(),
        beyond: options.beyond,
        healing: !options.quick,
        only: options.only.clone(),
    };
    let plan = plan::draw(options.seed, &targets(topology), &terms);
    anyhow::ensure!(
        !plan.is_empty(),
        "no fault fits into {} s",
        terms.length_ms / 1_000
    );
    let clients = start(topology, processes).await?;
    let names = processes.names().to_vec();
    let started = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let record = Arc::new(Record::new());
    let shared = Arc::new(Shared {
        table: TABLE.to_owned(),
        record: record.clone(),
        inserts: AtomicU64::new(1),
    });
    let traffic = Traffic::start(&shared, &clients, options.rate, options.seed);
    let samples: Arc<Mutex<Vec<Sample>>> = Arc::default();
    let sampler = tokio::spawn(sample(topology.clone(), record.clone(), samples.clone()));
    let until = Instant::now() + Duration::from_millis(terms.length_ms);
    tokio::time::sleep(Duration::from_millis(WARM_UP_MS)).await;
    let mut striking = Striking {
        processes,
        links: &mut links,
        topology,
        record: &record,
        struck: Vec::new(),
        trouble: Vec::new(),
    };
    for (number, strike) in plan.iter().enumerate() {
        let needs_ms = strike.quiet_ms + strike.lasts_ms() + plan::LAST_QUIET_MS / 2;
        if Instant::now() + Duration::from_millis(needs_ms) > until {
            continue;
        }
        tokio::time::sleep(Duration::from_millis(strike.quiet_ms)).await;
        striking.strike(number + 1, strike).await?;
    }
    tokio::time::sleep_until(until).await;
    let (struck, mut trouble) = (striking.struck, striking.trouble);
    let lasted_ms = record.now_us() / 1_000;
    traffic.finish().await;
    sampler.abort();
    if let Some(links) = &mut links {
        links.clear().await?;
    }
    trouble.extend(processes.unexpected_ends());
    tokio::time::sleep(QUIET).await;
    eprintln!("checking");
    let mut found = checks::all(topology, &clients, TABLE, &record).await;
    let detail = "no process ended by itself, all were ready in time".to_owned();
    found.push(Check::new("The processes behaved", detail, trouble));
    let samples = std::mem::take(&mut *samples.lock().await);
    let run = Run {
        seed: options.seed,
        beyond: options.beyond,
        healing: !options.quick,
        quick: options.quick,
        rate: options.rate,
        started,
        lasted_ms,
        partitions: topology.partitions,
        processes: names,
        zones: topology
            .zones
            .iter()
            .map(|zone| zone.name.clone())
            .collect(),
        no_namespaces: topology.no_namespaces.clone(),
        slow_link: links.as_ref().map(|links| links.shaping.label()),
        acknowledged_writes: record.acknowledged_writes(),
    };
    Ok(Report::new(run, record.calls(), samples, struck, found))
}

/// Starts all processes, waits until they are ready, makes the table; the clients of all zones, each with its own zone's router first.
pub async fn start(
    topology: &Topology,
    processes: &mut Processes,
) -> anyhow::Result<Vec<Arc<Client>>> {
    eprintln!("starting {} processes", processes.names().len());
    let names = processes.names().to_vec();
    for name in &names {
        processes.start(name)?;
    }
    let late = processes.wait_ready(&names, START_MAX).await;
    let ends = processes.unexpected_ends();
    if !late.is_empty() || !ends.is_empty() {
        bail!(
            "not ready within {} s: {late:?} {ends:?}",
            START_MAX.as_secs()
        );
    }
    let signer = Signer::new("evenkeel", "evenkeel");
    let endpoints: Vec<String> = topology
        .zones
        .iter()
        .map(|zone| zone.router.clone())
        .collect();
    make_table(&endpoints[0], &signer).await?;
    Ok((0..endpoints.len())
        .map(|zone| {
            let mut own_first = endpoints.clone();
            own_first.rotate_left(zone);
            Arc::new(Client::new(own_first, signer.clone()))
        })
        .collect())
}

async fn make_table(endpoint: &str, signer: &Signer) -> anyhow::Result<()> {
    // The mesh founds itself in its first seconds; until then tables can't be made.
    let until = Instant::now() + START_MAX;
    loop {
        let made = async {
            let mut connection = Connection::open(endpoint, signer.clone()).await?;
            table::create(&mut connection, TABLE, None).await
        };
        match made.await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= until => {
                return Err(error.context("the table could not be made"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

async fn sample(topology: Topology, record: Arc<Record>, into: Arc<Mutex<Vec<Sample>>>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        let sample = samples::take(&topology, record.now_us() / 1_000).await;
        into.lock().await.push(sample);
    }
}

fn targets(topology: &Topology) -> Targets {
    let of = |kinds: &[Kind]| {
        let all = topology
            .processes
            .iter()
            .filter(|process| kinds.contains(&process.kind));
        all.map(|process| (process.name.clone(), process.zone.clone()))
            .collect()
    };
    Targets {
        zones: topology
            .zones
            .iter()
            .map(|zone| zone.name.clone())
            .collect(),
        storage: of(&[Kind::Storage]),
        nats: of(&[Kind::Nats]),
        others: of(&[
            Kind::Memds,
            Kind::Gac,
            Kind::Archiver,
            Kind::Scrubber,
            Kind::Admin,
            Kind::Router,
        ]),
    }
}

/// Carries out strikes.
struct Striking<'a> {
    processes: &'a mut Processes,
    links: &'a mut Option<Links>,
    topology: &'a Topology,
    record: &'a Record,
    struck: Vec<Struck>,
    trouble: Vec<String>,
}

impl Striking<'_> {
    /// One strike from its first fault to when all is ready again.
    async fn strike(&mut self, number: usize, strike: &Strike) -> anyhow::Result<()> {
        let begin = Instant::now();
        // (when, begin or end, which)
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (at, timed) in strike.faults.iter().enumerate() {
            moments.push((timed.offset_ms, true, at));
            moments.push((timed.offset_ms + timed.lasts_ms, false, at));
        }
        moments.sort_by_key(|(when, begins, at)| (*when, *at, !*begins));
        let mut spans: Vec<(u64, u64)> = vec![(0, 0); strike.faults.len()];
        for (when, begins, at) in moments {
            tokio::time::sleep_until(begin + Duration::from_millis(when)).await;
            self.trouble.extend(self.processes.unexpected_ends());
            let fault = &strike.faults[at].fault;
            let now_ms = self.record.now_us() / 1_000;
            if begins {
                eprintln!("{:>6.1} s  {}", now_ms as f64 / 1_000.0, fault.label());
                spans[at].0 = now_ms;
                self.apply(fault).await?;
            } else {
                self.mend(fault).await?;
                spans[at].1 = self.record.now_us() / 1_000;
            }
        }
        tokio::time::sleep(SETTLE).await;
        let names = self.processes.names().to_vec();
        let late = self.processes.wait_ready(&names, READY_MAX).await;
        if !late.is_empty() {
            self.trouble.push(format!(
                "after strike {number}: not ready within {} s: {late:?}",
                READY_MAX.as_secs()
            ));
        }
        self.trouble.extend(self.processes.unexpected_ends());
        let ready_ms = self.record.now_us() / 1_000;
        for (timed, (from_ms, to_ms)) in strike.faults.iter().zip(spans) {
            self.struck.push(Struck {
                number,
                label: timed.fault.label(),
                zones: self.zones_of(&timed.fault),
                takes_all: timed.fault.takes_all(),
                fault: timed.fault.clone(),
                from_ms,
                to_ms,
                ready_ms,
            });
        }
        Ok(())
    }

    /// Zones that a fault stands in; none: the links.
    fn zones_of(&self, fault: &Fault) -> Vec<String> {
        match fault {
            Fault::ZoneDown { zone } | Fault::ZonePause { zone } | Fault::Isolate { zone } => {
                vec![zone.clone()]
            }
            Fault::Blackout => self
                .topology
                .zones
                .iter()
                .map(|zone| zone.name.clone())
                .collect(),
            fault => {
                let processes = self.topology.processes.iter();
                processes
                    .filter(|process| fault.process() == Some(&process.name))
                    .map(|process| process.zone.clone())
                    .collect()
            }
        }
    }

    fn rules(&self, fault: &Fault) -> Vec<Rule> {
        let drop = |from: &String, at: &String| Rule::Drop {
            from: from.clone(),
            at: at.clone(),
        };
        match fault {
            Fault::Cut { a, b } => vec![drop(a, b), drop(b, a)],
            Fault::OneWay { from, to } => vec![drop(from, to)],
            Fault::Isolate { zone } => {
                let others = self
                    .topology
                    .zones
                    .iter()
                    .map(|zone| &zone.name)
                    .filter(|other| *other != zone);
                others
                    .flat_map(|other| [drop(zone, other), drop(other, zone)])
                    .collect()
            }
            Fault::SlowLink { a, b } => {
                let slow = |from: &String, at: &String| Rule::Slow {
                    from: from.clone(),
                    at: at.clone(),
                };
                vec![slow(a, b), slow(b, a)]
            }
            Fault::ZoneDown { zone } => vec![Rule::Dark { zone: zone.clone() }],
            Fault::Blackout => self
                .topology
                .zones
                .iter()
                .map(|zone| Rule::Dark {
                    zone: zone.name.clone(),
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    async fn apply(&mut self, fault: &Fault) -> anyhow::Result<()> {
        // Links first: who loses power says no farewell.
        let rules = self.rules(fault);
        if let Some(links) = self.links
            && !rules.is_empty()
        {
            links.add(rules).await?;
        }
        match fault {
            Fault::Kill { process } | Fault::Wipe { process } => {
                self.processes.kill(std::slice::from_ref(process)).await
            }
            Fault::Restart { process } => self.processes.restart(process).await,
            Fault::Pause { process } => self.processes.pause(process),
            Fault::ZoneDown { zone } => {
                let names = self.processes.of_zone(zone);
                self.processes.kill(&names).await
            }
            Fault::ZonePause { zone } => {
                let names = self.processes.of_zone(zone);
                names.iter().try_for_each(|name| self.processes.pause(name))
            }
            Fault::Blackout => {
                let names = self.processes.names().to_vec();
                self.processes.kill(&names).await
            }
            Fault::Cut { .. }
            | Fault::OneWay { .. }
            | Fault::Isolate { .. }
            | Fault::SlowLink { .. } => Ok(()),
        }
    }

    async fn mend(&mut self, fault: &Fault) -> anyhow::Result<()> {
        let rules = self.rules(fault);
        if let Some(links) = self.links
            && !rules.is_empty()
        {
            links.remove(&rules).await?;
        }
        match fault {
            Fault::Kill { process } => self.processes.start(process),
            Fault::Wipe { process } => {
                self.processes.wipe(process)?;
                self.processes.start(process)
            }
            Fault::Pause { process } => self.processes.resume(process),
            Fault::ZoneDown { zone } => {
                let names = self.processes.of_zone(zone);
                names.iter().try_for_each(|name| self.processes.start(name))
            }
            Fault::ZonePause { zone } => {
                let names = self.processes.of_zone(zone);
                names
                    .iter()
                    .try_for_each(|name| self.processes.resume(name))
            }
            Fault::Blackout => {
                let names = self.processes.names().to_vec();
                names.iter().try_for_each(|name| self.processes.start(name))
            }
            Fault::Restart { .. }
            | Fault::Cut { .. }
            | Fault::OneWay { .. }
            | Fault::Isolate { .. }
            | Fault::SlowLink { .. } => Ok(()),
        }
    }
}
