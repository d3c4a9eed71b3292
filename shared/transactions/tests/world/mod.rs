//! The simulated mesh: partitions (the real ones, each with a log), a ledger that is atomic, coordinators (the real ones), and messages.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use bytes::Bytes;
use expression::{Placeholders, parse_update};
use model::codec::{decode_item, encode_item};
use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType, TableStatus};
use model::{AttributeValue, Item, KeyRange, Number, TableDefinition, TableId};
use partition::{BTree, BTreeError, Evaluated, Limits, Partition, PartitionState, Transacted};
use paxos::{Ballot, Configuration, Entry, NodeId, Payload};
use protocol::item::{Get, ItemFault, ItemOperation, ItemReply, ReturnValues, Write, WriteAction};
use protocol::transact::{Settle, Transact, TransactionId, TransactionRef};
use transactions::{Action, Coordinator, Input, State, Verdict, Vote};

use crate::history::{self, Operation};

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
    }
}

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }

    fn chance(&mut self, of_1000: u64) -> bool {
        self.below(1000) < of_1000
    }
}

#[derive(Default)]
struct Tree(BTreeMap<Bytes, Bytes>);

impl BTree for Tree {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BTreeError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(
        &self,
        _: &KeyRange,
        _: bool,
        visitor: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), BTreeError> {
        for (key, item) in &self.0 {
            if visitor(key, item).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// A partition and its log.
struct Shard {
    partition: Partition<u64>,
    tree: Tree,
    applied: u64,
    /// Commands in the log, not committed.
    proposed: VecDeque<Bytes>,
}

impl Shard {
    fn apply(&mut self, command: Bytes, answers: &mut Vec<(u64, ItemReply)>) {
        self.applied += 1;
        let entry = Entry {
            index: self.applied,
            ballot: Ballot {
                round: 1,
                node: NodeId(1),
            },
            payload: Payload::Command(command),
        };
        self.partition.apply(&entry, answers).expect("applies");
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
    Decided(bool),
}

/// A coordinator at work.
struct Course {
    course: Coordinator,
    transaction: TransactionRef,
    items: Vec<String>,
    /// Of the client's transaction; none for a recovery.
    client: Option<u64>,
}

struct Gathering {
    items: Vec<String>,
    seen: BTreeMap<usize, (Vec<u64>, u64)>,
    valid: usize,
}

struct Open {
    state: State,
    id: TransactionId,
    items: Vec<String>,
}

pub struct World {
    seed: u64,
    rng: Rng,
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

fn table() -> TableDefinition {
    TableDefinition {
        id: TableId(20),
        name: "lists".to_owned(),
        version: 1,
        keys: KeySchema {
            partition: KeyAttribute {
                name: "pk".to_owned(),
                kind: ScalarType::S,
            },
            sort: None,
        },
        billing: BillingMode::PayPerRequest,
        status: TableStatus::Active,
        ..TableDefinition::default()
    }
}

fn item_name(number: u64) -> String {
    format!("item{number}")
}

fn shard_of(item: &str) -> usize {
    usize::from(item.as_bytes()[item.len() - 1]) % SHARDS
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(Number::parse(&value.to_string()).expect("a number"))
}

/// Appends this number to an item's list.
fn append(item: &str, value: u64) -> Write {
    let values = BTreeMap::from([
        (":n".to_owned(), AttributeValue::L(vec![number(value)])),
        (":none".to_owned(), AttributeValue::L(Vec::new())),
    ]);
    let mut placeholders = Placeholders::new(None, Some(values));
    let text = "SET l = list_append(if_not_exists(l, :none), :n)";
    let key_item = Item::from([("pk".to_owned(), AttributeValue::S(item.to_owned()))]);
    Write {
        key: Bytes::copy_from_slice(item.as_bytes()),
        action: WriteAction::Update {
            key_item: encode_item(&key_item),
            update: Some(parse_update(text, &mut placeholders).expect("an update")),
        },
        condition: None,
        return_values: ReturnValues::None,
        return_on_failure: false,
    }
}

fn list_of(item: Option<&Bytes>) -> Vec<u64> {
    let Some(item) = item else { return Vec::new() };
    match &decode_item(item).expect("an item")["l"] {
        AttributeValue::L(list) => list
            .iter()
            .map(|value| match value {
                AttributeValue::N(number) => number.to_string().parse().expect("whole"),
                other => panic!("{other:?}"),
            })
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn get(item: &str) -> Get {
    Get {
        key: Bytes::copy_from_slice(item.as_bytes()),
        strong: true,
        projection: None,
    }
}

impl World {
    pub fn new(seed: u64) -> Self {
        let state = || {
            PartitionState::empty(
                Configuration::default(),
                KeyRange {
                    start: Bytes::new(),
                    end: Bytes::new(),
                },
                table(),
                Vec::new(),
            )
        };
        let shards = (0..SHARDS).map(|_| Shard {
            partition: Partition::new(state(), Limits::default()),
            tree: Tree::default(),
            applied: 0,
            proposed: VecDeque::new(),
        });
        Self {
            seed,
            rng: Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
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
            } => self.write_ledger(call, &transaction, action),
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

    /// A part of what is in the log is committed by the next leader; the rest never was.
    fn lose_leader(&mut self, shard: usize) {
        self.counts.leaders_lost += 1;
        let kept = self.rng.below(self.shards[shard].proposed.len() as u64 + 1);
        let at = &mut self.shards[shard];
        let mut answers = Vec::new();
        at.partition.lose(&mut answers);
        for _ in 0..kept {
            if let Some(command) = at.proposed.pop_front() {
                at.apply(command, &mut answers);
            }
        }
        at.proposed.clear();
        self.send_answers(answers);
    }

    fn send_answers(&mut self, answers: Vec<(u64, ItemReply)>) {
        for (call, reply) in answers {
            if let Some(delay) = self.delay() {
                self.at(delay, Event::Answer(call, Answer::Item(reply)));
            }
        }
    }

    fn arrive(&mut self, call: u64, at: usize, operation: &ItemOperation) {
        let (now, shard) = (self.now, &mut self.shards[at]);
        let Shard {
            partition, tree, ..
        } = shard;
        let (commands, reply) = match operation {
            ItemOperation::Get(get) => (Vec::new(), Some(partition.get(tree, get).expect("reads"))),
            ItemOperation::Write(write) => {
                match partition
                    .evaluate(tree, write, now, call)
                    .expect("evaluates")
                {
                    Evaluated::Propose(command) => (vec![command], None),
                    Evaluated::Waits => (Vec::new(), None),
                    Evaluated::Answer(_, reply) => (Vec::new(), Some(reply)),
                }
            }
            ItemOperation::Transact(transact) => {
                let transacted = match &**transact {
                    Transact::Prepare { transaction, write } => {
                        partition.prepare(tree, (transaction, write), now, call)
                    }
                    Transact::Commit(end) => partition.settle(tree, (end, true), now, call),
                    Transact::Cancel(end) => partition.settle(tree, (end, false), now, call),
                    Transact::Read {
                        get,
                        unchanged_since,
                    } => partition
                        .transactional_get(tree, get, *unchanged_since)
                        .map(|reply| Transacted::Answer(call, reply)),
                };
                match transacted.expect("evaluates") {
                    Transacted::Propose(commands) => (commands, None),
                    Transacted::Waits => (Vec::new(), None),
                    Transacted::Answer(_, reply) => (Vec::new(), Some(reply)),
                }
            }
            ItemOperation::Page(_) | ItemOperation::Changes(_) | ItemOperation::Propagate(_) => {
                panic!("nobody asks for these")
            }
        };
        if !commands.is_empty() {
            let first = shard.applied + shard.proposed.len() as u64 + 1;
            shard.partition.proposed(first);
            let count = commands.len();
            shard.proposed.extend(commands);
            for _ in 0..count {
                let delay = 1 + self.rng.below(8);
                self.at(delay, Event::Commit(at));
            }
        }
        self.send_answers(reply.map(|reply| (call, reply)).into_iter().collect());
    }

    fn some_items(&mut self) -> Vec<String> {
        let count = 1 + self.rng.below(3);
        let mut items: Vec<String> = (0..count)
            .map(|_| item_name(self.rng.below(ITEMS as u64)))
            .collect();
        items.sort();
        items.dedup();
        items
    }

    fn begin_operation(&mut self) {
        let number = self.fresh();
        let mut operation = Operation {
            began: self.now,
            strict: true,
            ..Operation::default()
        };
        match self.rng.below(10) {
            0..5 => {
                let items = self.some_items();
                operation.appends = items.clone();
                let id = TransactionId(number, self.seed);
                let transaction = TransactionRef {
                    id,
                    record: Bytes::copy_from_slice(&number.to_be_bytes()),
                    // Clocks of routers differ.
                    timestamp_ms: self.now + self.rng.below(400) - 200,
                };
                let (course, actions) = Coordinator::begin(items.len());
                let client = Some(number);
                let course = Course {
                    course,
                    transaction,
                    items,
                    client,
                };
                self.courses.insert(number, course);
                self.carry_out(number, actions);
            }
            5..7 => {
                let item = item_name(self.rng.below(ITEMS as u64));
                operation.appends = vec![item.clone()];
                let write = ItemOperation::Write(Box::new(append(&item, number)));
                self.call(Purpose::Write(number), &item, write);
            }
            7 => {
                operation.strict = false;
                let item = item_name(self.rng.below(ITEMS as u64));
                operation.reads = vec![(item.clone(), Vec::new())];
                self.call(Purpose::Read(number), &item, ItemOperation::Get(get(&item)));
            }
            _ => {
                let items = self.some_items();
                let gathering = Gathering {
                    items: items.clone(),
                    seen: BTreeMap::new(),
                    valid: 0,
                };
                self.gatherings.insert(number, gathering);
                for (place, item) in items.iter().enumerate() {
                    let read = Transact::Read {
                        get: get(item),
                        unchanged_since: None,
                    };
                    let operation = ItemOperation::Transact(Box::new(read));
                    self.call(Purpose::Round(number, false, place), item, operation);
                }
            }
        }
        self.operations.insert(number, operation);
    }

    fn carry_out(&mut self, number: u64, actions: Vec<Action>) {
        for action in actions {
            // A coordinator may die between any two things that it does.
            if self.faults && self.rng.chance(25) {
                self.counts.died += 1;
                self.courses.remove(&number);
                return;
            }
            let Some(course) = self.courses.get(&number) else {
                return;
            };
            let (transaction, items) = (course.transaction.clone(), course.items.clone());
            match action {
                Action::Record => {
                    let open = Open {
                        state: State::Open,
                        id: transaction.id,
                        items,
                    };
                    self.ledger.insert(transaction.record.clone(), open);
                    let recorded = self.step(number, Input::Recorded(true));
                    self.carry_out(number, recorded);
                }
                Action::Prepare(operation) => {
                    let write = append(&items[operation], number);
                    let prepare = Transact::Prepare { transaction, write };
                    let prepare = ItemOperation::Transact(Box::new(prepare));
                    self.call(
                        Purpose::Prepare(number, operation),
                        &items[operation],
                        prepare,
                    );
                }
                Action::Settle { operation, commits } => {
                    let end = Settle {
                        key: Bytes::copy_from_slice(items[operation].as_bytes()),
                        id: transaction.id,
                        timestamp_ms: transaction.timestamp_ms,
                    };
                    let end = match commits {
                        true => Transact::Commit(end),
                        false => Transact::Cancel(end),
                    };
                    let end = ItemOperation::Transact(Box::new(end));
                    self.call(Purpose::Settle(number, operation), &items[operation], end);
                }
                Action::Decide | Action::Withdraw | Action::Close { .. } => {
                    let call = self.fresh();
                    self.calls.insert(call, Purpose::Decide(number));
                    let copies = if self.faults && self.rng.chance(40) {
                        2
                    } else {
                        1
                    };
                    for _ in 0..copies {
                        if let Some(delay) = self.delay() {
                            let event = Event::Ledger {
                                call,
                                transaction: transaction.clone(),
                                action,
                            };
                            self.at(delay, event);
                        }
                    }
                    if !matches!(action, Action::Close { .. }) {
                        self.at(PATIENCE_MS, Event::Patience(call));
                    }
                }
                Action::Answer(verdict) => self.verdict(number, verdict),
            }
        }
    }

    fn verdict(&mut self, number: u64, verdict: Verdict) {
        let Some(course) = self.courses.get(&number) else {
            return;
        };
        match course.client {
            None => self.counts.recovered += 1,
            Some(client) => {
                match verdict {
                    Verdict::Committed => self.counts.committed += 1,
                    Verdict::Cancelled | Verdict::Failed => self.counts.cancelled += 1,
                    Verdict::Unknown => {}
                }
                self.verdicts.insert(client, verdict);
                if let Some(operation) = self.operations.get_mut(&client)
                    && verdict == Verdict::Committed
                {
                    operation.ended = Some(self.now);
                }
            }
        }
    }

    fn step(&mut self, number: u64, input: Input) -> Vec<Action> {
        match self.courses.get_mut(&number) {
            Some(course) => course.course.step(input),
            None => Vec::new(),
        }
    }

    /// What the ledger does: conditional writes, atomic.
    fn write_ledger(&mut self, call: u64, transaction: &TransactionRef, action: Action) {
        let (record, id) = (transaction.record.clone(), transaction.id);
        let found = self.ledger.get_mut(&record).filter(|open| open.id == id);
        let decided = match (action, found) {
            (Action::Decide, Some(open)) => {
                let may = matches!(open.state, State::Open | State::Committed);
                if may {
                    open.state = State::Committed;
                }
                may
            }
            (Action::Withdraw, Some(open)) => {
                if open.state == State::Open {
                    open.state = State::Cancelled;
                }
                matches!(open.state, State::Committed | State::Done)
            }
            (Action::Close { commits }, Some(open)) => {
                match (commits, open.state) {
                    (true, State::Committed) => open.state = State::Done,
                    (false, State::Open | State::Cancelled) => {
                        self.ledger.remove(&record);
                    }
                    _ => {}
                }
                return;
            }
            _ => false,
        };
        if let Some(delay) = self.delay() {
            self.at(delay, Event::Answer(call, Answer::Decided(decided)));
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
                    Some(Answer::Decided(decided)) => Some(decided),
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

    fn gathered(&mut self, number: u64, second: bool, place: usize, reply: Option<&ItemReply>) {
        let Some(gathering) = self.gatherings.get_mut(&number) else {
            return;
        };
        let Some(ItemReply::Versioned { item, version, .. }) = reply else {
            self.gatherings.remove(&number);
            return;
        };
        let all = gathering.items.len();
        if second {
            gathering.valid += 1;
            if gathering.valid == all {
                let operation = self.operations.get_mut(&number).expect("begun");
                let seen = gathering.seen.values().map(|(list, _)| list.clone());
                operation.reads = gathering.items.iter().cloned().zip(seen).collect();
                operation.ended = Some(self.now);
                self.counts.reads += 1;
                self.gatherings.remove(&number);
            }
            return;
        }
        gathering
            .seen
            .insert(place, (list_of(item.as_ref()), *version));
        if gathering.seen.len() == all {
            let again: Vec<(String, u64)> = gathering
                .items
                .iter()
                .cloned()
                .zip(gathering.seen.values().map(|(_, version)| *version))
                .collect();
            for (place, (item, version)) in again.iter().enumerate() {
                let read = Transact::Read {
                    get: get(item),
                    unchanged_since: Some(*version),
                };
                let operation = ItemOperation::Transact(Box::new(read));
                self.call(Purpose::Round(number, true, place), item, operation);
            }
        }
    }

    /// Leaders report what has been pending for long, and somebody recovers it.
    fn watch(&mut self) {
        let before = self.now.saturating_sub(STALLED_MS);
        let mut stalled = Vec::new();
        for shard in &self.shards {
            let known = &shard.partition.state().transactions;
            let items = known.stalled(before);
            stalled.extend(items.map(|p| (p.key.clone(), p.transaction.clone())));
        }
        for (key, transaction) in stalled {
            let under_way = self.recovering.get(&transaction.id);
            if under_way.is_some_and(|at| self.now < at + 1_000) {
                continue;
            }
            let found = self
                .ledger
                .get(&transaction.record)
                .filter(|open| open.id == transaction.id);
            let Some(open) = found else {
                let item = String::from_utf8(key.to_vec()).expect("a name");
                let end = Settle {
                    key,
                    id: transaction.id,
                    timestamp_ms: transaction.timestamp_ms,
                };
                let end = ItemOperation::Transact(Box::new(Transact::Cancel(end)));
                self.call(Purpose::Free, &item, end);
                continue;
            };
            let decided = match open.state {
                State::Open => None,
                State::Committed | State::Done => Some(true),
                State::Cancelled => Some(false),
            };
            let items = open.items.clone();
            self.recovering.insert(transaction.id, self.now);
            let (course, actions) = Coordinator::recover(items.len(), decided);
            let number = self.fresh();
            let client = None;
            let course = Course {
                course,
                transaction,
                items,
                client,
            };
            self.courses.insert(number, course);
            self.carry_out(number, actions);
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
