//! Every operation against a `BTreeMap` that does the same, and what hashes must promise.

use std::collections::BTreeMap;
use std::ops::Bound;

use perkle::{
    Entry, EntryRef, KEY_BYTES_MAX, Perkle, PerkleError, Summary, Updated, VALUE_BYTES_MAX,
};
use proptest::prelude::*;

type Model = BTreeMap<Vec<u8>, (Vec<u8>, Vec<u8>)>;

#[derive(Clone, Debug)]
enum Step {
    Update(Vec<u8>, u8),
    Remove(Vec<u8>, u8),
}

/// Few different bytes give long common paths and keys that are prefixes of others; all bytes give wide branches.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(prop::sample::select(vec![0u8, 1, 255]), 0..8),
        prop::collection::vec(any::<u8>(), 0..3),
        (any::<u8>(), any::<u8>()).prop_map(|(a, b)| [&[7; 20][..], &[a, b]].concat()),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (key(), 0..4u8).prop_map(|(key, version)| Step::Update(key, version)),
        1 => (key(), 0..5u8).prop_map(|(key, version)| Step::Remove(key, version)),
    ]
}

/// The only value that a key may have at a version; its length varies, so that entries move.
fn value_of(key: &[u8], version: &[u8]) -> Vec<u8> {
    let length = key.len() + usize::from(version[0]) * 9;
    (0..length).map(|n| n as u8 ^ version[0]).collect()
}

fn apply(tree: &mut Perkle, model: &mut Model, step: &Step) -> Option<EntryRef> {
    match step {
        Step::Update(key, version) => {
            let version = vec![*version];
            let value = value_of(key, &version);
            let expected = match model.get(key) {
                None => 0,
                Some((known, _)) if *known < version => 1,
                Some((known, _)) if *known == version => 2,
                Some(_) => 3,
            };
            let updated = tree.update(key, &version, &value).unwrap();
            match updated {
                Updated::Inserted(at) | Updated::Replaced(at) => {
                    assert_eq!(tree.entry_of(at), tree.get(key));
                    assert_eq!(expected, u8::from(matches!(updated, Updated::Replaced(_))));
                    model.insert(key.clone(), (version, value));
                    return Some(at);
                }
                Updated::Same => assert_eq!(expected, 2),
                Updated::Older => assert_eq!(expected, 3),
            }
        }
        Step::Remove(key, version) => {
            let may = model
                .get(key)
                .is_some_and(|(known, _)| known[0] <= *version);
            assert_eq!(tree.remove(key, &[*version]), may);
            if may {
                model.remove(key);
            }
        }
    }
    None
}

fn built(steps: &[Step]) -> (Perkle, Model) {
    let (mut tree, mut model) = (Perkle::new(), Model::new());
    for step in steps {
        apply(&mut tree, &mut model, step);
    }
    (tree, model)
}

fn from_model(model: &Model) -> Perkle {
    let mut tree = Perkle::new();
    for (key, (version, value)) in model {
        tree.update(key, version, value).unwrap();
    }
    tree
}

fn owned(entry: Option<Entry<'_>>) -> Option<Vec<u8>> {
    entry.map(|entry| entry.key.to_vec())
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        Just(Bound::Unbounded),
        key().prop_map(Bound::Included),
        key().prop_map(Bound::Excluded),
    ]
}

fn slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(|key| &key[..])
}

proptest! {
    #[test]
    fn holds_what_the_model_holds(steps in prop::collection::vec(step(), 0..300)) {
        let (tree, model) = built(&steps);
        prop_assert_eq!(tree.len(), model.len());
        prop_assert_eq!(tree.is_empty(), model.is_empty());
        let entries: Vec<_> = tree
            .iter()
            .map(|e| (e.key.to_vec(), (e.version.to_vec(), e.value.to_vec())))
            .collect();
        prop_assert_eq!(entries, model.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn finds_neighbours_as_the_model_does(
        steps in prop::collection::vec(step(), 0..200),
        keys in prop::collection::vec(key(), 1..30),
    ) {
        let (tree, model) = built(&steps);
        let first = |range: std::collections::btree_map::Range<'_, _, _>| {
            let mut range = range;
            range.next().map(|(k, _): (&Vec<u8>, &(Vec<u8>, Vec<u8>))| k.clone())
        };
        let last = |range: std::collections::btree_map::Range<'_, _, _>| {
            let mut range = range;
            range.next_back().map(|(k, _): (&Vec<u8>, &(Vec<u8>, Vec<u8>))| k.clone())
        };
        for key in keys.iter().chain(model.keys()) {
            let (in_it, not_in_it) = (Bound::Included(key.clone()), Bound::Excluded(key.clone()));
            prop_assert_eq!(owned(tree.get(key)), model.get_key_value(key).map(|(k, _)| k.clone()));
            prop_assert_eq!(owned(tree.floor(key)), last(model.range((Bound::Unbounded, in_it.clone()))));
            prop_assert_eq!(owned(tree.less_than(key)), last(model.range((Bound::Unbounded, not_in_it.clone()))));
            prop_assert_eq!(owned(tree.ceiling(key)), first(model.range((in_it, Bound::Unbounded))));
            prop_assert_eq!(owned(tree.greater_than(key)), first(model.range((not_in_it, Bound::Unbounded))));
        }
        prop_assert_eq!(owned(tree.first()), model.keys().next().cloned());
        prop_assert_eq!(owned(tree.last()), model.keys().next_back().cloned());
    }

    #[test]
    fn ranges_and_prefixes_are_the_models(
        steps in prop::collection::vec(step(), 0..200),
        from in bound(),
        to in bound(),
        prefix in key(),
        ends in prop::collection::vec(any::<bool>(), 0..40),
    ) {
        let (tree, model) = built(&steps);
        let inside = |key: &[u8]| {
            let after = match &from {
                Bound::Unbounded => true,
                Bound::Included(from) => key >= &from[..],
                Bound::Excluded(from) => key > &from[..],
            };
            after && match &to {
                Bound::Unbounded => true,
                Bound::Included(to) => key <= &to[..],
                Bound::Excluded(to) => key < &to[..],
            }
        };
        let mut expected: std::collections::VecDeque<_> = model.keys().filter(|k| inside(k)).cloned().collect();
        let mut range = tree.between(slice(&from), slice(&to));
        for from_back in ends {
            if from_back {
                prop_assert_eq!(owned(range.next_back()), expected.pop_back());
            } else {
                prop_assert_eq!(owned(range.next()), expected.pop_front());
            }
        }
        prop_assert_eq!(range.map(|e| e.key.to_vec()).collect::<Vec<_>>(), Vec::from(expected));

        let expected: Vec<_> = model.keys().filter(|k| k.starts_with(&prefix)).cloned().collect();
        prop_assert_eq!(tree.prefix(&prefix).map(|e| e.key.to_vec()).collect::<Vec<_>>(), expected.clone());
        let of_prefix: Model = expected.iter().map(|k| (k.clone(), model[k].clone())).collect();
        prop_assert_eq!(tree.summary(&prefix), from_model(&of_prefix).root());
    }

    #[test]
    fn equal_content_has_equal_roots_however_it_came(
        steps in prop::collection::vec(step(), 0..200),
        order in any::<prop::sample::Index>(),
    ) {
        let (tree, model) = built(&steps);
        let mut entries: Vec<_> = model.iter().collect();
        prop_assert_eq!(tree.root(), from_model(&model).root());
        entries.reverse();
        if !entries.is_empty() {
            let middle = order.index(entries.len());
            entries.rotate_left(middle);
        }
        let mut other = Perkle::new();
        for (key, (version, value)) in entries {
            other.update(key, version, value).unwrap();
        }
        prop_assert_eq!(tree.root(), other.root());
        for key in model.keys() {
            prop_assert!(other.remove(key, &[9]));
        }
        prop_assert_eq!(other.root(), Summary::default());
    }

    #[test]
    fn different_content_has_different_roots(
        a in prop::collection::vec(step(), 0..40),
        b in prop::collection::vec(step(), 0..40),
    ) {
        let ((a, of_a), (b, of_b)) = (built(&a), built(&b));
        prop_assert_eq!(a.root() == b.root(), of_a == of_b);
    }

    #[test]
    fn any_reference_is_safe(steps in prop::collection::vec(step(), 0..100), removed in prop::collection::vec(key(), 0..30)) {
        let (mut tree, mut model) = built(&[]);
        let references: Vec<EntryRef> = steps.iter().filter_map(|step| apply(&mut tree, &mut model, step)).collect();
        for key in removed {
            tree.remove(&key, &[9]);
        }
        for reference in references {
            if let Some(entry) = tree.entry_of(reference) {
                let _ = (entry.key.len(), entry.version.len(), entry.value.len());
            }
        }
    }
}

#[test]
fn bytes_do_not_move_between_key_and_version() {
    let (mut a, mut b) = (Perkle::new(), Perkle::new());
    a.update(b"ab", b"c", b"").unwrap();
    b.update(b"a", b"bc", b"").unwrap();
    assert_ne!(a.root(), b.root());
}

#[test]
fn too_long_is_refused_and_changes_nothing() {
    let mut tree = Perkle::new();
    tree.update(b"a", b"1", b"x").unwrap();
    let before = tree.root();
    for (key, version, value) in [
        (KEY_BYTES_MAX + 1, 1, 1),
        (1, 256, 1),
        (1, 1, VALUE_BYTES_MAX + 1),
    ] {
        let refused = tree.update(&vec![1; key], &vec![1; version], &vec![1; value]);
        assert_eq!(
            refused,
            Err(PerkleError::TooLong {
                key,
                version,
                value
            })
        );
    }
    assert_eq!(tree.root(), before);
    let longest = vec![3; KEY_BYTES_MAX];
    tree.update(&longest, &[9; 255], &vec![1; VALUE_BYTES_MAX])
        .unwrap();
    assert_eq!(tree.floor(&[4]).unwrap().key, &longest[..]);
}

#[test]
fn keys_that_continue_each_other_are_no_depth_problem() {
    let mut tree = Perkle::new();
    for length in 0..KEY_BYTES_MAX {
        tree.update(&vec![5; length], b"1", b"").unwrap();
    }
    assert_eq!(tree.len(), KEY_BYTES_MAX);
    assert_eq!(tree.floor(&[5, 5, 6]).unwrap().key.len(), KEY_BYTES_MAX - 1);
    for length in (0..KEY_BYTES_MAX).step_by(2) {
        assert!(tree.remove(&vec![5; length], b"1"));
    }
    assert_eq!(tree.iter().count(), KEY_BYTES_MAX / 2);
}

#[test]
fn memory_is_used_again() {
    let mut tree = Perkle::new();
    let key = |n: u32| (n.wrapping_mul(2_654_435_761)).to_be_bytes();
    for n in 0..50_000u32 {
        tree.update(&key(n), b"1", &[0; 30]).unwrap();
    }
    let taken = tree.memory().0;
    for round in 2..12u8 {
        for n in 0..50_000u32 {
            let length = 20 + (n as usize + usize::from(round) * 7) % 20;
            tree.update(&key(n), &[b'0' + round], &vec![round; length])
                .unwrap();
            if n % 3 == 0 {
                tree.remove(&key(n), &[255]);
                tree.update(&key(n), &[b'0' + round], &vec![round; length])
                    .unwrap();
            }
        }
    }
    assert_eq!(tree.len(), 50_000);
    assert!(
        tree.memory().0 <= taken * 3 / 2,
        "{taken} bytes became {}",
        tree.memory().0
    );
}
