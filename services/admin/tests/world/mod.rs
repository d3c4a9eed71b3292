//! Four storage nodes that keep everything in memory (the fourth is silent until it is told to appear), a real memds node, and admins, on the in-process bus.
#![allow(dead_code)] // each test file uses a part

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use admin::{AdminSettings, HealingSettings};
use bytes::Bytes;
use memds::MemdsSettings;
use mesh::{Deadline, Identity, LocalBus, Mesh, Subscription, TraceContext};
use model::codec::decode_item;
use model::{ErrorKind, Item, TableDefinition};
use parking_lot::Mutex;
use paxos::{Ballot, GroupId, NodeId};
use protocol::control::{ApiCall, ApiReply, CreateReplica, Order, OrderCall, OrderReply};
use protocol::directory::{PartitionInfo, Push};
use protocol::health::{Heartbeat, StorageHealth};
use protocol::item::{ItemCall, ItemFault, ItemOperation, ItemReply, PageReply, WriteAction};
use protocol::jobs::{JobsReply, JobsReport};
use protocol::operate::{Answer, Command};
use protocol::subjects;
use serde_json::Value;

/// A partition: its first orders, and what is in it.
struct Partition {
    made: CreateReplica,
    table: TableDefinition,
    on: BTreeSet<NodeId>,
    items: BTreeMap<Bytes, Bytes>,
    generation: u64,
    round: u64,
}

impl Partition {
    fn leader(&self) -> NodeId {
        self.made.members[0].member.node
    }

    /// It works once two replicas are there.
    fn led(&self) -> bool {
        self.on.len() >= 2
    }

    fn info(&self) -> PartitionInfo {
        PartitionInfo {
            partition: self.made.partition,
            table: self.table.id,
            range: self.made.range.clone(),
            generation: self.generation,
            ballot: Ballot {
                round: self.round,
                node: self.leader(),
            },
            leader: Some(self.leader()),
            members: self.made.members.clone(),
            learners: Vec::new(),
            progress: Vec::new(),
            changing: false,
            table_version: self.table.version,
            items: self.items.len() as u64,
            bytes: 0,
            ..PartitionInfo::default()
        }
    }
}

#[derive(Default)]
struct Disks {
    partitions: BTreeMap<GroupId, Partition>,
    /// Nodes that do not carry out orders at the moment.
    refusing: BTreeSet<NodeId>,
    /// Greatest epoch that a node has seen.
    epochs: BTreeMap<NodeId, u64>,
    orders: Vec<(NodeId, String)>,
}

/// All storage nodes.
pub struct World {
    pub bus: LocalBus,
    disks: Arc<Mutex<Disks>>,
    /// Nodes that say that they are there.
    present: Mutex<BTreeSet<u64>>,
    _memds: memds::Running,
    _served: Vec<Subscription>,
}

/// Node 4 stands beside node 3.
fn zone_of(node: u64) -> String {
    format!("az{}", node.min(3))
}

pub fn join(bus: &LocalBus, service: &str, instance: u64) -> Mesh {
    Mesh::local(
        bus,
        Identity {
            service: service.into(),
            instance,
            incarnation: 1,
        },
    )
}

impl World {
    /// Must be called within an actix system.
    pub async fn new() -> World {
        let bus = LocalBus::new();
        let memds = memds::start(MemdsSettings::default(), join(&bus, "memds", 1))
            .await
            .unwrap();
        let disks = Arc::new(Mutex::new(Disks::default()));
        let mut served = Vec::new();
        for node in (1..=4).map(NodeId) {
            let mesh = join(&bus, "storage", node.0);
            let (state, pushing) = (disks.clone(), mesh.clone());
            let subject = subjects::node_control(node);
            let orders = mesh.serve(&subject, None, move |delivery| {
                let OrderCall { epoch, order } = delivery.decode().unwrap();
                {
                    let mut disks = state.lock();
                    let known = disks.epochs.entry(node).or_insert(0);
                    if epoch > 0 && epoch < *known {
                        return delivery.reply(&OrderReply::Stale(*known));
                    }
                    *known = epoch.max(*known);
                }
                let reply = take_order(&state, &pushing, node, order);
                delivery.reply(&reply);
            });
            served.push(orders.await.unwrap());
            let state = disks.clone();
            let subject = subjects::node_item(node);
            let items = mesh.serve(&subject, None, move |delivery| {
                let call = delivery.decode::<ItemCall>().unwrap();
                let reply = take_item(&mut state.lock(), node, call);
                delivery.reply(&reply);
            });
            served.push(items.await.unwrap());
            let (state, pushing) = (disks.clone(), mesh.clone());
            let hydrate = mesh.serve(subjects::MEMDS_HYDRATE, None, move |_| {
                let leads: Vec<GroupId> = state
                    .lock()
                    .partitions
                    .iter()
                    .filter(|(_, p)| p.leader() == node && p.led())
                    .map(|(&id, _)| id)
                    .collect();
                for partition in leads {
                    push(&state, &pushing, partition);
                }
            });
            served.push(hydrate.await.unwrap());
        }
        World {
            bus,
            disks,
            present: Mutex::new((1..=3).collect()),
            _memds: memds,
            _served: served,
        }
    }

    /// All nodes say that they are there.
    pub fn beat(&self) {
        let present: Vec<u64> = self.present.lock().iter().copied().collect();
        for node in present {
            let disks = self.disks.lock();
            let replicas = disks
                .partitions
                .values()
                .filter(|p| p.on.contains(&NodeId(node)))
                .count();
            drop(disks);
            let beat = Heartbeat {
                service: "storage".into(),
                instance: node,
                zone: zone_of(node),
                incarnation: 1,
                http: String::new(),
                ready: true,
                draining: false,
                version: String::new(),
                storage: Some(StorageHealth {
                    replicas: replicas as u64,
                    free_bytes: 1 << 40,
                    ..StorageHealth::default()
                }),
                ..Heartbeat::default()
            };
            join(&self.bus, "storage", node)
                .cast(subjects::HEALTH, &beat)
                .unwrap();
        }
    }

    pub async fn admin(&self, instance: u64) -> admin::Running {
        let settings = AdminSettings {
            instance,
            found_after_ms: 0,
            reconcile_every_ms: 50,
            drop_patience_ms: 0,
            // Nobody dies without giving it back; a machine that stands still for a moment costs nobody the lease.
            lease_ms: 4_000,
            healing: HealingSettings {
                replace_after_ms: 4_000,
                plan_every_ms: 50,
                repeat_ms: 300,
                ..HealingSettings::default()
            },
            ..AdminSettings::default()
        };
        let running = admin::start(settings, join(&self.bus, "admin", instance))
            .await
            .unwrap();
        self.beat();
        running
    }

    /// Whether a node says that it is there (orders reach it all the same).
    pub fn appear(&self, node: u64, present: bool) {
        let mut nodes = self.present.lock();
        if present {
            nodes.insert(node);
        } else {
            nodes.remove(&node);
            // Others lead what it led.
            let mut disks = self.disks.lock();
            let led = |p: &&mut Partition| p.leader() == NodeId(node);
            for partition in disks.partitions.values_mut().filter(led) {
                partition.made.members.rotate_left(1);
                partition.round += 1;
            }
        }
    }

    /// All leaders say what they lead.
    pub fn push_all(&self) {
        let leads: Vec<(GroupId, NodeId)> = {
            let disks = self.disks.lock();
            let led = disks.partitions.iter().filter(|(_, p)| p.led());
            led.map(|(&id, p)| (id, p.leader())).collect()
        };
        for (partition, leader) in leads {
            push(
                &self.disks,
                &join(&self.bus, "storage", leader.0),
                partition,
            );
        }
    }

    /// Puts so many items into each partition of a table.
    pub fn fill(&self, name: &str, items: u8) {
        let mut disks = self.disks.lock();
        for partition in disks
            .partitions
            .values_mut()
            .filter(|p| p.table.name == name)
        {
            for item in 0..items {
                partition.items.insert(vec![item].into(), Bytes::new());
            }
        }
    }

    /// Replicas on a node.
    pub fn held(&self, node: u64) -> usize {
        let disks = self.disks.lock();
        let on = |p: &&Partition| p.on.contains(&NodeId(node));
        disks.partitions.values().filter(on).count()
    }

    /// All nodes have heard of this epoch.
    pub fn epoch(&self, epoch: u64) {
        let mut disks = self.disks.lock();
        for node in 1..=4 {
            disks.epochs.insert(NodeId(node), epoch);
        }
    }

    /// What an operator says to the active admin.
    pub async fn operate(&self, command: Command) -> Option<Answer> {
        let desk = join(&self.bus, "ctl", 1);
        let deadline = Deadline::after(Duration::from_secs(20));
        let trace = TraceContext::default();
        desk.call(subjects::ADMIN_OPERATE, &command, deadline, &trace)
            .await
            .ok()
    }

    /// Whether a node carries out orders.
    pub fn obey(&self, node: u64, obeys: bool) {
        let mut disks = self.disks.lock();
        if obeys {
            disks.refusing.remove(&NodeId(node));
        } else {
            disks.refusing.insert(NodeId(node));
        }
    }

    /// Partitions of the table `name` with the number of their replicas.
    pub fn replicas(&self, name: &str) -> Vec<usize> {
        let disks = self.disks.lock();
        disks
            .partitions
            .values()
            .filter(|p| p.table.name == name)
            .map(|p| p.on.len())
            .collect()
    }

    /// Leaders of the partitions of the table `name`, and the versions of their definitions.
    pub fn leaders(&self, name: &str) -> Vec<(u64, u64)> {
        let disks = self.disks.lock();
        let of_table = disks.partitions.values().filter(|p| p.table.name == name);
        of_table.map(|p| (p.leader().0, p.table.version)).collect()
    }

    /// Keys of the system table.
    pub fn system_keys(&self) -> Vec<String> {
        let disks = self.disks.lock();
        let items = disks
            .partitions
            .get(&GroupId(1))
            .map(|p| p.items.values().cloned());
        let keys = items.into_iter().flatten().map(|item| {
            let item = decode_item(&item).unwrap();
            match &item["pk"] {
                model::AttributeValue::S(key) => key.clone(),
                other => panic!("{other:?}"),
            }
        });
        // What the admins note for themselves comes and goes as they please.
        let own = |key: &String| key == "meta#lease" || key.starts_with("node#");
        keys.filter(|key| !own(key)).collect()
    }

    pub async fn call(&self, operation: &str, body: Value) -> Result<Value, (ErrorKind, String)> {
        // However long the test was made to wait, no node has fallen silent.
        self.beat();
        self.call_in_silence(operation, body).await
    }

    /// The same, while no node says that it is there.
    pub async fn call_in_silence(
        &self,
        operation: &str,
        body: Value,
    ) -> Result<Value, (ErrorKind, String)> {
        let router = join(&self.bus, "router", 1);
        let call = ApiCall {
            operation: operation.into(),
            body: body.to_string().into(),
            principal: "test".into(),
            ..ApiCall::default()
        };
        let trace = TraceContext::default();
        let started = Instant::now();
        let reply = loop {
            let deadline = Deadline::after(Duration::from_secs(60));
            match router
                .call(subjects::ADMIN_API, &call, deadline, &trace)
                .await
            {
                // No admin is active at this moment.
                Err(error) if error.certainly_not_executed() => {
                    assert!(started.elapsed() < Duration::from_secs(60), "{error}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                reply => break reply.unwrap(),
            }
        };
        match reply {
            ApiReply::Ok(body) if body.is_empty() => Ok(Value::Null),
            ApiReply::Ok(body) => Ok(serde_json::from_slice(&body).unwrap()),
            ApiReply::Error(error) => Err((error.kind, error.message)),
        }
    }

    /// Waits (bounded) until something holds.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let started = Instant::now();
        while !holds().await {
            assert!(started.elapsed() < Duration::from_secs(60), "never: {what}");
            self.beat();
            self.push_all();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What an archiver instance hears when it reports its jobs; none: no admin answers.
    pub async fn report_jobs(&self, report: &JobsReport) -> Option<JobsReply> {
        let archiver = join(&self.bus, "archiver", report.instance);
        let deadline = Deadline::after(Duration::from_secs(20));
        let trace = TraceContext::default();
        archiver
            .call(subjects::ADMIN_JOBS, report, deadline, &trace)
            .await
            .ok()
    }

    /// Definitions of a table that its partitions work with.
    pub fn definitions(&self, name: &str) -> Vec<TableDefinition> {
        let disks = self.disks.lock();
        let of_table = disks.partitions.values().filter(|p| p.table.name == name);
        of_table.map(|p| p.table.clone()).collect()
    }

    pub async fn status(&self, name: &str) -> Option<String> {
        let body = serde_json::json!({ "TableName": name });
        let table = self.call("DescribeTable", body).await.ok()?;
        Some(table["Table"]["TableStatus"].as_str().unwrap().to_owned())
    }
}

fn push(disks: &Mutex<Disks>, mesh: &Mesh, partition: GroupId) {
    let push = {
        let disks = disks.lock();
        let Some(partition) = disks.partitions.get(&partition) else {
            return;
        };
        Push {
            node: partition.leader(),
            partitions: vec![partition.info()],
            tables: vec![partition.table.clone()],
            dropped: Vec::new(),
        }
    };
    mesh.cast(subjects::MEMDS_PUSH, &push).unwrap();
}

fn take_order(disks: &Mutex<Disks>, mesh: &Mesh, node: NodeId, order: Order) -> OrderReply {
    let mut guard = disks.lock();
    let Disks {
        partitions,
        refusing,
        orders,
        ..
    } = &mut *guard;
    orders.push((node, format!("{order:?}")));
    if refusing.contains(&node) {
        return OrderReply::Refused("not now".into());
    }
    let pushed = match order {
        Order::CreateReplica(order) => {
            let id = order.partition;
            let partition = partitions.entry(id).or_insert_with(|| Partition {
                table: order.table.clone(),
                made: *order.clone(),
                on: BTreeSet::new(),
                items: BTreeMap::new(),
                generation: 1,
                round: 1,
            });
            assert_eq!(
                partition.made.configuration, order.configuration,
                "one placement"
            );
            partition.on.insert(node);
            partition.led().then_some(id)
        }
        Order::DropReplica { partition } => {
            if let Some(found) = partitions.get_mut(&partition) {
                found.on.remove(&node);
                if found.on.is_empty() {
                    partitions.remove(&partition);
                }
            }
            None
        }
        // How an admin makes its epoch known.
        Order::Campaign {
            partition: GroupId(0),
        } => None,
        Order::Campaign { partition } => {
            let made = partitions.get(&partition);
            assert!(
                made.is_some_and(|p| p.on.len() == 3),
                "only once all replicas are there"
            );
            None
        }
        Order::SetTable { partition, table } => match partitions.get_mut(&partition) {
            Some(found) if found.leader() == node => {
                found.table = *table;
                Some(partition)
            }
            _ => return OrderReply::NotLeader,
        },
        Order::TransferLeadership { partition, to } => match partitions.get_mut(&partition) {
            Some(found) if found.leader() == node => {
                let members = &mut found.made.members;
                let at = members.iter().position(|m| m.member.node == to).unwrap();
                members.rotate_left(at);
                found.round += 1;
                Some(partition)
            }
            _ => return OrderReply::NotLeader,
        },
        Order::ReplaceReplica {
            partition,
            generation,
            replaced,
            target,
        } => match partitions.get_mut(&partition) {
            Some(found) if found.leader() == node => {
                if generation != found.generation {
                    return OrderReply::Stale(found.generation);
                }
                let members = &mut found.made.members;
                let old = members.iter_mut().find(|m| m.member.node == replaced);
                let old = old.unwrap();
                old.member.node = target;
                old.member.incarnation += 1_000;
                old.zone = zone_of(target.0);
                found.generation += 2;
                found.on.remove(&replaced);
                found.on.insert(target);
                Some(partition)
            }
            _ => return OrderReply::NotLeader,
        },
        other => return OrderReply::Refused(format!("not simulated here: {other:?}")),
    };
    drop(guard);
    if let Some(partition) = pushed {
        push(disks, mesh, partition);
    }
    OrderReply::Done
}

fn take_item(disks: &mut Disks, node: NodeId, call: ItemCall) -> ItemReply {
    let Some(partition) = disks.partitions.get_mut(&call.partition) else {
        return ItemReply::Fault(ItemFault::NotHere { partition: None });
    };
    if partition.leader() != node {
        let hint = Some(Box::new(partition.info()));
        return ItemReply::Fault(ItemFault::NotHere { partition: hint });
    }
    if !partition.led() {
        return ItemReply::Fault(ItemFault::NotReady);
    }
    let items = &mut partition.items;
    match call.operation {
        ItemOperation::Get(get) => ItemReply::Item {
            item: items.get(&get.key).cloned(),
            size_bytes: 0,
        },
        ItemOperation::Write(write) => {
            let old = items.get(&write.key).map(|item| decode_item(item).unwrap());
            let holds = write.condition.is_none_or(|condition| {
                condition
                    .evaluate(old.as_ref().unwrap_or(&Item::new()))
                    .unwrap()
            });
            if !holds {
                let failed = ItemFault::ConditionFailed {
                    item: None,
                    size_bytes: 0,
                };
                return ItemReply::Fault(failed);
            }
            match write.action {
                WriteAction::Put(item) | WriteAction::Fill(item) => {
                    items.insert(write.key, item);
                }
                WriteAction::Delete => {
                    items.remove(&write.key);
                }
                WriteAction::Update { .. } | WriteAction::Expire { .. } | WriteAction::Check => {
                    panic!("the admin never updates in place")
                }
            }
            ItemReply::Written {
                attributes: None,
                old_size_bytes: 0,
                new_size_bytes: 0,
                indexes: Vec::new(),
                collection_bytes: None,
            }
        }
        ItemOperation::Page(page) => {
            // One item a page, so that paging is seen to work.
            let start = match page.after {
                Some(after) => Bound::Excluded(after),
                None => Bound::Included(page.range.start.clone()),
            };
            let found = items.range((start, Bound::Unbounded)).next();
            let found = found.filter(|(key, _)| page.range.contains(key));
            ItemReply::Page(PageReply {
                items: found.iter().map(|(_, item)| (*item).clone()).collect(),
                last_key: found.map(|(key, _)| key.clone()),
                ..PageReply::default()
            })
        }
        ItemOperation::Changes(_) | ItemOperation::Propagate(_) => {
            panic!("the admin reads no change records")
        }
        ItemOperation::Transact(_) => panic!("the admin has no transactions"),
    }
}
