//! How many durable appends a second the log takes. Arguments: folder, groups (each with one append in flight), bytes an
//! entry, seconds. `cargo run --release -p wal --example appends -- /var/tmp/wal 64 900 5`

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos::{Ballot, Configuration, Entry, GroupId, NodeId, Payload, PersistOp};
use wal::{Wal, WalOptions};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments
        .next()
        .map_or_else(|| std::env::temp_dir().join("appends"), PathBuf::from);
    let mut number = |default: u64| {
        arguments
            .next()
            .map_or(default, |a| a.parse().expect("a number"))
    };
    let (groups, bytes, seconds) = (number(64), number(900) as usize, number(5));
    for spare in [false, true] {
        let dir = folder.join(format!("spare-{spare}"));
        let options = WalOptions {
            spare,
            ..WalOptions::new(NodeId(1), 1)
        };
        // The first life makes the spare ready, the second uses it.
        let (wal, _) = Wal::open(&dir, options.clone()).expect("open");
        while spare && !dir.join("spare.tmp").exists() {
            std::thread::sleep(Duration::from_millis(50));
        }
        drop(wal);
        let (wal, _) = Wal::open(&dir, options).expect("open");
        run(&wal, groups, bytes, Duration::from_secs(seconds), spare);
        drop(wal);
        std::fs::remove_dir_all(&dir).expect("clean up");
    }
}

fn run(wal: &Wal, groups: u64, bytes: usize, time: Duration, spare: bool) {
    let (done, ready) = mpsc::channel::<(u64, u64, Instant)>();
    let append = |group: u64, index: u64| {
        let mut ops = vec![];
        if index == 1 {
            let configuration = Configuration::default();
            ops.push(PersistOp::Install {
                index: 0,
                ballot: Ballot::default(),
                configuration,
                identity: paxos::Identity {
                    incarnation: 1,
                    role: paxos::Role::Storage,
                    generation: 1,
                },
            });
        }
        let payload = Payload::Command(Bytes::from(vec![7; bytes]));
        ops.push(PersistOp::Append(vec![Entry {
            index,
            ballot: Ballot::default(),
            payload,
        }]));
        if index.is_multiple_of(1_000) {
            // As a flush would allow it: the log stays small, segments are recycled.
            let configuration = Configuration::default();
            ops.push(PersistOp::Floor {
                index: index - 1,
                ballot: Ballot::default(),
                configuration,
            });
        }
        let (done, started) = (done.clone(), Instant::now());
        let sent = wal.append(GroupId(group), ops, move |result| {
            result.expect("append");
            let _ = done.send((group, index, started));
        });
        sent.expect("room in the queue");
    };
    let started = Instant::now();
    (1..=groups).for_each(|group| append(group, 1));
    let mut took: Vec<u64> = Vec::new();
    let mut in_flight = groups;
    while in_flight > 0 {
        let (group, index, since) = ready.recv().expect("the log lives");
        took.push(since.elapsed().as_micros() as u64);
        if started.elapsed() < time {
            append(group, index + 1);
        } else {
            in_flight -= 1;
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    took.sort_unstable();
    let metrics = wal.metrics();
    println!(
        "spare {spare}: {groups} groups, {bytes} B: {:.0} appends/s, {:.0} syncs/s, {:.1} MB/s, p50 {} us, p99 {} us, \
         {} segments",
        took.len() as f64 / seconds,
        metrics.syncs as f64 / seconds,
        metrics.bytes as f64 / seconds / 1e6,
        took[took.len() / 2],
        took[took.len() * 99 / 100],
        metrics.segments,
    );
}
