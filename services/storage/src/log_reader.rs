//! Reads of the WAL for followers that lag, and for archivers: on a thread of their own. Owns the blocking part only.

use std::sync::Arc;

use archive::PartitionRef;
use archive::segment::Digester;
use bytes::Bytes;
use paxos::{GroupId, Index, NodeId};
use protocol::archive::ArchiveReply;
use wal::{Wal, WalError};

use crate::inbox::{Event, Inbox};
use crate::orders::ArchiveCaller;

/// Entries in one answer to an archiver, bytes: with framing below the 512 KiB from which on messages are cut up. A larger entry goes alone.
const ENTRIES_BYTES: usize = 400 << 10;
/// Read at a time for a digest, bytes.
const DIGEST_BYTES: usize = 1 << 20;

/// Something to read.
pub(crate) enum LogJob {
    /// For a follower that lags.
    Follower(FollowerJob),
    /// For an archiver.
    Archive(ArchiveJob),
}

impl LogJob {
    /// Does it. Blocks.
    pub(crate) fn run(self, wal: &Wal) {
        match self {
            Self::Follower(job) => job.run(wal),
            Self::Archive(job) => job.run(wal),
        }
    }
}

/// Read entries of a group from the log for a follower.
pub(crate) struct FollowerJob {
    pub(crate) group: GroupId,
    pub(crate) to: NodeId,
    pub(crate) from: Index,
    pub(crate) bytes_max: u64,
    pub(crate) inbox: Arc<Inbox>,
}

impl FollowerJob {
    fn run(self, wal: &Wal) {
        let Self {
            group,
            to,
            from,
            bytes_max,
            inbox,
        } = self;
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let entries = match wal.read(group, from, bytes_max) {
            Ok(entries) => entries,
            // Gone for good: the core will have the follower pull a copy.
            Err(WalError::BelowFloor { .. }) => Vec::new(),
            // What it promised to keep is lost: it must be no member of a quorum for it.
            Err(error @ (WalError::Corrupt { .. } | WalError::Io { .. })) => {
                return inbox.event(Event::LogUnreadable(group, error));
            }
            Err(error) => {
                // No answer: the core asks again, if there is anybody to ask for.
                tracing::debug!(group = group.0, from, %error, "cannot read the log for a follower");
                return;
            }
        };
        inbox.event(Event::LogRead {
            group,
            to,
            from,
            entries,
        });
    }
}

/// What an archiver wants of entries `first..=last`, all of which are committed and durable here.
pub(crate) struct ArchiveRead {
    pub(crate) first: Index,
    pub(crate) last: Index,
    /// Their digest only, as a segment of the table with this uuid; none: the entries.
    pub(crate) digest_of: Option<String>,
}

/// Read entries of a group from the log for an archiver.
pub(crate) struct ArchiveJob {
    pub(crate) group: GroupId,
    pub(crate) read: ArchiveRead,
    pub(crate) caller: ArchiveCaller,
    pub(crate) inbox: Arc<Inbox>,
}

impl ArchiveJob {
    fn run(self, wal: &Wal) {
        let group = self.group;
        let read = match &self.read.digest_of {
            Some(uuid) => self.digest(wal, uuid),
            None => self.entries(wal),
        };
        match read {
            Ok(reply) => self.caller.answer(&reply),
            Err(error @ (WalError::Corrupt { .. } | WalError::Io { .. })) => {
                self.caller.unavailable(error.to_string());
                // What it promised to keep is lost: it must be no member of a quorum for it.
                self.inbox.event(Event::LogUnreadable(group, error));
            }
            // Truncated meanwhile, or the replica is gone.
            Err(error) => self.caller.unavailable(error.to_string()),
        }
    }

    fn entries(&self, wal: &Wal) -> Result<ArchiveReply, WalError> {
        let mut entries = wal.read(self.group, self.read.first, ENTRIES_BYTES)?;
        entries.retain(|entry| entry.index <= self.read.last);
        Ok(match entries.is_empty() {
            true => ArchiveReply::Unavailable("the log ends before".to_owned()),
            false => ArchiveReply::Entries(entries),
        })
    }

    fn digest(&self, wal: &Wal, uuid: &str) -> Result<ArchiveReply, WalError> {
        let (mut next, last) = (self.read.first, self.read.last);
        let unfit = |fault: archive::Fault| ArchiveReply::Unavailable(fault.to_string());
        let digester = PartitionRef::new(uuid, self.group)
            .and_then(|partition| Digester::new(&partition, next, last));
        let mut digester = match digester {
            Ok(digester) => digester,
            Err(fault) => return Ok(unfit(fault)),
        };
        while next <= last {
            let entries = wal.read(self.group, next, DIGEST_BYTES)?;
            let wanted = entries.iter().filter(|entry| entry.index <= last);
            for entry in wanted {
                if let Err(fault) = digester.push(entry) {
                    return Ok(unfit(fault));
                }
            }
            match entries.last() {
                Some(end) => next = end.index + 1,
                None => return Ok(ArchiveReply::Unavailable("the log ends before".to_owned())),
            }
        }
        Ok(match digester.finish() {
            Ok(digest) => ArchiveReply::Digest(Bytes::copy_from_slice(digest.sha256.bytes())),
            Err(fault) => unfit(fault),
        })
    }
}
