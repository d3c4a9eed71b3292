//! The in-process bus keeps the promises of the suite.

#[path = "suite/mod.rs"]
mod suite;

use mesh::{Delivery, Identity, LocalBus, Mesh};
use suite::{Pair, none, soon};
use tokio::sync::mpsc;

fn identity(service: &str, instance: u64) -> Identity {
    Identity {
        service: service.to_owned(),
        instance,
        incarnation: instance * 1_000,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn suite_in_process() {
    let bus = LocalBus::new();
    let asker = Mesh::local(&bus, identity("asker", 1));
    let server = Mesh::local(&bus, identity("server", 2));
    suite::run(&Pair { asker, server }).await;
}

#[tokio::test]
async fn endless_ping_pong_of_casts_does_not_overflow_the_stack() {
    const ROUNDS: u32 = 100_000;
    let bus = LocalBus::new();
    let mesh = Mesh::local(&bus, identity("player", 1));
    let (finished, mut has_finished) = mpsc::unbounded_channel();
    let (left, right) = (mesh.clone(), mesh.clone());
    let _left = mesh
        .serve("ping", None, move |delivery: Delivery| {
            let round: u32 = delivery.decode().expect("a number");
            left.cast("pong", &(round + 1)).expect("queued");
        })
        .await
        .expect("served");
    let _right = mesh
        .serve("pong", None, move |delivery: Delivery| {
            let round: u32 = delivery.decode().expect("a number");
            if round < ROUNDS {
                right.cast("ping", &(round + 1)).expect("queued");
            } else {
                finished.send(round).expect("open");
            }
        })
        .await
        .expect("served");
    mesh.cast("ping", &0_u32).expect("queued");
    assert!(has_finished.recv().await.expect("finishes") >= ROUNDS);
    assert_eq!(bus_drops(&mesh), 0);
}

fn bus_drops(mesh: &Mesh) -> u64 {
    mesh.stats().slow_consumer_dropped.get()
}

#[tokio::test]
async fn buses_know_nothing_of_each_other() {
    let (one, other) = (LocalBus::new(), LocalBus::new());
    let server = Mesh::local(&one, identity("server", 1));
    let _serving = server
        .serve("here", None, |delivery| delivery.reply(&1_u8))
        .await;
    let stranger = Mesh::local(&other, identity("asker", 2));
    assert!(
        stranger
            .call::<_, u8>("here", &(), soon(), &none())
            .await
            .is_err()
    );
    let neighbour = Mesh::local(&one.clone(), identity("asker", 2));
    assert_eq!(
        neighbour.call::<_, u8>("here", &(), soon(), &none()).await,
        Ok(1)
    );
}
