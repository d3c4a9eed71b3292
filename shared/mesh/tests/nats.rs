//! The bus over a real nats-server: the suite, and what only a network can do. `EVENKEEL_NATS_SERVER` names the binary.

#[path = "suite/mod.rs"]
mod suite;

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mesh::{BusSettings, CallError, CastError, Deadline, Delivery, Identity, Mesh, MeshError};
use suite::{Pair, none, soon};

/// A nats-server of our own on a free port; killed at the end.
struct Server {
    port: u16,
    process: Child,
}

impl Server {
    fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        Self {
            port,
            process: spawn(port),
        }
    }
    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
    fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
    fn restart(&mut self) {
        self.kill();
        self.process = spawn(self.port);
    }
    async fn join(&self, instance: u64) -> Mesh {
        let settings = BusSettings {
            urls: vec![self.url()],
            // It may take its time to start.
            connect_ms_max: 60_000,
            ..BusSettings::default()
        };
        Mesh::connect(&settings, identity(instance))
            .await
            .expect("connects")
    }
    async fn pair(&self) -> Pair {
        Pair {
            asker: self.join(1).await,
            server: self.join(2).await,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16) -> Child {
    let binary = std::env::var("EVENKEEL_NATS_SERVER")
        .expect("EVENKEEL_NATS_SERVER must name a nats-server binary (see infra/local)");
    Command::new(binary)
        .args(["-a", "127.0.0.1", "-p", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server starts")
}

fn identity(instance: u64) -> Identity {
    Identity {
        service: "test".to_owned(),
        instance,
        incarnation: instance + 40,
    }
}

/// Try until it works, for at most 60 seconds.
async fn until<T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(
    attempt: impl Fn() -> F,
) -> T {
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) => assert!(Instant::now() < give_up, "{error:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn suite_over_nats() {
    let server = Server::start();
    suite::run(&server.pair().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_share_messages_under_load() {
    let server = Server::start();
    let pair = server.pair().await;
    let serving = pair
        .server
        .serve("load", None, |delivery| delivery.reply(&0_u8));
    let _serving = serving.await.expect("served");
    let callers: Vec<_> = (0..256)
        .map(|_| {
            let asker = pair.asker.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    asker
                        .call::<_, u8>("load", &(), soon(), &none())
                        .await
                        .expect("answered");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("no panic");
    }
    let stats = pair.asker.stats();
    assert_eq!(stats.frames_sent.get(), 256 * 20);
    assert!(
        stats.messages_sent.get() < 256 * 20 / 2,
        "{}",
        stats.messages_sent.get()
    );
}

/// What a host is for: its thread hears the messages and says the answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_hosted_connection_for_replication_lives_on_its_hosts_thread() {
    let server = Server::start();
    let pair = server.pair().await;
    let (tell, told) = tokio::sync::oneshot::channel();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let host = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let thread = std::thread::current().id();
        tell.send((runtime.handle().clone(), thread)).expect("told");
        let _ = runtime.block_on(ended);
    });
    let (handle, thread) = told.await.expect("a host");
    pair.server.host_replication(handle);
    let (heard, mut threads) = tokio::sync::mpsc::unbounded_channel();
    let serving = pair.server.serve("node.2.repl", None, move |delivery| {
        heard.send(std::thread::current().id()).expect("asked for");
        delivery.reply(&7_u8);
    });
    let _serving = serving.await.expect("served");
    for _ in 0..3 {
        let answer = pair
            .asker
            .call::<_, u8>("node.2.repl", &(), soon(), &none())
            .await;
        assert_eq!(answer, Ok(7));
        assert_eq!(threads.recv().await, Some(thread));
    }
    end.send(()).expect("the host lives");
    host.join().expect("no panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_is_survived() {
    let mut server = Server::start();
    let pair = server.pair().await;
    let serving = pair
        .server
        .serve("lives", None, |delivery| delivery.reply(&1_u8));
    let _serving = serving.await.expect("served");
    assert_eq!(
        pair.asker
            .call::<_, u8>("lives", &(), soon(), &none())
            .await,
        Ok(1)
    );
    server.kill();
    let brief = Deadline::after(Duration::from_millis(200));
    let called = pair.asker.call::<_, u8>("lives", &(), brief, &none()).await;
    assert_eq!(called, Err(CallError::TimedOut));
    until(|| async {
        if pair.asker.connected() {
            Err("connected")
        } else {
            Ok(())
        }
    })
    .await;
    server.restart();
    let asker = &pair.asker;
    let answer = until(|| async move {
        let brief = Deadline::after(Duration::from_millis(500));
        asker.call::<_, u8>("lives", &(), brief, &none()).await
    });
    assert_eq!(answer.await, 1);
    assert!(pair.asker.connected());
    assert!(pair.asker.stats().disconnects.get() >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_connection_queues_are_bounded_and_drops_counted() {
    let mut server = Server::start();
    let mesh = server.join(1).await;
    server.kill();
    until(|| async {
        if mesh.connected() {
            Err("connected")
        } else {
            Ok(())
        }
    })
    .await;
    let body = bytes::Bytes::from(vec![1; 100_000]);
    let mut queued = 0_u64;
    while mesh.cast("away", &body).is_ok() {
        queued += 1;
        assert!(queued < 1_000, "nothing bounds the queue");
    }
    assert!(queued > 100, "{queued}");
    assert_eq!(mesh.cast("away", &body), Err(CastError::Overloaded));
    assert_eq!(mesh.stats().overloaded.get(), 2);
    let called = mesh.call::<_, ()>("away", &body, soon(), &none()).await;
    assert_eq!(called, Err(CallError::Overloaded));
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_protocol_versions_are_refused_and_garbage_is_dropped() {
    #[derive(serde::Serialize)]
    struct FutureHead<'a> {
        v: u16,
        r: &'a str,
        novelty: bool,
    }
    #[derive(serde::Serialize)]
    struct FutureEnvelope {
        k: u8,
        c: u64,
        x: [u8; 3],
    }
    let server = Server::start();
    let mesh = server.join(1).await;
    let _serving = mesh
        .serve("versioned", None, |_: Delivery| {
            panic!("must not be delivered")
        })
        .await
        .expect("served");

    let raw = async_nats::connect(server.url()).await.expect("connects");
    let mut inbox = raw.subscribe("_mesh.future.r").await.expect("subscribes");
    let head = rmp_serde::to_vec_named(&FutureHead {
        v: 2,
        r: "_mesh.future.r",
        novelty: true,
    });
    let envelope = rmp_serde::to_vec_named(&FutureEnvelope {
        k: 1,
        c: 99,
        x: [1, 2, 3],
    });
    let (head, envelope) = (head.expect("encodes"), envelope.expect("encodes"));
    let mut message = (head.len() as u16).to_be_bytes().to_vec();
    message.extend_from_slice(&head);
    message.extend_from_slice(&(envelope.len() as u16).to_be_bytes());
    message.extend_from_slice(&3_u32.to_be_bytes());
    message.extend_from_slice(&envelope);
    message.extend_from_slice(b"???");
    for garbage in [
        &b""[..],
        b"\xff",
        b"\xff\xff\xff\xff",
        b"\x00\x01\x80",
        &message[..20],
    ] {
        raw.publish("versioned", garbage.to_vec().into())
            .await
            .expect("sent");
    }
    raw.publish("versioned", message.into())
        .await
        .expect("sent");
    let answer = futures::StreamExt::next(&mut inbox)
        .await
        .expect("an answer")
        .payload;
    // refusal (3) of call 99, reason 1
    let is_refusal = answer
        .windows(8)
        .any(|part| part == [0xa1, b'k', 3, 0xa1, b'c', 99, 0xa1, b'e']);
    assert!(is_refusal, "{answer:?}");
    let stats = mesh.stats();
    assert_eq!(stats.incompatible_refused.get(), 1);
    assert!(
        stats.malformed_dropped.get() >= 4,
        "{}",
        stats.malformed_dropped.get()
    );
    assert_eq!(stats.handler_panics.get(), 0);
}

#[tokio::test]
async fn no_server_is_an_error_that_says_so() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("nats://{}", free.local_addr().expect("an address"));
    drop(free);
    let settings = BusSettings {
        urls: vec![url],
        connect_ms_max: 200,
        ..BusSettings::default()
    };
    let error = Mesh::connect(&settings, identity(1))
        .await
        .expect_err("nobody there");
    assert!(matches!(error, MeshError::Unreachable { .. }), "{error}");
    assert!(
        error.to_string().contains("is nats-server running there?"),
        "{error}"
    );
}
