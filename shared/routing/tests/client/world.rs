//! Memds and storage nodes that do what a test says, on the in-process bus, and the calls that tests make.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mesh::{Deadline, Identity, LocalBus, Mesh, Subscription, TraceContext};
use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType, TableStatus};
use model::{ErrorKind, KeyRange, TableDefinition, TableId};
use parking_lot::Mutex;
use paxos::{Ballot, GroupId, Member, NodeId, Role};
use protocol::directory::{
    LookupAnswer, LookupReply, LookupRequest, PartitionInfo, PlacedMember, TableRef,
};
use protocol::health::Heartbeat;
use protocol::item::{
    Get, ItemCall, ItemFault, ItemOperation, ItemReply, ReturnValues, Write, WriteAction,
};
use protocol::subjects;
use routing::{Client, ClientSettings};

pub fn identity(service: &str, instance: u64) -> Identity {
    Identity {
        service: service.into(),
        instance,
        incarnation: 1,
    }
}

pub fn music() -> TableDefinition {
    TableDefinition {
        id: TableId(20),
        name: "music".into(),
        version: 1,
        keys: KeySchema {
            partition: KeyAttribute {
                name: "pk".into(),
                kind: ScalarType::S,
            },
            sort: None,
        },
        billing: BillingMode::PayPerRequest,
        status: TableStatus::Active,
        created_ms: 0,
        uuid: String::new(),
        deletion_protection: false,
        table_class: None,
        tags: Default::default(),
        throughput_changes: Default::default(),
        on_demand_max: Default::default(),
        ..Default::default()
    }
}

pub fn partition(id: u64, start: &str, end: &str, leader: u64, round: u64) -> PartitionInfo {
    let member = |node| PlacedMember {
        member: Member {
            node: NodeId(node),
            role: Role::Storage,
            incarnation: 1,
        },
        zone: format!("az{node}"),
    };
    PartitionInfo {
        partition: GroupId(id),
        table: TableId(20),
        range: KeyRange {
            start: Bytes::copy_from_slice(start.as_bytes()),
            end: Bytes::copy_from_slice(end.as_bytes()),
        },
        generation: 1,
        ballot: Ballot {
            round,
            node: NodeId(leader),
        },
        leader: Some(NodeId(leader)),
        members: (1..=3).map(member).collect(),
        learners: Vec::new(),
        progress: Vec::new(),
        changing: false,
        table_version: 1,
        items: 0,
        bytes: 0,
        ..PartitionInfo::default()
    }
}

/// A memds node: what it knows, and how many lookups and messages it got.
#[derive(Default)]
pub struct Memds {
    pub table: Mutex<Option<TableDefinition>>,
    pub partitions: Mutex<Vec<PartitionInfo>>,
    pub lookups: AtomicU64,
    pub messages: AtomicU64,
}

impl Memds {
    fn answer(&self, request: &LookupRequest) -> LookupReply {
        self.messages.fetch_add(1, Ordering::SeqCst);
        self.lookups
            .fetch_add(request.lookups.len() as u64, Ordering::SeqCst);
        let table = self.table.lock().clone();
        let partitions = self.partitions.lock().clone();
        let answers = request.lookups.iter().map(|lookup| {
            let known = table.as_ref().filter(|table| match &lookup.table {
                TableRef::Name(name) => table.name == *name,
                TableRef::Id(id) => table.id == *id,
            });
            let Some(table) = known else {
                return LookupAnswer::NoTable;
            };
            let found = lookup.key.as_ref().and_then(|key| {
                let hit = partitions.iter().find(|p| p.range.contains(key))?;
                let newer = lookup
                    .known_partition
                    .is_none_or(|k| (hit.generation, hit.ballot) > k);
                newer.then(|| Box::new(hit.clone()))
            });
            let table =
                (table.version > lookup.known_table_version).then(|| Box::new(table.clone()));
            match (table, found) {
                (None, None) if lookup.known_partition.is_some() || lookup.key.is_none() => {
                    LookupAnswer::Unchanged
                }
                (table, partition) => LookupAnswer::Found { table, partition },
            }
        });
        LookupReply {
            answers: answers.collect(),
        }
    }
}

/// What a storage node does with a call; none: it never answers.
pub type Behaviour = Box<dyn Fn(u64, &ItemCall) -> Option<ItemReply> + Send + Sync>;

pub struct World {
    pub bus: LocalBus,
    pub memds: BTreeMap<u64, Arc<Memds>>,
    pub calls: Arc<Mutex<Vec<(u64, GroupId)>>>,
    _served: Vec<Subscription>,
}

impl World {
    /// Nodes 1 to `nodes` behave as told; node numbers missing from it do not serve.
    pub async fn new(memds: u64, nodes: &[u64], behaviour: Behaviour) -> World {
        let bus = LocalBus::new();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let behaviour = Arc::new(behaviour);
        let mut served = Vec::new();
        let mut fleet = BTreeMap::new();
        for instance in 1..=memds {
            let state = Arc::new(Memds::default());
            *state.table.lock() = Some(music());
            *state.partitions.lock() = vec![partition(7, "a", "", 1, 1)];
            let mesh = Mesh::local(&bus, identity("memds", instance));
            let answering = state.clone();
            let subject = subjects::memds_lookup(instance);
            let serving = mesh.serve(&subject, None, move |delivery| {
                let request = delivery.decode::<LookupRequest>().unwrap();
                let reply = answering.answer(&request);
                delivery.reply(&reply);
            });
            served.push(serving.await.unwrap());
            fleet.insert(instance, state);
        }
        for &node in nodes {
            let mesh = Mesh::local(&bus, identity("storage", node));
            let (behaviour, calls) = (behaviour.clone(), calls.clone());
            let subject = subjects::node_item(NodeId(node));
            let serving = mesh.serve(&subject, None, move |delivery| {
                let call = delivery.decode::<ItemCall>().unwrap();
                calls.lock().push((node, call.partition));
                if let Some(reply) = behaviour(node, &call) {
                    delivery.reply(&reply);
                }
            });
            served.push(serving.await.unwrap());
        }
        World {
            bus,
            memds: fleet,
            calls,
            _served: served,
        }
    }

    pub async fn client(&self, change: impl Fn(&mut ClientSettings)) -> Client {
        let mut settings = ClientSettings::new("az2");
        // Of who does not answer; who does must not be taken for one, however busy the machine is.
        settings.read_try = Duration::from_millis(500);
        change(&mut settings);
        let mesh = Mesh::local(&self.bus, identity("router", 1));
        let client = Client::start(mesh, settings).await.unwrap();
        for &instance in self.memds.keys() {
            self.beat(instance);
        }
        client
    }

    pub fn beat(&self, instance: u64) {
        let beat = Heartbeat {
            service: "memds".into(),
            instance,
            zone: "az1".into(),
            incarnation: 1,
            http: String::new(),
            ready: true,
            draining: false,
            version: String::new(),
            ..Heartbeat::default()
        };
        Mesh::local(&self.bus, identity("memds", instance))
            .cast(subjects::HEALTH, &beat)
            .unwrap();
    }

    /// A storage node in a zone of its own says that it is there.
    pub fn storage_beat(&self, node: u64, draining: bool) {
        let beat = Heartbeat {
            service: "storage".into(),
            instance: node,
            zone: format!("az{node}"),
            incarnation: 1,
            http: String::new(),
            ready: !draining,
            draining,
            version: String::new(),
            ..Heartbeat::default()
        };
        Mesh::local(&self.bus, identity("storage", node))
            .cast(subjects::HEALTH, &beat)
            .unwrap();
    }

    pub fn called(&self) -> Vec<u64> {
        self.calls.lock().iter().map(|(node, _)| *node).collect()
    }

    pub fn lookups(&self) -> u64 {
        self.memds
            .values()
            .map(|m| m.lookups.load(Ordering::SeqCst))
            .sum()
    }
}

pub fn get(strong: bool) -> ItemOperation {
    ItemOperation::Get(Get {
        key: Bytes::from_static(b"k"),
        strong,
        projection: None,
    })
}

pub fn put() -> ItemOperation {
    ItemOperation::Write(Box::new(Write {
        key: Bytes::from_static(b"k"),
        action: WriteAction::Put(Bytes::from_static(b"item")),
        condition: None,
        return_values: ReturnValues::None,
        return_on_failure: false,
    }))
}

pub fn item() -> ItemReply {
    ItemReply::Item {
        item: None,
        size_bytes: 0,
    }
}

pub fn written() -> ItemReply {
    ItemReply::Written {
        attributes: None,
        old_size_bytes: 0,
        new_size_bytes: 4,
        indexes: Vec::new(),
        collection_bytes: None,
    }
}

pub fn not_here(hint: Option<PartitionInfo>) -> Option<ItemReply> {
    Some(ItemReply::Fault(ItemFault::NotHere {
        partition: hint.map(Box::new),
    }))
}

pub async fn call(
    client: &Client,
    operation: ItemOperation,
    ms: u64,
) -> Result<ItemReply, ErrorKind> {
    let key = Bytes::from_static(b"k");
    let deadline = Deadline::after(Duration::from_millis(ms));
    let trace = TraceContext::default();
    client
        .item(&music(), &key, operation, deadline, &trace)
        .await
        .map_err(|error| error.kind)
}

pub async fn table(client: &Client, name: &str, ms: u64) -> Result<TableId, ErrorKind> {
    let deadline = Deadline::after(Duration::from_millis(ms));
    let found = client.table(name, deadline, &TraceContext::default()).await;
    found.map(|table| table.id).map_err(|error| error.kind)
}
