//! Recovery of transactions whose coordinators are gone: told by the leaders of items where something has been pending for long, and by going
//! over the ledger page by page, which also deletes what has expired. Any router may do any of it at any time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use mesh::{Deadline, Mesh, MeshError, Subscription, TraceContext};
use model::EncodedKey;
use model::key::table_range;
use protocol::item::Page;
use protocol::subjects;
use protocol::transact::{STALLED_MAX, Stalled, StalledItem, TransactionId, TransactionRef};
use tokio::task::JoinHandle;
use transactions::{Coordinator, Record, State};

use super::ledger::Ledger;
use super::run::{Run, settle};
use crate::backend::{Backend, Caller, Context, MeshBackend};

/// Time for one transaction. A leader reports it again if that was not enough.
const RECOVERY_MAX: Duration = Duration::from_secs(10);
/// Recoveries under way at once; further reports are dropped and come again.
const RECOVERIES_MAX: usize = 64;
/// A record that says nothing final for so long has no coordinator any more, milliseconds: far longer than a request may take.
const ABANDONED_MS: u64 = 30_000;
/// Between two rounds over the ledger …
const ROUND_EVERY: Duration = Duration::from_secs(5);
/// … and two pages of a round: thousands of records a second, so that the ledger holds ten minutes of transactions and not more.
const PAGE_EVERY: Duration = Duration::from_millis(100);
/// Expired records of a page that are deleted at the same time.
const DELETES_AT_ONCE: usize = 16;
/// Records a page.
const PAGE_RECORDS: u32 = 500;
/// Bytes a page.
const PAGE_BYTES: u64 = 1 << 20;

/// Recovers until it is dropped.
pub(crate) struct Recovery {
    _reports: Subscription,
    sweep: JoinHandle<()>,
}

impl Drop for Recovery {
    fn drop(&mut self) {
        self.sweep.abort();
    }
}

impl Recovery {
    /// Starts. `now_ms`: the wall clock.
    ///
    /// # Errors
    /// When the bus can't be listened to.
    pub(crate) async fn start(
        mesh: &Mesh,
        backend: MeshBackend,
        now_ms: fn() -> u64,
    ) -> Result<Self, MeshError> {
        let running = Arc::new(AtomicUsize::new(0));
        let runtime = tokio::runtime::Handle::current();
        let reported = backend.clone();
        let reports = mesh
            .serve(
                subjects::TRANSACTIONS_STALLED,
                Some("router"),
                move |delivery| {
                    let Ok(report) = delivery.decode::<Stalled>() else {
                        return;
                    };
                    if running.fetch_add(1, Ordering::AcqRel) >= RECOVERIES_MAX {
                        running.fetch_sub(1, Ordering::AcqRel);
                        return;
                    }
                    let (backend, running) = (reported.clone(), running.clone());
                    runtime.spawn(async move {
                        take_report(backend, report).await;
                        running.fetch_sub(1, Ordering::AcqRel);
                    });
                },
            )
            .await?;
        let sweep = tokio::spawn(sweep(backend, now_ms));
        Ok(Self {
            _reports: reports,
            sweep,
        })
    }
}

fn context() -> Context {
    Context {
        deadline: Deadline::after(RECOVERY_MAX),
        trace: TraceContext::default(),
        marks: Default::default(),
        // Nobody's request.
        caller: Caller {
            key_id: String::new(),
            action: "",
            policies: Arc::default(),
        },
    }
}

async fn take_report(backend: MeshBackend, report: Stalled) {
    // Without a ledger there was no transaction; it may only be that it can't be looked up now.
    let Ok(table) = backend.known_ledger(&context()).await else {
        return;
    };
    let ledger = Ledger::new(backend, table);
    let mut stalled: BTreeMap<TransactionId, Vec<StalledItem>> = BTreeMap::new();
    for item in report.items.into_iter().take(STALLED_MAX) {
        stalled.entry(item.transaction.id).or_default().push(item);
    }
    for items in stalled.into_values() {
        let Some(transaction) = items.first().map(|item| item.transaction.clone()) else {
            continue;
        };
        let found = match ledger.read(&transaction.record, &context()).await {
            Ok(found) => found,
            Err(error) => {
                tracing::info!(%error, "a stalled transaction's record can't be read");
                continue;
            }
        };
        match found.filter(|(_, record)| record.id == transaction.id) {
            Some((name, record)) => recover(&ledger, name, record, transaction).await,
            // Nothing can be committed of a transaction without a record.
            None => {
                for item in &items {
                    let end = (&item.transaction, None);
                    let at = (item.table, &item.key);
                    if let Err(error) = settle(ledger.backend(), at, end, &context()).await {
                        tracing::info!(%error, "a stalled item can't be freed now");
                    }
                }
            }
        }
    }
}

/// Brings a transaction to its end, as its record says or (if it says nothing) by cancelling it.
async fn recover<B: Backend>(
    ledger: &Ledger<B>,
    name: String,
    record: Record,
    transaction: TransactionRef,
) {
    let (course, actions) = Coordinator::recover(record.participants.len(), record.decided());
    let state = record.state;
    let run = Run::recover(ledger.clone(), (name, record), transaction, context());
    let (verdict, close) = run.drive(course, actions).await;
    tracing::info!(?state, ?verdict, "an unfinished transaction was recovered");
    if let Some(commits) = close {
        run.close(commits).await;
    }
}

/// Goes over the ledger for ever.
async fn sweep(backend: MeshBackend, now_ms: fn() -> u64) {
    let mut after: Option<EncodedKey> = None;
    loop {
        // Routers that were started together part.
        let pause = match &after {
            Some(_) => PAGE_EVERY,
            None => ROUND_EVERY,
        };
        let jitter = rand::random_range(0..=pause.as_millis() as u64);
        tokio::time::sleep(pause + Duration::from_millis(jitter)).await;
        let Ok(table) = backend.known_ledger(&context()).await else {
            continue;
        };
        let ledger = Ledger::new(backend.clone(), table);
        match sweep_page(&ledger, after.take(), now_ms()).await {
            Ok(next) => after = next,
            Err(error) => tracing::debug!(%error, "the ledger can't be read now"),
        }
    }
}

/// One page; where the next one begins, if there is one.
async fn sweep_page<B: Backend>(
    ledger: &Ledger<B>,
    after: Option<EncodedKey>,
    now_ms: u64,
) -> Result<Option<EncodedKey>, model::ApiError> {
    let page = Page {
        range: table_range(ledger.table().id),
        after,
        strong: true,
        limit: Some(PAGE_RECORDS),
        bytes_max: PAGE_BYTES,
        ..Page::default()
    };
    let reply = ledger
        .backend()
        .page(ledger.table(), page, &context())
        .await?;
    let (expired, kept): (Vec<_>, Vec<_>) = (reply.items.iter())
        .filter_map(|item| Record::decode(item))
        .partition(|(_, record)| record.has_expired(now_ms));
    let deletes = futures::stream::iter(expired);
    deletes
        .for_each_concurrent(DELETES_AT_ONCE, |(name, record)| async move {
            let (states, context) = ([record.state], context());
            let deleted = ledger.delete(&name, record.id, &states, &context).await;
            if let Err(error) = deleted {
                tracing::debug!(%error, "an expired record stays for the next round");
            }
        })
        .await;
    for (name, record) in kept {
        let is_open = matches!(record.state, State::Open | State::Committed);
        if is_open && now_ms > record.timestamp_ms.saturating_add(ABANDONED_MS) {
            let transaction = TransactionRef {
                id: record.id,
                record: ledger.key(&name)?,
                timestamp_ms: record.timestamp_ms,
            };
            recover(ledger, name, record, transaction).await;
        }
    }
    Ok(reply.last_key)
}
