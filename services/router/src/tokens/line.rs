//! The shares of this router's tables, behind a lock that is held for one decision at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use model::capacity::Direction;
use model::{ApiError, TableDefinition, Units};
use parking_lot::Mutex;
use tokens::{Admission, Ring, ShareSettings, Shares};

/// The table line of a router. Cheap to clone; clones share it.
#[derive(Clone)]
pub(crate) struct TableLine {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    started: Instant,
    region: String,
    pub(super) shares: Mutex<Shares>,
    pub(super) ring: Mutex<Ring>,
    refused: [AtomicU64; 2],
    pub(super) taken: AtomicU64,
    pub(super) unasked: AtomicU64,
}

/// A request that was let in. Dropped without being settled, it counts as executed: its outcome is not known.
pub(crate) struct Entered {
    line: TableLine,
    admission: Option<Admission>,
    sure: Units,
}

impl Entered {
    /// What the request cost: nothing, if it was certainly not executed.
    pub(crate) fn settle(mut self, cost: Units) {
        self.finish(cost);
    }

    fn finish(&mut self, cost: Units) {
        if let Some(admission) = self.admission.take() {
            let shared = &self.line.shared;
            let now_ms = shared.now_ms();
            shared.shares.lock().settle(now_ms, admission, cost);
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.finish(self.sure);
    }
}

impl TableLine {
    /// Of the router with this instance number; `region` is named in errors.
    pub(crate) fn new(
        settings: ShareSettings,
        router: u64,
        incarnation: u64,
        region: &str,
    ) -> Self {
        let shared = Shared {
            started: Instant::now(),
            region: region.to_owned(),
            shares: Mutex::new(Shares::new(settings, router, incarnation)),
            ring: Mutex::default(),
            refused: [AtomicU64::new(0), AtomicU64::new(0)],
            taken: AtomicU64::new(0),
            unasked: AtomicU64::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Lets a request in that surely costs `sure`, or gives the error that tells the client to slow down.
    pub(crate) fn enter(
        &self,
        table: &TableDefinition,
        direction: Direction,
        sure: Units,
    ) -> Result<Entered, ApiError> {
        let shared = &self.shared;
        let now_ms = shared.now_ms();
        let admitted = shared.shares.lock().admit(now_ms, table, direction, sure);
        match admitted {
            Ok(admission) => Ok(Entered {
                line: self.clone(),
                admission,
                sure,
            }),
            Err(limit) => {
                shared.refused[direction as usize].fetch_add(1, Relaxed);
                let arn = table.arn(&shared.region);
                Err(ApiError::throttled(limit, direction, table.billing, &arn))
            }
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What is exported.
    pub(crate) fn numbers(&self) -> telemetry::Values {
        let shared = &self.shared;
        let [reads, writes] = shared.shares.lock().totals();
        let whole = |units: Units| units.thousandths() / 1000;
        vec![
            (
                "gac_instances",
                shared.ring.lock().instances().count() as u64,
            ),
            ("read_consumed_units", whole(reads.0)),
            ("read_refused_units", whole(reads.1)),
            ("write_consumed_units", whole(writes.0)),
            ("write_refused_units", whole(writes.1)),
            ("reads_refused_total", shared.refused[0].load(Relaxed)),
            ("writes_refused_total", shared.refused[1].load(Relaxed)),
            ("answers_taken_total", shared.taken.load(Relaxed)),
            ("answers_unasked_total", shared.unasked.load(Relaxed)),
        ]
    }
}

/// What the numbers for the metrics are, by name.
pub(crate) const WORDS: telemetry::Words = &[
    (
        "gac_instances",
        "Instances of global admission control that are heard.",
    ),
    (
        "read_consumed_units",
        "Read units consumed since the start, of the tables that this router keeps count of.",
    ),
    (
        "read_refused_units",
        "Read units refused since the start, of the tables that this router keeps count of.",
    ),
    (
        "write_consumed_units",
        "Write units consumed since the start, of the tables that this router keeps count of.",
    ),
    (
        "write_refused_units",
        "Write units refused since the start, of the tables that this router keeps count of.",
    ),
    (
        "reads_refused_total",
        "Reads refused for want of their table's throughput.",
    ),
    (
        "writes_refused_total",
        "Writes refused for want of their table's throughput.",
    ),
    (
        "answers_taken_total",
        "Answers of global admission control that were taken.",
    ),
    (
        "answers_unasked_total",
        "Answers that were late, repeated or not asked for.",
    ),
];

impl Shared {
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
