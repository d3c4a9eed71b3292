//! Damaged objects are healed byte by byte, or stay as they are.

mod world;

use archive::{ObjectName, SegmentName};
use bytes::Bytes;
use objects::Mender;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use world::{Archive, Log, World, drawn, run};

fn a_log() -> World {
    let mut runner = TestRunner::deterministic();
    let steps = proptest::collection::vec(drawn(), 30..31);
    let steps = steps.new_tree(&mut runner).unwrap().current();
    World::new(&steps, None)
}

async fn written(log: &Log) -> (Archive, Mender) {
    let archive = Archive::new();
    archive.write(log, 7).await;
    let mender = Mender::new(archive.reader.clone(), archive.writer.clone());
    (archive, mender)
}

async fn names(archive: &Archive, log: &Log) -> Vec<SegmentName> {
    let chain = archive.reader.chain(log.partition()).await.unwrap();
    chain.names().cloned().collect()
}

#[test]
fn a_manifest_is_made_again_from_its_segment() {
    let world = a_log();
    let log = &world.logs[0];
    run(async {
        let (archive, mender) = written(log).await;
        let before = archive.store.objects();
        let names = names(&archive, log).await;
        assert!(names.len() > 2);
        for name in &names {
            let key = log
                .partition()
                .key(&ObjectName::SegmentManifest(name.clone()));
            archive.store.set(&key, Bytes::from_static(b"rot"));
            let content = mender.content(log.partition(), name).await.unwrap();
            let entries = content.expect("it is whole").entries;
            mender
                .manifest(log.partition(), name, &entries)
                .await
                .unwrap();
            assert!(archive.store.objects() == before, "byte by byte");
        }
        // Without what was before, nothing is written.
        for name in &names[..2] {
            let key = log
                .partition()
                .key(&ObjectName::SegmentManifest(name.clone()));
            archive.store.set(&key, Bytes::from_static(b"rot"));
        }
        let rotten = archive.store.objects();
        let content = mender.content(log.partition(), &names[1]).await.unwrap();
        let entries = content.expect("it is whole").entries;
        let healed = mender.manifest(log.partition(), &names[1], &entries).await;
        assert!(healed.is_err());
        assert!(archive.store.objects() == rotten);
    });
}

#[test]
fn a_segment_is_only_replaced_by_itself() {
    let world = a_log();
    let log = &world.logs[0];
    run(async {
        let (archive, mender) = written(log).await;
        let before = archive.store.objects();
        let names = names(&archive, log).await;
        let key = |name: &SegmentName| log.partition().key(&ObjectName::Segment(name.clone()));
        let mut flipped = before[&key(&names[1])].to_vec();
        flipped[40] ^= 1;
        archive.store.set(&key(&names[1]), flipped.into());
        let content = mender.content(log.partition(), &names[1]).await;
        assert_eq!(content, Ok(None));
        let other = before[&key(&names[0])].clone();
        let healed = mender.segment(log.partition(), &names[1], other).await;
        assert!(healed.is_err());
        let own = before[&key(&names[1])].clone();
        mender
            .segment(log.partition(), &names[1], own)
            .await
            .unwrap();
        assert!(archive.store.objects() == before);
    });
}

#[test]
fn a_part_of_a_snapshot_is_made_again_from_the_log() {
    let world = a_log();
    let log = &world.logs[0];
    run(async {
        let (archive, mender) = written(log).await;
        let end = log.end();
        let full = |index: &u64| log.items_at(*index).len() >= 3;
        let index = (log.birth.begins() + 1..=end).find(full).expect("items");
        let manifest = log.write_snapshot(&archive.writer, index).await;
        let before = archive.store.objects();
        for part in &manifest.parts {
            let key = log.partition().key(&part.name(manifest.applied));
            archive.store.lose(&key);
            mender.part(&manifest, part).await.unwrap();
            assert!(archive.store.objects() == before, "byte by byte");
        }
        // Without the log there is nothing to make it from.
        let key = log
            .partition()
            .key(&manifest.parts[0].name(manifest.applied));
        archive.store.lose(&key);
        for name in names(&archive, log).await {
            archive
                .writer
                .delete_segment(log.partition(), &name)
                .await
                .unwrap();
        }
        let lost = archive.store.objects();
        assert!(mender.part(&manifest, &manifest.parts[0]).await.is_err());
        assert!(archive.store.objects() == lost);
    });
}
