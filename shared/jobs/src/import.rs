//! An import: the objects of a bucket are read record by record, and written into the new table. A record that is no item is counted, and the import
//! goes on.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use flate2::read::MultiGzDecoder;
use futures::stream::{self, TryStreamExt};
use model::EncodedKey;
use objects::Objects;
use protocol::jobs::{Import, Outcome, Task};
use tokio::sync::mpsc;

use crate::bucket;
use crate::context::{Context, Progress, Stop, Target};
use crate::fill::Items;
use crate::lines::Records;

/// Objects of one import at most (service quotas).
const OBJECTS_MAX: usize = 50_000;
/// Items are written and counted in batches of about so many bytes …
const BATCH_BYTES: usize = 1 << 20;
/// … or so many records.
const BATCH_RECORDS: u64 = 1_000;
/// What was wrong is told of so many records of an object.
const EXAMPLES_MAX: usize = 5;
/// Length of what is told, characters.
const EXAMPLE_MAX: usize = 200;

/// Works on an import until its end.
pub(crate) async fn run(
    context: Arc<Context>,
    import: Import,
    target: Target,
    progress: Progress,
) -> Result<Outcome, Stop> {
    let objects = bucket::open(context.objects.settings(), &import.bucket)?;
    if progress.get().tasks.is_empty() {
        let tasks = progress.insist(|| plan(&objects, &import.prefix)).await?;
        progress.change(|progress| progress.tasks = tasks);
    }
    let parts = progress.get().tasks.len();
    let open = (0..parts).filter(|&at| !progress.task(at).done);
    let part = |at: usize| {
        let (context, import, objects) = (&context, &import, &objects);
        let (target, progress) = (&target, &progress);
        async move {
            let act = || read_part(context, import, objects, target, progress, at);
            progress.insist(act).await
        }
    };
    stream::iter(open.map(Ok))
        .try_for_each_concurrent(context.settings.parts_at_once, part)
        .await?;
    Ok(Outcome::Done { manifest: None })
}

async fn plan(objects: &Objects, prefix: &str) -> Result<Vec<Task>, Stop> {
    let listed = bucket::list(objects, prefix).await?;
    if listed.is_empty() {
        return Err(Stop::failed(
            "S3NoSuchKey",
            format!("No object has a name that begins with '{prefix}'"),
        ));
    }
    if listed.len() > OBJECTS_MAX {
        let message = format!(
            "{} objects, at most {OBJECTS_MAX} can be imported",
            listed.len()
        );
        return Err(Stop::failed("TooManyObjects", message));
    }
    let task = |object: objects::Listed| Task {
        object: object.key,
        ..Task::default()
    };
    Ok(listed.into_iter().map(task).collect())
}

/// Records that were read together.
#[derive(Default)]
struct Batch {
    /// The last one of a key counts.
    items: BTreeMap<EncodedKey, Bytes>,
    bytes: usize,
    records: u64,
    good: u64,
    errors: Vec<String>,
    error_count: u64,
}

async fn read_part(
    context: &Context,
    import: &Import,
    objects: &Objects,
    target: &Target,
    progress: &Progress,
    at: usize,
) -> Result<(), Stop> {
    let task = progress.task(at);
    let body = objects.get(&task.object).await.map_err(bucket::failure)?;
    let size = body.len() as u64;
    // Decompression and parsing block; two batches at most are in memory.
    let (sender, mut batches) = mpsc::channel::<Batch>(1);
    let (format, gzip, table) = (import.format.clone(), import.gzip, target.table.clone());
    let skip = task.records;
    let reader = tokio::task::spawn_blocking(move || {
        let file: Box<dyn Read> = match gzip {
            true => Box::new(MultiGzDecoder::new(body.reader())),
            false => Box::new(body.reader()),
        };
        read(Records::open(file, &format, &table)?, skip, &sender)
    });
    while let Some(batch) = batches.recv().await {
        let items: Items = batch.items.into_iter().collect();
        target.fill(context, &items).await?;
        for error in &batch.errors {
            tracing::warn!(
                object = task.object,
                error,
                "a record could not be imported"
            );
        }
        progress.change_task(at, |task| {
            task.records += batch.records;
            task.items += batch.good;
            task.errors += batch.error_count;
            let room = EXAMPLES_MAX.saturating_sub(task.examples.len());
            task.examples.extend(batch.errors.into_iter().take(room));
        });
    }
    let ended = reader
        .await
        .map_err(|error| Stop::Later(error.to_string()))?;
    progress.change_task(at, |task| {
        if let Err(why) = ended {
            // The rest of the object can't be read: one error.
            task.errors += 1;
            if task.examples.len() < EXAMPLES_MAX {
                task.examples.push(short(&why));
            }
        }
        task.bytes = size;
        task.done = true;
    });
    Ok(())
}

fn short(why: &str) -> String {
    why.chars().take(EXAMPLE_MAX).collect()
}

/// Reads all records behind the first `skip`.
fn read<R: Read>(
    mut records: Records<'_, R>,
    skip: u64,
    sender: &mpsc::Sender<Batch>,
) -> Result<(), String> {
    let mut batch = Batch::default();
    let mut number = 0;
    let send = |batch: &mut Batch| {
        let batch = std::mem::take(batch);
        // The other side stopped: so do we.
        batch.records == 0 || sender.blocking_send(batch).is_ok()
    };
    let ended = loop {
        let record = match records.next() {
            Ok(Some(record)) => record,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        number += 1;
        if number <= skip {
            continue;
        }
        batch.records += 1;
        match record {
            Ok((key, item)) => {
                batch.good += 1;
                batch.bytes += key.len() + item.len();
                batch.items.insert(key, item);
            }
            Err(why) => {
                batch.error_count += 1;
                if batch.errors.len() < EXAMPLES_MAX {
                    batch.errors.push(short(&format!("record {number}: {why}")));
                }
            }
        }
        let is_full = batch.bytes >= BATCH_BYTES || batch.records >= BATCH_RECORDS;
        if is_full && !send(&mut batch) {
            return Ok(());
        }
    };
    send(&mut batch);
    ended
}
