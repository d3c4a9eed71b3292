//! A file made ready to become the next segment. Writing into blocks that were written before needs no metadata in the
//! journal, which makes each sync up to twice as fast as growing a file; so segments that are no longer needed are
//! recycled, and while there is none, a file is filled with zeros in the background, past the page cache where the file system
//! allows it: copying through it was a twentieth of all that a write costs. Never touches live segments.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;

use crate::error::WalError;
use crate::segment::{self, SPARE};

/// A spare that is not filled yet.
const PARTIAL: &str = "spare.partial";

const NONE: u8 = 0;
const FILLING: u8 = 1;
const READY: u8 = 2;
const STOP: u8 = 3;

/// Bytes filled at a time: small, so that the log's own syncs never wait long behind them.
const FILL_BYTES: usize = 1 << 20;
/// Direct writes begin at multiples of this, in the file and in memory: no disk has larger blocks.
const BLOCK_BYTES: usize = 4 << 10;

/// Keeps the spare file.
pub(crate) struct Spare {
    dir: PathBuf,
    bytes: u64,
    state: Arc<AtomicU8>,
    filler: Option<JoinHandle<()>>,
    enabled: bool,
}

impl Spare {
    pub(crate) fn new(dir: &Path, bytes: u64, enabled: bool) -> Self {
        let path = dir.join(SPARE);
        let there = fs::metadata(&path).is_ok_and(|m| m.len() >= bytes && enabled);
        if !there {
            // Left over from another size, or from before: of no use and of no harm.
            let _ = fs::remove_file(&path);
        }
        let _ = fs::remove_file(dir.join(PARTIAL));
        let state = Arc::new(AtomicU8::new(if there { READY } else { NONE }));
        Self {
            dir: dir.into(),
            bytes,
            state,
            filler: None,
            enabled,
        }
    }

    /// Whether the next segment would be made of the spare.
    pub(crate) fn ready(&self) -> bool {
        self.state.load(Ordering::Acquire) == READY
    }

    /// Creates the file of a new segment, from the spare when there is one (true). Its old content is not cleared.
    pub(crate) fn create(&mut self, number: u32) -> Result<(File, bool), WalError> {
        let path = segment::path(&self.dir, number);
        let ready = self
            .state
            .compare_exchange(READY, NONE, Ordering::AcqRel, Ordering::Acquire);
        let renamed = ready.is_ok() && fs::rename(self.dir.join(SPARE), &path).is_ok();
        if !renamed {
            self.fill();
        }
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(!renamed)
            .open(&path)
            .map(|file| (file, renamed))
            .map_err(|e| WalError::io("create", &path, &e))
    }

    /// Takes the file of a segment that is no longer needed, or deletes it.
    pub(crate) fn retire(&mut self, number: u32, reusable: bool) -> Result<(), WalError> {
        let path = segment::path(&self.dir, number);
        let fits =
            fs::metadata(&path).is_ok_and(|m| m.len() >= self.bytes && m.len() <= 2 * self.bytes);
        let recycle = reusable && fits && self.enabled;
        if recycle && self.state.load(Ordering::Acquire) == NONE {
            let renamed = fs::rename(&path, self.dir.join(SPARE));
            if renamed.is_ok() {
                self.state.store(READY, Ordering::Release);
                return Ok(());
            }
        }
        fs::remove_file(&path).map_err(|e| WalError::io("delete", &path, &e))
    }

    /// Fills a new spare in the background, unless there is one or it is being filled. A failure only means that there is none.
    pub(crate) fn fill(&mut self) {
        let free = self
            .state
            .compare_exchange(NONE, FILLING, Ordering::AcqRel, Ordering::Acquire);
        if !self.enabled || free.is_err() {
            return;
        }
        let (dir, bytes, state) = (self.dir.clone(), self.bytes, self.state.clone());
        let filler = move || {
            let filled = fill_file(&dir, bytes, &state);
            if let Err(error) = &filled {
                // The attempt must not be what fills the disk.
                let _ = fs::remove_file(dir.join(PARTIAL));
                tracing::warn!(%error, "no spare segment could be made");
            }
            let next = if matches!(filled, Ok(true)) {
                READY
            } else {
                NONE
            };
            // A stop that was asked for meanwhile stays.
            let _ = state.compare_exchange(FILLING, next, Ordering::AcqRel, Ordering::Acquire);
        };
        self.filler = std::thread::Builder::new()
            .name("wal-spare".into())
            .spawn(filler)
            .inspect_err(|_| self.state.store(NONE, Ordering::Release))
            .ok();
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        let _ = self
            .state
            .compare_exchange(FILLING, STOP, Ordering::AcqRel, Ordering::Acquire);
        if let Some(filler) = self.filler.take() {
            let _ = filler.join();
        }
    }
}

/// False: stopped before it was done.
fn fill_file(dir: &Path, bytes: u64, state: &AtomicU8) -> std::io::Result<bool> {
    let partial = dir.join(PARTIAL);
    let direct = bytes.is_multiple_of(BLOCK_BYTES as u64);
    let filled = match direct.then(|| fill_partial(&partial, bytes, state, true)) {
        // Not every file system takes direct writes, and some say so at the first one only.
        None | Some(Err(_)) => fill_partial(&partial, bytes, state, false)?,
        Some(Ok(filled)) => filled,
    };
    if filled {
        fs::rename(&partial, dir.join(SPARE))?;
    }
    Ok(filled)
}

fn fill_partial(
    partial: &Path,
    bytes: u64,
    state: &AtomicU8,
    direct: bool,
) -> std::io::Result<bool> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    if direct {
        options.custom_flags(rustix::fs::OFlags::DIRECT.bits() as i32);
    }
    let mut file = options.open(partial)?;
    let memory = vec![0_u8; FILL_BYTES + BLOCK_BYTES];
    let zeros = &memory[memory.as_ptr().align_offset(BLOCK_BYTES)..][..FILL_BYTES];
    let mut left = bytes;
    while left > 0 {
        if state.load(Ordering::Acquire) == STOP {
            return Ok(false);
        }
        let len = left.min(FILL_BYTES as u64);
        file.write_all(&zeros[..len as usize])?;
        if !direct {
            file.sync_data()?;
        }
        left -= len;
    }
    file.sync_all()?;
    Ok(true)
}
