//! Bits that change after they were acknowledged: fenced, never silently shortened.

use paxos::GroupId;
use proptest::prelude::*;

use super::model::{
    self, Action, Model, act, actions, append, append_now, copy_dir, floor, install, open,
};
use crate::{Recovery, WalError, segment};

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
        // The newest cannot be missed by looking at the others.
        prop_assume!(numbers.len() > 1);
        let number = numbers[((numbers.len() - 1) as f64 * lost) as usize];
        std::fs::remove_file(segment::path(dir.path(), number)).unwrap();
        let (_wal, recovery) = open(dir.path(), 4096);
        check(&recovery, &model, &format!("without segment {number} of {numbers:?}"));
    }
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
