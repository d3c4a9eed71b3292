//! Coordinators at work, which may die after any step, the ledger that they write to, and the watch that has what they left recovered.

use bytes::Bytes;
use protocol::item::ItemOperation;
use protocol::transact::{Settle, Transact, TransactionId, TransactionRef};
use transactions::{Action, Coordinator, Input, State, Verdict};

use super::items::append;
use super::{Answer, Event, PATIENCE_MS, Purpose, STALLED_MS, World};

/// A coordinator at work.
pub(super) struct Course {
    pub(super) course: Coordinator,
    pub(super) transaction: TransactionRef,
    pub(super) items: Vec<String>,
    /// Of the client's transaction; none for a recovery.
    pub(super) client: Option<u64>,
    /// When it counts, as far as is known.
    pub(super) commit_ms: u64,
}

pub(super) struct Open {
    pub(super) state: State,
    pub(super) id: TransactionId,
    pub(super) items: Vec<String>,
    pub(super) commit_ms: u64,
}

impl World {
    pub(super) fn carry_out(&mut self, number: u64, actions: Vec<Action>) {
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
            let commit_ms = course.commit_ms;
            match action {
                Action::Record => {
                    let open = Open {
                        state: State::Open,
                        id: transaction.id,
                        items,
                        commit_ms: 0,
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
                        commit_ms: if commits { commit_ms } else { 0 },
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
                                commit_ms,
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

    pub(super) fn verdict(&mut self, number: u64, verdict: Verdict) {
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

    pub(super) fn step(&mut self, number: u64, input: Input) -> Vec<Action> {
        match self.courses.get_mut(&number) {
            Some(course) => course.course.step(input),
            None => Vec::new(),
        }
    }

    /// What the ledger does: conditional writes, atomic.
    pub(super) fn write_ledger(
        &mut self,
        call: u64,
        transaction: &TransactionRef,
        (action, commit_ms): (Action, u64),
    ) {
        let (record, id) = (transaction.record.clone(), transaction.id);
        let found = self.ledger.get_mut(&record).filter(|open| open.id == id);
        let decided = match (action, found) {
            (Action::Decide, Some(open)) => {
                let may = matches!(open.state, State::Open | State::Committed);
                if may {
                    (open.state, open.commit_ms) = (State::Committed, commit_ms);
                }
                may.then_some(open.commit_ms)
            }
            (Action::Withdraw, Some(open)) => {
                if open.state == State::Open {
                    open.state = State::Cancelled;
                }
                let stands = matches!(open.state, State::Committed | State::Done);
                stands.then_some(open.commit_ms)
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
            _ => None,
        };
        if let Some(delay) = self.delay() {
            self.at(delay, Event::Answer(call, Answer::Decided(decided)));
        }
    }

    /// Leaders report what has been pending for long, and somebody recovers it.
    pub(super) fn watch(&mut self) {
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
                    commit_ms: 0,
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
            let (items, commit_ms) = (open.items.clone(), open.commit_ms);
            self.recovering.insert(transaction.id, self.now);
            let (course, actions) = Coordinator::recover(items.len(), decided);
            let number = self.fresh();
            let client = None;
            let course = Course {
                course,
                transaction,
                items,
                client,
                commit_ms,
            };
            self.courses.insert(number, course);
            self.carry_out(number, actions);
        }
    }
}
