//! `ctl tables` and `ctl top`: what the mesh does, again and again on one screen. Owns the screen; asks through the desk.

use std::cmp::Reverse;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use protocol::operate::{Answer, Command, MeshHealth, PartitionStatus, TableSums, table_sums};
use serde::Serialize;

use super::desk::{Desk, print, print_line};
use super::options::Output;
use super::screens;
use super::table::{Side, bytes, table};

/// Tables and partitions on the screen.
const ROWS_MAX: usize = 15;
/// Clears a terminal, and starts at its top.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// One look.
#[derive(Serialize)]
struct Look {
    health: MeshHealth,
    /// The most used ones.
    tables: Vec<TableSums>,
    /// The most telling ones.
    partitions: Vec<PartitionStatus>,
}

/// Tables as columns.
pub(super) fn tables(tables: &[TableSums]) -> String {
    use Side::{Left, Right};
    let columns = [
        ("TABLE", Left),
        ("PARTITIONS", Right),
        ("ITEMS", Right),
        ("SIZE", Right),
        ("READ/S", Right),
        ("WRITE/S", Right),
        ("REFUSED/S", Right),
        ("HOTTEST", Right),
        ("WHAT", Left),
    ];
    let row = |sums: &TableSums| {
        let mut what = Vec::new();
        if sums.without_leader > 0 {
            what.push(format!("{} without leader", sums.without_leader));
        }
        if sums.endangered > 0 {
            what.push(format!("{} with fewer than three copies", sums.endangered));
        }
        vec![
            sums.name.clone(),
            sums.partitions.to_string(),
            sums.items.to_string(),
            bytes(sums.bytes),
            format!("{:.0}", sums.read_units_s),
            format!("{:.0}", sums.write_units_s),
            format!("{:.0}", sums.refused_units_s),
            format!("{} %", sums.heat_permille / 10),
            what.join("; "),
        ]
    };
    table(&columns, &tables.iter().map(row).collect::<Vec<_>>())
}

fn busy(partition: &PartitionStatus) -> bool {
    partition.leader.is_none()
        || partition.healthy_copies < 3
        || !partition.healing.is_empty()
        || !partition.split.is_empty()
}

fn units(sums: &TableSums) -> u64 {
    (sums.read_units_s + sums.write_units_s + sums.refused_units_s) as u64
}

fn look(health: MeshHealth, mut partitions: Vec<PartitionStatus>) -> Look {
    let mut tables = table_sums(&partitions);
    tables.sort_by_key(|sums| Reverse(units(sums)));
    tables.truncate(ROWS_MAX);
    partitions.sort_by_key(|p| (!busy(p), Reverse(p.heat_permille), p.partition));
    partitions.truncate(ROWS_MAX);
    Look {
        health,
        tables,
        partitions,
    }
}

fn screen(look: &Look) -> String {
    let health = &look.health;
    let word = match health.healthy {
        true => "all is well",
        false => "SOMETHING IS WRONG OR BEING HEALED",
    };
    let healing = match health.healing_total {
        0 => String::new(),
        total => format!(", healing {} of {total}", health.healing_done),
    };
    let archive = health.archive.as_ref().map_or(String::new(), |archive| {
        format!(", archive {} s behind", archive.lag_ms / 1_000)
    });
    let mut parts = vec![
        format!(
            "{word}: {} partitions, {} without leader, {} endangered{healing}{archive}",
            health.partitions,
            health.without_leader.len(),
            health.endangered
        ),
        screens::nodes(&health.nodes),
        tables(&look.tables),
        screens::partitions(&look.partitions),
    ];
    let troubles = health.troubles.iter().take(ROWS_MAX);
    let troubles: Vec<String> = troubles.map(|trouble| format!("! {trouble}")).collect();
    if !troubles.is_empty() {
        parts.push(troubles.join("\n"));
    }
    parts.join("\n\n")
}

impl Desk {
    /// Looks once, or until it is interrupted. What cannot be had at the moment is said on the screen.
    pub(super) async fn top(&self, once: bool, every: Duration) -> anyhow::Result<ExitCode> {
        loop {
            match self.look().await {
                Ok(look) => {
                    let text = || {
                        let clear = !once && std::io::stdout().is_terminal();
                        format!("{}{}", if clear { CLEAR } else { "" }, screen(&look))
                    };
                    match once {
                        true => print(self.output, &look, text)?,
                        false => print_line(self.output, &look, text)?,
                    }
                }
                Err(error) if once => return Err(error),
                Err(error) => eprintln!("{error:#}"),
            }
            if once {
                return Ok(ExitCode::SUCCESS);
            }
            if self.output == Output::Table && !std::io::stdout().is_terminal() {
                println!();
            }
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
            }
        }
    }

    async fn look(&self) -> anyhow::Result<Look> {
        let health = match self.ask(&Command::Health, self.patience).await? {
            Answer::Health(health) => *health,
            other => anyhow::bail!("the admin answered something else: {other:?}"),
        };
        match self.all_partitions(None).await? {
            Ok(partitions) => Ok(look(health, partitions)),
            Err(other) => anyhow::bail!("the admin answered something else: {other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use paxos::{GroupId, NodeId};

    use super::*;

    #[test]
    fn the_screen_begins_with_what_matters() {
        let partition = |id, table: &str, heat_permille, leader| PartitionStatus {
            partition: GroupId(id),
            table: table.into(),
            leader,
            healthy_copies: 3,
            heat_permille,
            write_units_s: heat_permille as f64,
            ..PartitionStatus::default()
        };
        let mut all: Vec<_> = (1..=40)
            .map(|id| partition(id, "music", id, Some(NodeId(1))))
            .collect();
        all.push(partition(99, "orders", 0, None));
        let health = MeshHealth {
            partitions: 41,
            healing_total: 4,
            healing_done: 1,
            troubles: vec!["node 3: its disk is nearly full".into()],
            ..MeshHealth::default()
        };
        let look = look(health, all);
        assert_eq!(look.tables[0].name, "music");
        assert_eq!(look.tables[1].without_leader, 1);
        let shown: Vec<u64> = look.partitions.iter().map(|p| p.partition.0).collect();
        assert_eq!((shown[0], shown[1], shown.len()), (99, 40, ROWS_MAX));
        let text = screen(&look);
        for words in [
            "SOMETHING IS WRONG OR BEING HEALED: 41 partitions, 0 without leader",
            "healing 1 of 4",
            "1 without leader",
            "! node 3: its disk is nearly full",
        ] {
            assert!(text.contains(words), "{words} is not in {text}");
        }
    }
}
