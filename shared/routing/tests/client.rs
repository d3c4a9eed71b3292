//! The client against memds and storage nodes that do what a test says, on the in-process bus.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mesh::{Deadline, Identity, LocalBus, Mesh, Subscription, TraceContext};
use model::capacity::Direction;
use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType, TableStatus};
use model::{ErrorKind, KeyRange, TableDefinition, TableId};
use parking_lot::Mutex;
use paxos::{Ballot, GroupId, Member, NodeId, Role};
use protocol::directory::{
    LookupAnswer, LookupReply, LookupRequest, PartitionInfo, PlacedMember, TableRef,
};
use protocol::health::Heartbeat;
use protocol::item::{
    Get, ItemCall, ItemFault, ItemOperation, ItemReply, Page, PageReply, ReturnValues, Write,
    WriteAction,
};
use protocol::subjects;
use routing::{Client, ClientSettings};

fn identity(service: &str, instance: u64) -> Identity {
    Identity {
        service: service.into(),
        instance,
        incarnation: 1,
    }
}

fn music() -> TableDefinition {
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
        warm: Default::default(),
    }
}

fn partition(id: u64, start: &str, end: &str, leader: u64, round: u64) -> PartitionInfo {
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
struct Memds {
    table: Mutex<Option<TableDefinition>>,
    partitions: Mutex<Vec<PartitionInfo>>,
    lookups: AtomicU64,
    messages: AtomicU64,
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
type Behaviour = Box<dyn Fn(u64, &ItemCall) -> Option<ItemReply> + Send + Sync>;

struct World {
    bus: LocalBus,
    memds: BTreeMap<u64, Arc<Memds>>,
    calls: Arc<Mutex<Vec<(u64, GroupId)>>>,
    _served: Vec<Subscription>,
}

impl World {
    /// Nodes 1 to `nodes` behave as told; node numbers missing from it do not serve.
    async fn new(memds: u64, nodes: &[u64], behaviour: Behaviour) -> World {
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

    async fn client(&self, change: impl Fn(&mut ClientSettings)) -> Client {
        let mut settings = ClientSettings::new("az2");
        settings.read_try = Duration::from_millis(50);
        change(&mut settings);
        let mesh = Mesh::local(&self.bus, identity("router", 1));
        let client = Client::start(mesh, settings).await.unwrap();
        for &instance in self.memds.keys() {
            self.beat(instance);
        }
        client
    }

    fn beat(&self, instance: u64) {
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
    fn storage_beat(&self, node: u64, draining: bool) {
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

    fn called(&self) -> Vec<u64> {
        self.calls.lock().iter().map(|(node, _)| *node).collect()
    }

    fn lookups(&self) -> u64 {
        self.memds
            .values()
            .map(|m| m.lookups.load(Ordering::SeqCst))
            .sum()
    }
}

fn get(strong: bool) -> ItemOperation {
    ItemOperation::Get(Get {
        key: Bytes::from_static(b"k"),
        strong,
        projection: None,
    })
}

fn put() -> ItemOperation {
    ItemOperation::Write(Box::new(Write {
        key: Bytes::from_static(b"k"),
        action: WriteAction::Put(Bytes::from_static(b"item")),
        condition: None,
        return_values: ReturnValues::None,
        return_on_failure: false,
    }))
}

fn item() -> ItemReply {
    ItemReply::Item {
        item: None,
        size_bytes: 0,
    }
}

fn written() -> ItemReply {
    ItemReply::Written {
        attributes: None,
        old_size_bytes: 0,
        new_size_bytes: 4,
    }
}

fn not_here(hint: Option<PartitionInfo>) -> Option<ItemReply> {
    Some(ItemReply::Fault(ItemFault::NotHere {
        partition: hint.map(Box::new),
    }))
}

async fn call(client: &Client, operation: ItemOperation, ms: u64) -> Result<ItemReply, ErrorKind> {
    let key = Bytes::from_static(b"k");
    let deadline = Deadline::after(Duration::from_millis(ms));
    let trace = TraceContext::default();
    client
        .item(&music(), &key, operation, deadline, &trace)
        .await
        .map_err(|error| error.kind)
}

async fn table(client: &Client, name: &str, ms: u64) -> Result<TableId, ErrorKind> {
    let deadline = Deadline::after(Duration::from_millis(ms));
    let found = client.table(name, deadline, &TraceContext::default()).await;
    found.map(|table| table.id).map_err(|error| error.kind)
}

#[tokio::test]
async fn every_request_sends_its_lookup_and_they_share_messages() {
    let world = World::new(1, &[1], Box::new(|_, _| Some(item()))).await;
    let client = world.client(|_| {}).await;
    assert_eq!(table(&client, "music", 1_000).await, Ok(TableId(20)));
    assert!(call(&client, get(true), 1_000).await.is_ok());
    let before = world.lookups();
    for _ in 0..500 {
        assert!(call(&client, get(true), 1_000).await.is_ok());
    }
    // The last ones may still gather.
    while world.lookups() < before + 500 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.lookups(), before + 500);
    assert_eq!(client.stats().lookups, world.lookups());
    assert_eq!(client.stats().lookups_dropped, 0);
    let messages = world.memds[&1].messages.load(Ordering::SeqCst);
    assert!(messages < 400, "{messages} messages for 500 lookups");
}

/// What a customer does, or what befalls the caches.
#[derive(Clone, Debug)]
enum Happening {
    /// So many requests at once, each for the table and one of its two partitions.
    Requests(usize),
    /// All caches are lost.
    Flush,
}

fn happening() -> impl proptest::strategy::Strategy<Value = Happening> {
    use proptest::prelude::*;
    prop_oneof![
        3 => (1_usize..60).prop_map(Happening::Requests),
        2 => Just(Happening::Flush),
    ]
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Constant work: whatever the hit rate, each request sends its lookup of the table and its lookup of the partition; none is skipped. Beyond
    /// that there is, each time the caches are lost, at most one lookup for the table and one for each partition: the second node that
    /// the first miss asks.
    #[test]
    fn lookups_follow_requests_whatever_the_hit_rate(
        happenings in proptest::collection::vec(happening(), 1..12)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new(2, &[1], Box::new(|_, _| Some(item()))).await;
            for memds in world.memds.values() {
                *memds.partitions.lock() = vec![partition(7, "a", "m", 1, 1), partition(8, "m", "", 1, 1)];
            }
            let client = world.client(|_| {}).await;
            let (mut requests, mut flushes) = (0, 1);
            for happening in happenings {
                match happening {
                    Happening::Flush => {
                        client.forget_all();
                        flushes += 1;
                    }
                    Happening::Requests(count) => {
                        requests += count as u64;
                        let each = (0..count).map(async |number| {
                            assert_eq!(table(&client, "music", 5_000).await, Ok(TableId(20)));
                            let key = if number % 2 == 0 { "k" } else { "z" };
                            let deadline = Deadline::after(Duration::from_secs(5));
                            let trace = TraceContext::default();
                            let key = Bytes::from_static(key.as_bytes());
                            client.item(&music(), &key, get(true), deadline, &trace).await.unwrap();
                        });
                        futures::future::join_all(each).await;
                    }
                }
            }
            // The last ones may still gather; what is queued is sent.
            while client.stats().lookups < 2 * requests || world.lookups() < client.stats().lookups {
                tokio::task::yield_now().await;
            }
            let lookups = client.stats().lookups;
            assert_eq!(client.stats().lookups_dropped, 0);
            assert!(lookups <= 2 * requests + flushes * 3, "{lookups} lookups for {requests} requests, {flushes} times without caches");
        });
    }
}

#[tokio::test]
async fn a_follower_takes_what_the_leader_learned() {
    // One of the two nodes never answers: whoever asked only that one would wait for its time-out.
    let world = World::new(1, &[1], Box::new(|_, _| Some(item()))).await;
    let client = world.client(|_| {}).await;
    world.beat(2);
    for _ in 0..10 {
        client.forget_all();
        world.beat(2);
        let all = futures::future::join_all((0..20).map(|_| table(&client, "music", 2_000))).await;
        assert!(all.iter().all(|found| *found == Ok(TableId(20))), "{all:?}");
    }
}

#[tokio::test]
async fn a_miss_asks_two_memds_nodes_and_the_first_positive_answer_counts() {
    let world = World::new(2, &[1], Box::new(|_, _| Some(item()))).await;
    *world.memds[&1].table.lock() = None;
    let client = world.client(|_| {}).await;
    assert_eq!(table(&client, "music", 1_000).await, Ok(TableId(20)));
    assert_eq!(world.lookups(), 2);
    let system = table(&client, "evenkeel.system", 1_000).await;
    assert_eq!(system, Err(ErrorKind::ResourceNotFound));
    assert_eq!(world.lookups(), 2, "not even asked for");
    assert_eq!(
        table(&client, "films", 1_000).await,
        Err(ErrorKind::ResourceNotFound)
    );
}

#[tokio::test]
async fn the_only_memds_nodes_word_counts_but_one_of_two_does_not() {
    let world = World::new(1, &[], Box::new(|_, _| None)).await;
    let client = world.client(|_| {}).await;
    assert_eq!(
        table(&client, "films", 1_000).await,
        Err(ErrorKind::ResourceNotFound)
    );
    // A second node that is alive but cannot be reached: nobody can say that there is no such table, until it is known
    // not to answer.
    let world = World::new(2, &[], Box::new(|_, _| None)).await;
    let client = world.client(|_| {}).await;
    world.beat(9);
    for _ in 0..20 {
        assert_eq!(
            table(&client, "films", 1_000).await,
            Err(ErrorKind::ResourceNotFound)
        );
    }
}

#[tokio::test]
async fn without_memds_only_the_cache_serves() {
    let world = World::new(0, &[1], Box::new(|_, _| Some(item()))).await;
    let client = world.client(|_| {}).await;
    assert!(!client.has_directory());
    assert_eq!(
        table(&client, "music", 100).await,
        Err(ErrorKind::ServiceUnavailable)
    );
    client.learn_partition(partition(7, "a", "", 1, 1));
    assert!(call(&client, get(true), 1_000).await.is_ok());
}

#[tokio::test]
async fn a_write_follows_the_hint_to_the_new_leader() {
    let new = || partition(7, "a", "", 3, 2);
    let world = World::new(
        1,
        &[1, 2, 3],
        Box::new(move |node, _| {
            if node == 3 {
                Some(written())
            } else {
                not_here(Some(new()))
            }
        }),
    )
    .await;
    let client = world.client(|_| {}).await;
    assert!(matches!(
        call(&client, put(), 1_000).await,
        Ok(ItemReply::Written { .. })
    ));
    assert_eq!(world.called(), [1, 3]);
    assert!(call(&client, put(), 1_000).await.is_ok());
    assert_eq!(world.called(), [1, 3, 3], "the hint was kept");
}

#[tokio::test]
async fn a_dead_leader_is_waited_out() {
    // Node 1 serves nothing; nodes 2 and 3 know no new leader for a while.
    let refusals = AtomicU64::new(0);
    let world = World::new(
        1,
        &[2, 3],
        Box::new(move |node, _| {
            if node == 2 && refusals.fetch_add(1, Ordering::SeqCst) >= 4 {
                return Some(written());
            }
            not_here(None)
        }),
    )
    .await;
    let client = world.client(|_| {}).await;
    assert!(matches!(
        call(&client, put(), 5_000).await,
        Ok(ItemReply::Written { .. })
    ));
}

#[tokio::test]
async fn a_write_without_an_answer_is_unknown_and_sent_once() {
    let world = World::new(1, &[1, 2, 3], Box::new(|_, _| None)).await;
    let client = world.client(|_| {}).await;
    assert!(matches!(
        call(&client, put(), 200).await,
        Err(ErrorKind::InternalServerError)
    ));
    assert_eq!(world.called(), [1]);
}

#[tokio::test]
async fn an_unknown_outcome_is_never_retried() {
    let unknown = |_, _: &ItemCall| Some(ItemReply::Fault(ItemFault::Unknown));
    let world = World::new(1, &[1, 2, 3], Box::new(unknown)).await;
    let client = world.client(|_| {}).await;
    assert!(matches!(
        call(&client, put(), 1_000).await,
        Err(ErrorKind::InternalServerError)
    ));
    assert_eq!(world.called(), [1]);
}

#[tokio::test]
async fn what_was_never_executed_ends_as_unavailable() {
    let world = World::new(1, &[], Box::new(|_, _| None)).await;
    let client = world.client(|_| {}).await;
    assert!(matches!(
        call(&client, put(), 150).await,
        Err(ErrorKind::ServiceUnavailable)
    ));
}

#[tokio::test]
async fn eventual_reads_stay_in_the_zone_and_leave_it_when_nobody_answers() {
    let world = World::new(1, &[1, 2, 3], Box::new(|node, _| (node != 2).then(item))).await;
    let client = world.client(|_| {}).await;
    assert!(call(&client, get(false), 1_000).await.is_ok());
    assert_eq!(
        world.called(),
        [2, 1],
        "own zone first; no answer: the leader"
    );
    assert!(call(&client, get(true), 1_000).await.is_ok());
    assert_eq!(world.called(), [2, 1, 1], "strong reads go to the leader");
}

#[tokio::test]
async fn final_faults_come_back_at_once() {
    let failed = |_, _: &ItemCall| {
        Some(ItemReply::Fault(ItemFault::ConditionFailed {
            item: None,
            size_bytes: 0,
        }))
    };
    let world = World::new(1, &[1], Box::new(failed)).await;
    let client = world.client(|_| {}).await;
    let reply = call(&client, put(), 1_000).await;
    assert!(matches!(
        reply,
        Ok(ItemReply::Fault(ItemFault::ConditionFailed { .. }))
    ));
    let shed = |_, _: &ItemCall| Some(ItemReply::Fault(ItemFault::Overloaded));
    let world = World::new(1, &[1, 2, 3], Box::new(shed)).await;
    let client = world.client(|_| {}).await;
    assert!(matches!(
        call(&client, put(), 1_000).await,
        Err(ErrorKind::Throttling)
    ));
    assert_eq!(world.called(), [1]);
}

#[tokio::test]
async fn calls_in_flight_are_bounded() {
    let world = World::new(1, &[1], Box::new(|_, _| None)).await;
    let client = world
        .client(|settings| settings.calls_in_flight_max = 2)
        .await;
    let slow = || {
        tokio::spawn({
            let client = client.clone();
            async move { call(&client, put(), 300).await.map(|_| ()) }
        })
    };
    let (first, second) = (slow(), slow());
    while client.stats().calls_in_flight < 2 {
        tokio::task::yield_now().await;
    }
    assert!(matches!(
        call(&client, put(), 300).await,
        Err(ErrorKind::Throttling)
    ));
    assert_eq!(first.await.unwrap(), Err(ErrorKind::InternalServerError));
    assert_eq!(second.await.unwrap(), Err(ErrorKind::InternalServerError));
    assert_eq!(client.stats().calls_in_flight, 0);
}

#[tokio::test]
async fn a_dropped_table_is_noticed() {
    let world = World::new(2, &[1, 2, 3], Box::new(|_, _| not_here(None))).await;
    let client = world.client(|_| {}).await;
    assert_eq!(table(&client, "music", 1_000).await, Ok(TableId(20)));
    for memds in world.memds.values() {
        *memds.table.lock() = None;
    }
    assert!(matches!(
        call(&client, get(true), 2_000).await,
        Err(ErrorKind::ResourceNotFound)
    ));
    assert_eq!(
        table(&client, "music", 1_000).await,
        Err(ErrorKind::ResourceNotFound)
    );
}

/// Three partitions with the keys a to i; a page as a storage node gives it.
fn page_of(call: &ItemCall) -> ItemReply {
    let ItemOperation::Page(page) = &call.operation else {
        panic!("{call:?}")
    };
    let mut keys: Vec<&str> = vec!["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    keys.retain(|key| page.range.contains(key.as_bytes()));
    if page.reverse {
        keys.reverse();
    }
    let mut reply = PageReply::default();
    for key in keys {
        let behind = match &page.after {
            Some(after) if page.reverse => key.as_bytes() < &after[..],
            Some(after) => key.as_bytes() > &after[..],
            None => true,
        };
        if !behind {
            continue;
        }
        let key = Bytes::copy_from_slice(key.as_bytes());
        reply.items.push(key.clone());
        reply.count += 1;
        reply.scanned_count += 1;
        reply.bytes_read += 10;
        if page
            .limit
            .is_some_and(|limit| reply.scanned_count >= u64::from(limit))
            || reply.bytes_read >= page.bytes_max
        {
            reply.last_key = Some(key.clone());
            reply.last_key_item = Some(key);
            break;
        }
    }
    if page.name_last && reply.last_key.is_none() {
        reply.end_key = reply.items.last().cloned();
        reply.end_key_item = reply.end_key.clone();
    }
    ItemReply::Page(reply)
}

async fn pages(client: &Client, reverse: bool, limit: Option<u32>, bytes_max: u64) -> Vec<String> {
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = Page {
            range: KeyRange {
                start: Bytes::from_static(b"b"),
                end: Bytes::from_static(b"i"),
            },
            after: after.clone(),
            reverse,
            strong: true,
            limit,
            bytes_max,
            filter: None,
            projection: None,
            count_only: false,
            believed: None,
            name_last: false,
        };
        let deadline = Deadline::after(Duration::from_secs(2));
        let reply = client
            .page(&music(), page, deadline, &TraceContext::default())
            .await
            .unwrap();
        assert_eq!(reply.count, reply.items.len() as u64);
        let text: Vec<u8> = reply.items.concat();
        pages.push(String::from_utf8(text).unwrap());
        after = reply.last_key;
        if after.is_none() {
            return pages;
        }
    }
}

#[tokio::test]
async fn pages_run_over_partitions_in_both_directions() {
    let world = World::new(1, &[1, 2, 3], Box::new(|_, call| Some(page_of(call)))).await;
    *world.memds[&1].partitions.lock() = vec![
        partition(7, "a", "d", 1, 1),
        partition(8, "d", "g", 2, 1),
        partition(9, "g", "", 3, 1),
    ];
    let client = world.client(|_| {}).await;
    assert_eq!(pages(&client, false, None, 1_000).await, ["bcdefgh"]);
    assert_eq!(pages(&client, true, None, 1_000).await, ["hgfedcb"]);
    assert_eq!(
        pages(&client, false, Some(3), 1_000).await,
        ["bcd", "efg", "h"]
    );
    assert_eq!(
        pages(&client, true, Some(3), 1_000).await,
        ["hgf", "edc", "b"]
    );
    assert_eq!(
        pages(&client, false, Some(2), 1_000).await,
        ["bc", "de", "fg", "h"]
    );
    assert_eq!(
        pages(&client, true, Some(1), 1_000).await,
        ["h", "g", "f", "e", "d", "c", "b", ""]
    );
    assert_eq!(pages(&client, false, None, 40).await, ["bcde", "fgh"]);
    assert_eq!(
        pages(&client, true, None, 15).await,
        ["hg", "fe", "dc", "b"]
    );
    let deadline = Deadline::after(Duration::from_secs(1));
    let range = KeyRange {
        start: Bytes::from_static(b"b"),
        end: Bytes::from_static(b"e"),
    };
    let covering = client
        .partitions(&music(), &range, deadline, &TraceContext::default())
        .await;
    let covering: Vec<u64> = covering.unwrap().iter().map(|p| p.partition.0).collect();
    assert_eq!(covering, [7, 8]);
}

#[tokio::test]
async fn a_page_ends_before_a_throttled_partition() {
    let throttled = Arc::new(Mutex::new(8));
    let world = World::new(
        1,
        &[1, 2, 3],
        Box::new({
            let throttled = throttled.clone();
            move |_, call| {
                let fault = ItemFault::Throttled {
                    direction: Direction::Read,
                };
                Some(match call.partition.0 == *throttled.lock() {
                    true => ItemReply::Fault(fault),
                    false => page_of(call),
                })
            }
        }),
    )
    .await;
    *world.memds[&1].partitions.lock() = vec![
        partition(7, "a", "d", 1, 1),
        partition(8, "d", "g", 2, 1),
        partition(9, "g", "", 3, 1),
    ];
    let client = world.client(|_| {}).await;
    let read = async |start: &'static str, after: Option<Bytes>, reverse| {
        let page = Page {
            range: KeyRange {
                start: Bytes::from_static(start.as_bytes()),
                end: Bytes::from_static(b"i"),
            },
            after,
            reverse,
            strong: true,
            limit: None,
            bytes_max: 1_000,
            filter: None,
            projection: None,
            count_only: false,
            believed: None,
            name_last: false,
        };
        let deadline = Deadline::after(Duration::from_secs(2));
        client
            .page(&music(), page, deadline, &TraceContext::default())
            .await
    };
    let forwards = read("b", None, false).await.unwrap();
    assert_eq!(forwards.items, ["b", "c"]);
    assert_eq!(forwards.last_key, Some(Bytes::from_static(b"c")));
    assert_eq!(forwards.last_key_item, forwards.last_key);
    let backwards = read("b", None, true).await.unwrap();
    assert_eq!(backwards.items, ["h", "g"]);
    assert_eq!(backwards.last_key, Some(Bytes::from_static(b"g")));

    // Nothing was read before: the error, which says what to do.
    let error = read("d", None, false).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Throttling);
    assert_eq!(
        error.throttling_reasons[0].reason,
        "TableReadKeyRangeThroughputExceeded"
    );
    assert!(
        error.throttling_reasons[0]
            .resource
            .ends_with("table/music")
    );
    let again = read("b", forwards.last_key, false).await.unwrap_err();
    assert!(again.is_throttling());

    // The last partition of all is throttled: what there is ends before it.
    *throttled.lock() = 9;
    let rest = read("b", None, false).await.unwrap();
    assert_eq!(rest.items, ["b", "c", "d", "e", "f"]);
    *throttled.lock() = 0;
    let last = read("b", rest.last_key, false).await.unwrap();
    assert_eq!(
        (last.items, last.last_key),
        (vec!["g".into(), "h".into()], None)
    );
}

#[tokio::test]
async fn a_throttled_request_is_not_tried_elsewhere() {
    let fault = |_, _: &ItemCall| {
        Some(ItemReply::Fault(ItemFault::Throttled {
            direction: Direction::Write,
        }))
    };
    let world = World::new(1, &[1, 2, 3], Box::new(fault)).await;
    let client = world.client(|_| {}).await;
    assert!(matches!(
        call(&client, put(), 1_000).await,
        Err(ErrorKind::Throttling)
    ));
    assert_eq!(world.called(), [1]);
}

#[tokio::test]
async fn known_everywhere_means_every_memds_node() {
    let world = World::new(2, &[], Box::new(|_, _| None)).await;
    let client = world.client(|_| {}).await;
    let ranges = [KeyRange {
        start: Bytes::from_static(b"a"),
        end: Bytes::new(),
    }];
    assert!(client.known_everywhere(&music(), &ranges).await);
    world.memds[&2].partitions.lock()[0].leader = None;
    assert!(!client.known_everywhere(&music(), &ranges).await);
    *world.memds[&2].table.lock() = None;
    assert!(!client.known_everywhere(&music(), &ranges).await);
}

/// Node 1, which leads, cannot be reached by the client in az2; what node 3 passes on to it is answered so.
async fn cut_off(passed_on: ItemReply) -> (World, Client) {
    let behaviour = move |node, call: &ItemCall| match (node, call.forward_to) {
        (1, None) => None,
        (3, Some(NodeId(1))) => Some(passed_on.clone()),
        _ => not_here(None),
    };
    let world = World::new(1, &[1, 2, 3], Box::new(behaviour)).await;
    let client = world.client(|_| {}).await;
    for node in 1..=3 {
        world.storage_beat(node, false);
    }
    (world, client)
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_called_by_way_of_a_third_zone() {
    let (world, client) = cut_off(item()).await;
    assert!(call(&client, get(true), 2_000).await.is_ok());
    assert_eq!(world.called(), [1, 3]);
    // The next ones need not wait.
    assert!(call(&client, get(true), 2_000).await.is_ok());
    assert!(call(&client, put(), 2_000).await.is_ok());
    assert_eq!(world.called(), [1, 3, 3, 3]);
}

#[tokio::test]
async fn a_write_that_got_no_answer_goes_no_detour() {
    let (world, client) = cut_off(written()).await;
    let outcome = call(&client, put(), 200).await;
    assert_eq!(outcome.err(), Some(ErrorKind::InternalServerError));
    assert_eq!(world.called(), [1]);
    assert!(
        call(&client, put(), 2_000).await.is_ok(),
        "the next one does"
    );
    assert_eq!(world.called(), [1, 3]);
}

#[tokio::test]
async fn an_unknown_outcome_on_a_detour_is_an_error_for_a_write_only() {
    let (world, client) = cut_off(ItemReply::Fault(ItemFault::Unknown)).await;
    assert!(call(&client, put(), 200).await.is_err());
    let outcome = call(&client, put(), 2_000).await;
    assert_eq!(outcome.err(), Some(ErrorKind::InternalServerError));
    assert_eq!(world.called(), [1, 3]);
    let outcome = call(&client, get(true), 300).await;
    assert_eq!(outcome.err(), Some(ErrorKind::ServiceUnavailable));
    assert!(world.called().len() > 4, "tried again and again");
}

#[tokio::test]
async fn eventual_reads_leave_a_node_that_goes_away() {
    let world = World::new(1, &[1, 2, 3], Box::new(|_, _| Some(item()))).await;
    let client = world.client(|_| {}).await;
    for node in 1..=3 {
        world.storage_beat(node, false);
    }
    assert!(call(&client, get(false), 2_000).await.is_ok());
    world.storage_beat(2, true);
    assert!(call(&client, get(false), 2_000).await.is_ok());
    world.storage_beat(2, false);
    assert!(call(&client, get(false), 2_000).await.is_ok());
    assert_eq!(world.called(), [2, 1, 2]);
}
