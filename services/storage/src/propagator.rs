//! Sends entries to the partitions of global secondary indexes (ADR 0009): finds them, groups the entries by partition, and waits until all
//! have them. Owns the node's routing client, which is started when it is first needed, and the bound on runs under way. Never
//! decides what an index must hold (`partition::propagation`) nor when to try again (the group).

use std::sync::Arc;
use std::time::Duration;

use mesh::{Deadline, TraceContext};
use model::index::index_table_name;
use model::key::index_range;
use model::{ApiError, EncodedKey, IndexId, KeyRange, TableDefinition};
use partition::propagation::{Entries, Run};
use paxos::{Ballot, GroupId};
use protocol::item::{ItemOperation, ItemReply};
use protocol::propagate::{IndexChange, Propagate};
use routing::{Client, ClientSettings};
use tokio::sync::{OnceCell, Semaphore};

use crate::inbox::Event;
use crate::node::{Node, shard_of};

/// Runs under way on a node at once.
const RUNS_MAX: usize = 64;
/// Time for one partition of an index to take its part.
const PART_MAX: Duration = Duration::from_secs(5);

/// The node's way to the indexes.
pub(crate) struct Propagator {
    client: OnceCell<Client>,
    runs: Arc<Semaphore>,
}

impl Default for Propagator {
    fn default() -> Self {
        Self {
            client: OnceCell::new(),
            runs: Arc::new(Semaphore::new(RUNS_MAX)),
        }
    }
}

/// A run of one partition's changes, on its way.
pub(crate) struct Errand {
    pub(crate) group: GroupId,
    /// Ballot of the leader that sends it.
    pub(crate) ballot: Ballot,
    pub(crate) table: TableDefinition,
    pub(crate) source: KeyRange,
    pub(crate) run: Run,
}

/// What became of it.
pub(crate) struct Delivered {
    pub(crate) group: GroupId,
    pub(crate) ballot: Ballot,
    pub(crate) run: Run,
    pub(crate) result: Result<(), Undelivered>,
}

/// Why an index does not have all of its entries; all may be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Undelivered {
    pub(crate) index: IndexId,
    /// The index has no write units left.
    pub(crate) throttled: bool,
    pub(crate) why: String,
}

impl Propagator {
    /// Sends a run; its shard hears what became of it. Does not block. False: too many are under way.
    pub(crate) fn send(&self, node: &Arc<Node>, errand: Errand) -> bool {
        let Ok(permit) = self.runs.clone().try_acquire_owned() else {
            return false;
        };
        let sending = node.clone();
        node.runtime.spawn(async move {
            let result = deliver(&sending, &errand).await;
            let Errand {
                group, ballot, run, ..
            } = errand;
            let inbox = &sending.inboxes[shard_of(group, sending.inboxes.len())];
            inbox.event(Event::Delivered(Box::new(Delivered {
                group,
                ballot,
                run,
                result,
            })));
            drop(permit);
        });
        true
    }

    async fn client(&self, node: &Node) -> Result<&Client, ApiError> {
        let start = || async {
            let settings = ClientSettings::new(node.settings.zone.clone());
            let client = Client::start(node.mesh.clone(), settings).await;
            client.map_err(|error| {
                tracing::error!(%error, "no routing client for the indexes");
                ApiError::internal()
            })
        };
        self.client.get_or_try_init(start).await
    }
}

async fn deliver(node: &Arc<Node>, errand: &Errand) -> Result<(), Undelivered> {
    for (id, entries) in &errand.run.entries {
        let failed = |error: ApiError| Undelivered {
            index: *id,
            throttled: error.is_throttling(),
            why: error.to_string(),
        };
        let Some(index) = errand.table.index_by_id(*id) else {
            continue;
        };
        let client = node.propagator.client(node).await.map_err(failed)?;
        let name = index_table_name(&errand.table.name, &index.name);
        let (deadline, trace) = (Deadline::after(PART_MAX), TraceContext::default());
        let table = client.table(&name, deadline, &trace).await;
        let table = table.map_err(failed)?;
        let range = index_range(table.id, IndexId(0));
        let partitions = client.partitions(&table, &range, deadline, &trace).await;
        for partition in partitions.map_err(failed)? {
            let entries = entries_of(entries, &partition.range);
            if !entries.is_empty() {
                bring(client, &table, errand, entries)
                    .await
                    .map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// The entries of one partition. They go in one message, which a run's bounds keep to a megabyte or two: in several, one that comes late
/// could undo what a later run brought.
fn entries_of(entries: &Entries, range: &KeyRange) -> Vec<IndexChange> {
    let within = entries.iter().filter(|(key, _)| range.contains(key));
    within
        .map(|(key, item)| IndexChange {
            key: key.clone(),
            item: item.clone(),
        })
        .collect()
}

async fn bring(
    client: &Client,
    table: &TableDefinition,
    errand: &Errand,
    entries: Vec<IndexChange>,
) -> Result<(), ApiError> {
    let key: EncodedKey = entries.first().map(|e| e.key.clone()).unwrap_or_default();
    let propagate = Propagate {
        source: errand.source.clone(),
        upto: errand.run.upto,
        entries,
    };
    let operation = ItemOperation::Propagate(Box::new(propagate));
    let (deadline, trace) = (Deadline::after(PART_MAX), TraceContext::default());
    match client
        .item(table, &key, operation, deadline, &trace)
        .await?
    {
        ItemReply::Written { .. } => Ok(()),
        other => {
            tracing::error!("entries of an index were answered with {other:?}");
            Err(ApiError::internal())
        }
    }
}
