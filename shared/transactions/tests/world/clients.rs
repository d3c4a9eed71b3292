//! Clients: transactions, single writes and reads, and transactional reads, which go in two rounds.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::item::{ItemOperation, ItemReply};
use protocol::transact::{Transact, TransactionId, TransactionRef};
use transactions::Coordinator;

use super::coordinators::Course;
use super::items::{append, get, item_name, list_of};
use super::{ITEMS, Purpose, World};
use crate::history::Operation;

pub(super) struct Gathering {
    pub(super) items: Vec<String>,
    pub(super) seen: BTreeMap<usize, (Vec<u64>, u64)>,
    pub(super) valid: usize,
}

impl World {
    pub(super) fn some_items(&mut self) -> Vec<String> {
        let count = 1 + self.rng.below(3);
        let mut items: Vec<String> = (0..count)
            .map(|_| item_name(self.rng.below(ITEMS as u64)))
            .collect();
        items.sort();
        items.dedup();
        items
    }

    pub(super) fn begin_operation(&mut self) {
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
                    commit_ms: 0,
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

    pub(super) fn gathered(
        &mut self,
        number: u64,
        second: bool,
        place: usize,
        reply: Option<&ItemReply>,
    ) {
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
}
