//! What a block of records certainly has nothing of: a Bloom filter over the names by which records are looked for. Pure.

/// What a record is looked for by.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Name {
    /// A trace.
    Trace(u128),
    /// A message of lookups.
    Message(u64),
    /// An entry of a replication group's log: group, index.
    Entry(u64, u64),
}

const WORDS: usize = 256;
const BITS: u64 = WORDS as u64 * 64;
/// Bits a name sets.
const PROBES: u32 = 3;
/// A record that names more entries than this matches everything: they are few, and filling the filter helps nobody.
const ENTRIES_MAX: u64 = 64;

/// Names of a block's records. Says now and then that a name may be there which is not, never the opposite.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    words: Box<[u64; WORDS]>,
    takes_all: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            words: Box::new([0; WORDS]),
            takes_all: false,
        }
    }
}

impl Filter {
    /// A record has this name.
    pub(crate) fn add(&mut self, name: Name) {
        for bit in bits(name) {
            self.words[(bit / 64) as usize] |= 1 << (bit % 64);
        }
    }

    /// A record has the names of these entries.
    pub(crate) fn add_entries(&mut self, group: u64, first: u64, last: u64) {
        if last.saturating_sub(first) >= ENTRIES_MAX {
            self.takes_all = true;
            return;
        }
        (first..=last).for_each(|index| self.add(Name::Entry(group, index)));
    }

    /// False: no record has this name.
    pub(crate) fn may_have(&self, name: Name) -> bool {
        let is_set = |bit: u64| self.words[(bit / 64) as usize] >> (bit % 64) & 1 == 1;
        self.takes_all || bits(name).all(is_set)
    }
}

fn bits(name: Name) -> impl Iterator<Item = u64> {
    let (one, other) = match name {
        Name::Trace(id) => (id as u64, (id >> 64) as u64),
        Name::Message(number) => (number, 1),
        Name::Entry(group, index) => (index, group.rotate_left(32)),
    };
    let mixed = mixed(mixed(one) ^ other);
    (0..PROBES).map(move |probe| mixed >> (probe * 20) & (BITS - 1))
}

/// Spreads a number over 64 bits (the finalizer of SplitMix64: Steele, Lea, Flood, OOPSLA 2014).
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ number >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ number >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_found_and_little_else() {
        let mut filter = Filter::default();
        for number in 0..200_u64 {
            filter.add(Name::Trace(
                u128::from(mixed(number)) << 64 | u128::from(number),
            ));
            filter.add(Name::Message(number));
            filter.add_entries(7, number * 3, number * 3 + 2);
        }
        for number in 0..200 {
            let trace = u128::from(mixed(number)) << 64 | u128::from(number);
            assert!(filter.may_have(Name::Trace(trace)));
            assert!(filter.may_have(Name::Message(number)));
        }
        assert!((0..600).all(|index| filter.may_have(Name::Entry(7, index))));
        let wrong = (0..10_000).filter(|&index| filter.may_have(Name::Entry(8, index)));
        assert!(wrong.count() < 200, "too many false alarms");
    }

    #[test]
    fn a_record_of_very_many_entries_matches_everything() {
        let mut filter = Filter::default();
        assert!(!filter.may_have(Name::Entry(1, 5)));
        filter.add_entries(1, 0, ENTRIES_MAX);
        assert!(filter.may_have(Name::Entry(1, 5)) && filter.may_have(Name::Trace(9)));
    }
}
