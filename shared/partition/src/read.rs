//! Reads of applied state: one item, or one page of a key range. Streams overlay and B-tree merged; decodes an item only for
//! a filter or projection.

use std::ops::ControlFlow;

use bytes::Bytes;
use model::codec::{decode_item, encode_item, encoded_item_size, pick_attributes};
use model::{ApiError, KeyRange, TableDefinition};
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
        let mut reader = Reader::new(page, &self.state.table);
        let mut upper = self.overlay.range(&range, page.reverse).peekable();
        base.scan(&range, page.reverse, &mut |key, item| {
            // Overlay entries that come before this pair, then the one that hides it.
            while let Some((upper_key, upper_item)) = upper.peek() {
                let order = upper_key[..].cmp(key);
                let order = if page.reverse { order.reverse() } else { order };
                if order.is_gt() {
                    break;
                }
                if let Some(item) = upper_item {
                    reader.visit(upper_key, item, || item.clone())?;
                }
                upper.next();
                if order.is_eq() {
                    return ControlFlow::Continue(());
                }
            }
            reader.visit(key, item, || Bytes::copy_from_slice(item))
        })?;
        for (key, item) in upper {
            if reader.stopped {
                break;
            }
            if let Some(item) = item
                && reader.visit(key, item, || item.clone()).is_break()
            {
                break;
            }
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

/// Collects a page.
struct Reader<'a> {
    page: &'a Page,
    table: &'a TableDefinition,
    reply: PageReply,
    stopped: bool,
    failure: Option<Failure>,
}

enum Failure {
    Fault(ItemFault),
    Error(PartitionError),
}

impl<'a> Reader<'a> {
    fn new(page: &'a Page, table: &'a TableDefinition) -> Self {
        Self {
            page,
            table,
            reply: PageReply::default(),
            stopped: false,
            failure: None,
        }
    }

    fn visit(&mut self, key: &[u8], item: &[u8], raw: impl FnOnce() -> Bytes) -> ControlFlow<()> {
        match self.add(item, raw) {
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
        let keys = &self.table.keys;
        let names = [Some(&keys.partition), keys.sort.as_ref()];
        let names: Vec<&str> = names
            .into_iter()
            .flatten()
            .map(|key| key.name.as_str())
            .collect();
        match pick_attributes(item, &names) {
            Ok(keys) => reply.last_key_item = Some(keys),
            Err(error) => self.failure = Some(Failure::Error(error.into())),
        }
        reply.last_key = Some(Bytes::copy_from_slice(key));
        self.stopped = true;
        ControlFlow::Break(())
    }

    fn add(&mut self, item: &[u8], raw: impl FnOnce() -> Bytes) -> Result<(), Failure> {
        let error = |error: model::codec::CodecError| Failure::Error(error.into());
        let page = self.page;
        self.reply.scanned_count += 1;
        self.reply.bytes_read += encoded_item_size(item).map_err(error)?;
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
