//! What all parts of an instance share: settings, the ways to storage nodes and store, what is known of both, alarms and numbers. Decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use objects::{ArchiveReader, ArchiveWriter, Objects};
use parking_lot::Mutex;
use paxos::{GroupId, Index};
use protocol::archive::{ArchivedTable, TablePolicy};
use protocol::health::ArchiveHealth;
use telemetry::traces::Flows;
use tokens::Ring;

use crate::ArchiverSettings;
use crate::alarms::Alarms;
use crate::source::Source;
use crate::survey::{Known, Survey};
use crate::suspects::Suspects;
use crate::trouble::{KINDS, Kind, Trouble};

/// How far a partition's archive goes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reach {
    /// Everything up to this position.
    pub(crate) end: Index,
    /// Greatest time of the commands up to there, milliseconds since the epoch.
    pub(crate) time_ms: u64,
    /// Every command stamped up to this time is archived, milliseconds since the epoch.
    through_ms: u64,
}

/// Counters since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) segments: AtomicU64,
    pub(crate) segment_bytes: AtomicU64,
    pub(crate) entries: AtomicU64,
    pub(crate) snapshots: AtomicU64,
    pub(crate) snapshot_bytes: AtomicU64,
    pub(crate) deleted: AtomicU64,
    errors: [AtomicU64; KINDS],
}

/// What is shared.
pub(crate) struct Desk {
    pub(crate) settings: ArchiverSettings,
    pub(crate) source: Source,
    pub(crate) objects: Objects,
    pub(crate) reader: ArchiveReader,
    pub(crate) writer: ArchiveWriter,
    pub(crate) survey: Mutex<Survey>,
    pub(crate) ring: Mutex<Ring>,
    pub(crate) reaches: Mutex<BTreeMap<GroupId, Reach>>,
    /// What is to be kept, by the tables' uuids; none: the admin was not heard yet.
    pub(crate) policies: Mutex<Option<BTreeMap<String, TablePolicy>>>,
    pub(crate) alarms: Alarms,
    pub(crate) suspects: Mutex<Suspects>,
    /// Partitions of which a snapshot is wanted.
    pub(crate) wishes: Mutex<BTreeSet<GroupId>>,
    pub(crate) counts: Counts,
    pub(crate) flows: Flows,
    pub(crate) store_up: Arc<AtomicBool>,
    /// What the probe found: 0 = nothing yet, 1 = honest, 2 = not.
    pub(crate) probed: AtomicU64,
    /// Snapshots may read on then.
    pub(crate) snapshot_at: tokio::sync::Mutex<Instant>,
    started: Instant,
}

impl Desk {
    pub(crate) fn new(
        settings: ArchiverSettings,
        source: Source,
        objects: Objects,
        flows: Flows,
    ) -> Self {
        Self {
            settings,
            source,
            reader: ArchiveReader::new(objects.clone()),
            writer: ArchiveWriter::new(objects.clone()),
            objects,
            survey: Mutex::default(),
            ring: Mutex::default(),
            reaches: Mutex::default(),
            policies: Mutex::default(),
            alarms: Alarms::default(),
            suspects: Mutex::default(),
            wishes: Mutex::default(),
            counts: Counts::default(),
            flows,
            store_up: Arc::default(),
            probed: AtomicU64::new(0),
            snapshot_at: tokio::sync::Mutex::new(Instant::now()),
            started: Instant::now(),
        }
    }

    /// Monotonic time of this instance, milliseconds.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A log that was described lately.
    pub(crate) fn log(&self, partition: GroupId) -> Option<Arc<Known>> {
        self.survey.lock().log(partition, self.now_ms())
    }

    /// The logs that this instance looks after.
    pub(crate) fn own_logs(&self) -> Vec<Arc<Known>> {
        let ring = self.ring.lock();
        let survey = self.survey.lock();
        let own = survey
            .logs()
            .filter(|known| ring.of_number(known.log.partition.0) == Some(self.settings.instance));
        own.cloned().collect()
    }

    /// A snapshot of a partition is wanted, if this instance looks after it.
    pub(crate) fn wish(&self, partition: GroupId) {
        let own = self.ring.lock().of_number(partition.0) == Some(self.settings.instance);
        let mut wishes = self.wishes.lock();
        if own && wishes.len() < WISHES_MAX {
            wishes.insert(partition);
        }
    }

    /// The archive of a partition goes so far.
    pub(crate) fn reached(&self, partition: GroupId, end: Index, time_ms: u64) {
        let mut reaches = self.reaches.lock();
        let reach = reaches.entry(partition).or_default();
        (reach.end, reach.time_ms) = (end, time_ms);
    }

    /// Forgets how far partitions reach that are not looked after any more.
    pub(crate) fn keep_reaches(&self, own: &BTreeSet<GroupId>) {
        self.reaches
            .lock()
            .retain(|partition, _| own.contains(partition));
    }

    /// How far the tables are of whose partitions this instance looks after some.
    pub(crate) fn tables(&self) -> Vec<ArchivedTable> {
        let mut tables: BTreeMap<String, ArchivedTable> = BTreeMap::new();
        let own = self.own_logs();
        let mut reaches = self.reaches.lock();
        for known in &own {
            let log = &known.log;
            let reach = reaches.entry(log.partition).or_default();
            // A partition that ended and is archived to its end holds nothing back.
            if log.ended && reach.end >= log.committed {
                continue;
            }
            let closed_ms = match log.closed <= reach.end {
                true => log.closed_ms,
                // The next command may be of the same millisecond.
                false => reach.time_ms.saturating_sub(1),
            };
            reach.through_ms = reach.through_ms.max(closed_ms);
            let table = tables
                .entry(log.table_uuid.clone())
                .or_insert(ArchivedTable {
                    table: log.table,
                    uuid: log.table_uuid.clone(),
                    partitions: Vec::new(),
                    through_ms: u64::MAX,
                });
            table.partitions.push(log.partition);
            table.through_ms = table.through_ms.min(reach.through_ms);
        }
        tables.into_values().collect()
    }

    /// Something could not be done for a partition.
    pub(crate) fn note(&self, partition: GroupId, trouble: &Trouble) {
        let kind = trouble.kind();
        self.counts.errors[kind as usize].fetch_add(1, Relaxed);
        match kind {
            Kind::Store => {
                self.store_answered(Err(trouble.to_string()));
                tracing::debug!(partition = partition.0, %trouble, "not archived yet");
            }
            Kind::Source => tracing::debug!(partition = partition.0, %trouble, "not archived yet"),
            Kind::Contradiction | Kind::Refused => self.alarms.raise(
                contradiction(partition),
                format!(
                    "partition {} is not archived any further: {trouble}",
                    partition.0
                ),
            ),
        }
    }

    /// The store answered, or did not.
    pub(crate) fn store_answered(&self, answer: Result<(), String>) {
        let up = answer.is_ok();
        let was_up = self.store_up.swap(up, Relaxed);
        match answer {
            Ok(()) if !was_up => self.alarms.clear(STORE_DOWN),
            Ok(()) => {}
            Err(why) => self.alarms.raise(
                STORE_DOWN.to_owned(),
                format!("the object store does not take what is to be archived: {why}"),
            ),
        }
    }

    /// For the heartbeat.
    pub(crate) fn health(&self) -> ArchiveHealth {
        let own = self.own_logs();
        ArchiveHealth {
            partitions: own.len() as u64,
            unarchived_bytes: own.iter().map(|known| known.log.unarchived_bytes).sum(),
            lag_ms: own
                .iter()
                .map(|known| known.log.unarchived_ms)
                .max()
                .unwrap_or(0),
            store_up: self.store_up.load(Relaxed),
        }
    }

    /// For the heartbeat, and `ctl health`.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let health = self.health();
        let late = (health.lag_ms >= self.settings.lag_alarm_ms).then(|| {
            format!(
                "{} bytes wait to be archived, the oldest for {} s",
                health.unarchived_bytes,
                health.lag_ms / 1_000
            )
        });
        let mut troubles = self.alarms.texts();
        troubles.extend(late);
        troubles
    }

    /// For `/metrics`.
    pub(crate) fn numbers(&self) -> telemetry::Values {
        let (health, counts) = (self.health(), &self.counts);
        let errors = |kind: Kind| counts.errors[kind as usize].load(Relaxed);
        vec![
            ("partitions", health.partitions),
            ("unarchived_bytes", health.unarchived_bytes),
            ("lag_seconds", health.lag_ms / 1_000),
            ("store_up", u64::from(health.store_up)),
            ("store_conditional_put", self.probed.load(Relaxed)),
            ("alarms", self.alarms.texts().len() as u64),
            ("segments_total", counts.segments.load(Relaxed)),
            ("segment_bytes_total", counts.segment_bytes.load(Relaxed)),
            ("entries_total", counts.entries.load(Relaxed)),
            ("snapshots_total", counts.snapshots.load(Relaxed)),
            ("snapshot_bytes_total", counts.snapshot_bytes.load(Relaxed)),
            ("deleted_total", counts.deleted.load(Relaxed)),
            ("errors_store_total", errors(Kind::Store)),
            ("errors_source_total", errors(Kind::Source)),
            ("errors_refused_total", errors(Kind::Refused)),
            ("errors_contradiction_total", errors(Kind::Contradiction)),
        ]
    }
}

/// What the numbers for the metrics are, by name.
pub(crate) const WORDS: telemetry::Words = &[
    ("partitions", "Partitions that this instance looks after."),
    (
        "unarchived_bytes",
        "Bytes of their logs that are committed and not archived.",
    ),
    (
        "lag_seconds",
        "Age of the oldest entry that is committed and not archived.",
    ),
    ("store_up", "1 if the object store answered last."),
    (
        "store_conditional_put",
        "Whether the object store refuses to overwrite where it is told to: 1 it does, 2 it does not, 0 not tried yet.",
    ),
    (
        "alarms",
        "Troubles that stand: the store, or partitions whose archive goes no further.",
    ),
    (
        "segments_total",
        "Segments of logs that were put into the store.",
    ),
    ("segment_bytes_total", "Bytes of these segments."),
    ("entries_total", "Entries of logs in these segments."),
    (
        "snapshots_total",
        "Snapshots of partitions that were put into the store.",
    ),
    ("snapshot_bytes_total", "Bytes of these snapshots."),
    (
        "deleted_total",
        "Objects that retention deleted from the store.",
    ),
    ("errors_store_total", "Errors of the object store."),
    (
        "errors_source_total",
        "Errors of storage nodes that were asked for their logs.",
    ),
    (
        "errors_refused_total",
        "Segments that were refused before their upload because a check failed.",
    ),
    (
        "errors_contradiction_total",
        "Contradictions between replicas, or between a log and the store: nothing is overwritten then.",
    ),
];

/// Snapshots that are wanted at most; the scrubber asks again.
const WISHES_MAX: usize = 256;

/// Name of the alarm that the store is down.
const STORE_DOWN: &str = "store";

/// Name of the alarm that a partition is not archived any further.
pub(crate) fn contradiction(partition: GroupId) -> String {
    format!("partition {}", partition.0)
}
