//! Stores: the same behaviour of a folder and of memory, and what the writer, the reader and the probe make of stores that fail or lie.

mod world;

use std::sync::Arc;

use archive::PartitionRef;
use bytes::Bytes;
use objects::fault::Fault;
use objects::{
    ArchiveReader, ArchiveSettings, ArchiveWriter, FaultStore, Honesty, MemorySink, MemoryStore,
    Objects, Put, PutMode, ReadError, Reason, Rebuild, Store, Target, WriteError, Written, probe,
};

use world::{Archive, World, conform, drawn, run, settings};

fn world() -> World {
    use proptest::strategy::{Strategy, ValueTree};
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let tree = proptest::collection::vec(drawn(), 40)
        .new_tree(&mut runner)
        .unwrap();
    World::new(&tree.current(), None)
}

#[test]
fn stores_conform() {
    run(async {
        conform(&Archive::new().reader.objects().clone()).await;
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}/new/archive", folder.path().display());
        let objects = Objects::connect(&ArchiveSettings { url, ..settings() }).unwrap();
        conform(&objects).await;
        let world = world();
        let (writer, reader) = (
            ArchiveWriter::new(objects.clone()),
            ArchiveReader::new(objects),
        );
        let log = &world.logs[0];
        writer.birth(&log.birth).await.unwrap();
        assert_eq!(writer.segment(&log.checked(1, 20)).await, Ok(Written::New));
        assert_eq!(writer.segment(&log.checked(1, 20)).await, Ok(Written::Same));
        log.write_snapshot(&writer, 12).await;
        let tables = reader.tables().await.unwrap();
        assert_eq!(
            tables.iter().map(|t| t.as_str()).collect::<Vec<_>>(),
            [world::UUID]
        );
        assert_eq!(
            reader.partitions(&tables[0]).await.unwrap(),
            [log.partition().clone()]
        );
        let rebuild = Rebuild::new(reader, log.partition().clone(), Target::End);
        let (sink, rebuilt) = rebuild.run(MemorySink::default()).await.unwrap();
        assert_eq!((&sink.items, rebuilt.tail.index), (log.items_at(20), 20));
    });
}

#[test]
fn settings_that_cannot_work_are_named() {
    let refused = |settings: ArchiveSettings| Objects::connect(&settings).unwrap_err();
    let with = |url: &str| ArchiveSettings {
        url: url.into(),
        ..settings()
    };
    for url in ["", "http://x/y", "bucket/prefix"] {
        assert!(refused(with(url)).contains("archive.url"), "{url}");
    }
    assert!(refused(with("file://relative")).contains("absolute"));
    assert!(refused(with("s3://")).contains("bucket"));
    let missing = ArchiveSettings {
        ca_file: "/does/not/exist.pem".into(),
        ..with("s3://bucket/prefix")
    };
    assert!(refused(missing).contains("/does/not/exist.pem"));
    let credentials = ArchiveSettings {
        credentials_file: "/does/not/exist".into(),
        ..with("s3://bucket/prefix")
    };
    assert!(refused(credentials).contains("/does/not/exist"));
    let endless = ArchiveSettings {
        timeout_ms: 0,
        ..with("file:///tmp")
    };
    assert!(refused(endless).contains("timeout_ms"));
}

struct Faulty {
    store: Arc<FaultStore>,
    objects: Objects,
    writer: ArchiveWriter,
    reader: ArchiveReader,
}

fn faulty(settings: &ArchiveSettings) -> Faulty {
    let store = FaultStore::new(Arc::new(MemoryStore::default()));
    let objects = Objects::over(store.clone(), settings);
    Faulty {
        store,
        writer: ArchiveWriter::new(objects.clone()),
        reader: ArchiveReader::new(objects.clone()),
        objects,
    }
}

#[test]
fn the_probe_finds_stores_that_lie() {
    run(async {
        let lying = faulty(&settings());
        lying.store.always(Fault::CreateOverwrites, "");
        assert_eq!(probe(&lying.objects).await, Ok(Honesty::Overwrites));
        let lying = faulty(&settings());
        lying.store.always(Fault::CreateClaims, "race-2");
        assert_eq!(probe(&lying.objects).await, Ok(Honesty::SeveralWin));
        // One that merely loses answers is not a liar.
        let lossy = faulty(&settings());
        lossy.store.strike(Fault::AnswerLost, "race-1", 1);
        assert_eq!(probe(&lossy.objects).await, Ok(Honesty::Honest));
    });
}

#[test]
fn a_store_that_fails_for_a_while_is_asked_again() {
    run(async {
        let world = world();
        let log = &world.logs[0];
        for fault in [Fault::Unavailable, Fault::AnswerLost] {
            let faulty = faulty(&settings());
            faulty.store.strike(fault, "", 2);
            faulty.writer.birth(&log.birth).await.unwrap();
            faulty.store.strike(fault, "segments/", 2);
            faulty.writer.segment(&log.checked(1, 9)).await.unwrap();
            faulty.store.heal();
            let rebuild = Rebuild::new(faulty.reader.clone(), log.partition().clone(), Target::End);
            let (sink, _) = rebuild.run(MemorySink::default()).await.unwrap();
            assert_eq!(&sink.items, log.items_at(9));
            // For good: a typed error, in bounded attempts.
            faulty.store.always(Fault::Unavailable, "");
            let before = faulty.store.struck();
            let error = faulty
                .writer
                .segment(&log.checked(10, 12))
                .await
                .unwrap_err();
            assert!(error.is_transient(), "{error}");
            assert_eq!(faulty.store.struck() - before, 3, "archive.attempts_max");
            let error = faulty.reader.chain(log.partition()).await.unwrap_err();
            assert!(
                error.is_transient() && error.to_string().contains("segments/"),
                "{error}"
            );
        }
    });
}

#[test]
fn a_store_that_hangs_is_given_up() {
    run(async {
        let impatient = ArchiveSettings {
            timeout_ms: 20,
            attempts_max: 2,
            ..settings()
        };
        let faulty = faulty(&impatient);
        faulty.store.always(Fault::Hangs, "");
        let error = faulty.objects.get("x").await.unwrap_err();
        assert_eq!(error.reason, Reason::TimedOut(20));
        assert!(error.is_transient());
        faulty.store.heal();
        faulty.store.strike(Fault::Hangs, "", 1);
        assert_eq!(
            faulty.objects.put("x", Bytes::new(), PutMode::Create).await,
            Ok(Put::Written)
        );
    });
}

#[test]
fn an_object_that_is_written_wrongly_is_found_and_mended() {
    run(async {
        let world = world();
        let log = &world.logs[0];
        let checked = log.checked(1, 30);
        for fault in [Fault::WriteTruncated, Fault::WriteLost] {
            for keys in [".seg", "segments/00000000000000000001-00000000000000000030"] {
                let faulty = faulty(&settings());
                faulty.writer.birth(&log.birth).await.unwrap();
                faulty.store.strike(fault, keys, 2);
                let written = faulty.writer.segment(&checked).await;
                assert!(
                    matches!(
                        written,
                        Ok(Written::Mended) | Err(WriteError::Different { .. })
                    ),
                    "{fault:?}: {written:?}"
                );
                faulty.store.heal();
                faulty.writer.segment(&checked).await.unwrap();
                let (sink, _) = Rebuild::new(faulty.reader, log.partition().clone(), Target::End)
                    .run(MemorySink::default())
                    .await
                    .unwrap();
                assert_eq!(&sink.items, log.items_at(30));
            }
        }
    });
}

#[test]
fn another_writers_contradicting_object_is_never_replaced() {
    run(async {
        let world = world();
        let log = &world.logs[0];
        let faulty = faulty(&settings());
        // A whole manifest of the same segment that says something else of it.
        let mut other = log.checked(1, 30);
        other.manifest.last_time_ms += 1;
        faulty.writer.segment(&other).await.unwrap();
        let error = faulty
            .writer
            .segment(&log.checked(1, 30))
            .await
            .unwrap_err();
        let WriteError::Different { key, .. } = &error else {
            panic!("{error}");
        };
        assert!(key.ends_with(".json") && !error.is_transient());
    });
}

#[test]
fn what_comes_damaged_once_is_read_again_and_what_stays_damaged_is_named() {
    run(async {
        let world = world();
        let log = &world.logs[0];
        for fault in [Fault::Truncated, Fault::BitFlipped] {
            let faulty = faulty(&settings());
            faulty.writer.birth(&log.birth).await.unwrap();
            faulty.writer.segment(&log.checked(1, 30)).await.unwrap();
            for keys in ["births/", "segments/", ".seg"] {
                faulty.store.strike(fault, keys, 1);
                let rebuild =
                    Rebuild::new(faulty.reader.clone(), log.partition().clone(), Target::End);
                let (sink, rebuilt) = rebuild.run(MemorySink::default()).await.unwrap();
                assert_eq!(
                    (&sink.items, &rebuilt.damaged[..]),
                    (log.items_at(30), &[][..])
                );
            }
            faulty.store.always(fault, ".seg");
            let rebuild = Rebuild::new(faulty.reader.clone(), log.partition().clone(), Target::End);
            let error = rebuild
                .run(MemorySink::default())
                .await
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("entries 1 to 30") && error.contains(".seg is refused"),
                "{error}"
            );
            faulty.store.heal();
            faulty.store.always(fault, "births/");
            let error = faulty.reader.birth(log.partition()).await.unwrap_err();
            assert!(
                matches!(&error, ReadError::Refused(refusal) if refusal.key.contains("births/")),
                "{error}"
            );
        }
    });
}

#[test]
fn two_births_one_of_them_damaged_are_one() {
    run(async {
        let archive = Archive::new();
        let world = world();
        let birth = &world.logs[0].birth;
        archive.writer.birth(birth).await.unwrap();
        let mut later = birth.clone();
        later.table.version += 1;
        let (name, bytes) = later.encode().unwrap();
        let key = birth.partition.key(&name);
        archive
            .store
            .put(&key, bytes.slice(..40), PutMode::Create)
            .await
            .unwrap();
        assert_eq!(
            archive.reader.birth(&birth.partition).await,
            Ok(Some(birth.clone()))
        );
        let unknown = PartitionRef::new(world::UUID, paxos::GroupId(1)).unwrap();
        assert_eq!(archive.reader.birth(&unknown).await, Ok(None));
    });
}
