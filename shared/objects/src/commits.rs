//! The end of each archived log, read for the commits of transactions that are pending at the end of another one. Owns how much of a log is read for
//! that. What shows a commit, `partition::Commits` knows.

use archive::{PartitionRef, SegmentManifest};
use partition::Commits;

use crate::error::{ObjectError, ReadError};
use crate::reader::ArchiveReader;

/// Reads what a partition's archive has that is stamped at this time or later, milliseconds since the epoch. What is damaged is passed over.
///
/// # Errors
/// When the store does not answer.
pub async fn read_commits(
    reader: &ArchiveReader,
    partition: &PartitionRef,
    since_ms: u64,
    commits: &mut Commits,
) -> Result<(), ObjectError> {
    let chain = match reader.chain(partition).await {
        Ok(chain) => chain,
        Err(error) => return passed_over(error),
    };
    let mut late: Vec<SegmentManifest> = Vec::new();
    for name in chain.names().rev() {
        match reader.manifest(partition, name).await {
            Ok(manifest) if manifest.last_time_ms < since_ms => break,
            Ok(manifest) => late.push(manifest),
            Err(error) => passed_over(error)?,
        }
    }
    commits.begin_log();
    for manifest in late.iter().rev() {
        match reader.segment(manifest).await {
            Ok(segment) => {
                for entry in &segment.entries {
                    if let Err(error) = commits.take(entry) {
                        let partition = partition.partition.0;
                        tracing::error!(partition, %error, "an entry was passed over");
                    }
                }
            }
            Err(error) => passed_over(error)?,
        }
    }
    Ok(())
}

fn passed_over(error: ReadError) -> Result<(), ObjectError> {
    match error {
        ReadError::Store(error) => Err(error),
        ReadError::Refused(refusal) => {
            tracing::error!(%refusal, "a damaged object of the archive was passed over");
            Ok(())
        }
    }
}
