//! Evaluation of writes at the leader: condition and update against the newest value (in flight, applied, or in the B-tree),
//! the command that comes of it, and what to answer once it is committed.

use bytes::Bytes;
use model::codec::{decode_item, encode_item, encoded_item_size};
use model::error::texts;
use model::index::{IndexKeyFault, IndexWrites};
use model::size::{ITEM_BYTES_MAX, item_size};
use model::table::TableStatus;
use model::{ApiError, ErrorKind, IndexId, Item, TableDefinition, Units};
use protocol::changes::Tracking;
use protocol::cost::local_units;
use protocol::item::{ItemFault, ItemReply, ReturnValues, Write, WriteAction};

use crate::flight::Lock;
use crate::partition::{Evaluated, Partition};
use crate::transacting::conflict;
use crate::{BTree, PartitionError, command};

/// A write that may go ahead.
pub(crate) struct Plan {
    pub(crate) item: Option<Bytes>,
    pub(crate) new_size: u64,
    attributes: Option<Bytes>,
    /// Nothing is written.
    pub(crate) checks: bool,
}

/// The item as the write finds it.
pub(crate) struct Before {
    pub(crate) bytes: Option<Bytes>,
    pub(crate) size: u64,
    /// Decoded, if something needed it.
    item: Option<Item>,
}

impl Before {
    /// The item in these bytes; none: it is absent.
    pub(crate) fn of(bytes: Option<Bytes>) -> Result<Self, PartitionError> {
        let size = bytes
            .as_ref()
            .map_or(Ok(0), |bytes| encoded_item_size(bytes))?;
        Ok(Self {
            bytes,
            size,
            item: None,
        })
    }

    /// The decoded item, empty when absent.
    fn item(&mut self) -> Result<&Item, PartitionError> {
        if self.item.is_none() {
            let item = self
                .bytes
                .as_ref()
                .map_or(Ok(Item::new()), |bytes| decode_item(bytes))?;
            self.item = Some(item);
        }
        Ok(self.item.get_or_insert_default())
    }
}

impl<C> Partition<C> {
    /// Evaluates a write. Only for a leader that may serve reads: a failed condition is a read. `now_ms`: milliseconds since the
    /// epoch. After any number of `evaluate`, tell `proposed` or `refused`.
    pub fn evaluate(
        &mut self,
        base: &impl BTree,
        write: &Write,
        now_ms: u64,
        caller: C,
    ) -> Result<Evaluated<C>, PartitionError> {
        let refusal = self.refuse_key(&write.key);
        if let Some(refusal) = refusal.or_else(|| refuse_at(self.state.table.status, write)) {
            return Ok(Evaluated::Answer(caller, refusal));
        }
        if self.is_overloaded() {
            return Ok(Evaluated::Answer(
                caller,
                ItemReply::Fault(ItemFault::Overloaded),
            ));
        }
        let (flight, bytes) = match self.flights.newest_locked(&write.key) {
            Some((number, Lock::Free, after)) => (Some(number), after.clone()),
            None if self.state.transactions.pending(&write.key).is_none() => {
                (None, self.lookup(base, &write.key)?)
            }
            Some((_, Lock::Held(_), _)) | None => {
                return Ok(Evaluated::Answer(caller, conflict()));
            }
        };
        let mut before = Before::of(bytes)?;
        match plan(&self.state.table, write, &mut before, |fault| {
            fault.of_update()
        })? {
            Err(fault) => {
                let reply = ItemReply::Fault(fault);
                let Some(number) = flight else {
                    return Ok(Evaluated::Answer(caller, reply));
                };
                self.flights.wait(number, caller, reply);
                Ok(Evaluated::Waits)
            }
            Ok(Plan {
                item,
                new_size,
                attributes,
                ..
            }) => {
                if new_size > before.size && self.collection_is_full() {
                    let error = ApiError::new(
                        ErrorKind::ItemCollectionSizeLimitExceeded,
                        texts::COLLECTION_SIZE,
                    );
                    let fault = ItemReply::Fault(ItemFault::Api(error));
                    return Ok(Evaluated::Answer(caller, fault));
                }
                let by_service = matches!(write.action, WriteAction::Expire { .. });
                let WriteParts {
                    command,
                    key,
                    after,
                    indexes,
                } = self.write_command(
                    (&write.key, by_service),
                    &before,
                    (item.as_deref(), new_size),
                    now_ms,
                )?;
                let reply = ItemReply::Written {
                    attributes,
                    old_size_bytes: before.size,
                    new_size_bytes: new_size,
                    indexes,
                    collection_bytes: self.collection_bytes(),
                };
                self.flights
                    .push(command.clone(), key, after, caller, reply);
                Ok(Evaluated::Propose(command))
            }
        }
    }

    /// What a write does to the table's indexes.
    fn index_writes(
        &self,
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> Result<IndexWrites, PartitionError> {
        let table = &self.state.table;
        if table.indexes.is_empty() {
            return Ok(IndexWrites::default());
        }
        Ok(table.index_writes(before, after)?)
    }
}

/// The command that writes an item; key and image share its buffer.
pub(crate) struct WriteParts {
    pub(crate) command: Bytes,
    pub(crate) key: Bytes,
    pub(crate) after: Option<Bytes>,
    /// What it costs in the table's indexes.
    pub(crate) indexes: Vec<(IndexId, Units)>,
}

impl<C> Partition<C> {
    /// Whether a bound on writes in flight, or not flushed yet, or on change records is reached.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.flights.len() >= self.limits.in_flight_max
            || self.flights.bytes() >= self.limits.in_flight_bytes_max
            || self.overlay.bytes() >= self.limits.overlay_bytes_max
            || self.changes_are_full()
    }

    /// Makes the command of every write to an item, single or of a transaction: one that leaves a change record, if somebody wants it and the
    /// item changes.
    pub(crate) fn write_command(
        &mut self,
        (key, by_service): (&[u8], bool),
        before: &Before,
        (item, new_size): (Option<&[u8]>, u64),
        now_ms: u64,
    ) -> Result<WriteParts, PartitionError> {
        let indexes = self.index_writes(before.bytes.as_deref(), item)?;
        let time_ms = self.stamp(now_ms);
        let (old, sizes) = (before.bytes.as_deref(), (before.size, new_size));
        let made = match self.state.table.change_images() {
            Some(wanted) if old != item => {
                let tracking = Tracking {
                    stream: wanted.stream,
                    by_service,
                    // Of what is removed nothing else says its key attributes.
                    old: old.filter(|_| wanted.old_image || item.is_none()),
                };
                command::encode_change(time_ms, key, item, sizes, &tracking)
            }
            _ => command::encode_write(time_ms, key, item, before.size, new_size),
        };
        let made_bytes = made.len();
        let local = local_units(&indexes.units);
        let command = command::with_entries(time_ms, made, &indexes.changes, local);
        let made = command.slice(command.len() - made_bytes..);
        let key = command::key_of(&made, key.len());
        let after = item.map(|_| command::image_of(&made, &key));
        Ok(WriteParts {
            command,
            key,
            after,
            indexes: indexes.units,
        })
    }
}

/// Refuses what a table does not take at this point of its life. The definition is in the log, so that what was proposed before it changed
/// comes before whatever is proposed after.
pub(crate) fn refuse_at(status: TableStatus, write: &Write) -> Option<ItemReply> {
    let fills = matches!(write.action, WriteAction::Fill(_));
    let error = match (status, fills) {
        (TableStatus::Creating, true) => return None,
        (TableStatus::Active | TableStatus::Updating, false) => return None,
        (_, true) => ApiError::new(ErrorKind::ResourceInUse, texts::TABLE_IS_FILLED),
        // Routers that don't know it yet forget the table and look again.
        (TableStatus::Creating | TableStatus::Deleting, false) => ApiError::resource_not_found(),
    };
    Some(ItemReply::Fault(ItemFault::Api(error)))
}

/// What the write comes to. The inner error is an answer that changes nothing. `index_key_error` words what is wrong with an index's key
/// attribute that an update makes.
pub(crate) fn plan(
    table: &TableDefinition,
    write: &Write,
    before: &mut Before,
    index_key_error: fn(&IndexKeyFault<'_>) -> ApiError,
) -> Result<Result<Plan, ItemFault>, PartitionError> {
    if let Some(condition) = &write.condition {
        match condition.evaluate(before.item()?) {
            Ok(true) => {}
            Ok(false) => {
                let item = if write.return_on_failure {
                    before.bytes.clone()
                } else {
                    None
                };
                return Ok(Err(ItemFault::ConditionFailed {
                    item,
                    size_bytes: before.size,
                }));
            }
            Err(error) => return Ok(Err(ItemFault::Api(error))),
        }
    }
    let all_old = |before: &Before| match write.return_values {
        ReturnValues::AllOld => before.bytes.clone(),
        _ => None,
    };
    match &write.action {
        WriteAction::Put(item) | WriteAction::Fill(item) => match encoded_item_size(item) {
            Ok(new_size) => {
                let attributes = all_old(before);
                Ok(Ok(Plan {
                    item: Some(item.clone()),
                    new_size,
                    attributes,
                    checks: false,
                }))
            }
            Err(error) => Ok(Err(malformed(error))),
        },
        WriteAction::Expire { attribute, now_s } => {
            let expired = match before.bytes {
                Some(_) => model::ttl::is_expired(before.item()?, attribute, *now_s),
                None => false,
            };
            Ok(match expired {
                true => Ok(Plan {
                    item: None,
                    new_size: 0,
                    attributes: None,
                    checks: false,
                }),
                // It was changed, or is gone, since the leader saw it.
                false => Err(ItemFault::ConditionFailed {
                    item: None,
                    size_bytes: 0,
                }),
            })
        }
        WriteAction::Delete => Ok(Ok(Plan {
            item: None,
            new_size: 0,
            attributes: all_old(before),
            checks: false,
        })),
        WriteAction::Check => Ok(Ok(Plan {
            item: before.bytes.clone(),
            new_size: before.size,
            attributes: None,
            checks: true,
        })),
        WriteAction::Update { key_item, update } => {
            let Some(update) = update else {
                return Ok(touch(write, before, key_item));
            };
            let existed = before.bytes.is_some();
            if !existed && !update.creates_item() {
                // Nothing to remove anything from.
                return Ok(Ok(Plan {
                    item: None,
                    new_size: 0,
                    attributes: None,
                    checks: false,
                }));
            }
            let made;
            let start = if existed {
                before.item()?
            } else {
                match decode_item(key_item) {
                    Ok(item) => made = item,
                    Err(error) => return Ok(Err(malformed(error))),
                }
                &made
            };
            let updated = match update.apply(start) {
                Ok(updated) => updated,
                Err(error) => return Ok(Err(ItemFault::Api(error))),
            };
            let new_size = item_size(&updated.item);
            if new_size > ITEM_BYTES_MAX {
                return Ok(Err(ItemFault::Api(ApiError::validation(
                    texts::ITEM_SIZE_UPDATE,
                ))));
            }
            if !table.indexes.is_empty()
                && let Err(error) = table.check_index_keys(&updated.item, index_key_error)
            {
                return Ok(Err(ItemFault::Api(error)));
            }
            let partial = match write.return_values {
                ReturnValues::UpdatedOld if existed => Some(updated.updated_old(start)),
                ReturnValues::UpdatedNew => Some(updated.updated_new()),
                _ => None,
            };
            let item = encode_item(&updated.item);
            let attributes = match write.return_values {
                ReturnValues::AllOld => before.bytes.clone(),
                ReturnValues::AllNew => Some(item.clone()),
                _ => partial
                    .filter(|item| !item.is_empty())
                    .map(|item| encode_item(&item)),
            };
            Ok(Ok(Plan {
                item: Some(item),
                new_size,
                attributes,
                checks: false,
            }))
        }
    }
}

/// An UpdateItem without an update: makes the item from its key if it is absent.
fn touch(write: &Write, before: &Before, key_item: &Bytes) -> Result<Plan, ItemFault> {
    let item = before.bytes.as_ref().unwrap_or(key_item);
    let new_size = encoded_item_size(item).map_err(malformed)?;
    let attributes = match write.return_values {
        ReturnValues::AllOld => before.bytes.clone(),
        ReturnValues::AllNew => Some(item.clone()),
        _ => None,
    };
    Ok(Plan {
        item: Some(item.clone()),
        new_size,
        attributes,
        checks: false,
    })
}

/// The sender encoded an item wrongly: nothing of it may enter the log.
fn malformed(error: model::codec::CodecError) -> ItemFault {
    ItemFault::Api(ApiError::new(
        ErrorKind::InternalServerError,
        error.to_string(),
    ))
}
