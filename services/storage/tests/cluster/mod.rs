//! Three storage nodes in this process, on the in-process bus, and a client that finds the leader.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mesh::{CallError, Deadline, Identity, LocalBus, Mesh, Subscription, TraceContext};
use model::codec::{decode_item, encode_item};
use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType, TableStatus};
use model::{AttributeValue, Item, KeyRange, Number, TableDefinition, TableId};
use parking_lot::Mutex;
use paxos::{Configuration, GroupId, Member, NodeId, Role};
use protocol::control::{CreateReplica, Order, OrderCall, OrderReply};
use protocol::directory::{PartitionInfo, PlacedMember, Push};
use protocol::health::Heartbeat;
use protocol::item::{
    Get, ItemCall, ItemFault, ItemOperation, ItemReply, Page, PageReply, ReturnValues, Write,
    WriteAction,
};
use protocol::subjects;
use storage::{Running, StorageSettings};

/// No step of a test takes longer.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const GROUP: GroupId = GroupId(7);

pub struct Cluster {
    pub bus: LocalBus,
    pub client: Mesh,
    pub nodes: BTreeMap<u64, Running>,
    pub settings: BTreeMap<u64, StorageSettings>,
    pub seen: Arc<Seen>,
    _folder: tempfile::TempDir,
    _subscriptions: Vec<Subscription>,
}

/// What the nodes said of themselves.
#[derive(Default)]
pub struct Seen {
    pub partitions: Mutex<BTreeMap<GroupId, PartitionInfo>>,
    pub tables: Mutex<BTreeMap<TableId, TableDefinition>>,
    pub dropped: Mutex<Vec<GroupId>>,
    pub heartbeats: Mutex<BTreeMap<u64, Heartbeat>>,
}

pub fn identity(service: &str, instance: u64) -> Identity {
    Identity {
        service: service.to_owned(),
        instance,
        incarnation: 1,
    }
}

/// Short times, so that tests are; safe since they only wait longer on a slow machine.
pub fn settings(node_id: u64, data_dir: PathBuf) -> StorageSettings {
    let mut settings = StorageSettings {
        node_id,
        zone: format!("az{}", 1 + (node_id - 1) % 3),
        data_dir,
        ..Default::default()
    };
    settings.shards = 2;
    settings.timing.heartbeat_ms = 60;
    settings.timing.lease_ms = 400;
    settings.timing.election_ms = 400;
    settings.timing.election_jitter_ms = 200;
    settings.timing.candidate_ms = 400;
    settings.timing.leader_patience_ms = 1_000;
    settings.timing.retransmit_ms = 200;
    settings.timing.log_read_ms = 500;
    settings.healing.log_replica_after_ms = 1_000;
    settings.healing.steady_ms = 200;
    settings.healing.retry_ms = 300;
    settings.limits.tick_ms = 10;
    settings.limits.flush_age_ms = 100;
    settings.limits.push_every_ms = 300;
    settings.limits.eventual_age_ms_max = 1_000;
    // Nobody archives, unless a test does.
    settings.archive = false;
    // Other tests measure other things.
    settings.admission.partition_read_units_max = 0;
    settings.admission.partition_write_units_max = 0;
    settings
}

/// For tests in which nobody has to take over: no leader is lost however long this machine lets everybody wait.
pub fn calm(settings: &mut StorageSettings) {
    settings.timing.lease_ms = 10_000;
    settings.timing.election_ms = 10_000;
    settings.timing.leader_patience_ms = 30_000;
    settings.timing.leader_stall_ms = 30_000;
    settings.healing.log_replica_after_ms = 60_000;
    settings.limits.eventual_age_ms_max = 60_000;
}

impl Cluster {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(adjust: impl Fn(&mut StorageSettings)) -> Self {
        Self::start_nodes(3, adjust).await
    }

    /// Nodes 1 to `count`; the first three are the members of what is created.
    pub async fn start_nodes(count: u64, adjust: impl Fn(&mut StorageSettings)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let bus = LocalBus::new();
        let client = Mesh::local(&bus, identity("test", 1));
        let seen = Arc::new(Seen::default());
        let subscriptions = watch(&client, &seen).await;
        let mut cluster = Self {
            bus,
            client,
            nodes: BTreeMap::new(),
            settings: BTreeMap::new(),
            seen,
            _folder: folder,
            _subscriptions: subscriptions,
        };
        for node in 1..=count {
            let mut settings = settings(node, cluster._folder.path().join(format!("node-{node}")));
            adjust(&mut settings);
            cluster.settings.insert(node, settings);
            cluster.start_node(node).await;
        }
        cluster
    }

    pub async fn start_node(&mut self, node: u64) {
        let mesh = Mesh::local(&self.bus, identity("storage", node));
        let running = storage::start(self.settings[&node].clone(), mesh)
            .await
            .expect("starts");
        self.nodes.insert(node, running);
    }

    pub async fn halt_node(&mut self, node: u64) {
        self.nodes.remove(&node).expect("it runs").halt().await;
    }

    pub async fn stop_node(&mut self, node: u64) {
        self.nodes.remove(&node).expect("it runs").stop().await;
    }

    pub async fn halt(mut self) {
        while let Some((_, node)) = self.nodes.pop_first() {
            node.halt().await;
        }
    }

    pub fn create_order(&self, partition: GroupId) -> CreateReplica {
        let members: Vec<Member> = self
            .nodes
            .iter()
            .take(3)
            .map(|(id, node)| Member {
                node: NodeId(*id),
                role: Role::Storage,
                incarnation: node.incarnation(),
            })
            .collect();
        CreateReplica {
            partition,
            table: table(),
            range: model::key::table_range(TableId(20)),
            configuration: Configuration::founding(members.clone()),
            members: members
                .into_iter()
                .map(|member| PlacedMember {
                    member,
                    zone: format!("az{}", member.node.0),
                })
                .collect(),
        }
    }

    pub async fn create(&self, partition: GroupId) {
        let order = self.create_order(partition);
        for node in self.nodes.keys().take(3) {
            let order = Order::CreateReplica(Box::new(order.clone()));
            assert!(matches!(self.order(*node, &order).await, OrderReply::Done));
        }
        // As the admin does: nobody waits for the first election.
        let first = *self.nodes.keys().next().expect("a node");
        let reply = self.order(first, &Order::Campaign { partition }).await;
        assert!(matches!(reply, OrderReply::Done), "{reply:?}");
    }

    pub async fn order(&self, node: u64, order: &Order) -> OrderReply {
        self.order_as(0, node, order).await
    }

    /// An order of an admin in this epoch.
    pub async fn order_as(&self, epoch: u64, node: u64, order: &Order) -> OrderReply {
        let subject = subjects::node_control(NodeId(node));
        let deadline = Deadline::after(PATIENCE);
        let call = OrderCall {
            epoch,
            order: order.clone(),
        };
        self.client
            .call(&subject, &call, deadline, &TraceContext::default())
            .await
            .expect("answers")
    }

    /// One request to one node.
    pub async fn ask(
        &self,
        node: u64,
        partition: GroupId,
        operation: ItemOperation,
    ) -> Result<ItemReply, CallError> {
        let call = ItemCall {
            partition,
            operation,
            forward_to: None,
            uncharged: false,
        };
        self.pass(node, &call).await
    }

    /// One call to one node.
    pub async fn pass(&self, node: u64, call: &ItemCall) -> Result<ItemReply, CallError> {
        let subject = subjects::node_item(NodeId(node));
        // Reads can be waited for; of writes that wait for something it is to be learnt that they do.
        let patience = if is_read(&call.operation) {
            PATIENCE
        } else {
            Duration::from_secs(5)
        };
        let deadline = Deadline::after(patience);
        self.client
            .call(&subject, call, deadline, &TraceContext::default())
            .await
    }

    /// A request to whoever leads, tried again as long as it was certainly not executed. No answer in time is an unknown outcome,
    /// as a router would report it.
    pub async fn lead(&self, partition: GroupId, operation: ItemOperation) -> ItemReply {
        let started = Instant::now();
        let mut hint = None;
        loop {
            for node in self.nodes.keys() {
                let node = hint.take().unwrap_or(*node);
                match self.ask(node, partition, operation.clone()).await {
                    Ok(ItemReply::Fault(ItemFault::NotHere { partition })) => {
                        hint = partition
                            .and_then(|partition| partition.leader)
                            .map(|leader| leader.0);
                    }
                    Ok(ItemReply::Fault(ItemFault::NotReady)) => {}
                    Ok(ItemReply::Fault(ItemFault::Unknown)) if is_read(&operation) => {}
                    Ok(reply) => return reply,
                    Err(error) if error.certainly_not_executed() => {}
                    Err(CallError::TimedOut) if is_read(&operation) => {}
                    Err(CallError::TimedOut) => return ItemReply::Fault(ItemFault::Unknown),
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(started.elapsed() < PATIENCE, "nobody leads");
            pause().await;
        }
    }

    /// The partition as its leader last pushed it.
    pub fn partition(&self, partition: GroupId) -> Option<PartitionInfo> {
        self.seen.partitions.lock().get(&partition).cloned()
    }

    /// Waits until the directory shows these voters and learners of a partition at rest; its info.
    pub async fn until_members(
        &self,
        partition: GroupId,
        what: &str,
        holds: impl Fn(&PartitionInfo) -> bool,
    ) -> PartitionInfo {
        self.until(what, || async {
            let info = self.partition(partition);
            info.is_some_and(|info| !info.changing && holds(&info))
        })
        .await;
        self.partition(partition).expect("it was seen")
    }

    pub async fn write(&self, write: Write) -> ItemReply {
        self.lead(GROUP, ItemOperation::Write(Box::new(write)))
            .await
    }

    /// Writes an item; an unknown outcome (an election came in between) is tried again, which changes nothing for a put.
    pub async fn put(&self, name: &str, n: i64) {
        self.write_surely(put(name, n)).await;
    }

    pub async fn delete(&self, name: &str) {
        self.write_surely(write(name, WriteAction::Delete)).await;
    }

    pub async fn write_surely(&self, write: Write) {
        let started = Instant::now();
        loop {
            match self.write(write.clone()).await {
                ItemReply::Written { .. } => return,
                ItemReply::Fault(ItemFault::Unknown) => {}
                other => panic!("{other:?}"),
            }
            assert!(started.elapsed() < PATIENCE, "never written");
        }
    }

    pub async fn get(&self, name: &str) -> Option<Item> {
        let get = Get {
            key: key(name),
            strong: true,
            projection: None,
        };
        match self.lead(GROUP, ItemOperation::Get(get)).await {
            ItemReply::Item { item, .. } => item.map(|item| decode_item(&item).expect("an item")),
            other => panic!("{other:?}"),
        }
    }

    pub async fn page(&self, page: Page) -> PageReply {
        match self.lead(GROUP, ItemOperation::Page(Box::new(page))).await {
            ItemReply::Page(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// The node that leads, once one does.
    pub async fn leader(&self) -> u64 {
        let started = Instant::now();
        loop {
            for node in self.nodes.keys() {
                let get = Get {
                    key: key("any"),
                    strong: true,
                    projection: None,
                };
                if let Ok(ItemReply::Item { .. }) =
                    self.ask(*node, GROUP, ItemOperation::Get(get)).await
                {
                    return *node;
                }
            }
            assert!(started.elapsed() < PATIENCE, "nobody leads");
            pause().await;
        }
    }

    /// Waits until an eventual read at this node gives what is wanted.
    pub async fn until_node_has(&self, node: u64, name: &str, n: i64) {
        let get = Get {
            key: key(name),
            strong: false,
            projection: None,
        };
        self.until(&format!("node {node} has {name} = {n}"), || async {
            let reply = self.ask(node, GROUP, ItemOperation::Get(get.clone())).await;
            match reply {
                Ok(ItemReply::Item {
                    item: Some(item), ..
                }) => decode_item(&item).expect("an item") == item_of(name, n),
                _ => false,
            }
        })
        .await;
    }

    /// Waits until something holds.
    pub async fn until<F: Future<Output = bool>>(&self, what: &str, holds: impl Fn() -> F) {
        let started = Instant::now();
        while !holds().await {
            assert!(started.elapsed() < PATIENCE, "never: {what}");
            pause().await;
        }
    }
}

/// Whether it may be asked again whatever became of it.
fn is_read(operation: &ItemOperation) -> bool {
    matches!(operation, ItemOperation::Get(_) | ItemOperation::Page(_))
}

async fn watch(client: &Mesh, seen: &Arc<Seen>) -> Vec<Subscription> {
    let pushes = seen.clone();
    let on_push = move |delivery: mesh::Delivery| {
        let push: Push = delivery.decode().expect("a push");
        let mut partitions = pushes.partitions.lock();
        for info in push.partitions {
            let newer = partitions
                .get(&info.partition)
                .is_none_or(|old| !old.newer_than(&info));
            if newer {
                partitions.insert(info.partition, info);
            }
        }
        for table in push.tables {
            let mut tables = pushes.tables.lock();
            if tables
                .get(&table.id)
                .is_none_or(|old| old.version <= table.version)
            {
                tables.insert(table.id, table);
            }
        }
        pushes.dropped.lock().extend(push.dropped);
    };
    let beats = seen.clone();
    let on_heartbeat = move |delivery: mesh::Delivery| {
        let heartbeat: Heartbeat = delivery.decode().expect("a heartbeat");
        beats
            .heartbeats
            .lock()
            .insert(heartbeat.instance, heartbeat);
    };
    vec![
        client
            .serve(subjects::MEMDS_PUSH, None, on_push)
            .await
            .expect("serves"),
        client
            .serve(subjects::HEALTH, None, on_heartbeat)
            .await
            .expect("serves"),
    ]
}

/// Between two looks at something that will come; not a substitute for looking.
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

pub fn table() -> TableDefinition {
    TableDefinition {
        id: TableId(20),
        name: "things".to_owned(),
        version: 1,
        keys: KeySchema {
            partition: KeyAttribute {
                name: "pk".to_owned(),
                kind: ScalarType::S,
            },
            sort: Some(KeyAttribute {
                name: "sk".to_owned(),
                kind: ScalarType::S,
            }),
        },
        billing: BillingMode::PayPerRequest,
        status: TableStatus::Active,
        created_ms: 0,
        uuid: "table-20".to_owned(),
        deletion_protection: false,
        table_class: None,
        tags: BTreeMap::new(),
        throughput_changes: Default::default(),
        on_demand_max: Default::default(),
        ..Default::default()
    }
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

pub fn number(value: i64) -> AttributeValue {
    AttributeValue::N(Number::parse(&value.to_string()).expect("a number"))
}

pub fn key_item(name: &str) -> Item {
    [
        ("pk".to_owned(), text("all")),
        ("sk".to_owned(), text(name)),
    ]
    .into()
}

pub fn item_of(name: &str, n: i64) -> Item {
    let mut item = key_item(name);
    item.insert("n".to_owned(), number(n));
    item
}

pub fn key(name: &str) -> Bytes {
    model::key::key_from_item(&table(), &key_item(name)).expect("a key")
}

pub fn collection() -> KeyRange {
    model::key::table_range(TableId(20))
}

pub fn write(name: &str, action: WriteAction) -> Write {
    Write {
        key: key(name),
        action,
        condition: None,
        return_values: ReturnValues::None,
        return_on_failure: false,
    }
}

pub fn put(name: &str, n: i64) -> Write {
    write(name, WriteAction::Put(encode_item(&item_of(name, n))))
}

pub fn page() -> Page {
    Page {
        range: collection(),
        after: None,
        reverse: false,
        strong: true,
        limit: None,
        bytes_max: 1 << 20,
        filter: None,
        projection: None,
        count_only: false,
        believed: None,
        name_last: false,
        ..Page::default()
    }
}

pub fn condition(text: &str) -> expression::Condition {
    let mut placeholders = expression::Placeholders::new(None, None);
    expression::parse_condition(
        expression::ConditionKind::Condition,
        text,
        &mut placeholders,
    )
    .expect("a condition")
}

pub fn count_up() -> expression::Update {
    let values = [(":one".to_owned(), number(1))].into();
    let mut placeholders = expression::Placeholders::new(None, Some(values));
    expression::parse_update("ADD n :one", &mut placeholders).expect("an update")
}
