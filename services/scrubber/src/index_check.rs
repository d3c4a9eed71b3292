//! Compares a global secondary index with its table, by strong reads of both: every item must have the entry that it is to have, every entry an item that
//! is to have it. Owns the walks and the reads; what counts as a difference is `suspects`'. Changes nothing.

mod suspects;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use futures::StreamExt as _;
use mesh::{Deadline, Mesh, TraceContext};
use model::codec::{decode_item, encode_item, write_json};
use model::index::{IndexDefinition, index_table_name};
use model::key::{index_range, key_from_key, key_item};
use model::table::TableStatus;
use model::{ApiError, EncodedKey, IndexId, Item, TableDefinition};
use protocol::item::{Get, ItemOperation, ItemReply, Page};
use routing::{Client, ClientSettings};

use suspects::{Look, Suspect, Suspects, judge};

/// Time for one read.
const READ_MAX: Duration = Duration::from_secs(5);
/// Between two tries of a read.
const AGAIN: Duration = Duration::from_millis(500);
/// Reads under way at once.
const READS_AT_ONCE: usize = 16;
/// Items of a page, and their bytes, at most.
const PAGE_ITEMS_MAX: u64 = 256;
const PAGE_BYTES_MAX: u64 = 1 << 18;
/// Under suspicion at a time; with more the walk waits until it is known of those.
const SUSPECTS_MAX: usize = 4_096;
/// So many differences say enough: the walk ends.
const DIFFERENCES_MAX: usize = 1_000;

/// How fast it goes, and how sure it must be.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Items and entries a second; 0 = as fast as they come.
    pub items_per_second: u64,
    /// A difference counts if it stays the same for so long.
    pub settle: Duration,
    /// A read that fails is tried again for so long.
    pub patience: Duration,
}

/// What a comparison found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Items of the table that were looked at.
    pub items: u64,
    /// Entries of the index that were looked at.
    pub entries: u64,
    /// Items whose entry is missing, another one, or one too many; with entries of items that there are not.
    pub differences: u64,
    /// Their keys, as DynamoDB JSON.
    pub keys: Vec<String>,
    /// Items of which nothing could be said: they are written all the time.
    pub moving: u64,
    /// There were so many differences that the rest was left out.
    pub cut: bool,
}

/// A client whose reads are charged to nobody if they are the mesh's own; it hears of the directory first.
///
/// # Errors
/// When the bus can't be had.
pub async fn client(mesh: &Mesh, uncharged: bool) -> anyhow::Result<Client> {
    let settings = ClientSettings {
        uncharged,
        ..ClientSettings::new("")
    };
    let client = Client::start(mesh.clone(), settings).await?;
    let started = Instant::now();
    while !client.has_directory() && started.elapsed() < READ_MAX {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(client)
}

/// A table and one of its global indexes.
pub struct Pair {
    client: Client,
    pace: Pace,
    table: Arc<TableDefinition>,
    index: IndexDefinition,
    entries: Arc<TableDefinition>,
}

async fn definition(client: &Client, name: &str) -> anyhow::Result<Arc<TableDefinition>> {
    let (deadline, trace) = (Deadline::after(READ_MAX), TraceContext::default());
    let found = client.table(name, deadline, &trace).await;
    found.map_err(|error| anyhow::anyhow!("{name}: {}", error.message))
}

fn said(error: ApiError) -> anyhow::Error {
    anyhow::anyhow!("{}", error.message)
}

/// Whether an index holds all that it must, but for what is on its way; if not, why, in words.
fn is_filled(table: &TableDefinition, index: &IndexDefinition) -> Result<(), String> {
    let Some(global) = index.global() else {
        return Err("a local index is a part of its table".to_owned());
    };
    let rests = |status| matches!(status, TableStatus::Active | TableStatus::Updating);
    if global.backfilling || !rests(global.status) {
        return Err("the index is being made or deleted".to_owned());
    }
    match rests(table.status) {
        true => Ok(()),
        false => Err("the table is being made or deleted".to_owned()),
    }
}

impl Pair {
    /// Looks them up.
    ///
    /// # Errors
    /// When there is no such global index, or it cannot be compared now: it is being filled or deleted.
    pub async fn find(
        client: &Client,
        table: &str,
        index: &str,
        pace: Pace,
    ) -> anyhow::Result<Self> {
        let found = definition(client, table).await?;
        let index = found.index(index).cloned();
        let index = index.context("the table has no such index")?;
        is_filled(&found, &index).map_err(anyhow::Error::msg)?;
        let entries = definition(client, &index_table_name(table, &index.name)).await?;
        let of = index.global().map(|global| global.table);
        anyhow::ensure!(of == Some(entries.id), "the index was just made anew");
        Ok(Self {
            client: client.clone(),
            pace,
            table: found,
            index,
            entries,
        })
    }

    /// Number of the table that holds the entries.
    pub fn entries_id(&self) -> u64 {
        self.entries.id.0
    }

    /// Compares. `goes_on` hears how many items and entries were looked at, and says whether to go on.
    ///
    /// # Errors
    /// When something cannot be read for longer than the patience lasts, when it shall not go on, or when index or table were deleted meanwhile.
    pub async fn compare(&self, goes_on: &dyn Fn(u64) -> bool) -> anyhow::Result<Found> {
        let settle_ms = u64::try_from(self.pace.settle.as_millis()).unwrap_or(u64::MAX);
        let mut walk = Walk {
            pair: self,
            goes_on,
            started: Instant::now(),
            looked: 0,
            suspects: Suspects::new(settle_ms),
        };
        let items = walk.along(false).await?;
        let entries = walk.along(true).await?;
        walk.settle().await?;
        let now = Self::find(&self.client, &self.table.name, &self.index.name, self.pace).await?;
        anyhow::ensure!(
            (now.table.id, now.entries.id) == (self.table.id, self.entries.id),
            "it was made anew meanwhile"
        );
        let settled = walk.suspects.settled();
        let mut keys = Vec::with_capacity(settled.len());
        for item in settled.values() {
            let mut text = Vec::new();
            write_json(&encode_item(item), &mut text)?;
            keys.push(String::from_utf8_lossy(&text).into_owned());
        }
        Ok(Found {
            items,
            entries,
            differences: settled.len() as u64,
            keys,
            moving: walk.suspects.moving(),
            cut: walk.is_enough(),
        })
    }

    /// An item, or the item of an entry, and what it must have in the index.
    fn suspect(&self, item: &Bytes, of_index: bool) -> anyhow::Result<Suspect> {
        let entry = match of_index {
            true => self.entry(item)?.map(|(key, _)| key),
            false => None,
        };
        let item = decode_item(item).map_err(|error| anyhow::anyhow!("{}", error.0))?;
        let item: Item = key_item(&self.table, &item);
        let key = key_from_key(&self.table, &item).map_err(said)?;
        Ok(Suspect { item, key, entry })
    }

    fn entry(&self, item: &Bytes) -> anyhow::Result<Option<(EncodedKey, Bytes)>> {
        let entry = self.index.entry(&self.table, item);
        entry.map_err(|error| anyhow::anyhow!("{}", error.0))
    }

    /// Looks at an item, or at an entry, as a page showed it.
    async fn first(&self, shown: &Bytes, of_index: bool) -> anyhow::Result<(Suspect, Look)> {
        let suspect = self.suspect(shown, of_index)?;
        let look = match &suspect.entry {
            Some(entry) => {
                let item = self.get(&self.table, &suspect.key).await?;
                let wanted = self.wanted(item.as_ref())?;
                judge(Some((entry, shown)), wanted.as_ref().map(|(k, v)| (k, v)))
            }
            None => self.of_item(Some(shown)).await?,
        };
        Ok((suspect, look))
    }

    /// Looks at both again.
    async fn again(&self, suspect: &Suspect) -> anyhow::Result<Look> {
        let Some(entry) = &suspect.entry else {
            let item = self.get(&self.table, &suspect.key).await?;
            return self.of_item(item.as_ref()).await;
        };
        let Some(held) = self.get(&self.entries, entry).await? else {
            // It has gone since.
            return Ok(Look::Agrees);
        };
        let item = self.get(&self.table, &suspect.key).await?;
        let wanted = self.wanted(item.as_ref())?;
        let wanted = wanted.as_ref().map(|(k, v)| (k, v));
        Ok(judge(Some((entry, &held)), wanted))
    }

    async fn of_item(&self, item: Option<&Bytes>) -> anyhow::Result<Look> {
        let Some((key, wanted)) = self.wanted(item)? else {
            return Ok(Look::Agrees);
        };
        let held = self.get(&self.entries, &key).await?;
        let held = held.as_ref().map(|held| (&key, held));
        Ok(judge(held, Some((&key, &wanted))))
    }

    fn wanted(&self, item: Option<&Bytes>) -> anyhow::Result<Option<(EncodedKey, Bytes)>> {
        match item {
            Some(item) => self.entry(item),
            None => Ok(None),
        }
    }

    async fn get(
        &self,
        definition: &TableDefinition,
        key: &EncodedKey,
    ) -> anyhow::Result<Option<Bytes>> {
        let read = async || {
            let get = Get {
                key: key.clone(),
                strong: true,
                projection: None,
            };
            let (deadline, trace) = (Deadline::after(READ_MAX), TraceContext::default());
            let operation = ItemOperation::Get(get);
            let reply = self
                .client
                .item(definition, key, operation, deadline, &trace);
            match reply.await {
                Ok(ItemReply::Item { item, .. }) => Ok(item),
                Ok(other) => anyhow::bail!("a read was answered with {other:?}"),
                Err(error) => Err(said(error)),
            }
        };
        self.patiently(read).await
    }

    /// Tries again what fails: leaders change.
    async fn patiently<T>(&self, read: impl AsyncFn() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let started = Instant::now();
        loop {
            match read().await {
                Err(_) if started.elapsed() < self.pace.patience => {
                    tokio::time::sleep(AGAIN).await;
                }
                result => return result,
            }
        }
    }
}

/// A comparison under way.
struct Walk<'a> {
    pair: &'a Pair,
    goes_on: &'a dyn Fn(u64) -> bool,
    started: Instant,
    /// Items and entries so far.
    looked: u64,
    suspects: Suspects,
}

impl Walk<'_> {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_enough(&self) -> bool {
        self.suspects.settled().len() >= DIFFERENCES_MAX
    }

    fn ask(&self) -> anyhow::Result<()> {
        anyhow::ensure!((self.goes_on)(self.looked), "it was given up");
        Ok(())
    }

    /// Looks at each item of the table, or each entry of the index; returns how many there were.
    async fn along(&mut self, of_index: bool) -> anyhow::Result<u64> {
        let pair = self.pair;
        let definition = match of_index {
            true => &pair.entries,
            false => &pair.table,
        };
        let rate = pair.pace.items_per_second;
        let limit = match rate {
            0 => PAGE_ITEMS_MAX,
            rate => (rate / 4).clamp(1, PAGE_ITEMS_MAX),
        };
        let (mut after, mut count) = (None, 0);
        while !self.is_enough() {
            self.ask()?;
            let begun = Instant::now();
            let read = async || {
                let page = Page {
                    range: index_range(definition.id, IndexId(0)),
                    after: after.clone(),
                    strong: true,
                    limit: u32::try_from(limit).ok(),
                    bytes_max: PAGE_BYTES_MAX,
                    ..Page::default()
                };
                let (deadline, trace) = (Deadline::after(READ_MAX), TraceContext::default());
                let page = pair.client.page(definition, page, deadline, &trace).await;
                page.map_err(said)
            };
            let page = pair.patiently(read).await?;
            let looks = page.items.iter().map(|item| pair.first(item, of_index));
            let mut looks = futures::stream::iter(looks).buffer_unordered(READS_AT_ONCE);
            while let Some(look) = looks.next().await {
                let (suspect, look) = look?;
                self.suspects.first(self.now_ms(), suspect, look);
            }
            drop(looks);
            count += page.count;
            self.looked += page.count;
            self.look_again().await?;
            if self.suspects.waiting() >= SUSPECTS_MAX {
                self.settle().await?;
            }
            after = page.last_key;
            if after.is_none() {
                break;
            }
            if let Some(ms) = (page.count * 1_000).checked_div(rate) {
                let wanted = Duration::from_millis(ms);
                tokio::time::sleep(wanted.saturating_sub(begun.elapsed())).await;
            }
        }
        Ok(count)
    }

    /// Looks again at those that are due.
    async fn look_again(&mut self) -> anyhow::Result<()> {
        let pair = self.pair;
        let due = self.suspects.due(self.now_ms());
        let looks = due.into_iter().map(async |suspect| {
            let look = pair.again(&suspect).await;
            look.map(|look| (suspect, look))
        });
        let mut looks = futures::stream::iter(looks).buffer_unordered(READS_AT_ONCE);
        while let Some(look) = looks.next().await {
            let (suspect, look) = look?;
            self.suspects.again(self.now_ms(), &suspect, look);
        }
        Ok(())
    }

    /// Stays until it is known of all suspects.
    async fn settle(&mut self) -> anyhow::Result<()> {
        while self.suspects.waiting() > 0 {
            self.ask()?;
            let pause = self
                .pair
                .pace
                .settle
                .clamp(Duration::from_millis(10), AGAIN);
            tokio::time::sleep(pause).await;
            self.look_again().await?;
        }
        Ok(())
    }
}
