//! An export: each partition that the table had at the time is rebuilt from the archive, and written as compressed lines of DynamoDB JSON; manifests
//! last. Nothing of the live table is read.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream::{self, TryStreamExt};
use model::codec::{encoded_item_size, write_json};
use objects::{ArchiveReader, Objects, PutMode};
use protocol::jobs::{Export, ExportedFile, Outcome};

use crate::bucket;
use crate::context::{Context, Progress, Stop};
use crate::manifest;
use crate::pieces::plan;
use crate::rebuilt::{Rebuilt, piece};

/// Items are read in pages of about so many bytes.
const PAGE_BYTES: usize = 1 << 20;

/// Works on an export until its end.
pub(crate) async fn run(
    context: Arc<Context>,
    export: Export,
    progress: Progress,
) -> Result<Outcome, Stop> {
    let reader = ArchiveReader::new(context.objects.clone());
    let objects = bucket::open(context.objects.settings(), &export.bucket)?;
    let folder = manifest::folder(&export);
    // Whether the bucket can be written shows before any work is done.
    put(
        &progress,
        &objects,
        &format!("{folder}_started"),
        Bytes::new(),
    )
    .await?;
    if progress.get().tasks.is_empty() {
        let tasks = progress.insist(|| plan(&reader, &export.source)).await?;
        progress.change(|progress| progress.tasks = tasks);
    }
    let parts = progress.get().tasks.len();
    let open = (0..parts).filter(|&at| !progress.task(at).done);
    let part = |at: usize| {
        let (context, reader, export) = (&context, &reader, &export);
        let (objects, progress) = (&objects, &progress);
        async move { write_part(context, reader, export, objects, progress, at).await }
    };
    stream::iter(open.map(Ok))
        .try_for_each_concurrent(context.settings.parts_at_once, part)
        .await?;
    let tasks = progress.get().tasks;
    let files = manifest::files(tasks.iter().flat_map(|task| &task.files));
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let ended_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let summary = manifest::summary(&export, &tasks, ended_ms);
    for (name, content) in [("manifest-files", files), ("manifest-summary", summary)] {
        let (checksum, _) = manifest::checksums(content.as_bytes());
        put(
            &progress,
            &objects,
            &format!("{folder}{name}.checksum"),
            checksum.into(),
        )
        .await?;
        put(
            &progress,
            &objects,
            &format!("{folder}{name}.json"),
            content.into(),
        )
        .await?;
    }
    Ok(Outcome::Done {
        manifest: Some(format!("{folder}manifest-summary.json")),
    })
}

async fn put(progress: &Progress, objects: &Objects, key: &str, body: Bytes) -> Result<(), Stop> {
    let act = || async {
        let put = objects.put(key, body.clone(), PutMode::Replace);
        put.await.map(|_| ()).map_err(bucket::failure)
    };
    progress.insist(act).await
}

/// A file while it is written.
struct File {
    gzip: GzEncoder<Vec<u8>>,
    line: Vec<u8>,
    items: u64,
    /// Sizes of the items as the API counts them.
    bytes: u64,
    written: usize,
}

impl File {
    fn new() -> Self {
        Self {
            gzip: GzEncoder::new(Vec::new(), Compression::default()),
            line: Vec::new(),
            items: 0,
            bytes: 0,
            written: 0,
        }
    }

    fn add(&mut self, item: &[u8]) -> Result<(), Stop> {
        let wrong = |error: &dyn ToString| Stop::failed("ArchiveDamaged", error.to_string());
        self.line.clear();
        self.line.extend_from_slice(b"{\"Item\":");
        write_json(item, &mut self.line).map_err(|error| wrong(&error))?;
        self.line.extend_from_slice(b"}\n");
        self.gzip
            .write_all(&self.line)
            .map_err(|error| wrong(&error))?;
        self.items += 1;
        self.bytes += encoded_item_size(item).map_err(|error| wrong(&error))?;
        self.written += self.line.len();
        Ok(())
    }

    fn finish(self) -> Result<Bytes, Stop> {
        let bytes = self.gzip.finish();
        bytes
            .map(Bytes::from)
            .map_err(|error| Stop::Later(error.to_string()))
    }
}

async fn write_part(
    context: &Context,
    reader: &ArchiveReader,
    export: &Export,
    objects: &Objects,
    progress: &Progress,
    at: usize,
) -> Result<(), Stop> {
    let task = progress.task(at);
    let rebuild = piece(reader, &export.source, &task)?;
    let rebuilt = progress
        .insist(|| Rebuilt::of(rebuild.clone(), &context.scratch))
        .await?;
    let mut after = Bytes::from(task.after);
    let mut file = File::new();
    loop {
        let page = progress.insist(|| rebuilt.page(&after, PAGE_BYTES));
        let (pairs, is_last) = page.await?;
        for (key, item) in &pairs {
            file.add(item)?;
            after = key.clone();
        }
        if file.written < context.settings.export_file_bytes && !is_last {
            continue;
        }
        // A partition without items has a file, too.
        let (items, bytes) = (file.items, file.bytes);
        let body = std::mem::replace(&mut file, File::new()).finish()?;
        let (md5, etag) = manifest::checksums(&body);
        let key = manifest::data_key(export, &progress.task(at));
        put(progress, objects, &key, body).await?;
        progress.change_task(at, |task| {
            task.files.push(ExportedFile {
                key,
                items,
                md5,
                etag,
            });
            task.items += items;
            task.bytes += bytes;
            task.after = after.to_vec();
            task.done = is_last;
        });
        if is_last {
            return Ok(());
        }
    }
}
