//! Copies from one B-tree to another, with everything that can get lost on the way.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use btree::fixtures::{SMALL, batch, content, everything, fill, item, key, state};
use btree::{ReplicaTree, TreeError, TreeOptions};
use bytes::Bytes;
use model::KeyRange;
use partition::BTree;
use paxos::{GroupId, NodeId};
use protocol::replication::{CopyChunk, CopyRequest};

use super::*;

const GROUP: GroupId = GroupId(5);
const ME: NodeId = NodeId(2);

fn fast() -> ReceiveOptions {
    ReceiveOptions {
        tree: SMALL,
        pause: Duration::ZERO,
        ..ReceiveOptions::default()
    }
}

fn source(sessions_max: usize) -> CopySource {
    let options = SourceOptions {
        sessions_max,
        chunk_bytes: 8 << 10,
        bytes_per_s: None,
        ..SourceOptions::default()
    };
    CopySource::start(options).unwrap()
}

fn ask(source: &CopySource, tree: &Arc<ReplicaTree>, request: &CopyRequest) -> CopyChunk {
    let (sender, receiver) = mpsc::channel();
    let reply = move |chunk| sender.send(chunk).unwrap();
    source
        .serve(request.clone(), Some(tree.clone()), reply)
        .unwrap();
    receiver.recv().unwrap()
}

fn request(session: u64, chunk: u64) -> CopyRequest {
    CopyRequest {
        group: GROUP,
        to: ME,
        session,
        chunk,
    }
}

/// A node with many items, and one that is behind.
struct Pair {
    dir: tempfile::TempDir,
    full: Arc<ReplicaTree>,
    behind: ReplicaTree,
}

fn pair() -> Pair {
    let dir = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let roomy = TreeOptions::default();
    let full = ReplicaTree::create(&dir.path().join("full"), roomy, &state(0)).unwrap();
    full.flush(&batch(900, fill(0, 1_000, 300))).unwrap();
    let replicas = dir.path().join("replicas");
    std::fs::create_dir_all(&replicas).unwrap();
    let behind = ReplicaTree::create(&replicas.join("5"), SMALL, &state(0)).unwrap();
    behind.flush(&batch(10, fill(990, 1_010, 5))).unwrap();
    Pair {
        dir,
        full: Arc::new(full),
        behind,
    }
}

impl Pair {
    fn replicas(&self) -> std::path::PathBuf {
        self.dir.path().join("replicas")
    }

    fn receive(
        &self,
        options: &ReceiveOptions,
        fetch: impl FnMut(&CopyRequest) -> Result<CopyChunk, String>,
    ) -> Result<Incoming, CopyError> {
        let own = self.behind.state().unwrap();
        receive(&self.replicas(), GROUP, ME, &own, options, fetch, || false)
    }

    fn unharmed(&self) {
        assert_eq!(self.behind.state().unwrap().applied, 10);
        assert_eq!(self.behind.get(&key(1_009)).unwrap(), Some(item(5)));
        assert_eq!(names(&self.replicas()), ["5"]);
    }
}

fn names(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_copy_is_the_original() {
    let pair = pair();
    let source = source(1);
    let mut chunks = 0;
    let incoming = pair.receive(&fast(), |request| {
        chunks += 1;
        // The original changes meanwhile; the copy is of one moment.
        let change = batch(900 + chunks, fill(2_000 + chunks, 2_001 + chunks, 9));
        pair.full.flush(&change).unwrap();
        Ok(ask(&source, &pair.full, request))
    });
    let incoming = incoming.unwrap();
    assert!(chunks > 30, "{chunks} chunks of 8 KiB");
    assert_eq!(incoming.end().applied, 901, "as of the first request");
    assert_eq!(pair.behind.state().unwrap().applied, 10, "not yet in place");
    let installed = incoming.install(&pair.behind).unwrap();
    assert_eq!((installed.applied, installed.items), (901, 1_001));
    assert_eq!(pair.behind.state().unwrap(), installed);
    let below = KeyRange {
        start: Bytes::new(),
        end: key(2_002),
    };
    let copied = content(&pair.behind, &everything(), false);
    assert_eq!(copied, content(&*pair.full, &below, false));
    assert_eq!(
        pair.behind.get(&key(1_009)).unwrap(),
        None,
        "nothing of the old content stays"
    );
    assert_eq!(names(&pair.replicas()), ["5"]);
    pair.behind.flush(&batch(950, fill(0, 1, 1))).unwrap();
    drop(pair.behind);
    let (_tree, reopened) = ReplicaTree::open(&pair.dir.path().join("replicas/5"), SMALL).unwrap();
    assert_eq!((reopened.applied, reopened.items), (950, 1_001));
}

#[test]
fn lost_and_damaged_answers_are_asked_for_again() {
    let pair = pair();
    let source = source(1);
    let mut asked = 0;
    let incoming = pair.receive(&fast(), |request| {
        asked += 1;
        let mut chunk = ask(&source, &pair.full, request);
        match asked % 4 {
            // The first answers get lost too, and with them the number of the session.
            1 => Err("time-out".to_owned()),
            2 => {
                chunk.crc32c ^= 1;
                Ok(chunk)
            }
            _ => Ok(chunk),
        }
    });
    let installed = incoming.unwrap().install(&pair.behind).unwrap();
    assert_eq!((installed.applied, installed.items), (900, 1_000));
}

#[test]
fn a_lost_session_starts_over() {
    let pair = pair();
    let source = source(1);
    let mut asked = 0;
    let incoming = pair.receive(&fast(), |request| {
        asked += 1;
        let session = if asked == 20 { 99 } else { request.session };
        Ok(ask(
            &source,
            &pair.full,
            &CopyRequest {
                session,
                ..request.clone()
            },
        ))
    });
    let installed = incoming.unwrap().install(&pair.behind).unwrap();
    assert_eq!(installed.items, 1_000);
}

#[test]
fn a_failed_copy_leaves_the_old_one() {
    let pair = pair();
    let source = source(1);
    let dead = pair.receive(&fast(), |_| Err("nobody there".to_owned()));
    let why = "nobody there".to_owned();
    assert_eq!(
        dead.map(|_| ()),
        Err(CopyError::GaveUp { group: GROUP, why })
    );
    pair.unharmed();

    let mut asked = 0;
    let expired = pair.receive(&fast(), |request| {
        asked += 1;
        Ok(ask(
            &source,
            &pair.full,
            &CopyRequest {
                session: 99,
                ..request.clone()
            },
        ))
    });
    assert!(
        matches!(expired, Err(CopyError::GaveUp { .. })),
        "{expired:?}"
    );
    assert_eq!(asked, fast().starts_max);
    pair.unharmed();

    let wrong_count = pair.receive(&fast(), |request| {
        let mut chunk = ask(&source, &pair.full, request);
        chunk.end.iter_mut().for_each(|end| end.items = Some(7));
        Ok(chunk)
    });
    assert!(
        matches!(wrong_count, Err(CopyError::GaveUp { .. })),
        "{wrong_count:?}"
    );
    pair.unharmed();

    let older = pair.receive(&fast(), |request| {
        let mut chunk = ask(&source, &pair.full, request);
        chunk.end.iter_mut().for_each(|end| end.applied = 9);
        Ok(chunk)
    });
    let too_old = CopyError::Older {
        group: GROUP,
        copied: 9,
        own: 10,
    };
    assert_eq!(older.map(|_| ()), Err(too_old));
    pair.unharmed();

    let endless = ReceiveOptions {
        chunks_max: 3,
        ..fast()
    };
    let endless = pair.receive(&endless, |request| Ok(ask(&source, &pair.full, request)));
    assert!(
        matches!(endless, Err(CopyError::GaveUp { .. })),
        "{endless:?}"
    );
    pair.unharmed();

    let own = pair.behind.state().unwrap();
    let stopped = receive(
        &pair.replicas(),
        GROUP,
        ME,
        &own,
        &fast(),
        |request| Ok(ask(&source, &pair.full, request)),
        || true,
    );
    assert_eq!(stopped.map(|_| ()), Err(CopyError::Stopped));
    pair.unharmed();
}

#[test]
fn what_a_crash_leaves_is_tidied() {
    let pair = pair();
    let source = source(1);
    let incoming = pair.receive(&fast(), |request| Ok(ask(&source, &pair.full, request)));
    drop(incoming.unwrap());
    assert_eq!(names(&pair.replicas()), ["5", "5.incoming"]);
    tidy(&pair.replicas()).unwrap();
    pair.unharmed();
}

#[test]
fn a_copy_that_cannot_be_opened_is_not_installed() {
    let pair = pair();
    let source = source(1);
    let incoming = pair.receive(&fast(), |request| Ok(ask(&source, &pair.full, request)));
    let incoming = incoming.unwrap();
    std::fs::write(pair.replicas().join("5.incoming/data.mdb"), vec![3; 20_000]).unwrap();
    let failed = incoming.install(&pair.behind);
    assert!(
        matches!(failed, Err(TreeError::Corrupt { .. })),
        "{failed:?}"
    );
    tidy(&pair.replicas()).unwrap();
    pair.unharmed();
}

#[test]
fn sessions_are_bounded_and_chunks_repeatable() {
    let pair = pair();
    let source = source(1);
    let first = ask(&source, &pair.full, &request(0, 0));
    let again = ask(&source, &pair.full, &request(first.session, 0));
    assert_eq!((&again.pairs, again.crc32c), (&first.pairs, first.crc32c));
    let second = ask(&source, &pair.full, &request(first.session, 1));
    assert!(second.pairs[0].0 > first.pairs.last().unwrap().0);
    assert_eq!(
        ask(&source, &pair.full, &request(first.session, 1)).pairs,
        second.pairs
    );
    assert!(
        ask(&source, &pair.full, &request(first.session, 7)).expired,
        "too far ahead"
    );
    assert!(
        ask(&source, &pair.full, &request(first.session, 0)).expired,
        "too far back"
    );
    let other = CopyRequest {
        to: NodeId(3),
        ..request(0, 0)
    };
    assert!(
        ask(&source, &pair.full, &other).expired,
        "one session at a time"
    );
    let thief = CopyRequest {
        to: NodeId(3),
        ..request(first.session, 2)
    };
    assert!(
        ask(&source, &pair.full, &thief).expired,
        "a session is its asker's"
    );
    let anew = ask(&source, &pair.full, &request(0, 0));
    assert!(anew.session != first.session && !anew.expired);
    assert!(ask(&source, &pair.full, &request(first.session, 2)).expired);
}

#[test]
fn idle_sessions_end_and_let_go() {
    let pair = pair();
    let idle_max = Duration::from_millis(20);
    let options = SourceOptions {
        idle_max,
        bytes_per_s: None,
        ..SourceOptions::default()
    };
    let source = CopySource::start(options).unwrap();
    let first = ask(&source, &pair.full, &request(0, 0));
    assert!(!first.expired);
    // Each question without a session is another asker's: only time can make room for it.
    let options = SourceOptions {
        sessions_max: 1,
        ..options
    };
    let crowded = CopySource::start(options).unwrap();
    assert!(!ask(&crowded, &pair.full, &request(0, 0)).expired);
    let other = CopyRequest {
        to: NodeId(3),
        ..request(0, 0)
    };
    let mut refused = 0;
    while ask(&crowded, &pair.full, &other).expired {
        refused += 1;
        assert!(refused < 1_000_000, "the idle session never ended");
    }
    drop(source);
    // No session holds the tree itself.
    assert_eq!(Arc::strong_count(&pair.full), 1);
}

#[test]
fn growth_of_the_original_ends_the_session_and_the_copy_starts_over() {
    let dir = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let full = ReplicaTree::create(&dir.path().join("1"), SMALL, &state(0)).unwrap();
    full.flush(&batch(1, fill(0, 300, 300))).unwrap();
    let full = Arc::new(full);
    let source = source(1);
    let replicas = dir.path().join("replicas");
    std::fs::create_dir_all(&replicas).unwrap();
    let own = state(0);
    let mut asked = 0;
    let fetch = |request: &CopyRequest| {
        asked += 1;
        if asked == 5 {
            full.flush(&batch(2, fill(1_000, 1_100, 20_000))).unwrap();
        }
        Ok(ask(&source, &full, request))
    };
    let incoming = receive(&replicas, GROUP, ME, &own, &fast(), fetch, || false).unwrap();
    assert_eq!(
        (incoming.end().applied, incoming.end().items),
        (2, Some(400))
    );
}

#[test]
fn the_rate_is_bounded() {
    let pair = pair();
    let rate = 2 << 20;
    let options = SourceOptions {
        chunk_bytes: 32 << 10,
        bytes_per_s: Some(rate),
        ..SourceOptions::default()
    };
    let source = CopySource::start(options).unwrap();
    let started = std::time::Instant::now();
    let mut bytes = 0;
    let incoming = pair.receive(&fast(), |request| {
        let chunk = ask(&source, &pair.full, request);
        bytes += chunk
            .pairs
            .iter()
            .map(|(key, item)| key.len() + item.len())
            .sum::<usize>();
        Ok(chunk)
    });
    assert!(incoming.is_ok());
    // The last chunk is sent before it is paid for.
    let least = (bytes - (33 << 10)) as f64 / rate as f64;
    assert!(
        started.elapsed().as_secs_f64() >= least,
        "{bytes} bytes in {:?}",
        started.elapsed()
    );
}
