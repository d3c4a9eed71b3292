//! Reading a key range that covers many partitions, for Query and Scan. Owns the order of the partitions and the sum of their
//! pages. Never evaluates filters.

use std::sync::Arc;

use mesh::{Deadline, TraceContext};
use model::{ApiError, EncodedKey, KeyRange, TableDefinition, TableId};
use protocol::directory::PartitionInfo;
use protocol::item::{ItemFault, ItemOperation, ItemReply, Page, PageReply};

use crate::client::Client;
use crate::errors;

/// Partitions that one call of `covering` returns at most; a table of a petabyte has that many.
const PARTITIONS_MAX: usize = 100_000;

impl Client {
    /// One page of a key range that may cover many partitions, for Query and Scan: reads partition after partition in reading
    /// order until `limit` items are evaluated, `bytes_max` is exceeded or the range ends. `last_key` in the reply is set when
    /// there may be more; continue with it as `Page::after`. A partition that has no capacity units left ends the page behind what
    /// was read before it, or, if that is nothing, is the error.
    pub async fn page(
        &self,
        table: &TableDefinition,
        page: Page,
        deadline: Deadline,
        trace: &TraceContext,
    ) -> Result<PageReply, ApiError> {
        let mut sum = PageReply::default();
        let mut rest = page;
        // Keys before `rest.range` in reading direction are done.
        while let Some(key) = self.first_key(table.id, &rest, deadline, trace).await? {
            let operation = ItemOperation::Page(Box::new(rest.clone()));
            let (reply, partition) = self
                .call_storage(table.id, &key, operation, deadline, trace)
                .await?;
            let reply = match reply {
                ItemReply::Page(reply) => reply,
                ItemReply::Fault(ItemFault::Throttled { direction, .. }) => {
                    if sum.end_key.is_none() {
                        return Err(self.throttled(table, direction));
                    }
                    sum.last_key = sum.end_key.take();
                    sum.last_key_item = sum.end_key_item.take();
                    break;
                }
                _ => {
                    tracing::error!("a storage node answered a page request with something else");
                    return Err(errors::unknown());
                }
            };
            if rest.reverse && !reaches(&partition.range, &rest) {
                // It was split since it was chosen: keys behind this part would be skipped.
                continue;
            }
            let full = rest.take(&reply);
            let more = reply.last_key.is_some();
            add(&mut sum, reply);
            if more || full || !rest.skip(&partition.range) {
                break;
            }
        }
        Ok(sum)
    }

    /// A key of the partition that comes next in reading direction; none at the end.
    async fn first_key(
        &self,
        id: TableId,
        rest: &Page,
        deadline: Deadline,
        trace: &TraceContext,
    ) -> Result<Option<EncodedKey>, ApiError> {
        let range = unread(rest);
        if range.is_empty() {
            return Ok(None);
        }
        if !rest.reverse {
            return Ok(Some(range.start));
        }
        let partitions = self.covering(id, &range, deadline, *trace).await?;
        Ok(partitions
            .last()
            .map(|last| last.range.start.clone().max(range.start.clone())))
    }

    /// The partitions that cover `range`, in key order.
    pub(crate) async fn covering(
        &self,
        id: TableId,
        range: &KeyRange,
        deadline: Deadline,
        trace: TraceContext,
    ) -> Result<Vec<Arc<PartitionInfo>>, ApiError> {
        let mut found = Vec::new();
        let mut position = range.start.clone();
        while found.len() < PARTITIONS_MAX {
            let info = self.locate(id, &position, deadline, trace).await?;
            position = info.range.end.clone();
            found.push(info);
            if position.is_empty() || (!range.end.is_empty() && position >= range.end) {
                break;
            }
        }
        Ok(found)
    }
}

/// What is left of a page's range, given its `after`. The key `after` itself is still inside: the node leaves it out.
fn unread(rest: &Page) -> KeyRange {
    let mut range = rest.range.clone();
    match &rest.after {
        Some(after) if rest.reverse && (range.end.is_empty() || *after < range.end) => {
            range.end = after.clone();
        }
        Some(after) if !rest.reverse && *after > range.start => range.start = after.clone(),
        _ => {}
    }
    range
}

/// Whether a partition's range reaches the end of what is left, so that reading it backwards skips nothing.
fn reaches(range: &KeyRange, rest: &Page) -> bool {
    let unread = unread(rest);
    range.end.is_empty() || (!unread.end.is_empty() && unread.end <= range.end)
}

fn add(sum: &mut PageReply, reply: PageReply) {
    sum.items.extend(reply.items);
    sum.count += reply.count;
    sum.scanned_count += reply.scanned_count;
    sum.bytes_read += reply.bytes_read;
    sum.fetched_blocks += reply.fetched_blocks;
    sum.last_key = reply.last_key;
    sum.last_key_item = reply.last_key_item;
    if reply.end_key.is_some() {
        sum.end_key = reply.end_key;
        sum.end_key_item = reply.end_key_item;
    }
}

trait Rest {
    fn take(&mut self, reply: &PageReply) -> bool;
    fn skip(&mut self, done: &KeyRange) -> bool;
}

impl Rest for Page {
    /// Takes what a partition used off the limits; says whether they are used up.
    fn take(&mut self, reply: &PageReply) -> bool {
        self.bytes_max = self.bytes_max.saturating_sub(reply.bytes_read);
        if let Some(limit) = &mut self.limit {
            let scanned = u32::try_from(reply.scanned_count).unwrap_or(u32::MAX);
            *limit = limit.saturating_sub(scanned);
        }
        self.bytes_max == 0 || self.limit == Some(0)
    }

    /// Goes on behind a partition that is done; false at the end of the range.
    fn skip(&mut self, done: &KeyRange) -> bool {
        self.after = None;
        if self.reverse {
            self.range.end = done.start.clone();
        } else {
            if done.end.is_empty() {
                return false;
            }
            self.range.start = done.end.clone();
        }
        !(self.range.is_empty() || self.reverse && self.range.end.is_empty())
    }
}
