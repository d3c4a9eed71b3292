//! Points in time: every log, cut at one, with what it says behind it of what was pending there.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::KeyRange;
use partition::command::{CommandKind, WriteCommand};
use partition::{Ahead, Command, Limits, Partition};
use paxos::{Entry, Payload};

use super::World;
use super::items::list_of;
use super::shard::{CLOCKS_MS, Shard, begun};

/// Points in time a world.
const MOMENTS: usize = 40;

type Items = BTreeMap<Bytes, Bytes>;

fn put(items: &mut Items, write: WriteCommand) {
    match write.item {
        Some(item) => drop(items.insert(write.key, item)),
        None => drop(items.remove(&write.key)),
    }
}

fn command(entry: &Entry) -> Command {
    let Payload::Command(bytes) = &entry.payload else {
        panic!("nothing else is proposed")
    };
    Command::decode(bytes).expect("a command")
}

/// A log up to each of these times, in order: what its entries led to, and with what is brought forward.
fn cut(shard: &Shard, times: &[u64]) -> Vec<(Items, Items)> {
    let mut machine = Partition::<()>::new(begun(), Limits::default());
    let (mut items, mut left, mut cuts) = (Items::new(), shard.log.iter(), Vec::new());
    for &time_ms in times {
        while let Some(entry) = left.as_slice().first()
            && command(entry).time_ms <= time_ms
        {
            machine.apply(entry, &mut Vec::new()).expect("applies");
            if let CommandKind::Write(write) = command(entry).kind {
                put(&mut items, write);
            }
            left.next();
        }
        let mut ahead = Ahead::of(machine.state(), time_ms);
        for entry in left.as_slice() {
            if ahead.undecided(&KeyRange::default()) == 0 {
                break;
            }
            assert!(ahead.take(entry).expect("a command").is_none());
        }
        let mut whole = items.clone();
        ahead
            .into_writes()
            .into_iter()
            .for_each(|write| put(&mut whole, write));
        cuts.push((items.clone(), whole));
    }
    cuts
}

impl World {
    /// Whatever the point in time: each transaction counts at it on all of its items or on none; what was acknowledged before does, what began
    /// afterwards does not.
    pub fn check_points_in_time(&mut self) {
        let logs = self.shards.iter().flat_map(|shard| &shard.log);
        let mut all: Vec<u64> = logs.map(|entry| command(entry).time_ms).collect();
        all.sort_unstable();
        let mut times: Vec<u64> = (0..MOMENTS)
            .map(|_| all[self.rng.below(all.len() as u64) as usize])
            .collect();
        times.sort_unstable();
        let shards = self.shards.iter();
        let mut shards: Vec<_> = shards.map(|shard| cut(shard, &times).into_iter()).collect();
        let apart = CLOCKS_MS.into_iter().max().unwrap_or_default();
        for time_ms in times {
            let (mut raw, mut whole) = (Items::new(), Items::new());
            for (plain, forward) in shards.iter_mut().filter_map(Iterator::next) {
                raw.extend(plain);
                whole.extend(forward);
            }
            for (number, operation) in &self.operations {
                let found = |items: &Items| -> Vec<bool> {
                    let has = |item: &String| list_of(items.get(item.as_bytes())).contains(number);
                    operation.appends.iter().map(has).collect()
                };
                let parts = found(&whole);
                let (all, any) = (!parts.contains(&false), parts.contains(&true));
                let what = format!("seed {}, {time_ms}: {number}, {parts:?}", self.seed);
                assert!(all || !any, "{what} is there in part");
                if operation.ended.is_some_and(|ended| ended + apart < time_ms) {
                    assert!(all, "{what} was acknowledged before");
                }
                if operation.began > time_ms {
                    assert!(!any || parts.is_empty(), "{what} began afterwards");
                }
                let parts = found(&raw);
                self.counts.cut += u64::from(parts.contains(&false) && parts.contains(&true));
            }
        }
    }
}
