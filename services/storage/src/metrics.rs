//! What a storage node shows on `/metrics`, labelled with the node so that several nodes of one process stay apart. Owns the
//! names; registers on creation, unregisters when dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use paxos::GroupId;
use prometheus::core::Collector;
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, IntGaugeVec, Opts};

use telemetry::{Families, Name, Sample};
use wal::{SYNC_BOUNDS_US, WalMetrics};

use crate::fence::Reason;

const WAL_SYNC: Name = Name {
    name: "evenkeel_storage_wal_sync_seconds",
    help: "Duration of the write and sync of a batch of the write-ahead log.",
};

/// Metrics of one node.
pub(crate) struct Metrics {
    pub(crate) replicas: IntGauge,
    pub(crate) leading: IntGauge,
    pub(crate) fenced: IntGauge,
    fenced_replica: IntGaugeVec,
    pub(crate) disk_free_bytes: IntGauge,
    pub(crate) disk_low: IntGauge,
    pub(crate) wal_full: IntGauge,
    pub(crate) unarchived_bytes: IntGauge,
    pub(crate) unarchived_seconds: Gauge,
    pub(crate) proposals: IntCounter,
    pub(crate) strong_reads: IntCounter,
    pub(crate) eventual_reads: IntCounter,
    pub(crate) pages: IntCounter,
    pub(crate) forwarded: IntCounter,
    pub(crate) expired: IntCounter,
    pub(crate) expired_items: IntCounter,
    pub(crate) changes_cut: IntCounter,
    pub(crate) throttled_reads: IntCounter,
    pub(crate) throttled_writes: IntCounter,
    pub(crate) room_read_units: IntGauge,
    pub(crate) room_write_units: IntGauge,
    pub(crate) shed: IntCounter,
    pub(crate) requests_held: IntGauge,
    pub(crate) request_bytes_held: IntGauge,
    pub(crate) dropped_messages: IntCounter,
    pub(crate) unsent_messages: IntCounter,
    pub(crate) overlay_bytes: IntGauge,
    pub(crate) flush_lag_seconds: Gauge,
    pub(crate) index_lag_seconds: Gauge,
    pub(crate) index_runs: IntCounter,
    pub(crate) index_failures: IntCounter,
    pub(crate) flush_queue: IntGauge,
    pub(crate) copies_installed: IntCounter,
    pub(crate) children_installed: IntCounter,
    pub(crate) copies_running: IntGauge,
    pub(crate) copied_bytes: IntCounter,
    pub(crate) scrubs_running: IntGauge,
    pub(crate) scrubbed_bytes: IntCounter,
    pub(crate) turn_seconds: Histogram,
    pub(crate) protocol_faults: IntCounter,
    pub(crate) wal_records: IntCounter,
    pub(crate) wal_bytes: IntCounter,
    pub(crate) wal_queue: IntGauge,
    pub(crate) wal_segment_bytes: IntGauge,
    pub(crate) elections_started: IntCounter,
    pub(crate) elections_won: IntCounter,
    pub(crate) leases_held: IntGauge,
    pub(crate) replicas_unhealthy: IntGauge,
    pub(crate) replicas_copying: IntGauge,
    pub(crate) replication_lag_entries: IntGauge,
    pub(crate) apply_lag_entries: IntGauge,
    /// What the log said last.
    pub(crate) wal: Arc<Mutex<WalMetrics>>,
    registered: Vec<Box<dyn Collector>>,
}

/// Makes and registers the metrics of one node.
struct Maker {
    node: String,
    registered: Vec<Box<dyn Collector>>,
}

impl Maker {
    fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(format!("evenkeel_storage_{name}"), help).const_label("node", &self.node)
    }

    fn register(&mut self, metric: impl Collector + Clone + 'static) {
        // Twice the same node in one process (tests): the second stays unseen.
        if prometheus::register(Box::new(metric.clone())).is_ok() {
            self.registered.push(Box::new(metric));
        }
    }

    fn gauge(&mut self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        let gauge = IntGauge::with_opts(self.opts(name, help))?;
        self.register(gauge.clone());
        Ok(gauge)
    }

    fn real(&mut self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        let gauge = Gauge::with_opts(self.opts(name, help))?;
        self.register(gauge.clone());
        Ok(gauge)
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        let gauges = IntGaugeVec::new(self.opts(name, help), labels)?;
        self.register(gauges.clone());
        Ok(gauges)
    }

    fn counter(&mut self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        let counter = IntCounter::with_opts(self.opts(name, help))?;
        self.register(counter.clone());
        Ok(counter)
    }

    /// The durations of the log's syncs, as it counts them itself.
    fn syncs(&mut self) -> Arc<Mutex<WalMetrics>> {
        let last: Arc<Mutex<WalMetrics>> = Arc::default();
        let (read, node) = (last.clone(), self.node.clone());
        let samples = move || {
            let wal = *read.lock();
            let histogram = Sample::Histogram {
                bounds: SYNC_BOUNDS_US.iter().map(|&us| us as f64 / 1e6).collect(),
                counts: wal.sync_buckets.to_vec(),
                sum: wal.sync_us as f64 / 1e6,
            };
            vec![vec![(vec![("node", node.clone())], histogram)]]
        };
        let fixed = [("node", self.node.clone())];
        self.register(Families::new(&[WAL_SYNC], &fixed, samples));
        last
    }

    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        buckets: Vec<f64>,
    ) -> Result<Histogram, prometheus::Error> {
        let opts = HistogramOpts::from(self.opts(name, help)).buckets(buckets);
        let histogram = Histogram::with_opts(opts)?;
        self.register(histogram.clone());
        Ok(histogram)
    }
}

impl Metrics {
    pub(crate) fn register(node: u64) -> Result<Self, prometheus::Error> {
        let mut make = Maker {
            node: node.to_string(),
            registered: Vec::new(),
        };
        let turns = prometheus::exponential_buckets(0.000_02, 4.0, 9)?;
        Ok(Self {
            replicas: make.gauge("replicas", "Replicas hosted.")?,
            leading: make.gauge("leading", "Groups that this node leads and serves.")?,
            fenced: make.gauge(
                "fenced_replicas",
                "Replicas on disk that are not served: damaged.",
            )?,
            fenced_replica: make.gauges(
                "fenced_replica",
                "1 for each replica that is not served, with the reason.",
                &["group", "reason"],
            )?,
            disk_free_bytes: make.gauge("disk_free_bytes", "Bytes free for this node.")?,
            disk_low: make.gauge(
                "disk_low",
                "1 while the disk is nearly full: the node takes no writes.",
            )?,
            wal_full: make.gauge(
                "wal_full",
                "1 while the log waits for the archive and is as large as it may be: the node takes no writes.",
            )?,
            unarchived_bytes: make.gauge(
                "unarchived_bytes",
                "Bytes of committed entries of the groups led here that are not archived.",
            )?,
            unarchived_seconds: make
                .real("unarchived_age_seconds", "Age of the oldest of them.")?,
            proposals: make.counter("proposals_total", "Commands proposed.")?,
            strong_reads: make.counter("strong_reads_total", "Strong reads of one item.")?,
            eventual_reads: make.counter("eventual_reads_total", "Eventual reads of one item.")?,
            pages: make.counter("pages_total", "Pages read.")?,
            forwarded: make.counter(
                "forwarded_requests_total",
                "Requests passed on to a node that their sender could not reach.",
            )?,
            expired_items: make.counter(
                "expired_items_total",
                "Items that leaders deleted because their time to live was over.",
            )?,
            changes_cut: make.counter(
                "change_records_cut_total",
                "Times that change records were trimmed before their time, because there were too many.",
            )?,
            expired: make.counter(
                "expired_requests_total",
                "Requests dropped past their deadline.",
            )?,
            throttled_reads: make.counter(
                "throttled_reads_total",
                "Reads refused: their partition had no read units left.",
            )?,
            throttled_writes: make.counter(
                "throttled_writes_total",
                "Writes refused: their partition had no write units left.",
            )?,
            room_read_units: make.gauge(
                "room_read_units",
                "Read units of the last second that the node had left for bursts.",
            )?,
            room_write_units: make.gauge(
                "room_write_units",
                "Write units of the last second that the node had left for bursts.",
            )?,
            shed: make.counter("shed_requests_total", "Requests shed: the shard was full.")?,
            requests_held: make
                .gauge("requests_held", "Requests queued or waiting for a commit.")?,
            request_bytes_held: make.gauge("request_bytes_held", "Bytes of those requests.")?,
            dropped_messages: make.counter(
                "dropped_messages_total",
                "Replication messages dropped: queue full.",
            )?,
            unsent_messages: make.counter(
                "unsent_messages_total",
                "Replication messages that the bus did not take.",
            )?,
            overlay_bytes: make
                .gauge("overlay_bytes", "Applied writes that no B-tree holds yet.")?,
            index_lag_seconds: make.real(
                "index_lag_seconds",
                "Age of the oldest change that a global index lacks, of tables led here.",
            )?,
            index_runs: make.counter(
                "index_runs_total",
                "Runs of changes brought into global indexes.",
            )?,
            index_failures: make.counter(
                "index_failures_total",
                "Runs that an index did not take; they are sent again.",
            )?,
            flush_lag_seconds: make.real(
                "flush_lag_seconds",
                "Age of the oldest applied, unflushed write.",
            )?,
            flush_queue: make.gauge("flush_queue", "Flushes that wait for a thread.")?,
            copies_installed: make.counter(
                "copies_installed_total",
                "Full copies that replaced a replica's B-tree.",
            )?,
            children_installed: make.counter(
                "splits_installed_total",
                "Splits whose children's replicas were installed here.",
            )?,
            copies_running: make.gauge("copies_running", "Full copies being pulled.")?,
            copied_bytes: make.counter(
                "copied_bytes_total",
                "Bytes of keys and items pulled in full copies.",
            )?,
            scrubs_running: make.gauge("scrubs_running", "Replicas being digested for a scrub.")?,
            scrubbed_bytes: make.counter(
                "scrubbed_bytes_total",
                "Bytes of keys, items and files read for scrubs.",
            )?,
            turn_seconds: make.histogram("turn_seconds", "Duration of a shard's turn.", turns)?,
            protocol_faults: make.counter(
                "protocol_faults_total",
                "Messages that broke the replication protocol; must be 0.",
            )?,
            wal_records: make.counter("wal_records_total", "Records written to the log.")?,
            wal_bytes: make.counter("wal_written_bytes_total", "Bytes written to the log.")?,
            wal_queue: make.gauge("wal_queue", "Appends that wait for the log's thread.")?,
            wal_segment_bytes: make.gauge("wal_segment_bytes", "Bytes of the log on disk.")?,
            elections_started: make.counter(
                "elections_started_total",
                "Elections that a replica here stood in, hand-overs included.",
            )?,
            elections_won: make.counter(
                "elections_won_total",
                "Times that a replica here became the serving leader.",
            )?,
            leases_held: make.gauge(
                "leases_held",
                "Groups whose leader here holds a lease: it may serve strong reads.",
            )?,
            replicas_unhealthy: make.gauge(
                "unhealthy_replicas",
                "Replicas that hear of no leader, and leaders without a recent quorum.",
            )?,
            replicas_copying: make.gauge(
                "copying_replicas",
                "Replicas that wait for a full copy.",
            )?,
            replication_lag_entries: make.gauge(
                "replication_lag_entries",
                "Entries that the follower that is farthest behind lacks, of all groups led here.",
            )?,
            apply_lag_entries: make.gauge(
                "apply_lag_entries",
                "Committed entries that the replica farthest behind here has not applied.",
            )?,
            wal: make.syncs(),
            registered: make.registered,
        })
    }
}

impl Metrics {
    /// Shows a shard's fenced replicas one by one; `before` are those that were shown.
    pub(crate) fn show_fenced(
        &self,
        before: &BTreeMap<GroupId, Reason>,
        now: &BTreeMap<GroupId, Reason>,
    ) {
        for (group, reason) in before {
            let group = group.0.to_string();
            // Only fails for what is not shown.
            let _ = self
                .fenced_replica
                .remove_label_values(&[&group, reason.name()]);
        }
        for (group, reason) in now {
            let group = group.0.to_string();
            self.fenced_replica
                .with_label_values(&[group.as_str(), reason.name()])
                .set(1);
        }
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        for metric in self.registered.drain(..) {
            // Only fails for what was not registered.
            let _ = prometheus::unregister(metric);
        }
    }
}
