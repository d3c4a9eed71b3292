//! Subject names. `<id>` is a node's or instance's number.

use paxos::NodeId;

/// Item requests to a storage node: `item::ItemCall` → `item::ItemReply`.
pub fn node_item(node: NodeId) -> String {
    format!("node.{}.item", node.0)
}
/// Replication messages to a storage node, one way: `replication::ReplicationFrame`.
pub fn node_replication(node: NodeId) -> String {
    format!("node.{}.repl", node.0)
}
/// Full copies of replicas: `replication::CopyRequest` → `replication::CopyChunk`.
pub fn node_bulk(node: NodeId) -> String {
    format!("node.{}.bulk", node.0)
}
/// How far replicas are with splits, to the leader's node, one way: `split::SplitReport`.
pub fn node_split(node: NodeId) -> String {
    format!("node.{}.split", node.0)
}
/// What followers served, to their leaders' node, one way: `demand::DemandReport`.
pub fn node_demand(node: NodeId) -> String {
    format!("node.{}.demand", node.0)
}
/// Scrubs: `scrub::ScrubCall` → `scrub::ScrubReply`.
pub fn node_scrub(node: NodeId) -> String {
    format!("node.{}.scrub", node.0)
}
/// The operator's questions to the scrubbers: `scrub::Question` → `scrub::Overview`. Every scrubber hears them, the active one answers.
pub const SCRUB_OPERATE: &str = "scrub.operate";
/// Orders to a storage node: `control::OrderCall` → `control::OrderReply`.
pub fn node_control(node: NodeId) -> String {
    format!("node.{}.control", node.0)
}
/// Logs of a storage node for archivers: `archive::ArchiveCall` → `archive::ArchiveReply`.
pub fn node_archive(node: NodeId) -> String {
    format!("node.{}.archive", node.0)
}
/// An archiver's report: `archive::ArchiveReport` → `archive::ArchivePlan`. Every admin hears it, the active one answers.
pub const ADMIN_ARCHIVE: &str = "admin.archive";
/// A snapshot is wanted: `archive::SnapshotWish`, one way. Every archiver hears it, the one that looks after the partition takes it.
pub const ARCHIVE_SNAPSHOTS: &str = "archive.snapshots";
/// Lookups to one memds node: `directory::LookupRequest` → `directory::LookupReply`.
pub fn memds_lookup(instance: u64) -> String {
    format!("memds.{instance}.lookup")
}
/// Whole-map sync from one memds node to another: `directory::SyncRequest` → `directory::SyncReply`.
pub fn memds_sync(instance: u64) -> String {
    format!("memds.{instance}.sync")
}
/// Hashes of one memds node's map to another: `directory::CompareRequest` → `directory::CompareReply`.
pub fn memds_compare(instance: u64) -> String {
    format!("memds.{instance}.compare")
}
/// What two memds nodes' maps differ in: `directory::RepairRequest` → `directory::Push`.
pub fn memds_repair(instance: u64) -> String {
    format!("memds.{instance}.repair")
}
/// Membership pushes to every memds node, one way: `directory::Push`.
pub const MEMDS_PUSH: &str = "memds.push";
/// A memds node asks all storage nodes to push everything they lead, one way: `directory::Hydrate`.
pub const MEMDS_HYDRATE: &str = "memds.hydrate";
/// Every service instance says that it is there, one way, once a second: `health::Heartbeat`.
pub const HEALTH: &str = "health";
/// Control-plane API calls (CreateTable …), queue group `admin`: `control::ApiCall` → `control::ApiReply`.
pub const ADMIN_API: &str = "admin.api";
/// Nudges: "this table's record wants work", from an admin that recorded it to the one that gives orders, one way: `operate::Nudge`.
pub const ADMIN_NUDGE: &str = "admin.nudge";
/// Operator's commands: `operate::Command` → `operate::Answer`. Every admin hears them, the active one answers.
pub const ADMIN_OPERATE: &str = "admin.operate";
/// "Forget all routes that you have cached", to every routing client (routers, admins), one way: `operate::ForgetRoutes`.
pub const ROUTES_FORGET: &str = "routes.forget";
/// Transactions that have been pending for long, from the items' leaders to one of the routers (queue group), one way: `transact::Stalled`.
pub const TRANSACTIONS_STALLED: &str = "transactions.stalled";
/// Tables' tokens from one GAC instance: `tokens::TokenRequest` → `tokens::TokenReply`.
pub fn gac_tokens(instance: u64) -> String {
    format!("gac.{instance}.tokens")
}
/// What one GAC instance knows of tables, for operators: `tokens::ViewRequest` → `tokens::ViewReply`.
pub fn gac_view(instance: u64) -> String {
    format!("gac.{instance}.view")
}

/// What on-demand tables can serve by now, from GAC instances to admins, one way: `tokens::WarmReport`.
pub const ADMIN_WARM: &str = "admin.warm";
/// Restores, exports and imports: from an archiver instance to the admins, the active one answers: `jobs::JobsReport` → `jobs::JobsReply`.
pub const ADMIN_JOBS: &str = "admin.jobs";
/// What became of customers' requests, from every router, one way, every few seconds: `canary::OutcomeReport`.
pub const OUTCOMES: &str = "outcomes";
/// Availability and alarms as one canary knows them: `canary::ViewRequest` → `canary::View`.
pub fn canary_view(instance: u64) -> String {
    format!("canary.{instance}.view")
}
