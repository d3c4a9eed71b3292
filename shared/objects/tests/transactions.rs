//! Points in time that cut through transactions: what a rebuild to one makes of what was pending at it, as the log says further on (ADR 0010).

mod world;

use std::time::{Duration, Instant};

use archive::lineage::Moment;
use bytes::Bytes;
use objects::{ArchivedTable, MemorySink, Rebuild, Target, read_commits};
use partition::transactions::{Outcome, Prepared};
use partition::{Commits, command};
use protocol::transact::{Settle, TransactionId, TransactionRef};

use world::{Archive, Items, LEFT, Log, PARENT, RIGHT, World, key, run};

const NEW: &[u8] = b"new";
/// When the transactions of these tests count; their logs begin at 1,000.
const COUNTS_MS: u64 = 1_150;

fn id(number: u64) -> TransactionId {
    TransactionId(number, 0)
}

/// Puts an item; later its transaction sets it anew.
fn put(log: &mut Log, n: u8) {
    log.command(10, |ms| {
        command::encode_write(ms, &key(n), Some(b"old!"), 0, 4)
    });
}

fn prepare(log: &mut Log, number: u64, n: u8) {
    let prepared = Prepared {
        key: key(n),
        transaction: TransactionRef {
            id: id(number),
            record: Bytes::from_static(b"record"),
            timestamp_ms: 1_000,
        },
        outcome: Outcome::Put(Bytes::from_static(NEW)),
        old_size_bytes: 4,
        new_size_bytes: 3,
        since_ms: 0,
    };
    log.command(10, |ms| command::encode_prepare(ms, &prepared).unwrap());
}

/// Commits as of a time, or (0) cancels.
fn end(log: &mut Log, number: u64, n: u8, commit_ms: u64) {
    if commit_ms > 0 {
        log.command(0, |ms| command::encode_write(ms, &key(n), Some(NEW), 4, 3));
    }
    let settle = Settle {
        key: key(n),
        id: id(number),
        timestamp_ms: 1_000,
        commit_ms,
    };
    log.command(0, |ms| command::encode_finish(ms, &settle).unwrap());
}

/// Items 1 to 4; four transactions, all prepared by 1,080.
fn begun() -> Log {
    let mut log = World::new(&[], None).logs.remove(0);
    for n in 1..=4 {
        put(&mut log, n);
    }
    for n in 1..=4 {
        prepare(&mut log, u64::from(n), n);
    }
    log
}

/// Which of the items are as their transactions leave them, at this time.
async fn set(archive: &Archive, time_ms: u64) -> Vec<u8> {
    let uuid = archive::TableUuid::parse(world::UUID).unwrap();
    let table = ArchivedTable::read(&archive.reader, &uuid).await.unwrap();
    let mut items = Items::new();
    for piece in table.pieces(Moment::Time(time_ms)).unwrap() {
        let partition = table.partition(piece.partition);
        let rebuild = Rebuild::new(archive.reader.clone(), partition, Target::Time(time_ms));
        let (sink, rebuilt) = rebuild
            .only(piece.range.clone())
            .run(MemorySink::default())
            .await
            .unwrap();
        let counted = rebuilt.items.unwrap();
        assert_eq!(counted, sink.items.len() as u64);
        items.extend(sink.items);
    }
    assert_eq!(items.len(), 4);
    (1..=4).filter(|n| items[&key(*n)] == NEW).collect()
}

/// The first is committed before the point in time, the second afterwards but counts before it, the third counts afterwards, the fourth is cancelled.
fn ended() -> Log {
    let mut log = begun();
    log.command(90, |ms| command::encode_write(ms, &key(9), None, 0, 0));
    end(&mut log, 1, 1, COUNTS_MS);
    log.command(100, |ms| command::encode_write(ms, &key(9), None, 0, 0));
    end(&mut log, 3, 3, 1_260);
    end(&mut log, 4, 4, 0);
    end(&mut log, 2, 2, COUNTS_MS);
    log
}

#[test]
fn a_transaction_counts_on_all_of_its_items_at_the_same_time() {
    run(async {
        let log = ended();
        for snapshot_at in [None, Some(9), Some(7), Some(12)] {
            let archive = Archive::new();
            archive.write(&log, 2).await;
            if let Some(index) = snapshot_at {
                // What is pending in it, it says.
                log.write_snapshot(&archive.writer, index).await;
            }
            assert_eq!(
                set(&archive, COUNTS_MS - 1).await,
                [0_u8; 0],
                "{snapshot_at:?}"
            );
            // Only the prepares are stamped so early.
            assert_eq!(set(&archive, COUNTS_MS).await, [1, 2], "{snapshot_at:?}");
            assert_eq!(set(&archive, 1_200).await, [1, 2], "{snapshot_at:?}");
            assert_eq!(set(&archive, 1_259).await, [1, 2], "{snapshot_at:?}");
            assert_eq!(set(&archive, 1_300).await, [1, 2, 3], "{snapshot_at:?}");
        }
    });
}

#[test]
fn the_ends_of_transactions_are_found_in_the_children_of_a_split() {
    run(async {
        let mut log = begun();
        log.command(90, |ms| command::encode_write(ms, &key(9), None, 0, 0));
        let mut world = World::divide(log, (&[], &[], 3));
        for (log, n) in world.logs[1..].iter_mut().zip([0, 9]) {
            log.command(100, |ms| command::encode_write(ms, &key(n), None, 0, 0));
        }
        end(&mut world.logs[1], 1, 1, COUNTS_MS);
        end(&mut world.logs[1], 2, 2, 0);
        end(&mut world.logs[2], 3, 3, COUNTS_MS);
        end(&mut world.logs[2], 4, 4, 1_200);
        let archive = Archive::new();
        for id in [PARENT, LEFT, RIGHT] {
            archive.write(world.log(id), 3).await;
        }
        let split_ms = world.logs[0].after.last().unwrap().0.split.unwrap().time_ms;
        assert_eq!(set(&archive, COUNTS_MS - 1).await, [0_u8; 0]);
        // Before the split and behind it.
        for time_ms in [COUNTS_MS, split_ms - 1, split_ms, 1_199] {
            assert_eq!(set(&archive, time_ms).await, [1, 3], "at {time_ms}");
        }
        assert!((COUNTS_MS + 1..1_199).contains(&split_ms));
        assert_eq!(set(&archive, 1_200).await, [1, 3, 4]);
    });
}

#[test]
fn what_is_not_archived_yet_is_waited_for_and_then_left_out() {
    run(async {
        let log = ended();
        let archive = Archive::new();
        archive.writer.birth(&log.birth).await.unwrap();
        let first = log.checked(1, log.end() - 1);
        archive.writer.segment(&first).await.unwrap();
        let rebuild = |patience| {
            let partition = log.partition().clone();
            let rebuild = Rebuild::new(archive.reader.clone(), partition, Target::Time(1_200));
            rebuild.patient(patience).run(MemorySink::default())
        };
        let (sink, rebuilt) = rebuild(Duration::ZERO).await.unwrap();
        assert_eq!(
            rebuilt.undecided.len(),
            1,
            "the second one's end is missing"
        );
        assert_eq!(sink.items[&key(2)], Bytes::from_static(b"old!"));
        // It comes while it is waited for.
        let begun = Instant::now();
        let (late, rebuilt) = tokio::join!(
            async {
                tokio::task::yield_now().await;
                let last = log.checked(log.end(), log.end());
                archive.writer.segment(&last).await.unwrap();
            },
            rebuild(Duration::from_secs(60)),
        );
        let ((), (sink, rebuilt)) = (late, rebuilt.unwrap());
        assert!(begun.elapsed() < Duration::from_secs(60));
        assert_eq!(rebuilt.undecided.len(), 0);
        assert_eq!(sink.items[&key(2)], Bytes::from_static(NEW));
    });
}

#[test]
fn behind_a_hole_nothing_is_waited_for() {
    run(async {
        let log = ended();
        let archive = Archive::new();
        archive.writer.birth(&log.birth).await.unwrap();
        for (first, last) in [(1, 12), (log.end(), log.end())] {
            let segment = log.checked(first, last);
            archive.writer.segment(&segment).await.unwrap();
        }
        let partition = log.partition().clone();
        let rebuild = Rebuild::new(archive.reader.clone(), partition, Target::Time(1_200));
        let rebuilt = rebuild
            .patient(Duration::from_secs(3_600))
            .run(MemorySink::default());
        let (_, rebuilt) = rebuilt.await.unwrap();
        assert_eq!(rebuilt.undecided.len(), 3);
    });
}

/// Which of the four transactions count at this time, as far as a log shows that is archived in such segments.
async fn shown(log: &Log, segments: &[(u64, u64)], since_ms: u64, at_ms: Option<u64>) -> Vec<u64> {
    let archive = Archive::new();
    archive.writer.birth(&log.birth).await.unwrap();
    for &(first, last) in segments {
        let segment = log.checked(first, last);
        archive.writer.segment(&segment).await.unwrap();
    }
    let mut commits = Commits::of((1..=4).map(id).collect());
    let read = read_commits(&archive.reader, log.partition(), since_ms, &mut commits);
    read.await.unwrap();
    (1..=4).filter(|n| commits.counts(id(*n), at_ms)).collect()
}

#[test]
fn what_is_pending_at_the_end_of_an_archive_is_told() {
    run(async {
        let (log, archive) = (begun(), Archive::new());
        archive.write(&log, 3).await;
        let rebuild = || {
            let partition = log.partition().clone();
            Rebuild::new(archive.reader.clone(), partition, Target::End)
        };
        let (sink, rebuilt) = rebuild().run(MemorySink::default()).await.unwrap();
        let told = rebuilt.undecided.iter();
        let told: Vec<_> = told.map(|one| (one.transaction.id, &one.key)).collect();
        let keys: Vec<_> = (1..=4).map(key).collect();
        let all: Vec<_> = (1..=4).map(id).zip(&keys).collect();
        assert_eq!(told, all);
        assert!(sink.items.values().all(|item| item[..] == b"old!"[..]));
        // Of these keys only.
        let cut = model::KeyRange {
            start: key(2),
            end: key(4),
        };
        let part = rebuild().only(cut).run(MemorySink::default()).await;
        assert_eq!(part.unwrap().1.undecided.len(), 2);
    });
}

#[test]
fn another_log_shows_which_transactions_are_committed() {
    run(async {
        let log = ended();
        let end = log.end();
        // Segments that overlap say everything twice.
        for segments in [&[(1, end)][..], &[(1, 9), (5, end)], &[(1, 12), (11, end)]] {
            assert_eq!(shown(&log, segments, 0, None).await, [1, 2, 3]);
            let at = |ms| shown(&log, segments, 0, Some(ms));
            assert_eq!(at(COUNTS_MS - 1).await, [0_u64; 0]);
            assert_eq!(at(COUNTS_MS).await, [1, 2]);
            assert_eq!(at(1_260).await, [1, 2, 3]);
        }
        // What is older than what is looked for is not read, what lies behind a hole is.
        assert_eq!(shown(&log, &[(1, end)], 9_999, None).await, [0_u64; 0]);
        assert_eq!(shown(&log, &[(1, 3), (end, end)], 0, None).await, [2]);
    });
}

#[test]
fn a_commit_without_a_time_is_shown_by_its_write() {
    run(async {
        let mut log = begun();
        // As coordinators of an older version send it.
        log.command(10, |ms| command::encode_write(ms, &key(1), Some(NEW), 4, 3));
        let cut = log.end();
        for n in 1..=2 {
            end(&mut log, u64::from(n), n, 0);
        }
        // The second was cancelled: this is somebody else's.
        put(&mut log, 2);
        for segments in [
            &[(1, log.end())][..],
            &[(1, cut)],
            &[(1, 7), (3, log.end())],
        ] {
            assert_eq!(shown(&log, segments, 0, None).await, [1]);
            assert_eq!(shown(&log, segments, 0, Some(9_999)).await, [0_u64; 0]);
        }
    });
}
