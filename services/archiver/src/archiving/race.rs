//! Two instances at work on one partition at the same time, one of them paused anywhere and resumed with what it knew: the archive is whole, nobody is
//! alarmed, and the leader is told of nothing that is not there.

use std::time::Instant;

use objects::fault::Fault;
use objects::{MemorySink, Rebuild, Target};

use super::*;
use crate::world::{PATIENCE, World, partition};

/// Segments of one page, and of everything.
const SMALL: u64 = 1;
pub(super) const LARGE: u64 = 1 << 20;

/// What the store does to `Create`.
const STORES: [Option<Fault>; 3] = [
    None,
    Some(Fault::CreateOverwrites),
    Some(Fault::CreateClaims),
];

pub(super) async fn world(store: Option<Fault>, writes: u64) -> World {
    let world = World::new().await;
    if let Some(lie) = store {
        world.faults.always(lie, "");
    }
    world.write(writes);
    world
}

/// Everything that was written is in the archive, and can be read from it alone.
pub(super) async fn check(world: &World, desks: &[&Desk]) {
    let (chain, reader) = (world.chain(), &desks[0].reader);
    let entries = world.log.lock().entries.clone();
    let end = entries.len() as Index;
    assert_eq!((chain.reach(0), chain.last()), (end, end));
    assert!(chain.contradictions().is_empty());
    for name in chain.names() {
        let manifest = reader.manifest(&partition(), name).await.unwrap();
        let segment = reader.segment(&manifest).await.unwrap();
        let expected = &entries[name.first as usize - 1..name.last as usize];
        assert_eq!(segment.entries, expected);
    }
    let rebuild = Rebuild::new(reader.clone(), partition(), Target::End);
    let (_, rebuilt) = rebuild.run(MemorySink::default()).await.unwrap();
    assert_eq!((rebuilt.tail.index, rebuilt.damaged), (end, vec![]));
    assert!(world.nothing_was_told_too_early());
    for desk in desks {
        assert_eq!(desk.alarms.texts(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn whoever_was_paused_anywhere_goes_on_from_what_the_other_one_did() {
    for store in STORES {
        for (own, others) in [(SMALL, LARGE), (LARGE, SMALL)] {
            // Far more turns than it takes: the last ones are paused at the end.
            for turns in 0..20 {
                let world = world(store, 7).await;
                let (paused, other) = (world.instance(1, own), world.instance(2, others));
                let mut work = world.work(&paused);
                for _ in 0..turns {
                    if !work.turn(&paused).await {
                        break;
                    }
                }
                world.write(4);
                let mut others = world.work(&other);
                world.finish(&other, &mut others).await;
                // What it was about to ask for is gone.
                world.truncate();
                world.write(3);
                world.finish(&paused, &mut work).await;
                world.truncate();
                world.finish(&other, &mut others).await;
                check(&world, &[&paused, &other]).await;
            }
        }
    }
}

#[tokio::test]
async fn two_that_take_turns_at_random_make_one_archive() {
    for dice in 0..60u64 {
        let store = STORES[dice as usize % STORES.len()];
        let world = world(store, 5).await;
        let desks = [world.instance(1, SMALL), world.instance(2, LARGE)];
        let mut works = [world.work(&desks[0]), world.work(&desks[1])];
        let mut dice = dice;
        for _ in 0..60 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let rolled = dice >> 33;
            let who = rolled as usize % 2;
            works[who].turn(&desks[who]).await;
            match rolled % 11 {
                0 => world.write(2),
                1 => world.truncate(),
                2 | 3 => world.describe(&desks[who]),
                _ => {}
            }
        }
        for (desk, work) in desks.iter().zip(&mut works) {
            world.finish(desk, work).await;
        }
        check(&world, &[&desks[0], &desks[1]]).await;
    }
}

#[tokio::test]
async fn what_every_replica_lost_and_nobody_archived_is_said_once() {
    let world = world(None, 4).await;
    let desk = world.instance(1, LARGE);
    let mut work = world.work(&desk);
    world.finish(&desk, &mut work).await;
    world.write(6);
    world.lose(8);
    let begun = Instant::now();
    while world.chain().last() < 10 && begun.elapsed() < PATIENCE {
        world.describe(&desk);
        work.turn(&desk).await;
    }
    assert_eq!(world.chain().holes(0, 10), [5..=8]);
    let [alarm] = &desk.alarms.texts()[..] else {
        panic!("{:?}", desk.alarms.texts())
    };
    assert!(alarm.contains("entries 5 to 8"), "{alarm}");
}
