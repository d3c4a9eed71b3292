//! The operator's commands: what `evenkeel ctl` asks and orders. Owns the answers' shapes and words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::json::JsonItem;
use model::key::{
    KeyRole, check_key_value, collection_prefix, has_key_type, key_from_key,
    table_range as key_table_range,
};
use model::{ApiError, EncodedKey, IndexId, TableDefinition, TableId};
use paxos::{GroupId, NodeId, Role};
use protocol::control::Order;
use protocol::health::ArchiveHealth;
use protocol::operate::{
    Answer, Command, FencedStatus, ForgetRoutes, MeshHealth, NodeStatus, PartitionStatus,
    ReplicaStatus, Vitality,
};
use protocol::subjects;
use telemetry::traces::{self, Flow};

use crate::agreement::disagreements;
use crate::autoadmin::Plan;
use crate::catalog::WriteError;
use crate::driver::{Admin, Outcome};
use crate::healing::{Reason, View, copies, state_of, voting_copies};
use crate::partitions::Seen;
use crate::placement::REPLICAS;
use crate::records::{NodeRecord, SYSTEM_GROUP, SYSTEM_TABLE, Stored};
use crate::splitting::heat_permille;
use crate::views::throughput;

/// Where the hash begins in an encoded key: behind table (8 bytes) and index (2).
const HASH_AT: usize = 10;
/// Bytes of it that are shown.
const SHOWN_BYTES: usize = 8;

/// Partitions in one answer.
const PARTITIONS_MAX: usize = 1_000;
/// Lists in the overview are cut at …
const ENDANGERED_MAX: usize = 20;
const SILENT_MAX: usize = 100;
const FENCED_MAX: usize = 100;
const TROUBLES_MAX: usize = 50;
const WAITING_MAX: usize = 10;

/// Carries out one command; one that changes something is a trace of its own.
pub(crate) async fn answer(admin: &Arc<Admin>, command: Command) -> Answer {
    let Some(flow) = order_flow(&command) else {
        return carry_out(admin, command).await;
    };
    let flow = flow.caused_by(traces::current());
    let work = std::pin::pin!(carry_out(admin, command));
    let answer = traces::within(flow.context(), work).await;
    let result = match &answer {
        Answer::Refused(why) => Err(why.clone()),
        _ => Ok(()),
    };
    admin.flows.end(flow, result);
    answer
}

async fn carry_out(admin: &Arc<Admin>, command: Command) -> Answer {
    match command {
        Command::Nodes => Answer::Nodes(admin.with_plan(|_, view| nodes(admin, view))),
        Command::Partitions { table, after } => partitions(admin, table.as_deref(), after).await,
        Command::Health => Answer::Health(Box::new(
            admin.with_plan(|plan, view| health(admin, plan, view)),
        )),
        Command::Drain { node } => drain(admin, node, true).await,
        Command::CancelDrain { node } => drain(admin, node, false).await,
        Command::TransferLeader { partition, to } => transfer(admin, partition, to).await,
        Command::Split {
            table,
            partition,
            at,
        } => split(admin, &table, partition, at.as_deref()).await,
        Command::Replace {
            partition,
            from,
            to,
        } => replace(admin, partition, from, to),
        Command::FlushRoutes => flush_routes(admin),
        Command::Throughput { table, after } => throughput(admin, table.as_deref(), after).await,
        Command::Condemn {
            partition,
            node,
            incarnation,
            why,
        } => crate::condemn::condemn(admin, partition, (node, incarnation), why).await,
    }
}

/// The trace of an order of an operator; none: it only asks, or it is a part of another trace.
fn order_flow(command: &Command) -> Option<Flow> {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let to_node = |flow: Flow, node: NodeId| flow.with("evenkeel.node", number(node.0));
    Some(match command {
        Command::Drain { node } => to_node(Flow::begin("order drain"), *node),
        Command::CancelDrain { node } => to_node(Flow::begin("order cancel-drain"), *node),
        Command::TransferLeader { partition, to } => {
            let flow = Flow::begin("order transfer-leader").of_partition(partition.0);
            to_node(flow, *to)
        }
        Command::Split {
            table, partition, ..
        } => Flow::begin("order split")
            .of_partition(partition.0)
            .with("db.collection.name", table.clone()),
        Command::Replace {
            partition,
            from,
            to,
        } => Flow::begin("order replace")
            .of_partition(partition.0)
            .with("evenkeel.replacement.from_node", number(from.0))
            .with("evenkeel.replacement.to_node", number(to.0)),
        Command::FlushRoutes => Flow::begin("order flush-routes"),
        // A scrub's.
        Command::Condemn { .. } => return None,
        Command::Nodes
        | Command::Partitions { .. }
        | Command::Health
        | Command::Throughput { .. } => return None,
    })
}

/// Told, not asked: routers that are not there have nothing cached.
fn flush_routes(admin: &Admin) -> Answer {
    match admin.mesh.cast(subjects::ROUTES_FORGET, &ForgetRoutes {}) {
        Ok(()) => Answer::Done("all routers were told to forget their routes".into()),
        Err(error) => Answer::Refused(format!("the routers could not be told: {error}")),
    }
}

impl Admin {
    /// UUIDs of the users' tables.
    fn table_uuids(&self) -> BTreeMap<TableId, String> {
        let tables = self.tables.read();
        let uuids = tables
            .iter()
            .map(|t| (t.definition.id, t.definition.uuid.clone()));
        uuids.collect()
    }

    pub(crate) fn table_names(&self) -> BTreeMap<TableId, String> {
        let tables = self.tables.read();
        let names = tables
            .iter()
            .map(|t| (t.definition.id, t.definition.name.clone()));
        let system = (TableId(1), SYSTEM_TABLE.to_owned());
        names.chain([system]).collect()
    }
}

fn nodes(admin: &Admin, view: &View) -> Vec<NodeStatus> {
    let cluster = admin.cluster.read();
    let heard: BTreeMap<NodeId, _> = cluster.all().map(|n| (n.node, n)).collect();
    let (placed, leading) = (
        view.partitions.storage_replicas(),
        view.partitions.leaders(view.now_ms),
    );
    let of = |counts: &BTreeMap<NodeId, u64>, node| counts.get(&node).copied().unwrap_or(0);
    let status = |node: &crate::vitality::NodeView| {
        let heard = heard.get(&node.node);
        let health = heard.map(|n| n.health.clone()).unwrap_or_default();
        NodeStatus {
            node: node.node,
            zone: node.zone.clone(),
            vitality: node.vitality,
            slow: node.slow,
            stopping: node.stopping,
            draining: node.draining,
            silent_ms: node.silent_ms,
            replicas: of(&placed, node.node),
            leading: of(&leading, node.node),
            hosted: health.replicas,
            used_bytes: health.used_bytes,
            free_bytes: health.free_bytes,
            fenced: health.fenced.len() as u64,
            sync_us: health.sync_us,
            acknowledged_us: node.acknowledged_us,
            version: heard.map(|n| n.version.clone()).unwrap_or_default(),
        }
    };
    view.nodes.values().map(status).collect()
}

fn partition(
    id: GroupId,
    seen: &Seen,
    (names, uuids): (&BTreeMap<TableId, String>, &BTreeMap<TableId, String>),
    admin: &Admin,
    plan: &Plan,
    view: &View,
) -> PartitionStatus {
    let info = &seen.info;
    let replica = |member: &protocol::directory::PlacedMember| {
        let state = state_of(member, seen, view);
        let healthy = matches!(state.as_str(), "leader" | "in step" | "no word of it");
        ReplicaStatus {
            node: member.member.node,
            zone: member.zone.clone(),
            role: member.member.role,
            votes: info.members.contains(member),
            healthy,
            state,
        }
    };
    let table = names.get(&info.table).cloned();
    PartitionStatus {
        partition: id,
        table: table.unwrap_or_else(|| format!("(table {})", info.table.0)),
        table_uuid: uuids.get(&info.table).cloned().unwrap_or_default(),
        leader: info.leader.filter(|_| seen.fresh(view.now_ms)),
        generation: info.generation,
        replicas: seen.replicas().map(replica).collect(),
        healthy_copies: copies(seen, view) as u64,
        items: info.items,
        bytes: info.bytes,
        healing: plan.repairs.words(id).unwrap_or_default(),
        parent: info.parent,
        read_units_s: info.read_units_s.as_f64(),
        write_units_s: info.write_units_s.as_f64(),
        refused_units_s: info.refused_units_s.as_f64(),
        heat_permille: heat_permille(seen, &admin.settings.splits),
        split: admin.split_words(id),
        children: admin.children_of(id),
        start: bound(&info.range.start, info.table),
        end: bound(&info.range.end, info.table),
        heard_ms: Some(view.now_ms.saturating_sub(seen.heard_ms)),
    }
}

/// A bound of a partition for people: where its hash begins, in hexadecimal; empty at the table's own bounds.
fn bound(key: &EncodedKey, table: TableId) -> String {
    let of_table = key_table_range(table);
    match key.get(HASH_AT..) {
        Some(hash) if of_table.contains(key) => {
            let bytes = hash.iter().take(SHOWN_BYTES);
            bytes.map(|byte| format!("{byte:02x}")).collect()
        }
        _ => String::new(),
    }
}

async fn partitions(admin: &Admin, table: Option<&str>, after: GroupId) -> Answer {
    let (mut names, uuids) = (admin.table_names(), admin.table_uuids());
    if let Some(table) = table
        && !names.values().any(|name| name == table)
    {
        // Another admin may have made it since the last look at all tables.
        match admin.table(table).await {
            Ok(Some(stored)) => {
                let definition = stored.value.definition;
                names.insert(definition.id, definition.name);
            }
            Ok(None) => return Answer::Refused(format!("there is no table '{table}'")),
            Err(error) => {
                return Answer::Refused(format!("the system table can't be had: {error}"));
            }
        }
    }
    admin.with_plan(|plan, view| {
        let wanted = |seen: &Seen| {
            table.is_none_or(|table| names.get(&seen.info.table).is_some_and(|n| n == table))
        };
        let mut found: Vec<_> = view
            .partitions
            .iter()
            .filter(|(id, seen)| *id > after && wanted(seen))
            .take(PARTITIONS_MAX + 1)
            .map(|(id, seen)| partition(id, seen, (&names, &uuids), admin, plan, view))
            .collect();
        let more = found.len() > PARTITIONS_MAX;
        found.truncate(PARTITIONS_MAX);
        let next = found.last().map(|p| p.partition).filter(|_| more);
        Answer::Partitions {
            partitions: found,
            next,
        }
    })
}

fn health(admin: &Admin, plan: &Plan, view: &View) -> MeshHealth {
    let (names, uuids) = (admin.table_names(), admin.table_uuids());
    let recorded = {
        let tables = admin.tables.read();
        let recorded: BTreeSet<GroupId> =
            tables.iter().flat_map(|t| t.partitions.clone()).collect();
        recorded
    };
    let led = |id: &GroupId| {
        let seen = view.partitions.get(*id);
        seen.is_some_and(|seen| seen.fresh(view.now_ms) && seen.info.leader.is_some())
    };
    let known: BTreeSet<GroupId> = view.partitions.iter().map(|(id, _)| id).collect();
    // What is left of a partition that was split serves nobody.
    let superseded = view.partitions.superseded();
    let without_leader: Vec<GroupId> = recorded
        .union(&known)
        .chain([&SYSTEM_GROUP])
        .filter(|id| !led(id) && !superseded.contains(id))
        .copied()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let mut endangered: Vec<(usize, GroupId)> = view
        .partitions
        .iter()
        .filter(|(_, seen)| !seen.ended())
        .map(|(id, seen)| (voting_copies(seen, view), id))
        .filter(|&(copies, _)| copies < REPLICAS)
        .collect();
    endangered.sort();
    let worst = endangered.iter().take(ENDANGERED_MAX);
    let worst = worst.filter_map(|(_, id)| {
        let seen = view.partitions.get(*id)?;
        Some(partition(*id, seen, (&names, &uuids), admin, plan, view))
    });
    let nodes = nodes(admin, view);
    let fenced = view.nodes.values().flat_map(|n| {
        n.fenced.iter().map(|&partition| FencedStatus {
            node: n.node,
            partition,
        })
    });
    let fenced: Vec<_> = fenced.take(FENCED_MAX).collect();
    let troubles = {
        let cluster = admin.cluster.read();
        let troubles = cluster.alive(view.now_ms).flat_map(|n| {
            let node = n.node.0;
            n.health
                .troubles
                .iter()
                .map(move |trouble| format!("node {node}: {trouble}"))
        });
        let settings = &admin.settings;
        let disagreements =
            disagreements(&cluster, view.now_ms, &settings.splits, &settings.quotas);
        let others = cluster.watchers().flat_map(|(service, instance, watcher)| {
            let troubles = watcher.troubles.iter();
            troubles.map(move |trouble| format!("{service} {instance}: {trouble}"))
        });
        // What others found must not be crowded out by the nodes' own.
        others
            .chain(disagreements)
            .chain(troubles)
            .take(TROUBLES_MAX)
            .collect()
    };
    let (archive, watched) = {
        let cluster = admin.cluster.read();
        let archivers = cluster.watchers().filter_map(|(_, _, w)| w.archive.clone());
        let archive = archivers.reduce(|one, other| ArchiveHealth {
            partitions: one.partitions + other.partitions,
            unarchived_bytes: one.unarchived_bytes + other.unarchived_bytes,
            lag_ms: one.lag_ms.max(other.lag_ms),
            store_up: one.store_up && other.store_up,
        });
        let watched = cluster.watchers().all(|(_, _, w)| w.troubles.is_empty());
        (archive, watched)
    };
    let progress = plan.repairs.progress();
    let fine = |n: &NodeStatus| n.vitality == Vitality::Alive && !n.slow && !n.draining;
    let healthy = without_leader.is_empty()
        && watched
        && endangered.is_empty()
        && fenced.is_empty()
        && progress.total == progress.done
        && nodes
            .iter()
            .all(|n| fine(n) || (n.hosted == 0 && n.replicas == 0));
    MeshHealth {
        healthy,
        admin: admin.settings.instance,
        epoch: admin.lease.lock().known_epoch(),
        admins: admin.cluster.read().admins().collect(),
        partitions: known.iter().filter(|id| led(id)).count() as u64,
        without_leader: without_leader.into_iter().take(SILENT_MAX).collect(),
        endangered: endangered.len() as u64,
        most_endangered: worst.collect(),
        healing_total: progress.total,
        healing_done: progress.done,
        healing_running: progress.running,
        waiting: plan
            .repairs
            .waiting()
            .take(WAITING_MAX)
            .map(|(why, count)| format!("{count} wait: {why}"))
            .collect(),
        fenced,
        troubles,
        archive,
        nodes,
    }
}

async fn drain(admin: &Admin, node: NodeId, on: bool) -> Answer {
    let stored: Option<Stored<NodeRecord>> = admin.node_records.read().get(&node).cloned();
    let Some(stored) = stored else {
        return Answer::Refused(format!("there is no storage node {}", node.0));
    };
    if stored.value.draining == on {
        return Answer::Done(match on {
            true => format!("node {} is being drained already", node.0),
            false => format!("node {} is not being drained", node.0),
        });
    }
    let record = NodeRecord {
        draining: on,
        traceparent: match on {
            true => traces::current().traceparent(),
            false => String::new(),
        },
        ..stored.value
    };
    match admin.put_node(record, Some(&stored.token)).await {
        Ok(()) if on => Answer::Done(format!(
            "node {} is being drained: its leaders first, then its replicas",
            node.0
        )),
        Ok(()) => Answer::Done(format!("node {} stays", node.0)),
        Err(WriteError::Conflict) => {
            Answer::Refused("the node's record changed meanwhile: try again".to_owned())
        }
        Err(WriteError::Api(error)) => {
            Answer::Refused(format!("the system table can't be written: {error}"))
        }
    }
}

async fn transfer(admin: &Admin, partition: GroupId, to: NodeId) -> Answer {
    let checked = admin.with_plan(|plan, view| {
        let seen = view.partitions.get(partition);
        let Some(seen) = seen.filter(|seen| seen.fresh(view.now_ms)) else {
            return Err(format!(
                "partition {} has no leader that is heard",
                partition.0
            ));
        };
        if plan.repairs.touches(partition) {
            return Err(format!(
                "partition {}'s replicas are being changed",
                partition.0
            ));
        }
        let votes = |m: &&protocol::directory::PlacedMember| {
            m.member.node == to && m.member.role == Role::Storage
        };
        let Some(member) = seen.info.members.iter().find(votes) else {
            return Err(format!(
                "node {} holds no storage replica of partition {} that votes",
                to.0, partition.0
            ));
        };
        let state = state_of(member, seen, view);
        match seen.info.leader {
            None => Err(format!("partition {} has no leader", partition.0)),
            Some(leader) if leader == to => Ok(None),
            Some(_) if matches!(state.as_str(), "in step" | "no word of it") => {
                Ok(seen.info.leader)
            }
            Some(_) => Err(format!(
                "the replica on node {} is not in step: {state}",
                to.0
            )),
        }
    });
    let leader = match checked {
        Err(why) => return Answer::Refused(why),
        Ok(None) => return Answer::Done(format!("node {} leads it already", to.0)),
        Ok(Some(leader)) => leader,
    };
    match admin
        .order(leader, &Order::TransferLeadership { partition, to })
        .await
    {
        Outcome::Done => Answer::Done(format!(
            "node {} hands partition {} over to node {}",
            leader.0, partition.0, to.0
        )),
        Outcome::Refused(why) => Answer::Refused(format!("node {} refuses: {why}", leader.0)),
        Outcome::NotLeader => {
            Answer::Refused(format!("node {} leads it no more: try again", leader.0))
        }
        Outcome::Silent => Answer::Refused(format!("node {} does not answer", leader.0)),
        Outcome::Stale(_) | Outcome::Unauthorised => {
            Answer::Refused("another admin gives the orders now: try again".to_owned())
        }
    }
}

/// How long the operator waits for a split to be begun; it goes on afterwards.
const BEGIN_MAX: Duration = Duration::from_millis(1_500);

async fn split(admin: &Arc<Admin>, table: &str, partition: GroupId, at: Option<&str>) -> Answer {
    let stored = match admin.table(table).await {
        Ok(Some(stored)) => stored,
        Ok(None) => return Answer::Refused(format!("there is no table '{table}'")),
        Err(error) => {
            return Answer::Refused(format!("the system table can't be had: {error}"));
        }
    };
    if let Some(split) = stored.value.split_of(partition) {
        return Answer::Done(begun(partition, split.left, split.right));
    }
    if !stored.value.partitions.contains(&partition) {
        let why = format!("partition {} is no partition of '{table}'", partition.0);
        return Answer::Refused(why);
    }
    let point = match at.map(|at| point_of(&stored.value.definition, at)) {
        None => None,
        Some(Ok(point)) => Some(point),
        Some(Err(why)) => return Answer::Refused(why),
    };
    let (admin, table) = (admin.clone(), table.to_owned());
    let cause = traces::current();
    let work = tokio::spawn(async move {
        let work = std::pin::pin!(admin.split_now(&table, partition, point));
        traces::within(cause, work).await
    });
    match tokio::time::timeout(BEGIN_MAX, work).await {
        Err(_) => Answer::Done(format!(
            "partition {}: its leader is looking for the middle",
            partition.0
        )),
        Ok(Ok(Ok((left, right)))) => Answer::Done(begun(partition, left, right)),
        Ok(Ok(Err(why))) => Answer::Refused(format!("partition {}: {}", partition.0, why.words())),
        Ok(Err(error)) => Answer::Refused(format!("partition {}: {error}", partition.0)),
    }
}

fn begun(partition: GroupId, left: GroupId, right: GroupId) -> String {
    format!(
        "partition {} is being split into {} and {}",
        partition.0, left.0, right.0
    )
}

/// The encoded key that an operator means.
fn point_of(table: &TableDefinition, at: &str) -> Result<EncodedKey, String> {
    let wrong = |error: ApiError| format!("'{at}' is no key of this table: {error}");
    let JsonItem(key) = model::json::from_slice(at.as_bytes()).map_err(wrong)?;
    let key = key.map_err(wrong)?;
    let partition = &table.keys.partition;
    match key.get(&partition.name) {
        Some(value) if key.len() == 1 && table.keys.sort.is_some() => {
            if !has_key_type(partition, value) {
                return Err(format!("'{at}': {} has another type", partition.name));
            }
            check_key_value(partition, KeyRole::Partition, value).map_err(wrong)?;
            collection_prefix(table.id, IndexId(0), value).map_err(wrong)
        }
        _ => key_from_key(table, &key).map_err(wrong),
    }
}

fn replace(admin: &Arc<Admin>, partition: GroupId, from: NodeId, to: NodeId) -> Answer {
    let cause = traces::current();
    let taken = admin.with_plan(|plan, view| {
        plan.repairs
            .replace(partition, from, to, Reason::Operator, view)
            .map(|()| plan.traces.because(partition, cause))
    });
    match taken {
        Err(why) => Answer::Refused(why),
        Ok(()) => {
            admin.plan();
            Answer::Done(format!(
                "partition {}: the replica on node {} is being built anew on node {}",
                partition.0, from.0, to.0
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_told_by_their_hash() {
        let table = TableId(7);
        let range = key_table_range(table);
        assert_eq!(bound(&range.start, table), "");
        assert_eq!(bound(&range.end, table), "");
        let mut key = 7u64.to_be_bytes().to_vec();
        key.extend([0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0xff, 0x77]);
        assert_eq!(bound(&key.into(), table), "80000000000000ff");
    }
    use model::table::{KeyAttribute, ScalarType};

    #[test]
    fn the_operators_keys_are_those_of_the_api() {
        let mut table = crate::records::system_table();
        let point = |table: &TableDefinition, at: &str| point_of(table, at);
        let alone = point(&table, r#"{"pk": {"S": "a"}}"#).unwrap();
        assert_eq!(alone.len(), 42);
        table.keys.sort = Some(KeyAttribute {
            name: "sk".into(),
            kind: ScalarType::N,
        });
        assert_eq!(point(&table, r#"{"pk": {"S": "a"}}"#), Ok(alone.clone()));
        let key = r#"{"pk": {"S": "a"}, "sk": {"N": "5"}}"#;
        let inside = point(&table, key).unwrap();
        assert!(inside.starts_with(&alone) && inside.len() > 42);
        for wrong in [
            "",
            "a",
            "{}",
            "[]",
            r#"{"pk": "a"}"#,
            r#"{"pk": {"N": "1"}}"#,
            r#"{"pk": {"S": ""}}"#,
            r#"{"sk": {"N": "5"}}"#,
            r#"{"pk": {"S": "a"}, "sk": {"S": "5"}}"#,
            r#"{"pk": {"S": "a"}, "sk": {"N": "5"}, "x": {"N": "5"}}"#,
        ] {
            assert!(point(&table, wrong).is_err(), "{wrong}");
        }
    }
}
