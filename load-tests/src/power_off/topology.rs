//! The mesh under test as `infra/zones/prepare` describes it. Owns nothing that runs.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

/// `mesh.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Topology {
    /// Why zones are not network namespaces; empty if they are.
    pub no_namespaces: String,
    /// Partitions of a new table.
    pub partitions: u32,
    /// The zones.
    pub zones: Vec<Zone>,
    /// The processes, in the order in which they start.
    pub processes: Vec<Process>,
}

/// An availability zone.
#[derive(Clone, Debug, Deserialize)]
pub struct Zone {
    /// `az1`.
    pub name: String,
    /// Its network namespace.
    pub namespace: Option<String>,
    /// Its device there.
    pub device: String,
    /// Its address.
    pub address: String,
    /// The DynamoDB endpoint of its router, host:port.
    pub router: String,
}

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// nats-server.
    Nats,
    /// A storage node.
    Storage,
    /// A memds node.
    Memds,
    /// A GAC instance.
    Gac,
    /// An archiver.
    Archiver,
    /// A scrubber.
    Scrubber,
    /// An admin.
    Admin,
    /// A router.
    Router,
    /// A canary.
    Canary,
}

/// A process.
#[derive(Clone, Debug, Deserialize)]
pub struct Process {
    /// Unique: `storage-1`.
    pub name: String,
    /// Service.
    pub kind: Kind,
    /// Zone by name.
    pub zone: String,
    /// Address of its health endpoints, host:port.
    pub health: String,
    /// Its disk; empty if it has none.
    pub data_dir: PathBuf,
    /// Where its output goes.
    pub log: PathBuf,
    /// Where its pid is noted.
    pub pid_file: PathBuf,
    /// Program and arguments.
    pub command: Vec<String>,
}

impl Topology {
    /// Reads `mesh.json`.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("{}", path.display()))?;
        let topology: Self = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not a mesh.json", path.display()))?;
        anyhow::ensure!(
            !topology.zones.is_empty(),
            "{} has no zones",
            path.display()
        );
        Ok(topology)
    }

    /// The zone of this name.
    pub fn zone(&self, name: &str) -> anyhow::Result<&Zone> {
        let zone = self.zones.iter().find(|zone| zone.name == name);
        zone.with_context(|| format!("there is no zone {name}"))
    }
}
