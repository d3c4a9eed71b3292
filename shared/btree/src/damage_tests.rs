//! Damaged files. LMDB trusts its pages, so what may end the process happens in processes of its own: this test's binary again.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use paxos::Index;

use super::*;
use crate::fixtures::{SMALL, batch, content, everything, fill, key, state};

const FOLDER: &str = "EVENKEEL_TEST_FOLDER";
const FLIPS: u64 = 400;

/// Runs the test `name` of this binary as a child, which finds `folder` in its environment.
fn child(name: &str, folder: &Path) -> ExitStatus {
    let binary = std::env::current_exe().unwrap();
    let name = format!("damage_tests::{name}");
    let mut command = Command::new(binary);
    command.args(["--exact", &name]).env(FOLDER, folder);
    let output = command.output().unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    output.status
}

fn as_child() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

fn cut(folder: &Path, bytes: u64) {
    let file = fs::OpenOptions::new()
        .write(true)
        .open(folder.join(DATA_FILE))
        .unwrap();
    file.set_len(bytes).unwrap();
}

#[test]
fn a_file_cut_under_the_map_ends_the_process_with_a_note_in_its_folder() {
    if let Some(folder) = as_child() {
        let (tree, _) = ReplicaTree::open(&folder, SMALL).unwrap();
        cut(&folder, 8_192);
        let _ = tree.verify();
        panic!("read what is not there");
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("1");
    let tree = ReplicaTree::create(&folder, SMALL, &state(0)).unwrap();
    tree.flush(&batch(1, fill(0, 200, 3_000))).unwrap();
    drop(tree);
    let name = "a_file_cut_under_the_map_ends_the_process_with_a_note_in_its_folder";
    let status = child(name, &folder);
    assert_eq!(status.signal(), Some(libc::SIGBUS), "{status}");
    let note = fs::read_to_string(folder.join(CRASHED_MARK)).unwrap();
    assert!(note.contains("SIGBUS"), "{note}");
}

/// Before it is mapped, the file is looked at: no process dies of it.
#[test]
fn a_file_cut_before_the_start_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("1");
    let tree = ReplicaTree::create(&folder, SMALL, &state(0)).unwrap();
    tree.flush(&batch(1, fill(0, 200, 3_000))).unwrap();
    drop(tree);
    let whole = fs::read(folder.join(DATA_FILE)).unwrap();
    for bytes in [1, 100, 4_095, 4_096, 5_000, 8_192, 100_000, 400_000] {
        cut(&folder, bytes);
        let opened = ReplicaTree::open(&folder, SMALL).map(|_| ());
        assert!(
            matches!(opened, Err(TreeError::Corrupt { .. })),
            "cut at {bytes}: {opened:?}"
        );
        fs::write(folder.join(DATA_FILE), &whole).unwrap();
    }
    assert!(ReplicaTree::open(&folder, SMALL).is_ok());
    // Nothing but a file that was never written is an unfinished creation.
    cut(&folder, 0);
    let opened = ReplicaTree::open(&folder, SMALL).map(|_| ());
    assert!(
        matches!(opened, Err(TreeError::Missing { .. })),
        "{opened:?}"
    );
}

/// The contents that a B-tree went through, by applied position.
fn history() -> Vec<(Index, BTreeMap<Bytes, Option<Bytes>>)> {
    let mut first = fill(0, 60, 300);
    first.extend(fill(60, 70, 9_000));
    vec![(1, first), (2, fill(20, 40, 500)), (3, fill(100, 120, 200))]
}

/// What one flipped bit may do: nothing, an error, the end of the process with a note; or hide items so that `verify` sees it.
/// Never another item than was written.
#[test]
fn a_flipped_bit_anywhere_is_never_served() {
    let name = "a_flipped_bit_anywhere_is_never_served";
    if let Some(folder) = as_child() {
        let whole = fs::read(folder.join("whole")).unwrap();
        let from: u64 = fs::read_to_string(folder.join("next"))
            .unwrap()
            .parse()
            .unwrap();
        for number in from..FLIPS {
            fs::write(folder.join("next"), number.to_string()).unwrap();
            flip_and_read(&folder.join(number.to_string()), &whole, number);
        }
        fs::write(folder.join("next"), FLIPS.to_string()).unwrap();
        return;
    }
    let dir = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let folder = dir.path().join("1");
    let tree = ReplicaTree::create(&folder, SMALL, &state(0)).unwrap();
    for (applied, items) in history() {
        tree.flush(&batch(applied, items)).unwrap();
    }
    drop(tree);
    fs::copy(folder.join(DATA_FILE), dir.path().join("whole")).unwrap();
    let mut next = 0;
    while next < FLIPS {
        fs::write(dir.path().join("next"), next.to_string()).unwrap();
        let status = child(name, dir.path());
        let at = fs::read_to_string(dir.path().join("next")).unwrap();
        let at: u64 = at.parse().unwrap();
        assert_ne!(status.code(), Some(101), "flip {at} was served");
        if status.success() {
            assert_eq!(at, FLIPS);
            break;
        }
        let note = dir.path().join(at.to_string()).join(CRASHED_MARK);
        assert!(note.exists(), "flip {at}: {status}");
        next = at + 1;
    }
}

fn flip_and_read(folder: &Path, whole: &[u8], number: u64) {
    // Every fourth in the meta pages, every fourth in the header of a page, the others anywhere.
    let random = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
    let at = match number % 4 {
        0 => random % 2 * 4_096 + random / 2 % 152,
        1 => random % (whole.len() as u64 / 4_096) * 4_096 + random / 4_096 % 40,
        _ => random % whole.len() as u64,
    } as usize;
    let mut bytes = whole.to_vec();
    bytes[at] ^= 1 << (random >> 60 & 7);
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(DATA_FILE), bytes).unwrap();
    let Ok((tree, found)) = ReplicaTree::open(folder, SMALL) else {
        return;
    };
    // An older meta page is an older, whole B-tree: the log replays the rest.
    let mut expected = BTreeMap::new();
    for (_, items) in history().into_iter().filter(|(at, _)| *at <= found.applied) {
        expected.extend(items);
    }
    let hidden_is_seen = tree.verify().is_err();
    for number in 0..130 {
        match tree.get(&key(number)) {
            Ok(Some(item)) => {
                let written = expected.get(&key(number)).cloned().flatten();
                assert_eq!(Some(item), written, "byte {at}, item {number}");
            }
            Ok(None) => {
                let missing = expected.contains_key(&key(number));
                assert!(!missing || hidden_is_seen, "byte {at} hides item {number}");
            }
            Err(_) => {}
        }
    }
    if !hidden_is_seen {
        assert_eq!(content(&tree, &everything(), false).len(), expected.len());
    }
    drop(tree);
    fs::remove_file(folder.join(DATA_FILE)).unwrap();
}

/// States of version 0.1 do not say which transaction wrote them.
#[test]
fn a_state_of_version_1_is_read() {
    let body = rmp_serde::to_vec_named(&state(7)).unwrap();
    let mut stored = vec![1];
    stored.extend_from_slice(&crc32c::crc32c_append(crc32c::crc32c(&[1]), &body).to_le_bytes());
    stored.extend_from_slice(&body);
    let read = value::decode_state(Path::new("x"), &stored).unwrap();
    assert_eq!(read, (state(7), None));
}
