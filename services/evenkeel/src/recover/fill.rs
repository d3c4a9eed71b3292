//! From a rebuild into a table of the mesh. Owns that changes reach the table in the order of the log: those of one batch, of which no two have one
//! key, side by side, the next batch after them. Holds a few batches, never a partition.

use std::sync::Arc;
use std::time::{Duration, Instant};

use archive::snapshot::Pair;
use bytes::Bytes;
use futures::StreamExt as _;
use mesh::{Deadline, TraceContext};
use model::{ApiError, EncodedKey, ErrorKind, KeyRange, TableDefinition};
use objects::{Sink, SinkError};
use partition::transactions::{Outcome, Prepared};
use partition::{Batch, PartitionState};
use protocol::item::{ItemOperation, ItemReply, Page, Write, WriteAction};
use routing::Client;
use tokio::sync::mpsc;

/// Batches between the rebuild and the writes.
const BATCHES_MAX: usize = 2;
/// Writes under way for one partition of the lost table.
const WRITES_AT_ONCE: usize = 128;
/// Time for one try of a write. What has no answer by then cannot happen any more once it is over.
const TRY: Duration = Duration::from_secs(5);
/// A write is tried for so long: a partition without units, a change of its leader.
const PATIENCE: Duration = Duration::from_secs(120);
/// Pause after a write that was not taken.
const PAUSE: Duration = Duration::from_millis(50);
/// Counting a table may take so long.
const COUNT_PATIENCE: Duration = Duration::from_secs(3_600);
/// Bytes of a page when a partition is emptied.
const PAGE_BYTES: u64 = 1 << 20;

/// The table that is filled.
#[derive(Clone)]
pub(super) struct Target {
    client: Client,
    table: Arc<TableDefinition>,
}

/// What the writer does next.
enum Order {
    /// Delete everything in this range of the lost table's keys.
    Clear,
    /// Put or delete, no key twice.
    Write(Vec<(Bytes, Option<Bytes>)>),
}

/// The end that the rebuild writes to.
pub(super) struct MeshSink {
    orders: mpsc::Sender<Order>,
    begun: bool,
}

/// The end that writes to the mesh.
pub(super) struct Writer {
    target: Target,
    range: KeyRange,
    orders: mpsc::Receiver<Order>,
}

impl Target {
    pub(super) fn new(client: Client, table: Arc<TableDefinition>) -> Target {
        Target { client, table }
    }

    /// A key of the lost table as it is in this one: only the table's number in front differs.
    fn key(&self, key: &[u8]) -> EncodedKey {
        let mut new = self.table.id.0.to_be_bytes().to_vec();
        new.extend_from_slice(key.get(new.len()..).unwrap_or_default());
        new.into()
    }

    async fn write(&self, key: EncodedKey, item: Option<Bytes>) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let write = Write {
                key: key.clone(),
                action: match &item {
                    Some(item) => WriteAction::Put(item.clone()),
                    None => WriteAction::Delete,
                },
                condition: None,
                return_values: Default::default(),
                return_on_failure: false,
            };
            let tried = Instant::now();
            let (deadline, trace) = (Deadline::after(TRY), TraceContext::default());
            let operation = ItemOperation::Write(Box::new(write));
            let reply = self
                .client
                .item(&self.table, &key, operation, deadline, &trace)
                .await;
            let error = match reply {
                Ok(ItemReply::Written { .. }) => return Ok(()),
                Ok(other) => anyhow::bail!("a write was answered with {other:?}"),
                Err(error) => error,
            };
            let wait = match error.kind {
                // It may happen still, behind a later write of the same key: not before its deadline is over.
                ErrorKind::InternalServerError => TRY.saturating_sub(tried.elapsed()) + PAUSE,
                _ if is_transient(&error) => PAUSE,
                _ => anyhow::bail!("a write was refused: {}", error.message),
            };
            anyhow::ensure!(
                started.elapsed() < PATIENCE,
                "a write was not taken in time: {}",
                error.message
            );
            tokio::time::sleep(wait).await;
        }
    }

    /// Brings to an end what a transaction prepared, and is known to have committed. May be repeated.
    pub(super) async fn settle(&self, prepared: &Prepared) -> anyhow::Result<()> {
        let item = match &prepared.outcome {
            Outcome::Keep => return Ok(()),
            Outcome::Put(item) => Some(item.clone()),
            Outcome::Delete => None,
        };
        self.write(self.key(&prepared.key), item).await
    }

    /// How many items the table has.
    pub(super) async fn count(&self) -> anyhow::Result<u64> {
        let (mut count, mut after) = (0, None);
        let started = Instant::now();
        loop {
            let page = Page {
                range: model::key::table_range(self.table.id),
                after: after.clone(),
                strong: true,
                bytes_max: PAGE_BYTES,
                count_only: true,
                ..Page::default()
            };
            let (deadline, trace) = (Deadline::after(TRY), TraceContext::default());
            match self.client.page(&self.table, page, deadline, &trace).await {
                Ok(page) => {
                    count += page.count;
                    after = page.last_key;
                    if after.is_none() {
                        return Ok(count);
                    }
                }
                Err(error) if is_transient(&error) && started.elapsed() < COUNT_PATIENCE => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => anyhow::bail!("the items cannot be counted: {}", error.message),
            }
        }
    }

    async fn clear(&self, range: &KeyRange) -> anyhow::Result<()> {
        let end = match range.end.is_empty() {
            true => model::key::table_range(self.table.id).end,
            false if range.end.get(..8) == range.start.get(..8) => self.key(&range.end),
            // It ends with its table.
            false => model::key::table_range(self.table.id).end,
        };
        let range = KeyRange {
            start: self.key(&range.start),
            end,
        };
        loop {
            let page = Page {
                range: range.clone(),
                strong: true,
                bytes_max: PAGE_BYTES,
                ..Page::default()
            };
            let (deadline, trace) = (Deadline::after(TRY), TraceContext::default());
            let page = self.client.page(&self.table, page, deadline, &trace).await;
            let page = page.map_err(|error| {
                anyhow::anyhow!(
                    "an unfinished partition cannot be emptied: {}",
                    error.message
                )
            })?;
            if page.items.is_empty() && page.last_key.is_none() {
                return Ok(());
            }
            for item in &page.items {
                let item = model::codec::decode_item(item)
                    .map_err(|error| anyhow::anyhow!("an item: {}", error.0))?;
                let key = model::key::key_from_item(&self.table, &item);
                let key =
                    key.map_err(|error| anyhow::anyhow!("an item's key: {}", error.message))?;
                self.write(key, None).await?;
            }
        }
    }
}

fn is_transient(error: &ApiError) -> bool {
    matches!(
        error.kind,
        ErrorKind::InternalServerError
            | ErrorKind::ServiceUnavailable
            | ErrorKind::Throttling
            | ErrorKind::ProvisionedThroughputExceeded
            | ErrorKind::RequestLimitExceeded
    )
}

impl MeshSink {
    /// Both ends, for these keys of the lost table.
    pub(super) fn new(target: Target, range: KeyRange) -> (MeshSink, Writer) {
        let (sender, orders) = mpsc::channel(BATCHES_MAX);
        let sink = MeshSink {
            orders: sender,
            begun: false,
        };
        let writer = Writer {
            target,
            range,
            orders,
        };
        (sink, writer)
    }

    fn order(&self, order: Order) -> Result<(), SinkError> {
        // Called on a thread that may block.
        let sent = self.orders.blocking_send(order);
        sent.map_err(|_| SinkError("the mesh takes no more".to_owned()))
    }
}

impl Writer {
    /// Writes until the rebuild is over.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        while let Some(order) = self.orders.recv().await {
            match order {
                Order::Clear => self.target.clear(&self.range).await?,
                Order::Write(changes) => {
                    let target = &self.target;
                    let writes = changes
                        .into_iter()
                        .map(|(key, item)| (target.key(&key), item))
                        // Entries of local indexes come with their items.
                        .filter(|(key, _)| !target.table.is_entry(key))
                        .map(|(key, item)| target.write(key, item));
                    let mut writes = futures::stream::iter(writes).buffer_unordered(WRITES_AT_ONCE);
                    while let Some(written) = writes.next().await {
                        written?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Sink for MeshSink {
    fn begin(&mut self, _state: &PartitionState) -> Result<(), SinkError> {
        // The table is new: only what a snapshot brought that was given up is in it.
        if std::mem::replace(&mut self.begun, true) {
            self.order(Order::Clear)?;
        }
        Ok(())
    }

    fn load(&mut self, _state: &PartitionState, pairs: Vec<Pair>) -> Result<(), SinkError> {
        let changes = pairs.into_iter().map(|(key, item)| (key, Some(item)));
        self.order(Order::Write(changes.collect()))
    }

    fn flush(&mut self, batch: &Batch) -> Result<(), SinkError> {
        if batch.items.is_empty() {
            return Ok(());
        }
        let changes = batch
            .items
            .iter()
            .map(|(key, item)| (key.clone(), item.clone()));
        self.order(Order::Write(changes.collect()))
    }

    fn counts(&self) -> bool {
        false
    }

    fn items(&mut self) -> Result<u64, SinkError> {
        Err(SinkError("the mesh is not asked".to_owned()))
    }
}
