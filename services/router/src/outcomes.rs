//! What becomes of customers' requests, by table: for `/metrics`, and for the canaries, which tell availability from it. A backend in front of all
//! others that counts and never decides; a request costs it two looks at the clock and a few atomic additions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use availability::{BOUNDS_MS, BUCKETS, Class, Counts};
use mesh::Mesh;
use model::{ApiError, EncodedKey, ErrorKind, TableDefinition, TableId};
use parking_lot::RwLock;
use protocol::canary::{OutcomeReport, TABLES_MAX, TableOutcomes};
use protocol::control::{ApiCall, ApiReply};
use protocol::item::{ItemOperation, ItemReply, Page, PageReply};
use protocol::subjects;
use protocol::transact::Transact;
use telemetry::{Name, Sample, Samples};

use crate::backend::{Backend, Context};

/// Time between reports to the canaries.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// A table that was not used for so long is left out of reports: whoever lost one has had several more.
const REPORTED_MS: u64 = 30_000;
/// A table that was not used for so long makes room for another.
const IDLE_MS: u64 = 600_000;
/// The name under which tables beyond `TABLES_MAX` are counted together; no table can have it.
const OTHERS: &str = "(others)";
/// How a request ended, as a label; in the order of `Cells::outcomes`.
const OUTCOMES: [&str; 4] = ["ok", "client_error", "throttled", "server_error"];

const NAMES: [Name; 2] = [
    Name {
        name: "evenkeel_router_table_requests_total",
        help: "Item requests and pages by table, class and outcome; each item of a batch is one.",
    },
    Name {
        name: "evenkeel_router_table_request_seconds",
        help: "Time to the answers of item requests and pages, by table and class.",
    },
];

/// One class of requests for one table.
#[derive(Default)]
struct Cells {
    outcomes: [AtomicU64; 4],
    latency: [AtomicU64; BUCKETS],
    micros: AtomicU64,
}

impl Cells {
    fn count(&self, outcome: usize, took: Duration) {
        self.outcomes[outcome].fetch_add(1, Relaxed);
        // Refusals take no time, and failures as long as somebody had patience.
        if outcome < 2 {
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            let bucket = BOUNDS_MS.iter().position(|&bound| micros <= bound * 1_000);
            self.latency[bucket.unwrap_or(BUCKETS - 1)].fetch_add(1, Relaxed);
            self.micros.fetch_add(micros, Relaxed);
        }
    }

    fn counts(&self) -> Counts {
        let of = |outcome: usize| self.outcomes[outcome].load(Relaxed);
        Counts {
            good: of(0) + of(1),
            throttled: of(2),
            failed: of(3),
            unreachable: 0,
            latency: std::array::from_fn(|bucket| self.latency[bucket].load(Relaxed)),
        }
    }
}

struct Table {
    name: String,
    classes: [Cells; 3],
    /// When it was used last, milliseconds since the start.
    used_ms: AtomicU64,
}

impl Table {
    fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            classes: Default::default(),
            used_ms: AtomicU64::new(0),
        }
    }
}

/// All tables. Cheap to clone; clones share it.
#[derive(Clone)]
pub(crate) struct Outcomes {
    shared: Arc<Shared>,
}

struct Shared {
    started: Instant,
    tables: RwLock<BTreeMap<String, Arc<Table>>>,
    others: Arc<Table>,
}

/// How an error is told of, as an index into `OUTCOMES`.
fn outcome_of<T>(result: &Result<T, ApiError>) -> usize {
    match result {
        Ok(_) => 0,
        Err(error) if error.is_throttling() => 2,
        Err(error) => match error.kind {
            ErrorKind::InternalServerError | ErrorKind::ServiceUnavailable => 3,
            _ => 1,
        },
    }
}

impl Outcomes {
    pub(crate) fn new() -> Self {
        let shared = Shared {
            started: Instant::now(),
            tables: RwLock::default(),
            others: Arc::new(Table::named(OTHERS)),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn count(&self, table: &str, class: Class, outcome: usize, took: Duration) {
        let now_ms = self.now_ms();
        let count = |table: &Table| {
            table.classes[class.index()].count(outcome, took);
            // 0: never.
            table.used_ms.store(now_ms.max(1), Relaxed);
        };
        if let Some(table) = self.shared.tables.read().get(table) {
            return count(table);
        }
        count(&self.table(table, now_ms));
    }

    /// The table's counts, made if there is room.
    fn table(&self, name: &str, now_ms: u64) -> Arc<Table> {
        let mut tables = self.shared.tables.write();
        if let Some(table) = tables.get(name) {
            return table.clone();
        }
        if tables.len() >= TABLES_MAX {
            tables.retain(|_, table| now_ms.saturating_sub(table.used_ms.load(Relaxed)) < IDLE_MS);
        }
        if tables.len() >= TABLES_MAX {
            return self.shared.others.clone();
        }
        let table = Arc::new(Table::named(name));
        tables.insert(name.to_owned(), table.clone());
        table
    }

    fn all(&self) -> Vec<Arc<Table>> {
        let tables = self.shared.tables.read();
        tables
            .values()
            .chain([&self.shared.others])
            .cloned()
            .collect()
    }

    fn report(&self, router: u64, incarnation: u64, zone: &str) -> OutcomeReport {
        let now_ms = self.now_ms();
        let lately = |table: &&Arc<Table>| {
            let used_ms = table.used_ms.load(Relaxed);
            used_ms > 0 && now_ms.saturating_sub(used_ms) < REPORTED_MS
        };
        let tables = self.all();
        let tables = tables.iter().filter(lately).map(|table| TableOutcomes {
            table: table.name.clone(),
            classes: std::array::from_fn(|class| table.classes[class].counts()),
        });
        OutcomeReport {
            router,
            incarnation,
            zone: zone.to_owned(),
            counting_ms: now_ms,
            tables: tables.collect(),
        }
    }

    fn samples(&self) -> Vec<Samples> {
        let (mut requests, mut seconds) = (Samples::new(), Samples::new());
        for table in self.all() {
            for class in Class::ALL {
                let cells = &table.classes[class.index()];
                let labels = [
                    ("table", table.name.clone()),
                    ("class", class.name().to_owned()),
                ];
                let counts = cells.counts();
                for (place, outcome) in OUTCOMES.into_iter().enumerate() {
                    let value = Sample::Counter(cells.outcomes[place].load(Relaxed) as f64);
                    let outcome = ("outcome", outcome.to_owned());
                    requests.push(([&labels[..], &[outcome]].concat(), value));
                }
                let histogram = Sample::Histogram {
                    bounds: BOUNDS_MS.iter().map(|&ms| ms as f64 / 1_000.0).collect(),
                    counts: counts.latency.to_vec(),
                    sum: cells.micros.load(Relaxed) as f64 / 1_000_000.0,
                };
                seconds.push((labels.to_vec(), histogram));
            }
        }
        vec![requests, seconds]
    }

    /// Shows the counts on `/metrics`.
    pub(crate) fn export(&self) {
        let shown = self.clone();
        telemetry::export_families(&NAMES, move || shown.samples());
    }

    /// Reports to the canaries until the task is dropped.
    pub(crate) fn reporter(&self, mesh: Mesh, zone: String) -> Reporter {
        let outcomes = self.clone();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(REPORT_EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let identity = mesh.identity();
                let report = outcomes.report(identity.instance, identity.incarnation, &zone);
                if !report.tables.is_empty() {
                    // A lost report is made up for by the next one.
                    let _ = mesh.cast(subjects::OUTCOMES, &report);
                }
            }
        });
        Reporter { task }
    }
}

/// Reports until it is dropped.
pub(crate) struct Reporter {
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A backend whose outcomes are counted.
#[derive(Clone)]
pub(crate) struct Watched<B> {
    pub(crate) backend: B,
    pub(crate) outcomes: Outcomes,
}

/// A request under way. One that is given up after its time was a failure; one whose client hung up was none.
struct Underway<'a> {
    outcomes: &'a Outcomes,
    context: &'a Context,
    table: &'a str,
    class: Class,
    began: Instant,
    ended: bool,
}

impl Underway<'_> {
    fn end<T>(mut self, result: &Result<T, ApiError>) {
        self.ended = true;
        let took = self.began.elapsed();
        self.outcomes
            .count(self.table, self.class, outcome_of(result), took);
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if !self.ended && self.context.deadline.expired() {
            let took = self.began.elapsed();
            self.outcomes.count(self.table, self.class, 3, took);
        }
    }
}

impl<B> Watched<B> {
    fn begin<'a>(&'a self, table: &'a str, class: Class, context: &'a Context) -> Underway<'a> {
        Underway {
            outcomes: &self.outcomes,
            context,
            table,
            class,
            began: Instant::now(),
            ended: false,
        }
    }
}

fn reads(strong: bool) -> Class {
    match strong {
        true => Class::StrongRead,
        false => Class::EventualRead,
    }
}

impl<B: Backend> Backend for Watched<B> {
    async fn table(&self, name: &str, context: &Context) -> Result<Arc<TableDefinition>, ApiError> {
        let result = self.backend.table(name, context).await;
        // Without its definition a request goes no further; it needed no leader so far.
        if outcome_of(&result) == 3 && self.outcomes.shared.tables.read().contains_key(name) {
            self.outcomes
                .count(name, Class::EventualRead, 3, Duration::ZERO);
        }
        result
    }

    fn forget(&self, table: &TableDefinition) {
        self.backend.forget(table);
    }

    async fn item(
        &self,
        table: &TableDefinition,
        key: &EncodedKey,
        operation: ItemOperation,
        context: &Context,
    ) -> Result<ItemReply, ApiError> {
        let class = match &operation {
            ItemOperation::Write(_) => Class::Write,
            ItemOperation::Transact(transact) if !matches!(**transact, Transact::Read { .. }) => {
                Class::Write
            }
            other => reads(other.strong()),
        };
        let underway = self.begin(&table.name, class, context);
        let result = self.backend.item(table, key, operation, context).await;
        underway.end(&result);
        result
    }

    async fn page(
        &self,
        table: &TableDefinition,
        page: Page,
        context: &Context,
    ) -> Result<PageReply, ApiError> {
        let underway = self.begin(&table.name, reads(page.strong), context);
        let result = self.backend.page(table, page, context).await;
        underway.end(&result);
        result
    }

    async fn settle(
        &self,
        table: TableId,
        key: &EncodedKey,
        transact: Transact,
        context: &Context,
    ) -> Result<ItemReply, ApiError> {
        // What the client hears of its transaction is counted with the prepares, and with the ledger.
        self.backend.settle(table, key, transact, context).await
    }

    async fn ledger(&self, context: &Context) -> Result<Arc<TableDefinition>, ApiError> {
        self.backend.ledger(context).await
    }

    async fn control(&self, call: ApiCall, context: &Context) -> Result<ApiReply, ApiError> {
        self.backend.control(call, context).await
    }
}

#[cfg(test)]
mod tests {
    use protocol::item::Get;

    use super::*;
    use crate::fake::{Fake, context};

    fn get(key: &EncodedKey, strong: bool) -> ItemOperation {
        ItemOperation::Get(Get {
            key: key.clone(),
            strong,
            projection: None,
        })
    }

    #[tokio::test]
    async fn outcomes_are_counted_by_table_and_class() {
        let watched = Watched {
            backend: Fake::new(),
            outcomes: Outcomes::new(),
        };
        let context = context();
        let table = watched.table("hash", &context).await.unwrap();
        let item = model::Item::from([("pk".to_owned(), model::AttributeValue::S("a".to_owned()))]);
        let key = model::key::key_from_item(&table, &item).unwrap();
        watched
            .item(&table, &key, get(&key, true), &context)
            .await
            .unwrap();
        watched.backend.fail_next([Some(ApiError::internal())]);
        let failed = watched.item(&table, &key, get(&key, false), &context).await;
        assert!(failed.is_err());
        let report = watched.outcomes.report(1, 2, "az1");
        let [only] = &report.tables[..] else {
            panic!("{report:?}");
        };
        assert_eq!(only.table, "hash");
        let told = only.classes.map(|counts| {
            (
                counts.good,
                counts.failed,
                counts.latency.iter().sum::<u64>(),
            )
        });
        assert_eq!(told, [(1, 0, 1), (0, 1, 0), (0, 0, 0)]);
        let [requests, seconds] = &watched.outcomes.samples()[..] else {
            panic!("two families");
        };
        // One table and the others, three classes, four outcomes.
        assert_eq!((requests.len(), seconds.len()), (24, 6));
    }

    #[test]
    fn tables_beyond_the_bound_share_their_counts() {
        let outcomes = Outcomes::new();
        for number in 0..TABLES_MAX + 10 {
            let name = format!("t{number}");
            outcomes.count(&name, Class::Write, 0, Duration::from_millis(3));
        }
        assert_eq!(outcomes.all().len(), TABLES_MAX + 1);
        let others = outcomes.shared.others.classes[2].counts();
        assert_eq!((others.good, others.percentile_ms(0.5)), (10, Some(5)));
    }
}
