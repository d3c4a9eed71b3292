//! Commands that stay until something is done, and show how far it is: scrubs, splits, drains.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use paxos::{GroupId, NodeId};
use protocol::operate::{Answer, Command, NodeStatus};
use protocol::scrub::{IndexScrub, Overview, PartitionScrub};

use super::desk::Desk;
use super::{AGAIN, REFUSED, screens};

/// While it waits, the mesh may be without an active admin for so long (a change of the lease takes seconds).
const SILENCE_MAX: Duration = Duration::from_secs(60);

impl Desk {
    pub(super) async fn scrub(
        &self,
        table: Option<String>,
        now: bool,
        wait: bool,
    ) -> anyhow::Result<ExitCode> {
        let mut overview = self.all_scrubs(&table, now).await?;
        if let Some(refused) = self.no_table(&table, &overview).await? {
            return self.unexpected(refused);
        }
        if wait {
            let began_ms = overview.now_ms;
            let behind = |p: &&PartitionScrub| p.compared_ms.is_none_or(|at| at < began_ms);
            let late = |i: &&IndexScrub| i.compared_ms.is_none_or(|at| at < began_ms);
            let mut shown = String::new();
            loop {
                let total = overview.partitions.len();
                let indexes = overview.indexes.len();
                let uncompared = overview.indexes.iter().filter(late).count();
                let left = overview.partitions.iter().filter(behind).count();
                // Before its first look at them the scrubber knows of no partitions.
                if left + uncompared == 0 && total > 0 {
                    break;
                }
                let mut line = format!("{} of {total} partitions compared", total - left);
                if indexes > 0 {
                    let done = indexes - uncompared;
                    line.push_str(&format!(", {done} of {indexes} global indexes"));
                }
                if line != shown {
                    eprintln!("{line}");
                    shown = line;
                }
                tokio::time::sleep(AGAIN).await;
                // A partition that comes into sight meanwhile is asked for, too.
                overview = self.all_scrubs(&table, false).await?;
                // It may be deleted meanwhile.
                if let Some(refused) = self.no_table(&table, &overview).await? {
                    return self.unexpected(refused);
                }
            }
        }
        self.print(&overview, || screens::scrubs(&overview))?;
        let differ = overview.indexes.iter().any(|i| !i.finding.is_empty());
        let found = differ || overview.partitions.iter().any(|p| !p.finding.is_empty());
        Ok(ExitCode::from(if found { REFUSED } else { 0 }))
    }

    /// What the admin says to a table of which the scrubber knows no partitions, if there is none.
    async fn no_table(
        &self,
        table: &Option<String>,
        overview: &Overview,
    ) -> anyhow::Result<Option<Answer>> {
        if table.is_none() || !overview.partitions.is_empty() {
            return Ok(None);
        }
        Ok(self.all_partitions(table.clone()).await?.err())
    }

    /// Orders a split, and shows how it goes until the children have taken the parent's place.
    pub(super) async fn watch_split(
        &self,
        order: Command,
        table: &str,
        parent: GroupId,
    ) -> anyhow::Result<ExitCode> {
        match self.ask(&order, self.patience).await? {
            Answer::Done(message) => eprintln!("{message}"),
            other => return self.unexpected(other),
        }
        let mut shown = String::new();
        let mut begun = false;
        let mut last_seen = Instant::now();
        loop {
            let all = match self.all_partitions(Some(table.to_owned())).await? {
                Ok(all) => all,
                Err(other) => return self.unexpected(other),
            };
            let children: Vec<String> = all
                .iter()
                .filter(|p| p.parent == Some(parent))
                .map(|p| p.partition.0.to_string())
                .collect();
            match all.iter().find(|p| p.partition == parent) {
                None if children.len() == 2 => {
                    let children = children.join(" and ");
                    let done = format!("partition {} is split into {children}", parent.0);
                    return self.said(true, &done);
                }
                Some(status) if status.children.is_empty() && begun => {
                    let why = format!("partition {} stays whole: {}", parent.0, status.split);
                    return self.said(false, &why);
                }
                Some(status) => {
                    last_seen = Instant::now();
                    begun |= !status.children.is_empty();
                    let line = format!("partition {}: {}", parent.0, status.split);
                    if line != shown {
                        eprintln!("{line}");
                        shown = line;
                    }
                }
                None if last_seen.elapsed() >= SILENCE_MAX => {
                    return self.said(false, &format!("partition {} is gone", parent.0));
                }
                None => {}
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn node(&self, node: NodeId) -> anyhow::Result<Option<NodeStatus>> {
        match self.ask(&Command::Nodes, SILENCE_MAX).await? {
            Answer::Nodes(nodes) => Ok(nodes.into_iter().find(|n| n.node == node)),
            other => anyhow::bail!("the admin answered something else: {other:?}"),
        }
    }

    /// Orders a drain, and shows how it goes until the node holds nothing.
    pub(super) async fn watch_drain(&self, node: NodeId) -> anyhow::Result<ExitCode> {
        match self.ask(&Command::Drain { node }, self.patience).await? {
            Answer::Done(message) => eprintln!("{message}"),
            other => return self.unexpected(other),
        }
        let mut shown = String::new();
        let mut first = None;
        loop {
            let Some(status) = self.node(node).await? else {
                return self.said(true, &format!("node {} is gone", node.0));
            };
            if !status.draining {
                return self.said(
                    false,
                    &format!("the drain of node {} was cancelled", node.0),
                );
            }
            let left = status.replicas.max(status.hosted);
            if left == 0 {
                return self.said(true, &format!("node {} holds nothing: stop it", node.0));
            }
            let total = *first.get_or_insert(left);
            let percent = 100 * total.saturating_sub(left) / total.max(1);
            let line = format!(
                "node {}: {percent:>3} %  {} leaders, {left} replicas left",
                node.0, status.leading
            );
            if line != shown {
                eprintln!("{line}");
                shown = line;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
