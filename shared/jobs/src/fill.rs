//! Writes into a table that is being filled: through the leaders, replicated as any write, at a bounded rate. Owns their retries: the same item put twice
//! is put once, so that what is not known to be done is done again.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, TryStreamExt};
use mesh::{Deadline, TraceContext};
use model::codec::encoded_item_size;
use model::{EncodedKey, ErrorKind};
use protocol::item::{ItemOperation, ItemReply, ReturnValues, Write, WriteAction};

use crate::context::{Context, Stop, Target};

/// Time for one write: longer than an election.
const WRITE_MAX: Duration = Duration::from_secs(5);

/// Items of a table that is being filled, with their keys there.
pub(crate) type Items = Vec<(EncodedKey, Bytes)>;

/// Sizes of items as the API counts them, summed, bytes.
pub(crate) fn sizes(items: &Items) -> u64 {
    items
        .iter()
        .map(|(_, item)| encoded_item_size(item).unwrap_or(0))
        .sum()
}

impl Target {
    /// Writes items, in no order; all are durable when this is `Ok`.
    pub(crate) async fn fill(&self, context: &Context, items: &Items) -> Result<(), Stop> {
        let bytes = items
            .iter()
            .map(|(key, item)| key.len() + item.len())
            .sum::<usize>();
        context.pace(bytes as u64).await;
        stream::iter(items.iter().map(Ok))
            .try_for_each_concurrent(context.settings.writes_at_once, |(key, item)| {
                self.put(key, item)
            })
            .await
    }

    async fn put(&self, key: &EncodedKey, item: &Bytes) -> Result<(), Stop> {
        let write = Write {
            key: key.clone(),
            action: WriteAction::Fill(item.clone()),
            condition: None,
            return_values: ReturnValues::None,
            return_on_failure: false,
        };
        let (deadline, trace) = (Deadline::after(WRITE_MAX), TraceContext::default());
        let operation = ItemOperation::Write(Box::new(write));
        let reply = self
            .client
            .item(&self.table, key, operation, deadline, &trace);
        match reply.await {
            Ok(ItemReply::Written { .. }) => Ok(()),
            Ok(other) => Err(Stop::failed(
                "InternalError",
                format!("a write was answered by {other:?}"),
            )),
            Err(error) => match error.kind {
                // Somebody else has filled it, or it is gone: the admin knows.
                ErrorKind::ResourceInUse => Err(Stop::failed("TableInUse", error)),
                ErrorKind::Validation => Err(Stop::failed("ItemInvalid", error)),
                _ => Err(Stop::Later(error.to_string())),
            },
        }
    }
}
