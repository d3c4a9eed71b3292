//! What the operator sees. Pure: text of answers.

use std::collections::BTreeMap;

use paxos::{GroupId, Role};
use protocol::operate::{
    MeshHealth, NodeStatus, PartitionStatus, ReplicaStatus, ThroughputStatus, Vitality,
};
use protocol::scrub::{IndexScrub, Overview, PartitionScrub};

use super::table::{Side, bytes, duration, table};

/// A node's state in words.
fn state(node: &NodeStatus) -> String {
    let mut words = vec![node.vitality.word().to_owned()];
    if node.vitality != Vitality::Alive {
        words.push(format!("for {}", duration(node.silent_ms)));
    }
    for (is, word) in [
        (node.slow, "slow"),
        (node.stopping, "stopping"),
        (node.draining, "draining"),
    ] {
        if is {
            words.push(word.to_owned());
        }
    }
    words.join(" ")
}

fn micros(us: u64) -> String {
    match us {
        0 => "-".to_owned(),
        us => format!("{:.1} ms", us as f64 / 1_000.0),
    }
}

pub fn nodes(nodes: &[NodeStatus]) -> String {
    use Side::{Left, Right};
    let columns = [
        ("NODE", Right),
        ("ZONE", Left),
        ("STATE", Left),
        ("REPLICAS", Right),
        ("LEADERS", Right),
        ("FENCED", Right),
        ("USED", Right),
        ("FREE", Right),
        ("SYNC", Right),
        ("ACKS", Right),
        ("VERSION", Left),
    ];
    let row = |node: &NodeStatus| {
        vec![
            node.node.0.to_string(),
            node.zone.clone(),
            state(node),
            node.replicas.to_string(),
            node.leading.to_string(),
            node.fenced.to_string(),
            bytes(node.used_bytes),
            bytes(node.free_bytes),
            micros(node.sync_us),
            micros(node.acknowledged_us),
            node.version.clone(),
        ]
    };
    table(&columns, &nodes.iter().map(row).collect::<Vec<_>>())
}

/// How the scrubs go.
pub fn scrubs(overview: &Overview) -> String {
    use Side::{Left, Right};
    let columns = [
        ("PARTITION", Right),
        ("TABLE", Left),
        ("SIZE", Right),
        ("CLEAN", Right),
        ("ARCHIVE CLEAN", Right),
        ("STATE", Left),
    ];
    let ago = |at: Option<u64>| match at {
        None => "never".to_owned(),
        Some(at) => format!("{} ago", duration(overview.now_ms.saturating_sub(at))),
    };
    let row = |partition: &PartitionScrub| {
        vec![
            partition.partition.0.to_string(),
            partition.table.clone(),
            bytes(partition.bytes),
            ago(partition.clean_ms),
            ago(partition.archive_clean_ms),
            partition.state.clone(),
        ]
    };
    let rows: Vec<_> = overview.partitions.iter().map(row).collect();
    let findings = overview.partitions.iter().filter(|p| !p.finding.is_empty());
    let mut findings: Vec<String> = findings
        .map(|p| format!("! partition {}: {}", p.partition.0, p.finding))
        .collect();
    let mut text = format!(
        "scrubber {}: {} a second and node; {}\n\n{}",
        overview.instance,
        bytes(overview.bytes_per_second),
        overview.archive,
        table(&columns, &rows)
    );
    if !overview.indexes.is_empty() {
        let columns = [("GLOBAL INDEX", Left), ("CLEAN", Right), ("STATE", Left)];
        let row = |index: &IndexScrub| {
            let (name, state) = (index.table.clone(), index.state.clone());
            vec![name, ago(index.clean_ms), state]
        };
        let rows: Vec<_> = overview.indexes.iter().map(row).collect();
        text.push_str(&format!("\n\n{}", table(&columns, &rows)));
    }
    let differ = overview.indexes.iter().filter(|i| !i.finding.is_empty());
    findings.extend(differ.map(|i| format!("! index {} {}", i.table, i.finding)));
    if !findings.is_empty() {
        text.push_str("\n\n");
        text.push_str(&findings.join("\n"));
    }
    text
}

/// A replica as `3`, `3*` (leads), `3l` (log replica), `3+` (no vote), with `!` when something is wrong.
fn replica(replica: &ReplicaStatus, partition: &PartitionStatus) -> String {
    let mut text = replica.node.0.to_string();
    if partition.leader == Some(replica.node) && replica.votes {
        text.push('*');
    }
    if replica.role == Role::Log {
        text.push('l');
    } else if !replica.votes {
        text.push('+');
    }
    if !replica.healthy {
        text.push('!');
    }
    text
}

fn partition_rows(partitions: &[PartitionStatus]) -> String {
    use Side::{Left, Right};
    let columns = [
        ("PARTITION", Right),
        ("TABLE", Left),
        ("REPLICAS", Left),
        ("COPIES", Right),
        ("GEN", Right),
        ("ITEMS", Right),
        ("SIZE", Right),
        ("READ/S", Right),
        ("WRITE/S", Right),
        ("HEAT", Right),
        ("PARENT", Right),
        ("WHAT", Left),
    ];
    let row = |partition: &PartitionStatus| {
        let replicas = partition.replicas.iter();
        let replicas: Vec<String> = replicas.map(|r| replica(r, partition)).collect();
        let wrong = partition.replicas.iter().filter(|r| !r.healthy);
        let mut what: Vec<String> = wrong
            .map(|r| format!("{}: {}", r.node.0, r.state))
            .collect();
        if partition.leader.is_none() {
            what.insert(0, "no leader".to_owned());
        }
        let doing = [&partition.healing, &partition.split];
        what.extend(doing.into_iter().filter(|words| !words.is_empty()).cloned());
        let heat = match partition.refused_units_s > 0.0 {
            true => format!("{} % (refuses)", partition.heat_permille / 10),
            false => format!("{} %", partition.heat_permille / 10),
        };
        vec![
            partition.partition.0.to_string(),
            partition.table.clone(),
            replicas.join(" "),
            partition.healthy_copies.to_string(),
            partition.generation.to_string(),
            partition.items.to_string(),
            bytes(partition.bytes),
            format!("{:.0}", partition.read_units_s),
            format!("{:.0}", partition.write_units_s),
            heat,
            partition.parent.map_or("-".to_owned(), |p| p.0.to_string()),
            what.join("; "),
        ]
    };
    table(&columns, &partitions.iter().map(row).collect::<Vec<_>>())
}

pub fn partitions(partitions: &[PartitionStatus]) -> String {
    format!(
        "{}\n(* leads, l log replica, + no vote yet, ! see WHAT)",
        partition_rows(partitions)
    )
}

pub fn throughput(tables: &[ThroughputStatus]) -> String {
    use Side::{Left, Right};
    let columns = [
        ("TABLE", Left),
        ("", Left),
        ("RATE/S", Right),
        ("DEMAND/S", Right),
        ("SHARES/S", Right),
        ("SAVED", Right),
        ("OWED", Right),
        ("ROUTERS", Right),
        ("GAC", Right),
    ];
    let rows = tables.iter().flat_map(|table| {
        let sides = [("reads", &table.read), ("writes", &table.write)];
        sides.map(|(word, side)| {
            let mut row = vec![table.table.clone(), word.to_owned()];
            let units = [
                side.rate_s,
                side.demand_s,
                side.shares_s,
                side.saved,
                side.owed,
            ];
            row.extend(units.map(|units| format!("{units:.0}")));
            row.extend([table.routers.to_string(), table.instance.to_string()]);
            row
        })
    });
    table(&columns, &rows.collect::<Vec<_>>())
}

fn numbers(groups: &[GroupId]) -> String {
    let numbers: Vec<String> = groups.iter().map(|g| g.0.to_string()).collect();
    numbers.join(" ")
}

pub fn health(health: &MeshHealth) -> String {
    let mut lines = Vec::new();
    let verdict = match (health.healthy, health.healing_running) {
        (true, _) => "all is well",
        (false, 0) => "needs attention",
        (false, _) => "healing",
    };
    let others: Vec<String> = health
        .admins
        .iter()
        .filter(|&&admin| admin != health.admin)
        .map(u64::to_string)
        .collect();
    let standby = match others.as_slice() {
        [] => "none".to_owned(),
        others => others.join(", "),
    };
    lines.push(format!("mesh        {verdict}"));
    lines.push(format!(
        "admin       {} active (epoch {}); standby: {standby}",
        health.admin, health.epoch
    ));
    let mut states: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in &health.nodes {
        let mut word = node.vitality.word().to_owned();
        for (is, mark) in [(node.slow, "slow"), (node.draining, "draining")] {
            if is {
                word = format!("{word}, {mark}");
            }
        }
        states
            .entry(word)
            .or_default()
            .push(node.node.0.to_string());
    }
    let states: Vec<String> = states
        .iter()
        .map(|(word, nodes)| match word.as_str() {
            "alive" => format!("{} alive", nodes.len()),
            _ => format!("{} {word} (node {})", nodes.len(), nodes.join(", ")),
        })
        .collect();
    lines.push(format!("nodes       {}", states.join("; ")));
    lines.push(format!(
        "partitions  {} led, {} without leader, {} with fewer than three healthy copies",
        health.partitions,
        health.without_leader.len(),
        health.endangered
    ));
    if let Some(archive) = &health.archive {
        let lag = match archive.unarchived_bytes {
            0 => "everything is archived".to_owned(),
            waiting => format!(
                "{} wait, the oldest for {} s",
                bytes(waiting),
                archive.lag_ms / 1_000
            ),
        };
        let store = if archive.store_up {
            ""
        } else {
            "; the store does not answer"
        };
        lines.push(format!(
            "archive     {} partitions, {lag}{store}",
            archive.partitions
        ));
    }
    if !health.without_leader.is_empty() {
        lines.push(format!("no leader   {}", numbers(&health.without_leader)));
    }
    if health.healing_total > health.healing_done {
        let percent = 100 * health.healing_done / health.healing_total;
        lines.push(format!(
            "healing     {percent} %: {} of {} replicas done, {} under way",
            health.healing_done, health.healing_total, health.healing_running
        ));
    }
    for why in &health.waiting {
        lines.push(format!("waiting     {why}"));
    }
    for fenced in &health.fenced {
        lines.push(format!(
            "fenced      partition {} on node {}",
            fenced.partition.0, fenced.node.0
        ));
    }
    for trouble in &health.troubles {
        lines.push(format!("trouble     {trouble}"));
    }
    if !health.most_endangered.is_empty() {
        lines.push(String::new());
        lines.push(partition_rows(&health.most_endangered));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use paxos::NodeId;
    use protocol::operate::ThroughputSide;

    fn node(number: u64, vitality: Vitality) -> NodeStatus {
        NodeStatus {
            node: NodeId(number),
            zone: "az1".into(),
            vitality,
            slow: false,
            stopping: false,
            draining: number == 2,
            silent_ms: 61_000,
            replicas: 3,
            leading: 1,
            hosted: 3,
            used_bytes: 2_048,
            free_bytes: 0,
            fenced: 0,
            sync_us: 1_500,
            acknowledged_us: 0,
            version: "0.1.0".into(),
        }
    }

    fn partition() -> PartitionStatus {
        let replica = |node, role, votes, healthy, state: &str| ReplicaStatus {
            node: NodeId(node),
            zone: "az1".into(),
            role,
            votes,
            healthy,
            state: state.into(),
        };
        PartitionStatus {
            partition: GroupId(17),
            table: "music".into(),
            leader: Some(NodeId(1)),
            generation: 5,
            replicas: vec![
                replica(1, Role::Storage, true, true, "leader"),
                replica(4, Role::Log, true, true, "in step"),
                replica(3, Role::Storage, false, false, "node dead"),
            ],
            healthy_copies: 1,
            items: 10,
            bytes: 0,
            healing: "node 3 -> node 6 (node dead)".into(),
            heard_ms: Some(1),
            write_units_s: 701.6,
            heat_permille: 702,
            parent: Some(GroupId(16)),
            split: "hot, but a single item has most of the consumption".into(),
            ..PartitionStatus::default()
        }
    }

    #[test]
    fn nodes_are_told_with_what_is_odd_about_them() {
        let text = nodes(&[node(1, Vitality::Dead), node(2, Vitality::Alive)]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("dead for 61 s"), "{text}");
        assert!(lines[2].contains("alive draining"), "{text}");
        assert!(lines[2].contains("1.5 ms"), "{text}");
    }

    #[test]
    fn partitions_mark_leaders_log_replicas_and_what_is_wrong() {
        let text = partitions(&[partition()]);
        assert!(text.contains("1* 4l 3+!"), "{text}");
        let what = "3: node dead; node 3 -> node 6 (node dead)";
        assert!(text.contains(what), "{text}");
        let heat = ["702", "70 %", " 16 ", "hot, but a single item"];
        for part in heat {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn throughput_shows_both_directions_of_each_table() {
        let side = |demand_s| ThroughputSide {
            rate_s: 1_000.0,
            demand_s,
            shares_s: 999.6,
            saved: 30_000.0,
            owed: 12.0,
        };
        let table = ThroughputStatus {
            table: "music".into(),
            instance: 2,
            routers: 4,
            read: side(10.0),
            write: side(2_500.0),
        };
        let text = throughput(&[table]);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        let row = |word, demand| {
            vec![
                "music", word, "1000", demand, "1000", "30000", "12", "4", "2",
            ]
        };
        assert_eq!(lines[1..], [row("reads", "10"), row("writes", "2500")]);
    }

    #[test]
    fn health_fits_one_screen_and_says_what_is_wrong() {
        let fine = MeshHealth {
            healthy: true,
            admin: 1,
            epoch: 3,
            admins: vec![1, 2],
            nodes: vec![node(1, Vitality::Alive)],
            partitions: 5,
            ..MeshHealth::default()
        };
        let text = health(&fine);
        assert!(text.starts_with("mesh        all is well\n"), "{text}");
        assert!(text.contains("1 active (epoch 3); standby: 2"), "{text}");
        assert_eq!(text.lines().count(), 4, "{text}");
        let ill = MeshHealth {
            healthy: false,
            nodes: vec![node(1, Vitality::Alive), node(3, Vitality::Dead)],
            endangered: 1,
            most_endangered: vec![partition()],
            healing_total: 8,
            healing_done: 3,
            healing_running: 4,
            without_leader: vec![GroupId(16), GroupId(18)],
            ..fine
        };
        let text = health(&ill);
        for part in [
            "mesh        healing",
            "1 dead (node 3)",
            "healing     37 %: 3 of 8 replicas done, 4 under way",
            "no leader   16 18",
            "1* 4l 3+!",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn scrubs_show_indexes_and_name_what_differs() {
        let mut overview = Overview {
            now_ms: 100_000,
            ..Overview::default()
        };
        assert!(!scrubs(&overview).contains("GLOBAL INDEX"));
        let clean = IndexScrub {
            table: "music/index/year".into(),
            state: "clean: 5 items, 4 entries".into(),
            clean_ms: Some(40_000),
            ..IndexScrub::default()
        };
        let differs = IndexScrub {
            table: "music/index/genre".into(),
            state: "differs".into(),
            finding: "differs from its table in 1 items: {\"pk\":{\"S\":\"a\"}}".into(),
            ..IndexScrub::default()
        };
        overview.indexes = vec![clean, differs];
        let text = scrubs(&overview);
        let shown = "GLOBAL INDEX          CLEAN  STATE
music/index/year   60 s ago  clean: 5 items, 4 entries
music/index/genre     never  differs

! index music/index/genre differs from its table in 1 items: {\"pk\":{\"S\":\"a\"}}";
        assert!(text.ends_with(shown), "{text}");
    }
}
