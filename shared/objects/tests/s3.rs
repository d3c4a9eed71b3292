//! The store over a real S3-compatible service (SeaweedFS). `EVENKEEL_WEED` names its binary.

mod world;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use objects::{
    ArchiveReader, ArchiveSettings, ArchiveWriter, Honesty, MemorySink, Objects, PutMode, Reason,
    Rebuild, Target, Written, probe,
};

use world::{World, drawn, run, settings};

const CREDENTIALS: &str =
    "[default]\naws_access_key_id = evenkeel\naws_secret_access_key = secret-of-tests\n";
const IDENTITIES: &str = r#"{"identities": [{"name": "tests",
    "credentials": [{"accessKey": "evenkeel", "secretKey": "secret-of-tests"}],
    "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}"#;

/// SeaweedFS of our own on free ports; killed at the end.
struct Weed {
    process: Child,
    folder: tempfile::TempDir,
    port: u16,
}

/// First of `count` neighbouring ports that nobody listens on, and the same 10,000 above, which SeaweedFS takes, too.
fn free_ports(count: u16) -> u16 {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let start = 21_000 + (std::process::id() % 90) as u16 * 10;
    let mut ports = (start..22_000 - count)
        .chain(21_000..start)
        .step_by(usize::from(count));
    let found = ports
        .find(|port| (*port..port + count).all(|port| is_free(port) && is_free(port + 10_000)));
    found.expect("free ports")
}

impl Weed {
    fn start() -> Weed {
        let binary = std::env::var("EVENKEEL_WEED")
            .expect("EVENKEEL_WEED must name SeaweedFS's binary (see infra/test)");
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_ports(4);
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("a file");
            path
        };
        file("credentials", CREDENTIALS);
        let identities = file("s3.json", IDENTITIES);
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let process = Command::new(binary)
            .args([
                "server",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-filer",
                "-s3",
                "-s3.port.iceberg=0",
                "-master.volumeSizeLimitMB=64",
            ])
            .arg(format!("-dir={}", folder.path().display()))
            .arg(format!("-s3.config={}", identities.display()))
            .arg(format!("-s3.port={port}"))
            .arg(format!("-master.port={}", port + 1))
            .arg(format!("-volume.port={}", port + 2))
            .arg(format!("-filer.port={}", port + 3))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("SeaweedFS starts");
        Weed {
            process,
            folder,
            port,
        }
    }

    fn settings(&self) -> ArchiveSettings {
        ArchiveSettings {
            url: "s3://archive/a/mesh".into(),
            endpoint: format!("http://127.0.0.1:{}", self.port),
            credentials_file: self.folder.path().join("credentials"),
            ..settings()
        }
    }

    fn log(&self) -> String {
        let path: &Path = self.folder.path();
        std::fs::read_to_string(path.join("log")).unwrap_or_default()
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// SeaweedFS makes the bucket with the first object in it; it answers once all of its parts run.
async fn ready(weed: &Weed) -> Objects {
    let objects = Objects::connect(&weed.settings()).expect("settings");
    let end = Instant::now() + Duration::from_secs(180);
    loop {
        match objects.put("ready", Bytes::new(), PutMode::Replace).await {
            Ok(_) => return objects,
            Err(error) if Instant::now() > end => {
                panic!("SeaweedFS is not ready: {error}\n{}", weed.log())
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn world() -> World {
    use proptest::strategy::{Strategy, ValueTree};
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let tree = proptest::collection::vec(drawn(), 40)
        .new_tree(&mut runner)
        .expect("steps");
    World::new(&tree.current(), None)
}

#[test]
fn an_archive_over_s3() {
    run(async {
        let weed = Weed::start();
        let objects = ready(&weed).await;
        assert_eq!(
            probe(&objects).await,
            Ok(Honesty::Honest),
            "also when raced"
        );
        world::conform(&objects).await;
        let (writer, reader) = (
            ArchiveWriter::new(objects.clone()),
            ArchiveReader::new(objects.clone()),
        );
        let world = world();
        let log = &world.logs[0];
        writer.birth(&log.birth).await.unwrap();
        // Writers that race over the same and over overlapping ranges.
        let segments = [(1, 20), (1, 20), (1, 20), (8, 30), (21, 30), (21, 30)]
            .map(|(first, last)| log.checked(first, last));
        let writes = segments.iter().map(|segment| writer.segment(segment));
        let written = futures::future::join_all(writes).await;
        assert!(
            written
                .iter()
                .all(|written| matches!(written, Ok(Written::New | Written::Same))),
            "{written:?}"
        );
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
        for target in [5, 12, 25, 30] {
            let rebuild = Rebuild::new(
                reader.clone(),
                log.partition().clone(),
                Target::Index(target),
            );
            let (sink, _) = rebuild.run(MemorySink::default()).await.unwrap();
            assert_eq!(&sink.items, log.items_at(target));
        }
        let stranger = ArchiveSettings {
            credentials_file: weed.folder.path().join("wrong"),
            ..weed.settings()
        };
        std::fs::write(
            &stranger.credentials_file,
            CREDENTIALS.replace("secret-of-tests", "guessed"),
        )
        .unwrap();
        let stranger = Objects::connect(&stranger).unwrap();
        let refused = stranger
            .put("x", Bytes::new(), PutMode::Create)
            .await
            .unwrap_err();
        assert!(matches!(refused.reason, Reason::Denied(_)), "{refused}");
        // The store goes away: a typed error.
        drop(weed);
        let error = objects
            .put("y", Bytes::new(), PutMode::Create)
            .await
            .unwrap_err();
        assert!(error.is_transient(), "{error}");
    });
}
