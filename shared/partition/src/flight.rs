//! Writes in flight at the leader: proposed, not yet committed. Later writes to the same key are evaluated against them;
//! answers that rest on them wait for them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use model::KeyRange;
use paxos::Index;
use protocol::item::{ItemFault, ItemReply};
use protocol::transact::TransactionId;

/// Whether an item is a transaction's once a write in flight is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    Free,
    Held(TransactionId),
}

#[derive(Debug)]
pub(crate) struct Flights<C> {
    /// In log order.
    queue: VecDeque<Flight<C>>,
    /// Number of the queue's front; numbers grow by one a flight.
    front: u64,
    /// Newest flight by key.
    newest: BTreeMap<Bytes, u64>,
    bytes: usize,
}

#[derive(Debug)]
struct Flight<C> {
    /// Where it is in the log, once it was proposed.
    index: Option<Index>,
    command: Bytes,
    /// Empty for a command that is not about an item.
    key: Bytes,
    /// Of entries of a global index: the keys of their items' partition.
    source: Option<KeyRange>,
    after: Option<Bytes>,
    lock: Lock,
    /// It ends this transaction at the item.
    finishes: Option<TransactionId>,
    /// None: the one who is answered waits for the next flight.
    caller: Option<C>,
    reply: ItemReply,
    /// Answers that rest on this write.
    waiting: Vec<(C, ItemReply)>,
}

impl<C> Flights<C> {
    pub(crate) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            front: 0,
            newest: BTreeMap::new(),
            bytes: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Number of the oldest write in flight.
    pub(crate) fn front(&self) -> u64 {
        self.front
    }

    /// Number of the next write.
    pub(crate) fn end(&self) -> u64 {
        self.front + self.queue.len() as u64
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The newest write in flight of `key`: its number, whose the item is behind it, and the item it leads to.
    pub(crate) fn newest_locked(&self, key: &[u8]) -> Option<(u64, Lock, &Option<Bytes>)> {
        let number = *self.newest.get(key)?;
        let flight = self.queue.get((number - self.front) as usize)?;
        Some((number, flight.lock, &flight.after))
    }

    /// The item of the flight that was pushed last is this transaction's.
    pub(crate) fn lock_newest(&mut self, id: TransactionId) {
        if let Some(flight) = self.queue.back_mut() {
            flight.lock = Lock::Held(id);
        }
    }

    /// The flight that was pushed last ends this transaction at its item.
    pub(crate) fn finish_newest(&mut self, id: TransactionId) {
        if let Some(flight) = self.queue.back_mut() {
            flight.finishes = Some(id);
        }
    }

    /// Whether the end of a transaction, at this item or (none) at any, is in flight.
    pub(crate) fn finishes(&self, id: TransactionId, key: Option<&[u8]>) -> bool {
        let of = |flight: &&Flight<C>| flight.finishes == Some(id);
        let mut ends = self.queue.iter().filter(of);
        ends.any(|flight| key.is_none_or(|key| flight.key == key))
    }

    /// Adds a command for which nobody waits: the one behind it, of the same proposal, says that it is done.
    pub(crate) fn push_before(&mut self, command: Bytes, key: Bytes, after: Option<Bytes>) {
        let reply = ItemReply::Fault(ItemFault::Unknown);
        self.add(command, key, after, None, reply);
    }

    pub(crate) fn push(
        &mut self,
        command: Bytes,
        key: Bytes,
        after: Option<Bytes>,
        caller: C,
        reply: ItemReply,
    ) {
        self.add(command, key, after, Some(caller), reply);
    }

    fn add(
        &mut self,
        command: Bytes,
        key: Bytes,
        after: Option<Bytes>,
        caller: Option<C>,
        reply: ItemReply,
    ) {
        let number = self.front + self.queue.len() as u64;
        self.bytes += command.len();
        if !key.is_empty() {
            self.newest.insert(key.clone(), number);
        }
        self.queue.push_back(Flight {
            index: None,
            command,
            key,
            source: None,
            after,
            lock: Lock::Free,
            finishes: None,
            caller,
            reply,
            waiting: Vec::new(),
        });
    }

    /// Adds entries of a global index, which come from this source.
    pub(crate) fn push_from(
        &mut self,
        source: Option<KeyRange>,
        command: Bytes,
        caller: C,
        reply: ItemReply,
    ) {
        self.push(command, Bytes::new(), None, caller, reply);
        if let Some(flight) = self.queue.back_mut() {
            flight.source = source;
        }
    }

    /// Whether entries are in flight that come from a source that overlaps this one.
    pub(crate) fn has_source(&self, source: &KeyRange) -> bool {
        let mut sources = self.queue.iter().filter_map(|f| f.source.as_ref());
        sources.any(|other| other.overlaps(source))
    }

    /// Holds an answer back until flight `number` is applied.
    pub(crate) fn wait(&mut self, number: u64, caller: C, reply: ItemReply) {
        if let Some(flight) = self.queue.get_mut((number - self.front) as usize) {
            flight.waiting.push((caller, reply));
        }
    }

    /// Gives consecutive log positions from `first` to the flights that have none.
    pub(crate) fn assign(&mut self, first: Index) {
        let unassigned = self
            .queue
            .iter()
            .rev()
            .take_while(|flight| flight.index.is_none())
            .count();
        let start = self.queue.len() - unassigned;
        for (flight, index) in self.queue.range_mut(start..).zip(first..) {
            flight.index = Some(index);
        }
    }

    /// Whether the oldest flight is what was committed at `index`. An error: that position, or an earlier one, holds something
    /// else, so the flights are lost.
    pub(crate) fn matches(&self, index: Index, command: Option<&Bytes>) -> Result<bool, ()> {
        let Some(flight) = self.queue.front() else {
            return Ok(false);
        };
        match flight.index {
            Some(position) if position == index && Some(&flight.command) == command => Ok(true),
            Some(position) if position <= index => Err(()),
            _ => Ok(false),
        }
    }

    /// Takes the oldest flight, now committed, and answers all that rests on it.
    pub(crate) fn land(&mut self, answers: &mut Vec<(C, ItemReply)>) {
        let Some(flight) = self.queue.pop_front() else {
            return;
        };
        if self.newest.get(&flight.key) == Some(&self.front) {
            self.newest.remove(&flight.key);
        }
        self.front += 1;
        self.bytes -= flight.command.len();
        answers.extend(flight.caller.map(|caller| (caller, flight.reply)));
        answers.extend(flight.waiting);
    }

    /// Drops everything: nobody knows what became of the writes.
    pub(crate) fn lose(&mut self, answers: &mut Vec<(C, ItemReply)>) {
        self.newest.clear();
        self.bytes = 0;
        self.front += self.queue.len() as u64;
        for flight in self.queue.drain(..) {
            // A write without a log position was never proposed.
            let fault = if flight.index.is_some() {
                ItemFault::Unknown
            } else {
                ItemFault::NotReady
            };
            let caller = flight.caller;
            answers.extend(caller.map(|caller| (caller, ItemReply::Fault(fault))));
            // These wrote nothing, they only learnt something that may not come true.
            let not_done = |(caller, _)| (caller, ItemReply::Fault(ItemFault::NotReady));
            answers.extend(flight.waiting.into_iter().map(not_done));
        }
    }

    /// Drops the flights that have no log position: their proposal was refused.
    pub(crate) fn refuse(&mut self, fault: &ItemFault, answers: &mut Vec<(C, ItemReply)>) {
        while self
            .queue
            .back()
            .is_some_and(|flight| flight.index.is_none())
        {
            let Some(flight) = self.queue.pop_back() else {
                break;
            };
            self.bytes -= flight.command.len();
            let callers = flight
                .waiting
                .into_iter()
                .map(|(caller, _)| caller)
                .chain(flight.caller);
            answers.extend(callers.map(|caller| (caller, ItemReply::Fault(fault.clone()))));
        }
        // Refusals are rare: rebuild what the dropped flights hid.
        self.newest.clear();
        for (number, flight) in (self.front..).zip(&self.queue) {
            if !flight.key.is_empty() {
                self.newest.insert(flight.key.clone(), number);
            }
        }
    }
}
