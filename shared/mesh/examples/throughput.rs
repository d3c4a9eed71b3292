//! Calls a second with 256 concurrent callers: `cargo run --release -p mesh --example throughput [nats://host:port]`.
//! Asker and server are two participants in this process; without a URL they meet on the in-process bus.

use std::time::{Duration, Instant};

use mesh::{BusSettings, Deadline, Identity, LocalBus, Mesh, TraceContext};

const CALLERS: u64 = 256;
const SECONDS: u64 = 3;
const BODY_BYTES: usize = 900;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(run());
}

fn identity(instance: u64) -> Identity {
    Identity {
        service: "throughput".to_owned(),
        instance,
        incarnation: 1,
    }
}

async fn run() {
    let (asker, server) = match std::env::args().nth(1) {
        Some(url) => {
            let settings = BusSettings {
                urls: vec![url],
                ..BusSettings::default()
            };
            let asker = Mesh::connect(&settings, identity(1))
                .await
                .expect("connects");
            (
                asker,
                Mesh::connect(&settings, identity(2))
                    .await
                    .expect("connects"),
            )
        }
        None => {
            let bus = LocalBus::new();
            (
                Mesh::local(&bus, identity(1)),
                Mesh::local(&bus, identity(2)),
            )
        }
    };
    let _serving = server
        .serve("echo", None, |delivery| {
            let body: bytes::Bytes = delivery.decode().expect("bytes");
            delivery.reply(&body);
        })
        .await
        .expect("served");
    for callers in [1, CALLERS] {
        let start = Instant::now();
        let running: Vec<_> = (0..callers)
            .map(|_| tokio::spawn(call_until(asker.clone(), start)))
            .collect();
        let mut calls = 0;
        for caller in running {
            calls += caller.await.expect("no panic");
        }
        let per_second = calls as f64 / start.elapsed().as_secs_f64();
        println!("{callers:>4} callers: {per_second:>9.0} calls/s");
    }
    let sent = asker.stats();
    let share = sent.frames_sent.get() as f64 / sent.messages_sent.get().max(1) as f64;
    println!("frames a message: {share:.1}");
}

async fn call_until(asker: Mesh, start: Instant) -> u64 {
    let body = bytes::Bytes::from(vec![7; BODY_BYTES]);
    let mut calls = 0;
    while start.elapsed() < Duration::from_secs(SECONDS) {
        let deadline = Deadline::after(Duration::from_secs(5));
        let answer: bytes::Bytes = asker
            .call("echo", &body, deadline, &TraceContext::default())
            .await
            .expect("answered");
        assert_eq!(answer.len(), BODY_BYTES);
        calls += 1;
    }
    calls
}
