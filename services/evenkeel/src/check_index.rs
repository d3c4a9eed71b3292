//! `evenkeel ctl check-index`: compares a global secondary index with its table, by strong reads of both. Changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures::StreamExt as _;
use mesh::{Deadline, Mesh, TraceContext};
use model::codec::{decode_item, write_json};
use model::index::{IndexDefinition, index_table_name};
use model::key::{index_range, key_from_key};
use model::{EncodedKey, IndexId, Item, TableDefinition};
use protocol::item::{Get, ItemOperation, ItemReply, Page};
use routing::{Client, ClientSettings};
use serde::Serialize;

/// Time for one read.
const READ_MAX: Duration = Duration::from_secs(5);
/// Reads under way at once.
const READS_AT_ONCE: usize = 32;
/// Differences that are looked at again, and named; all others are only counted.
const NAMED_MAX: usize = 100;
/// Changes are on their way for a moment: a difference counts if it is still there so much later …
const PAUSE: Duration = Duration::from_secs(2);
/// … for so many looks.
const LOOKS: usize = 3;

/// What was found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    table: String,
    index: String,
    /// Items of the table.
    items: u64,
    /// Entries of the index.
    entries: u64,
    /// Items whose entry is missing or another one, or entries without their item.
    differences: u64,
    /// The first of them: the keys of the items.
    named: Vec<String>,
}

impl Report {
    pub(crate) fn is_clean(&self) -> bool {
        self.differences == 0
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{}: {} items, index {}: {} entries, {} differences",
            self.table, self.items, self.index, self.entries, self.differences
        );
        for key in &self.named {
            text.push_str(&format!("\n  {key}"));
        }
        text
    }
}

/// Table and index.
struct Pair {
    client: Client,
    table: Arc<TableDefinition>,
    index: IndexDefinition,
    entries: Arc<TableDefinition>,
}

/// Compares.
pub(crate) async fn check(mesh: &Mesh, table: &str, index: &str) -> anyhow::Result<Report> {
    let client = Client::start(mesh.clone(), ClientSettings::new("")).await?;
    let started = std::time::Instant::now();
    while !client.has_directory() && started.elapsed() < READ_MAX {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let found = definition(&client, table).await?;
    let index = found.index(index).cloned();
    let index = index.context("the table has no such index")?;
    anyhow::ensure!(!index.is_local(), "a local index is a part of its table");
    let entries = definition(&client, &index_table_name(table, &index.name)).await?;
    let pair = Pair {
        client,
        table: found,
        index,
        entries,
    };
    let mut report = Report {
        table: table.to_owned(),
        index: pair.index.name.clone(),
        ..Report::default()
    };
    let mut suspects = BTreeMap::new();
    report.items = pair
        .walk(false, &mut suspects, &mut report.differences)
        .await?;
    report.entries = pair
        .walk(true, &mut suspects, &mut report.differences)
        .await?;
    for _ in 0..LOOKS {
        if suspects.is_empty() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        let mut left = BTreeMap::new();
        for (key, suspect) in suspects {
            match pair.agrees(&suspect).await? {
                true => report.differences -= 1,
                false => drop(left.insert(key, suspect)),
            }
        }
        suspects = left;
    }
    for suspect in suspects.values() {
        let mut text = Vec::new();
        write_json(&model::codec::encode_item(&suspect.item), &mut text)?;
        report
            .named
            .push(String::from_utf8_lossy(&text).into_owned());
    }
    Ok(report)
}

/// An item that may be wrong in the index.
struct Suspect {
    /// Its key attributes.
    item: Item,
    /// Key of the entry that was found; none: the item was.
    entry: Option<EncodedKey>,
}

async fn definition(client: &Client, name: &str) -> anyhow::Result<Arc<TableDefinition>> {
    let (deadline, trace) = (Deadline::after(READ_MAX), TraceContext::default());
    let found = client.table(name, deadline, &trace).await;
    found.map_err(|error| anyhow::anyhow!("{name}: {}", error.message))
}

impl Pair {
    /// Looks at each item of the table, or each entry of the index; returns how many there are.
    async fn walk(
        &self,
        of_index: bool,
        suspects: &mut BTreeMap<EncodedKey, Suspect>,
        differences: &mut u64,
    ) -> anyhow::Result<u64> {
        let definition = match of_index {
            true => &self.entries,
            false => &self.table,
        };
        let (mut after, mut count) = (None, 0);
        loop {
            let page = Page {
                range: index_range(definition.id, IndexId(0)),
                after,
                strong: true,
                bytes_max: 1 << 20,
                ..Page::default()
            };
            let (deadline, trace) = (Deadline::after(READ_MAX), TraceContext::default());
            let page = self.client.page(definition, page, deadline, &trace).await;
            let page = page.map_err(|error| anyhow::anyhow!("{}", error.message))?;
            count += page.count;
            let looks = page.items.iter().map(|item| async move {
                let suspect = self.suspect(item, of_index)?;
                Ok::<_, anyhow::Error>((self.agrees(&suspect).await?, suspect))
            });
            let mut looks = futures::stream::iter(looks).buffer_unordered(READS_AT_ONCE);
            while let Some(look) = looks.next().await {
                let (agrees, suspect) = look?;
                if agrees {
                    continue;
                }
                let key = match &suspect.entry {
                    Some(entry) => entry.clone(),
                    None => self.key(&suspect.item)?,
                };
                *differences += 1;
                if suspects.len() < NAMED_MAX {
                    suspects.insert(key, suspect);
                }
            }
            drop(looks);
            after = page.last_key;
            if after.is_none() {
                return Ok(count);
            }
        }
    }

    fn suspect(&self, item: &Bytes, of_index: bool) -> anyhow::Result<Suspect> {
        let entry = match of_index {
            true => self.entry(item)?.map(|(key, _)| key),
            false => None,
        };
        let item = decode_item(item).map_err(|error| anyhow::anyhow!("{}", error.0))?;
        let item = model::key::key_item(&self.table, &item);
        Ok(Suspect { item, entry })
    }

    fn key(&self, item: &Item) -> anyhow::Result<EncodedKey> {
        key_from_key(&self.table, item).map_err(|error| anyhow::anyhow!("{}", error.message))
    }

    fn entry(&self, item: &Bytes) -> anyhow::Result<Option<(EncodedKey, Bytes)>> {
        let entry = self.index.entry(&self.table, item);
        entry.map_err(|error| anyhow::anyhow!("{}", error.0))
    }

    /// Whether index and table say the same of an item: that it is entered as it is; or that what the index holds is what it is.
    async fn agrees(&self, suspect: &Suspect) -> anyhow::Result<bool> {
        let held = match &suspect.entry {
            None => None,
            Some(key) => match self.get(&self.entries, key.clone()).await? {
                // It has gone since.
                None => return Ok(true),
                Some(held) => Some((key.clone(), held)),
            },
        };
        let item = self.get(&self.table, self.key(&suspect.item)?).await?;
        let wanted = match &item {
            Some(item) => self.entry(item)?,
            None => None,
        };
        match (held, wanted) {
            (Some(held), wanted) => Ok(Some(held) == wanted),
            (None, None) => Ok(true),
            (None, Some((key, entry))) => Ok(self.get(&self.entries, key).await? == Some(entry)),
        }
    }

    async fn get(
        &self,
        definition: &TableDefinition,
        key: EncodedKey,
    ) -> anyhow::Result<Option<Bytes>> {
        let get = Get {
            key: key.clone(),
            strong: true,
            projection: None,
        };
        let (deadline, trace) = (Deadline::after(READ_MAX), TraceContext::default());
        let operation = ItemOperation::Get(get);
        let reply = self
            .client
            .item(definition, &key, operation, deadline, &trace);
        match reply.await {
            Ok(ItemReply::Item { item, .. }) => Ok(item),
            Ok(other) => anyhow::bail!("a read was answered with {other:?}"),
            Err(error) => anyhow::bail!("{}", error.message),
        }
    }
}
