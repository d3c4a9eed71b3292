//! What a request passes between its head and its answer, for its trace. Costs nothing when nothing is traced.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use model::TableDefinition;
use telemetry::traces;

/// Marks of one request.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    on: bool,
    /// The table line, the first time; Unix nanoseconds, 0 = not passed.
    admission_ns: AtomicU64,
    admitted_ns: AtomicU64,
    table: OnceLock<Arc<TableDefinition>>,
}

/// A part of a request that goes its own way has marks of its own.
impl Clone for Marks {
    fn clone(&self) -> Self {
        Self::new(self.on)
    }
}

impl Marks {
    /// None yet.
    pub(crate) fn new(on: bool) -> Self {
        Self {
            on,
            ..Self::default()
        }
    }

    fn mark(&self, at: &AtomicU64) {
        if self.on && at.load(Ordering::Relaxed) == 0 {
            at.store(traces::now_ns(), Ordering::Relaxed);
        }
    }

    /// The table is found. A batch names several: the first one counts.
    pub(crate) fn table(&self, table: &Arc<TableDefinition>) {
        if self.on && self.table.get().is_none() {
            let _ = self.table.set(table.clone());
        }
    }

    /// The table line comes next.
    pub(crate) fn admission(&self) {
        self.mark(&self.admission_ns);
    }

    /// It let the request through, or not.
    pub(crate) fn admitted(&self) {
        self.mark(&self.admitted_ns);
    }

    /// The table, if one was found.
    pub(crate) fn table_found(&self) -> Option<&Arc<TableDefinition>> {
        self.table.get()
    }

    /// When the request came to the table line and when it was through.
    pub(crate) fn admission_ns(&self) -> (u64, u64) {
        let load = |at: &AtomicU64| at.load(Ordering::Relaxed);
        (load(&self.admission_ns), load(&self.admitted_ns))
    }
}
