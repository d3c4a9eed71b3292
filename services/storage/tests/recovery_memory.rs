//! A node that starts reads a long log in bounded memory. A process of its own: it looks at its own memory. `EVENKEEL_LOG_MIB` makes the log longer
//! (512 in docs/benchmarks.md).

mod cluster;

use std::fs;

use bytes::Bytes;
use mesh::{LocalBus, Mesh};
use paxos::{
    Ballot, Configuration, Entry, GroupId, Identity, Member, NodeId, Payload, PersistOp, Role,
};
use wal::{DataDir, Wal, WalOptions};

const GROUPS: u64 = 4;
const ENTRY_BYTES: usize = 1_000;
const SEGMENT_BYTES: u32 = 8 << 20;
/// What may be in memory of a log: a segment as it is read, a batch of entries, what the allocator keeps.
const MEMORY_MIB_MAX: u64 = 64;

/// A field of `/proc/self/status`, MiB.
fn memory_mib(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with(field));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.expect("a number") >> 10
}

/// Writes what a node with log replicas of some groups has: logs that nobody truncated.
fn write_log(folder: &std::path::Path, mib: u64) {
    let data_dir = DataDir::open(folder, NodeId(1), 7).expect("a data folder");
    let mut options = WalOptions::new(NodeId(1), 7);
    options.segment_bytes = SEGMENT_BYTES;
    let (wal, _) = Wal::open(&data_dir.wal(), options).expect("a log");
    let append = |group, ops| {
        let (sender, done) = std::sync::mpsc::channel();
        let queued = wal.append(group, ops, move |result| {
            let _ = sender.send(result);
        });
        queued.expect("room");
        done.recv().expect("an answer").expect("durable");
    };
    let member = |node, role| Member {
        node: NodeId(node),
        role,
        incarnation: node * 10,
    };
    let identity = Identity {
        incarnation: 10,
        role: Role::Log,
        generation: 2,
    };
    let members = vec![
        member(1, Role::Log),
        member(2, Role::Storage),
        member(3, Role::Storage),
    ];
    let ballot = Ballot {
        round: 1,
        node: NodeId(2),
    };
    let batch = 256;
    let batches = (mib << 20) / (GROUPS * batch * ENTRY_BYTES as u64);
    for group in (1..=GROUPS).map(GroupId) {
        let founding = PersistOp::Install {
            index: 0,
            ballot: Ballot::default(),
            configuration: Configuration::founding(members.clone()),
            identity,
        };
        append(group, vec![founding, PersistOp::Promise(ballot)]);
    }
    for number in 0..batches {
        for group in (1..=GROUPS).map(GroupId) {
            let entry = |n| Entry {
                index: number * batch + n,
                ballot,
                payload: Payload::Command(Bytes::from(vec![n as u8; ENTRY_BYTES])),
            };
            append(
                group,
                vec![PersistOp::Append((1..=batch).map(entry).collect())],
            );
        }
    }
    wal.close();
}

#[actix::test]
async fn a_long_log_is_recovered_in_bounded_memory() {
    let mib = std::env::var("EVENKEEL_LOG_MIB").map_or(192, |mib| mib.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    let written = tokio::task::spawn_blocking(move || write_log(&path, mib));
    written.await.expect("written");
    let mut settings = cluster::settings(1, folder.path().to_owned());
    settings.limits.wal_segment_bytes = SEGMENT_BYTES;

    // From here on the peak counts.
    fs::write("/proc/self/clear_refs", "5").expect("Linux");
    let before = memory_mib("VmRSS");
    let bus = LocalBus::new();
    let mesh = Mesh::local(&bus, cluster::identity("storage", 1));
    let running = storage::start(settings, mesh).await.expect("starts");
    let peak = memory_mib("VmHWM").saturating_sub(before);
    let after = memory_mib("VmRSS").saturating_sub(before);
    println!("{mib} MiB of log: {peak} MiB more at the peak, {after} MiB more at the end");
    assert!(peak <= MEMORY_MIB_MAX, "{peak} MiB for a log of {mib} MiB");
    running.halt().await;
}
