//! Retention against rebuilds: whatever must stay restorable is the same before and after, also if the newest snapshot is damaged then.

mod world;

use std::collections::{BTreeMap, BTreeSet};

use archive::TableUuid;
use archive::lineage::Moment;
use archive::retention::{Policy, expired};
use objects::{ArchivedTable, MemorySink, Rebuild};
use proptest::prelude::*;
use proptest::sample::Index as Pick;

use world::{Archive, Items, run, world};

async fn read(archive: &Archive) -> ArchivedTable {
    let uuid = TableUuid::parse(world::UUID).unwrap();
    ArchivedTable::read(&archive.reader, &uuid).await.unwrap()
}

async fn whole_table(archive: &Archive, moment: Moment) -> Items {
    let table = read(archive).await;
    let mut items = Items::new();
    for piece in table.pieces(moment).unwrap() {
        let partition = table.partition(piece.partition);
        let rebuild =
            Rebuild::new(archive.reader.clone(), partition, moment.into()).only(piece.range);
        items.extend(rebuild.run(MemorySink::default()).await.unwrap().0.items);
    }
    items
}

/// Deletes what may go; says how many objects went.
async fn apply(archive: &Archive, policy: &Policy) -> usize {
    let table = read(archive).await;
    let kept = table.kept(&archive.reader, &BTreeMap::new()).await.unwrap();
    let before = archive.store.objects().len();
    for (id, expired) in expired(&kept, policy) {
        let partition = table.partition(id);
        for name in &expired.snapshots {
            archive
                .writer
                .delete_snapshot(&partition, name)
                .await
                .unwrap();
        }
        for name in &expired.segments {
            archive
                .writer
                .delete_segment(&partition, name)
                .await
                .unwrap();
        }
        if expired.whole {
            for key in archive
                .store
                .objects()
                .keys()
                .filter(|key| key.starts_with(&partition.folder()))
            {
                archive.store.lose(key);
            }
        }
    }
    before - archive.store.objects().len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn nothing_that_must_stay_restorable_goes(
        (world, split) in proptest::bool::ANY.prop_flat_map(|split| (world(split), Just(split))),
        entries_max in 1u64..10,
        snapshots in proptest::collection::vec(proptest::collection::vec(any::<Pick>(), 0..5), 3),
        window in proptest::option::of(any::<Pick>()),
        pins in proptest::collection::vec(any::<Pick>(), 0..3),
        recoverable in proptest::bool::ANY,
    ) {
        run(async {
            let archive = Archive::new();
            for (log, snapshots) in world.logs.iter().zip(&snapshots) {
                archive.write(log, entries_max).await;
                for pick in snapshots {
                    let index = log.birth.begins() + pick.index(log.after.len()) as u64;
                    if index > 0 {
                        log.write_snapshot(&archive.writer, index).await;
                    }
                }
            }
            let times = world.times();
            let at = |pick: &Pick| times[pick.index(times.len())];
            let policy = Policy {
                window_from_ms: window.as_ref().map(at),
                pins_ms: pins.iter().map(at).collect::<BTreeSet<u64>>(),
                recoverable,
            };
            let promised: BTreeSet<u64> = times
                .iter()
                .copied()
                .filter(|time_ms| policy.pins_ms.contains(time_ms) || policy.window_from_ms.is_some_and(|from| from <= *time_ms))
                .collect();
            // Once more for what only matters while the children's archives are there: where their parent ended.
            apply(&archive, &policy).await;
            apply(&archive, &policy).await;
            assert_eq!(apply(&archive, &policy).await, 0, "what is kept is kept");
            // The newest snapshot that is left of each partition is lost on top of it.
            for lose in [false, true] {
                for log in world.logs.iter().filter(|_| lose) {
                    if let Some(name) = archive.reader.snapshots(log.partition()).await.unwrap().pop() {
                        archive.writer.delete_snapshot(log.partition(), &name).await.unwrap();
                    }
                }
                for time_ms in &promised {
                    let items = whole_table(&archive, Moment::Time(*time_ms)).await;
                    assert_eq!(items, world.table_at(Some(*time_ms)), "at {time_ms} ms, {policy:?}, split {split}");
                }
                if recoverable || policy.window_from_ms.is_some() {
                    assert_eq!(whole_table(&archive, Moment::End).await, world.table_at(None), "{policy:?}");
                }
            }
            if !recoverable && promised.is_empty() && policy.window_from_ms.is_none() && policy.pins_ms.is_empty() {
                assert!(archive.store.objects().keys().all(|key| key.contains("/parts/")), "nothing is promised, nothing is left");
            }
        });
    }
}

#[test]
fn what_is_older_than_two_snapshots_before_the_window_goes() {
    run(async {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let steps = proptest::collection::vec(world::drawn(), 60);
        let steps = proptest::strategy::ValueTree::current(&steps.new_tree(&mut runner).unwrap());
        let world = world::World::new(&steps, None);
        let (archive, log) = (Archive::new(), &world.logs[0]);
        archive.write(log, 2).await;
        for index in [10, 20, 30, 40] {
            log.write_snapshot(&archive.writer, index).await;
        }
        let policy = Policy {
            window_from_ms: Some(log.after[45].0.time_ms),
            pins_ms: BTreeSet::new(),
            recoverable: true,
        };
        assert!(apply(&archive, &policy).await > 0);
        let left: Vec<u64> = archive
            .reader
            .snapshots(log.partition())
            .await
            .unwrap()
            .iter()
            .map(|name| name.applied)
            .collect();
        assert_eq!(left, [30, 40]);
        let chain = archive.reader.chain(log.partition()).await.unwrap();
        assert_eq!(chain.names().next().map(|name| name.last), Some(30));
    });
}
