//! What the clients saw: histories of registers, counters and inserted items for the checks; calls with their times for the timeline. Owns
//! the meaning of an answer: done, surely not done, or not known.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use linearizability::{Action, Operation, Value};
use serde::Serialize;
use serde_json::Value as Json;

use super::client::Answer;
use super::requests::{COUNTERS, REGISTERS, Request, register_of, value_of};

/// What a call counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Strongly consistent read.
    Strong,
    /// Eventually consistent read.
    Eventual,
    /// Write.
    Write,
}

/// One call of a client, with all its tries.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    /// What it counts as.
    pub class: Class,
    /// When it was called, since the start, microseconds.
    pub at_us: u64,
    /// Until its last answer, microseconds.
    pub took_us: u64,
    /// Zone of the client.
    pub zone: usize,
    /// Tries.
    pub tries: u32,
    /// What failed on the way, the last one last; of a call that succeeded as well.
    pub errors: Vec<String>,
    /// Whether it succeeded in the end.
    pub done: bool,
}

/// What to do after a try.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Done,
    /// Try this again: why.
    Again(Left, String),
}

/// What a try left to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Left {
    /// Everything.
    All,
    /// These registers of a batch.
    Registers(Vec<usize>),
}

/// A counter as its clients know it.
#[derive(Debug, Default)]
pub struct Counter {
    /// Additions that were acknowledged.
    pub acknowledged: u64,
    /// Additions of unknown outcome.
    pub unknown: u64,
    /// What acknowledged additions returned: each number at most once.
    pub returned: BTreeSet<u64>,
}

/// Inserted items as their clients know them.
#[derive(Debug, Default)]
pub struct Inserts {
    /// Acknowledged: must be there.
    pub acknowledged: BTreeSet<u64>,
    /// Tried at least once.
    pub tried: BTreeSet<u64>,
}

/// The record of a run.
pub struct Record {
    start: Instant,
    registers: Vec<Mutex<Vec<Operation>>>,
    last_seen: Vec<AtomicU64>,
    counters: Vec<Mutex<Counter>>,
    inserts: Mutex<Inserts>,
    /// Register and time of each value ever written.
    values: Mutex<Vec<(usize, u64)>>,
    calls: Mutex<Vec<Call>>,
    oddities: Mutex<Vec<String>>,
    acknowledged_writes: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nobody panics while holding one; and if so, what was recorded still counts.
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Record {
    /// An empty one; time starts now.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            registers: (0..REGISTERS).map(|_| Mutex::default()).collect(),
            last_seen: (0..REGISTERS).map(|_| AtomicU64::new(0)).collect(),
            counters: (0..COUNTERS).map(|_| Mutex::default()).collect(),
            inserts: Mutex::default(),
            // Number 0 stands for "absent" in `last_seen`.
            values: Mutex::new(vec![(usize::MAX, u64::MAX)]),
            calls: Mutex::default(),
            oddities: Mutex::default(),
            acknowledged_writes: AtomicU64::new(0),
        }
    }

    /// Since the start, microseconds.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// A value that nobody wrote before, for this register.
    pub fn new_value(&self, key: usize) -> u64 {
        let mut values = lock(&self.values);
        values.push((key, self.now_us()));
        values.len() as u64 - 1
    }

    /// What somebody saw last in a register.
    pub fn last_seen(&self, key: usize) -> Option<u64> {
        Some(self.last_seen[key].load(Ordering::Relaxed)).filter(|value| *value > 0)
    }

    /// Notes an insert before it is sent.
    pub fn inserting(&self, number: u64) {
        lock(&self.inserts).tried.insert(number);
    }

    /// Notes a finished call.
    pub fn call(&self, call: Call) {
        lock(&self.calls).push(call);
    }

    /// Notes something that must not be.
    pub fn odd(&self, what: String) {
        lock(&self.oddities).push(what);
    }

    /// Takes the calls.
    pub fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut lock(&self.calls))
    }

    /// What must not be.
    pub fn oddities(&self) -> Vec<String> {
        lock(&self.oddities).clone()
    }

    /// Acknowledged writes: of registers, counters and new items, each part of a batch by itself.
    pub fn acknowledged_writes(&self) -> u64 {
        self.acknowledged_writes.load(Ordering::Relaxed)
    }

    /// The history of a register.
    pub fn history(&self, key: usize) -> Vec<Operation> {
        lock(&self.registers[key]).clone()
    }

    /// Looks at a counter.
    pub fn with_counter<T>(&self, counter: usize, look: impl FnOnce(&Counter) -> T) -> T {
        look(&lock(&self.counters[counter]))
    }

    /// Looks at the inserted items.
    pub fn with_inserts<T>(&self, look: impl FnOnce(&Inserts) -> T) -> T {
        look(&lock(&self.inserts))
    }

    fn operation(&self, key: usize, called: u64, answered: Option<u64>, action: Action) {
        if answered.is_some() {
            let seen = match action {
                Action::Read(value) | Action::Write(value) | Action::WriteIf { value, .. } => value,
                Action::Refused { found, .. } => found,
            };
            self.last_seen[key].store(seen.unwrap_or(0), Ordering::Relaxed);
            if matches!(action, Action::Write(_) | Action::WriteIf { .. }) {
                self.acknowledged_writes.fetch_add(1, Ordering::Relaxed);
            }
        }
        lock(&self.registers[key]).push(Operation {
            called,
            answered,
            action,
        });
    }

    /// A strong read of a register.
    pub fn read(&self, key: usize, called: u64, value: Value) {
        self.operation(key, called, Some(self.now_us()), Action::Read(value));
    }

    /// An eventual read may be old, but never of what nobody wrote to this register before it was answered.
    fn read_eventually(&self, key: usize, value: Value) {
        let Some(value) = value else { return };
        let written = lock(&self.values).get(value as usize).copied();
        if written.is_none_or(|(register, _)| register != key) {
            self.odd(format!(
                "register {key}: an eventual read gave {value}, which nobody had written there"
            ));
        }
    }

    /// Writes down what a try did, or may have done.
    pub fn judge(&self, request: &Request, answer: &Answer, called: u64) -> Verdict {
        match answer {
            Answer::Said(200, body) => self.done(request, body, called),
            Answer::Said(status, body) => {
                let kind = body["__type"]
                    .as_str()
                    .unwrap_or("")
                    .rsplit('#')
                    .next()
                    .unwrap_or("")
                    .to_owned();
                if kind == "ConditionalCheckFailedException" {
                    return self.refused(request, body, called);
                }
                // ServiceUnavailable and the shedding errors say that nothing was done; a batch may have been done in part.
                let batch = matches!(request, Request::BatchPut { .. });
                let not_done = matches!(
                    kind.as_str(),
                    "ServiceUnavailable"
                        | "ThrottlingException"
                        | "ProvisionedThroughputExceededException"
                );
                if !not_done && *status < 500 {
                    self.odd(format!(
                        "{} was answered {status} {kind}: {body}",
                        request.operation()
                    ));
                }
                if batch || !not_done {
                    self.unknown(request, called);
                }
                Verdict::Again(Left::All, format!("{status} {kind}"))
            }
            Answer::NotSent(why) => Verdict::Again(Left::All, why.clone()),
            Answer::Silence(why) => {
                self.unknown(request, called);
                Verdict::Again(Left::All, why.clone())
            }
        }
    }

    /// A try that may have happened.
    fn unknown(&self, request: &Request, called: u64) {
        match request {
            Request::Put { key, value } => {
                self.operation(*key, called, None, Action::Write(Some(*value)))
            }
            Request::Update {
                key,
                expected,
                value,
            } => {
                let action = Action::WriteIf {
                    expected: *expected,
                    value: Some(*value),
                };
                self.operation(*key, called, None, action);
            }
            Request::Delete { key } => self.operation(*key, called, None, Action::Write(None)),
            Request::Add { counter } => lock(&self.counters[*counter]).unknown += 1,
            Request::BatchPut { puts } => {
                for (key, value) in puts {
                    self.operation(*key, called, None, Action::Write(Some(*value)));
                }
            }
            // Reads do nothing; inserts are in `tried`.
            Request::Get { .. } | Request::BatchGet { .. } | Request::Insert { .. } => {}
        }
    }

    fn refused(&self, request: &Request, body: &Json, called: u64) -> Verdict {
        match request {
            Request::Update { key, expected, .. } => {
                match value_of(&body["Item"]) {
                    Ok(found) => {
                        let action = Action::Refused {
                            expected: *expected,
                            found,
                        };
                        self.operation(*key, called, Some(self.now_us()), action);
                    }
                    Err(why) => self.odd(why),
                }
                Verdict::Done
            }
            // Each number is inserted by one client: an earlier try of its own was successful.
            Request::Insert { number } => {
                self.acknowledge_insert(*number);
                Verdict::Done
            }
            _ => {
                self.odd(format!(
                    "{} without a condition was refused: {body}",
                    request.operation()
                ));
                Verdict::Done
            }
        }
    }

    fn acknowledge_insert(&self, number: u64) {
        lock(&self.inserts).acknowledged.insert(number);
        self.acknowledged_writes.fetch_add(1, Ordering::Relaxed);
    }

    fn done(&self, request: &Request, body: &Json, called: u64) -> Verdict {
        let now = self.now_us();
        match request {
            Request::Get { key, strong } => match value_of(&body["Item"]) {
                Ok(value) if *strong => {
                    self.operation(*key, called, Some(now), Action::Read(value))
                }
                Ok(value) => self.read_eventually(*key, value),
                Err(why) => self.odd(why),
            },
            Request::Put { key, value } => {
                self.operation(*key, called, Some(now), Action::Write(Some(*value)))
            }
            Request::Update {
                key,
                expected,
                value,
            } => {
                let action = Action::WriteIf {
                    expected: *expected,
                    value: Some(*value),
                };
                self.operation(*key, called, Some(now), action);
            }
            Request::Delete { key } => self.operation(*key, called, Some(now), Action::Write(None)),
            Request::Add { counter } => {
                self.acknowledged_writes.fetch_add(1, Ordering::Relaxed);
                let mut counter_ = lock(&self.counters[*counter]);
                counter_.acknowledged += 1;
                let fresh = match value_of(&body["Attributes"]) {
                    Ok(Some(returned)) => counter_.returned.insert(returned),
                    _ => false,
                };
                if !fresh {
                    self.odd(format!(
                        "counter {counter}: two additions returned the same, or nothing: {body}"
                    ));
                }
            }
            Request::Insert { number } => self.acknowledge_insert(*number),
            Request::BatchPut { puts } => return self.batch_put(puts, body, called, now),
            Request::BatchGet { keys } => return self.batch_get(keys, body, called, now),
        }
        Verdict::Done
    }

    fn batch_put(&self, puts: &[(usize, u64)], body: &Json, called: u64, now: u64) -> Verdict {
        let tables = body["UnprocessedItems"].as_object();
        let left: Vec<usize> = tables
            .into_iter()
            .flat_map(|tables| tables.values())
            .flat_map(|writes| writes.as_array().into_iter().flatten())
            .filter_map(|write| register_of(&write["PutRequest"]["Item"]))
            .collect();
        for (key, value) in puts {
            // One that is left over may have been done all the same.
            let answered = (!left.contains(key)).then_some(now);
            self.operation(*key, called, answered, Action::Write(Some(*value)));
        }
        if left.is_empty() {
            Verdict::Done
        } else {
            Verdict::Again(Left::Registers(left), "unprocessed items".to_owned())
        }
    }

    fn batch_get(&self, keys: &[usize], body: &Json, called: u64, now: u64) -> Verdict {
        let tables = body["UnprocessedKeys"].as_object();
        let left: Vec<usize> = tables
            .into_iter()
            .flat_map(|tables| tables.values())
            .flat_map(|table| table["Keys"].as_array().into_iter().flatten())
            .filter_map(register_of)
            .collect();
        let items: Vec<&Json> = body["Responses"]
            .as_object()
            .into_iter()
            .flat_map(|tables| tables.values())
            .flat_map(|items| items.as_array().into_iter().flatten())
            .collect();
        for key in keys.iter().filter(|key| !left.contains(key)) {
            let item = items.iter().find(|item| register_of(item) == Some(*key));
            match value_of(item.copied().unwrap_or(&Json::Null)) {
                Ok(value) => self.operation(*key, called, Some(now), Action::Read(value)),
                Err(why) => self.odd(why),
            }
        }
        if left.is_empty() {
            Verdict::Done
        } else {
            Verdict::Again(Left::Registers(left), "unprocessed keys".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn outcomes_become_histories() {
        let record = Record::new();
        let value = record.new_value(3);
        let put = Request::Put { key: 3, value };
        let shed = Answer::Said(
            400,
            json!({"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException"}),
        );
        assert!(matches!(
            record.judge(&put, &shed, 1),
            Verdict::Again(Left::All, _)
        ));
        assert!(record.history(3).is_empty(), "it was certainly not done");
        let failed = Answer::Said(
            500,
            json!({"__type": "com.amazonaws.dynamodb.v20120810#InternalServerError"}),
        );
        record.judge(&put, &failed, 2);
        assert_eq!(record.history(3)[0].answered, None);
        let found = Answer::Said(
            400,
            json!({"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException", "Item": {"pk": {"S": "register-3"}, "v": {"N": value.to_string()}}}),
        );
        let update = Request::Update {
            key: 3,
            expected: None,
            value: record.new_value(3),
        };
        assert_eq!(record.judge(&update, &found, 3), Verdict::Done);
        assert_eq!(
            record.history(3)[1].action,
            Action::Refused {
                expected: None,
                found: Some(value)
            }
        );
        assert_eq!(record.last_seen(3), Some(value));
        assert!(record.oddities().is_empty());
    }

    #[test]
    fn what_a_batch_leaves_over_is_unknown_and_tried_again() {
        let record = Record::new();
        let puts = vec![(1, record.new_value(1)), (2, record.new_value(2))];
        let body = json!({"UnprocessedItems": {"t": [{"PutRequest": {"Item": {"pk": {"S": "register-2"}}}}]}});
        let verdict = record.judge(&Request::BatchPut { puts }, &Answer::Said(200, body), 1);
        assert!(matches!(verdict, Verdict::Again(Left::Registers(left), _) if left == [2]));
        assert!(record.history(1)[0].answered.is_some());
        assert_eq!(record.history(2)[0].answered, None);
    }

    #[test]
    fn an_eventual_read_of_another_keys_value_is_odd() {
        let record = Record::new();
        let value = record.new_value(1);
        let get = Request::Get {
            key: 2,
            strong: false,
        };
        let body = json!({"Item": {"pk": {"S": "register-2"}, "v": {"N": value.to_string()}}});
        record.judge(&get, &Answer::Said(200, body), 1);
        assert_eq!(record.oddities().len(), 1);
    }
}
