//! Rebuilds against the truth, whatever the segments and snapshots are, and whatever is damaged.

mod world;

use archive::lineage::Moment;
use archive::{ObjectName, PartitionRef};
use objects::{ArchivedTable, MemorySink, Rebuild, RebuildError, Rebuilt, Target};
use paxos::{GroupId, Index};
use proptest::prelude::*;
use proptest::sample::Index as Pick;

use world::{Archive, Items, LEFT, Log, PARENT, RIGHT, World, range, run, world};

async fn rebuild(
    archive: &Archive,
    partition: &PartitionRef,
    target: Target,
) -> Result<(Items, Rebuilt), RebuildError> {
    let rebuild = Rebuild::new(archive.reader.clone(), partition.clone(), target);
    let (sink, rebuilt) = rebuild.run(MemorySink::default()).await?;
    let counted = rebuilt.state.items + rebuilt.state.entries;
    assert_eq!(sink.items.len() as u64, counted);
    assert_eq!(
        sink.state.map(|state| state.applied),
        Some(rebuilt.tail.index)
    );
    Ok((sink.items, rebuilt))
}

async fn whole_table(archive: &Archive, moment: Moment) -> Result<Items, String> {
    let uuid = archive::TableUuid::parse(world::UUID).unwrap();
    let table = ArchivedTable::read(&archive.reader, &uuid)
        .await
        .map_err(|error| error.to_string())?;
    let mut items = Items::new();
    for piece in table.pieces(moment).map_err(|error| error.to_string())? {
        let partition = table.partition(piece.partition);
        let rebuild = Rebuild::new(archive.reader.clone(), partition, moment.into())
            .only(piece.range.clone());
        let (sink, _) = rebuild
            .run(MemorySink::default())
            .await
            .map_err(|error| error.to_string())?;
        assert!(sink.items.keys().all(|key| piece.range.contains(key)));
        items.extend(sink.items);
    }
    Ok(items)
}

/// A part of a log, drawn.
#[derive(Clone, Debug)]
struct Cut(Pick, Pick);

impl Cut {
    fn of(&self, log: &Log) -> Option<(Index, Index)> {
        if log.entries.is_empty() {
            return None;
        }
        let at = |pick: &Pick| log.birth.begins() + 1 + pick.index(log.entries.len()) as u64;
        let (one, other) = (at(&self.0), at(&self.1));
        Some((one.min(other), one.max(other)))
    }
}

fn cuts() -> impl Strategy<Value = Vec<Cut>> {
    proptest::collection::vec(
        (any::<Pick>(), any::<Pick>()).prop_map(|(one, other)| Cut(one, other)),
        0..6,
    )
}

/// Extra segments and snapshots beside a whole chain.
async fn enrich(archive: &Archive, log: &Log, cuts: &[Cut], snapshots: &[Pick]) {
    for (first, last) in cuts.iter().filter_map(|cut| cut.of(log)) {
        archive
            .writer
            .segment(&log.checked(first, last))
            .await
            .unwrap();
    }
    for pick in snapshots {
        let index = log.birth.begins() + pick.index(log.after.len()) as u64;
        if index > 0 {
            log.write_snapshot(&archive.writer, index).await;
        }
    }
}

fn damage(archive: &Archive, key: &str, how: u8, at: Pick) {
    let objects = archive.store.objects();
    let body = &objects[key];
    match how % 3 {
        0 => archive.store.lose(key),
        1 => archive.store.set(key, body.slice(..at.index(body.len()))),
        _ => {
            let mut damaged = body.to_vec();
            let bit = at.index(body.len() * 8);
            damaged[bit / 8] ^= 1 << (bit % 8);
            archive.store.set(key, damaged.into());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_segments_and_snapshots_rebuild_the_same(
        world in world(false),
        entries_max in 1u64..20,
        cuts in cuts(),
        snapshots in proptest::collection::vec(any::<Pick>(), 0..3),
    ) {
        run(async {
            let archive = Archive::new();
            let log = &world.logs[0];
            archive.write(log, entries_max).await;
            enrich(&archive, log, &cuts, &snapshots).await;
            for (tail, state, items) in &log.after {
                let (rebuilt, outcome) = rebuild(&archive, log.partition(), Target::Index(tail.index)).await.unwrap();
                assert_eq!(&rebuilt, items, "at {}", tail.index);
                assert_eq!(outcome.tail, *tail);
                assert_eq!(outcome.beyond, tail.index < log.end());
                assert_eq!((&outcome.state.table, &outcome.state.configuration), (&state.table, &state.configuration));
            }
            for time_ms in world.times() {
                let (rebuilt, outcome) = rebuild(&archive, log.partition(), Target::Time(time_ms)).await.unwrap();
                let index = log.position_at(time_ms);
                assert_eq!(outcome.tail.index, index, "at {time_ms} ms");
                assert_eq!(&rebuilt, log.items_at(index));
            }
            let (rebuilt, outcome) = rebuild(&archive, log.partition(), Target::End).await.unwrap();
            assert_eq!((&rebuilt, outcome.beyond), (log.items_at(log.end()), false));
            let beyond = rebuild(&archive, log.partition(), Target::Index(log.end() + 2)).await.unwrap_err();
            assert!(matches!(beyond, RebuildError::Hole { missing, .. } if missing == (log.end() + 1..=log.end() + 2)));
        });
    }

    #[test]
    fn a_split_table_is_rebuilt_at_every_moment(
        world in world(true),
        entries_max in 1u64..20,
        snapshots in proptest::collection::vec(proptest::collection::vec(any::<Pick>(), 0..2), 3),
    ) {
        run(async {
            let archive = Archive::new();
            for (log, snapshots) in world.logs.iter().zip(&snapshots) {
                archive.write(log, entries_max).await;
                enrich(&archive, log, &[], snapshots).await;
            }
            for time_ms in world.times() {
                let items = whole_table(&archive, Moment::Time(time_ms)).await.unwrap();
                assert_eq!(items, world.table_at(Some(time_ms)), "at {time_ms} ms");
            }
            assert_eq!(whole_table(&archive, Moment::End).await.unwrap(), world.table_at(None));
            // The children's position of birth, and a part of their keys.
            for child in [LEFT, RIGHT] {
                let log = world.log(child);
                let at = log.birth.begins();
                let (items, _) = rebuild(&archive, log.partition(), Target::Index(at)).await.unwrap();
                assert_eq!(&items, log.items_at(at));
                let part = Rebuild::new(archive.reader.clone(), log.partition().clone(), Target::End).only(range(3, 6));
                let (sink, _) = part.run(MemorySink::default()).await.unwrap();
                let mut expected = log.items_at(log.end()).clone();
                expected.retain(|key, _| range(3, 6).contains(key));
                assert_eq!(sink.items, expected);
            }
        });
    }

    #[test]
    fn damage_is_healed_by_what_else_there_is_or_named(
        world in world(true),
        entries_max in 1u64..12,
        cuts in cuts(),
        snapshots in proptest::collection::vec(any::<Pick>(), 0..3),
        hits in proptest::collection::vec((any::<Pick>(), any::<u8>(), any::<Pick>()), 1..4),
    ) {
        run(async {
            let archive = Archive::new();
            for log in &world.logs {
                archive.write(log, entries_max).await;
                enrich(&archive, log, &cuts, &snapshots).await;
            }
            let keys: Vec<String> = archive.store.objects().into_keys().collect();
            let mut hit = Vec::new();
            for (pick, how, at) in &hits {
                let key = &keys[pick.index(keys.len())];
                if archive.store.objects().contains_key(key) {
                    damage(&archive, key, *how, *at);
                    hit.push(key.clone());
                }
            }
            for log in &world.logs {
                for index in log.birth.begins()..=log.end() {
                    match rebuild(&archive, log.partition(), Target::Index(index)).await {
                        Ok((items, _)) => assert_eq!(&items, log.items_at(index), "{} at {index}, damaged {hit:?}", log.partition()),
                        // What is missing without a trace (a manifest) is named as a hole, what is bad by its key.
                        Err(RebuildError::Hole { missing, .. }) => assert!(!missing.is_empty()),
                        Err(RebuildError::Refused(refusal)) => assert!(hit.contains(&refusal.key), "{refusal}, damaged {hit:?}"),
                        Err(RebuildError::Unknown(_)) => assert!(hit.iter().any(|key| key.contains("/births/"))),
                        Err(error) => panic!("{error}, damaged {hit:?}"),
                    }
                }
            }
        });
    }
}

fn plain(count: u8) -> World {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let steps = proptest::collection::vec(world::drawn(), usize::from(count));
    let tree = steps.new_tree(&mut runner).unwrap();
    World::new(&proptest::strategy::ValueTree::current(&tree), None)
}

#[test]
fn a_damaged_snapshot_is_passed_over_and_named() {
    run(async {
        let (archive, world) = (Archive::new(), plain(30));
        let log = &world.logs[0];
        archive.write(log, 4).await;
        log.write_snapshot(&archive.writer, 5).await;
        let newest = log.write_snapshot(&archive.writer, 15).await;
        let key = log.partition().key(&newest.parts[0].name(15));
        let body = archive.store.objects()[&key].clone();
        archive.store.set(&key, body.slice(..body.len() - 1));
        let (items, rebuilt) = rebuild(&archive, log.partition(), Target::End)
            .await
            .unwrap();
        assert_eq!(&items, log.items_at(log.end()));
        assert_eq!(
            rebuilt.snapshot.map(|(_, name)| name.applied),
            Some(5),
            "the older one"
        );
        assert_eq!(
            rebuilt.damaged.iter().map(|r| &r.key).collect::<Vec<_>>(),
            [&key]
        );
    });
}

#[test]
fn entries_of_local_indexes_are_rebuilt_and_counted_beside_the_items() {
    run(async {
        let (archive, world) = (Archive::new(), World::indexed(30));
        let log = &world.logs[0];
        archive.write(log, 4).await;
        let manifest = log.write_snapshot(&archive.writer, 12).await;
        assert_eq!((manifest.items, manifest.entries), (5, 5));
        // From the beginning, from the snapshot alone, and with more of the log.
        for index in [3, 11, 12, 13, 30] {
            let rebuilt = rebuild(&archive, log.partition(), Target::Index(index)).await;
            let (items, rebuilt) = rebuilt.unwrap();
            assert_eq!(&items, log.items_at(index));
            assert_eq!(rebuilt.items, Some(index.min(5)));
            assert_eq!(rebuilt.state.entries, index.min(5));
            assert_eq!(rebuilt.snapshot.is_some(), index >= 12);
        }
    });
}

#[test]
fn a_hole_is_named_with_the_object_that_would_have_filled_it() {
    run(async {
        let (archive, world) = (Archive::new(), plain(30));
        let log = &world.logs[0];
        archive.write(log, 4).await;
        let name = log.checked(9, 12).manifest.name();
        let key = log.partition().key(&ObjectName::Segment(name));
        archive.store.lose(&key);
        let error = rebuild(&archive, log.partition(), Target::End)
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("entries 9 to 12") && text.contains(&key),
            "{text}"
        );
        let (items, _) = rebuild(&archive, log.partition(), Target::Index(8))
            .await
            .unwrap();
        assert_eq!(&items, log.items_at(8));
    });
}

#[test]
fn two_whole_segments_of_one_range_that_differ_are_refused() {
    run(async {
        let (archive, world) = (Archive::new(), plain(10));
        let log = &world.logs[0];
        archive.write(log, 4).await;
        let mut other = log.clone();
        other.entries[5].payload = paxos::Payload::Noop;
        archive.writer.segment(&other.checked(5, 8)).await.unwrap();
        let error = rebuild(&archive, log.partition(), Target::End)
            .await
            .unwrap_err();
        assert!(
            matches!(error, RebuildError::Contradiction { .. }),
            "{error}"
        );
        // Overlapping ones, too.
        let archive = Archive::new();
        archive.write(log, 4).await;
        archive
            .writer
            .segment(&other.checked(6, log.end()))
            .await
            .unwrap();
        let error = rebuild(&archive, log.partition(), Target::End)
            .await
            .unwrap_err();
        assert!(
            matches!(error, RebuildError::Contradiction { .. }),
            "{error}"
        );
    });
}

#[test]
fn a_parent_stands_in_for_children_that_the_archive_does_not_know_yet() {
    run(async {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let steps = proptest::collection::vec(world::drawn(), 20);
        let tree = steps.new_tree(&mut runner).unwrap();
        let steps = proptest::strategy::ValueTree::current(&tree);
        let world = World::new(&steps, Some((&[], &[], 6)));
        for known in [&[PARENT][..], &[PARENT, LEFT], &[PARENT, RIGHT]] {
            let archive = Archive::new();
            for id in known {
                archive.write(world.log(*id), 5).await;
            }
            let items = whole_table(&archive, Moment::End).await.unwrap();
            assert_eq!(items, world.table_at(None), "{known:?}");
        }
        // Without the parent's end a child is no table.
        let archive = Archive::new();
        archive.write(world.log(LEFT), 5).await;
        let error = whole_table(&archive, Moment::End).await.unwrap_err();
        assert!(
            error.contains("no partition in the archive has the keys"),
            "{error}"
        );
    });
}

#[test]
fn what_the_archive_does_not_know_is_said() {
    run(async {
        let archive = Archive::new();
        let partition = PartitionRef::new(world::UUID, GroupId(99)).unwrap();
        let error = rebuild(&archive, &partition, Target::End)
            .await
            .unwrap_err();
        assert_eq!(error, RebuildError::Unknown(partition));
        assert!(whole_table(&archive, Moment::End).await.is_err());
    });
}
