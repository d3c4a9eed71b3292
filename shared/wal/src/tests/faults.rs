//! A failing disk: the log says so once and never writes again.

use std::io::ErrorKind;
use std::sync::Arc;

use parking_lot::Mutex;

use super::model::{self, append, append_now, install, open};
use crate::{Wal, WalError, WalOptions};

type Fatal = Arc<Mutex<Vec<WalError>>>;

fn open_noting(dir: &std::path::Path) -> (Wal, Fatal) {
    let fatal = Fatal::default();
    let noted = fatal.clone();
    let on_fatal = Arc::new(move |error: &WalError| noted.lock().push(error.clone()));
    let options = WalOptions {
        on_fatal,
        ..model::options(1 << 20)
    };
    (Wal::open(dir, options).unwrap().0, fatal)
}

#[test]
fn a_failed_sync_is_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, fatal) = open_noting(dir.path());
    append_now(&wal, 1, vec![install(0)]).unwrap();
    *wal.shared().faults.next_sync.lock() = Some(ErrorKind::Other);
    let failed = append_now(&wal, 1, vec![append(1, &[10])]);
    assert!(
        matches!(
            failed,
            Err(WalError::Io {
                operation: "sync",
                ..
            })
        ),
        "{failed:?}"
    );
    assert_eq!(fatal.lock().len(), 1);
    let later = append_now(&wal, 1, vec![append(1, &[10])]);
    assert_eq!(later, Err(WalError::Stopped));
    assert_eq!(
        wal.read(paxos::GroupId(1), 1, 1000).unwrap(),
        [],
        "nothing unsynced is shown"
    );
    drop(wal);
    assert_eq!(fatal.lock().len(), 1, "never retried");
    let (_wal, recovery) = open(dir.path(), 1 << 20);
    assert!(recovery.damaged.is_empty());
}

#[test]
fn a_full_disk_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, fatal) = open_noting(dir.path());
    *wal.shared().faults.next_write.lock() = Some(ErrorKind::StorageFull);
    let failed = append_now(&wal, 1, vec![install(0)]);
    assert!(
        matches!(failed, Err(WalError::DiskFull { .. })),
        "{failed:?}"
    );
    assert!(fatal.lock()[0].to_string().contains("free space"));
}

#[test]
fn a_panicking_completion_stops_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, fatal) = open_noting(dir.path());
    wal.append(paxos::GroupId(1), vec![install(0)], |_| {
        panic!("deliberate")
    })
    .unwrap();
    wal.close();
    assert_eq!(
        append_now(&wal, 2, vec![install(0)]),
        Err(WalError::Stopped)
    );
    assert_eq!(*fatal.lock(), [WalError::Stopped]);
}
