//! What the driver knows of each item, so that every read can be verified: a few bits an item, whatever the number of requests. Pure
//! (state in, state out); the tables of them are only shared.
//!
//! A write that is acknowledged while no other write of the item was under way is a *floor*: no later strong read may return an older
//! version. Writes that overlapped could have been done in either order, and one whose outcome is unknown may still be done at any time,
//! so these set no floor. An older floor stays true: every version that could be there since is newer.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

const VERSION_BITS: u32 = 24;
const VERSION_MAX: u64 = (1 << VERSION_BITS) - 1;
const UNDER_WAY_BITS: u32 = 12;
const UNDER_WAY_MAX: u64 = (1 << UNDER_WAY_BITS) - 1;

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Acknowledged.
    Done,
    /// Certainly not done.
    NotDone,
    /// Nobody knows, now or later.
    Unknown,
}

/// What is known of one item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// Newest version that was sent; 0 = none yet.
    pub sent: u64,
    /// No strong read may return an older one.
    pub floor: u64,
    under_way: u64,
    /// The writes under way overlapped others.
    mixed: bool,
    /// A write may still be done at any time.
    tainted: bool,
    /// It is certainly there.
    pub present: bool,
}

impl Item {
    fn from_bits(bits: u64) -> Self {
        let flag = |at: u32| bits >> at & 1 == 1;
        Self {
            sent: bits & VERSION_MAX,
            floor: bits >> VERSION_BITS & VERSION_MAX,
            under_way: bits >> (2 * VERSION_BITS) & UNDER_WAY_MAX,
            mixed: flag(60),
            tainted: flag(61),
            present: flag(62),
        }
    }

    fn bits(self) -> u64 {
        self.sent
            | self.floor << VERSION_BITS
            | self.under_way << (2 * VERSION_BITS)
            | u64::from(self.mixed) << 60
            | u64::from(self.tainted) << 61
            | u64::from(self.present) << 62
    }

    /// A write is sent, with version `sent` of what is returned. Beyond what can be counted nothing new is claimed.
    fn begin(mut self) -> Self {
        let countable = self.sent < VERSION_MAX && self.under_way < UNDER_WAY_MAX;
        self.tainted |= !countable;
        self.mixed |= self.under_way > 0;
        self.sent = (self.sent + 1).min(VERSION_MAX);
        self.under_way = (self.under_way + 1).min(UNDER_WAY_MAX);
        self
    }

    /// The write of this version ended.
    fn end(mut self, version: u64, ended: Ended) -> Self {
        match ended {
            Ended::Done => {
                self.present = true;
                if !self.mixed && !self.tainted {
                    self.floor = version;
                }
            }
            Ended::NotDone => {}
            Ended::Unknown => self.tainted = true,
        }
        self.under_way = self.under_way.saturating_sub(1);
        self.mixed &= self.under_way > 0;
        self
    }
}

/// What came back of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// No item.
    Absent,
    /// A version that this run wrote.
    Version(u64),
    /// What an earlier run wrote.
    Earlier,
}

/// Whether a read that returned `seen` can be true: `before` is what was known when it was sent, `after` when its answer was there.
pub fn verify(strong: bool, before: Item, after: Item, seen: Seen) -> Result<(), String> {
    match seen {
        Seen::Absent if strong && before.present => {
            Err("an item that is there was not found".into())
        }
        Seen::Absent => Ok(()),
        Seen::Earlier if strong && before.floor > 0 => Err(format!(
            "stale: the value of an earlier run, though version {} was acknowledged before",
            before.floor
        )),
        Seen::Earlier => Ok(()),
        Seen::Version(version) if version > after.sent => Err(format!(
            "version {version}, but only {} were written",
            after.sent
        )),
        Seen::Version(version) if strong && version < before.floor => Err(format!(
            "stale: version {version}, though version {} was acknowledged before",
            before.floor
        )),
        Seen::Version(_) => Ok(()),
    }
}

/// What is known of a table's items. Eight bytes an item, made at the start.
pub struct Table {
    items: Vec<AtomicU64>,
    inserts: Mutex<Inserts>,
}

/// Which inserts are done, so that nobody reads what is not there yet.
#[derive(Debug)]
struct Inserts {
    next: u64,
    /// All below were tried, to the end.
    tried: u64,
    /// Above that; at most as many as are under way.
    ahead: BTreeSet<u64>,
}

impl Table {
    /// A table with `items` items that are loaded, and room for `inserts` more.
    pub fn new(items: u64, inserts: u64) -> Self {
        let loaded = Item {
            present: true,
            ..Item::default()
        };
        let state = |n| AtomicU64::new(if n < items { loaded.bits() } else { 0 });
        Self {
            items: (0..items + inserts).map(state).collect(),
            inserts: Mutex::new(Inserts {
                next: items,
                tried: items,
                ahead: BTreeSet::new(),
            }),
        }
    }

    fn slot(&self, item: u64) -> &AtomicU64 {
        &self.items[item as usize % self.items.len()]
    }

    /// What is known of an item.
    pub fn item(&self, item: u64) -> Item {
        Item::from_bits(self.slot(item).load(Ordering::Acquire))
    }

    fn change(&self, item: u64, change: impl Fn(Item) -> Item) -> Item {
        let slot = self.slot(item);
        let mut bits = slot.load(Ordering::Acquire);
        loop {
            let new = change(Item::from_bits(bits));
            match slot.compare_exchange_weak(bits, new.bits(), Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return new,
                Err(current) => bits = current,
            }
        }
    }

    /// A write of `item` is about to be sent: the version that it must carry.
    pub fn begin(&self, item: u64) -> u64 {
        self.change(item, Item::begin).sent
    }

    /// The write ended.
    pub fn end(&self, item: u64, version: u64, ended: Ended) {
        self.change(item, |known| known.end(version, ended));
    }

    /// The number of a new item; none when there is no room for more.
    pub fn insert(&self) -> Option<u64> {
        let mut inserts = self.inserts.lock();
        let number = inserts.next;
        (number < self.items.len() as u64).then(|| {
            inserts.next += 1;
            number
        })
    }

    /// The insert was tried to its end; if it was done says `end`.
    pub fn inserted(&self, item: u64) {
        let inserts = &mut *self.inserts.lock();
        inserts.ahead.insert(item);
        while inserts.ahead.remove(&inserts.tried) {
            inserts.tried += 1;
        }
    }

    /// Items that were loaded or whose inserts ended.
    pub fn there(&self) -> u64 {
        self.inserts.lock().tried
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_lone_acknowledged_write_is_a_floor() {
        let table = Table::new(10, 0);
        let version = table.begin(3);
        table.end(3, version, Ended::Done);
        let known = table.item(3);
        assert_eq!((known.sent, known.floor), (1, 1));
        assert!(verify(true, known, known, Seen::Version(1)).is_ok());
        assert!(verify(true, known, known, Seen::Version(0)).is_err());
        assert!(verify(false, known, known, Seen::Version(0)).is_ok());
        assert!(verify(false, known, known, Seen::Version(2)).is_err());
        assert!(verify(true, known, known, Seen::Earlier).is_err());
        assert!(verify(true, known, known, Seen::Absent).is_err());
        assert!(verify(false, known, known, Seen::Absent).is_ok());
    }

    #[test]
    fn overlapping_and_unknown_writes_are_none() {
        let table = Table::new(1, 0);
        let (one, two) = (table.begin(0), table.begin(0));
        table.end(0, two, Ended::Done);
        table.end(0, one, Ended::Done);
        assert_eq!(table.item(0).floor, 0, "either may have been the last");
        let three = table.begin(0);
        table.end(0, three, Ended::Done);
        assert_eq!(table.item(0).floor, 3);
        let four = table.begin(0);
        table.end(0, four, Ended::Unknown);
        let five = table.begin(0);
        table.end(0, five, Ended::Done);
        assert_eq!(table.item(0).floor, 3, "the fourth may come any time");
    }

    #[test]
    fn inserts_are_there_once_all_before_them_ended() {
        let table = Table::new(5, 3);
        let numbers: Vec<u64> = std::iter::from_fn(|| table.insert()).collect();
        assert_eq!(numbers, [5, 6, 7]);
        assert!(!table.item(5).present && table.item(4).present);
        table.inserted(6);
        assert_eq!(table.there(), 5);
        table.inserted(5);
        assert_eq!(table.there(), 7);
    }

    #[test]
    fn states_survive_packing() {
        let item = Item {
            sent: VERSION_MAX,
            floor: 12_345,
            under_way: UNDER_WAY_MAX,
            mixed: true,
            tainted: false,
            present: true,
        };
        assert_eq!(Item::from_bits(item.bits()), item);
        let full = item.begin();
        assert!(full.tainted && full.sent == VERSION_MAX);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Send,
        /// The write at this place of those under way is done by the store now, if it was not before.
        Take(usize),
        /// Its answer arrives.
        Answer(usize, bool),
        Read,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Send),
            (0_usize..4).prop_map(Step::Take),
            (0_usize..4, prop::bool::weighted(0.9)).prop_map(|(n, known)| Step::Answer(n, known)),
            Just(Step::Read),
        ]
    }

    proptest! {
        /// Against a correct store, whatever the interleaving, no read is called wrong.
        #[test]
        fn a_correct_store_is_never_accused(steps in prop::collection::vec(step(), 0..200)) {
            let table = Table::new(1, 0);
            let mut stored = Seen::Earlier;
            // Version, done by the store; those whose answer got lost stay in `late`.
            let mut under_way: Vec<(u64, bool)> = Vec::new();
            let mut late: Vec<u64> = Vec::new();
            for step in steps {
                match step {
                    Step::Send if under_way.len() < 4 => under_way.push((table.begin(0), false)),
                    Step::Send => {}
                    Step::Take(at) => {
                        if let Some((version, done)) = under_way.get_mut(at).filter(|(_, done)| !done) {
                            stored = Seen::Version(*version);
                            *done = true;
                        } else if let Some(version) = late.pop() {
                            stored = Seen::Version(version);
                        }
                    }
                    Step::Answer(at, known) if at < under_way.len() => {
                        let (version, done) = under_way.remove(at);
                        let ended = match (known, done) {
                            (false, _) => Ended::Unknown,
                            (true, true) => Ended::Done,
                            (true, false) => Ended::NotDone,
                        };
                        if ended == Ended::Unknown && !done {
                            late.push(version);
                        }
                        table.end(0, version, ended);
                    }
                    Step::Answer(..) => {}
                    Step::Read => {
                        let known = table.item(0);
                        prop_assert_eq!(verify(true, known, known, stored), Ok(()));
                    }
                }
            }
        }
    }
}
