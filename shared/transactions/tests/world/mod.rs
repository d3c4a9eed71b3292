//! The simulated mesh: partitions (the real ones, each with a log), a ledger that is atomic, coordinators (the real ones), clients, and the
//! messages between them. Owns time and what must hold at the end; who takes part is in the files beside this one.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use partition::{Limits, Partition};
use protocol::item::{ItemFault, ItemOperation, ItemReply};
use protocol::transact::{TransactionId, TransactionRef};
use transactions::{Action, Input, Verdict, Vote};

use self::clients::Gathering;
use self::coordinators::{Course, Open};
use self::draws::Draws;
use self::items::{get, item_name, list_of, shard_of};
use self::shard::{Shard, Tree};
use crate::history::{self, Operation};

mod clients;
mod coordinators;
mod draws;
mod items;
mod moments;
mod shard;

const SHARDS: usize = 3;
const ITEMS: usize = 7;
/// A caller waits so long for an answer.
const PATIENCE_MS: u64 = 80;
/// Something pending for so long is recovered.
const STALLED_MS: u64 = 400;
/// How long clients go on.
const RUN_MS: u64 = 14_000;

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub committed: u64,
    pub cancelled: u64,
    pub died: u64,
    pub recovered: u64,
    pub leaders_lost: u64,
    pub reads: u64,
    pub late: u64,
    /// Transactions that a point in time cuts through.
    pub cut: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        self.committed += other.committed;
        self.cancelled += other.cancelled;
        self.died += other.died;
        self.recovered += other.recovered;
        self.leaders_lost += other.leaders_lost;
        self.reads += other.reads;
        self.late += other.late;
        self.cut += other.cut;
    }
}

/// Who waits for an answer, and for what.
#[derive(Clone, Debug)]
enum Purpose {
    Prepare(u64, usize),
    Settle(u64, usize),
    Decide(u64),
    /// Of an item whose transaction has no record.
    Free,
    Write(u64),
    Read(u64),
    /// Round and place of a transactional read.
    Round(u64, bool, usize),
}

enum Event {
    Arrive {
        call: u64,
        shard: usize,
        operation: ItemOperation,
    },
    /// The message knows the transaction, whatever becomes of its sender.
    Ledger {
        call: u64,
        transaction: TransactionRef,
        action: Action,
        commit_ms: u64,
    },
    Answer(u64, Answer),
    Patience(u64),
    Commit(usize),
    LeaderLost(usize),
    Flush(usize),
    Client,
    Watch,
}

#[derive(Clone, Debug)]
enum Answer {
    Item(ItemReply),
    /// When it counts; none: it is cancelled.
    Decided(Option<u64>),
}

pub struct World {
    seed: u64,
    rng: Draws,
    now: u64,
    number: u64,
    events: BTreeMap<(u64, u64), Event>,
    shards: Vec<Shard>,
    ledger: BTreeMap<Bytes, Open>,
    courses: BTreeMap<u64, Course>,
    gatherings: BTreeMap<u64, Gathering>,
    calls: BTreeMap<u64, Purpose>,
    recovering: BTreeMap<TransactionId, u64>,
    operations: BTreeMap<u64, Operation>,
    verdicts: BTreeMap<u64, Verdict>,
    faults: bool,
    pub counts: Counts,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let shards = (0..SHARDS).map(|_| Shard {
            partition: Partition::new(shard::begun(), Limits::default()),
            tree: Tree::default(),
            log: Vec::new(),
            proposed: VecDeque::new(),
        });
        Self {
            seed,
            rng: Draws::new(seed),
            now: 1_000_000,
            number: 0,
            events: BTreeMap::new(),
            shards: shards.collect(),
            ledger: BTreeMap::new(),
            courses: BTreeMap::new(),
            gatherings: BTreeMap::new(),
            calls: BTreeMap::new(),
            recovering: BTreeMap::new(),
            operations: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            faults: true,
            counts: Counts::default(),
        }
    }

    fn fresh(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn at(&mut self, delay: u64, event: Event) {
        let number = self.fresh();
        self.events.insert((self.now + delay, number), event);
    }

    /// A message's delay; none: it is lost.
    fn delay(&mut self) -> Option<u64> {
        if self.faults && self.rng.chance(30) {
            return None;
        }
        if self.faults && self.rng.chance(15) {
            self.counts.late += 1;
            return Some(self.rng.below(14_000));
        }
        Some(1 + self.rng.below(6))
    }

    fn call(&mut self, purpose: Purpose, item: &str, operation: ItemOperation) {
        let call = self.fresh();
        // A single write has nothing by which a repeated message could be told.
        let repeats = self.faults && !matches!(operation, ItemOperation::Write(_));
        self.calls.insert(call, purpose);
        let copies = if repeats && self.rng.chance(40) { 2 } else { 1 };
        for _ in 0..copies {
            if let Some(delay) = self.delay() {
                let (shard, operation) = (shard_of(item), operation.clone());
                let arrive = Event::Arrive {
                    call,
                    shard,
                    operation,
                };
                self.at(delay, arrive);
            }
        }
        self.at(PATIENCE_MS, Event::Patience(call));
    }

    /// Lets clients work for a while.
    pub fn run(&mut self) {
        let end = self.now + RUN_MS;
        for shard in 0..SHARDS {
            self.at(1, Event::Flush(shard));
            self.at(50, Event::LeaderLost(shard));
        }
        self.at(1, Event::Client);
        self.at(STALLED_MS, Event::Watch);
        while self.now < end {
            self.turn();
        }
    }

    /// Without faults and clients: everything comes to an end.
    pub fn settle(&mut self) {
        self.faults = false;
        let end = self.now + 40_000;
        while self.now < end {
            self.turn();
        }
        for shard in &self.shards {
            let pending = shard.partition.state().transactions.pending_len();
            assert_eq!(pending, 0, "seed {}: something is stuck", self.seed);
        }
    }

    fn turn(&mut self) {
        let Some(((at, _), event)) = self.events.pop_first() else {
            panic!("the watch never ends");
        };
        self.now = at;
        match event {
            Event::Arrive {
                call,
                shard,
                operation,
            } => self.arrive(call, shard, &operation),
            Event::Ledger {
                call,
                transaction,
                action,
                commit_ms,
            } => self.write_ledger(call, &transaction, (action, commit_ms)),
            Event::Answer(call, answer) => self.answered(call, Some(answer)),
            Event::Patience(call) => self.answered(call, None),
            Event::Commit(shard) => {
                let mut answers = Vec::new();
                if let Some(command) = self.shards[shard].proposed.pop_front() {
                    self.shards[shard].apply(command, &mut answers);
                }
                self.send_answers(answers);
            }
            Event::LeaderLost(shard) => {
                if self.faults {
                    self.lose_leader(shard);
                    let next = 50 + self.rng.below(1_500);
                    self.at(next, Event::LeaderLost(shard));
                }
            }
            Event::Flush(at) => {
                let shard = &mut self.shards[at];
                if let Some(batch) = shard.partition.seal() {
                    for (key, item) in batch.items.iter() {
                        match item {
                            Some(item) => drop(shard.tree.0.insert(key.clone(), item.clone())),
                            None => drop(shard.tree.0.remove(key)),
                        }
                    }
                    shard.partition.flushed(batch.state.applied);
                }
                let next = 20 + self.rng.below(200);
                self.at(next, Event::Flush(at));
            }
            Event::Client => {
                if self.faults {
                    self.begin_operation();
                    let next = 10 + self.rng.below(120);
                    self.at(next, Event::Client);
                }
            }
            Event::Watch => {
                self.watch();
                self.at(STALLED_MS / 2, Event::Watch);
            }
        }
    }

    fn send_answers(&mut self, answers: Vec<(u64, ItemReply)>) {
        for (call, reply) in answers {
            if let Some(delay) = self.delay() {
                self.at(delay, Event::Answer(call, Answer::Item(reply)));
            }
        }
    }

    fn answered(&mut self, call: u64, answer: Option<Answer>) {
        let Some(purpose) = self.calls.remove(&call) else {
            return;
        };
        let reply = match &answer {
            Some(Answer::Item(reply)) => Some(reply),
            _ => None,
        };
        match purpose {
            Purpose::Prepare(number, operation) => {
                if let Some(ItemReply::Prepared { time_ms, .. }) = reply
                    && let Some(course) = self.courses.get_mut(&number)
                {
                    course.commit_ms = course.commit_ms.max(*time_ms);
                }
                let vote = match reply {
                    Some(ItemReply::Prepared { .. }) => Vote::Accepted,
                    Some(ItemReply::Fault(ItemFault::Conflict { .. })) => Vote::Refused,
                    Some(ItemReply::Fault(ItemFault::Untimely { .. })) => Vote::Failed,
                    _ => Vote::Unknown,
                };
                let actions = self.step(number, Input::Prepared(operation, vote));
                self.carry_out(number, actions);
            }
            Purpose::Settle(number, operation) => {
                let done = matches!(reply, Some(ItemReply::Written { .. }));
                let actions = self.step(number, Input::Settled(operation, done));
                self.carry_out(number, actions);
            }
            Purpose::Decide(number) => {
                let decided = match answer {
                    Some(Answer::Decided(commit_ms)) => {
                        if let Some(course) = self.courses.get_mut(&number) {
                            course.commit_ms = commit_ms.unwrap_or(course.commit_ms);
                        }
                        Some(commit_ms.is_some())
                    }
                    _ => None,
                };
                let actions = self.step(number, Input::Decided(decided));
                self.carry_out(number, actions);
            }
            Purpose::Free => {}
            Purpose::Write(number) => {
                let now = self.now;
                let operation = self.operations.get_mut(&number).expect("begun");
                match reply {
                    Some(ItemReply::Written { .. }) => operation.ended = Some(now),
                    Some(ItemReply::Fault(ItemFault::Api(_))) => {
                        self.verdicts.insert(number, Verdict::Cancelled);
                    }
                    _ => {}
                }
            }
            Purpose::Read(number) => {
                let operation = self.operations.get_mut(&number).expect("begun");
                match reply {
                    Some(ItemReply::Item { item, .. }) => {
                        operation.reads[0].1 = list_of(item.as_ref());
                    }
                    _ => operation.reads.clear(),
                }
            }
            Purpose::Round(number, second, place) => self.gathered(number, second, place, reply),
        }
    }

    /// Everything that must hold at the end.
    pub fn check(&self) {
        let seed = self.seed;
        let mut lists = BTreeMap::new();
        for item in (0..ITEMS as u64).map(item_name) {
            let shard = &self.shards[shard_of(&item)];
            let read = shard.partition.get(&shard.tree, &get(&item));
            let Ok(ItemReply::Item { item: found, .. }) = read else {
                panic!("{read:?}");
            };
            lists.insert(item, list_of(found.as_ref()));
        }
        for (number, operation) in &self.operations {
            let times = |item: &String| lists[item].iter().filter(|n| *n == number).count();
            let there: Vec<usize> = operation.appends.iter().map(times).collect();
            let all = there.iter().all(|times| *times == 1);
            let none = there.iter().all(|times| *times == 0);
            assert!(
                all || none,
                "seed {seed}: {number} is there in part: {there:?}"
            );
            match self.verdicts.get(number) {
                Some(Verdict::Committed) => assert!(all, "seed {seed}: {number} is lost"),
                Some(Verdict::Cancelled | Verdict::Failed) => {
                    assert!(none, "seed {seed}: {number} was cancelled, and is there");
                }
                Some(Verdict::Unknown) | None => {}
            }
            if operation.ended.is_some() && !operation.appends.is_empty() {
                assert!(all, "seed {seed}: {number} was acknowledged and is lost");
            }
        }
        history::check(seed, &self.operations, &lists);
    }
}
