//! What can be told of LMDB's file before it is mapped. Owns the look at its two meta pages and its length: a map over bytes that
//! are not there kills the process on the first read, for all replicas of the node. Never maps anything.
//!
//! Layout of LMDB's format version 1 on 64-bit machines, as in `mdb.c`: a page has a header of 16 bytes; pages 0 and 1 are metas:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 16 | 4 | magic `0xBEEFC0DE` |
//! | 20 | 4 | format version |
//! | 40 | 4 | size of a page (the `md_pad` of the free list) |
//! | 136 | 8 | last page in use |
//! | 144 | 8 | transaction that wrote this meta |

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::environment::DATA_FILE;
use super::error::TreeError;

const MAGIC: u32 = 0xBEEF_C0DE;
const VERSION: u32 = 1;
const META_BYTES: usize = 152;
const LOCK_FILE: &str = "lock.mdb";
/// More than LMDB makes of it for our number of readers.
const LOCK_BYTES: u64 = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meta {
    last_page: u64,
    transaction: u64,
    page_bytes: u64,
}

/// What the file's length says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// All pages in use lie in the file; or there is no file yet.
    Whole,
    /// The file was shorter than its last commit says, by so many bytes, and was filled up with zeros. That may be (LMDB never
    /// writes pages that were freed in the transaction that took them) or be damage: only a look at every item tells.
    Filled(u64),
}

/// Looks at the data file of the environment in `folder`, and makes it as long as its pages in use.
///
/// # Errors
/// `Corrupt` when a meta page is not one; or the disk's error.
pub(super) fn check(folder: &Path) -> Result<Length, TreeError> {
    let io = |operation, error: io::Error| TreeError::io(folder, operation, &error);
    let file = match OpenOptions::new()
        .read(true)
        .write(true)
        .open(folder.join(DATA_FILE))
    {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Length::Whole),
        Err(error) => return Err(io("opening", error)),
    };
    let len = file.metadata().map_err(|error| io("opening", error))?.len();
    if len == 0 {
        // Its creation ended here.
        return Ok(Length::Whole);
    }
    let first = read_meta(folder, &file, 0)?;
    let second = read_meta(folder, &file, first.page_bytes)?;
    if second.page_bytes != first.page_bytes {
        return Err(TreeError::corrupt(folder, "the meta pages contradict"));
    }
    let (older, newer) = match first.transaction <= second.transaction {
        true => (first, second),
        false => (second, first),
    };
    if newer.last_page < older.last_page {
        return Err(TreeError::corrupt(
            folder,
            "the newer meta page has fewer pages than the older one",
        ));
    }
    let wanted = newer
        .last_page
        .checked_add(1)
        .and_then(|pages| pages.checked_mul(newer.page_bytes))
        .filter(|wanted| *wanted < 1 << 46)
        .ok_or_else(|| TreeError::corrupt(folder, "a meta page has an impossible size"))?;
    if len >= wanted {
        return Ok(Length::Whole);
    }
    // Zeros are no page: LMDB says so, where bytes behind the file's end would kill the process. Takes no space.
    file.set_len(wanted).map_err(|error| io("opening", error))?;
    Ok(Length::Filled(wanted - len))
}

fn read_meta(folder: &Path, file: &File, at: u64) -> Result<Meta, TreeError> {
    let corrupt = |what: &str| TreeError::corrupt(folder, format!("the meta page at {at}: {what}"));
    let mut bytes = [0; META_BYTES];
    match file.read_exact_at(&mut bytes, at) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(corrupt("the file ends before it"));
        }
        Err(error) => return Err(TreeError::io(folder, "opening", &error)),
    }
    // The ranges lie within the array.
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap_or_default());
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
    if u32_at(16) != MAGIC {
        return Err(corrupt("wrong magic"));
    }
    if u32_at(20) != VERSION {
        return Err(corrupt("unknown format version"));
    }
    let page_bytes = u64::from(u32_at(40));
    if !page_bytes.is_power_of_two() || !(512..=65_536).contains(&page_bytes) {
        return Err(corrupt("impossible page size"));
    }
    Ok(Meta {
        last_page: u64_at(136),
        transaction: u64_at(144),
        page_bytes,
    })
}

/// Gives the lock file its blocks now: it is mapped and written, and on a full disk a hole in it would kill the process.
///
/// # Errors
/// `DiskFull`, or the disk's error.
pub(super) fn reserve_lock_file(folder: &Path) -> Result<(), TreeError> {
    let io = |error: io::Error| TreeError::io(folder, "making the lock file", &error);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join(LOCK_FILE))
        .map_err(io)?;
    if file.metadata().map_err(io)?.len() >= LOCK_BYTES {
        return Ok(());
    }
    let reserved = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, LOCK_BYTES);
    match reserved {
        // A file system that cannot: nothing is lost but the guard.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        reserved => reserved.map_err(|error| io(error.into())),
    }
}
