//! Settings of jobs, each with its unit and its reason.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Settings of jobs (section `archiver.jobs` of the file).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobSettings {
    /// Restores, exports and imports at once; 0 = none, other instances do them.
    pub jobs_max: u64,
    /// Parts of one job (partitions, files) that are worked on at once.
    pub parts_at_once: usize,
    /// What all jobs of this instance together write into tables, bytes a second: what is left of the nodes' disks and network is their
    /// users'.
    pub write_bytes_per_second: u64,
    /// Writes under way at once, of each part.
    pub writes_at_once: usize,
    /// Folder in which partitions are rebuilt; what is in it lives as long as the process at most. Empty = in the system's temporary folder.
    pub rebuild_folder: PathBuf,
    /// What all rebuilds of this instance together may take on disk, bytes: a part of a job whose partition alone takes more fails, others wait for
    /// their turn. `parts_at_once` of each job may be there at once.
    pub rebuild_bytes_max: u64,
    /// A job in which nothing goes on for so long (the store is down, the table takes no writes, there is no room for rebuilds) fails, milliseconds.
    pub wait_ms_max: u64,
    /// An exported file is ended when so many bytes of items are in it.
    pub export_file_bytes: usize,
    /// Time between two reports to the admin, milliseconds.
    pub report_ms: u64,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self {
            jobs_max: 4,
            parts_at_once: 2,
            write_bytes_per_second: 16 << 20,
            writes_at_once: 64,
            rebuild_folder: PathBuf::new(),
            rebuild_bytes_max: 64 << 30,
            wait_ms_max: 3_600_000,
            export_file_bytes: 64 << 20,
            report_ms: 1_000,
        }
    }
}

impl JobSettings {
    /// Refuses settings with which a job would never end, in words for the operator.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let positive = [
            ("parts_at_once", self.parts_at_once as u64),
            ("write_bytes_per_second", self.write_bytes_per_second),
            ("writes_at_once", self.writes_at_once as u64),
            ("rebuild_bytes_max", self.rebuild_bytes_max),
            ("wait_ms_max", self.wait_ms_max),
            ("export_file_bytes", self.export_file_bytes as u64),
            ("report_ms", self.report_ms),
        ];
        for (name, value) in positive {
            anyhow::ensure!(value > 0, "archiver.jobs.{name} must not be 0");
        }
        Ok(())
    }
}
