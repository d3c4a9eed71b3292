//! The B-tree against a map, over restarts, growth, crashes and damage.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::fixtures::{Content, SMALL, batch, content, everything, fill, item, key, state};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Flush(Vec<(u64, Option<usize>)>),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (0_u64..60, prop::option::weighted(0.7, 0_usize..6_000));
    let step = prop_oneof![
        6 => prop::collection::vec(change, 0..40).prop_map(Step::Flush),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn behaves_like_a_map(steps in steps(), bounds in (0_u64..70, 0_u64..70)) {
        let dir = folder();
        let path = dir.path().join("1");
        let mut tree = ReplicaTree::create(&path, SMALL, &state(0)).unwrap();
        let mut expected: BTreeMap<Bytes, Bytes> = BTreeMap::new();
        let mut applied = 0;
        for step in steps {
            match step {
                Step::Flush(changes) => {
                    applied += 1;
                    let items: Content = changes
                        .into_iter()
                        .map(|(number, len)| (key(number), len.map(item)))
                        .collect();
                    for (key, item) in &items {
                        match item {
                            Some(item) => drop(expected.insert(key.clone(), item.clone())),
                            None => drop(expected.remove(key)),
                        }
                    }
                    let stored = tree.flush(&batch(applied, items)).unwrap();
                    prop_assert_eq!(&stored, &tree.state().unwrap());
                }
                Step::Reopen => {
                    drop(tree);
                    tree = ReplicaTree::open(&path, SMALL).unwrap().0;
                }
            }
            let stored = tree.state().unwrap();
            let bytes: u64 = expected
                .values()
                .map(|item| model::codec::encoded_item_size(item).unwrap())
                .sum();
            prop_assert_eq!(stored.applied, applied);
            prop_assert_eq!(stored.items, expected.len() as u64);
            prop_assert_eq!(stored.bytes, bytes);
        }
        let range = KeyRange { start: key(bounds.0), end: key(bounds.1) };
        let within: Vec<_> = expected
            .iter()
            .filter(|(key, _)| range.contains(key))
            .map(|(key, item)| (key.clone(), item.clone()))
            .collect();
        prop_assert_eq!(&content(&tree, &range, false), &within);
        let reversed: Vec<_> = within.into_iter().rev().collect();
        prop_assert_eq!(&content(&tree, &range, true), &reversed);
        prop_assert_eq!(content(&tree, &everything(), false).len(), expected.len());
        for number in 0..60 {
            let found = tree.get(&key(number)).unwrap();
            prop_assert_eq!(found.as_ref(), expected.get(&key(number)));
        }
    }
}

#[test]
fn the_map_grows_and_ends_at_its_limit() {
    let dir = folder();
    let options = TreeOptions {
        map_bytes: 256 << 10,
        map_bytes_max: 4 << 20,
    };
    let tree = ReplicaTree::create(&dir.path().join("1"), options, &state(0)).unwrap();
    let before = tree.map_bytes();
    let snapshot = tree.snapshot().unwrap();
    tree.flush(&batch(1, fill(0, 100, 20_000))).unwrap();
    assert!(
        tree.map_bytes() >= 8 * before,
        "{} from {before}",
        tree.map_bytes()
    );
    let gone = snapshot.pairs(None, 1000);
    assert!(
        matches!(gone, Err(TreeError::SnapshotGone { .. })),
        "{gone:?}"
    );
    assert_eq!(content(&tree, &everything(), false).len(), 100);
    let full = tree.flush(&batch(2, fill(100, 500, 20_000)));
    assert!(
        matches!(
            full,
            Err(TreeError::TooLarge {
                limit_bytes: 4_194_304,
                ..
            })
        ),
        "{full:?}"
    );
    let state = tree.state().unwrap();
    assert_eq!(
        (state.applied, state.items),
        (1, 100),
        "a batch comes in as a whole or not at all"
    );
    assert_eq!(
        tree.flush(&batch(2, fill(100, 101, 10))).unwrap().items,
        101
    );
}

#[test]
fn reads_go_on_while_the_map_grows() {
    let dir = folder();
    let tree = Arc::new(ReplicaTree::create(&dir.path().join("1"), SMALL, &state(0)).unwrap());
    tree.flush(&batch(1, fill(0, 50, 500))).unwrap();
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (tree, done) = (tree.clone(), done.clone());
            std::thread::spawn(move || {
                let mut reads = 0_u64;
                while !done.load(std::sync::atomic::Ordering::Acquire) || reads == 0 {
                    assert_eq!(tree.get(&key(reads % 50)).unwrap(), Some(item(500)));
                    let range = KeyRange {
                        start: key(0),
                        end: key(50),
                    };
                    assert_eq!(content(&*tree, &range, reads.is_multiple_of(2)).len(), 50);
                    reads += 1;
                }
            })
        })
        .collect();
    for applied in 2..30 {
        tree.flush(&batch(
            applied,
            fill(100 * applied, 100 * applied + 100, 4_000),
        ))
        .unwrap();
    }
    done.store(true, std::sync::atomic::Ordering::Release);
    readers
        .into_iter()
        .for_each(|reader| reader.join().unwrap());
    assert!(tree.map_bytes() > SMALL.map_bytes);
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let dir = folder();
    let tree =
        ReplicaTree::create(&dir.path().join("1"), TreeOptions::default(), &state(0)).unwrap();
    tree.flush(&batch(1, fill(0, 10, 100))).unwrap();
    let snapshot = tree.snapshot().unwrap();
    let mut changes = fill(5, 20, 7);
    changes.insert(key(0), None);
    tree.flush(&batch(2, changes)).unwrap();
    let (pairs, is_last) = snapshot.pairs(None, usize::MAX).unwrap();
    let expected: Vec<_> = (0..10).map(|number| (key(number), item(100))).collect();
    assert!(is_last);
    assert_eq!(pairs, expected);
    assert_eq!(snapshot.state().applied, 1);
    let (pairs, is_last) = snapshot.pairs(Some(&key(3)), 0).unwrap();
    assert_eq!((pairs, is_last), (vec![(key(4), item(100))], false));
    tree.close();
    assert!(matches!(
        snapshot.pairs(None, 1),
        Err(TreeError::SnapshotGone { .. })
    ));
    assert!(tree.get(&key(1)).is_err());
}

#[test]
fn create_open_destroy() {
    let dir = folder();
    let path = dir.path().join("1");
    let missing = ReplicaTree::open(&path, SMALL).map(|_| ());
    assert!(
        matches!(missing, Err(TreeError::Missing { .. })),
        "{missing:?}"
    );
    // What an interrupted creation leaves: a folder, perhaps with an environment without tables.
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("lock.mdb"), "x").unwrap();
    let tree = ReplicaTree::create(&path, SMALL, &state(0)).unwrap();
    let first = tree.state().unwrap();
    assert_eq!((first.items, first.bytes, first.applied), (0, 0, 0));
    drop(tree);
    let twice = ReplicaTree::create(&path, SMALL, &state(0)).map(|_| ());
    assert!(matches!(twice, Err(TreeError::Exists { .. })), "{twice:?}");
    let (tree, found) = ReplicaTree::open(&path, SMALL).unwrap();
    assert_eq!(found, first);
    tree.flush(&batch(9, fill(0, 3, 3))).unwrap();
    let back = tree.flush(&batch(8, fill(0, 1, 3))).map(|_| ());
    assert!(
        matches!(
            back,
            Err(TreeError::Backwards {
                stored: 9,
                batch: 8,
                ..
            })
        ),
        "{back:?}"
    );
    tree.destroy().unwrap();
    assert!(!path.exists());
}

#[test]
fn keys_that_cannot_be_are_not_found() {
    let dir = folder();
    let tree = ReplicaTree::create(&dir.path().join("1"), SMALL, &state(0)).unwrap();
    let longest = Bytes::from(vec![7; 1_100]);
    let items = Content::from([(longest.clone(), Some(item(5)))]);
    tree.flush(&batch(1, items)).unwrap();
    assert_eq!(tree.get(&longest).unwrap(), Some(item(5)));
    assert_eq!(tree.get(&[]).unwrap(), None);
    assert_eq!(tree.get(&[7; 5_000]).unwrap(), None);
}

/// A copy of the files while they are open is what a crash of the process leaves behind.
#[test]
fn opens_after_a_crash() {
    let dir = folder();
    let path = dir.path().join("1");
    let tree = ReplicaTree::create(&path, SMALL, &state(0)).unwrap();
    for applied in 1..=20 {
        tree.flush(&batch(applied, fill(applied, applied + 30, 300)))
            .unwrap();
        let crashed = dir.path().join("2");
        fs::create_dir_all(&crashed).unwrap();
        for file in ["data.mdb", "lock.mdb"] {
            fs::copy(path.join(file), crashed.join(file)).unwrap();
        }
        let (tree, found) = ReplicaTree::open(&crashed, SMALL).unwrap();
        assert_eq!((found.applied, found.items), (applied, applied + 29));
        assert_eq!(
            content(&tree, &everything(), false).len() as u64,
            found.items
        );
        tree.destroy().unwrap();
    }
}

#[test]
fn flipped_bits_are_found() {
    let dir = folder();
    let path = dir.path().join("1");
    let tree = ReplicaTree::create(&path, SMALL, &state(0)).unwrap();
    tree.flush(&batch(1, fill(0, 20, 500))).unwrap();
    drop(tree);
    let file = path.join("data.mdb");
    let bytes = fs::read(&file).unwrap();
    // In the middle of every item (free parts of pages hold stale copies, too).
    let mut damaged = bytes.clone();
    let mut at = 0;
    while at + 100 < bytes.len() {
        if bytes[at..at + 100] == [b'x'; 100] {
            damaged[at + 50] ^= 1;
            at += 100;
        }
        at += 1;
    }
    fs::write(&file, damaged).unwrap();
    let (tree, _) = ReplicaTree::open(&path, SMALL).unwrap();
    let scanned = tree.scan(&everything(), false, &mut |_, _| ControlFlow::Continue(()));
    assert!(scanned.unwrap_err().0.contains("checksum"));
    assert!(tree.get(&key(3)).unwrap_err().0.contains("checksum"));
    drop(tree);
    // In every copy of the state.
    let name = b"created_ms";
    let states: Vec<usize> = (0..bytes.len() - name.len())
        .filter(|at| bytes[*at..*at + name.len()] == *name)
        .collect();
    assert!(!states.is_empty());
    let mut damaged = bytes.clone();
    states.iter().for_each(|at| damaged[*at] ^= 1);
    fs::write(&file, damaged).unwrap();
    let opened = ReplicaTree::open(&path, SMALL).map(|_| ());
    assert!(
        matches!(opened, Err(TreeError::Corrupt { .. })),
        "{opened:?}"
    );
    fs::write(&file, vec![0x55; 64 << 10]).unwrap();
    let opened = ReplicaTree::open(&path, SMALL).map(|_| ());
    assert!(
        matches!(opened, Err(TreeError::Corrupt { .. })),
        "{opened:?}"
    );
}

/// Records of these positions.
fn records(positions: std::ops::Range<u64>) -> impl Iterator<Item = (Bytes, Option<Bytes>)> {
    let value = Bytes::from_static(b"a record");
    positions.map(move |position| (change::change_key((position, 0)), Some(value.clone())))
}

#[test]
fn change_records_are_counted_apart_and_go_when_the_state_says_so() {
    let dir = folder();
    let path = dir.path().join("1");
    let tree = ReplicaTree::create(&path, SMALL, &state(0)).unwrap();
    let mut items = fill(0, 10, 20);
    items.extend(records(1..9));
    let stored = tree.flush(&batch(8, items)).unwrap();
    assert_eq!((stored.items, stored.changes.count), (10, 8));
    let one = change::record_bytes(b"a record");
    assert_eq!(stored.changes.bytes, 8 * one);
    // What comes with a flush that trims it is not written at all.
    let mut trims = batch(12, records(9..13).collect());
    trims.state.changes.trimmed = 10;
    let stored = tree.flush(&trims).unwrap();
    assert_eq!((stored.items, stored.changes.count), (10, 2));
    assert_eq!(stored.changes.bytes, 2 * one);
    drop(tree);
    let (tree, state) = ReplicaTree::open(&path, SMALL).unwrap();
    assert_eq!(state.changes, stored.changes);
    tree.verify().unwrap();
    let held = content(&tree, &change::change_keys(), false);
    let held: Vec<_> = held.iter().map(|(key, _)| change::place_of(key)).collect();
    assert_eq!(held, [Some((11, 0)), Some((12, 0))]);
    let (pairs, _) = tree
        .snapshot()
        .unwrap()
        .pairs_of(&change::item_keys(), None, usize::MAX)
        .unwrap();
    assert_eq!(pairs.len(), 10, "items alone");
}
