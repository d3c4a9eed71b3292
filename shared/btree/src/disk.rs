//! Whether the disk holds what the page cache says. LMDB reads through a memory map: a page that was read once is served from memory, and a
//! sector that rots below it is not seen until the page is thrown out, perhaps in years, perhaps at all replicas at once. So the file is
//! read past the cache (`O_DIRECT`) and compared with what the cache says. Owns these two reads; never repairs anything.
//!
//! Where the file system knows no direct reads, the cache is asked to let go of the file instead (`posix_fadvise`). It keeps the
//! pages that are mapped just then, so that is a request only: rot below them is found when they are read anew.
//! Neither sees what the drive's own cache hides.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Advice, Mode, OFlags};

use crate::environment::DATA_FILE;
use crate::error::TreeError;

/// Read at a time, bytes.
const BLOCK_BYTES: usize = 256 << 10;
/// Direct reads begin and end at multiples of this, in the file and in memory, bytes.
const ALIGNMENT: usize = 4_096;
/// Two reads that differ are repeated so often: a flush may have come between them …
const ATTEMPTS: u32 = 10;
/// … with pauses of so long.
const PAUSE: Duration = Duration::from_millis(20);

/// Memory for direct reads.
struct Aligned(Vec<u8>);

impl Aligned {
    fn new() -> Self {
        Self(vec![0; BLOCK_BYTES + ALIGNMENT])
    }

    fn block(&mut self) -> &mut [u8] {
        let from = self.0.as_ptr().align_offset(ALIGNMENT);
        &mut self.0[from..from + BLOCK_BYTES]
    }
}

/// Compares the data file in `folder`, block by block. `read` is told the bytes of each block, and says whether to go on. Returns whether
/// it did to the end. Without direct reads it ends at once, and says that nothing was read.
///
/// # Errors
/// `Corrupt` when the disk holds something else than the page cache; or the disk's error.
pub(crate) fn compare(folder: &Path, mut read: impl FnMut(u64) -> bool) -> Result<bool, TreeError> {
    let fail = |error: std::io::Error| TreeError::io(folder, "reading past the cache", &error);
    let path = folder.join(DATA_FILE);
    let cached = File::open(&path).map_err(fail)?;
    let bytes = cached.metadata().map_err(fail)?.len();
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    let direct = match rustix::fs::open(&path, flags, Mode::empty()) {
        Ok(direct) => File::from(direct),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => {
            // A request: whether it is followed changes nothing for us.
            let _ = rustix::fs::fadvise(&cached, 0, None, Advice::DontNeed);
            return Ok(true);
        }
        Err(error) => return Err(fail(error.into())),
    };
    let (mut below, mut above) = (Aligned::new(), vec![0; BLOCK_BYTES]);
    let mut at = 0;
    // What came behind the length since then is the next scrub's.
    while at + ALIGNMENT as u64 <= bytes {
        let length = (bytes - at).min(BLOCK_BYTES as u64) as usize / ALIGNMENT * ALIGNMENT;
        let mut differs = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(PAUSE);
            }
            let below = &mut below.block()[..length];
            direct.read_exact_at(below, at).map_err(fail)?;
            let above = &mut above[..length];
            cached.read_exact_at(above, at).map_err(fail)?;
            differs = below.iter().zip(&*above).position(|(a, b)| a != b);
            if differs.is_none() {
                break;
            }
        }
        if let Some(offset) = differs {
            let place = at + offset as u64;
            let what = format!("the disk holds other bytes than the page cache at {place}");
            return Err(TreeError::corrupt(folder, what));
        }
        at += length as u64;
        if !read(length as u64) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_its_disk_says_and_a_reader_may_stop() {
        let dir = tempfile::tempdir().unwrap();
        let length = 3 * BLOCK_BYTES + 2 * ALIGNMENT + 7;
        let bytes: Vec<u8> = (0..length).map(|number| number as u8).collect();
        std::fs::write(dir.path().join(DATA_FILE), bytes).unwrap();
        let mut read = 0;
        let ended = compare(dir.path(), |bytes| {
            read += bytes;
            true
        });
        assert_eq!(ended, Ok(true));
        let whole = (3 * BLOCK_BYTES + 2 * ALIGNMENT) as u64;
        assert!(
            [0, whole].contains(&read),
            "{read}: all of it, or not possible here"
        );
        if read > 0 {
            assert_eq!(compare(dir.path(), |_| false), Ok(false));
        }
    }
}
