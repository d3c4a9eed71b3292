//! Every duration and every limit of the core, each with its unit and its reason. Owns defaults only.

use serde::{Deserialize, Serialize};

use crate::Millis;

/// Durations, in milliseconds of the local clock.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Timing {
    /// A leader sends each follower something at least this often (`heartbeat_after` says when). A fifth of the lease: four may be lost.
    pub heartbeat_ms: u64,
    /// A follower is told of a commit after this silence at the latest, if no entries carry it earlier: bounds how far eventual
    /// reads lag at light load, for one small message a follower and burst of writes.
    pub commit_notice_ms: u64,
    /// A member that heard from a leader promises it the lease for this long, counted from receipt.
    pub lease_ms: u64,
    /// The leader believes in this part of the lease only (per mille), counted from sending. The rest is the margin for
    /// clocks that drift: 900 is safe while no clock is more than 5 % off real time.
    pub lease_belief_permille: u64,
    /// A follower that heard no leader for this long asks its peers (probe).
    pub election_ms: u64,
    /// Up to so much is added to `election_ms`, by hash of node, group, ballot and attempt, so that peers do not collide.
    pub election_jitter_ms: u64,
    /// Probe, prepare and log adoption each end after so long without progress; then the candidate waits anew.
    pub candidate_ms: u64,
    /// A leader that had no quorum of acknowledgements for so long steps down and gives its proposals up as unknown.
    pub leader_patience_ms: u64,
    /// A leader whose oldest proposal makes no progress for so long (its own disk hangs, say) steps down.
    pub leader_stall_ms: u64,
    /// An append that was not acknowledged for so long, and that the follower does not report received, is sent again.
    pub retransmit_ms: u64,
    /// A log read that the shell did not answer for so long is asked again.
    pub log_read_ms: u64,
    /// A transfer of leadership that did not get the target up to date in so long is called off.
    pub transfer_ms: u64,
    /// A storage member silent for so long no longer holds back truncation once `Limits::log_bytes_max` is exceeded.
    pub member_silent_ms: u64,
    /// The limits.
    pub limits: Limits,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            heartbeat_ms: 300,
            commit_notice_ms: 10,
            lease_ms: 1_500,
            lease_belief_permille: 900,
            election_ms: 1_000,
            election_jitter_ms: 500,
            candidate_ms: 1_000,
            leader_patience_ms: 3_000,
            leader_stall_ms: 5_000,
            retransmit_ms: 600,
            log_read_ms: 5_000,
            transfer_ms: 2_000,
            member_silent_ms: 60_000,
            limits: Limits::default(),
        }
    }
}

impl Timing {
    /// When a heartbeat is due if nothing is sent after `sent`: never later than `heartbeat_ms`, and rounded down to a multiple of that, so
    /// that the heartbeats of all groups of a node are due together and share messages. A busy group must not send one at every
    /// multiple: after less than half the interval the heartbeat waits for the middle of the next one.
    pub fn heartbeat_after(&self, sent: Millis) -> Millis {
        let due = sent.plus(self.heartbeat_ms);
        let whole = due.0 - due.0 % self.heartbeat_ms.max(1);
        if whole - sent.0.min(whole) >= self.heartbeat_ms / 2 {
            return Millis(whole);
        }
        Millis(due.0 - due.0 % (self.heartbeat_ms / 2).max(1))
    }

    /// How long after sending a leader may rely on an acknowledged lease.
    pub fn lease_belief_ms(&self) -> u64 {
        self.lease_ms * self.lease_belief_permille.min(1_000) / 1_000
    }
}

/// Limits: queues, batches, windows, memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Proposals of this leader that are not committed yet: count.
    pub pending_proposals_max: u64,
    /// Proposals of this leader that are not committed yet: bytes.
    pub pending_bytes_max: u64,
    /// Entries in one append; a single entry that is larger goes alone. Keeps frames under the bus's 512 KiB chunks.
    pub append_bytes_max: u64,
    /// Bytes under way to one follower.
    pub window_bytes_max: u64,
    /// Appends under way to one follower.
    pub window_messages_max: usize,
    /// Entries kept in memory beyond what is needed for correctness (committed, durable in log and B-tree), to serve
    /// followers that lag a little without reading the WAL.
    pub memory_bytes_max: u64,
    /// The leader raises the truncation floor in steps of at least so many entries: each step costs a WAL record.
    pub floor_step_entries: u64,
    /// A learner that lacks no more entries than this, durably, may become a voter: the group would not wait for it.
    pub in_step_entries_max: u64,
    /// With more log than this above the floor, silent members no longer hold truncation back (they will need a copy).
    pub log_bytes_max: u64,
    /// The log is archived: nothing above what `Input::Archived` says is truncated, however large it grows. Off: nobody archives it.
    pub archive: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            pending_proposals_max: 4_096,
            pending_bytes_max: 16 << 20,
            append_bytes_max: 256 << 10,
            window_bytes_max: 4 << 20,
            window_messages_max: 64,
            memory_bytes_max: 1 << 20,
            floor_step_entries: 1_024,
            in_step_entries_max: 1_024,
            log_bytes_max: 256 << 20,
            archive: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(heartbeat_ms: u64) -> Timing {
        Timing {
            heartbeat_ms,
            ..Timing::default()
        }
    }

    #[test]
    fn silence_is_never_longer_than_a_heartbeat_nor_shorter_than_half_of_one() {
        for heartbeat_ms in [1, 2, 3, 60, 75, 150, 300, 301] {
            let timing = timing(heartbeat_ms);
            for sent in 0..3 * heartbeat_ms {
                let silence = timing.heartbeat_after(Millis(sent)).since(Millis(sent));
                assert!(silence <= heartbeat_ms, "{heartbeat_ms} after {sent}");
                assert!(silence >= heartbeat_ms / 2, "{heartbeat_ms} after {sent}");
                assert!(silence > 0, "{heartbeat_ms} after {sent}");
            }
        }
    }

    #[test]
    fn idle_groups_come_together_within_three_heartbeats_and_stay_together() {
        let timing = timing(300);
        for sent in 0..600 {
            let mut at = Millis(sent);
            for _ in 0..3 {
                at = timing.heartbeat_after(at);
            }
            assert_eq!(at.0 % 300, 0, "after {sent}");
            // The shell may look a little late.
            assert_eq!(timing.heartbeat_after(at.plus(49)), at.plus(300));
        }
    }

    #[test]
    fn any_time_is_safe_input() {
        assert_eq!(
            timing(300).heartbeat_after(Millis(u64::MAX)),
            Millis(u64::MAX - u64::MAX % 150)
        );
        assert_eq!(timing(0).heartbeat_after(Millis(7)), Millis(7));
    }
}
