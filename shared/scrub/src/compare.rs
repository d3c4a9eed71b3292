//! Where two digests part: first by buckets, then key by key.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{EncodedKey, KeyRange};
use protocol::scrub::{Bucket, KeyDigest};

/// The smallest key above this one.
fn behind(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

/// Ranges of keys, within `whole`, in which the two differ: few and wide where bucket boundaries differ, else a bucket each. Neighbours are joined.
pub fn differences(whole: &KeyRange, one: &[Bucket], other: &[Bucket]) -> Vec<KeyRange> {
    let mut found: Vec<KeyRange> = Vec::new();
    let mut start = whole.start.clone();
    let mut add = |from: &Bytes, to: Bytes| match found.last_mut() {
        Some(last) if last.end == *from => last.end = to,
        _ => found.push(KeyRange {
            start: from.clone(),
            end: to,
        }),
    };
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    // Since the last common boundary, the two were not bucket for bucket the same.
    let mut parted = false;
    loop {
        let (a, b) = match (one.peek(), other.peek()) {
            (Some(a), Some(b)) => (*a, *b),
            (None, None) if !parted => return found,
            _ => {
                add(&start, whole.end.clone());
                return found;
            }
        };
        match a.last.cmp(&b.last) {
            std::cmp::Ordering::Less => {
                parted = true;
                one.next();
            }
            std::cmp::Ordering::Greater => {
                parted = true;
                other.next();
            }
            std::cmp::Ordering::Equal => {
                let end = behind(&a.last);
                if parted || a.digest != b.digest || a.items != b.items {
                    add(&start, end.clone());
                }
                parted = false;
                start = end;
                one.next();
                other.next();
            }
        }
    }
}

/// How an item differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its key.
    pub key: EncodedKey,
    /// Its digest in the first listing; none: it is not there.
    pub one: Option<Bytes>,
    /// In the second.
    pub other: Option<Bytes>,
}

/// The items in which two listings of the same range differ, in key order.
pub fn differing_keys(one: &[KeyDigest], other: &[KeyDigest]) -> Vec<Difference> {
    let mut both: BTreeMap<&EncodedKey, (Option<&Bytes>, Option<&Bytes>)> = BTreeMap::new();
    for item in one {
        both.entry(&item.key).or_default().0 = Some(&item.digest);
    }
    for item in other {
        both.entry(&item.key).or_default().1 = Some(&item.digest);
    }
    let unequal = both.into_iter().filter(|(_, (one, other))| one != other);
    unequal
        .map(|(key, (one, other))| Difference {
            key: key.clone(),
            one: one.cloned(),
            other: other.cloned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Digester;

    type Items = BTreeMap<u32, u8>;

    fn key(number: u32) -> Bytes {
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    fn buckets(items: &Items) -> Vec<Bucket> {
        let mut digester = Digester::default();
        for (number, value) in items {
            assert!(digester.add(&key(*number), &[*value]));
        }
        digester.finish()
    }

    fn whole() -> KeyRange {
        KeyRange::default()
    }

    #[derive(Clone, Debug)]
    enum Change {
        Set(u32, u8),
        Remove(u32),
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let change = prop_oneof![
            (0..20_000_u32, any::<u8>()).prop_map(|(key, value)| Change::Set(key, value)),
            (0..20_000_u32).prop_map(Change::Remove),
        ];
        prop::collection::vec(change, 0..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Every item that differs lies in a named range, and where nothing differs nothing is named.
        #[test]
        fn every_difference_lies_in_a_range(step in 1..5_usize, changes in changes()) {
            let one: Items = (0..20_000).step_by(step).map(|number| (number, 7)).collect();
            let mut other = one.clone();
            for change in changes {
                match change {
                    Change::Set(key, value) => drop(other.insert(key, value)),
                    Change::Remove(key) => drop(other.remove(&key)),
                }
            }
            let ranges = differences(&whole(), &buckets(&one), &buckets(&other));
            let all: std::collections::BTreeSet<u32> = one.keys().chain(other.keys()).copied().collect();
            let unequal: Vec<u32> = all.into_iter().filter(|k| one.get(k) != other.get(k)).collect();
            for number in &unequal {
                prop_assert!(ranges.iter().any(|range| range.contains(&key(*number))), "{number}");
            }
            prop_assert_eq!(unequal.is_empty(), ranges.is_empty());
            // Joined and in order; a difference costs a few buckets, not the partition.
            prop_assert!(ranges.windows(2).all(|two| two[0].end < two[1].start));
            prop_assert!(ranges.len() <= unequal.len());
        }
    }

    #[test]
    fn an_empty_replica_differs_everywhere() {
        let some: Items = (0..5).map(|number| (number, 1)).collect();
        let ranges = differences(&whole(), &buckets(&some), &[]);
        assert_eq!(ranges, [whole()]);
        assert_eq!(differences(&whole(), &[], &[]), []);
    }

    #[test]
    fn a_lost_item_moves_one_boundary_only() {
        let one: Items = (0..50_000).map(|number| (number, 1)).collect();
        let mut other = one.clone();
        other.remove(&20_000);
        let ranges = differences(&whole(), &buckets(&one), &buckets(&other));
        let [range] = &ranges[..] else {
            panic!("{ranges:?}")
        };
        let within = (0..50_000).filter(|number| range.contains(&key(*number)));
        assert!(within.count() < 20_000);
    }

    #[test]
    fn keys_are_named_on_whichever_side_they_are() {
        let item = |number: u32, digest: &'static [u8]| KeyDigest {
            key: key(number),
            digest: Bytes::from_static(digest),
        };
        let found = differing_keys(
            &[item(1, b"a"), item(2, b"b"), item(4, b"d")],
            &[item(1, b"a"), item(2, b"x"), item(3, b"c")],
        );
        let keys: Vec<Bytes> = found.iter().map(|d| d.key.clone()).collect();
        assert_eq!(keys, [key(2), key(3), key(4)]);
        assert_eq!((found[1].one.clone(), found[2].other.clone()), (None, None));
    }
}
