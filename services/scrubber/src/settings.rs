//! Settings of a scrubber, each with its unit and its reason.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cycle::Limits;

/// Settings of a scrubber (section `scrubber` of the file).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScrubberSettings {
    /// Instance number, unique among scrubbers. The living one with the smallest number works, the others wait.
    pub instance: u64,
    /// Availability zone.
    pub zone: String,
    /// Address of `/healthz`, `/readyz` and `/metrics`; none = no server.
    pub http: Option<SocketAddr>,
    /// Folder for what is remembered of the scrubs, for evidence, and for references while they are built.
    pub data_dir: PathBuf,
    /// The duty: bytes a second that a replica is read at while it is scrubbed. A node's replicas are read one at a time, so it is what a
    /// node reads for scrubs; nodes have a limit of their own.
    pub bytes_per_second: u64,
    /// Scrubs at a time, of different nodes.
    pub scrubs_max: usize,
    /// A partition is scrubbed again so long after its last scrub, milliseconds: small meshes would do little else.
    pub again_after_ms: u64,
    /// Time between looks at the partitions, milliseconds.
    pub look_every_ms: u64,
    /// A replica must have reached the marker after so long, milliseconds; longer, and it takes no part.
    pub reach_ms_max: u64,
    /// How long a comparison with the archive waits until that reaches the marker, milliseconds: a few times `archiver.segment_age_ms`.
    pub archive_wait_ms_max: u64,
    /// Keys that are named one by one in a finding and its evidence.
    pub keys_named_max: usize,
    /// Files of evidence that are kept.
    pub evidence_max: usize,
    /// A global secondary index is compared with its table again so long after the last time, milliseconds.
    pub index_again_after_ms: u64,
    /// … and for the first time so long after it was first seen, milliseconds: what is made and deleted at once is left alone.
    pub index_first_after_ms: u64,
    /// Items and entries a second that are looked at for that, over all indexes: each is a page's part and a strong read.
    pub index_items_per_second: u64,
    /// A difference between an index and its table counts if it stays the same for so long, milliseconds: far longer than an index may be behind.
    pub index_settle_ms: u64,
}

impl Default for ScrubberSettings {
    fn default() -> Self {
        Self {
            instance: 1,
            zone: "az1".to_owned(),
            http: None,
            data_dir: PathBuf::new(),
            bytes_per_second: 16 << 20,
            scrubs_max: 4,
            again_after_ms: 600_000,
            look_every_ms: 1_000,
            reach_ms_max: 15_000,
            archive_wait_ms_max: 1_800_000,
            keys_named_max: 100,
            evidence_max: 1_000,
            index_again_after_ms: 86_400_000,
            index_first_after_ms: 60_000,
            index_items_per_second: 200,
            index_settle_ms: 60_000,
        }
    }
}

impl ScrubberSettings {
    /// Refuses settings with which nothing can be scrubbed, in words for the operator.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.data_dir != PathBuf::new(),
            "scrubber.data_dir must be set"
        );
        anyhow::ensure!(
            self.bytes_per_second > 0,
            "scrubber.bytes_per_second must not be 0"
        );
        anyhow::ensure!(
            self.index_items_per_second > 0,
            "scrubber.index_items_per_second must not be 0"
        );
        anyhow::ensure!(self.scrubs_max > 0, "scrubber.scrubs_max must not be 0");
        Ok(())
    }

    pub(crate) fn index_limits(&self) -> crate::index_cycle::Limits {
        crate::index_cycle::Limits {
            again_after_ms: self.index_again_after_ms,
            first_after_ms: self.index_first_after_ms,
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            scrubs_max: self.scrubs_max,
            again_after_ms: self.again_after_ms,
        }
    }
}
