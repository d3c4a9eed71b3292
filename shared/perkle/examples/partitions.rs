//! Memory and speed of a tree that holds a route map. Arguments: numbers of partitions (default 1,000,000 and 10,000,000).
//! `cargo run -p perkle --release --example partitions`
//!
//! Half of the partitions are those of large tables (1,000 each), a quarter of tables with 8, a quarter of tables with one. An
//! entry is what memds keeps: the key is the table and the first key of the range, the version is (partition, generation, ballot,
//! version of the table), the value says the end of the range, the leader and three members of which one joined later (its
//! incarnation takes 8 bytes). The index by partition number, 4 bytes an entry, is counted too.

use std::alloc::System;
use std::hint::black_box;

use perkle::{EntryRef, Perkle, Updated, counter};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    let sizes: Vec<u64> = std::env::args()
        .skip(1)
        .map(|a| a.parse().expect("a number of partitions"))
        .collect();
    let sizes = if sizes.is_empty() {
        vec![1_000_000, 10_000_000]
    } else {
        sizes
    };
    for size in sizes {
        run(size);
    }
}

/// Table, number of its partitions and the partition's place among them, of partition `n`.
fn place(n: u64) -> (u64, u64, u64) {
    match n % 4 {
        0 | 1 => {
            let m = n / 4 * 2 + n % 4;
            (16 + m / 1_000, 1_000, m % 1_000)
        }
        2 => (100_000_000 + n / 4 / 8, 8, n / 4 % 8),
        _ => (200_000_000 + n / 4, 1, 0),
    }
}

/// What lies behind the table's number in the first key of a share of the table.
fn start(share: u64, shares: u64) -> Vec<u8> {
    if share == 0 {
        return Vec::new();
    }
    let hash = ((u128::from(share) << 64) / u128::from(shares)) as u64;
    [&[0, 0][..], &hash.to_be_bytes()].concat()
}

fn key(table: u64, rest: &[u8]) -> Vec<u8> {
    [b"p", &table.to_be_bytes()[..], &[1], rest].concat()
}

fn version(n: u64, round: u64) -> Vec<u8> {
    let mut version = Vec::new();
    for number in [n, 3, round, 1 + n % 300, 2] {
        counter::put(number, &mut version);
    }
    version
}

fn value(n: u64, end: &[u8]) -> Vec<u8> {
    let mut value = Vec::new();
    counter::put(8, &mut value);
    counter::put(end.len() as u64, &mut value);
    value.extend_from_slice(end);
    value.push(1);
    counter::put(3, &mut value);
    for member in 0..3 {
        counter::put(
            (1 + (n + member * 100) % 300) << 2 | u64::from(member == 2),
            &mut value,
        );
    }
    value.extend_from_slice(&scattered(n).to_le_bytes());
    value
}

fn scattered(n: u64) -> u64 {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn run(size: u64) {
    let before = ALLOCATOR.stats();
    let mut tree = Perkle::new();
    let mut index: Vec<Option<EntryRef>> = vec![None; size as usize];
    let mut content = 0;
    let began = processor_ns();
    for i in 0..size {
        // Not in the order of the keys: pushes come as they come.
        let n = (scattered(i) >> 11) % size;
        let n = if index[n as usize].is_some() { i } else { n };
        put(&mut tree, &mut index, &mut content, n);
    }
    for n in 0..size {
        if index[n as usize].is_none() {
            put(&mut tree, &mut index, &mut content, n);
        }
    }
    let filled = processor_ns() - began;
    assert_eq!(tree.len() as u64, size);
    let after = ALLOCATOR.stats();
    let allocated = (after.bytes_allocated - before.bytes_allocated)
        - (after.bytes_deallocated - before.bytes_deallocated);
    // The tree's pages are mapped, not allocated.
    let bytes = allocated + tree.memory().0;
    println!("{size} partitions");
    println!(
        "  {:.1} bytes an entry in all ({:.1} key, version and value; {:.1} everything else); {} MiB",
        bytes as f64 / size as f64,
        content as f64 / size as f64,
        (bytes as f64 - content as f64) / size as f64,
        bytes >> 20,
    );
    println!("  {:.2} M inserts/s", size as f64 * 1e3 / filled as f64);

    let mut round = 20;
    measure(
        "floor lookups",
        size,
        |n, draw| {
            let (table, shares, share) = place(n);
            // A key somewhere within the partition.
            let mut rest = start(share, shares);
            rest.resize(34, draw as u8);
            (key(table, &rest), Vec::new(), Vec::new())
        },
        |(key, _, _)| {
            let entry = tree.floor(key).expect("every key has a partition");
            u64::from(entry.value[0])
        },
    );
    measure(
        "exact lookups",
        size,
        |n, _| {
            let (table, shares, share) = place(n);
            (key(table, &start(share, shares)), Vec::new(), Vec::new())
        },
        |(key, _, _)| {
            let entry = tree.get(key).expect("it is there");
            u64::from(entry.value[0])
        },
    );
    measure(
        "updates",
        size,
        |n, _| {
            let (table, shares, share) = place(n);
            round += 1;
            let end = start((share + 1) % shares, shares);
            (
                key(table, &start(share, shares)),
                version(n, round),
                value(n, &end),
            )
        },
        |(key, version, value)| {
            let updated = tree.update(key, version, value);
            u64::from(matches!(updated, Ok(Updated::Replaced(_))))
        },
    );
}

/// Key, version and value.
type Call = (Vec<u8>, Vec<u8>, Vec<u8>);

/// Makes calls a batch at a time and measures only how long the tree takes for them: by the processor's time of this thread, since
/// the machine may be busy with something else.
fn measure(
    what: &str,
    size: u64,
    mut make: impl FnMut(u64, u64) -> Call,
    mut run: impl FnMut(&Call) -> u64,
) {
    const BATCH: u64 = 100_000;
    const BATCHES: u64 = 20;
    let (mut took, mut sum) = (0, 0u64);
    for batch in 0..BATCHES {
        let draws = (batch * BATCH..(batch + 1) * BATCH).map(|i| scattered(i) >> 7);
        let calls: Vec<Call> = draws.map(|draw| make(draw % size, draw)).collect();
        let began = processor_ns();
        for call in &calls {
            sum = sum.wrapping_add(run(call));
        }
        took += processor_ns() - began;
    }
    black_box(sum);
    let each = took as f64 / (BATCH * BATCHES) as f64;
    println!("  {:.2} M {what}/s ({each:.0} ns each)", 1e3 / each);
}

/// Nanoseconds that this thread has run.
fn processor_ns() -> u64 {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let first = times.split(' ').next().expect("times");
    first.parse().expect("nanoseconds")
}

fn put(tree: &mut Perkle, index: &mut [Option<EntryRef>], content: &mut usize, n: u64) {
    let (table, shares, share) = place(n);
    let key = key(table, &start(share, shares));
    let version = version(n, 9);
    let value = value(n, &start((share + 1) % shares, shares));
    *content += key.len() + version.len() + value.len();
    if let Ok(Updated::Inserted(at) | Updated::Replaced(at)) = tree.update(&key, &version, &value) {
        index[n as usize] = Some(at);
    }
}
