//! What a request passes between its head and its answer, for its trace. Costs nothing when nothing is traced.

use std::cell::{Cell, OnceCell};
use std::sync::Arc;

use model::TableDefinition;
use telemetry::traces;

/// Marks of one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    on: bool,
    /// The table line, the first time; Unix nanoseconds, 0 = not passed.
    admission_ns: Cell<u64>,
    admitted_ns: Cell<u64>,
    table: OnceCell<Arc<TableDefinition>>,
}

impl Marks {
    /// None yet.
    pub(crate) fn new(on: bool) -> Self {
        Self {
            on,
            ..Self::default()
        }
    }

    fn mark(&self, at: &Cell<u64>) {
        if self.on && at.get() == 0 {
            at.set(traces::now_ns());
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
        (self.admission_ns.get(), self.admitted_ns.get())
    }
}
