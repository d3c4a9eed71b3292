//! `evenkeel ctl`: the operator's commands to a running mesh. Owns options, waiting and exit codes; what is shown is `screens`'.

mod log_level;
mod screens;
mod table;
mod top;
mod trace;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use mesh::{BusSettings, Deadline, Identity, Mesh, TraceContext};
use model::TableId;
use paxos::{GroupId, NodeId};
use protocol::operate::{
    Answer, Command, MeshHealth, NodeStatus, PartitionStatus, ThroughputStatus, table_sums,
};
use protocol::scrub::{Overview, PartitionScrub, Question};
use protocol::subjects;
use serde::{Deserialize, Serialize};

use crate::recover;

/// The command was refused, or the mesh is not all right.
const REFUSED: u8 = 1;
/// Wrong options or settings (also clap's own code).
const USAGE: u8 = 2;
/// Nobody answered: no bus, or no active admin.
const NO_ANSWER: u8 = 3;

/// Time for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Between two tries, and between two looks while waiting.
const AGAIN: Duration = Duration::from_millis(500);
/// While `--wait` waits, the mesh may be without an active admin for so long (a change of the lease takes seconds).
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Options of `evenkeel ctl`.
#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 done (health: all is well), 1 refused (health: something is wrong or being healed), \
2 wrong usage, 3 no answer.\n\nExamples:\n  evenkeel ctl health\n  evenkeel ctl --nats nats://10.0.0.1:4222 nodes\n  \
evenkeel ctl drain 4 --wait\n  evenkeel ctl --output json partitions --table music"
)]
pub struct Options {
    /// NATS servers, separated by commas.
    #[arg(long, value_delimiter = ',', env = "EVENKEEL_NATS", global = true)]
    nats: Vec<String>,
    /// A service's settings file: its section [bus] says how to reach the mesh (also user, password and certificates).
    #[arg(long, conflicts_with = "nats", global = true)]
    config: Option<PathBuf>,
    /// For people or for machines.
    #[arg(long, value_enum, default_value_t = Output::Table, global = true)]
    output: Output,
    /// How long to wait for an answer, seconds: a change of the active admin takes some.
    #[arg(long, default_value_t = 15, global = true)]
    timeout: u64,
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Output {
    /// Aligned columns.
    Table,
    /// One JSON document.
    Json,
}

#[derive(Subcommand)]
enum Action {
    /// Whether the mesh is all right, on one screen.
    #[command(visible_alias = "status")]
    Health,
    /// Tables: what their partitions add up to.
    Tables,
    /// Nodes, tables and the most used partitions, live.
    Top {
        /// Show it once instead of again and again.
        #[arg(long)]
        once: bool,
        /// Time between looks, seconds.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
        every: u64,
    },
    /// Storage nodes: zone, state, what they hold.
    Nodes,
    /// Partitions: leader, replicas, what is being done about them.
    Partitions {
        /// Of this table only.
        #[arg(long)]
        table: Option<String>,
    },
    /// Tables as global admission control sees them: what each may consume, wants, holds, has saved and owes.
    Throughput {
        /// This one only.
        table: Option<String>,
    },
    /// Move everything off a node, for good: leaders first, then replicas. It keeps serving meanwhile.
    Drain {
        /// The node's number.
        node: u64,
        /// Stay until it holds nothing, and show how far it is.
        #[arg(long)]
        wait: bool,
    },
    /// Let a node that is being drained stay.
    CancelDrain {
        /// The node's number.
        node: u64,
    },
    /// Hand a partition's leadership to the replica on a node.
    TransferLeader {
        /// The partition's number.
        partition: u64,
        /// The next leader's node.
        node: u64,
    },
    /// Split a partition in two, online.
    Split {
        /// The partition, as `partitions` shows it: TABLE/NUMBER.
        #[arg(value_parser = table_and_partition)]
        partition: (String, u64),
        /// First key of the right half: the key attributes as DynamoDB JSON, e.g. '{"pk": {"S": "m"}}'. Without it, the middle of the
        /// partition's bytes.
        #[arg(long, value_name = "KEY")]
        at: Option<String>,
        /// Stay until it is done, and show how far it is.
        #[arg(long)]
        wait: bool,
    },
    /// Build a partition's replica anew where it is: from the other replicas, on a fresh B-tree.
    Heal {
        /// The partition's number.
        partition: u64,
        /// The replica's node.
        node: u64,
    },
    /// Build a partition's replica anew on another node, in another zone than the other two.
    Replace {
        /// The partition's number.
        partition: u64,
        /// Node of the replica that goes.
        from: u64,
        /// Node of the one that comes.
        to: u64,
    },
    /// Comparisons of partitions' replicas with each other: how they go, when each was last clean, what was found. Exit code 1 while a
    /// finding stands.
    Scrub {
        /// Of this table only.
        #[arg(long)]
        table: Option<String>,
        /// Scrub them before all others.
        #[arg(long)]
        now: bool,
        /// Stay until each of them was compared from now on, and show how far it is.
        #[arg(long)]
        wait: bool,
    },
    /// The trace of a request, as a waterfall: which service did what, and when. From Jaeger, or from `evenkeel dev`, which needs no mesh to be
    /// reached.
    Trace {
        /// The request's id, from the header x-amzn-RequestId of its answer.
        request_id: String,
        /// Where Jaeger's pages are.
        #[arg(
            long,
            value_name = "URL",
            env = "EVENKEEL_TRACES_URL",
            default_value = "http://127.0.0.1:16686"
        )]
        traces: String,
    },
    /// After the loss of all storage nodes: make every table anew in this (fresh) mesh, from the object store alone.
    Recover(recover::Options),
    /// Compare a global secondary index with its table, by strong reads of both: costs what these reads cost. Exit code 1 if they differ.
    CheckIndex {
        /// The table.
        table: String,
        /// The index.
        index: String,
    },
    /// Levels of running processes' logs: shows them, or changes them until the process ends. Exit code 1 if a process does not take them, or none that is
    /// meant is heard.
    #[command(
        after_help = "Examples:\n  evenkeel ctl log-level\n  evenkeel ctl log-level storage-2 info,storage=debug\n  \
evenkeel ctl log-level router info"
    )]
    LogLevel {
        /// Whose: all, a service (storage), or one instance of it (storage-2).
        #[arg(value_name = "WHOSE", default_value = "all", value_parser = log_level::whom)]
        whom: log_level::Whom,
        /// The new levels, as EVENKEEL_LOG has them. Without: shows those that there are.
        levels: Option<String>,
    },
    /// Empty the route caches of all routers, at most once a second: a drill. Requests go on, each miss asks memds.
    FlushRoutes,
}

/// `TABLE/NUMBER`; names of tables have no slash.
fn table_and_partition(text: &str) -> Result<(String, u64), String> {
    let wrong = || format!("'{text}' is not TABLE/NUMBER, e.g. music/17");
    let (table, partition) = text.split_once('/').ok_or_else(wrong)?;
    let partition = partition.parse().map_err(|_| wrong())?;
    match table.is_empty() {
        true => Err(wrong()),
        false => Ok((table.to_owned(), partition)),
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    bus: BusSettings,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ArchiveFile {
    archive: objects::ArchiveSettings,
}

/// Runs one command; the exit code says how it went.
pub fn run(options: Options) -> ExitCode {
    telemetry::init_at("ctl", "error");
    let bus = match bus_settings(&options) {
        Ok(bus) => bus,
        Err(error) => {
            eprintln!("evenkeel ctl: {error:#}");
            return ExitCode::from(USAGE);
        }
    };
    let runtime = telemetry::runtime();
    match runtime.block_on(carry_out(&options, &bus)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("evenkeel ctl: {error:#}");
            ExitCode::from(NO_ANSWER)
        }
    }
}

fn bus_settings(options: &Options) -> anyhow::Result<BusSettings> {
    let mut bus = match &options.config {
        Some(file) => settings::load::<File>("ctl", Some(file))?.bus,
        None => BusSettings::default(),
    };
    if !options.nats.is_empty() {
        bus.urls.clone_from(&options.nats);
    }
    bus.connect_ms_max = options.timeout.max(1).saturating_mul(1_000);
    Ok(bus)
}

async fn carry_out(options: &Options, bus: &BusSettings) -> anyhow::Result<ExitCode> {
    if let Action::Trace { request_id, traces } = &options.action {
        let patience = Duration::from_secs(options.timeout);
        let shown = |waterfall: &trace::Waterfall, text| print(options.output, waterfall, || text);
        return trace::show(traces, request_id, patience, shown).await;
    }
    let plan = match &options.action {
        Action::Recover(recover) => {
            let file = settings::load::<ArchiveFile>("ctl", options.config.as_deref())?;
            let plan = recover::plan(recover, file.archive).await?;
            if recover.dry_run {
                let report = plan.check().await;
                print(options.output, &report, || report.text())?;
                return Ok(report.code());
            }
            Some(plan)
        }
        _ => None,
    };
    let identity = Identity {
        service: "ctl".to_owned(),
        instance: u64::from(std::process::id()),
        incarnation: telemetry::incarnation(),
    };
    let mesh = Mesh::connect(bus, identity)
        .await
        .with_context(|| format!("no connection to {}", bus.urls.join(", ")))?;
    let desk = Desk {
        mesh,
        patience: Duration::from_secs(options.timeout.max(1)),
        output: options.output,
    };
    match &options.action {
        Action::Health => desk.health().await,
        Action::Nodes => desk.nodes().await,
        Action::Tables => desk.tables().await,
        Action::Top { once, every } => desk.top(*once, Duration::from_secs(*every)).await,
        Action::Heal { partition, node } => {
            let (partition, node) = (GroupId(*partition), NodeId(*node));
            let order = Command::Replace {
                partition,
                from: node,
                to: node,
            };
            desk.order(order).await
        }
        Action::Partitions { table } => desk.partitions(table.clone()).await,
        Action::Throughput { table } => desk.throughput(table.clone()).await,
        Action::Drain { node, wait } => {
            let node = NodeId(*node);
            let code = desk.order(Command::Drain { node }).await?;
            match *wait && code == ExitCode::SUCCESS {
                true => desk.watch_drain(node).await,
                false => Ok(code),
            }
        }
        Action::CancelDrain { node } => {
            let node = NodeId(*node);
            desk.order(Command::CancelDrain { node }).await
        }
        Action::TransferLeader { partition, node } => {
            let partition = GroupId(*partition);
            let to = NodeId(*node);
            desk.order(Command::TransferLeader { partition, to }).await
        }
        Action::Split {
            partition: (table, number),
            at,
            wait,
        } => {
            let partition = GroupId(*number);
            let order = Command::Split {
                table: table.clone(),
                partition,
                at: at.clone(),
            };
            match *wait {
                true => desk.watch_split(order, table, partition).await,
                false => desk.order(order).await,
            }
        }
        Action::Replace {
            partition,
            from,
            to,
        } => {
            let order = Command::Replace {
                partition: GroupId(*partition),
                from: NodeId(*from),
                to: NodeId(*to),
            };
            desk.order(order).await
        }
        Action::Scrub { table, now, wait } => desk.scrub(table.clone(), *now, *wait).await,
        Action::CheckIndex { table, index } => {
            match crate::check_index::check(&desk.mesh, table, index).await {
                Ok(report) => {
                    desk.print(&report, || report.text())?;
                    Ok(match report.is_clean() {
                        true => ExitCode::SUCCESS,
                        false => ExitCode::from(REFUSED),
                    })
                }
                Err(error) => desk.said(false, &format!("{error:#}")),
            }
        }
        Action::LogLevel { whom, levels } => desk.log_level(whom, levels.as_deref()).await,
        Action::FlushRoutes => desk.order(Command::FlushRoutes).await,
        // Done before the bus is asked.
        Action::Trace { .. } => Ok(ExitCode::from(USAGE)),
        Action::Recover(_) => {
            let plan = plan.context("there is no plan")?;
            let report = plan.carry_out(&desk.mesh).await?;
            desk.print(&report, || report.text())?;
            Ok(report.code())
        }
    }
}

fn print<T: Serialize>(
    output: Output,
    value: &T,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    let text = match output {
        Output::Table => text(),
        Output::Json => serde_json::to_string_pretty(value)?,
    };
    match writeln!(std::io::stdout(), "{text}") {
        // The reader (`| head`) has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Where commands are given and answers read.
struct Desk {
    mesh: Mesh,
    patience: Duration,
    output: Output,
}

#[derive(Serialize)]
struct Said<'a> {
    done: bool,
    message: &'a str,
}

impl Desk {
    /// The active admin's answer. Asked again while there is none: all commands may be given twice.
    async fn ask(&self, command: &Command, patience: Duration) -> anyhow::Result<Answer> {
        let started = Instant::now();
        loop {
            let (deadline, trace) = (Deadline::after(ANSWER_MAX), TraceContext::default());
            let asked =
                self.mesh
                    .call::<_, Answer>(subjects::ADMIN_OPERATE, command, deadline, &trace);
            match asked.await {
                Ok(answer) => return Ok(answer),
                Err(error) if started.elapsed() >= patience => {
                    return Err(error).context(format!(
                        "no active admin answered within {} s: is one running, and can it reach the system table?",
                        patience.as_secs()
                    ));
                }
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    fn print<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        print(self.output, value, text)
    }

    fn said(&self, done: bool, message: &str) -> anyhow::Result<ExitCode> {
        match (self.output, done) {
            (Output::Table, false) => eprintln!("refused: {message}"),
            _ => self.print(&Said { done, message }, || message.to_owned())?,
        }
        Ok(ExitCode::from(if done { 0 } else { REFUSED }))
    }

    fn unexpected(&self, answer: Answer) -> anyhow::Result<ExitCode> {
        match answer {
            Answer::Done(message) => self.said(true, &message),
            Answer::Refused(why) => self.said(false, &why),
            other => anyhow::bail!("the admin answered something else: {other:?}"),
        }
    }

    async fn order(&self, command: Command) -> anyhow::Result<ExitCode> {
        let answer = self.ask(&command, self.patience).await?;
        self.unexpected(answer)
    }

    async fn log_level(
        &self,
        whom: &log_level::Whom,
        levels: Option<&str>,
    ) -> anyhow::Result<ExitCode> {
        let all = log_level::levels(&self.mesh, whom, levels).await?;
        if all.is_empty() {
            return self.said(false, "no such process is heard");
        }
        self.print(&all, || log_level::text(&all))?;
        let done = all.iter().all(log_level::Level::is_done);
        Ok(ExitCode::from(if done { 0 } else { REFUSED }))
    }

    async fn health(&self) -> anyhow::Result<ExitCode> {
        match self.ask(&Command::Health, self.patience).await? {
            Answer::Health(health) => {
                let health: MeshHealth = *health;
                self.print(&health, || screens::health(&health))?;
                Ok(ExitCode::from(if health.healthy { 0 } else { REFUSED }))
            }
            other => self.unexpected(other),
        }
    }

    async fn nodes(&self) -> anyhow::Result<ExitCode> {
        match self.ask(&Command::Nodes, self.patience).await? {
            Answer::Nodes(nodes) => {
                self.print(&nodes, || screens::nodes(&nodes))?;
                Ok(ExitCode::SUCCESS)
            }
            other => self.unexpected(other),
        }
    }

    async fn partitions(&self, table: Option<String>) -> anyhow::Result<ExitCode> {
        match self.all_partitions(table).await? {
            Err(other) => self.unexpected(other),
            Ok(all) => {
                self.print(&all, || screens::partitions(&all))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    async fn tables(&self) -> anyhow::Result<ExitCode> {
        match self.all_partitions(None).await? {
            Err(other) => self.unexpected(other),
            Ok(all) => {
                let tables = table_sums(&all);
                self.print(&tables, || top::tables(&tables))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    async fn throughput(&self, table: Option<String>) -> anyhow::Result<ExitCode> {
        let mut all: Vec<ThroughputStatus> = Vec::new();
        let mut after = TableId(0);
        loop {
            let table = table.clone();
            let command = Command::Throughput { table, after };
            match self.ask(&command, self.patience).await? {
                Answer::Throughput { tables, next } => {
                    all.extend(tables);
                    match next.filter(|next| *next > after) {
                        Some(next) => after = next,
                        None => break,
                    }
                }
                other => return self.unexpected(other),
            }
        }
        self.print(&all, || screens::throughput(&all))?;
        Ok(ExitCode::SUCCESS)
    }

    async fn all_partitions(
        &self,
        table: Option<String>,
    ) -> anyhow::Result<Result<Vec<PartitionStatus>, Answer>> {
        let mut all: Vec<PartitionStatus> = Vec::new();
        let mut after = GroupId(0);
        loop {
            let table = table.clone();
            let command = Command::Partitions { table, after };
            match self.ask(&command, self.patience).await? {
                Answer::Partitions { partitions, next } => {
                    all.extend(partitions);
                    match next.filter(|next| *next > after) {
                        Some(next) => after = next,
                        None => break,
                    }
                }
                other => return Ok(Err(other)),
            }
        }
        Ok(Ok(all))
    }

    /// The active scrubber's answer about all partitions.
    async fn all_scrubs(&self, table: &Option<String>, now: bool) -> anyhow::Result<Overview> {
        let started = Instant::now();
        let mut overview = Overview::default();
        let mut after = GroupId(0);
        loop {
            let question = Question {
                table: table.clone(),
                after,
                now,
            };
            let (deadline, trace) = (Deadline::after(ANSWER_MAX), TraceContext::default());
            let asked =
                self.mesh
                    .call::<_, Overview>(subjects::SCRUB_OPERATE, &question, deadline, &trace);
            match asked.await {
                Ok(answer) => {
                    let mut all = std::mem::take(&mut overview.partitions);
                    all.extend(answer.partitions);
                    let next = answer.next.filter(|next| *next > after);
                    overview = Overview {
                        partitions: all,
                        next: None,
                        ..answer
                    };
                    match next {
                        Some(next) => after = next,
                        None => return Ok(overview),
                    }
                }
                Err(error) if started.elapsed() >= self.patience => {
                    return Err(error).context(format!(
                        "no active scrubber answered within {} s: is one running?",
                        self.patience.as_secs()
                    ));
                }
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    async fn scrub(
        &self,
        table: Option<String>,
        now: bool,
        wait: bool,
    ) -> anyhow::Result<ExitCode> {
        let mut overview = self.all_scrubs(&table, now).await?;
        if wait {
            let began_ms = overview.now_ms;
            let behind = |p: &&PartitionScrub| p.compared_ms.is_none_or(|at| at < began_ms);
            let mut shown = String::new();
            loop {
                let total = overview.partitions.len();
                let left = overview.partitions.iter().filter(behind).count();
                // Before its first look at them the scrubber knows of no partitions.
                if left == 0 && total > 0 {
                    break;
                }
                let line = format!("{} of {total} partitions compared", total - left);
                if line != shown {
                    eprintln!("{line}");
                    shown = line;
                }
                tokio::time::sleep(AGAIN).await;
                // A partition that comes into sight meanwhile is asked for, too.
                overview = self.all_scrubs(&table, false).await?;
            }
        }
        self.print(&overview, || screens::scrubs(&overview))?;
        let found = overview.partitions.iter().any(|p| !p.finding.is_empty());
        Ok(ExitCode::from(if found { REFUSED } else { 0 }))
    }

    /// Orders a split, and shows how it goes until the children have taken the parent's place.
    async fn watch_split(
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

    /// Shows how a drain goes until the node holds nothing.
    async fn watch_drain(&self, node: NodeId) -> anyhow::Result<ExitCode> {
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
