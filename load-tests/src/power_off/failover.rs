//! `evenkeel-load failover`: what single faults cost, each by itself under steady traffic: a node lost, a node restarted, a link cut. Watches the
//! members and ballots of all partitions as their leaders push them to memds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context as _, bail};
use mesh::{BusSettings, Identity, Mesh, Subscription};
use paxos::{Ballot, GroupId, NodeId, Role};
use protocol::directory::{PartitionInfo, Push};
use protocol::subjects;
use tokio::time::Instant;

use super::drill;
use super::network::{Links, Rule};
use super::processes::Processes;
use super::record::{Call, Class, Record};
use super::topology::{Kind, Topology};
use super::traffic::{Shared, Traffic};

/// Steady traffic that latencies are compared with.
const BEFORE: Duration = Duration::from_secs(15);
/// A link stays cut for so long.
const CUT: Duration = Duration::from_secs(10);
/// Between two measurements.
const SETTLE: Duration = Duration::from_secs(10);
/// For log replicas to be there.
const LOG_REPLICAS_MAX: Duration = Duration::from_secs(60);

/// Options of `failover`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// What to run where: written by infra/zones/prepare.
    #[arg(long)]
    mesh: PathBuf,
    /// Requests a second.
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// Seconds for the admin to build full storage replicas elsewhere while the node stays away; then it is started again.
    #[arg(long, default_value_t = 90)]
    patience: u64,
    /// Nothing else: restarts every storage node in turn (SIGTERM), so many times.
    #[arg(long, default_value_t = 0)]
    rolling: usize,
    /// Nothing else: cuts the link between each two zones in turn, for 10 s, so many times.
    #[arg(long, default_value_t = 0)]
    cuts: usize,
}

/// The newest of each partition.
#[derive(Default)]
struct Directory(Mutex<BTreeMap<GroupId, PartitionInfo>>);

impl Directory {
    fn learn(&self, push: Push) {
        let mut known = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        for info in push.partitions {
            let newer = known
                .get(&info.partition)
                .is_none_or(|old| (info.generation, info.ballot) >= (old.generation, old.ballot));
            if newer {
                known.insert(info.partition, info);
            }
        }
    }

    fn all(&self) -> Vec<PartitionInfo> {
        let known = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        known.values().cloned().collect()
    }

    fn ballots(&self) -> BTreeMap<GroupId, Ballot> {
        self.all()
            .into_iter()
            .map(|info| (info.partition, info.ballot))
            .collect()
    }
}

/// Starts the mesh, measures, prints a table, ends the mesh.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let topology = Topology::read(&options.mesh)?;
    let mut processes = Processes::new(&topology)?;
    let outcome = tokio::select! {
        outcome = measure(options, &topology, &mut processes) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    processes.stop_all().await?;
    outcome
}

async fn watch(topology: &Topology) -> anyhow::Result<(Mesh, Subscription, Arc<Directory>)> {
    let nats = topology
        .processes
        .iter()
        .filter(|process| process.kind == Kind::Nats);
    let urls = nats.map(|process| {
        // The health port is two above the service's.
        let (host, port) = process
            .health
            .rsplit_once(':')
            .unwrap_or((&process.health, "0"));
        let port = port.parse::<u16>().unwrap_or_default().saturating_sub(2);
        format!("nats://{host}:{port}")
    });
    let settings = BusSettings {
        urls: urls.collect(),
        ..BusSettings::default()
    };
    let identity = Identity {
        service: "failover".to_owned(),
        instance: 1,
        incarnation: 1,
    };
    let mesh = Mesh::connect(&settings, identity).await?;
    let directory = Arc::new(Directory::default());
    let learning = directory.clone();
    let subscription = mesh
        .serve(subjects::MEMDS_PUSH, None, move |delivery| {
            if let Ok(push) = delivery.decode::<Push>() {
                learning.learn(push);
            }
        })
        .await?;
    Ok((mesh, subscription, directory))
}

/// Latencies and longest wait of the writes that were called within a span.
fn writes(calls: &[Call], from_us: u64, to_us: u64) -> (f64, f64, f64, usize) {
    let within = calls
        .iter()
        .filter(|call| call.class == Class::Write && (from_us..to_us).contains(&call.at_us));
    let failed = within.clone().filter(|call| !call.done).count();
    let mut took: Vec<u64> = within
        .filter(|call| call.done)
        .map(|call| call.took_us)
        .collect();
    took.sort_unstable();
    let at = |permille: usize| {
        let rank = (took.len() * permille).div_ceil(1_000).max(1) - 1;
        took.get(rank).map_or(0.0, |us| *us as f64 / 1e3)
    };
    (at(500), at(990), at(1_000), failed)
}

struct Row {
    what: String,
    span: (u64, u64),
    numbers: String,
}

async fn measure(
    options: &Options,
    topology: &Topology,
    processes: &mut Processes,
) -> anyhow::Result<()> {
    let mut links = Links::new(topology).await?;
    let clients = drill::start(topology, processes).await?;
    let (_mesh, _subscription, directory) = watch(topology).await?;
    let record = Arc::new(Record::new());
    let shared = Arc::new(Shared {
        table: drill::TABLE.to_owned(),
        record: record.clone(),
        inserts: AtomicU64::new(1),
    });
    let traffic = Traffic::start(&shared, &clients, options.rate, 1);
    tokio::time::sleep(SETTLE).await;
    let mut rows = Vec::new();

    if options.rolling > 0 {
        let mut restarted = Vec::new();
        for round in 1..=options.rolling {
            for process in &topology.processes {
                if process.kind == Kind::Storage {
                    let name = &process.name;
                    let what = format!("round {round}: {name} restarted");
                    let span = restart(processes, name, &directory, &record).await?;
                    restarted.push((what, span));
                }
            }
        }
        traffic.finish().await;
        print_waits(&record.calls(), &restarted);
        return Ok(());
    }
    if options.cuts > 0 {
        let links = links
            .as_mut()
            .context("no namespaces: no link can be cut")?;
        let mut cuts = Vec::new();
        for round in 1..=options.cuts {
            for (at, a) in topology.zones.iter().enumerate() {
                for b in &topology.zones[at + 1..] {
                    let what = format!("round {round}: {} ✕ {}", a.name, b.name);
                    eprintln!("{what}");
                    let from = record.now_us();
                    cut(links, &a.name, &b.name).await?;
                    cuts.push((what, (from, record.now_us(), 0)));
                }
            }
        }
        traffic.finish().await;
        print_waits(&record.calls(), &cuts);
        return Ok(());
    }

    eprintln!("steady traffic");
    let from = record.now_us();
    tokio::time::sleep(BEFORE).await;
    let groups = directory.all().len();
    rows.push(Row {
        what: "before".to_owned(),
        span: (from, record.now_us()),
        numbers: format!("{groups} partitions"),
    });

    // The storage node that leads most.
    let mut led: BTreeMap<NodeId, usize> = BTreeMap::new();
    for info in directory.all() {
        if let Some(leader) = info.leader {
            *led.entry(leader).or_default() += 1;
        }
    }
    let (victim, leads) = led
        .iter()
        .max_by_key(|(_, led)| **led)
        .map(|(node, led)| (*node, *led))
        .context("nobody leads")?;
    let name = format!("storage-{}", victim.0);
    eprintln!("kill -9 of {name}, which leads {leads}");
    let hosts = |info: &PartitionInfo| {
        info.members
            .iter()
            .any(|placed| placed.member.node == victim)
    };
    let affected: Vec<GroupId> = directory
        .all()
        .iter()
        .filter(|info| hosts(info))
        .map(|info| info.partition)
        .collect();
    let (began, from) = (Instant::now(), record.now_us());
    processes.kill(std::slice::from_ref(&name)).await?;
    // A log replica, or already a storage replica: three that live hold the log.
    let logged = until(&directory, &affected, LOG_REPLICAS_MAX, began, |info| {
        !info.changing && info.members.len() == 3 && !hosts(info)
    });
    let healed = format!("three copies of the log again: {}", logged.await);
    let log_end = record.now_us();
    rows.push(Row {
        what: format!("node lost (led {leads}), to log replicas"),
        span: (from, log_end),
        numbers: healed,
    });

    eprintln!("waiting for full storage replicas");
    let whole = |info: &PartitionInfo| {
        let storage = info
            .members
            .iter()
            .filter(|placed| placed.member.role == Role::Storage);
        !info.changing && info.members.len() == 3 && storage.count() == 3 && !hosts(info)
    };
    let elsewhere = until(
        &directory,
        &affected,
        Duration::from_secs(options.patience),
        began,
        whole,
    )
    .await;
    let numbers = format!("three storage replicas without it: {elsewhere}");
    rows.push(Row {
        what: "… to full storage replicas elsewhere".to_owned(),
        span: (log_end, record.now_us()),
        numbers,
    });

    eprintln!("{name} comes back");
    let from = record.now_us();
    processes.start(&name)?;
    let back = until(
        &directory,
        &affected,
        Duration::from_secs(60),
        Instant::now(),
        |info| {
            let storage = info
                .members
                .iter()
                .filter(|placed| placed.member.role == Role::Storage);
            !info.changing && info.members.len() == 3 && storage.count() == 3
        },
    );
    let numbers = format!("three storage replicas: {}", back.await);
    rows.push(Row {
        what: "it comes back".to_owned(),
        span: (from, record.now_us()),
        numbers,
    });
    tokio::time::sleep(SETTLE).await;

    let mut led: BTreeMap<NodeId, usize> = BTreeMap::new();
    for leader in directory.all().iter().filter_map(|info| info.leader) {
        *led.entry(leader).or_default() += 1;
    }
    if let Some((node, leads)) = led.iter().max_by_key(|(_, led)| **led) {
        eprintln!("restart of storage-{}, which leads {leads}", node.0);
        let from = record.now_us();
        processes.restart(&format!("storage-{}", node.0)).await?;
        tokio::time::sleep(SETTLE).await;
        let what = format!("node restarted (led {leads}), by transfer");
        rows.push(Row {
            what,
            span: (from, record.now_us()),
            numbers: String::new(),
        });
    }

    if let (Some(links), [a, b, ..]) = (&mut links, &topology.zones[..]) {
        eprintln!("cut {} ✕ {}", a.name, b.name);
        let (from, ballots) = (record.now_us(), directory.ballots());
        cut(links, &a.name, &b.name).await?;
        let elections = directory
            .ballots()
            .iter()
            .filter(|(group, ballot)| ballots.get(group).is_some_and(|before| before < *ballot))
            .count();
        rows.push(Row {
            what: format!("link between two zones cut for {} s", CUT.as_secs()),
            span: (from, record.now_us()),
            numbers: format!(
                "{elections} of {} partitions have another leader or ballot",
                ballots.len()
            ),
        });
    }

    traffic.finish().await;
    let calls = record.calls();
    let before = writes(&calls, rows[0].span.0, rows[0].span.1).1.max(0.001);
    println!(
        "| | writes p50 ms | p99 ms | p99 over before | longest write s | failed | |\n|---|---:|---:|---:|---:|---:|---|"
    );
    for Row {
        what,
        span,
        numbers,
    } in rows
    {
        let (p50, p99, max, failed) = writes(&calls, span.0, span.1);
        println!(
            "| {what} | {p50:.1} | {p99:.1} | {:.1} | {:.2} | {failed} | {numbers} |",
            p99 / before,
            max / 1e3
        );
    }
    let ends = processes.unexpected_ends();
    if !ends.is_empty() {
        bail!("{ends:?}");
    }
    Ok(())
}

/// A node is restarted, and the admin gives leaders back to it. From when to when that took, and how many it led.
async fn restart(
    processes: &mut Processes,
    name: &str,
    directory: &Directory,
    record: &Record,
) -> anyhow::Result<(u64, u64, usize)> {
    let leads = directory
        .all()
        .iter()
        .filter(|info| {
            info.leader
                .is_some_and(|node| name == format!("storage-{}", node.0))
        })
        .count();
    eprintln!("restart of {name}, which leads {leads}");
    let from = record.now_us();
    processes.restart(name).await?;
    tokio::time::sleep(SETTLE).await;
    Ok((from, record.now_us(), leads))
}

/// Cuts the link between two zones for a while, and waits until all is well again.
async fn cut(links: &mut Links, a: &str, b: &str) -> anyhow::Result<()> {
    let rules = [(a, b), (b, a)].map(|(from, at)| Rule::Drop {
        from: from.to_owned(),
        at: at.to_owned(),
    });
    links.add(rules.clone()).await?;
    tokio::time::sleep(CUT).await;
    links.remove(&rules).await?;
    tokio::time::sleep(SETTLE).await;
    Ok(())
}

/// What clients noticed of each fault.
fn print_waits(calls: &[Call], faults: &[(String, (u64, u64, usize))]) {
    println!(
        "| | led | calls | over 100 ms | over 1 s | tried again | failed | longest write s | longest strong read s | longest eventual read s |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    );
    for (what, (from, to, led)) in faults {
        let within = || {
            calls
                .iter()
                .filter(|call| (*from..*to).contains(&call.at_us))
        };
        let longest = |class: Class| {
            let took = within()
                .filter(|call| call.class == class)
                .map(|call| call.took_us);
            took.max().unwrap_or_default() as f64 / 1e6
        };
        println!(
            "| {what} | {led} | {} | {} | {} | {} | {} | {:.2} | {:.2} | {:.2} |",
            within().count(),
            within().filter(|call| call.took_us > 100_000).count(),
            within().filter(|call| call.took_us > 1_000_000).count(),
            within().filter(|call| call.tries > 1).count(),
            within().filter(|call| !call.done).count(),
            longest(Class::Write),
            longest(Class::Strong),
            longest(Class::Eventual),
        );
        for call in within().filter(|call| call.took_us > 100_000).take(6) {
            let after_ms = (call.at_us - from) / 1_000;
            eprintln!("{what}, after {after_ms} ms: {call:?}");
        }
    }
}

/// How far partitions came, and when.
struct Reached {
    all: usize,
    /// Seconds, ascending: one for each partition that came there.
    times: Vec<f64>,
}

impl std::fmt::Display for Reached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} partitions", self.times.len(), self.all)?;
        if let (Some(median), Some(last)) =
            (self.times.get(self.times.len() / 2), self.times.last())
        {
            write!(f, ", median after {median:.1} s, last after {last:.1} s")?;
        }
        Ok(())
    }
}

/// Waits until all these partitions are so, no longer than `patience` after `began`, from which times count.
async fn until(
    directory: &Directory,
    groups: &[GroupId],
    patience: Duration,
    began: Instant,
    so: impl Fn(&PartitionInfo) -> bool,
) -> Reached {
    let mut waiting = groups.to_vec();
    let mut reached = Reached {
        all: groups.len(),
        times: Vec::new(),
    };
    loop {
        let known = directory.all();
        waiting.retain(|group| {
            !known
                .iter()
                .any(|info| info.partition == *group && so(info))
        });
        reached
            .times
            .resize(groups.len() - waiting.len(), began.elapsed().as_secs_f64());
        if waiting.is_empty() || began.elapsed() >= patience {
            for info in known
                .iter()
                .filter(|info| waiting.contains(&info.partition))
                .take(3)
            {
                eprintln!("not there: {info:?}");
            }
            return reached;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
