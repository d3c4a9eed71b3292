//! Where commands are given and answers read. Owns asking the active admin and scrubber, again while there is none, page by page, and how answers are
//! printed; what they look like is `screens`'.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mesh::{Deadline, Mesh, TraceContext};
use model::TableId;
use paxos::GroupId;
use protocol::operate::{
    Answer, Command, MeshHealth, PartitionStatus, ThroughputStatus, table_sums,
};
use protocol::scrub::{Overview, Question};
use protocol::subjects;
use serde::Serialize;

use super::options::Output;
use super::{AGAIN, REFUSED, log_level, screens, top};

/// Time for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);

pub(super) fn print<T: Serialize>(
    output: Output,
    value: &T,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    write(&match output {
        Output::Table => text(),
        Output::Json => serde_json::to_string_pretty(value)?,
    })
}

/// As `print`, for what is shown again and again: JSON is one line each time.
pub(super) fn print_line<T: Serialize>(
    output: Output,
    value: &T,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    write(&match output {
        Output::Table => text(),
        Output::Json => serde_json::to_string(value)?,
    })
}

/// Says that a command is done, or why not.
pub(super) fn said(output: Output, done: bool, message: &str) -> anyhow::Result<()> {
    match (output, done) {
        (Output::Table, false) => {
            eprintln!("refused: {message}");
            Ok(())
        }
        _ => print(output, &Said { done, message }, || message.to_owned()),
    }
}

fn write(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        // The reader (`| head`) has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Where commands are given and answers read.
pub(super) struct Desk {
    pub(super) mesh: Mesh,
    pub(super) patience: Duration,
    pub(super) output: Output,
    /// What its commands are part of.
    pub(super) trace: TraceContext,
}

#[derive(Serialize)]
struct Said<'a> {
    done: bool,
    message: &'a str,
}

impl Desk {
    /// The active admin's answer. Asked again while there is none: all commands may be given twice.
    pub(super) async fn ask(
        &self,
        command: &Command,
        patience: Duration,
    ) -> anyhow::Result<Answer> {
        let started = Instant::now();
        loop {
            let (deadline, trace) = (Deadline::after(ANSWER_MAX), &self.trace);
            let asked =
                self.mesh
                    .call::<_, Answer>(subjects::ADMIN_OPERATE, command, deadline, trace);
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

    pub(super) fn print<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        print(self.output, value, text)
    }

    pub(super) fn said(&self, done: bool, message: &str) -> anyhow::Result<ExitCode> {
        said(self.output, done, message)?;
        Ok(ExitCode::from(if done { 0 } else { REFUSED }))
    }

    pub(super) fn unexpected(&self, answer: Answer) -> anyhow::Result<ExitCode> {
        match answer {
            Answer::Done(message) => self.said(true, &message),
            Answer::Refused(why) => self.said(false, &why),
            other => anyhow::bail!("the admin answered something else: {other:?}"),
        }
    }

    pub(super) async fn order(&self, command: Command) -> anyhow::Result<ExitCode> {
        let answer = self.ask(&command, self.patience).await?;
        self.unexpected(answer)
    }

    pub(super) async fn log_level(
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

    pub(super) async fn health(&self) -> anyhow::Result<ExitCode> {
        match self.ask(&Command::Health, self.patience).await? {
            Answer::Health(health) => {
                let health: MeshHealth = *health;
                self.print(&health, || screens::health(&health))?;
                Ok(ExitCode::from(if health.healthy { 0 } else { REFUSED }))
            }
            other => self.unexpected(other),
        }
    }

    pub(super) async fn nodes(&self) -> anyhow::Result<ExitCode> {
        match self.ask(&Command::Nodes, self.patience).await? {
            Answer::Nodes(nodes) => {
                self.print(&nodes, || screens::nodes(&nodes))?;
                Ok(ExitCode::SUCCESS)
            }
            other => self.unexpected(other),
        }
    }

    pub(super) async fn partitions(&self, table: Option<String>) -> anyhow::Result<ExitCode> {
        match self.all_partitions(table).await? {
            Err(other) => self.unexpected(other),
            Ok(all) => {
                self.print(&all, || screens::partitions(&all))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    pub(super) async fn tables(&self) -> anyhow::Result<ExitCode> {
        match self.all_partitions(None).await? {
            Err(other) => self.unexpected(other),
            Ok(all) => {
                let tables = table_sums(&all);
                self.print(&tables, || top::tables(&tables))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    pub(super) async fn throughput(&self, table: Option<String>) -> anyhow::Result<ExitCode> {
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

    pub(super) async fn all_partitions(
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
    pub(super) async fn all_scrubs(
        &self,
        table: &Option<String>,
        now: bool,
    ) -> anyhow::Result<Overview> {
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
                    let mut indexes = std::mem::take(&mut overview.indexes);
                    indexes.extend(answer.indexes);
                    let next = answer.next.filter(|next| *next > after);
                    overview = Overview {
                        partitions: all,
                        indexes,
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
}
