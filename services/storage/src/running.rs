//! Start and end of a storage node: opens what is on disk, starts threads and actors, listens on the node's subjects; and the
//! way back. Owns the order of these steps only.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter};
use anyhow::Context;
use mesh::{Mesh, Subscription};
use partition::Partition;
use paxos::{NodeId, Replica};
use telemetry::{Health, HttpServer};
use tokio::sync::oneshot;
use wal::{DataDir, Wal, WalError, WalOptions};

use crate::copier::CopyJob;
use crate::copy::{CopySource, SourceOptions};
use crate::env::{DiskJobs, Env};
use crate::epochs::Epochs;
use crate::flusher::FlushJob;
use crate::group::{Group, Store};
use crate::inbox::{Event, Inbox, InboxLimits};
use crate::intake::{self, orders};
use crate::log_reader::LogJob;
use crate::metrics::Metrics;
use crate::middle::MiddleJob;
use crate::node::{self, Node, Parts};
use crate::orders::OrderJob;
use crate::pool::Pool;
use crate::recovery::{self, Inventory};
use crate::reporter::{Report, Reporter, Stop};
use crate::scrub::ScrubJob;
use crate::settings::StorageSettings;
use crate::shard::Shard;

/// Jobs that may wait for each kind of disk thread.
const DISK_JOBS_MAX: usize = 4_096;
/// Searches for the middle of a partition that may wait.
const MIDDLES_MAX: usize = 64;
/// Digests and listings of scrubs that may wait.
const SCRUB_JOBS_MAX: usize = 16;
/// Copies pulled or waiting at the same time.
const COPIES_MAX: usize = 16;
/// A node that ends refuses requests until none came for so long: far above the time that a request is under way.
const QUIET: Duration = Duration::from_millis(100);
/// It waits for that no longer than so many times.
const QUIET_STEPS_MAX: usize = 20;

/// The threads for work that blocks.
struct Disks {
    flusher: Pool<FlushJob>,
    log_reader: Pool<LogJob>,
    copier: Pool<CopyJob>,
    orders: Pool<OrderJob>,
    middles: Pool<MiddleJob>,
    scrubber: Pool<ScrubJob>,
    copies: Arc<CopySource>,
}

/// A running storage node.
pub struct Running {
    node: Arc<Node>,
    arbiters: Vec<Arbiter>,
    disks: Disks,
    reporter: Addr<Reporter>,
    requests: Vec<Subscription>,
    replication: Vec<Subscription>,
    http: Option<HttpServer>,
}

/// Starts a storage node. Must be called within an actix system.
///
/// # Errors
/// When the settings make no sense, the data folder cannot be used, or the bus or the health endpoints fail.
pub async fn start(settings: StorageSettings, mesh: Mesh) -> anyhow::Result<Running> {
    settings.check()?;
    anyhow::ensure!(
        actix::System::try_current().is_some(),
        "a storage node needs an actix system"
    );
    let address = match settings.http.as_str() {
        "" => None,
        text => Some(
            text.parse::<SocketAddr>()
                .with_context(|| format!("storage.http: {text:?}"))?,
        ),
    };
    telemetry::traces::join(&mesh).await?;
    let opened = {
        let settings = settings.clone();
        tokio::task::spawn_blocking(move || open(&settings)).await??
    };
    let Opened {
        data_dir,
        epochs,
        wal,
        inventory,
        appends_max,
        append_bytes_max,
    } = opened;
    let limits = &settings.limits;
    let inbox_limits = InboxLimits {
        requests_max: limits.requests_max,
        request_bytes_max: limits.request_bytes_max,
        messages_max: limits.messages_max,
        message_bytes_max: limits.message_bytes_max,
    };
    let inboxes = (0..settings.shards)
        .map(|_| Arc::new(Inbox::new(inbox_limits)))
        .collect();
    let metrics = Metrics::register(settings.node_id)?;
    let parts = Parts {
        data_dir,
        epochs,
        settings,
        mesh,
        wal,
        metrics,
        appends_max,
        append_bytes_max,
        inboxes,
        runtime: tokio::runtime::Handle::current(),
    };
    let node = Arc::new(Node::new(parts));
    let measured = node.clone();
    tokio::task::spawn_blocking(move || measured.measure_space()).await?;
    let disks = start_disks(&node)?;
    let arbiters = start_shards(&node, &disks, inventory).await?;

    let replication = vec![
        intake::serve_replication(&node).await?,
        intake::serve_copies(&node).await?,
        intake::serve_archivers(&node).await?,
        intake::serve_splits(&node).await?,
        intake::serve_demand(&node).await?,
        intake::serve_scrubs(&node, disks.scrubber.jobs()).await?,
        intake::serve_hydrate(&node).await?,
        intake::watch_nodes(&node).await?,
    ];
    let requests = vec![
        intake::serve_items(&node).await?,
        orders::serve(&node).await?,
    ];
    let http = match address {
        Some(address) => {
            let health = Health {
                ready: node.ready.clone(),
            };
            Some(telemetry::serve_http(address, health).await?)
        }
        None => None,
    };
    node.ready.store(true, Ordering::Relaxed);
    let reporter = Reporter {
        node: node.clone(),
        flusher: disks.flusher.jobs(),
        http: http
            .as_ref()
            .map_or(String::new(), |http| http.address().to_string()),
        wal: wal::WalMetrics::default(),
        reports_since_release: 0,
        measuring: Arc::default(),
    };
    let reporter = reporter.start();
    tracing::info!(
        node = node.id.0,
        zone = node.settings.zone,
        "storage node started"
    );
    Ok(Running {
        node,
        arbiters,
        disks,
        reporter,
        requests,
        replication,
        http,
    })
}

struct Opened {
    data_dir: DataDir,
    epochs: Epochs,
    wal: Wal,
    inventory: Inventory,
    appends_max: usize,
    append_bytes_max: usize,
}

/// Opens what is on disk. Blocks.
fn open(settings: &StorageSettings) -> anyhow::Result<Opened> {
    let data_dir = open_data_dir(settings)?;
    let epochs = Epochs::open(data_dir.path())?;
    let mut options = WalOptions::new(data_dir.node(), data_dir.incarnation());
    options.segment_bytes = settings.limits.wal_segment_bytes;
    options.must_exist = recovery::has_replicas(&data_dir);
    // Orders come on top of what the shards may queue.
    let appends_max = (options.queue_len_max - options.queue_len_max / 8) / settings.shards;
    let append_bytes_max = options.queue_bytes_max / 2 / settings.shards;
    let (wal, recovery) = Wal::open(&data_dir.wal(), options)?;
    let inventory = recovery::take_stock(&data_dir, &wal, recovery, node::tree_options(settings))?;
    Ok(Opened {
        data_dir,
        epochs,
        wal,
        inventory,
        appends_max,
        append_bytes_max,
    })
}

fn open_data_dir(settings: &StorageSettings) -> Result<DataDir, WalError> {
    // Not 0; below 2^53 it survives any JSON.
    let fresh_incarnation = rand::random::<u64>() >> 11 | 1;
    DataDir::open(
        &settings.data_dir,
        NodeId(settings.node_id),
        fresh_incarnation,
    )
}

/// Identity of the node's disk, made now if the data folder is new. A node that lost its disk gets another one, so that it is
/// never mistaken for the old member of its groups.
///
/// # Errors
/// When the folder is in use, belongs to another node, or has data but no identity.
pub fn incarnation(settings: &StorageSettings) -> anyhow::Result<u64> {
    settings.check()?;
    Ok(open_data_dir(settings)?.incarnation())
}

fn start_disks(node: &Arc<Node>) -> std::io::Result<Disks> {
    let (log, orders) = (node.wal.clone(), node.wal.clone());
    let copies = node.clone();
    let runtime = tokio::runtime::Handle::current();
    let flush_threads = node.settings.limits.flush_threads;
    let copy_options = SourceOptions {
        bytes_per_s: Some(node.settings.limits.copy_bytes_per_second_max.max(1)),
        ..SourceOptions::default()
    };
    Ok(Disks {
        flusher: Pool::start("storage-flush", flush_threads, DISK_JOBS_MAX, FlushJob::run)?,
        log_reader: Pool::start("storage-log-read", 1, DISK_JOBS_MAX, move |job: LogJob| {
            job.run(&log)
        })?,
        copier: Pool::start("storage-copy", 1, COPIES_MAX, move |job: CopyJob| {
            job.run(&copies, &runtime)
        })?,
        orders: Pool::start("storage-orders", 1, DISK_JOBS_MAX, move |job: OrderJob| {
            job.run(&orders)
        })?,
        middles: Pool::start("storage-middle", 1, MIDDLES_MAX, MiddleJob::run)?,
        // One is for a digest, the other for listings.
        scrubber: Pool::start("storage-scrub", 2, SCRUB_JOBS_MAX, ScrubJob::run)?,
        copies: Arc::new(CopySource::start(copy_options)?),
    })
}

/// Starts one actor a shard, each on an arbiter of its own, with the replicas that are pinned to it. A node with a single shard has its
/// replication connection there, too: each message would otherwise wake a second thread on its way in, and one on its way out.
async fn start_shards(
    node: &Arc<Node>,
    disks: &Disks,
    inventory: Inventory,
) -> anyhow::Result<Vec<Arbiter>> {
    let shards = node.inboxes.len();
    let mut groups: Vec<Vec<Group>> = (0..shards).map(|_| Vec::new()).collect();
    let mut fenced = vec![BTreeMap::new(); shards];
    let now = node.now();
    for found in inventory.replicas {
        let timing = node.settings.timing.clone();
        let (outlines, restored) = (found.outlines, found.restored);
        let mut replica = Replica::from_disk(node.id, found.group, outlines, restored, timing, now);
        if node.mesh.succeeds_the_dead() {
            replica.outlive_leaders();
        }
        let store = found.store.map(|(tree, state)| {
            let partition = Partition::new(state, node.partition_limits());
            Store::new(partition, tree)
        });
        let group = Group::new(found.group, replica, store, now);
        groups[node::shard_of(found.group, shards)].push(group);
    }
    for (group, why) in inventory.fenced {
        why.log(group);
        fenced[node::shard_of(group, shards)].insert(group, why);
    }
    let jobs = DiskJobs {
        flusher: disks.flusher.jobs(),
        log_reader: disks.log_reader.jobs(),
        copier: disks.copier.jobs(),
        orders: disks.orders.jobs(),
        middles: disks.middles.jobs(),
        scrubber: disks.scrubber.jobs(),
        copies: disks.copies.clone(),
    };
    let mut arbiters = Vec::with_capacity(shards);
    for (number, (groups, fenced)) in groups.into_iter().zip(fenced).enumerate() {
        let inbox = node.inboxes[number].clone();
        let env = Env::new(node.clone(), inbox.clone(), jobs.clone());
        let arbiter = Arbiter::new();
        if shards == 1 {
            let (tell, told) = oneshot::channel();
            arbiter.spawn_fn(move || {
                let _ = tell.send(tokio::runtime::Handle::current());
            });
            node.mesh.host_replication(told.await?);
        }
        let shard = Shard::new(number, env, groups, fenced);
        inbox.attach(Shard::start_in_arbiter(&arbiter.handle(), move |_| shard));
        arbiters.push(arbiter);
    }
    Ok(arbiters)
}

impl Running {
    /// The node's identity on its disk.
    pub fn incarnation(&self) -> u64 {
        self.node.incarnation
    }

    /// Full copies that replaced a replica's B-tree since the start.
    pub fn copies_installed(&self) -> u64 {
        self.node.metrics.copies_installed.get()
    }

    /// Takes no orders, serves what it leads until that is handed over, takes nothing new, brings everything into the B-trees (each for a bounded time), and ends.
    pub async fn stop(mut self) {
        let limits = self.node.settings.limits.clone();
        self.node.draining.store(true, Ordering::Relaxed);
        self.node.ready.store(false, Ordering::Relaxed);
        self.reporter.do_send(Report);
        if limits.transfer_ms_max > 0 {
            self.ask_all(Event::HandOver, limits.transfer_ms_max).await;
        }
        self.node.closed.store(true, Ordering::Relaxed);
        self.ask_all(Event::FlushAll, limits.drain_ms_max).await;
        self.outlast_requests().await;
        self.requests.clear();
        self.node.mesh.drain(Duration::from_secs(1)).await;
        self.end().await;
    }

    /// Goes on refusing requests until none come any more: one that meets no subscription on its way between two servers of the bus is
    /// lost without a word, and its sender waits in vain.
    async fn outlast_requests(&self) {
        for _ in 0..QUIET_STEPS_MAX {
            let before = self.node.refused.load(Ordering::Relaxed);
            tokio::time::sleep(QUIET).await;
            if self.node.refused.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }

    /// Ends at once, as if the process had died: no handing over, no flush. Closes what is open, so that the node can be started
    /// again in this process.
    pub async fn halt(mut self) {
        self.node.draining.store(true, Ordering::Relaxed);
        self.node.ready.store(false, Ordering::Relaxed);
        self.node.closed.store(true, Ordering::Relaxed);
        self.requests.clear();
        self.end().await;
    }

    async fn end(mut self) {
        self.replication.clear();
        orders::outlast(&self.node).await;
        self.ask_all(Event::Stop, 10_000).await;
        self.reporter.do_send(Stop);
        if let Some(http) = self.http.take() {
            http.stop().await;
        }
        let Self {
            node,
            arbiters,
            disks,
            ..
        } = self;
        let closed = tokio::task::spawn_blocking(move || {
            for arbiter in arbiters {
                arbiter.stop();
                // Its panic would have aborted the process.
                let _ = arbiter.join();
            }
            disks.orders.close();
            disks.middles.close();
            disks.scrubber.close();
            disks.copier.close();
            drop(disks.copies);
            disks.log_reader.close();
            disks.flusher.close();
            node.wal.close();
            tracing::info!(node = node.id.0, "storage node stopped");
        });
        if let Err(error) = closed.await {
            tracing::error!(%error, "the storage node did not stop cleanly");
        }
    }

    /// Sends an event to every shard and waits for all answers, but not longer than `ms_max`.
    async fn ask_all(&self, event: impl Fn(oneshot::Sender<()>) -> Event, ms_max: u64) {
        let mut answers = Vec::with_capacity(self.node.inboxes.len());
        for inbox in &self.node.inboxes {
            let (done, answer) = oneshot::channel();
            inbox.event(event(done));
            answers.push(answer);
        }
        let all = async {
            for answer in answers {
                // A shard that is gone has nothing to answer.
                let _ = answer.await;
            }
        };
        if tokio::time::timeout(Duration::from_millis(ms_max), all)
            .await
            .is_err()
        {
            tracing::warn!(node = self.node.id.0, ms_max, "not done in time, going on");
        }
    }
}
