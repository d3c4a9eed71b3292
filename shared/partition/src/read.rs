//! Reads of applied state: one item, or one page of a key range. Streams overlay and B-tree merged; decodes an item only for
//! a filter or projection.

use std::ops::ControlFlow;

use bytes::Bytes;
use model::codec::{decode_item, encode_item, encoded_item_size, pick_attributes};
use model::key::COLLECTION_BYTES;
use model::{ApiError, KeyRange};
use protocol::item::{Get, ItemFault, ItemReply, Page, PageReply};

use crate::partition::Partition;
use crate::{BTree, KEY_BYTES_MAX, PartitionError};

/// Largest page whatever is asked for: DynamoDB's 1 MB.
const PAGE_BYTES_MAX: u64 = 1 << 20;

impl<C> Partition<C> {
    /// Reads one item. For a strong read the shell has checked the lease.
    pub fn get(&self, base: &impl BTree, get: &Get) -> Result<ItemReply, PartitionError> {
        if let Some(refusal) = self.refuse_key(&get.key) {
            return Ok(refusal);
        }
        let Some(item) = self.lookup(base, &get.key)? else {
            return Ok(ItemReply::Item {
                item: None,
                size_bytes: 0,
            });
        };
        let size_bytes = encoded_item_size(&item)?;
        let item = match &get.projection {
            Some(projection) => encode_item(&projection.apply(&decode_item(&item)?)),
            None => item,
        };
        Ok(ItemReply::Item {
            item: Some(item),
            size_bytes,
        })
    }

    /// Reads one page. For a strong read the shell has checked the lease.
    pub fn page(&self, base: &impl BTree, page: &Page) -> Result<ItemReply, PartitionError> {
        let range = match self.clip(page) {
            Ok(Some(range)) => range,
            Ok(None) => return Ok(ItemReply::Page(PageReply::default())),
            Err(fault) => return Ok(ItemReply::Fault(fault)),
        };
        let table = &self.state.table;
        let index = match page.index {
            None => None,
            Some(id) => match table.index_by_id(id).and_then(|i| Some((i, i.slot()?))) {
                None => return Ok(ItemReply::Fault(unknown_index())),
                index => index,
            },
        };
        let names = match index {
            Some((index, _)) => index.key_names(&table.keys),
            None => table.position_names(),
        };
        let mut reader = Reader::new(page, names);
        match index {
            Some(index) => self.read_entries(base, index, page, range.clone(), &mut reader)?,
            None => self.read_items(base, page, &range, &mut reader)?,
        }
        let last = match page.name_last && !reader.stopped && reader.reply.scanned_count > 0 {
            true => self.last_of(base, range, page)?,
            false => None,
        };
        if let Some(last) = last {
            reader.reply.end_key = last.last_key;
            reader.reply.end_key_item = last.last_key_item;
        }
        reader.finish()
    }

    /// Reads the items within `range` until the page is full.
    fn read_items(
        &self,
        base: &impl BTree,
        page: &Page,
        range: &KeyRange,
        reader: &mut Reader<'_>,
    ) -> Result<(), PartitionError> {
        let passes_entries = self.state.table.has_local_indexes();
        self.walk(base, range, page.reverse, &mut |key, item, raw| {
            if passes_entries && key.get(COLLECTION_BYTES).is_some_and(|slot| *slot != 0) {
                return ControlFlow::Continue(());
            }
            reader.visit(key, item, raw)
        })
    }

    /// The page of the last item of a range, in the reading direction of `page`.
    fn last_of(
        &self,
        base: &impl BTree,
        range: KeyRange,
        page: &Page,
    ) -> Result<Option<PageReply>, PartitionError> {
        let backwards = Page {
            range,
            after: None,
            reverse: !page.reverse,
            strong: page.strong,
            limit: Some(1),
            bytes_max: page.bytes_max,
            filter: None,
            projection: None,
            count_only: true,
            believed: None,
            name_last: false,
            index: page.index,
            fetch: page.fetch,
        };
        Ok(match self.page(base, &backwards)? {
            ItemReply::Page(reply) => Some(reply),
            _ => None,
        })
    }

    /// The keys to read: the page's range within the partition, behind `after`; none when nothing is left.
    fn clip(&self, page: &Page) -> Result<Option<KeyRange>, ItemFault> {
        let own = &self.state.range;
        if page.believed.as_ref().is_some_and(|range| range != own) || self.has_ended() {
            return Err(ItemFault::WrongRange {
                partition: None,
                children: Vec::new(),
            });
        }
        let bounds = [&page.range.start, &page.range.end]
            .into_iter()
            .chain(&page.after);
        if bounds.into_iter().any(|bound| bound.len() > KEY_BYTES_MAX) {
            return Err(ItemFault::Api(ApiError::validation(
                "an encoded range bound is too long",
            )));
        }
        let mut range = page.range.clone();
        if range.start < own.start {
            range.start = own.start.clone();
        }
        if range.end.is_empty() || (!own.end.is_empty() && own.end < range.end) {
            range.end = own.end.clone();
        }
        let is_empty = |range: &KeyRange| !range.end.is_empty() && range.start >= range.end;
        if is_empty(&range) && !is_empty(&page.range) {
            return Err(ItemFault::WrongRange {
                partition: None,
                children: Vec::new(),
            });
        }
        match &page.after {
            // The first key behind `after` is `after` and a zero byte.
            Some(after) if !page.reverse && *after >= range.start => {
                range.start = [after, &[0][..]].concat().into();
            }
            // Nothing lies before the empty key.
            Some(after) if page.reverse && after.is_empty() => return Ok(None),
            Some(after) if page.reverse && (range.end.is_empty() || *after < range.end) => {
                range.end = after.clone();
            }
            _ => {}
        }
        Ok((!is_empty(&range)).then_some(range))
    }
}

fn unknown_index() -> ItemFault {
    ItemFault::Api(ApiError::validation(
        "the partition knows no such local index",
    ))
}

/// Collects a page.
pub(crate) struct Reader<'a> {
    pub(crate) page: &'a Page,
    /// Attributes that tell where a page stopped.
    names: Vec<&'a str>,
    pub(crate) reply: PageReply,
    stopped: bool,
    failure: Option<Failure>,
}

enum Failure {
    Fault(ItemFault),
    Error(PartitionError),
}

impl<'a> Reader<'a> {
    fn new(page: &'a Page, names: Vec<&'a str>) -> Self {
        Self {
            page,
            names,
            reply: PageReply::default(),
            stopped: false,
            failure: None,
        }
    }

    fn visit(&mut self, key: &[u8], item: &[u8], raw: impl FnOnce() -> Bytes) -> ControlFlow<()> {
        match encoded_item_size(item) {
            Ok(bytes) => self.take(key, item, item, bytes, raw),
            Err(error) => {
                self.failure = Some(Failure::Error(error.into()));
                self.stopped = true;
                ControlFlow::Break(())
            }
        }
    }

    /// Takes what is read of an item: what is shown, which counts so many bytes.
    pub(crate) fn take(
        &mut self,
        key: &[u8],
        item: &[u8],
        shown: &[u8],
        bytes: u64,
        raw: impl FnOnce() -> Bytes,
    ) -> ControlFlow<()> {
        match self.add(shown, bytes, raw) {
            Ok(()) => {}
            Err(failure) => {
                self.failure = Some(failure);
                self.stopped = true;
                return ControlFlow::Break(());
            }
        }
        let reply = &mut self.reply;
        let full = reply.bytes_read >= self.page.bytes_max.min(PAGE_BYTES_MAX)
            || self
                .page
                .limit
                .is_some_and(|limit| reply.scanned_count >= u64::from(limit));
        if !full {
            return ControlFlow::Continue(());
        }
        match pick_attributes(item, &self.names) {
            Ok(keys) => reply.last_key_item = Some(keys),
            Err(error) => self.failure = Some(Failure::Error(error.into())),
        }
        reply.last_key = Some(Bytes::copy_from_slice(key));
        self.stopped = true;
        ControlFlow::Break(())
    }

    fn add(&mut self, item: &[u8], bytes: u64, raw: impl FnOnce() -> Bytes) -> Result<(), Failure> {
        let error = |error: model::codec::CodecError| Failure::Error(error.into());
        let page = self.page;
        self.reply.scanned_count += 1;
        self.reply.bytes_read += bytes;
        let projection = page.projection.as_ref().filter(|_| !page.count_only);
        let decoded = if page.filter.is_some() || projection.is_some() {
            Some(decode_item(item).map_err(error)?)
        } else {
            None
        };
        if let (Some(filter), Some(decoded)) = (&page.filter, &decoded) {
            match filter.evaluate(decoded) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(api) => return Err(Failure::Fault(ItemFault::Api(api))),
            }
        }
        self.reply.count += 1;
        if !page.count_only {
            let item = match (projection, &decoded) {
                (Some(projection), Some(decoded)) => encode_item(&projection.apply(decoded)),
                _ => raw(),
            };
            self.reply.items.push(item);
        }
        Ok(())
    }

    fn finish(self) -> Result<ItemReply, PartitionError> {
        match self.failure {
            None => Ok(ItemReply::Page(self.reply)),
            Some(Failure::Fault(fault)) => Ok(ItemReply::Fault(fault)),
            Some(Failure::Error(error)) => Err(error),
        }
    }
}
