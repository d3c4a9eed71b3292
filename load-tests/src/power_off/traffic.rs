//! The traffic: open loop, a client set for each zone. A call is tried again, on other routers as well, until its time is over, as an SDK
//! does. Owns when requests are sent; what they mean is `record`'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use super::client::Client;
use super::record::{Call, Class, Left, Record, Verdict};
use super::requests::{COUNTERS, Request, Wish, register, registers};

/// A call may take so long, with all its tries; then it has failed.
const CALL_MAX: Duration = Duration::from_secs(10);
/// Tries of a call.
const TRIES_MAX: u32 = 8;
/// Pauses between tries: doubled each time, up to the greater.
const PAUSE_MS: (u64, u64) = (25, 800);
/// Calls of one zone under way at once; beyond that they fail unsent (and are counted).
const CALLS_MAX: usize = 3_000;

/// The running traffic.
pub struct Traffic {
    stop: watch::Sender<bool>,
    zones: Vec<JoinHandle<()>>,
}

/// What all clients share.
pub struct Shared {
    /// The table.
    pub table: String,
    /// What is seen.
    pub record: Arc<Record>,
    /// Numbers of inserted items.
    pub inserts: AtomicU64,
}

impl Traffic {
    /// Starts the clients of all zones, together `rate` calls a second.
    pub fn start(shared: &Arc<Shared>, clients: &[Arc<Client>], rate: u64, seed: u64) -> Self {
        let (stop, stopping) = watch::channel(false);
        let every = Duration::from_micros(1_000_000 * clients.len() as u64 / rate.max(1));
        let zones = clients.iter().enumerate().map(|(zone, client)| {
            let random = SmallRng::seed_from_u64(seed.wrapping_mul(31).wrapping_add(zone as u64));
            tokio::spawn(drive(
                shared.clone(),
                client.clone(),
                zone,
                every,
                random,
                stopping.clone(),
            ))
        });
        let zones = zones.collect();
        Self { stop, zones }
    }

    /// Sends nothing new and waits for what is under way; each call has an end.
    pub async fn finish(self) {
        self.stop.send_replace(true);
        for zone in self.zones {
            if let Err(error) = zone.await {
                eprintln!("power-off: a client failed: {error}");
            }
        }
    }
}

async fn drive(
    shared: Arc<Shared>,
    client: Arc<Client>,
    zone: usize,
    every: Duration,
    mut random: SmallRng,
    mut stopping: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(CALLS_MAX));
    let mut calls = JoinSet::new();
    let mut ticks = tokio::time::interval(every);
    // Open loop: what was missed is sent late, never left out.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        tokio::select! {
            _ = stopping.changed() => break,
            _ = ticks.tick() => {}
        }
        while calls.try_join_next().is_some() {}
        let wish = Wish::draw(&mut random);
        let random = SmallRng::seed_from_u64(random.random());
        let Ok(permit) = room.clone().try_acquire_owned() else {
            let errors = vec!["the driver has too many calls under way".to_owned()];
            let at_us = shared.record.now_us();
            shared.record.call(Call {
                class: class(wish),
                at_us,
                took_us: 0,
                zone,
                tries: 0,
                errors,
                done: false,
            });
            continue;
        };
        let (shared, client) = (shared.clone(), client.clone());
        calls.spawn(async move {
            call(&shared, &client, zone, wish, random).await;
            drop(permit);
        });
    }
    while calls.join_next().await.is_some() {}
}

fn class(wish: Wish) -> Class {
    match wish {
        Wish::Get { strong: false } => Class::Eventual,
        Wish::Get { strong: true } | Wish::BatchGet => Class::Strong,
        _ => Class::Write,
    }
}

/// Keys of a call: the same for all its tries.
enum Keys {
    One(usize),
    Many(Vec<usize>),
    Insert(u64),
}

async fn call(shared: &Shared, client: &Client, zone: usize, wish: Wish, mut random: SmallRng) {
    let record = &shared.record;
    let mut keys = match wish {
        Wish::BatchPut | Wish::BatchGet => Keys::Many(registers(&mut random)),
        Wish::Add => Keys::One(random.random_range(0..COUNTERS)),
        Wish::Insert => {
            let number = shared.inserts.fetch_add(1, Ordering::Relaxed);
            record.inserting(number);
            Keys::Insert(number)
        }
        _ => Keys::One(register(&mut random)),
    };
    let start = record.now_us();
    let (mut tries, mut errors, mut done) = (0, Vec::new(), false);
    let mut pause_ms = PAUSE_MS.0;
    while tries < TRIES_MAX {
        tries += 1;
        let request = request(record, wish, &keys);
        let body = request.body(&shared.table);
        let called = record.now_us();
        let answer = client.attempt(request.operation(), &body).await;
        let (left, why) = match record.judge(&request, &answer, called) {
            Verdict::Done => {
                done = true;
                break;
            }
            Verdict::Again(left, why) => (left, why),
        };
        errors.push(why);
        if let Left::Registers(left) = left {
            keys = Keys::Many(left);
        }
        let spent = Duration::from_micros(record.now_us() - start);
        let pause = Duration::from_millis(random.random_range(pause_ms / 2..=pause_ms));
        if spent + pause >= CALL_MAX {
            break;
        }
        tokio::time::sleep(pause).await;
        pause_ms = (pause_ms * 2).min(PAUSE_MS.1);
    }
    let took_us = record.now_us() - start;
    record.call(Call {
        class: class(wish),
        at_us: start,
        took_us,
        zone,
        tries,
        errors,
        done,
    });
}

/// The next try: values are new each time, so that whoever reads one knows which try it was.
fn request(record: &Record, wish: Wish, keys: &Keys) -> Request {
    match (wish, keys) {
        (Wish::Get { strong }, Keys::One(key)) => Request::Get { key: *key, strong },
        (Wish::Update, Keys::One(key)) => Request::Update {
            key: *key,
            expected: record.last_seen(*key),
            value: record.new_value(*key),
        },
        (Wish::Delete, Keys::One(key)) => Request::Delete { key: *key },
        (Wish::Add, Keys::One(counter)) => Request::Add { counter: *counter },
        (_, Keys::One(key)) => Request::Put {
            key: *key,
            value: record.new_value(*key),
        },
        (_, Keys::Insert(number)) => Request::Insert { number: *number },
        (Wish::BatchGet, Keys::Many(keys)) => Request::BatchGet { keys: keys.clone() },
        (_, Keys::Many(keys)) => Request::BatchPut {
            puts: keys
                .iter()
                .map(|key| (*key, record.new_value(*key)))
                .collect(),
        },
    }
}
