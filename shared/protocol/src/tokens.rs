//! Global admission control: routers tell a GAC instance what their tables consume, it answers with each table's share. Durations only:
//! no clock of one machine means anything to another.

use model::error::ThroughputLimit;
use model::{TableId, Units};
use serde::{Deserialize, Serialize};

/// Router → GAC instance, about once a second, with all tables that the instance is responsible for and that were used lately.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenRequest {
    /// The router's instance number.
    pub router: u64,
    /// Drawn when the router started: its counts began at zero then.
    pub incarnation: u64,
    /// Grows with every request of this router; an older one that comes late, or the same one again, is not answered.
    pub sequence: u64,
    /// Drawn for this request; only an answer that names it counts.
    pub nonce: u64,
    /// The tables; at most `TABLES_MAX`.
    pub tables: Vec<TableUse>,
}

/// Tables in one request at most.
pub const TABLES_MAX: usize = 2_048;

/// One table at one router.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TableUse {
    /// The table.
    pub table: TableId,
    /// Version of its definition that the router knows; of several the greatest counts.
    pub version: u64,
    /// Whether it is an on-demand table: its limit grows with its traffic.
    pub on_demand: bool,
    /// Reads.
    pub read: DirectionUse,
    /// Writes.
    pub write: DirectionUse,
}

/// One direction of a table at one router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DirectionUse {
    /// Units a second that the table may consume by its definition.
    pub limit: Units,
    /// Maximum of an on-demand table, if it has one.
    pub maximum: Option<Units>,
    /// Units consumed since the router started.
    pub consumed_total: Units,
    /// Units refused since the router started: each request with what it would surely have cost.
    pub refused_total: Units,
    /// Units a second that the router goes on with if it hears nothing more.
    pub share: Units,
    /// Units beyond that which it may still spend.
    pub extra: Units,
}

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenReply {
    /// That of the request.
    pub nonce: u64,
    /// One a table of the request.
    pub tables: Vec<TableGrant>,
}

/// What a router gets of one table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TableGrant {
    /// The table.
    pub table: TableId,
    /// Reads.
    pub read: Grant,
    /// Writes.
    pub write: Grant,
}

/// What a router gets of one direction of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Units a second from now on, also if it hears nothing more.
    pub share: Units,
    /// Units a second while the grant is fresh: less than the share while the table owes.
    pub pace: Units,
    /// Units beyond that while the grant is fresh, counted from when the request was sent; takes the place of earlier ones.
    pub extra: Units,
    /// How long it is fresh, counted from when the request was sent, milliseconds.
    pub fresh_ms: u64,
    /// The limit that refuses what goes beyond.
    pub limit: ThroughputLimit,
}

/// GAC instance → admins, one way, repeated: what tables can serve beyond their definitions, and what the instance goes by.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WarmReport {
    /// Tables that can serve more than their definitions say; at most `TABLES_MAX`.
    pub tables: Vec<WarmTable>,
    /// The quota for one table that the instance was set up with; none: it does not say.
    #[serde(default)]
    pub quota: Option<TableQuota>,
}

/// What an account's quota lets one table consume at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableQuota {
    /// The GAC instance that goes by it.
    pub instance: u64,
    /// Read units a second.
    pub read_units: u64,
    /// Write units a second.
    pub write_units: u64,
}

/// Admin → GAC instance: what it knows of tables.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ViewRequest {
    /// Of this table only.
    #[serde(default)]
    pub table: Option<TableId>,
    /// Of tables behind this one.
    #[serde(default)]
    pub after: TableId,
}

/// Tables in one view at most.
pub const VIEWS_MAX: usize = 1_000;

/// The answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ViewReply {
    /// In the order of their numbers; at most `VIEWS_MAX`.
    pub tables: Vec<TableView>,
}

/// A table as the GAC instance that is responsible for it sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableView {
    /// The table.
    pub table: TableId,
    /// Routers that use it and were heard lately.
    pub routers: u64,
    /// Reads.
    pub read: SideView,
    /// Writes.
    pub write: SideView,
}

/// One direction of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SideView {
    /// Units a second that the table may consume.
    pub rate: Units,
    /// Units a second that its routers would consume.
    pub demand: Units,
    /// Units a second that its routers hold.
    pub shares: Units,
    /// Units saved for bursts.
    pub held: Units,
    /// Units owed: they were given beyond the rate.
    pub debt: Units,
}

/// What one on-demand table can serve by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmTable {
    /// The table.
    pub table: TableId,
    /// Read units a second.
    pub read_units: u64,
    /// Write units a second.
    pub write_units: u64,
}
