//! `evenkeel ctl recover`: after the loss of all storage nodes, every table of the lost mesh is made anew in a fresh one, from the object store alone.
//! Owns the order: what the archive says there was, then table by table. A table that is complete is never touched again, one that is not is
//! made anew; so the command may be repeated until it succeeds. Rebuilds nothing itself (`objects` does).

mod catalog;
mod control;
mod fill;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use archive::TableUuid;
use archive::lineage::Moment;
use clap::Args;
use futures::StreamExt as _;
use mesh::Mesh;
use objects::{ArchiveReader, ArchiveSettings, Objects, Rebuild};
use partition::Commits;
use partition::transactions::{AGE_MS_MAX, AHEAD_MS_MAX, Prepared};
use routing::{Client, ClientSettings};
use serde::Serialize;

use catalog::Lost;
use control::{Control, Found};
use fill::{MeshSink, Target};

/// Options of `evenkeel ctl recover`.
#[derive(Args)]
#[command(
    after_help = "The archive is that of the lost mesh: section [archive] of the file given with --config, variables \
EVENKEEL_ARCHIVE__URL and so on, or --archive. Start a fresh, empty mesh first, and let no clients in until this says that all is \
recovered. It may be repeated: tables that are complete are left alone. Storage nodes limit what a partition takes: for the time of a recovery set \
storage.admission.partition_write_units_max = 0.\n\nExit codes: 0 all tables are there, 1 some are not, 2 wrong usage, 3 no answer."
)]
pub(crate) struct Options {
    /// Where the archive is, if not as the settings say: `file:///folder` or `s3://bucket/prefix`.
    #[arg(long, value_name = "URL")]
    archive: Option<String>,
    /// UUID of the lost mesh's system table, if several meshes have archived into this place.
    #[arg(long, value_name = "UUID")]
    system: Option<String>,
    /// Only this table; may be given several times.
    #[arg(long = "table", value_name = "NAME")]
    tables: Vec<String>,
    /// All tables as of this time, seconds since the epoch, transactions as a whole or not at all; it must not be later than what the archives of all
    /// partitions have. Without it each partition is taken to the end of its own archive.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=9_999_999_999))]
    at: Option<u64>,
    /// Only say what there is, and prove that it can be put together; asks no mesh.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Partitions rebuilt at a time. Each holds a segment and a batch of changes in memory.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=64))]
    parallel: u64,
}

/// What became of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// It is in the archive (`--dry-run`).
    Archived,
    /// It was made anew, and is complete.
    Recovered,
    /// It was complete already, or somebody made one of this name.
    Present,
    /// See its `error`.
    Failed,
}

/// A table in the report.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    table: String,
    /// UUID in the lost mesh.
    uuid: String,
    state: State,
    partitions: usize,
    /// Items, counted in the new table.
    items: u64,
    /// Entries of the log that were replayed.
    entries: u64,
    /// Bytes read from the archive.
    bytes: u64,
    seconds: f64,
    /// The newest command in it, milliseconds since the epoch.
    last_ms: u64,
    /// Items that were pending at the end of their own archive, and whose transactions another one shows to be committed: they have what these wrote.
    settled: usize,
    /// Items whose transactions no archive shows to be committed: they are as before.
    undecided: usize,
    /// Damaged objects that were passed over.
    damaged: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The report.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// UUID of the lost mesh's system table.
    system: String,
    /// As of when, milliseconds since the epoch; none: to the end of each archive.
    at_ms: Option<u64>,
    tables: Vec<Line>,
}

impl Report {
    /// The exit code.
    pub(crate) fn code(&self) -> ExitCode {
        let failed = self.tables.iter().any(|line| line.state == State::Failed);
        ExitCode::from(u8::from(failed))
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("system table {}\n", self.system);
        for line in &self.tables {
            let state = match line.state {
                State::Archived => "archived",
                State::Recovered => "recovered",
                State::Present => "there already",
                State::Failed => "FAILED",
            };
            text += &format!(
                "{:<40} {state:<14} {:>4} partitions {:>12} items {:>10.1} MB {:>8.1} s\n",
                line.table,
                line.partitions,
                line.items,
                line.bytes as f64 / 1e6,
                line.seconds,
            );
            if line.settled + line.undecided > 0 {
                text += &format!(
                    "    pending in transactions: {} items completed, {} left as before\n",
                    line.settled, line.undecided
                );
            }
            for damaged in &line.damaged {
                text += &format!("    passed over: {damaged}\n");
            }
            if let Some(error) = &line.error {
                text += &format!("    {error}\n");
            }
        }
        text.trim_end().to_owned()
    }
}

/// Reads the archive: what there was.
pub(crate) struct Plan {
    reader: ArchiveReader,
    system: TableUuid,
    lost: Vec<Lost>,
    moment: Moment,
    parallel: usize,
}

/// What the archive says there was.
pub(crate) async fn plan(options: &Options, settings: ArchiveSettings) -> anyhow::Result<Plan> {
    let settings = ArchiveSettings {
        url: options.archive.clone().unwrap_or(settings.url),
        ..settings
    };
    anyhow::ensure!(
        settings.is_set(),
        "no archive is named: --archive URL, or archive.url in the settings"
    );
    let objects = Objects::connect(&settings).map_err(anyhow::Error::msg)?;
    let reader = ArchiveReader::new(objects);
    let (system, mut lost) = catalog::read(&reader, options.system.as_deref()).await?;
    if !options.tables.is_empty() {
        lost.retain(|lost| options.tables.contains(&lost.definition.name));
        for name in &options.tables {
            let found = lost.iter().any(|lost| lost.definition.name == *name);
            anyhow::ensure!(found, "the lost mesh had no table {name}");
        }
    }
    Ok(Plan {
        reader,
        system,
        lost,
        moment: options
            .at
            .map_or(Moment::End, |seconds| Moment::Time(seconds * 1_000)),
        parallel: options.parallel as usize,
    })
}

impl Plan {
    /// Proves that each table can be put together, without reading its items.
    pub(crate) async fn check(&self) -> Report {
        let mut lines = Vec::new();
        for lost in &self.lost {
            let pieces = lost.pieces(&self.reader, self.moment).await;
            let mut line = lost.line(State::Archived);
            match pieces {
                Ok((_, pieces)) => line.partitions = pieces.len(),
                Err(error) => line.fail(&error),
            }
            lines.push(line);
        }
        self.report(lines)
    }

    /// Makes the tables anew in this mesh.
    pub(crate) async fn carry_out(&self, mesh: &Mesh) -> anyhow::Result<Report> {
        let client = Client::start(mesh.clone(), ClientSettings::new("")).await;
        let client = client.context("no client of the mesh")?;
        let control = Control::new(mesh.clone());
        let mut lines = Vec::new();
        for lost in &self.lost {
            eprintln!("{}: …", lost.definition.name);
            let started = Instant::now();
            let mut line = lost.line(State::Recovered);
            if let Err(error) = self.table(lost, &control, &client, &mut line).await {
                line.fail(&error);
            }
            line.seconds = started.elapsed().as_secs_f64();
            eprintln!(
                "{}: {:?}, {} items in {:.1} s",
                line.table, line.state, line.items, line.seconds
            );
            lines.push(line);
        }
        Ok(self.report(lines))
    }

    fn report(&self, tables: Vec<Line>) -> Report {
        Report {
            system: self.system.as_str().to_owned(),
            at_ms: self.at_ms(),
            tables,
        }
    }

    async fn table(
        &self,
        lost: &Lost,
        control: &Control,
        client: &Client,
        line: &mut Line,
    ) -> anyhow::Result<()> {
        let (archived, pieces) = lost.pieces(&self.reader, self.moment).await?;
        line.partitions = pieces.len();
        match control.find(&lost.definition.name).await? {
            Found::Nothing => {}
            Found::Unfinished => control.delete(&lost.definition.name).await?,
            Found::Complete => {
                line.state = State::Present;
                return Ok(());
            }
        }
        let definition = control
            .create(&lost.definition, pieces.len(), client)
            .await?;
        let target = Target::new(client.clone(), definition);
        let rebuilds = pieces.into_iter().map(|piece| {
            let (sink, writer) = MeshSink::new(target.clone(), piece.range.clone());
            let partition = archived.partition(piece.partition);
            let rebuild =
                Rebuild::new(self.reader.clone(), partition, self.moment.into()).only(piece.range);
            async move {
                // The writer ends when the rebuild has dropped its sink.
                let rebuild = async {
                    let (sink, rebuilt) = rebuild.run(sink).await?;
                    drop(sink);
                    anyhow::Ok(rebuilt)
                };
                let (rebuilt, written) = futures::join!(rebuild, writer.run());
                // Where the mesh refuses, the rebuild only knows that nobody listens any more.
                written?;
                rebuilt
            }
        });
        // How many items there must be, as far as the log tells.
        let (mut expected, mut undecided) = (Some(0), Vec::new());
        let mut rebuilds =
            futures::stream::iter(rebuilds.collect::<Vec<_>>()).buffer_unordered(self.parallel);
        while let Some(rebuilt) = rebuilds.next().await {
            let rebuilt = rebuilt?;
            expected = expected.zip(rebuilt.items).map(|(sum, items)| sum + items);
            line.entries += rebuilt.entries;
            line.bytes += rebuilt.bytes;
            line.last_ms = line.last_ms.max(rebuilt.tail.time_ms);
            undecided.extend(rebuilt.undecided);
            line.damaged
                .extend(rebuilt.damaged.iter().map(ToString::to_string));
        }
        line.items = target.count().await?;
        if let Some(expected) = expected {
            let found = line.items;
            anyhow::ensure!(
                found == expected,
                "the new table has {found} items, the log says {expected}"
            );
        }
        self.settle(&target, &undecided, line).await?;
        control.complete(&lost.definition).await
    }

    fn at_ms(&self) -> Option<u64> {
        match self.moment {
            Moment::Time(at_ms) => Some(at_ms),
            Moment::End => None,
        }
    }

    /// Completes what was pending at the end of its archive, where that of any other partition shows the transaction to be committed.
    async fn settle(
        &self,
        target: &Target,
        undecided: &[Prepared],
        line: &mut Line,
    ) -> anyhow::Result<()> {
        let Some(since_ms) = undecided.iter().map(|prepared| prepared.since_ms).min() else {
            return Ok(());
        };
        let ids = undecided.iter().map(|prepared| prepared.transaction.id);
        let mut commits = Commits::of(ids.collect());
        let since_ms = since_ms.saturating_sub(AHEAD_MS_MAX + AGE_MS_MAX);
        for table in self.reader.tables().await? {
            for partition in self.reader.partitions(&table).await? {
                objects::read_commits(&self.reader, &partition, since_ms, &mut commits).await?;
            }
        }
        for prepared in undecided {
            match commits.counts(prepared.transaction.id, self.at_ms()) {
                true => {
                    target.settle(prepared).await?;
                    line.settled += 1;
                }
                false => line.undecided += 1,
            }
        }
        if line.settled > 0 {
            line.items = target.count().await?;
        }
        Ok(())
    }
}

impl Lost {
    fn line(&self, state: State) -> Line {
        Line {
            table: self.definition.name.clone(),
            uuid: self.definition.uuid.clone(),
            state,
            partitions: 0,
            items: 0,
            entries: 0,
            bytes: 0,
            seconds: 0.0,
            last_ms: 0,
            settled: 0,
            undecided: 0,
            damaged: Vec::new(),
            error: None,
        }
    }
}

impl Line {
    fn fail(&mut self, error: &anyhow::Error) {
        self.state = State::Failed;
        self.error = Some(format!("{error:#}"));
    }
}

/// Archives of several meshes, for a message.
fn several(systems: &BTreeMap<String, String>) -> String {
    let lines = systems
        .iter()
        .map(|(uuid, what)| format!("\n  --system {uuid}   {what}"));
    lines.collect()
}
