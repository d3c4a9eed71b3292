//! `evenkeel ctl check-index`: compares a global secondary index with its table now, as fast as it goes. How, the scrubber says; owns the report.

use std::time::Duration;

use mesh::Mesh;
use scrubber::index_check::{Pace, Pair, client};
use serde::Serialize;

/// Changes are on their way for a moment: a difference counts if it is the same so much later.
const SETTLE: Duration = Duration::from_secs(6);
/// Differences that are named.
const NAMED_MAX: usize = 100;

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
    /// There were so many that the rest was left out.
    cut: bool,
    /// The first of them: the keys of the items.
    named: Vec<String>,
}

impl Report {
    pub(crate) fn is_clean(&self) -> bool {
        self.differences == 0
    }

    pub(crate) fn text(&self) -> String {
        let least = if self.cut { "at least " } else { "" };
        let mut text = format!(
            "{}: {} items, index {}: {} entries, {least}{} differences",
            self.table, self.items, self.index, self.entries, self.differences
        );
        for key in &self.named {
            text.push_str(&format!("\n  {key}"));
        }
        text
    }
}

/// Compares. The table is charged for it.
pub(crate) async fn check(mesh: &Mesh, table: &str, index: &str) -> anyhow::Result<Report> {
    let pace = Pace {
        items_per_second: 0,
        settle: SETTLE,
        patience: Duration::ZERO,
    };
    let client = client(mesh, false).await?;
    let pair = Pair::find(&client, table, index, pace).await?;
    let mut found = pair.compare(&|_| true).await?;
    found.keys.truncate(NAMED_MAX);
    Ok(Report {
        table: table.to_owned(),
        index: index.to_owned(),
        items: found.items,
        entries: found.entries,
        differences: found.differences,
        cut: found.cut,
        named: found.keys,
    })
}
