//! A router on a real socket: taken ports, slow and rude clients, draining.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use mesh::{Identity, LocalBus, Mesh};
use model::ApiError;
use tokio::task::spawn_blocking;

use super::{Running, start_with};
use crate::fake::Fake;
use crate::settings::RouterSettings;

fn settings() -> RouterSettings {
    RouterSettings {
        listen: "127.0.0.1:0".to_owned(),
        accept_any_key: true,
        workers: 1,
        drain_ms_max: 20_000,
        ..RouterSettings::default()
    }
}

fn mesh(bus: &LocalBus) -> Mesh {
    let identity = Identity {
        service: "router".to_owned(),
        instance: 7,
        incarnation: 1,
    };
    Mesh::local(bus, identity)
}

async fn router(settings: RouterSettings, fake: &Fake) -> Result<Running, anyhow::Error> {
    start_with(
        settings,
        mesh(&LocalBus::new()),
        fake.clone(),
        Box::new(|| true),
    )
    .await
}

fn head(length: usize) -> String {
    format!(
        "POST / HTTP/1.1\r\nhost: db\r\ncontent-type: application/x-amz-json-1.0\r\n\
         x-amz-target: DynamoDB_20120810.GetItem\r\ncontent-length: {length}\r\n\
         authorization: AWS4-HMAC-SHA256 Credential=me/1/r/dynamodb/aws4_request\r\n\r\n"
    )
}

const BODY: &str = r#"{"TableName":"hash","Key":{"pk":{"S":"a"}}}"#;

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream
}

/// Everything that comes until the router closes the connection.
fn until_closed(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // a reset after the answer is a close, too
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One answer on a connection that stays open.
fn ask(stream: &mut TcpStream) -> String {
    stream
        .write_all((head(BODY.len()) + BODY).as_bytes())
        .unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while !answer.ends_with(b"}") {
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "closed early");
        answer.extend_from_slice(&piece[..read]);
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let settings = RouterSettings {
        listen: address.clone(),
        ..settings()
    };
    let error = router(settings, &Fake::new()).await.err().unwrap();
    assert!(error.to_string().contains(&address), "{error}");
    let settings = RouterSettings {
        listen: "nonsense".to_owned(),
        ..self::settings()
    };
    assert!(router(settings, &Fake::new()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_and_closed_when_stopped() {
    let fake = Fake::new();
    let running = router(settings(), &fake).await.unwrap();
    let address = running.address();
    let mut stream = spawn_blocking(move || {
        let mut stream = connect(address);
        for _ in 0..3 {
            assert!(ask(&mut stream).starts_with("HTTP/1.1 200 OK"));
        }
        stream
    })
    .await
    .unwrap();
    assert_eq!(fake.calls(), 3);
    let start = Instant::now();
    running.stop().await;
    // an idle connection does not hold it up
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(
        spawn_blocking(move || until_closed(&mut stream))
            .await
            .unwrap(),
        ""
    );
    assert!(TcpStream::connect(address).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_body_and_a_slow_head_are_given_up() {
    let settings = RouterSettings {
        body_ms_max: 200,
        head_ms_max: 200,
        ..settings()
    };
    let running = router(settings, &Fake::new()).await.unwrap();
    let address = running.address();
    let (body, head_only) = spawn_blocking(move || {
        let mut slow_body = connect(address);
        slow_body.write_all((head(1000) + "{").as_bytes()).unwrap();
        let mut slow_head = connect(address);
        slow_head.write_all(b"POST / HTTP/1.1\r\nhost:").unwrap();
        (until_closed(&mut slow_body), until_closed(&mut slow_head))
    })
    .await
    .unwrap();
    assert!(body.starts_with("HTTP/1.1 408 "), "{body}");
    assert!(head_only.starts_with("HTTP/1.1 408 "), "{head_only}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_sent_body_is_no_request() {
    let fake = Fake::new();
    let running = router(settings(), &fake).await.unwrap();
    let address = running.address();
    spawn_blocking(move || {
        let mut stream = connect(address);
        stream.write_all((head(1000) + BODY).as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        until_closed(&mut stream);
        // too large by its own word
        let mut stream = connect(address);
        stream.write_all(head(17 << 20).as_bytes()).unwrap();
        let piece = vec![b' '; 1 << 20];
        for _ in 0..17 {
            if stream.write_all(&piece).is_err() {
                break;
            }
        }
        let answer = until_closed(&mut stream);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 413 "),
            "{answer}"
        );
    })
    .await
    .unwrap();
    assert_eq!(fake.calls(), 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_say_who_is_there() {
    let bus = LocalBus::new();
    let listener = mesh(&bus);
    let (sender, mut beats) = tokio::sync::mpsc::unbounded_channel();
    let _subscription = listener
        .serve(protocol::subjects::HEALTH, None, move |delivery| {
            let beat: protocol::health::Heartbeat = delivery.decode().unwrap();
            let _ = sender.send(beat);
        })
        .await
        .unwrap();
    let running = start_with(settings(), mesh(&bus), Fake::new(), Box::new(|| true))
        .await
        .unwrap();
    let beat = tokio::time::timeout(Duration::from_secs(60), beats.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((beat.service.as_str(), beat.instance), ("router", 7));
    assert!(beat.ready && !beat.draining);
    running.stop().await;
    let drains = async {
        while let Some(beat) = beats.recv().await {
            if beat.draining {
                assert!(!beat.ready);
                return;
            }
        }
        panic!("it never said so");
    };
    tokio::time::timeout(Duration::from_secs(60), drains)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_are_finished() {
    let fake = Fake::new();
    let release = fake.hold();
    let running = router(settings(), &fake).await.unwrap();
    let address = running.address();
    let asking = spawn_blocking(move || ask(&mut connect(address)));
    fake.wait_for_call().await;
    let stopping = tokio::spawn(running.stop());
    // new connections are refused while the old request goes on
    let refused = async {
        while TcpStream::connect(address).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), refused)
        .await
        .unwrap();
    // twice: the first one may come from a cache that knows a dropped table
    fake.fail_next([
        Some(ApiError::resource_not_found()),
        Some(ApiError::resource_not_found()),
    ]);
    release.send(true).unwrap();
    let answer = asking.await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("ResourceNotFound"),
        "{answer}"
    );
    stopping.await.unwrap();
}
