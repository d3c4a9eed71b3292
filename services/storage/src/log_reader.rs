//! Reads of the WAL for followers that lag: on a thread of their own. Owns the blocking part only.

use std::sync::Arc;

use paxos::{GroupId, Index, NodeId};
use wal::{Wal, WalError};

use crate::inbox::{Event, Inbox};

/// Read entries of a group from the log.
pub(crate) struct LogJob {
    pub(crate) group: GroupId,
    pub(crate) to: NodeId,
    pub(crate) from: Index,
    pub(crate) bytes_max: u64,
    pub(crate) inbox: Arc<Inbox>,
}

impl LogJob {
    /// Does it. Blocks.
    pub(crate) fn run(self, wal: &Wal) {
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
