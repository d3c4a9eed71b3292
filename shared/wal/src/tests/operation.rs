//! Ordinary life: append, read, restart, truncate, remove, collect.

use paxos::{GroupId, PersistOp};
use proptest::prelude::*;

use super::model::{self, Model, act, append, append_now, floor, install, open};
use crate::{DataDir, Wal, WalError, segment};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever is done, with restarts in between: recovery reports what was acknowledged, and reads agree.
    #[test]
    fn recovers_what_was_acknowledged(
        lives in prop::collection::vec(model::actions(40), 1..4),
        spare in any::<bool>(),
    ) {
        let dir = model::tempdir();
        let mut model = Model::new();
        for actions in lives {
            let options = crate::WalOptions { spare, ..model::options(4096) };
            let (wal, recovery) = model::open_with(dir.path(), options);
            prop_assert_eq!(&recovery.groups, &model);
            prop_assert!(recovery.damaged.is_empty() && !recovery.unattributed_damage);
            prop_assert_eq!(recovery.torn_bytes, 0);
            let waiting: Vec<_> =
                actions.iter().map(|a| act(&wal, &mut model, a).unwrap()).collect();
            for receiver in waiting {
                prop_assert_eq!(receiver.recv().unwrap(), Ok(()));
            }
            for (id, group) in &model {
                let read = wal.read(*id, group.floor.index + 1, usize::MAX).unwrap();
                prop_assert_eq!(&read, &group.entries);
            }
        }
        let (_wal, recovery) = open(dir.path(), 4096);
        prop_assert_eq!(&recovery.groups, &model);
    }
}

#[test]
fn reads_from_the_middle_within_the_bound() {
    let dir = model::tempdir();
    let (wal, _) = open(dir.path(), 1 << 20);
    append_now(&wal, 1, vec![install(0)]).unwrap();
    for index in 1..=20 {
        append_now(&wal, 1, vec![append(index, &[100])]).unwrap();
    }
    let bytes = model::entry(1, 100).bytes() as usize;
    let indices = |from, max| {
        let entries = wal.read(GroupId(1), from, max).unwrap();
        entries.iter().map(|e| e.index).collect::<Vec<_>>()
    };
    assert_eq!(indices(5, 0), [5], "at least one");
    assert_eq!(indices(5, 3 * bytes), [5, 6, 7]);
    assert_eq!(indices(19, usize::MAX), [19, 20]);
    assert_eq!(indices(21, usize::MAX), [] as [u64; 0]);
    append_now(&wal, 1, vec![floor(10)]).unwrap();
    let below = WalError::BelowFloor {
        group: GroupId(1),
        floor: 10,
    };
    assert_eq!(wal.read(GroupId(1), 10, 1), Err(below));
    assert_eq!(
        wal.read(GroupId(2), 1, 1),
        Err(WalError::UnknownGroup { group: GroupId(2) })
    );
}

#[test]
fn many_appends_share_a_sync() {
    let dir = model::tempdir();
    let (wal, _) = open(dir.path(), 1 << 20);
    let before = wal.metrics().syncs;
    // The first completion holds the log thread until all others are queued.
    let (go, gate) = std::sync::mpsc::channel::<()>();
    wal.append(GroupId(1), vec![install(0)], move |_| gate.recv().unwrap())
        .unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    for group in 2..500 {
        let sender = sender.clone();
        let done = move |result| sender.send((group, result)).unwrap();
        wal.append(GroupId(group), vec![install(0), append(1, &[900])], done)
            .unwrap();
    }
    go.send(()).unwrap();
    for expected in 2..500 {
        assert_eq!(receiver.recv().unwrap(), (expected, Ok(())), "in order");
    }
    let syncs = wal.metrics().syncs - before;
    assert!((1..=3).contains(&syncs), "498 appends took {syncs} syncs");
}

#[test]
fn the_queue_is_bounded() {
    let dir = model::tempdir();
    let options = crate::WalOptions {
        queue_len_max: 3,
        ..model::options(1 << 20)
    };
    let (wal, _) = Wal::open(dir.path(), options).unwrap();
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let (held, holding) = std::sync::mpsc::channel::<()>();
    let hold = move |_| {
        held.send(()).unwrap();
        gate.recv().unwrap();
    };
    wal.append(GroupId(1), vec![install(0)], hold).unwrap();
    holding.recv().unwrap();
    let (sender, done) = std::sync::mpsc::channel();
    for group in 2..5 {
        let sender = sender.clone();
        let done = move |result: Result<(), WalError>| sender.send(result).unwrap();
        wal.append(GroupId(group), vec![install(0)], done).unwrap();
    }
    assert!(wal.append(GroupId(5), vec![install(0)], |_| ()).is_err());
    assert_eq!((wal.metrics().overloaded, wal.metrics().queue_len), (1, 3));
    go.send(()).unwrap();
    assert_eq!(
        done.iter().take(3).collect::<Vec<_>>(),
        [Ok(()), Ok(()), Ok(())]
    );
    append_now(&wal, 6, vec![install(0)]).unwrap();
}

#[test]
fn refuses_what_does_not_fit() {
    let dir = model::tempdir();
    let (wal, _) = open(dir.path(), 1 << 20);
    append_now(&wal, 1, vec![install(5), append(6, &[10, 10])]).unwrap();
    let misfits = [
        append(9, &[1]),
        append(7, &[1]),
        PersistOp::TruncateFrom(5),
        floor(8),
    ];
    for op in misfits {
        let refused = append_now(&wal, 1, vec![op.clone()]);
        assert!(
            matches!(refused, Err(WalError::Refused { .. })),
            "{op:?}: {refused:?}"
        );
    }
    append_now(&wal, 1, vec![append(8, &[1])]).unwrap();
    wal.close();
    let stopped = append_now(&wal, 1, vec![append(9, &[1])]);
    assert_eq!(stopped, Err(WalError::Stopped));
    drop(wal);
    let (_wal, recovery) = open(dir.path(), 1 << 20);
    let indices: Vec<_> = recovery.groups[&GroupId(1)]
        .entries
        .iter()
        .map(|e| e.index)
        .collect();
    assert_eq!(indices, [6, 7, 8]);
}

#[test]
fn segments_below_all_floors_go_and_laggards_are_named() {
    let dir = model::tempdir();
    let (wal, _) = open(dir.path(), 4096);
    append_now(&wal, 1, vec![install(0), append(1, &[100])]).unwrap();
    append_now(&wal, 2, vec![install(0)]).unwrap();
    for index in 1..=100 {
        append_now(&wal, 2, vec![append(index, &[500])]).unwrap();
    }
    append_now(&wal, 2, vec![floor(100)]).unwrap();
    let pinned = wal.pinned_groups();
    assert_eq!(pinned.len(), 1, "group 2 is flushed: {pinned:?}");
    assert_eq!(pinned[0].0, GroupId(1));
    assert!(pinned[0].1 > 50_000, "{pinned:?}");
    assert!(wal.metrics().segments > 10);
    append_now(&wal, 1, vec![floor(1)]).unwrap();
    // Collected behind the completion: the next append comes after it.
    append_now(&wal, 1, vec![PersistOp::Promise(model::ballot(3))]).unwrap();
    assert_eq!(wal.pinned_groups(), []);
    assert_eq!(wal.metrics().segments, 1);
    drop(wal);
    let (_wal, recovery) = open(dir.path(), 4096);
    assert_eq!(recovery.groups[&GroupId(1)].floor.index, 1);
    assert_eq!(recovery.groups[&GroupId(1)].promised, model::ballot(3));
    assert_eq!(recovery.groups[&GroupId(2)].floor.index, 100);
    assert!(recovery.damaged.is_empty());
}

/// Their hard states take several records of a checkpoint.
#[test]
fn thousands_of_groups() {
    let dir = model::tempdir();
    let (wal, _) = open(dir.path(), 1 << 20);
    let (sender, done) = std::sync::mpsc::channel();
    let mut model = Model::new();
    for life in 0..3 {
        for group in 1..=9_000 {
            let ops = match life {
                0 => vec![install(0), append(1, &[40])],
                _ => vec![
                    PersistOp::Promise(model::ballot(life)),
                    append(life + 1, &[9]),
                ],
            };
            model::apply(&mut model, GroupId(group), &ops);
            let sender = sender.clone();
            let done = move |result: Result<(), WalError>| sender.send(result).unwrap();
            wal.append(GroupId(group), ops, done).unwrap();
        }
        assert!(done.iter().take(9_000).all(|result| result == Ok(())));
    }
    assert!(wal.metrics().segments >= 3, "{:?}", wal.metrics());
    drop(wal);
    let (wal, recovery) = open(dir.path(), 1 << 20);
    assert_eq!(recovery.groups, model);
    drop(wal);
    // The oldest segment is lost: the checkpoints tell exactly whose entries were in it.
    std::fs::remove_file(segment::path(dir.path(), 1)).unwrap();
    let (_wal, recovery) = open(dir.path(), 1 << 20);
    assert!((1_000..8_000).contains(&recovery.damaged.len()));
    model.retain(|id, _| !recovery.damaged.contains_key(id));
    assert_eq!(recovery.groups, model);
    assert!(!recovery.unattributed_damage);
}

#[test]
fn old_segments_are_recycled() {
    let dir = tempfile::tempdir().unwrap();
    let options = crate::WalOptions {
        spare: true,
        ..model::options(64 << 10)
    };
    let (wal, _) = Wal::open(dir.path(), options.clone()).unwrap();
    append_now(&wal, 1, vec![install(0)]).unwrap();
    for index in 1..=1000 {
        append_now(&wal, 1, vec![append(index, &[1000]), floor(index)]).unwrap();
    }
    append_now(&wal, 1, vec![append(1001, &[1000, 50])]).unwrap();
    assert_eq!(wal.metrics().segments, 1);
    drop(wal);
    let files = std::fs::read_dir(dir.path()).unwrap().count();
    assert!(files <= 3, "{files} files are left");
    let (_wal, recovery) = model::open_with(dir.path(), options);
    assert_eq!(recovery.groups[&GroupId(1)].entries.len(), 2);
    assert_eq!(recovery.damaged.len(), 0);
}

/// The first segment of a new log grows, which makes its syncs dear. It is left for the spare as soon as that is filled, not only when
/// it is full.
#[test]
fn a_growing_segment_is_left_for_a_prepared_one() {
    const SEGMENT_BYTES: u32 = 4 << 20;
    let dir = tempfile::tempdir().unwrap();
    let options = crate::WalOptions {
        spare: true,
        ..model::options(SEGMENT_BYTES)
    };
    let (wal, _) = Wal::open(dir.path(), options.clone()).unwrap();
    append_now(&wal, 1, vec![install(0)]).unwrap();
    let second = segment::path(dir.path(), 2);
    let mut last = 0;
    while !second.exists() {
        last += 1;
        append_now(&wal, 1, vec![append(last, &[100])]).unwrap();
        assert!(last < 10_000, "still in the first segment");
    }
    let written = wal.metrics().bytes;
    assert!(written < u64::from(SEGMENT_BYTES) / 2, "it became full");
    let prepared = std::fs::metadata(&second).unwrap();
    assert_eq!(prepared.len(), u64::from(SEGMENT_BYTES));
    for index in last + 1..=last + 10 {
        append_now(&wal, 1, vec![append(index, &[100])]).unwrap();
    }
    assert!(
        !segment::path(dir.path(), 3).exists(),
        "one change is enough"
    );
    drop(wal);
    let (_wal, recovery) = model::open_with(dir.path(), options);
    let entries = &recovery.groups[&GroupId(1)].entries;
    assert_eq!(entries.len() as u64, last + 10);
    assert_eq!((recovery.damaged.len(), recovery.torn_bytes), (0, 0));
}

/// Once a prepared segment is half full, the next one is prepared: a busy log never goes back to a file that grows.
#[test]
fn the_next_segment_is_prepared_in_time() {
    const SEGMENT_BYTES: u32 = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let options = crate::WalOptions {
        spare: true,
        ..model::options(SEGMENT_BYTES)
    };
    let (wal, _) = Wal::open(dir.path(), options).unwrap();
    append_now(&wal, 1, vec![install(0)]).unwrap();
    let (second, third) = (segment::path(dir.path(), 2), segment::path(dir.path(), 3));
    let mut last = 0;
    let mut append_until = |done: &dyn Fn() -> bool| {
        while !done() {
            last += 1;
            append_now(&wal, 1, vec![append(last, &[1_000])]).unwrap();
            assert!(last < 10_000, "it never comes");
        }
    };
    append_until(&|| second.exists());
    let spare = dir.path().join(segment::SPARE);
    assert!(!spare.exists(), "the second segment was made of it");
    let before = wal.metrics().bytes;
    append_until(&|| wal.metrics().bytes - before > u64::from(SEGMENT_BYTES) * 3 / 4);
    let started = std::time::Instant::now();
    while !spare.exists() {
        assert!(started.elapsed().as_secs() < 60, "no spare is made");
        std::thread::yield_now();
    }
    append_until(&|| third.exists());
    assert!(!spare.exists());
    let prepared = std::fs::metadata(&third).unwrap().len();
    assert!(prepared >= u64::from(SEGMENT_BYTES), "{prepared}");
}

/// Readers race with floors, collection and recycling: what they get is right, or they are told that it is gone.
#[test]
fn reads_race_with_recycling() {
    let dir = model::tempdir();
    let options = crate::WalOptions {
        spare: true,
        ..model::options(16 << 10)
    };
    let (wal, _) = Wal::open(dir.path(), options).unwrap();
    append_now(&wal, 1, vec![install(0), append(1, &[500])]).unwrap();
    let newest = std::sync::atomic::AtomicU64::new(1);
    let read = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut whole, mut gone) = (0, 0);
            loop {
                let last = newest.load(std::sync::atomic::Ordering::Acquire);
                let from = last.saturating_sub(60).max(1);
                match wal.read(GroupId(1), from, usize::MAX) {
                    Ok(entries) => {
                        assert_eq!(
                            entries,
                            (from..)
                                .take(entries.len())
                                .map(|i| model::entry(i, 500))
                                .collect::<Vec<_>>()
                        );
                        assert!(entries.len() as u64 > last - from);
                        whole += 1;
                    }
                    Err(WalError::BelowFloor { .. }) => gone += 1,
                    Err(error) => panic!("{error}"),
                }
                if last == 3_000 {
                    return (whole, gone);
                }
            }
        });
        for index in 2..=3_000_u64 {
            let mut ops = vec![append(index, &[500])];
            ops.extend((index % 3 == 0).then(|| floor(index.saturating_sub(58))));
            append_now(&wal, 1, ops).unwrap();
            newest.store(index, std::sync::atomic::Ordering::Release);
        }
        reader.join().unwrap()
    });
    assert!(read.0 + read.1 > 0, "{read:?}");
}

/// What the first record of a new segment says can be read as soon as anything of it is seen, not only once it is acknowledged.
#[test]
fn a_new_segment_is_never_taken_for_one_that_is_gone() {
    let dir = model::tempdir();
    let (wal, _) = Wal::open(dir.path(), model::options(4 << 10)).unwrap();
    append_now(&wal, 1, vec![install(0), append(1, &[500])]).unwrap();
    let writing = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut next = 1;
            while writing.load(std::sync::atomic::Ordering::Acquire) {
                next += wal.read(GroupId(1), next, usize::MAX).unwrap().len() as u64;
            }
            next
        });
        for index in 2..=4_000_u64 {
            append_now(&wal, 1, vec![append(index, &[500])]).unwrap();
        }
        writing.store(false, std::sync::atomic::Ordering::Release);
        assert!(reader.join().unwrap() > 1);
    });
}

#[test]
fn a_folder_belongs_to_one_node_and_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let data = DataDir::open(dir.path(), model::NODE, 42).unwrap();
    assert!(data.created());
    let locked = DataDir::open(dir.path(), model::NODE, 43);
    assert!(matches!(locked, Err(WalError::Locked { .. })), "{locked:?}");
    drop(data);
    let data = DataDir::open(dir.path(), model::NODE, 43).unwrap();
    assert_eq!((data.incarnation(), data.created()), (42, false));
    drop(data);
    let other = DataDir::open(dir.path(), paxos::NodeId(8), 44);
    assert!(matches!(other, Err(WalError::Identity { .. })), "{other:?}");
    let file = dir.path().join("node.id");
    let bytes = std::fs::read(&file).unwrap();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        std::fs::write(&file, flipped).unwrap();
        assert!(
            DataDir::open(dir.path(), model::NODE, 45).is_err(),
            "flip at {at}"
        );
    }
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir_all(dir.path().join("wal")).unwrap();
    std::fs::write(dir.path().join("wal/0000000001.wal"), "").unwrap();
    let lost = DataDir::open(dir.path(), model::NODE, 45);
    assert!(matches!(lost, Err(WalError::Identity { .. })), "{lost:?}");
}

#[test]
fn segments_of_another_disk_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), 4096));
    let options = crate::WalOptions {
        incarnation: 1,
        ..model::options(4096)
    };
    let other = Wal::open(dir.path(), options).map(|_| ());
    assert!(matches!(other, Err(WalError::Identity { .. })), "{other:?}");
}

/// What is applied comes in outline, if the log agrees with the applied position; else all comes whole.
#[test]
fn applied_entries_are_outlined() {
    let dir = model::tempdir();
    let (wal, _) = open(dir.path(), 1 << 20);
    append_now(&wal, 1, vec![install(0)]).unwrap();
    for index in 1..=20 {
        append_now(&wal, 1, vec![append(index, &[100])]).unwrap();
    }
    let whole = wal.read(GroupId(1), 1, usize::MAX).unwrap();
    drop(wal);
    let (wal, recovery) = Wal::open(dir.path(), model::options(1 << 20)).unwrap();
    let found = recovery.groups[&GroupId(1)].clone();
    let load = |applied| wal.load(GroupId(1), found.clone(), applied).unwrap();
    let loaded = load(whole[14].position());
    assert_eq!(loaded.outlines, paxos::Outline::of(&whole[..15]));
    assert_eq!(loaded.entries, whole[15..]);
    let mut elsewhere = whole[14].position();
    elsewhere.ballot.round += 1;
    for applied in [elsewhere, paxos::Position::default()] {
        assert_eq!(load(applied).outlines, []);
        assert_eq!(load(applied).entries, whole);
    }
    let outlined = wal.load_outlined(GroupId(1), found.clone()).unwrap();
    assert_eq!(outlined.outlines, paxos::Outline::of(&whole));
    assert_eq!(outlined.entries, []);
}
