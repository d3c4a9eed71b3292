//! A node's identity on its disk: `node.id` in the data folder, and the lock that keeps a second process out. Owns the file
//! that says whose data this is; never creates an identity beside data that has none.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use paxos::NodeId;

use crate::error::WalError;
use crate::record::Reader;
use crate::segment::sync_dir;

const MAGIC: &[u8; 8] = b"EVKNODE\0";
const VERSION: u32 = 1;
const FILE: &str = "node.id";
const LOCK: &str = "node.lock";

/// A data folder that is locked and belongs to this node. The lock is held while this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    node: NodeId,
    incarnation: u64,
    created: bool,
    _lock: File,
}

impl DataDir {
    /// Locks the folder, creating it if need be, and checks that it is `node`'s. A folder without identity gets one with
    /// the incarnation `fresh_incarnation` (random, not 0), unless it holds other data already.
    pub fn open(path: &Path, node: NodeId, fresh_incarnation: u64) -> Result<DataDir, WalError> {
        fs::create_dir_all(path).map_err(|e| WalError::io("create", path, &e))?;
        let lock = lock(path)?;
        let file = path.join(FILE);
        let (incarnation, created) = match fs::read(&file) {
            Ok(bytes) => (check(&bytes, node, &file)?, false),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                refuse_foreign(path, node)?;
                replace_file(path, FILE, &encode(node, fresh_incarnation))?;
                (fresh_incarnation, true)
            }
            Err(e) => return Err(WalError::io("read", &file, &e)),
        };
        Ok(DataDir {
            path: path.into(),
            node,
            incarnation,
            created,
            _lock: lock,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Identity of this disk: drawn once, when the folder was first used.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Whether the identity was made just now.
    pub fn created(&self) -> bool {
        self.created
    }

    /// Folder of the write-ahead log.
    pub fn wal(&self) -> PathBuf {
        self.path.join("wal")
    }

    /// Folder of the replicas' folders.
    pub fn replicas(&self) -> PathBuf {
        self.path.join("replicas")
    }
}

fn lock(path: &Path) -> Result<File, WalError> {
    let path = path.join(LOCK);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|e| WalError::io("open", &path, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(WalError::Locked { path }),
        Err(TryLockError::Error(e)) => Err(WalError::io("lock", &path, &e)),
    }
}

fn encode(node: NodeId, incarnation: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&node.0.to_le_bytes());
    bytes.extend_from_slice(&incarnation.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

fn check(bytes: &[u8], node: NodeId, path: &Path) -> Result<u64, WalError> {
    let corrupt = |what: &str| WalError::Corrupt {
        path: path.into(),
        offset: 0,
        what: what.into(),
    };
    let mut reader = Reader(bytes);
    let fields = || -> Option<(bool, u32, u64, u64, u32)> {
        let magic = reader.take(8)? == MAGIC;
        Some((
            magic,
            reader.u32()?,
            reader.u64()?,
            reader.u64()?,
            reader.u32()?,
        ))
    };
    let (magic, version, found, incarnation, crc) =
        { fields }().ok_or_else(|| corrupt("too short for a node identity"))?;
    if !magic {
        return Err(corrupt("not a node identity"));
    }
    if version > VERSION {
        return Err(WalError::Version {
            path: path.into(),
            found: version,
            supported: VERSION,
        });
    }
    if crc != crc32c::crc32c(&bytes[..28]) {
        return Err(corrupt("checksum mismatch"));
    }
    if found != node.0 {
        return Err(WalError::Identity {
            path: path.into(),
            found: format!("node {found}"),
            expected: format!("node {}", node.0),
        });
    }
    Ok(incarnation)
}

/// Data without an identity is somebody else's, or the identity was lost: nobody may adopt it.
fn refuse_foreign(path: &Path, node: NodeId) -> Result<(), WalError> {
    let has =
        |name: &str| fs::read_dir(path.join(name)).is_ok_and(|mut folder| folder.next().is_some());
    if has("wal") || has("replicas") {
        return Err(WalError::Identity {
            path: path.join(FILE),
            found: "nobody (the file is missing, but there is data)".into(),
            expected: format!("node {}", node.0),
        });
    }
    Ok(())
}

/// Writes a small file so that after a crash it has the old content or the new, and durably the new once this returns. Blocks.
///
/// # Errors
/// What the file system says; then the old content stays.
pub fn replace_file(folder: &Path, name: &str, content: &[u8]) -> Result<(), WalError> {
    let partial = folder.join(format!("{name}.partial"));
    let io = |operation, e| WalError::io(operation, &partial, &e);
    let mut file = File::create(&partial).map_err(|e| io("create", e))?;
    file.write_all(content).map_err(|e| io("write", e))?;
    file.sync_all().map_err(|e| io("sync", e))?;
    fs::rename(&partial, folder.join(name)).map_err(|e| io("rename", e))?;
    sync_dir(folder)
}
