//! Global secondary indexes (ADR 0009). On the side of the table: which entries a run of changes comes to, how far propagation and
//! backfill are. On the side of the index: which of them are news, and the command that brings them in. Never sends anything.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::codec::{self, encoded_item_size};
use model::table::TableStatus;
use model::{EncodedKey, IndexId, KeyRange, TableDefinition};
use paxos::Index;
use protocol::changes::{ChangeRecord, ChangesRequest, Place};
use protocol::item::{ItemFault, ItemReply, Page};
use protocol::propagate::{Backfill, Propagate, SourceMark, Upto};

use crate::command::{EntriesCommand, EntryWrite};
use crate::partition::{Evaluated, Partition};
use crate::{BTree, PartitionError, command};

/// Changes that are propagated together at most.
const CHANGES_MAX: u32 = 512;
/// Bytes of their records.
const CHANGE_BYTES_MAX: u64 = 512 << 10;
/// Bytes of the items that are entered together by a backfill.
const BACKFILL_BYTES: u64 = 128 << 10;
/// Items that are entered together.
const BACKFILL_ITEMS: u32 = 256;

/// Entries of one index, each as it must be in the end.
pub type Entries = BTreeMap<EncodedKey, Option<Bytes>>;

/// What a leader propagates next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Everything up to here is in it, or was propagated before.
    pub upto: Place,
    /// All changes of this and earlier positions are.
    pub position: Index,
    /// By index; indexes without entries are left out.
    pub entries: BTreeMap<IndexId, Entries>,
    /// How far the backfill of an index is once this is done.
    pub backfill: Option<Backfill>,
    /// When the oldest change in it was made, milliseconds since the epoch; 0: there is none.
    pub since_ms: u64,
}

/// Adds what a change of an item from `old` to `new` means for each index.
fn add_change(
    table: &TableDefinition,
    old: Option<&[u8]>,
    new: Option<&[u8]>,
    entries: &mut BTreeMap<IndexId, Entries>,
) -> codec::Result<()> {
    let global = table.indexes.iter().filter(|index| {
        index
            .global()
            .is_some_and(|global| global.status != TableStatus::Deleting)
    });
    for index in global {
        let entry = |item: Option<&[u8]>| match item {
            Some(item) => index.entry(table, item),
            None => Ok(None),
        };
        let (old, new) = (entry(old)?, entry(new)?);
        if old == new {
            continue;
        }
        let entries = entries.entry(index.id).or_default();
        if let Some((key, _)) = old {
            entries.insert(key, None);
        }
        if let Some((key, item)) = new {
            entries.insert(key, Some(item));
        }
    }
    Ok(())
}

impl<C> Partition<C> {
    /// What a serving leader propagates next, behind what it has propagated; none: nothing is left.
    pub fn next_run(&self, base: &impl BTree, after: Place) -> Result<Option<Run>, PartitionError> {
        let state = &self.state;
        let table = &state.table;
        if !table.has_global_indexes() || self.has_ended() {
            return Ok(None);
        }
        let request = ChangesRequest {
            key: state.range.start.clone(),
            after: after.max((state.changes.acknowledged, u32::MAX)),
            upto: None,
            stream: None,
            limit: CHANGES_MAX,
            bytes_max: CHANGE_BYTES_MAX,
        };
        let reply = self.changes(base, &request)?;
        let mut run = Run::default();
        for change in &reply.changes {
            let record = ChangeRecord::decode(&change.value).map_err(PartitionError::BadCommand)?;
            if run.since_ms == 0 {
                run.since_ms = record.time_ms;
            }
            let (old, new) = (record.old.as_deref(), record.new.as_deref());
            add_change(table, old, new, &mut run.entries)?;
            run.upto = change.place;
        }
        if !reply.end {
            // More changes of the same command may follow.
            run.position = run.upto.0.saturating_sub(1);
            return Ok(Some(run));
        }
        let is_empty = reply.changes.is_empty();
        run.upto = (state.applied, u32::MAX);
        run.position = state.applied;
        // Items as they are now: their changes up to now are in this run, or went before it.
        run.backfill = self.backfill(base, &mut run.entries)?;
        Ok((!is_empty || run.backfill.is_some()).then_some(run))
    }

    /// Adds the next items that an index has to be filled with; how far it is then.
    fn backfill(
        &self,
        base: &impl BTree,
        entries: &mut BTreeMap<IndexId, Entries>,
    ) -> Result<Option<Backfill>, PartitionError> {
        if self.awaits_older() {
            // Writes that leave no change record are still to land: an item that is entered before its one would stay as it was.
            return Ok(None);
        }
        let table = &self.state.table;
        let mut open = self.state.backfills.iter().filter(|b| !b.done);
        let Some((backfill, index)) = open.find_map(|b| Some((b, table.index_by_id(b.index)?)))
        else {
            return Ok(None);
        };
        let page = Page {
            range: self.state.range.clone(),
            after: backfill.cursor.clone(),
            strong: true,
            limit: Some(BACKFILL_ITEMS),
            bytes_max: BACKFILL_BYTES,
            ..Page::default()
        };
        let ItemReply::Page(reply) = self.page(base, &page)? else {
            return Ok(None);
        };
        for item in &reply.items {
            if let Some((key, entry)) = index.entry(table, item)? {
                let entries = entries.entry(index.id).or_default();
                entries.insert(key, Some(entry));
            }
        }
        Ok(Some(Backfill {
            index: index.id,
            done: reply.last_key.is_none(),
            cursor: reply.last_key,
        }))
    }

    /// The command that notes how far a backfill is, at a serving leader. Say `proposed` or `refused`.
    pub fn note_backfill(&mut self, backfill: &Backfill, now_ms: u64) -> Option<Bytes> {
        if self.has_ended() {
            return None;
        }
        command::encode_backfill(self.stamp(now_ms), backfill).ok()
    }

    /// A backfill is so far.
    pub(crate) fn apply_backfill(&mut self, backfill: Backfill) {
        let mut known = self.state.backfills.iter_mut();
        if let Some(known) = known.find(|known| known.index == backfill.index && !known.done) {
            *known = backfill;
        }
    }

    /// A newer definition of the table was applied at this position in the place of `before`.
    pub(crate) fn follow_indexes(&mut self, position: Index, before: &TableDefinition) {
        let table = &self.state.table;
        if table.has_global_indexes() && !before.has_global_indexes() {
            // What was written before is backfilled; its records may lack what propagation needs.
            let changes = &mut self.state.changes;
            changes.acknowledged = changes.acknowledged.max(position);
        }
        let filling = table.indexes.iter().filter(|index| {
            index
                .global()
                .is_some_and(|g| g.backfilling && g.status != TableStatus::Deleting)
        });
        let backfills = filling.map(|index| {
            let known = self.state.backfills.iter().find(|b| b.index == index.id);
            known.cloned().unwrap_or(Backfill {
                index: index.id,
                cursor: None,
                done: false,
            })
        });
        self.state.backfills = backfills.collect();
    }

    /// Makes the command that brings entries into this partition of an index, at a serving leader; answered at once if it is no news.
    pub fn evaluate_entries(
        &mut self,
        base: &impl BTree,
        propagate: &Propagate,
        now_ms: u64,
        caller: C,
    ) -> Result<Evaluated<C>, PartitionError> {
        let fault = |fault| ItemReply::Fault(fault);
        for entry in &propagate.entries {
            if let Some(refusal) = self.refuse_key(&entry.key) {
                return Ok(Evaluated::Answer(caller, refusal));
            }
        }
        if self.known_upto(&propagate.source) >= Some(propagate.upto) {
            return Ok(Evaluated::Answer(caller, written(0, 0)));
        }
        if self.flights.has_source(&propagate.source) {
            // An earlier one is decided first: what it changes is not known yet.
            return Ok(Evaluated::Answer(caller, fault(ItemFault::NotReady)));
        }
        if self.flights.len() >= self.limits.in_flight_max
            || self.flights.bytes() >= self.limits.in_flight_bytes_max
            || self.overlay.bytes() >= self.limits.overlay_bytes_max
        {
            return Ok(Evaluated::Answer(caller, fault(ItemFault::Overloaded)));
        }
        let mut writes = Vec::with_capacity(propagate.entries.len());
        for entry in &propagate.entries {
            let before = self.lookup(base, &entry.key)?;
            if before == entry.item {
                continue;
            }
            let size = |item: &Option<Bytes>| match item {
                Some(item) => encoded_item_size(item),
                None => Ok(0),
            };
            let bytes = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
            writes.push(EntryWrite {
                key: entry.key.clone(),
                old_size_bytes: bytes(size(&before)?),
                new_size_bytes: bytes(size(&entry.item)?),
                item: entry.item.clone(),
            });
        }
        let entries = EntriesCommand {
            mark: SourceMark {
                source: propagate.source.clone(),
                upto: propagate.upto,
            },
            writes,
        };
        let Ok(made) = command::encode_entries(self.stamp(now_ms), &entries) else {
            return Ok(Evaluated::Answer(caller, fault(ItemFault::Unknown)));
        };
        let source = Some(propagate.source.clone());
        self.flights
            .push_from(source, made.clone(), caller, written(0, 0));
        Ok(Evaluated::Propose(made))
    }

    /// How far the changes of a source are that overlaps this one; the furthest.
    fn known_upto(&self, source: &KeyRange) -> Option<Upto> {
        let sources = self.state.sources.iter();
        let overlapping = sources.filter(|mark| mark.source.overlaps(source));
        overlapping.map(|mark| mark.upto).max()
    }

    /// Entries were brought in.
    pub(crate) fn apply_entries_of(&mut self, entries: EntriesCommand) {
        let EntriesCommand { mark, writes } = entries;
        for write in writes {
            self.count(write.old_size_bytes, write.new_size_bytes);
            self.overlay.put(write.key, write.item);
        }
        let sources = &mut self.state.sources;
        sources.retain(|known| known.source != mark.source);
        sources.push(mark);
        prune(sources);
    }
}

/// Forgets a source whose range others cover that are further: the partitions that it was split into.
fn prune(sources: &mut Vec<SourceMark>) {
    sources.sort_by(|a, b| a.source.cmp(&b.source));
    let covered = |old: &SourceMark| {
        let mut at = old.source.start.clone();
        for mark in sources.iter() {
            if *mark != *old && mark.upto >= old.upto && mark.source.start <= at {
                let reaches = |end: &EncodedKey| {
                    end.is_empty() || (!old.source.end.is_empty() && *end >= old.source.end)
                };
                if reaches(&mark.source.end) {
                    return true;
                }
                at = at.max(mark.source.end.clone());
            }
        }
        false
    };
    if let Some(at) = sources.iter().position(covered) {
        sources.remove(at);
    }
}

fn written(old_size_bytes: u64, new_size_bytes: u64) -> ItemReply {
    ItemReply::Written {
        attributes: None,
        old_size_bytes,
        new_size_bytes,
        indexes: Vec::new(),
        collection_bytes: None,
    }
}
