//! Splits ordered by the control plane over real storage nodes, in one process, under traffic that must not notice.

mod nodes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use admin::{AdminSettings, SplitSettings};
use mesh::{Deadline, TraceContext};
use model::codec::{decode_item, encode_item};
use model::key::{key_from_item, table_range};
use model::{AttributeValue, Item, KeyRange, TableDefinition};
use nodes::{Nodes, join};
use parking_lot::Mutex;
use paxos::GroupId;
use protocol::item::{Get, ItemOperation, ItemReply, Page, ReturnValues, Write, WriteAction};
use protocol::operate::{Answer, Command, PartitionStatus};
use routing::{Client, ClientSettings};
use serde_json::json;

fn settings(splits: SplitSettings) -> AdminSettings {
    AdminSettings {
        found_after_ms: 200,
        lease_ms: 4_000,
        reconcile_every_ms: 200,
        splits: SplitSettings {
            look_every_ms: 50,
            repeat_ms: 500,
            ..splits
        },
        ..AdminSettings::default()
    }
}

/// A table with one partition and a sort key.
async fn make(nodes: &Nodes, name: &str) {
    let table = json!({
        "TableName": name,
        "AttributeDefinitions": [
            {"AttributeName": "artist", "AttributeType": "S"},
            {"AttributeName": "song", "AttributeType": "S"},
        ],
        "KeySchema": [
            {"AttributeName": "artist", "KeyType": "HASH"},
            {"AttributeName": "song", "KeyType": "RANGE"},
        ],
        "ProvisionedThroughput": {"ReadCapacityUnits": 3000, "WriteCapacityUnits": 1000},
    });
    let active = async || {
        nodes.call("CreateTable", table.clone()).await;
        let found = nodes
            .call("DescribeTable", json!({"TableName": name}))
            .await;
        found.is_some_and(|found| found["Table"]["TableStatus"] == "ACTIVE")
    };
    nodes.until("the table is made", active).await;
}

async fn of_table(nodes: &Nodes, name: &str) -> Vec<PartitionStatus> {
    let partitions = nodes.all_partitions().await;
    partitions.into_iter().filter(|p| p.table == name).collect()
}

/// Until the table has these many partitions, all led, and nothing of a split is left.
async fn split_into(nodes: &Nodes, name: &str, count: usize) {
    let done = async || {
        let partitions = of_table(nodes, name).await;
        let calm = |p: &PartitionStatus| p.leader.is_some() && p.children.is_empty();
        partitions.len() == count && partitions.iter().all(calm)
    };
    nodes.until(&format!("{count} partitions"), done).await;
}

/// What clients did and saw.
#[derive(Default)]
struct Seen {
    /// Acknowledged values by encoded key.
    written: Mutex<BTreeMap<Vec<u8>, u64>>,
    errors: Mutex<Vec<String>>,
    scans: AtomicU64,
    stop: AtomicBool,
}

#[derive(Clone)]
struct Traffic {
    client: Client,
    table: Arc<TableDefinition>,
    seen: Arc<Seen>,
}

impl Traffic {
    async fn new(nodes: &Nodes, name: &str, instance: u64) -> Self {
        let mesh = join(&nodes.bus, "router", instance);
        let client = Client::start(mesh, ClientSettings::new("az1"))
            .await
            .unwrap();
        let deadline = Deadline::after(Duration::from_secs(60));
        let trace = TraceContext::default();
        nodes
            .until("a memds is known", async || client.has_directory())
            .await;
        let table = client.table(name, deadline, &trace).await.unwrap();
        Self {
            client,
            table,
            seen: Arc::default(),
        }
    }

    fn deadline(&self) -> Deadline {
        Deadline::after(Duration::from_secs(60))
    }

    fn item(&self, number: u64, value: u64) -> Item {
        let text = |text: String| AttributeValue::S(text);
        Item::from([
            ("artist".to_owned(), text(format!("artist-{}", number % 7))),
            ("song".to_owned(), text(format!("{number:06}"))),
            (
                "value".to_owned(),
                text(format!("{value}-{}", "x".repeat(200))),
            ),
        ])
    }

    async fn put(&self, number: u64, value: u64) {
        let item = self.item(number, value);
        let key = key_from_item(&self.table, &item).unwrap();
        let write = Write {
            key: key.clone(),
            action: WriteAction::Put(encode_item(&item)),
            condition: None,
            return_values: ReturnValues::None,
            return_on_failure: false,
        };
        let operation = ItemOperation::Write(Box::new(write));
        let trace = TraceContext::default();
        let put = self
            .client
            .item(&self.table, &key, operation, self.deadline(), &trace);
        match put.await {
            Ok(ItemReply::Written { .. }) => {
                self.seen.written.lock().insert(key.to_vec(), value);
            }
            other => self
                .seen
                .errors
                .lock()
                .push(format!("put {number}: {other:?}")),
        }
    }

    /// What was acknowledged to this very caller is what a strong read gives.
    async fn get(&self, number: u64, value: u64) {
        let item = self.item(number, value);
        let get = Get {
            key: key_from_item(&self.table, &item).unwrap(),
            strong: true,
            projection: None,
        };
        let (key, trace) = (get.key.clone(), TraceContext::default());
        let operation = ItemOperation::Get(get);
        let got = self
            .client
            .item(&self.table, &key, operation, self.deadline(), &trace);
        match got.await {
            Ok(ItemReply::Item {
                item: Some(found), ..
            }) if decode_item(&found).unwrap() == item => {}
            other => self
                .seen
                .errors
                .lock()
                .push(format!("get {number}: {other:?}")),
        }
    }

    /// All keys, page by page.
    async fn scan(&self, reverse: bool) -> Vec<Vec<u8>> {
        let (mut keys, mut after) = (Vec::new(), None);
        loop {
            let page = Page {
                range: table_range(self.table.id),
                after,
                reverse,
                strong: true,
                limit: Some(9),
                bytes_max: 1 << 20,
                ..Page::default()
            };
            let trace = TraceContext::default();
            let page = self.client.page(&self.table, page, self.deadline(), &trace);
            let reply = match page.await {
                Ok(reply) => reply,
                Err(error) => {
                    self.seen.errors.lock().push(format!("scan: {error}"));
                    return keys;
                }
            };
            for item in &reply.items {
                let item = decode_item(item).unwrap();
                keys.push(key_from_item(&self.table, &item).unwrap().to_vec());
            }
            after = reply.last_key;
            if after.is_none() {
                return keys;
            }
        }
    }

    /// What was there before a scan began is in it, nothing twice, and in order.
    async fn check_scan(&self, reverse: bool) {
        let before: Vec<Vec<u8>> = self.seen.written.lock().keys().cloned().collect();
        let mut keys = self.scan(reverse).await;
        if reverse {
            keys.reverse();
        }
        let mut problems = Vec::new();
        if !keys.is_sorted_by(|a, b| a < b) {
            problems.push("a scan repeats keys, or has them in no order".to_owned());
        }
        let lost = before.iter().filter(|key| keys.binary_search(key).is_err());
        let lost = lost.count();
        if lost > 0 {
            problems.push(format!(
                "a scan passed {lost} of {} keys over",
                before.len()
            ));
        }
        self.seen.errors.lock().extend(problems);
        self.seen.scans.fetch_add(1, Ordering::Relaxed);
    }

    /// Keeps clients busy until `rest`.
    fn start(&self) -> Vec<tokio::task::JoinHandle<()>> {
        let mut tasks = Vec::new();
        for worker in 0..3u64 {
            let traffic = self.clone();
            tasks.push(tokio::spawn(async move {
                let mut round = 0;
                while !traffic.seen.stop.load(Ordering::Relaxed) {
                    let number = worker + 3 * (round % 100);
                    traffic.put(number, round).await;
                    traffic.get(number, round).await;
                    round += 1;
                    // Some hundreds a second: the table's throughput is not what this is about.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }));
        }
        for reverse in [false, true] {
            let traffic = self.clone();
            tasks.push(tokio::spawn(async move {
                while !traffic.seen.stop.load(Ordering::Relaxed) {
                    traffic.check_scan(reverse).await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }));
        }
        tasks
    }

    async fn rest(&self, tasks: Vec<tokio::task::JoinHandle<()>>) {
        self.seen.stop.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.unwrap();
        }
        let errors = self.seen.errors.lock().clone();
        assert!(
            errors.is_empty(),
            "{} errors, e.g. {}",
            errors.len(),
            errors[0]
        );
        assert!(self.seen.scans.load(Ordering::Relaxed) > 0);
    }
}

async fn order_split(nodes: &Nodes, name: &str, partition: GroupId, at: Option<&str>) {
    let command = Command::Split {
        table: name.to_owned(),
        partition,
        at: at.map(str::to_owned),
    };
    let ordered = async || match nodes.operate(command.clone()).await {
        Some(Answer::Done(_)) => true,
        Some(Answer::Refused(why)) => panic!("refused: {why}"),
        _ => false,
    };
    nodes.until("ordered", ordered).await;
}

#[actix::test]
async fn one_partition_becomes_four_under_traffic_and_nobody_notices() {
    let nodes = Nodes::start_calm(3).await;
    let admin = nodes.admin(1, settings(SplitSettings::default())).await;
    make(&nodes, "music").await;
    let traffic = Traffic::new(&nodes, "music", 1).await;
    for number in 0..300 {
        traffic.put(number, 0).await;
    }
    let tasks = traffic.start();
    let first = of_table(&nodes, "music").await;
    assert_eq!(first.len(), 1);
    order_split(&nodes, "music", first[0].partition, None).await;
    split_into(&nodes, "music", 2).await;
    // The admin dies with the next two splits under way; another one goes on with them.
    let halves = of_table(&nodes, "music").await;
    assert!(halves.iter().all(|p| p.parent == Some(first[0].partition)));
    order_split(&nodes, "music", halves[0].partition, None).await;
    let inside = r#"{"artist": {"S": "artist-3"}, "song": {"S": "000150"}}"#;
    let holder = holder(&traffic, inside).await;
    if holder != halves[0].partition {
        order_split(&nodes, "music", holder, Some(inside)).await;
    } else {
        order_split(&nodes, "music", halves[1].partition, None).await;
    }
    admin.stop().await;
    let admin = nodes.admin(2, settings(SplitSettings::default())).await;
    split_into(&nodes, "music", 4).await;
    traffic.rest(tasks).await;
    // A router that was there all along, and one that knows nothing.
    traffic.check_scan(false).await;
    let mut fresh = Traffic::new(&nodes, "music", 2).await;
    fresh.seen = traffic.seen.clone();
    fresh.check_scan(true).await;
    let written = traffic.seen.written.lock().clone();
    assert_eq!(written.len(), 300);
    for number in 0..300 {
        let key = key_from_item(&traffic.table, &traffic.item(number, 0)).unwrap();
        fresh.get(number, written[&key[..]]).await;
    }
    assert_eq!(*traffic.seen.errors.lock(), Vec::<String>::new());
    let counted = async || {
        let table = nodes
            .call("DescribeTable", json!({"TableName": "music"}))
            .await;
        table.is_some_and(|t| t["Table"]["ItemCount"] == 300)
    };
    nodes.until("counted once", counted).await;
    // The parents are gone everywhere: four partitions and the system's own.
    nodes
        .until("dropped", async || nodes.hosted().await == vec![5, 5, 5])
        .await;
    admin.stop().await;
    nodes.stop().await;
}

/// The partition that holds a key.
async fn holder(traffic: &Traffic, key: &str) -> GroupId {
    let model::json::JsonItem(key) = model::json::from_slice(key.as_bytes()).unwrap();
    let key = key_from_item(&traffic.table, &key.unwrap()).unwrap();
    let range = KeyRange {
        end: [&key[..], &[0]].concat().into(),
        start: key,
    };
    let trace = TraceContext::default();
    let found = traffic
        .client
        .partitions(&traffic.table, &range, traffic.deadline(), &trace);
    found.await.unwrap()[0].partition
}

#[actix::test]
async fn a_partition_that_grows_too_large_is_split_and_its_table_can_be_deleted_meanwhile() {
    let nodes = Nodes::start_calm(3).await;
    let splits = SplitSettings {
        split_bytes: 40_000,
        ..SplitSettings::default()
    };
    let admin = nodes.admin(1, settings(splits)).await;
    make(&nodes, "music").await;
    let traffic = Traffic::new(&nodes, "music", 1).await;
    for number in 0..300 {
        traffic.put(number, 0).await;
    }
    // 300 items of about 230 bytes.
    let small = async || {
        let partitions = of_table(&nodes, "music").await;
        let fits = |p: &PartitionStatus| p.bytes <= 40_000 && p.children.is_empty();
        let items: u64 = partitions.iter().map(|p| p.items).sum();
        partitions.len() > 1 && partitions.iter().all(fits) && items == 300
    };
    nodes.until("all are small", small).await;
    traffic.check_scan(false).await;
    // It grows until a split is seen under way: those of a few items may be over before anybody looks.
    let grows = traffic.clone();
    let growing = tokio::spawn(async move {
        let mut number = 300;
        while !grows.seen.stop.load(Ordering::Relaxed) {
            grows.put(number, 0).await;
            number += 1;
        }
    });
    let begun = async || {
        let partitions = of_table(&nodes, "music").await;
        partitions.iter().any(|p| !p.children.is_empty())
    };
    nodes.until("the next splits begin", begun).await;
    traffic.seen.stop.store(true, Ordering::Relaxed);
    growing.await.unwrap();
    let deleted = async || {
        nodes
            .call("DeleteTable", json!({"TableName": "music"}))
            .await;
        let found = nodes
            .call("DescribeTable", json!({"TableName": "music"}))
            .await;
        found.is_none() && nodes.hosted().await == vec![1, 1, 1]
    };
    nodes
        .until("nothing is left but the system's own", deleted)
        .await;
    assert_eq!(*traffic.seen.errors.lock(), Vec::<String>::new());
    admin.stop().await;
    nodes.stop().await;
}

#[actix::test]
async fn more_throughput_means_more_partitions() {
    let nodes = Nodes::start_calm(3).await;
    let admin = nodes.admin(1, settings(SplitSettings::default())).await;
    make(&nodes, "music").await;
    let raised = json!({
        "TableName": "music",
        "ProvisionedThroughput": {"ReadCapacityUnits": 3000, "WriteCapacityUnits": 2500},
    });
    assert!(nodes.call("UpdateTable", raised).await.is_some());
    split_into(&nodes, "music", 3).await;
    admin.stop().await;
    nodes.stop().await;
}
