//! What a round makes of complete digests: who is equal to whom, where they part, and the words for it. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::KeyRange;
use protocol::scrub::KeyDigest;

use super::Whole;
use crate::evidence::{Key, escaped};

/// Keys that are named in a sentence; the evidence has more.
const KEYS_IN_WORDS: usize = 5;

/// For each copy the number of the first one that is equal to it.
pub(super) fn classes(copies: &[&Whole]) -> Vec<usize> {
    let class = |whole: &&Whole| copies.iter().position(|other| other == whole);
    // Each is equal to itself.
    copies.iter().filter_map(class).collect()
}

/// Where any of them differs from the first. None: in what they say of themselves only.
pub(super) fn ranges(copies: &[&Whole]) -> Vec<KeyRange> {
    let Some((first, others)) = copies.split_first() else {
        return Vec::new();
    };
    let mut all: Vec<KeyRange> = others
        .iter()
        .flat_map(|other| scrub::differences(&first.head.range, &first.buckets, &other.buckets))
        .collect();
    all.sort_by(|one, other| one.start.cmp(&other.start));
    let mut joined: Vec<KeyRange> = Vec::new();
    for range in all {
        match joined.last_mut() {
            Some(last) if last.end.is_empty() || range.start <= last.end => {
                if !last.end.is_empty() && (range.end.is_empty() || range.end > last.end) {
                    last.end = range.end;
                }
            }
            _ => joined.push(range),
        }
    }
    joined
}

/// The items of one range in which the copies differ, with what each copy has.
pub(super) fn keys(listings: &[Vec<KeyDigest>]) -> Vec<Key> {
    let mut all: BTreeMap<&Bytes, Vec<Option<&Bytes>>> = BTreeMap::new();
    for (number, listing) in listings.iter().enumerate() {
        for item in listing {
            let of = all
                .entry(&item.key)
                .or_insert_with(|| vec![None; listings.len()]);
            of[number] = Some(&item.digest);
        }
    }
    all.into_iter()
        .filter(|(_, digests)| digests.windows(2).any(|two| two[0] != two[1]))
        .map(|(key, digests)| Key {
            key: escaped(key),
            digests: digests.into_iter().map(|d| d.map(hex::encode)).collect(),
        })
        .collect()
}

/// What was found, for the operator: who, and where; never what the items hold.
pub(super) fn words(
    names: &[String],
    wrong: &[usize],
    ranges: &[KeyRange],
    keys: &[Key],
    more_keys: bool,
    copies: &[&Whole],
) -> String {
    let of = |wanted: bool| {
        let named = names.iter().enumerate();
        let named = named.filter(|(number, _)| wrong.contains(number) == wanted);
        named.map(|(_, name)| name.clone()).collect::<Vec<_>>()
    };
    let who = match wrong.is_empty() {
        true => format!("{} differ from each other", of(false).join(", ")),
        false => format!(
            "{} differs from {}",
            of(true).join(", "),
            of(false).join(", ")
        ),
    };
    let place = match (ranges.first(), ranges.last()) {
        (Some(first), Some(last)) => {
            let count = match more_keys {
                true => format!("more than {}", keys.len()),
                false => keys.len().to_string(),
            };
            let named: Vec<&str> = keys
                .iter()
                .take(KEYS_IN_WORDS)
                .map(|k| &k.key[..])
                .collect();
            format!(
                "{count} items between '{}' and '{}': {}",
                escaped(&first.start),
                escaped(&last.end),
                named.join(", ")
            )
        }
        _ => {
            let heads: Vec<String> = names
                .iter()
                .zip(copies)
                .map(|(name, copy)| {
                    let head = &copy.head;
                    format!(
                        "{name}: {} items, {} bytes, table version {}, generation {}",
                        head.items, head.bytes, head.table_version, head.generation
                    )
                })
                .collect();
            format!("what they count ({})", heads.join("; "))
        }
    };
    format!("{who} in {place}")
}

#[cfg(test)]
mod tests {
    use protocol::scrub::Head;
    use scrub::Digester;

    use super::*;

    fn whole(items: &[(&'static str, &str)]) -> Whole {
        let mut digester = Digester::default();
        for (key, item) in items {
            assert!(digester.add(&Bytes::from_static(key.as_bytes()), item.as_bytes()));
        }
        Whole {
            head: Head {
                index: 7,
                time_ms: 1,
                table: "u".into(),
                table_id: 2,
                table_version: 1,
                generation: 1,
                range: KeyRange::default(),
                items: items.len() as u64,
                entries: 0,
                bytes: 1,
                splits_into: None,
            },
            buckets: digester.finish(),
        }
    }

    fn listing(items: &[(&'static str, &str)]) -> Vec<KeyDigest> {
        items
            .iter()
            .map(|(key, item)| KeyDigest {
                key: Bytes::from_static(key.as_bytes()),
                digest: scrub::key_digest(item.as_bytes()),
            })
            .collect()
    }

    #[test]
    fn the_one_that_differs_is_named_with_its_keys_and_no_values() {
        let (good, bad) = ([("a", "1"), ("b", "2")], [("a", "1"), ("b", "SECRET")]);
        let wholes = [whole(&good), whole(&bad), whole(&good)];
        let copies: Vec<&Whole> = wholes.iter().collect();
        let classes = classes(&copies);
        assert_eq!(classes, [0, 1, 0]);
        let ranges = ranges(&copies);
        assert_eq!(ranges.len(), 1);
        let keys = keys(&[listing(&good), listing(&bad), listing(&good)]);
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0].key, "b");
        assert_eq!(keys[0].digests[0], keys[0].digests[2]);
        assert_ne!(keys[0].digests[0], keys[0].digests[1]);
        let names = ["node 1", "node 2", "node 3"].map(String::from);
        let words = words(&names, &[1], &ranges, &keys, false, &copies);
        assert!(
            words.starts_with("node 2 differs from node 1, node 3 in 1 items between '' and "),
            "{words}"
        );
        assert!(!words.contains("SECRET"));
    }

    #[test]
    fn counts_that_differ_are_a_difference_without_a_place() {
        let (one, mut other) = (whole(&[("a", "1")]), whole(&[("a", "1")]));
        other.head.items = 2;
        let copies = [&one, &other];
        assert_eq!(classes(&copies), [0, 1]);
        assert_eq!(ranges(&copies), []);
        let names = ["node 1", "node 2"].map(String::from);
        let words = words(&names, &[], &[], &[], false, &copies);
        assert!(words.contains("node 2: 2 items"), "{words}");
    }

    #[test]
    fn ranges_of_several_copies_are_joined() {
        let all: Vec<(&'static str, &str)> = vec![("a", "1"), ("c", "1"), ("e", "1")];
        let lacks: Vec<(&'static str, &str)> = vec![("a", "1"), ("c", "1")];
        let wholes = [whole(&all), whole(&lacks), whole(&[])];
        let ranges = ranges(&wholes.iter().collect::<Vec<_>>());
        assert_eq!(ranges, [KeyRange::default()]);
    }
}
