//! Settings of an archiver instance, each with its unit and its reason.

use std::net::SocketAddr;

use archive::course;
use serde::{Deserialize, Serialize};

/// Settings of an archiver instance (section `archiver` of the file).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArchiverSettings {
    /// Instance number, unique among archivers.
    pub instance: u64,
    /// Availability zone.
    pub zone: String,
    /// Address of `/healthz`, `/readyz` and `/metrics`; none = no server.
    pub http: Option<SocketAddr>,
    /// Storage nodes are asked for their logs so often, milliseconds.
    pub poll_ms: u64,
    /// A storage node's answer is waited for so long, milliseconds.
    pub call_ms: u64,
    /// Partitions worked on at the same time. Each holds a segment or a part of a snapshot in memory, about three times
    /// `segment_bytes` or `snapshot_part_bytes`.
    pub partitions_at_once: usize,
    /// A segment is cut when so many bytes wait …
    pub segment_bytes: u64,
    /// … or the oldest entry waits for so long, milliseconds. What is lost if all replicas are is at most this and what the store takes.
    pub segment_age_ms: u64,
    /// A replica that does not answer is waited for so long before a segment counts without its word, milliseconds.
    pub compare_wait_ms: u64,
    /// Pause after something that could not be done, milliseconds; doubled with each failure in a row …
    pub retry_ms: u64,
    /// … up to this.
    pub retry_ms_max: u64,
    /// A snapshot is taken when the segments behind the last one weigh more than this, and more than the partition.
    pub snapshot_bytes: u64,
    /// Keys and items in a part of a snapshot, bytes.
    pub snapshot_part_bytes: usize,
    /// What an instance reads for snapshots, bytes a second over all of them: they must not starve the service.
    pub snapshot_bytes_per_second: u64,
    /// What nothing needs any more is deleted from the archive so often, milliseconds.
    pub retention_every_ms: u64,
    /// An entry that waits for longer is a trouble that an operator is told of, milliseconds.
    pub lag_alarm_ms: u64,
}

impl Default for ArchiverSettings {
    fn default() -> Self {
        let course = course::Settings::default();
        Self {
            instance: 1,
            zone: "az1".to_owned(),
            http: None,
            poll_ms: 1_000,
            call_ms: 10_000,
            partitions_at_once: 4,
            segment_bytes: course.segment_bytes,
            segment_age_ms: course.segment_age_ms,
            compare_wait_ms: course.compare_wait_ms,
            retry_ms: course.retry_ms,
            retry_ms_max: course.retry_ms_max,
            snapshot_bytes: course.snapshot_bytes,
            snapshot_part_bytes: 16 << 20,
            snapshot_bytes_per_second: 16 << 20,
            retention_every_ms: 600_000,
            lag_alarm_ms: 300_000,
        }
    }
}

impl ArchiverSettings {
    /// Refuses settings with which nothing can be archived, in words for the operator.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let positive = [
            ("poll_ms", self.poll_ms),
            ("call_ms", self.call_ms),
            ("partitions_at_once", self.partitions_at_once as u64),
            ("segment_bytes", self.segment_bytes),
            ("retry_ms", self.retry_ms),
            ("retention_every_ms", self.retention_every_ms),
            ("snapshot_part_bytes", self.snapshot_part_bytes as u64),
            ("snapshot_bytes_per_second", self.snapshot_bytes_per_second),
        ];
        for (name, value) in positive {
            anyhow::ensure!(value > 0, "archiver.{name} must not be 0");
        }
        // With its copies it must fit into memory, and a single put must get it through within its time-out.
        anyhow::ensure!(
            self.segment_bytes <= 256 << 20,
            "archiver.segment_bytes must be at most 256 MiB"
        );
        Ok(())
    }

    /// Those of the courses.
    pub(crate) fn course(&self) -> course::Settings {
        course::Settings {
            segment_bytes: self.segment_bytes,
            segment_age_ms: self.segment_age_ms,
            compare_wait_ms: self.compare_wait_ms,
            retry_ms: self.retry_ms,
            retry_ms_max: self.retry_ms_max,
            snapshot_bytes: self.snapshot_bytes,
        }
    }
}
