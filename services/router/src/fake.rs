//! A backend for tests: tables and items in memory, evaluated with the real expressions; single calls can be made to fail.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mesh::{Deadline, TraceContext};
use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType, TableStatus};
use model::{ApiError, EncodedKey, ErrorKind, Item, TableDefinition, TableId, codec, key, size};
use parking_lot::Mutex;
use protocol::control::{ApiCall, ApiReply};
use protocol::item::{
    ItemFault, ItemOperation, ItemReply, Page, PageReply, ReturnValues, Write, WriteAction,
};

use protocol::transact::Transact;
use tokio::sync::{Notify, watch};

use crate::backend::{Backend, Caller, Context};

/// The backend.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    inner: Arc<Mutex<Inner>>,
    /// Item calls wait for this to become true, if it is there.
    gate: Arc<Mutex<Option<watch::Receiver<bool>>>>,
    called: Arc<Notify>,
}

#[derive(Default)]
struct Inner {
    tables: BTreeMap<String, Arc<TableDefinition>>,
    items: BTreeMap<EncodedKey, Item>,
    /// What the next item calls fail with; `None` = they do not.
    failures: VecDeque<Option<ApiError>>,
    calls: Vec<ItemOperation>,
    pages: Vec<Page>,
}

/// A context with time.
pub(crate) fn context() -> Context {
    Context {
        deadline: Deadline::after(Duration::from_secs(5)),
        trace: TraceContext::default(),
        marks: crate::marks::Marks::default(),
        caller: Caller {
            key_id: "AKIDEXAMPLE".to_owned(),
            action: "GetItem",
            policies: Arc::default(),
        },
    }
}

impl Fake {
    /// With table `hash` (`pk` S), `range` (`pk` S, `sk` N) and `making` (still being created).
    pub(crate) fn new() -> Self {
        let fake = Self::default();
        fake.add_table("hash", None, TableStatus::Active);
        fake.add_table("range", Some(ScalarType::N), TableStatus::Updating);
        fake.add_table("making", None, TableStatus::Creating);
        fake
    }

    fn add_table(&self, name: &str, sort: Option<ScalarType>, status: TableStatus) {
        let mut inner = self.inner.lock();
        let definition = TableDefinition {
            id: TableId(100 + inner.tables.len() as u64),
            name: name.to_owned(),
            version: 1,
            keys: KeySchema {
                partition: KeyAttribute {
                    name: "pk".to_owned(),
                    kind: ScalarType::S,
                },
                sort: sort.map(|kind| KeyAttribute {
                    name: "sk".to_owned(),
                    kind,
                }),
            },
            billing: BillingMode::PayPerRequest,
            status,
            created_ms: 0,
            uuid: String::new(),
            deletion_protection: false,
            table_class: None,
            tags: BTreeMap::new(),
            throughput_changes: Default::default(),
            on_demand_max: Default::default(),
            ..Default::default()
        };
        inner.tables.insert(name.to_owned(), Arc::new(definition));
    }

    /// What the next item calls fail with, in order.
    pub(crate) fn fail_next(&self, failures: impl IntoIterator<Item = Option<ApiError>>) {
        self.inner.lock().failures.extend(failures);
    }

    /// Lets all further item calls wait, until `true` is sent.
    pub(crate) fn hold(&self) -> watch::Sender<bool> {
        let (release, gate) = watch::channel(false);
        *self.gate.lock() = Some(gate);
        release
    }

    /// Waits until an item call has begun.
    pub(crate) async fn wait_for_call(&self) {
        self.called.notified().await;
    }

    /// Item calls so far.
    pub(crate) fn calls(&self) -> usize {
        self.inner.lock().calls.len()
    }

    /// The last item call.
    pub(crate) fn last_call(&self) -> Option<ItemOperation> {
        self.inner.lock().calls.last().cloned()
    }

    /// The last page that was asked for.
    pub(crate) fn last_page(&self) -> Option<Page> {
        self.inner.lock().pages.last().cloned()
    }
}

fn encoded(item: &Item) -> Option<bytes::Bytes> {
    (!item.is_empty()).then(|| codec::encode_item(item))
}

impl Inner {
    fn write(&mut self, write: Write) -> Result<ItemReply, ApiError> {
        let old = self.items.get(&write.key).cloned();
        let seen = old.clone().unwrap_or_default();
        if let Some(condition) = &write.condition
            && !condition.evaluate(&seen)?
        {
            let item = old
                .as_ref()
                .filter(|_| write.return_on_failure)
                .map(codec::encode_item);
            let size_bytes = size::item_size(&seen);
            return Ok(ItemReply::Fault(ItemFault::ConditionFailed {
                item,
                size_bytes,
            }));
        }
        let new = match write.action {
            WriteAction::Put(item) | WriteAction::Fill(item) => {
                Some(codec::decode_item(&item).unwrap())
            }
            WriteAction::Delete | WriteAction::Expire { .. } => None,
            WriteAction::Check => panic!("checks are transactions'"),
            WriteAction::Update { key_item, update } => {
                let base = old
                    .clone()
                    .unwrap_or_else(|| codec::decode_item(&key_item).unwrap());
                Some(match update {
                    Some(update) => update.apply(&base)?.item.clone(),
                    None => base,
                })
            }
        };
        match &new {
            Some(item) => self.items.insert(write.key, item.clone()),
            None => self.items.remove(&write.key),
        };
        let attributes = match write.return_values {
            ReturnValues::AllOld => old.as_ref().and_then(encoded),
            ReturnValues::AllNew => new.as_ref().and_then(encoded),
            _ => None,
        };
        Ok(ItemReply::Written {
            attributes,
            old_size_bytes: old.as_ref().map_or(0, size::item_size),
            new_size_bytes: new.as_ref().map_or(0, size::item_size),
        })
    }

    fn page(&self, table: &TableDefinition, page: &Page) -> Result<PageReply, ApiError> {
        let mut reply = PageReply::default();
        let mut keys: Vec<_> = self
            .items
            .keys()
            .filter(|key| page.range.contains(key))
            .collect();
        if page.reverse {
            keys.reverse();
        }
        let behind = |key: &EncodedKey| match &page.after {
            Some(after) if page.reverse => key < after,
            Some(after) => key > after,
            None => true,
        };
        for key in keys.into_iter().filter(|key| behind(key)) {
            let item = &self.items[key];
            reply.scanned_count += 1;
            reply.bytes_read += size::item_size(item);
            let passes = match &page.filter {
                Some(filter) => filter.evaluate(item)?,
                None => true,
            };
            if passes {
                reply.count += 1;
                if !page.count_only {
                    let shown = match &page.projection {
                        Some(projection) => projection.apply(item),
                        None => item.clone(),
                    };
                    reply.items.push(codec::encode_item(&shown));
                }
            }
            let full = page
                .limit
                .is_some_and(|limit| reply.scanned_count >= u64::from(limit));
            if full || reply.bytes_read > page.bytes_max {
                reply.last_key = Some(key.clone());
                reply.last_key_item = Some(codec::encode_item(&key::key_item(table, item)));
                break;
            }
        }
        Ok(reply)
    }
}

impl Backend for Fake {
    async fn table(&self, name: &str, _: &Context) -> Result<Arc<TableDefinition>, ApiError> {
        self.inner
            .lock()
            .tables
            .get(name)
            .cloned()
            .ok_or_else(ApiError::resource_not_found)
    }

    async fn item(
        &self,
        _: &TableDefinition,
        key: &EncodedKey,
        operation: ItemOperation,
        _: &Context,
    ) -> Result<ItemReply, ApiError> {
        let gate = self.gate.lock().clone();
        if let Some(mut gate) = gate {
            self.called.notify_one();
            gate.wait_for(|open| *open).await.unwrap();
        }
        let mut inner = self.inner.lock();
        inner.calls.push(operation.clone());
        if let Some(Some(error)) = inner.failures.pop_front() {
            return Err(error);
        }
        match operation {
            ItemOperation::Get(get) => {
                assert_eq!(&get.key, key);
                let item = inner.items.get(key);
                let shown = item.map(|item| match &get.projection {
                    Some(projection) => projection.apply(item),
                    None => item.clone(),
                });
                Ok(ItemReply::Item {
                    item: shown.as_ref().map(codec::encode_item),
                    size_bytes: item.map_or(0, size::item_size),
                })
            }
            ItemOperation::Write(write) => {
                assert_eq!(&write.key, key);
                inner.write(*write)
            }
            ItemOperation::Page(_) => panic!("pages go through `page`"),
            // Tested where there are partitions.
            ItemOperation::Transact(_) => Err(ApiError::new(ErrorKind::ServiceUnavailable, "")),
            ItemOperation::Changes(_) => panic!("it has no change records"),
        }
    }

    async fn page(
        &self,
        table: &TableDefinition,
        page: Page,
        _: &Context,
    ) -> Result<PageReply, ApiError> {
        let mut inner = self.inner.lock();
        inner.pages.push(page.clone());
        inner.page(table, &page)
    }

    async fn settle(
        &self,
        _: TableId,
        _: &EncodedKey,
        _: Transact,
        _: &Context,
    ) -> Result<ItemReply, ApiError> {
        Err(ApiError::new(ErrorKind::ServiceUnavailable, ""))
    }

    async fn ledger(&self, _: &Context) -> Result<Arc<TableDefinition>, ApiError> {
        Err(ApiError::new(ErrorKind::ServiceUnavailable, ""))
    }

    async fn control(&self, call: ApiCall, _: &Context) -> Result<ApiReply, ApiError> {
        if call.operation == "DescribeLimits" {
            return Err(crate::texts::no_admin());
        }
        let echo = format!(
            "{{\"Operation\":\"{}\",\"Principal\":\"{}\",\"Body\":{}}}",
            call.operation,
            call.principal,
            String::from_utf8_lossy(&call.body)
        );
        Ok(ApiReply::Ok(echo.into_bytes().into()))
    }
}
