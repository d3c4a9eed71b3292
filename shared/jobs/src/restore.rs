//! A restore: each partition that the source had at the time is rebuilt from the archive, and its items are written into the new table under its own
//! keys.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, TryStreamExt};
use model::codec::decode_item;
use model::key::key_from_item;
use model::{EncodedKey, TableDefinition, TableId};
use objects::ArchiveReader;
use protocol::jobs::{Outcome, Source};

use crate::context::{Context, Progress, Stop, Target};
use crate::fill::{Items, sizes};
use crate::pieces::plan;
use crate::rebuilt::{Rebuilt, piece};

/// Items are written and counted in batches of about so many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// Length of the table's number at the start of a key, bytes.
const TABLE_BYTES: usize = 8;

/// The key of an item in another table with the same key attributes.
pub(crate) fn rekey(key: &[u8], table: TableId) -> EncodedKey {
    let mut rekeyed = Vec::with_capacity(key.len());
    rekeyed.extend_from_slice(&table.0.to_be_bytes());
    rekeyed.extend_from_slice(key.get(TABLE_BYTES..).unwrap_or_default());
    rekeyed.into()
}

/// The key of an item in a table whose keys have another form.
fn key_anew(table: &TableDefinition, item: &[u8]) -> Result<EncodedKey, Stop> {
    let wrong = |why: String| Stop::failed("ArchiveDamaged", why);
    let item = decode_item(item).map_err(|error| wrong(error.to_string()))?;
    key_from_item(table, &item).map_err(|error| wrong(error.message))
}

/// Works on a restore until its end.
pub(crate) async fn run(
    context: Arc<Context>,
    source: Source,
    target: Target,
    progress: Progress,
) -> Result<Outcome, Stop> {
    let reader = ArchiveReader::new(context.objects.clone());
    if progress.get().tasks.is_empty() {
        let tasks = progress.insist(|| plan(&reader, &source)).await?;
        progress.change(|progress| progress.tasks = tasks);
    }
    let parts = progress.get().tasks.len();
    let open = (0..parts).filter(|&at| !progress.task(at).done);
    let part = |at: usize| {
        let (context, reader, source) = (&context, &reader, &source);
        let (target, progress) = (&target, &progress);
        async move { fill_part(context, reader, source, target, progress, at).await }
    };
    stream::iter(open.map(Ok))
        .try_for_each_concurrent(context.settings.parts_at_once, part)
        .await?;
    Ok(Outcome::Done { manifest: None })
}

async fn fill_part(
    context: &Context,
    reader: &ArchiveReader,
    source: &Source,
    target: &Target,
    progress: &Progress,
    at: usize,
) -> Result<(), Stop> {
    let task = progress.task(at);
    let rebuild = piece(reader, source, &task)?;
    let rebuilt = progress
        .insist(|| Rebuilt::of(rebuild.clone(), &context.scratch))
        .await?;
    let mut after = Bytes::from(task.after);
    loop {
        let page = progress.insist(|| rebuilt.page(&after, BATCH_BYTES));
        let (pairs, is_last) = page.await?;
        let last = pairs.last().map(|(key, _)| key.clone());
        let same_form = rebuilt.has_local_indexes() == target.table.has_local_indexes();
        let mut items = Items::with_capacity(pairs.len());
        for (key, item) in pairs {
            let key = match same_form {
                true => rekey(&key, target.table.id),
                false => key_anew(&target.table, &item)?,
            };
            items.push((key, item));
        }
        progress.insist(|| target.fill(context, &items)).await?;
        let (count, bytes) = (items.len() as u64, sizes(&items));
        progress.change_task(at, |task| {
            task.items += count;
            task.bytes += bytes;
            if let Some(last) = &last {
                task.after = last.to_vec();
            }
            task.done = is_last;
        });
        if is_last {
            return Ok(());
        }
        after = last.unwrap_or(after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::key::table_range;

    #[test]
    fn an_item_keeps_its_place_within_the_table() {
        let old = [&20u64.to_be_bytes()[..], b"rest"].concat();
        let new = rekey(&old, TableId(77));
        assert_eq!(new, [&77u64.to_be_bytes()[..], b"rest"].concat());
        assert!(table_range(TableId(77)).contains(&new));
    }
}
