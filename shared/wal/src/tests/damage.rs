//! Bits that change after they were acknowledged: fenced, never silently shortened.

use paxos::GroupId;
use proptest::prelude::*;

use super::model::{
    self, Action, Model, Recovery, act, actions, append, append_now, copy_dir, floor, install, open,
};
use crate::{Wal, WalError, segment, unreadable};

/// Nothing may differ from the model without being reported.
fn check(recovery: &Recovery, model: &Model, what: &str) {
    for (id, group) in model {
        match recovery.groups.get(id) {
            Some(found) => assert_eq!(found, group, "{what}: {id:?} changed silently"),
            None => assert!(
                recovery.damaged.contains_key(id) || recovery.unattributed_damage,
                "{what}: {id:?} vanished silently"
            ),
        }
    }
    for id in recovery.groups.keys() {
        assert!(model.contains_key(id), "{what}: {id:?} came back");
    }
}

fn run(dir: &std::path::Path, lives: &[Vec<Action>]) -> Model {
    let mut model = Model::new();
    for actions in lives {
        let (wal, _) = open(dir, 4096);
        for action in actions {
            act(&wal, &mut model, action)
                .unwrap()
                .recv()
                .unwrap()
                .unwrap();
        }
    }
    model
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn flipped_bits(
        lives in prop::collection::vec(actions(60), 1..3),
        flips in prop::collection::vec((0.0_f64..1.0, 0_u8..8), 40),
    ) {
        let dir = model::tempdir();
        let model = run(dir.path(), &lives);
        let numbers = segment::list(dir.path()).unwrap();
        let sizes: Vec<usize> = numbers
            .iter()
            .map(|n| std::fs::metadata(segment::path(dir.path(), *n)).unwrap().len() as usize)
            .collect();
        for (place, bit) in flips {
            let damaged = model::tempdir();
            copy_dir(dir.path(), damaged.path());
            let mut at = (sizes.iter().sum::<usize>() as f64 * place) as usize;
            let mut segment_at = 0;
            while at >= sizes[segment_at] {
                at -= sizes[segment_at];
                segment_at += 1;
            }
            let file = segment::path(damaged.path(), numbers[segment_at]);
            let mut bytes = std::fs::read(&file).unwrap();
            bytes[at] ^= 1 << bit;
            std::fs::write(&file, &bytes).unwrap();
            let what = format!("segment {} of {numbers:?}, byte {at}", numbers[segment_at]);
            let (wal, recovery) = open(damaged.path(), 4096);
            check(&recovery, &model, &what);
            drop(wal);
            // What was found stays found.
            let (_wal, again) = open(damaged.path(), 4096);
            check(&again, &model, &format!("{what}, opened again"));
            let ids = |r: &Recovery| r.damaged.keys().copied().collect::<Vec<_>>();
            prop_assert_eq!(ids(&again), ids(&recovery));
        }
    }

    #[test]
    fn lost_segments(lives in prop::collection::vec(actions(80), 2..3), lost in 0.0_f64..1.0) {
        let dir = model::tempdir();
        let model = run(dir.path(), &lives);
        let numbers = segment::list(dir.path()).unwrap();
        let number = numbers[(numbers.len() as f64 * lost) as usize];
        std::fs::remove_file(segment::path(dir.path(), number)).unwrap();
        for what in ["without", "opened again without"] {
            let (_wal, recovery) = open(dir.path(), 4096);
            check(&recovery, &model, &format!("{what} segment {number} of {numbers:?}"));
        }
    }

    /// A file that ends too early: any but the newest anywhere, the newest within what is witnessed.
    #[test]
    fn cut_segments(
        lives in prop::collection::vec(actions(80), 2..3),
        which in 0.0_f64..1.0,
        cut in 0.0_f64..1.0,
    ) {
        let dir = model::tempdir();
        let model = run(dir.path(), &lives);
        let numbers = segment::list(dir.path()).unwrap();
        let number = numbers[(numbers.len() as f64 * which) as usize];
        let file = segment::path(dir.path(), number);
        let newest = crate::witness::read(dir.path()).unwrap().unwrap();
        let len = match number == newest.segment {
            true => u64::from(newest.durable),
            false => std::fs::metadata(&file).unwrap().len(),
        };
        let len = (len as f64 * cut) as u64;
        std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(len).unwrap();
        for what in ["cut", "opened again after a cut"] {
            let (_wal, recovery) = open(dir.path(), 4096);
            check(&recovery, &model, &format!("{what} at {len} in segment {number} of {numbers:?}"));
        }
    }

    /// Blocks that the disk does not give.
    #[test]
    fn unreadable_blocks(
        lives in prop::collection::vec(actions(60), 1..3),
        which in 0.0_f64..1.0,
        place in 0.0_f64..1.0,
    ) {
        let dir = model::tempdir();
        let model = run(dir.path(), &lives);
        let numbers = segment::list(dir.path()).unwrap();
        let number = numbers[(numbers.len() as f64 * which) as usize];
        let file = segment::path(dir.path(), number);
        let at = (std::fs::metadata(&file).unwrap().len() as f64 * place) as usize;
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        unreadable::faults::BAD.set(Some((name, at..at + 1)));
        let (_wal, recovery) = model::open_with(dir.path(), model::options(4096));
        unreadable::faults::BAD.set(None);
        check(&recovery, &model, &format!("byte {at} of segment {number} of {numbers:?}"));
    }
}

/// Opens a log with two groups, each with acknowledged entries, and closes it.
fn two_groups(dir: &std::path::Path) {
    let (wal, _) = open(dir, 1 << 20);
    for group in 1..=2 {
        append_now(&wal, group, vec![install(0), append(1, &[100])]).unwrap();
    }
}

fn fenced(recovery: &Recovery) -> Vec<u64> {
    recovery.damaged.keys().map(|group| group.0).collect()
}

#[test]
fn a_missing_newest_segment_is_named() {
    let dir = model::tempdir();
    two_groups(dir.path());
    drop(open(dir.path(), 1 << 20));
    std::fs::remove_file(model::last_segment(dir.path())).unwrap();
    let (_wal, recovery) = open(dir.path(), 1 << 20);
    assert_eq!(fenced(&recovery), [1, 2]);
    let why = &recovery.damaged[&GroupId(1)];
    assert_eq!(why, "segment 2, the newest of the log, is missing");
    assert!(recovery.unattributed_damage);
    let newest = model::last_segment(dir.path());
    assert!(
        newest.ends_with("0000000003.wal"),
        "{newest:?}: the number of a lost segment is not used again"
    );
}

#[test]
fn an_empty_newest_segment_is_no_unfinished_one() {
    let dir = model::tempdir();
    two_groups(dir.path());
    std::fs::write(model::last_segment(dir.path()), "").unwrap();
    let (_wal, recovery) = open(dir.path(), 1 << 20);
    assert!(recovery.groups.is_empty());
    assert!(recovery.unattributed_damage);
}

#[test]
fn a_lost_log_is_not_a_new_one() {
    let dir = model::tempdir();
    let empty = |must_exist| {
        let options = crate::WalOptions {
            must_exist,
            ..model::options(4096)
        };
        Wal::open(dir.path(), options).unwrap().1
    };
    assert!(!empty(false).unattributed_damage);
    for file in std::fs::read_dir(dir.path()).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    assert!(empty(true).unattributed_damage);
    assert!(empty(true).unattributed_damage, "it stays known");
}

#[test]
fn a_torn_or_missing_witness_is_no_damage() {
    let dir = model::tempdir();
    two_groups(dir.path());
    drop(open(dir.path(), 1 << 20));
    let file = dir.path().join("newest");
    let whole = std::fs::read(&file).unwrap();
    // One slot torn, both damaged, gone altogether (version 0.1 wrote none).
    let one_torn: Vec<u8> = [&[7; 10], &whole[10..]].concat();
    for bytes in [Some(one_torn), Some(vec![7; 8192]), Some(vec![]), None] {
        match bytes {
            Some(bytes) => std::fs::write(&file, bytes).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let (_wal, recovery) = open(dir.path(), 1 << 20);
        assert_eq!(recovery.groups.len(), 2);
        assert!(recovery.damaged.is_empty() && !recovery.unattributed_damage);
        assert!(crate::witness::read(dir.path()).unwrap().is_some());
    }
}

/// The last batch before a crash looks like a torn write when it rots. Once the log was idle it no longer does: the mark behind
/// it is durable, too.
#[test]
fn rot_in_the_last_batch_is_seen_after_an_idle_moment() {
    let dir = model::tempdir();
    let (wal, _) = open(dir.path(), 1 << 20);
    append_now(&wal, 1, vec![install(0)]).unwrap();
    let appended = wal.metrics().syncs;
    append_now(&wal, 1, vec![append(1, &[100])]).unwrap();
    let started = std::time::Instant::now();
    while wal.metrics().syncs < appended + 2 {
        assert!(started.elapsed().as_secs() < 30, "the mark is never synced");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let crashed = model::tempdir();
    copy_dir(dir.path(), crashed.path());
    let file = model::last_segment(crashed.path());
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(100).position(|w| w == [1; 100]).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let (_wal, recovery) = open(crashed.path(), 1 << 20);
    assert_eq!(fenced(&recovery), [1]);
}

#[test]
fn a_disk_that_refuses_an_old_record_says_so() {
    let dir = model::tempdir();
    let (wal, _) = open(dir.path(), 1 << 20);
    append_now(&wal, 1, vec![install(0), append(1, &[100])]).unwrap();
    *wal.shared().faults.next_read.lock() = Some(std::io::ErrorKind::Other);
    let refused = wal.read(GroupId(1), 1, 1000);
    assert!(
        matches!(
            refused,
            Err(WalError::Io {
                operation: "read",
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(wal.read(GroupId(1), 1, 1000).unwrap().len(), 1);
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let dir = model::tempdir();
    let file = dir.path().join("wal");
    std::fs::write(&file, "").unwrap();
    let refused = Wal::open(&file, model::options(4096)).map(|_| ());
    assert!(
        matches!(&refused, Err(WalError::Io { path, .. }) if *path == file),
        "{refused:?}"
    );
}

#[test]
fn only_the_group_that_lost_a_record_is_fenced_until_it_is_removed() {
    let dir = model::tempdir();
    let (wal, _) = open(dir.path(), 1 << 20);
    for group in 1..=3 {
        append_now(&wal, group, vec![install(0), append(1, &[100])]).unwrap();
    }
    for group in 1..=3 {
        append_now(&wal, group, vec![append(2, &[100 + group as usize])]).unwrap();
    }
    let healthy = wal.read(GroupId(3), 1, usize::MAX).unwrap();
    drop(wal);
    let file = model::last_segment(dir.path());
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(102).position(|w| w == [2; 102]).unwrap();
    bytes[at + 50] ^= 4;
    std::fs::write(&file, &bytes).unwrap();

    let (wal, recovery) = open(dir.path(), 1 << 20);
    assert_eq!(recovery.damaged.keys().collect::<Vec<_>>(), [&GroupId(2)]);
    assert_eq!(recovery.groups[&GroupId(3)].entries, healthy);
    assert!(!recovery.unattributed_damage);
    let damaged = WalError::Damaged { group: GroupId(2) };
    assert_eq!(
        append_now(&wal, 2, vec![append(3, &[1])]),
        Err(damaged.clone())
    );
    assert_eq!(wal.read(GroupId(2), 1, 1), Err(damaged));
    append_now(&wal, 3, vec![append(3, &[1])]).unwrap();

    let (sender, removed) = std::sync::mpsc::channel();
    wal.remove_group(GroupId(2), move |result| sender.send(result).unwrap())
        .unwrap();
    removed.recv().unwrap().unwrap();
    append_now(&wal, 2, vec![install(9), append(10, &[1])]).unwrap();
    drop(wal);
    let (_wal, recovery) = open(dir.path(), 1 << 20);
    assert_eq!(recovery.damaged.len(), 0);
    assert_eq!(recovery.groups[&GroupId(2)].floor.index, 9);
    assert_eq!(recovery.groups[&GroupId(3)].entries.len(), 3);
}

#[test]
fn damage_below_a_later_floor_is_no_loss() {
    let dir = model::tempdir();
    let (wal, _) = open(dir.path(), 4096);
    append_now(&wal, 1, vec![install(0), append(1, &[1000])]).unwrap();
    append_now(&wal, 2, vec![install(0), append(1, &[1000])]).unwrap();
    append_now(&wal, 1, vec![floor(1)]).unwrap();
    append_now(&wal, 2, vec![append(2, &[3000])]).unwrap();
    drop(wal);
    let first = segment::path(dir.path(), 1);
    let mut bytes = std::fs::read(&first).unwrap();
    bytes[800] ^= 1;
    std::fs::write(&first, &bytes).unwrap();
    let (_wal, recovery) = open(dir.path(), 4096);
    assert_eq!(recovery.damaged.len(), 0, "{:?}", recovery.damaged);
    assert_eq!(recovery.groups[&GroupId(1)].floor.index, 1);
}
