//! Every duration and limit of the planner, each with its unit and its reason. Owns defaults only.

use serde::{Deserialize, Serialize};

/// Settings of the leader's planner (section `storage.healing`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A voter that was silent for so long, milliseconds, is replaced by a log replica: longer than an election and a hiccup of the
    /// bus, short enough that a second loss rarely falls into it.
    pub log_replica_after_ms: u64,
    /// A learner must be in step for so long, milliseconds, before it gets a vote; doubled each time the same node falls silent
    /// again, so that a flapping node does not keep the group changing.
    pub steady_ms: u64,
    /// Doubled this often at most: about a minute.
    pub steady_doublings_max: u32,
    /// A node whose heartbeats were missing for so long, milliseconds, gets no new replica: two beats may be lost.
    pub node_silent_ms: u64,
    /// A node with less free space than this, bytes, gets no new replica.
    pub free_bytes_min: u64,
    /// A log replica must be made within this time, milliseconds, or another node is asked.
    pub join_log_ms: u64,
    /// A storage replica must be made (empty) within this time, milliseconds.
    pub join_storage_ms: u64,
    /// After a failure a node is not asked again for so long, milliseconds; doubled each time.
    pub retry_ms: u64,
    /// Longest such pause, milliseconds.
    pub retry_ms_max: u64,
    /// A replacement whose new replica could not be made so many times is given up; the admin may order it again.
    pub replacement_tries_max: u32,
    /// A replacement that was not ordered again for so long, milliseconds, may be overruled by another one.
    pub replacement_hold_ms: u64,
    /// A learner that has no place to take for so long, milliseconds, is let go: nobody wants it any more.
    pub learner_idle_ms: u64,
    /// Steps further apart than this, milliseconds, mean that this node stood still, not that everybody else was silent.
    pub pause_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            log_replica_after_ms: 2_000,
            steady_ms: 1_000,
            steady_doublings_max: 6,
            node_silent_ms: 2_500,
            free_bytes_min: 64 << 20,
            join_log_ms: 1_000,
            join_storage_ms: 10_000,
            retry_ms: 2_000,
            retry_ms_max: 30_000,
            replacement_tries_max: 10,
            replacement_hold_ms: 60_000,
            learner_idle_ms: 600_000,
            pause_ms: 1_000,
        }
    }
}
