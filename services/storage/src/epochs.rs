//! The greatest epoch of an admin that gave this node an order: orders of earlier admins are refused, also by a node that has restarted. Owns the
//! file that remembers it; never carries an order out.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use wal::WalError;

const MAGIC: &[u8; 8] = b"EVKEPOCH";
const VERSION: u32 = 1;
const FILE: &str = "admin.epoch";
/// Magic, version, epoch, checksum.
const BYTES: usize = 24;

/// What the epoch of an order means here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Carry it out.
    Current,
    /// Above the greatest one: note it first.
    Newer,
    /// This greater one is known.
    Older(u64),
}

/// The greatest epoch, in memory and on disk.
pub(crate) struct Epochs {
    folder: PathBuf,
    /// As the disk has it.
    greatest: AtomicU64,
    /// Held while the file is written.
    noting: Mutex<()>,
}

impl Epochs {
    /// Reads what the node's data folder remembers. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or of a later version: orders of an admin that is long gone could not be told from others.
    pub(crate) fn open(folder: &Path) -> Result<Self, WalError> {
        let path = folder.join(FILE);
        let greatest = match std::fs::read(&path) {
            Ok(bytes) => decode(&bytes, &path)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(WalError::io("read", &path, &error)),
        };
        Ok(Self {
            folder: folder.into(),
            greatest: AtomicU64::new(greatest),
            noting: Mutex::new(()),
        })
    }

    /// What an order's epoch means; 0 is not an admin's, and always current.
    pub(crate) fn standing(&self, epoch: u64) -> Standing {
        let greatest = self.greatest.load(Ordering::SeqCst);
        match epoch {
            0 => Standing::Current,
            _ if epoch < greatest => Standing::Older(greatest),
            _ if epoch > greatest => Standing::Newer,
            _ => Standing::Current,
        }
    }

    /// Notes an epoch, durably, unless that is not needed any more; what it means then. Blocks.
    ///
    /// # Errors
    /// When it cannot be written: the order must not be carried out.
    pub(crate) fn note(&self, epoch: u64) -> Result<Standing, WalError> {
        let _noting = self.noting.lock();
        if self.standing(epoch) == Standing::Newer {
            wal::replace_file(&self.folder, FILE, &encode(epoch))?;
            self.greatest.store(epoch, Ordering::SeqCst);
        }
        Ok(self.standing(epoch))
    }
}

fn encode(epoch: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&epoch.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8], path: &Path) -> Result<u64, WalError> {
    let corrupt = |what: &str| WalError::Corrupt {
        path: path.into(),
        offset: 0,
        what: format!(
            "{what}; remove the file: the admin in office says its epoch again within seconds"
        ),
    };
    let bytes: &[u8; BYTES] = bytes
        .try_into()
        .map_err(|_| corrupt("not as long as an epoch"))?;
    let (fields, crc) = bytes.split_at(BYTES - 4);
    if &fields[..8] != MAGIC || crc != crc32c::crc32c(fields).to_le_bytes() {
        return Err(corrupt("not an epoch, or its checksum does not match"));
    }
    let (mut version, mut epoch) = ([0; 4], [0; 8]);
    version.copy_from_slice(&fields[8..12]);
    epoch.copy_from_slice(&fields[12..]);
    match u32::from_le_bytes(version) {
        VERSION => Ok(u64::from_le_bytes(epoch)),
        found => Err(WalError::Version {
            path: path.into(),
            found,
            supported: VERSION,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_epoch_survives_and_earlier_ones_are_told_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let epochs = Epochs::open(folder.path()).unwrap();
        assert_eq!(epochs.standing(0), Standing::Current);
        assert_eq!(epochs.standing(4), Standing::Newer);
        assert_eq!(epochs.note(4).unwrap(), Standing::Current);
        assert_eq!(
            epochs.note(3).unwrap(),
            Standing::Older(4),
            "it came late, and is not written"
        );
        for epochs in [epochs, Epochs::open(folder.path()).unwrap()] {
            assert_eq!(epochs.standing(0), Standing::Current);
            assert_eq!(epochs.standing(3), Standing::Older(4));
            assert_eq!(epochs.standing(4), Standing::Current);
            assert_eq!(epochs.standing(5), Standing::Newer);
        }
    }

    #[test]
    fn what_cannot_be_written_is_not_known() {
        let folder = tempfile::tempdir().unwrap();
        let epochs = Epochs::open(folder.path()).unwrap();
        epochs.note(4).unwrap();
        std::fs::create_dir(folder.path().join("admin.epoch.partial")).unwrap();
        assert!(epochs.note(5).is_err());
        assert_eq!(epochs.standing(5), Standing::Newer);
        let again = Epochs::open(folder.path()).unwrap();
        assert_eq!(again.standing(4), Standing::Current);
    }

    #[test]
    fn a_damaged_file_is_refused_whatever_bit_it_is() {
        let folder = tempfile::tempdir().unwrap();
        Epochs::open(folder.path()).unwrap().note(7).unwrap();
        let path = folder.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).unwrap();
            assert!(Epochs::open(folder.path()).is_err(), "bit {bit}");
        }
        for len in 0..whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert!(Epochs::open(folder.path()).is_err(), "{len} bytes");
        }
        let mut later = whole;
        later[8] = 9;
        let crc = crc32c::crc32c(&later[..BYTES - 4]).to_le_bytes();
        later[BYTES - 4..].copy_from_slice(&crc);
        std::fs::write(&path, &later).unwrap();
        let error = Epochs::open(folder.path()).err().unwrap();
        assert!(matches!(error, WalError::Version { found: 9, .. }));
    }
}
