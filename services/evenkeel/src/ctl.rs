//! `evenkeel ctl`: the operator's commands to a running mesh. Owns which command does what, and exit codes; what is shown is `screens`'.

mod desk;
mod log_level;
mod options;
mod screens;
mod table;
mod top;
mod trace;
mod watches;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use mesh::{BusSettings, Identity, Mesh, TraceContext};
use paxos::{GroupId, NodeId};
use protocol::operate::Command;
use serde::Deserialize;

use crate::recover;
use desk::{Desk, print, said};
use options::{Action, Output};

pub use options::Options;

/// The command was refused, or the mesh is not all right.
const REFUSED: u8 = 1;
/// Wrong options or settings (also clap's own code).
const USAGE: u8 = 2;
/// Nobody answered: no bus, or no active admin.
const NO_ANSWER: u8 = 3;

/// Between two tries, and between two looks while waiting.
const AGAIN: Duration = Duration::from_millis(500);
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
        Err(error) => return failed(options.output, USAGE, &error),
    };
    let runtime = telemetry::runtime();
    match runtime.block_on(carry_out(&options, &bus)) {
        Ok(code) => code,
        Err(error) => failed(options.output, NO_ANSWER, &error),
    }
}

/// Says why a command came to nothing; machines find that where they find its answer.
fn failed(output: Output, code: u8, error: &anyhow::Error) -> ExitCode {
    let why = format!("{error:#}");
    if output == Output::Table || said(output, false, &why).is_err() {
        eprintln!("evenkeel ctl: {why}");
    }
    ExitCode::from(code)
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
        return trace::show(traces, request_id, patience, options.output).await;
    }
    let plan = match &options.action {
        Action::Recover(recover) => {
            let file = match settings::load::<ArchiveFile>("ctl", options.config.as_deref()) {
                Ok(file) => file,
                Err(error) => return Ok(failed(options.output, USAGE, &error.into())),
            };
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
        trace: TraceContext::new(options.traceparent.as_deref().unwrap_or_default()),
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
            match *wait {
                true => desk.watch_drain(node).await,
                false => desk.order(Command::Drain { node }).await,
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
