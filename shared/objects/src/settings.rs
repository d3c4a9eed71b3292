//! Settings of the object store (section `[archive]`), the same for all services that use it. Owns defaults and what they are checked for.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the archive is, and how the store is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArchiveSettings {
    /// `file:///folder` or `s3://bucket/prefix`. Each mesh its own prefix. Empty: there is no archive.
    pub url: String,
    /// S3: address of the service, `https://host:port`; empty = Amazon's of the region.
    pub endpoint: String,
    /// S3: region.
    pub region: String,
    /// S3: the bucket is the first part of the path, not of the host name; what most self-hosted stores want.
    pub path_style: bool,
    /// S3: file with the credentials, in the format of `~/.aws/credentials`; read again when it changes. Empty: from the environment
    /// (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`).
    pub credentials_file: PathBuf,
    /// S3: section of that file.
    pub credentials_profile: String,
    /// S3: certificates (PEM) that sign the service's, beside the system's. Empty: the system's only.
    pub ca_file: PathBuf,
    /// An attempt to reach the service ends after this, milliseconds.
    pub connect_timeout_ms: u64,
    /// Each attempt of an operation ends after this, milliseconds: long enough for the largest object over the slowest line.
    pub timeout_ms: u64,
    /// Attempts of an operation, the first included, while the store is unavailable.
    pub attempts_max: u32,
    /// Pause before the second attempt, milliseconds; doubles with each one …
    pub pause_ms: u64,
    /// … up to this.
    pub pause_ms_max: u64,
    /// Larger objects are not read, bytes: bounds the memory of a read.
    pub object_bytes_max: u64,
    /// Longer listings are refused, objects: bounds the memory of a listing.
    pub listed_max: usize,
    /// Read each new object back and compare it before anything rests on it: not every store verifies checksums.
    pub read_back: bool,
}

impl Default for ArchiveSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            endpoint: String::new(),
            region: "us-east-1".to_owned(),
            path_style: true,
            credentials_file: PathBuf::new(),
            credentials_profile: "default".to_owned(),
            ca_file: PathBuf::new(),
            connect_timeout_ms: 5_000,
            timeout_ms: 30_000,
            attempts_max: 4,
            pause_ms: 200,
            pause_ms_max: 5_000,
            object_bytes_max: 256 << 20,
            listed_max: 1_000_000,
            read_back: true,
        }
    }
}

impl ArchiveSettings {
    /// Whether there is an archive.
    pub fn is_set(&self) -> bool {
        !self.url.is_empty()
    }

    /// Refuses settings that cannot work, in words for the operator.
    pub fn check(&self) -> Result<(), String> {
        let scheme = self.url.split_once("://").map_or("", |(scheme, _)| scheme);
        if !matches!(scheme, "file" | "s3") {
            return Err(format!(
                "archive.url must be file://… or s3://bucket/prefix, it is {:?}",
                self.url
            ));
        }
        let positive = [
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("timeout_ms", self.timeout_ms),
            ("attempts_max", u64::from(self.attempts_max)),
            ("pause_ms", self.pause_ms),
            ("object_bytes_max", self.object_bytes_max),
            ("listed_max", self.listed_max as u64),
        ];
        match positive.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(format!("archive.{name} must not be 0")),
            None => Ok(()),
        }
    }
}
