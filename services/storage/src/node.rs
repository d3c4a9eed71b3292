//! What all parts of a storage node share: who it is, its log, its way to the others, its numbers. Owns no group and no thread.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use btree::TreeOptions;
use healing::Nodes;
use mesh::Mesh;
use parking_lot::{Mutex, RwLock};
use partition::Limits as PartitionLimits;
use paxos::{GroupId, Millis, NodeId};
use protocol::archive::LedLog;
use protocol::health::LeaderlessReplica;
use telemetry::traces::{Flows, Recorder};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use wal::{DataDir, Wal, WalMetrics};

use crate::capacity::NodeCapacity;
use crate::epochs::Epochs;
use crate::fence::Reason;
use crate::forwarder::FORWARDS_MAX;
use crate::inbox::Inbox;
use crate::intake::orders::NOTINGS_MAX;
use crate::joiner::JOINS_MAX;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::pressure::Led;
use crate::propagator::Propagator;
use crate::scrub::Scrubs;
use crate::settings::StorageSettings;
use crate::shard::Gathered;
use crate::space::Space;

/// A storage node.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) incarnation: u64,
    pub(crate) settings: StorageSettings,
    pub(crate) mesh: Mesh,
    pub(crate) recorder: Recorder,
    /// Takes the traces of what no request waits for.
    pub(crate) flows: Flows,
    pub(crate) wal: Wal,
    pub(crate) metrics: Metrics,
    /// A shard's share of the WAL's queue: appends and bytes.
    pub(crate) appends_max: usize,
    pub(crate) append_bytes_max: usize,
    pub(crate) inboxes: Vec<Arc<Inbox>>,
    /// `/readyz`.
    pub(crate) ready: Arc<AtomicBool>,
    /// Going away: takes nothing new.
    pub(crate) draining: AtomicBool,
    /// Whatever it led is handed over: item requests are refused.
    pub(crate) closed: AtomicBool,
    /// The storage nodes, as their heartbeats show them.
    pub(crate) nodes: RwLock<Nodes>,
    /// Which admins' orders count.
    pub(crate) epochs: Epochs,
    /// Bounds the orders that wait for an epoch to be noted.
    pub(crate) notings: Arc<Semaphore>,
    /// For calls to other nodes.
    pub(crate) runtime: Handle,
    /// Bounds them.
    pub(crate) joins: Semaphore,
    /// Limits the requests passed on to other nodes.
    pub(crate) forwards: Arc<Semaphore>,
    /// Item requests refused since the node closed.
    pub(crate) refused: AtomicU64,
    /// Bounds the replicas whose children are filled.
    pub(crate) fillings: Arc<Semaphore>,
    /// When the next chunk may be copied into a child.
    split_at: Mutex<Millis>,
    overlays_full: AtomicBool,
    disk_low: AtomicBool,
    log_full: AtomicBool,
    log_overfull: AtomicBool,
    space: Mutex<Space>,
    pub(crate) capacity: NodeCapacity,
    pub(crate) led: Led,
    pub(crate) scrubs: Scrubs,
    pub(crate) propagator: Propagator,
    /// Folder of the B-trees.
    replicas: PathBuf,
    origin: Instant,
    /// Held as long as the node lives: keeps other processes out.
    _data_dir: DataDir,
    reports: Mutex<Vec<Report>>,
    /// Nodes that said that they read batches of replication messages.
    batch_readers: RwLock<BTreeSet<NodeId>>,
}

/// What a shard said last.
#[derive(Clone, Default)]
struct Report {
    numbers: Gathered,
    fenced: BTreeMap<GroupId, Reason>,
    troubles: Vec<String>,
    leaderless: Vec<LeaderlessReplica>,
    peers: Peers,
    logs: BTreeMap<GroupId, LedLog>,
}

/// Fenced replicas that are named one by one; all are counted.
const FENCED_NAMED_MAX: usize = 256;

/// What `Node` is made of.
pub(crate) struct Parts {
    pub(crate) data_dir: DataDir,
    pub(crate) epochs: Epochs,
    pub(crate) settings: StorageSettings,
    pub(crate) mesh: Mesh,
    pub(crate) wal: Wal,
    pub(crate) metrics: Metrics,
    pub(crate) appends_max: usize,
    pub(crate) append_bytes_max: usize,
    pub(crate) inboxes: Vec<Arc<Inbox>>,
    pub(crate) runtime: Handle,
}

impl Node {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            data_dir,
            epochs,
            mut settings,
            mesh,
            wal,
            metrics,
            appends_max,
            append_bytes_max,
            inboxes,
            runtime,
        } = parts;
        settings.timing.limits.archive = settings.archive;
        Self {
            id: NodeId(settings.node_id),
            incarnation: data_dir.incarnation(),
            replicas: data_dir.replicas(),
            _data_dir: data_dir,
            recorder: telemetry::traces::of(&mesh),
            flows: telemetry::traces::flows(&mesh),
            mesh,
            wal,
            metrics,
            appends_max,
            append_bytes_max,
            reports: Mutex::new(vec![Report::default(); inboxes.len()]),
            inboxes,
            batch_readers: RwLock::default(),
            led: Led::default(),
            scrubs: Scrubs::default(),
            propagator: Propagator::default(),
            ready: Arc::default(),
            draining: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            nodes: RwLock::default(),
            epochs,
            notings: Arc::new(Semaphore::new(NOTINGS_MAX as usize)),
            runtime,
            joins: Semaphore::new(JOINS_MAX),
            forwards: Arc::new(Semaphore::new(FORWARDS_MAX)),
            refused: AtomicU64::new(0),
            fillings: Arc::new(Semaphore::new(settings.limits.splits_max.max(1))),
            split_at: Mutex::default(),
            overlays_full: AtomicBool::new(false),
            disk_low: AtomicBool::new(false),
            log_full: AtomicBool::new(false),
            log_overfull: AtomicBool::new(false),
            space: Mutex::default(),
            capacity: NodeCapacity::new(&settings.admission),
            origin: Instant::now(),
            settings,
        }
    }

    /// Whether batches of replication messages may be sent to a node.
    pub(crate) fn reads_batches(&self, node: NodeId) -> bool {
        self.batch_readers.read().contains(&node)
    }

    /// A node said whether it reads batches. It may say otherwise later: its version may have been rolled back.
    pub(crate) fn note_reader(&self, node: NodeId, reads_batches: bool) {
        if self.reads_batches(node) != reads_batches {
            let mut readers = self.batch_readers.write();
            match reads_batches {
                true => readers.insert(node),
                false => readers.remove(&node),
            };
        }
    }

    /// Monotonic time of this node.
    pub(crate) fn now(&self) -> Millis {
        // From 1: 0 stands for "never" here and there.
        Millis(1 + u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX >> 1))
    }

    /// The inbox of the shard that a group is pinned to.
    pub(crate) fn inbox(&self, group: GroupId) -> &Arc<Inbox> {
        &self.inboxes[shard_of(group, self.inboxes.len())]
    }

    /// Where a replica's B-tree is.
    pub(crate) fn replica_folder(&self, group: GroupId) -> PathBuf {
        self.replicas.join(group.0.to_string())
    }

    /// Folder of the B-trees.
    pub(crate) fn replicas_folder(&self) -> &Path {
        &self.replicas
    }

    pub(crate) fn tree_options(&self) -> TreeOptions {
        tree_options(&self.settings)
    }

    pub(crate) fn partition_limits(&self) -> PartitionLimits {
        partition_limits(&self.settings)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// What a shard heard of the others, and its replicas that hear of no leader.
    pub(crate) fn report_peers(
        &self,
        shard: usize,
        peers: &Peers,
        leaderless: Vec<LeaderlessReplica>,
    ) {
        let mut reports = self.reports.lock();
        reports[shard].peers.merge(peers);
        reports[shard].leaderless = leaderless;
    }

    /// What all shards heard of the others since the last call.
    pub(crate) fn take_peers(&self) -> Peers {
        let mut all = Peers::default();
        for report in self.reports.lock().iter_mut() {
            all.merge(&report.peers.take());
        }
        all
    }

    /// Replicas that hear of no leader.
    pub(crate) fn leaderless(&self) -> Vec<LeaderlessReplica> {
        let reports = self.reports.lock();
        let leaderless = reports.iter().flat_map(|r| r.leaderless.iter().cloned());
        leaderless.collect()
    }

    /// A shard's numbers.
    pub(crate) fn report_numbers(&self, shard: usize, numbers: Gathered) {
        self.reports.lock()[shard].numbers = numbers;
        let full = self.numbers().overlay_bytes > self.settings.limits.overlays_bytes_max as u64;
        self.overlays_full.store(full, Ordering::Relaxed);
    }

    /// Whether the overlays of all groups together are too large: no more writes until flushes have caught up.
    pub(crate) fn overlays_full(&self) -> bool {
        self.overlays_full.load(Ordering::Relaxed)
    }

    /// A shard's fenced replicas, and the same in words.
    pub(crate) fn report_fenced(
        &self,
        shard: usize,
        fenced: BTreeMap<GroupId, Reason>,
        troubles: Vec<String>,
    ) {
        let report = &mut self.reports.lock()[shard];
        self.metrics.show_fenced(&report.fenced, &fenced);
        report.fenced = fenced;
        report.troubles = troubles;
    }

    /// Fenced replicas, at most so many as are named.
    pub(crate) fn fenced(&self) -> Vec<GroupId> {
        let reports = self.reports.lock();
        let fenced = reports.iter().flat_map(|report| report.fenced.keys());
        let fenced: BTreeSet<GroupId> = fenced.copied().collect();
        fenced.into_iter().take(FENCED_NAMED_MAX).collect()
    }

    /// Takes so many bytes out of what splits may write: when their taker may go on.
    pub(crate) fn pace_split(&self, now: Millis, bytes: u64) -> Millis {
        let rate = self.settings.limits.split_bytes_per_second_max.max(1);
        let mut at = self.split_at.lock();
        *at = (*at).max(now).plus(bytes.saturating_mul(1_000) / rate);
        *at
    }

    /// Space on the disk, as it was measured last.
    pub(crate) fn space(&self) -> Space {
        *self.space.lock()
    }

    /// Whether the disk, or the log, is so full that no writes are taken.
    pub(crate) fn is_full(&self) -> bool {
        self.disk_low.load(Ordering::Relaxed) || self.log_full.load(Ordering::Relaxed)
    }

    /// Whether not even entries of leaders are taken. While the log alone is full they are, up to a quarter more: what leaders have let in must
    /// be decided, and they refuse what is new as soon as their own logs are full.
    pub(crate) fn refuses_entries(&self) -> bool {
        self.disk_low.load(Ordering::Relaxed) || self.log_overfull.load(Ordering::Relaxed)
    }

    /// The logs that a shard leads.
    pub(crate) fn report_logs(&self, shard: usize, logs: BTreeMap<GroupId, LedLog>) {
        self.reports.lock()[shard].logs = logs;
    }

    /// Logs that the node leads, behind this partition, in the order of their numbers.
    pub(crate) fn led_logs(&self, after: GroupId, max: usize) -> Vec<LedLog> {
        use std::ops::Bound::{Excluded, Unbounded};
        let reports = self.reports.lock();
        let of_shard = |report: &'_ Report| {
            let logs = report.logs.range((Excluded(after), Unbounded));
            logs.take(max)
                .map(|(_, log)| log.clone())
                .collect::<Vec<_>>()
        };
        let mut logs: Vec<LedLog> = reports.iter().flat_map(of_shard).collect();
        logs.sort_by_key(|log| log.partition);
        logs.truncate(max);
        logs
    }

    /// Bytes of the led logs that are not archived, and the age of the oldest entry among them, milliseconds.
    pub(crate) fn unarchived(&self) -> (u64, u64) {
        let reports = self.reports.lock();
        let logs = reports.iter().flat_map(|report| report.logs.values());
        logs.fold((0, 0), |(bytes, age): (u64, u64), log| {
            (bytes + log.unarchived_bytes, age.max(log.unarchived_ms))
        })
    }

    /// Looks whether the log has grown as large as it may while it waits for the archive.
    pub(crate) fn watch_log(&self, log_bytes: u64) {
        let max = self.settings.limits.wal_full_bytes;
        let was_full = self.log_full.load(Ordering::Relaxed);
        let full = self.settings.archive && log_is_full(was_full, log_bytes, max);
        let overfull = self.settings.archive && log_bytes > max.saturating_add(max / 4);
        self.log_overfull.store(overfull, Ordering::Relaxed);
        if full == was_full {
            return;
        }
        self.log_full.store(full, Ordering::Relaxed);
        let (unarchived_bytes, age_ms) = self.unarchived();
        match full {
            true => tracing::error!(
                log_bytes,
                max,
                unarchived_bytes,
                age_ms,
                "the write-ahead log is as large as it may be (storage.limits.wal_full_bytes): no more writes are taken until it is archived; look at the archivers and their store"
            ),
            false => tracing::info!(
                log_bytes,
                "the write-ahead log has room again: writes are taken"
            ),
        }
    }

    /// Measures the space on the disk. Blocks.
    pub(crate) fn measure_space(&self) {
        let before = self.space();
        let measured = Space::measure(&self.settings.data_dir, &self.settings.limits, before);
        let Some(space) = measured else { return };
        *self.space.lock() = space;
        let was_low = self.disk_low.swap(space.low, Ordering::Relaxed);
        let (free_bytes, reserve) = (space.free_bytes, self.settings.limits.disk_reserve_bytes);
        match (was_low, space.low) {
            (false, true) => tracing::error!(
                free_bytes,
                reserve,
                "the disk is nearly full: no more writes are taken, leadership is handed away; free space"
            ),
            (true, false) => tracing::info!(free_bytes, "there is space again: writes are taken"),
            _ => {}
        }
    }

    /// The numbers of all shards.
    pub(crate) fn numbers(&self) -> Gathered {
        let reports = self.reports.lock();
        reports
            .iter()
            .fold(Gathered::default(), |sum, report| sum.plus(report.numbers))
    }

    /// The troubles of all shards.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let reports = self.reports.lock();
        let fenced = reports
            .iter()
            .flat_map(|report| report.troubles.iter().cloned());
        let space = self.space();
        let full = space.low.then(|| {
            format!(
                "the disk is nearly full ({} bytes free): it takes no writes",
                space.free_bytes
            )
        });
        let log_full = self.log_full.load(Ordering::Relaxed).then(|| {
            "the write-ahead log is as large as it may be and waits for the archive: it takes no writes"
                .to_owned()
        });
        full.into_iter()
            .chain(log_full)
            .chain(fenced.take(FENCED_NAMED_MAX))
            .collect()
    }

    /// Brings the gauges up to date; gives what the WAL says.
    pub(crate) fn export(&self, flush_queue: usize) -> WalMetrics {
        let numbers = self.numbers();
        let metrics = &self.metrics;
        let set = |gauge: &prometheus::IntGauge, value: u64| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX))
        };
        // Of what others count since the start.
        let raise = |counter: &prometheus::IntCounter, value: u64| {
            counter.inc_by(value.saturating_sub(counter.get()));
        };
        set(&metrics.replicas, numbers.replicas);
        set(&metrics.leading, numbers.leading);
        let fenced: usize = self.reports.lock().iter().map(|r| r.fenced.len()).sum();
        set(&metrics.fenced, fenced as u64);
        let space = self.space();
        set(&metrics.disk_free_bytes, space.free_bytes);
        set(&metrics.disk_low, u64::from(space.low));
        let log_full = self.log_full.load(Ordering::Relaxed);
        set(&metrics.wal_full, u64::from(log_full));
        let (unarchived_bytes, unarchived_ms) = self.unarchived();
        set(&metrics.unarchived_bytes, unarchived_bytes);
        metrics
            .unarchived_seconds
            .set(unarchived_ms as f64 / 1_000.0);
        set(&metrics.overlay_bytes, numbers.overlay_bytes);
        metrics
            .flush_lag_seconds
            .set(numbers.flush_lag_ms as f64 / 1_000.0);
        metrics
            .index_lag_seconds
            .set(numbers.index_lag_ms as f64 / 1_000.0);
        raise(&metrics.protocol_faults, numbers.faults);
        set(&metrics.leases_held, numbers.leases);
        set(&metrics.replicas_unhealthy, numbers.unhealthy);
        set(&metrics.replicas_copying, numbers.copying);
        set(&metrics.replication_lag_entries, numbers.behind_entries);
        set(&metrics.apply_lag_entries, numbers.unapplied_entries);
        set(&metrics.flush_queue, flush_queue as u64);
        self.scrubs.tidy(self.now());
        set(&metrics.scrubs_running, self.scrubs.running());
        let room = self.capacity.room(self.now());
        set(&metrics.room_read_units, room.read.thousandths() / 1000);
        set(&metrics.room_write_units, room.write.thousandths() / 1000);
        let counts = self.inboxes.iter().map(|inbox| inbox.counts());
        let counts = counts.fold([0; 4], |sum: [usize; 4], one| {
            std::array::from_fn(|i| sum[i] + one[i])
        });
        let [held, held_bytes, shed, dropped] = counts.map(|count| count as u64);
        set(&metrics.requests_held, held);
        set(&metrics.request_bytes_held, held_bytes);
        raise(&metrics.shed, shed);
        raise(&metrics.dropped_messages, dropped);
        let wal = self.wal.metrics();
        raise(&metrics.wal_records, wal.records);
        raise(&metrics.wal_bytes, wal.bytes);
        *metrics.wal.lock() = wal;
        set(&metrics.wal_queue, wal.queue_len);
        set(&metrics.wal_segment_bytes, wal.segment_bytes);
        wal
    }
}

/// The log may grow again after it shrank by this part of its limit: the node must not waver.
const LOG_SLACK_DIVISOR: u64 = 8;

fn log_is_full(was_full: bool, bytes: u64, max: u64) -> bool {
    match was_full {
        true => bytes > max - max / LOG_SLACK_DIVISOR,
        false => bytes >= max,
    }
}

/// Which of `shards` shards a group is pinned to.
pub(crate) fn shard_of(group: GroupId, shards: usize) -> usize {
    (group.0 % shards.max(1) as u64) as usize
}

pub(crate) fn tree_options(settings: &StorageSettings) -> TreeOptions {
    TreeOptions {
        map_bytes: settings.limits.map_bytes,
        ..TreeOptions::default()
    }
}

pub(crate) fn partition_limits(settings: &StorageSettings) -> PartitionLimits {
    PartitionLimits {
        overlay_bytes_max: settings.limits.overlay_bytes_max,
        // Above what the leader trims down to: what is left then is what the indexes lack.
        change_bytes_max: settings
            .changes
            .bytes_max
            .saturating_add(settings.changes.bytes_max / 8),
        ..PartitionLimits::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_does_not_waver() {
        assert!(!log_is_full(false, 799, 800));
        assert!(log_is_full(false, 800, 800));
        assert!(log_is_full(true, 701, 800));
        assert!(!log_is_full(true, 700, 800));
    }
}
