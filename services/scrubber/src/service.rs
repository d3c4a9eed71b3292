//! The shell: who is active, looks at the partitions, starts scrubs, heartbeats, metrics, the operator's questions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix::prelude::*;
use anyhow::Context as _;
use mesh::{Delivery, Mesh, Subscription};
use objects::ArchiveSettings;
use parking_lot::Mutex;
use paxos::GroupId;
use protocol::health::Heartbeat;
use protocol::operate::PartitionStatus;
use protocol::scrub::Question;
use protocol::subjects;
use telemetry::Health;
use telemetry::traces::{self, Flow, Flows, now_ns};
use tracing::{info, warn};

use crate::ScrubberSettings;
use crate::cycle::{Cycle, Known};
use crate::evidence::{self, Evidence};
use crate::index_cycle::IndexCycle;
use crate::indexes::IndexCounts;
use crate::reference::{Archive, Compared, Wanted};
use crate::round::{Round, alarm};
use crate::{desk, indexes, ledger, memory, nodes};

/// Time between heartbeats.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// Time between looks at what is due.
const TURN_EVERY: Duration = Duration::from_millis(200);
/// A scrubber that was silent for so long is not there.
const SILENT: Duration = Duration::from_millis(3_500);
/// So long after its start a scrubber waits whether there is another one.
const SETTLE: Duration = Duration::from_millis(2_500);
/// What the store remembers of earlier scrubs is waited for so long.
const RECALL_MAX: Duration = Duration::from_secs(10);
/// Findings in a heartbeat.
const FINDINGS_MAX: usize = 20;
/// Where references are rebuilt, in the scrubber's folder.
const REFERENCES: &str = "references";
/// Storage replicas of a whole partition.
const REPLICAS: u64 = 3;

/// Wall clock, milliseconds since the epoch.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Counters since the start.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) scrubs: AtomicU64,
    pub(crate) clean: AtomicU64,
    pub(crate) void: AtomicU64,
    pub(crate) differences: AtomicU64,
    pub(crate) unconfirmed: AtomicU64,
    pub(crate) condemned: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) archive_clean: AtomicU64,
    pub(crate) archive_differences: AtomicU64,
    pub(crate) archive_void: AtomicU64,
}

/// Scrubs under way: their numbers, and the bytes digested.
type Scrubs = BTreeMap<GroupId, (u64, Arc<AtomicU64>)>;

/// What the handlers share. Nothing waits while it holds a lock.
pub(crate) struct Shared {
    pub(crate) settings: Arc<ScrubberSettings>,
    pub(crate) cycle: Mutex<Cycle>,
    pub(crate) known: Mutex<Vec<Known>>,
    pub(crate) running: Mutex<Scrubs>,
    /// None: there is no archive.
    pub(crate) archive: Option<Archive>,
    counts: Arc<Counts>,
    pub(crate) indexes: Mutex<IndexCycle>,
    pub(crate) index_counts: IndexCounts,
    pub(crate) flows: Flows,
    started: Instant,
    /// When the other scrubbers were last heard.
    others: Mutex<BTreeMap<u64, Instant>>,
    pub(crate) stopping: AtomicBool,
    looking: AtomicBool,
    /// What the store remembers of the scrubs was read.
    pub(crate) recalled: AtomicBool,
    /// Something is to be written down.
    pub(crate) changed: AtomicBool,
}

impl Shared {
    /// Whether it is this instance's turn.
    pub(crate) fn is_active(&self) -> bool {
        let mut others = self.others.lock();
        others.retain(|_, heard| heard.elapsed() < SILENT);
        let smaller = others
            .keys()
            .any(|instance| *instance < self.settings.instance);
        !smaller && self.started.elapsed() >= SETTLE && !self.stopping.load(Relaxed)
    }

    /// A heartbeat.
    fn heard(&self, beat: &Heartbeat) {
        if beat.service != "scrubber" || beat.instance == self.settings.instance {
            return;
        }
        let mut others = self.others.lock();
        match beat.draining {
            true => drop(others.remove(&beat.instance)),
            false => drop(others.insert(beat.instance, Instant::now())),
        }
    }

    fn answer(&self, delivery: Delivery) {
        if !self.is_active() {
            return;
        }
        match delivery.decode::<Question>() {
            Ok(question) => delivery.reply(&desk::answer(self, &question)),
            Err(error) => warn!(%error, "an operator's question can't be read"),
        }
    }

    /// What an operator must look at, in words.
    fn findings(&self) -> Vec<String> {
        let known = self.known.lock();
        let cycle = self.cycle.lock();
        let found = known.iter().filter_map(|known| {
            let record = cycle.records().get(&known.partition)?;
            let finding = record.findings();
            (!finding.is_empty()).then(|| format!("partition {}: {finding}", known.partition.0))
        });
        let indexes = self.indexes.lock();
        let differ = indexes.records().iter().filter_map(|(name, record)| {
            let finding = &record.finding;
            (!finding.is_empty()).then(|| format!("index {name} {finding}"))
        });
        found.chain(differ).take(FINDINGS_MAX).collect()
    }

    fn numbers(&self) -> telemetry::Values {
        let known = self.known.lock();
        let cycle = self.cycle.lock();
        let of = |partition: &Known| cycle.records().get(&partition.partition);
        let never = known
            .iter()
            .filter(|k| of(k).is_none_or(|record| record.clean_ms.is_none()));
        let found = known
            .iter()
            .filter(|k| of(k).is_some_and(|record| !record.findings().is_empty()));
        let clean = known.iter().filter_map(|k| of(k)?.clean_ms).min();
        let age = clean.map_or(0, |clean| unix_ms().saturating_sub(clean) / 1_000);
        let counts = &self.counts;
        let (indexes, differ) = {
            let cycle = self.indexes.lock();
            let differ = cycle.records().values().filter(|r| !r.finding.is_empty());
            (cycle.records().len() as u64, differ.count() as u64)
        };
        vec![
            ("active", u64::from(self.is_active())),
            ("partitions", known.len() as u64),
            ("partitions_never_clean", never.count() as u64),
            ("partitions_with_findings", found.count() as u64),
            ("oldest_clean_age_seconds", age),
            ("running", cycle.running() as u64),
            ("scrubs_total", counts.scrubs.load(Relaxed)),
            ("clean_total", counts.clean.load(Relaxed)),
            ("void_total", counts.void.load(Relaxed)),
            ("differences_total", counts.differences.load(Relaxed)),
            ("unconfirmed_total", counts.unconfirmed.load(Relaxed)),
            ("condemned_total", counts.condemned.load(Relaxed)),
            ("archive_clean_total", counts.archive_clean.load(Relaxed)),
            (
                "archive_differences_total",
                counts.archive_differences.load(Relaxed),
            ),
            ("archive_void_total", counts.archive_void.load(Relaxed)),
            (
                "archive_waiting",
                self.archive.as_ref().map_or(0, Archive::waiting) as u64,
            ),
            ("digested_bytes_total", counts.bytes.load(Relaxed)),
            ("indexes", indexes),
            ("indexes_with_findings", differ),
            ("index_checks_total", self.index_counts.checks.load(Relaxed)),
            (
                "index_differences_total",
                self.index_counts.differences.load(Relaxed),
            ),
            ("index_void_total", self.index_counts.void.load(Relaxed)),
        ]
    }
}

/// What the numbers for the metrics are, by name.
const WORDS: telemetry::Words = &[
    ("active", "1 if this scrubber is the one that works."),
    ("partitions", "Partitions that are known."),
    (
        "partitions_never_clean",
        "Partitions that were never found clean.",
    ),
    (
        "partitions_with_findings",
        "Partitions with a finding that stands.",
    ),
    (
        "oldest_clean_age_seconds",
        "Time since the partition that was found clean longest ago was.",
    ),
    ("running", "Scrubs under way."),
    (
        "index_checks_total",
        "Comparisons of a global index with its table that came to an end.",
    ),
    (
        "index_differences_total",
        "Items in which a comparison found a global index to differ from its table.",
    ),
    (
        "index_void_total",
        "Comparisons of a global index with its table that came to nothing.",
    ),
    ("indexes", "Global indexes that are known."),
    (
        "indexes_with_findings",
        "Global indexes that were found to differ from their tables.",
    ),
    ("scrubs_total", "Scrubs that ended, however."),
    ("clean_total", "Scrubs that found all replicas equal."),
    (
        "void_total",
        "Scrubs that came to nothing: a replica was away, late or restarted.",
    ),
    (
        "differences_total",
        "Scrubs that found a replica that differs or is damaged.",
    ),
    (
        "unconfirmed_total",
        "Differences that a second reading of the same views did not show again.",
    ),
    ("condemned_total", "Replicas whose fencing was ordered."),
    (
        "archive_clean_total",
        "Comparisons with the archive that found it equal to the replicas.",
    ),
    (
        "archive_differences_total",
        "Comparisons with the archive that found a difference, or a damaged object.",
    ),
    (
        "archive_void_total",
        "Comparisons with the archive that came to nothing.",
    ),
    (
        "archive_waiting",
        "Comparisons that wait for the archive to come as far as the replicas were.",
    ),
    (
        "digested_bytes_total",
        "Bytes of items that replicas digested for this scrubber.",
    ),
];

/// A partition as the planner wants it.
fn known(status: &PartitionStatus) -> Known {
    Known {
        partition: status.partition,
        table: status.table.clone(),
        table_uuid: status.table_uuid.clone(),
        bytes: status.bytes,
        leader: status.leader,
        nodes: status.replicas.iter().map(|replica| replica.node).collect(),
        whole: status.healthy_copies >= REPLICAS
            && status.healing.is_empty()
            && status.children.is_empty(),
    }
}

/// A running scrubber.
pub struct Running {
    keeper: Addr<Keeper>,
    shared: Arc<Shared>,
    http: Option<telemetry::HttpServer>,
    health: Health,
    mesh: Mesh,
}

impl Running {
    /// Says good-bye and stops. Scrubs under way are given up: they are repeated by whoever comes next.
    pub async fn stop(self) {
        self.health.ready.store(false, Relaxed);
        self.shared.stopping.store(true, Relaxed);
        // The keeper may be gone already (its system stopped): then there is nothing left to stop.
        let _ = self.keeper.send(Stop).await;
        let shared = self.shared.clone();
        // Whatever becomes of it is logged there.
        let _ = tokio::task::spawn_blocking(move || write_down(&shared)).await;
        self.mesh.drain(Duration::from_secs(1)).await;
        if let Some(http) = self.http {
            http.stop().await;
        }
    }
}

/// Writes down what is remembered, if it changed. Blocks.
fn write_down(shared: &Shared) {
    if !shared.changed.swap(false, Relaxed) {
        return;
    }
    let records = shared.cycle.lock().records().clone();
    if let Err(error) = memory::store(&shared.settings.data_dir, &records) {
        warn!(%error, "what is remembered of scrubs can't be written");
        shared.changed.store(true, Relaxed);
    }
}

/// Starts a scrubber.
///
/// # Errors
/// When the settings make no sense, or the folder, the bus or the health address can't be had.
pub async fn start(
    settings: ScrubberSettings,
    archive: &ArchiveSettings,
    mesh: Mesh,
) -> anyhow::Result<Running> {
    settings.check()?;
    let archive = match archive.is_set() {
        false => {
            warn!("archive.url is not set: replicas are compared with each other only");
            None
        }
        true => {
            let connected = Archive::connect(
                archive,
                mesh.clone(),
                settings.data_dir.join(REFERENCES),
                settings.bytes_per_second,
                settings.archive_wait_ms_max,
            );
            Some(connected.map_err(anyhow::Error::msg)?)
        }
    };
    let folder = settings.data_dir.clone();
    let records = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("scrubber.data_dir: {}", folder.display()))?;
        // What an earlier life had rebuilt is of no use.
        let references = folder.join(REFERENCES);
        if let Err(error) = std::fs::remove_dir_all(&references)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            warn!(%error, "old references stay");
        }
        anyhow::Ok((memory::load(&folder), indexes::load(&folder)))
    });
    let (records, of_indexes) = records.await??;
    let settings = Arc::new(settings);
    let shared = Arc::new(Shared {
        cycle: Mutex::new(Cycle::new(settings.limits(), records)),
        indexes: Mutex::new(IndexCycle::new(settings.index_limits(), of_indexes)),
        index_counts: IndexCounts::default(),
        settings: settings.clone(),
        known: Mutex::default(),
        running: Mutex::default(),
        archive,
        counts: Arc::default(),
        flows: telemetry::traces::flows(&mesh),
        started: Instant::now(),
        others: Mutex::default(),
        stopping: AtomicBool::new(false),
        looking: AtomicBool::new(false),
        recalled: AtomicBool::new(false),
        changed: AtomicBool::new(false),
    });
    let listener = shared.clone();
    let beats = mesh
        .serve(subjects::HEALTH, None, move |delivery| {
            if let Ok(beat) = delivery.decode::<Heartbeat>() {
                listener.heard(&beat);
            }
        })
        .await?;
    let server = shared.clone();
    let questions = mesh
        .serve(subjects::SCRUB_OPERATE, None, move |delivery| {
            server.answer(delivery);
        })
        .await?;
    let exported = shared.clone();
    telemetry::export("evenkeel_scrubber", WORDS, move || exported.numbers());
    let health = Health::default();
    let http = match settings.http {
        None => None,
        Some(address) => Some(telemetry::serve_http(address, health.clone()).await?),
    };
    let keeper = Keeper {
        heartbeat: Heartbeat {
            service: "scrubber".to_owned(),
            instance: settings.instance,
            zone: settings.zone.clone(),
            incarnation: mesh.identity().incarnation,
            http: settings.http.map_or(String::new(), |a| a.to_string()),
            ready: true,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Heartbeat::default()
        },
        shared: shared.clone(),
        mesh: mesh.clone(),
        served: vec![beats, questions],
        looked: None,
        active_since: None,
    }
    .start();
    health.ready.store(true, Relaxed);
    actix::spawn(compare_with_archive(shared.clone()));
    actix::spawn(ledger::keep(shared.clone()));
    actix::spawn(indexes::compare(shared.clone(), mesh.clone()));
    Ok(Running {
        keeper,
        shared,
        http,
        health,
        mesh,
    })
}

/// Says that the scrubber is there, and starts what is due.
struct Keeper {
    heartbeat: Heartbeat,
    shared: Arc<Shared>,
    mesh: Mesh,
    /// Served until the scrubber stops.
    served: Vec<Subscription>,
    /// When the partitions were last asked for.
    looked: Option<Instant>,
    /// Since when it is this instance's turn.
    active_since: Option<Instant>,
}

impl Keeper {
    fn beat(&mut self) {
        self.heartbeat.troubles = self.shared.findings();
        // A lost heartbeat means nothing; the next one follows in a second.
        let _ = self.mesh.cast(subjects::HEALTH, &self.heartbeat);
        let shared = self.shared.clone();
        drop(tokio::task::spawn_blocking(move || write_down(&shared)));
    }

    fn turn(&mut self) {
        if !self.shared.is_active() {
            self.active_since = None;
            return;
        }
        let since = *self.active_since.get_or_insert_with(Instant::now);
        let every = Duration::from_millis(self.shared.settings.look_every_ms);
        if self.looked.is_none_or(|looked| looked.elapsed() >= every)
            && !self.shared.looking.swap(true, Relaxed)
        {
            self.looked = Some(Instant::now());
            let (shared, mesh) = (self.shared.clone(), self.mesh.clone());
            actix::spawn(async move {
                look(&shared, &mesh).await;
                shared.looking.store(false, Relaxed);
            });
        }
        // What was scrubbed lately is not what is to be scrubbed first.
        let recalling = self.shared.archive.is_some() && !self.shared.recalled.load(Relaxed);
        if recalling && since.elapsed() < RECALL_MAX {
            return;
        }
        loop {
            let known = self.shared.known.lock().clone();
            let Some(next) = self.shared.cycle.lock().next(unix_ms(), &known) else {
                return;
            };
            let (shared, mesh) = (self.shared.clone(), self.mesh.clone());
            actix::spawn(async move { scrub(shared, mesh, next).await });
        }
    }
}

/// Asks for the partitions that there are.
async fn look(shared: &Shared, mesh: &Mesh) {
    match nodes::partitions(mesh).await {
        Err(why) => info!(why, "the partitions can't be had at the moment"),
        Ok(all) => {
            let all: Vec<Known> = all.iter().map(known).collect();
            shared.cycle.lock().hear(unix_ms(), &all);
            *shared.known.lock() = all;
        }
    }
}

/// Compares with the archive whatever it has reached, one partition at a time, until the scrubber stops.
async fn compare_with_archive(shared: Arc<Shared>) {
    let Some(archive) = &shared.archive else {
        return;
    };
    while !shared.stopping.load(Relaxed) {
        let Some((wanted, compared)) = archive.next().await else {
            tokio::time::sleep(TURN_EVERY).await;
            continue;
        };
        let (partition, at_ms) = (wanted.partition, wanted.head.time_ms);
        let counts = &shared.counts;
        let waited_ns = u64::try_from(wanted.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let flow = Flow::since("compare with archive", now_ns().saturating_sub(waited_ns))
            .of_partition(partition.0)
            .caused_by(wanted.cause);
        shared.flows.end(flow, compared.outcome());
        match compared {
            Compared::Clean => {
                counts.archive_clean.fetch_add(1, Relaxed);
                shared.cycle.lock().archived(at_ms, partition, None);
            }
            Compared::Void(why) => {
                counts.archive_void.fetch_add(1, Relaxed);
                info!(
                    partition = partition.0,
                    why, "not compared with the archive"
                );
                shared.cycle.lock().archive_void(partition, why);
            }
            Compared::Wrong {
                finding,
                ranges,
                done,
            } => {
                counts.archive_differences.fetch_add(1, Relaxed);
                let ranges = ranges.iter();
                let ranges =
                    ranges.map(|r| (evidence::escaped(&r.start), evidence::escaped(&r.end)));
                let evidence = Evidence {
                    time_ms: unix_ms(),
                    partition: partition.0,
                    table: wanted.table,
                    table_uuid: wanted.head.table,
                    index: wanted.head.index,
                    finding: finding.clone(),
                    ranges: ranges.collect(),
                    done,
                    ..Evidence::default()
                };
                alarm(&shared.settings, evidence, partition, None).await;
                let found = Some(finding);
                shared.cycle.lock().archived(at_ms, partition, found);
            }
        }
        shared.changed.store(true, Relaxed);
    }
}

/// One scrub, from the decision to what is remembered of it.
async fn scrub(shared: Arc<Shared>, mesh: Mesh, known: Known) {
    let partition = known.partition;
    // Not 0; below 2^53 it survives any JSON.
    let number = rand::random::<u64>() >> 11 | 1;
    let progress = Arc::new(AtomicU64::new(0));
    let entry = (number, progress.clone());
    shared.running.lock().insert(partition, entry);
    let counts = shared.counts.clone();
    counts.scrubs.fetch_add(1, Relaxed);
    let table = known.table.clone();
    let leader = known.leader;
    let others = known.nodes.iter().copied();
    let others = others.filter(|node| Some(*node) != leader);
    let nodes = leader.into_iter().chain(others).collect();
    let flow = Flow::begin("scrub")
        .of_partition(partition.0)
        .with("db.collection.name", table.clone());
    let cause = flow.context();
    let round = Round {
        mesh,
        settings: shared.settings.clone(),
        known,
        scrub: number,
        progress,
        counts: counts.clone(),
        trace: cause,
    };
    let started = Instant::now();
    let (at_ms, ended, agreed) = traces::within(cause, std::pin::pin!(round.run())).await;
    shared.flows.end(flow, ended.outcome());
    if let (Some(archive), Some(whole)) = (&shared.archive, agreed) {
        let (head, buckets) = (whole.head, whole.buckets);
        archive.want(Wanted::new(partition, table, nodes, head, buckets, cause));
    }
    match &ended {
        crate::cycle::Ended::Clean { .. } => counts.clean.fetch_add(1, Relaxed),
        crate::cycle::Ended::Void(why) => {
            info!(partition = partition.0, why, "a scrub came to nothing");
            counts.void.fetch_add(1, Relaxed)
        }
        // Counted where it was found.
        crate::cycle::Ended::Differs { .. } => 0,
    };
    tracing::debug!(partition = partition.0, took = ?started.elapsed(), ?ended, "scrubbed");
    shared
        .cycle
        .lock()
        .ended(unix_ms(), at_ms, partition, &ended);
    shared.running.lock().remove(&partition);
    shared.changed.store(true, Relaxed);
}

impl Actor for Keeper {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.beat();
        context.run_interval(BEAT_EVERY, |keeper, _| keeper.beat());
        context.run_interval(TURN_EVERY, |keeper, _| keeper.turn());
    }
}

/// Stop the keeper after a last heartbeat.
#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for Keeper {
    type Result = ();

    fn handle(&mut self, _: Stop, context: &mut Context<Self>) {
        self.served.clear();
        self.heartbeat.draining = true;
        self.heartbeat.ready = false;
        self.beat();
        context.stop();
    }
}
