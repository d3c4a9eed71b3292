//! What the system table remembers of backups, restores, exports and imports. Owns their keys and forms.

use model::TableDefinition;
use paxos::GroupId;
use protocol::jobs::{Job, Outcome, Task, Work};
use serde::{Deserialize, Serialize};

const BACKUP: &str = "backup#";
const JOB: &str = "job#";

/// Whose backup it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BackupKind {
    /// Asked for.
    User,
    /// Made when a table with point-in-time recovery was deleted.
    System,
}

/// A backup: a point in time that the archive keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BackupRecord {
    /// Its number (`arn::number`).
    pub(crate) number: String,
    pub(crate) name: String,
    pub(crate) kind: BackupKind,
    /// The table as it was.
    pub(crate) table: TableDefinition,
    /// Its partitions then: how many a restored table begins with.
    pub(crate) partitions: Vec<GroupId>,
    /// The point in time, milliseconds since the epoch.
    pub(crate) at_ms: u64,
    /// Items then, as far as was known.
    pub(crate) items: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// The archive has everything that it needs.
    pub(crate) available: bool,
    /// When it is deleted by itself, milliseconds since the epoch.
    #[serde(default)]
    pub(crate) expires_ms: Option<u64>,
}

/// Where a table's items came from, as DescribeTable tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Restored {
    #[serde(default)]
    pub(crate) backup_arn: Option<String>,
    pub(crate) table_arn: String,
    pub(crate) at_ms: u64,
}

/// How a table that is CREATING gets its items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Filling {
    /// Number of the job.
    pub(crate) job: String,
    /// Its partitions are made.
    #[serde(default)]
    pub(crate) made: bool,
}

/// A restore, an export or an import.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct JobRecord {
    /// Its number (`arn::number`).
    pub(crate) number: String,
    /// Name of the source table (restore, export) or of the new one (import).
    pub(crate) table: String,
    /// UUID of that table.
    pub(crate) uuid: String,
    pub(crate) work: Work,
    /// What was asked for, as far as descriptions repeat it; the API's own member names.
    #[serde(default)]
    pub(crate) asked: serde_json::Value,
    /// `ClientToken`.
    #[serde(default)]
    pub(crate) token: Option<String>,
    pub(crate) started_ms: u64,
    #[serde(default)]
    pub(crate) ended_ms: u64,
    /// The instance that works on it.
    #[serde(default)]
    pub(crate) owner: Option<u64>,
    /// Incarnation of that.
    #[serde(default)]
    pub(crate) incarnation: u64,
    #[serde(default)]
    pub(crate) attempt: u64,
    #[serde(default)]
    pub(crate) tasks: Vec<Task>,
    #[serde(default)]
    pub(crate) outcome: Option<Outcome>,
    /// Of the request that asked for it (`Job::traceparent`).
    #[serde(default)]
    pub(crate) traceparent: String,
}

impl JobRecord {
    /// One that the request asks for on which this thread works.
    pub(crate) fn new(number: String, table: &TableDefinition, work: Work, now_ms: u64) -> Self {
        Self {
            number,
            table: table.name.clone(),
            uuid: table.uuid.clone(),
            work,
            asked: serde_json::Value::Null,
            token: None,
            started_ms: now_ms,
            ended_ms: 0,
            owner: None,
            incarnation: 0,
            attempt: 0,
            tasks: Vec::new(),
            outcome: None,
            traceparent: telemetry::traces::current().traceparent(),
        }
    }

    /// The job as it is given to an instance.
    pub(crate) fn job(&self) -> Job {
        Job {
            id: self.number.clone(),
            attempt: self.attempt,
            work: self.work.clone(),
            tasks: self.tasks.clone(),
            traceparent: self.traceparent.clone(),
        }
    }

    /// The table that it fills.
    pub(crate) fn target(&self) -> Option<&TableDefinition> {
        match &self.work {
            Work::Restore { target, .. } => Some(target),
            Work::Import(import) => Some(&import.target),
            Work::Export(_) => None,
        }
    }

    pub(crate) fn is_export(&self) -> bool {
        matches!(self.work, Work::Export(_))
    }

    pub(crate) fn is_import(&self) -> bool {
        matches!(self.work, Work::Import(_))
    }

    pub(crate) fn is_restore(&self) -> bool {
        matches!(self.work, Work::Restore { .. })
    }
}

pub(crate) fn backup_key(number: &str) -> String {
    format!("{BACKUP}{number}")
}
pub(crate) fn job_key(number: &str) -> String {
    format!("{JOB}{number}")
}
pub(crate) fn is_backup(key: &str) -> bool {
    key.starts_with(BACKUP)
}
pub(crate) fn is_job(key: &str) -> bool {
    key.starts_with(JOB)
}
