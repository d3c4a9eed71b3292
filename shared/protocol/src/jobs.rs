//! Work on whole tables that archiver instances do and the admin records: restores, exports and imports. Owns shapes only.
//!
//! An instance reports every second on `admin.jobs` what became of its jobs and is answered with all that it is to work on. A job is worked on by one
//! instance at a time: an *attempt*. What an instance finds missing in the answer it stops. Two at once do no harm: a table takes what fills it
//! only until it is ACTIVE (`item::Write::fills`), and both write the same.

use model::{KeyRange, TableDefinition, TableId};
use paxos::GroupId;
use serde::{Deserialize, Serialize};

/// What an archiver instance says, once a second.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct JobsReport {
    /// The instance.
    pub instance: u64,
    /// Drawn at its start: who was restarted has no jobs until it is given them anew.
    #[serde(default)]
    pub incarnation: u64,
    /// Jobs that it can work on at once; 0 = it is stopping.
    pub jobs_max: u64,
    /// How far its jobs are.
    #[serde(default)]
    pub progress: Vec<JobProgress>,
}

/// The active admin's answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct JobsReply {
    /// All jobs of this instance.
    pub jobs: Vec<Job>,
}

/// How far a job is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobProgress {
    /// The job.
    pub id: String,
    /// The attempt that speaks; of others nothing counts.
    pub attempt: u64,
    /// Its parts, as soon as they are known: never fewer than before.
    #[serde(default)]
    pub tasks: Vec<Task>,
    /// How it ended; none: it has not.
    #[serde(default)]
    pub outcome: Option<Outcome>,
    /// What it waits for, in words for the operator; empty = nothing.
    #[serde(default)]
    pub waits: String,
}

/// A job, as it is given to an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Unique for ever.
    pub id: String,
    /// Grows with every instance that it is given to.
    pub attempt: u64,
    /// What is to be done.
    pub work: Work,
    /// Its parts, with what earlier attempts have done; empty = not looked at yet.
    #[serde(default)]
    pub tasks: Vec<Task>,
    /// Of the request that asked for it, a W3C `traceparent`; empty = it had none.
    #[serde(default)]
    pub traceparent: String,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Work {
    /// Fill a table with another one's items at a time.
    Restore {
        /// Where they come from.
        source: Source,
        /// The table that is filled; its status is CREATING.
        target: Box<TableDefinition>,
    },
    /// Write a table's items at a time as files.
    Export(Box<Export>),
    /// Fill a table with items from files.
    Import(Box<Import>),
}

/// A table at a time, in the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// UUID of the table: its folder.
    pub uuid: String,
    /// Its number: the prefix of its keys.
    pub table: TableId,
    /// The time, milliseconds since the epoch, inclusive.
    pub at_ms: u64,
}

/// An export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// Where the items come from.
    pub source: Source,
    /// Bucket.
    pub bucket: String,
    /// Prefix in it, without a slash at its end; empty = none.
    pub prefix: String,
    /// Folder of this export below `<prefix>/AWSDynamoDB/`.
    pub folder: String,
    /// Amazon Resource Name of the export.
    pub arn: String,
    /// Amazon Resource Name of the table.
    pub table_arn: String,
    /// When it was asked for, milliseconds since the epoch.
    pub started_ms: u64,
}

/// An import.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Import {
    /// Bucket.
    pub bucket: String,
    /// What the names of its objects begin with; empty = all of them.
    pub prefix: String,
    /// Form of the files.
    pub format: Format,
    /// Whether they are compressed with gzip.
    pub gzip: bool,
    /// The table that is filled; its status is CREATING.
    pub target: Box<TableDefinition>,
}

/// Form of imported files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// `{"Item": {…}}`, one a line, attributes as in the API.
    DynamoDbJson,
    /// Values separated by a character; all attributes but the keys are strings.
    Csv {
        /// Between values.
        delimiter: char,
        /// Names of the columns; none: the first line of each file has them.
        header: Option<Vec<String>>,
    },
}

/// A part of a job, worked on by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Restore and export: the source's partition …
    #[serde(default)]
    pub partition: GroupId,
    /// … and which of its keys.
    #[serde(default)]
    pub range: KeyRange,
    /// Import: name of the object.
    #[serde(default)]
    pub object: String,
    /// Everything up to and with this key is done; empty = nothing. As in the source.
    #[serde(default, with = "key_hex")]
    pub after: Vec<u8>,
    /// Import: records of the object that are done, good and bad.
    #[serde(default)]
    pub records: u64,
    /// Items written.
    #[serde(default)]
    pub items: u64,
    /// Their sizes, summed (import: bytes of the object that were read), bytes.
    #[serde(default)]
    pub bytes: u64,
    /// Import: records that were no good.
    #[serde(default)]
    pub errors: u64,
    /// Import: what was wrong with the first of them.
    #[serde(default)]
    pub examples: Vec<String>,
    /// Export: the files.
    #[serde(default)]
    pub files: Vec<ExportedFile>,
    /// Nothing is left to do.
    #[serde(default)]
    pub done: bool,
}

/// A file of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedFile {
    /// Its name in the bucket.
    pub key: String,
    /// Items in it.
    pub items: u64,
    /// MD5 of its bytes, Base64.
    pub md5: String,
    /// The object store's entity tag.
    pub etag: String,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// All is done.
    Done {
        /// Export: name of the summary manifest.
        #[serde(default)]
        manifest: Option<String>,
    },
    /// It can't be done.
    Failed {
        /// As `FailureCode` of the API.
        code: String,
        /// In words.
        message: String,
    },
}

/// Keys are stored in records as text: hexadecimal digits.
mod key_hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(key: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(key.len() * 2);
        for byte in key {
            // Writing to a string can't fail.
            let _ = write!(text, "{byte:02x}");
        }
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
        let digits = digits.filter(|d| d.len().is_multiple_of(2));
        let digits = digits.ok_or_else(|| D::Error::custom("no hexadecimal digits"))?;
        Ok(digits
            .chunks_exact(2)
            .map(|pair| (pair[0] << 4 | pair[1]) as u8)
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_tasks_survive() {
        let task = Task {
            partition: GroupId(20),
            after: vec![0, 15, 16, 255],
            ..Task::default()
        };
        let bytes = rmp_serde::to_vec_named(&task).unwrap();
        assert_eq!(rmp_serde::from_slice::<Task>(&bytes).unwrap(), task);
        let bad =
            rmp_serde::to_vec_named(&std::collections::BTreeMap::from([("after", "0")])).unwrap();
        assert!(rmp_serde::from_slice::<Task>(&bad).is_err());
    }
}
