//! What an operator can say to `evenkeel ctl`. Owns the commands, their options and their help; never what they do.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::log_level;
use crate::recover;

/// Options of `evenkeel ctl`.
#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 done (health: all is well), 1 refused (health: something is wrong or being healed), \
2 wrong usage, 3 no answer.\n\nWith --output json, standard output is one JSON document, whatever becomes of the command: an order, and whatever is refused or comes to \
nothing, says {\"done\": …, \"message\": …}. Options that are wrong are told on standard error alone; `top` without --once prints one document a line.\n\nExamples:\n  evenkeel ctl health\n  evenkeel ctl --nats nats://10.0.0.1:4222 nodes\n  \
evenkeel ctl drain 4 --wait\n  evenkeel ctl --output json partitions --table music"
)]
pub struct Options {
    /// NATS servers, separated by commas.
    #[arg(long, value_delimiter = ',', env = "EVENKEEL_NATS", global = true)]
    pub(super) nats: Vec<String>,
    /// A service's settings file: its section [bus] says how to reach the mesh (also user, password and certificates).
    #[arg(long, conflicts_with = "nats", global = true)]
    pub(super) config: Option<PathBuf>,
    /// For people or for machines.
    #[arg(long, value_enum, default_value_t = Output::Table, global = true)]
    pub(super) output: Output,
    /// How long to wait for an answer, seconds: a change of the active admin takes some.
    #[arg(long, default_value_t = 15, global = true)]
    pub(super) timeout: u64,
    /// The trace that this is part of, as a W3C traceparent: the trace of what is ordered is linked to it.
    #[arg(long, env = "TRACEPARENT", hide_env_values = true, global = true)]
    pub(super) traceparent: Option<String>,
    #[command(subcommand)]
    pub(super) action: Action,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(super) enum Output {
    /// Aligned columns.
    Table,
    /// One JSON document; `top` without --once: one a line.
    Json,
}

#[derive(Subcommand)]
pub(super) enum Action {
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
    /// Build a partition's replica anew where it is, from the other replicas, on a fresh B-tree: one that is fenced, or whose node or disk is gone. A healthy
    /// one is refused.
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
    /// Comparisons of partitions' replicas with each other, and of global indexes with their tables: how they go, when each was last clean, what was
    /// found. Exit code 1 while a finding stands.
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
