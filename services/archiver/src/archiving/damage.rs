//! Nodes' answers that are damaged on their way, and a replica whose log differs: what is archived is what the majority has, and who differs is named.

use bytes::Bytes;
use protocol::archive::ArchiveReply;

use super::race::{LARGE, check, world};
use super::*;
use crate::world::{Bend, PARTITION, World, put};

/// A fault of one answer.
type Fault = fn(&mut Vec<Entry>);

/// Does this to the first answer with entries.
fn once(fault: Fault) -> Bend {
    let mut left = 1;
    Box::new(move |answer| {
        if let ArchiveReply::Entries(entries) = answer
            && left > 0
        {
            left -= 1;
            fault(entries);
        }
    })
}

async fn archived(world: &World, desk: &Desk) {
    let mut work = world.work(desk);
    world.finish(desk, &mut work).await;
}

#[tokio::test]
async fn entries_that_are_damaged_on_their_way_are_asked_for_again() {
    let faults: [(&str, Fault); 6] = [
        ("another item", |entries| {
            entries[1].payload = put(2, b"itch")
        }),
        ("a record is missing", |entries| drop(entries.remove(0))),
        ("a record comes twice", |entries| {
            entries.insert(1, entries[0].clone());
        }),
        ("another partition's", |entries| {
            let foreign = Bytes::from_static(b"\0\0\0\0\0\0\0\x15\0\0x");
            let write = partition::command::encode_write(2_000, &foreign, Some(b"item"), 0, 4);
            entries[1].payload = paxos::Payload::Command(write);
        }),
        ("no command", |entries| {
            entries[1].payload = paxos::Payload::Command(Bytes::from_static(b"\xff\xff"));
        }),
        ("an older ballot", |entries| entries[1].ballot.round = 0),
    ];
    for (what, fault) in faults {
        let world = world(None, 6).await;
        world.log.lock().bend = Some(once(fault));
        let desk = world.instance(1, LARGE);
        archived(&world, &desk).await;
        assert_eq!(desk.alarms.texts(), Vec::<String>::new(), "{what}");
        check(&world, &[&desk]).await;
    }
}

#[tokio::test]
async fn a_digest_that_is_damaged_on_its_way_accuses_nobody() {
    let world = world(None, 6).await;
    let mut left = 1;
    world.log.lock().bend = Some(Box::new(move |answer| {
        if let ArchiveReply::Digest(digest) = answer
            && left > 0
        {
            left -= 1;
            let mut flipped = digest.to_vec();
            flipped[7] ^= 0x20;
            *digest = flipped.into();
        }
    }));
    let desk = world.instance(1, LARGE);
    archived(&world, &desk).await;
    assert!(desk.suspects.lock().is_empty());
    check(&world, &[&desk]).await;
}

#[tokio::test]
async fn a_replica_whose_log_differs_is_named_and_its_entries_are_not_archived() {
    // The leader, whose entries are asked for first, and a follower.
    for node in [NodeId(1), NodeId(3)] {
        let world = world(None, 6).await;
        world.log.lock().odd = Some((node, 4));
        let desk = world.instance(1, LARGE);
        archived(&world, &desk).await;
        let [alarm] = &desk.alarms.texts()[..] else {
            panic!("{:?}", desk.alarms.texts())
        };
        let named = format!("node {}'s log of partition {}", node.0, PARTITION.0);
        assert!(alarm.starts_with(&named), "{alarm}");
        let suspects: Vec<_> = desk.suspects.lock().keys().copied().collect();
        assert_eq!(suspects, [(PARTITION, node)]);
        desk.alarms.clear(&diverges(PARTITION, node));
        check(&world, &[&desk]).await;
    }
}
