//! Two trees find what differs by messages, and it costs what the difference costs.

use std::collections::BTreeSet;

use bytes::Bytes;
use perkle::{Answer, Comparison, Part, PartAnswer, Perkle, Question, Stamp};
use proptest::prelude::*;

/// Compares `mine` with `theirs`; gives the comparison and the number of exchanges.
fn compare(
    mine: &Perkle,
    theirs: &Perkle,
    parts_max: usize,
    items_max: usize,
) -> (Comparison, usize) {
    let mut comparison = Comparison::new(1_000_000);
    let mut exchanges = 0;
    while let Some(question) = comparison.question(mine, parts_max) {
        exchanges += 1;
        assert!(exchanges < 100_000, "it ends");
        let answer = theirs.answer(&question, items_max);
        comparison.learn(mine, &question, &answer);
    }
    (comparison, exchanges)
}

fn tree(entries: &[(Vec<u8>, u8)]) -> Perkle {
    let mut tree = Perkle::new();
    for (key, version) in entries {
        tree.update(key, &[*version], &[]).unwrap();
    }
    tree
}

fn newer_in(a: &Perkle, b: &Perkle) -> BTreeSet<Vec<u8>> {
    a.iter()
        .filter(|e| b.get(e.key).is_none_or(|other| other.version < e.version))
        .map(|e| e.key.to_vec())
        .collect()
}

fn set(keys: &[Bytes]) -> BTreeSet<Vec<u8>> {
    let set: BTreeSet<_> = keys.iter().map(|k| k.to_vec()).collect();
    assert_eq!(set.len(), keys.len(), "nothing is found twice");
    set
}

fn entries() -> impl Strategy<Value = Vec<(Vec<u8>, u8)>> {
    let key = prop_oneof![
        prop::collection::vec(prop::sample::select(vec![0u8, 1, 255]), 0..10),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec((key, 0..3u8), 0..400)
}

proptest! {
    #[test]
    fn finds_exactly_what_differs(
        common in entries(), only_mine in entries(), only_theirs in entries(),
        parts_max in 1..40usize, items_max in 1..2_000usize,
    ) {
        let mine = tree(&[common.clone(), only_mine].concat());
        let theirs = tree(&[common, only_theirs].concat());
        let (found, _) = compare(&mine, &theirs, parts_max, items_max);
        prop_assert!(found.is_complete());
        prop_assert_eq!(set(&found.wanted), newer_in(&theirs, &mine));
        prop_assert_eq!(set(&found.offered), newer_in(&mine, &theirs));
    }

    #[test]
    fn ends_early_when_enough_is_found(a in entries(), b in entries(), most in 1..20usize) {
        let (mine, theirs) = (tree(&a), tree(&b));
        let differences = newer_in(&mine, &theirs).len() + newer_in(&theirs, &mine).len();
        let mut comparison = Comparison::new(most);
        while let Some(question) = comparison.question(&mine, 8) {
            let answer = theirs.answer(&question, 100);
            comparison.learn(&mine, &question, &answer);
        }
        prop_assert_eq!(comparison.wanted.len() + comparison.offered.len(), differences.min(most));
    }

    #[test]
    fn any_answer_is_safe(
        a in entries(),
        prefixes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3), 0..10),
        keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5), 0..10),
    ) {
        let mine = tree(&a);
        let nonsense = PartAnswer {
            same: false,
            parts: prefixes.into_iter().map(|p| Part { prefix: p.into(), hash: Default::default() }).collect(),
            entries: keys.into_iter().map(|k| Stamp { key: k.into(), version: Bytes::from_static(&[1]) }).collect(),
        };
        let mut comparison = Comparison::new(1_000);
        for _ in 0..50 {
            let Some(question) = comparison.question(&mine, 4) else { break };
            comparison.learn(&mine, &question, &Answer { parts: vec![nonsense.clone(); 5] });
        }
        prop_assert!(comparison.wanted.len() + comparison.offered.len() <= 1_000);
    }
}

fn spread(n: u64) -> Vec<u8> {
    let mut key = (n % 1_000).to_be_bytes().to_vec();
    key.extend_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    key
}

#[test]
fn costs_what_the_difference_costs() {
    let all: Vec<_> = (0..100_000).map(|n| (spread(n), 1)).collect();
    let mine = tree(&all);
    let (same, exchanges) = compare(&mine, &tree(&all), 256, 4_096);
    assert_eq!((same.wanted.len(), same.offered.len()), (0, 0));
    assert_eq!(exchanges, 1, "equal trees are equal at the root");

    let mut theirs = tree(&all);
    theirs.update(&spread(54_321), &[2], &[]).unwrap();
    let (one, exchanges) = compare(&mine, &theirs, 256, 4_096);
    assert_eq!(one.wanted, [Bytes::from(spread(54_321))]);
    assert!(one.offered.is_empty());
    assert!(exchanges <= 6, "{exchanges} exchanges for one entry");

    for n in (0..100_000).step_by(10_000) {
        theirs.remove(&spread(n), &[1]);
    }
    let (few, exchanges) = compare(&mine, &theirs, 256, 4_096);
    assert_eq!((few.wanted.len(), few.offered.len()), (1, 10));
    assert!(exchanges <= 8, "{exchanges} exchanges for eleven entries");
}

#[test]
fn an_empty_tree_is_told_everything() {
    let all: Vec<_> = (0..5_000).map(|n| (spread(n), 1)).collect();
    let full = tree(&all);
    let (found, _) = compare(&Perkle::new(), &full, 64, 4_096);
    assert_eq!(found.wanted.len(), 5_000);
    let (found, exchanges) = compare(&full, &Perkle::new(), 64, 4_096);
    assert_eq!((found.offered.len(), exchanges), (5_000, 1));
}

#[test]
fn a_question_that_was_cut_is_asked_again() {
    let mine = tree(&[(b"a".to_vec(), 1)]);
    let mut comparison = Comparison::new(10);
    let question = comparison.question(&mine, 10).unwrap();
    comparison.learn(&mine, &question, &Answer::default());
    assert!(!comparison.is_complete());
    assert_eq!(comparison.question(&mine, 10), Some(question));
    let none = Question::default();
    comparison.learn(&mine, &none, &Answer::default());
    assert!(comparison.is_complete());
}
