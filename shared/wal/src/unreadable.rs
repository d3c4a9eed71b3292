//! Reading files of a disk that fails here and there: what cannot be read is named, the rest is had. Owns that alone.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes that are given up together: a block of the disk.
const BLOCK_BYTES: usize = 4096;
/// Bytes that are read at a time.
const PIECE_BYTES: usize = 256 << 10;

/// A file's bytes. What the disk did not give is zero, and in `gaps`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) bytes: Vec<u8>,
    pub(crate) gaps: Vec<Range<usize>>,
}

/// Reads a file; blocks that the disk refuses become gaps.
///
/// # Errors
/// When the file cannot be opened, or for another reason than a failing disk.
pub(crate) fn read(path: &Path) -> io::Result<Content> {
    let file = File::open(path)?;
    let len = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    read_with(len, |buffer, at| {
        faults::check(path, at, buffer.len())?;
        file.read_exact_at(buffer, at as u64)
    })
}

/// Blocks of zeros are not copied: a segment is prepared with them to its full length, and memory that nobody touches costs nothing.
fn read_with(
    len: usize,
    mut read: impl FnMut(&mut [u8], usize) -> io::Result<()>,
) -> io::Result<Content> {
    let mut content = Content {
        bytes: vec![0; len],
        gaps: Vec::new(),
    };
    let mut buffer = vec![0; PIECE_BYTES.min(len)];
    for from in (0..len).step_by(PIECE_BYTES) {
        let piece = &mut buffer[..PIECE_BYTES.min(len - from)];
        match read(piece, from) {
            Ok(()) => content.keep(piece, from),
            Err(error) if is_of_the_disk(&error) => {
                for at in (from..from + piece.len()).step_by(BLOCK_BYTES) {
                    let block = &mut piece[at - from..];
                    let block_len = block.len().min(BLOCK_BYTES);
                    let block = &mut block[..block_len];
                    match read(block, at) {
                        Ok(()) => content.keep(block, at),
                        Err(error) if is_of_the_disk(&error) => content.miss(at..at + block_len),
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(content)
}

impl Content {
    fn keep(&mut self, piece: &[u8], from: usize) {
        for (number, block) in piece.chunks(BLOCK_BYTES).enumerate() {
            if block.iter().any(|byte| *byte != 0) {
                let at = from + number * BLOCK_BYTES;
                self.bytes[at..at + block.len()].copy_from_slice(block);
            }
        }
    }

    fn miss(&mut self, block: Range<usize>) {
        match self.gaps.last_mut() {
            Some(gap) if gap.end == block.start => gap.end = block.end,
            _ => self.gaps.push(block),
        }
    }
}

/// EIO, EBADMSG, ENODATA: what file systems say of blocks that the disk, or a checksum below us, refuses.
fn is_of_the_disk(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    const ENODATA: i32 = 61;
    const EBADMSG: i32 = 74;
    matches!(error.raw_os_error(), Some(EIO | ENODATA | EBADMSG))
        || error.kind() == ErrorKind::UnexpectedEof
}

/// Bad blocks that tests ask for.
pub(crate) mod faults {
    use std::io;
    use std::path::Path;

    #[cfg(test)]
    thread_local! {
        /// This range of the file of this name cannot be read by this thread.
        pub(crate) static BAD: std::cell::RefCell<Option<(String, std::ops::Range<usize>)>> =
            const { std::cell::RefCell::new(None) };
    }

    #[cfg(test)]
    pub(super) fn check(path: &Path, at: usize, len: usize) -> io::Result<()> {
        let bad = BAD.with_borrow(|bad| {
            bad.as_ref().is_some_and(|(name, range)| {
                path.ends_with(name) && at < range.end && at + len > range.start
            })
        });
        match bad {
            true => Err(io::Error::from_raw_os_error(5)),
            false => Ok(()),
        }
    }

    #[cfg(not(test))]
    pub(super) fn check(_: &Path, _: usize, _: usize) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bad_blocks_are_lost() {
        let bad = 2 * BLOCK_BYTES + 7;
        let content = read_with(4 * BLOCK_BYTES + 10, |buffer, at| {
            buffer.fill(1);
            match (at..at + buffer.len()).contains(&bad) {
                true => Err(io::Error::from_raw_os_error(5)),
                false => Ok(()),
            }
        });
        let content = content.unwrap();
        let gap = 2 * BLOCK_BYTES..3 * BLOCK_BYTES;
        assert_eq!(content.gaps, std::slice::from_ref(&gap));
        for (at, byte) in content.bytes.iter().enumerate() {
            assert_eq!(*byte == 0, gap.contains(&at));
        }
    }

    #[test]
    fn files_longer_than_a_piece_come_whole_with_gaps_across_pieces() {
        let len = 2 * PIECE_BYTES + BLOCK_BYTES + 1;
        let gap = PIECE_BYTES - BLOCK_BYTES..PIECE_BYTES + BLOCK_BYTES;
        let byte = |at: usize| match (at / BLOCK_BYTES).is_multiple_of(3) {
            true => 0,
            false => (at % 251) as u8,
        };
        let content = read_with(len, |buffer, at| {
            for (offset, slot) in buffer.iter_mut().enumerate() {
                *slot = byte(at + offset);
            }
            match at < gap.end && at + buffer.len() > gap.start {
                true => Err(io::Error::from_raw_os_error(5)),
                false => Ok(()),
            }
        });
        let content = content.unwrap();
        assert_eq!(content.gaps, std::slice::from_ref(&gap));
        assert_eq!(content.bytes.len(), len);
        for (at, found) in content.bytes.iter().enumerate() {
            let expected = if gap.contains(&at) { 0 } else { byte(at) };
            assert_eq!(*found, expected, "byte {at}");
        }
    }

    #[test]
    fn other_errors_are_no_gaps() {
        let denied = read_with(10, |_, _| Err(ErrorKind::PermissionDenied.into()));
        assert_eq!(denied.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
}
