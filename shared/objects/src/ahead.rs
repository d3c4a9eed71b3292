//! The look behind a point in time to which a partition is rebuilt: what became of the transactions that were pending at it. Owns how far the log is
//! read for that, into the children of a split, too, and how long is waited for what is not archived yet. What counts, `partition::Ahead` knows.

use std::time::{Duration, Instant};

use archive::{Chain, PartitionRef};
use model::KeyRange;
use partition::Ahead;
use partition::ahead::LOOK_AHEAD_MS;
use paxos::Index;

use crate::error::{ObjectError, ReadError};
use crate::reader::ArchiveReader;

/// Between two looks at what has been archived meanwhile …
const PAUSE: Duration = Duration::from_millis(500);
/// … doubled up to this.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A log that is read on.
struct Place {
    partition: PartitionRef,
    range: KeyRange,
    /// The next position; none: a child whose birth is not known yet.
    next: Option<Index>,
}

/// How far a log has been read.
enum Read {
    /// Nothing of it is open any more, or nothing more is to be learnt.
    Over,
    /// It ends with a split.
    Split(Vec<Place>),
    /// The rest is not archived yet.
    Later,
}

/// Reads the logs of what follows a partition, from this position on, until nothing is open; at most so long, if something is not archived
/// yet.
pub(crate) async fn look(
    reader: &ArchiveReader,
    (partition, range, next): (&PartitionRef, &KeyRange, Index),
    at_ms: u64,
    patience: Duration,
    ahead: &mut Ahead,
) -> Result<(), ObjectError> {
    let mut places = vec![Place {
        partition: partition.clone(),
        range: range.clone(),
        next: Some(next),
    }];
    let (since, mut pause) = (Instant::now(), PAUSE);
    while let Some(mut place) = places.pop() {
        let until_ms = at_ms.saturating_add(LOOK_AHEAD_MS);
        match read(reader, &mut place, until_ms, ahead).await {
            Ok(Read::Over) => {}
            Ok(Read::Split(children)) => places.extend(children),
            Ok(Read::Later) => {
                let left = patience.saturating_sub(since.elapsed());
                if !left.is_zero() {
                    let partition = place.partition.partition.0;
                    tracing::info!(partition, "a transaction's end is not archived yet");
                    tokio::time::sleep(pause.min(left)).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                    places.push(place);
                }
            }
            Err(ReadError::Store(error)) => return Err(error),
            // A damaged birth: as if there were none.
            Err(ReadError::Refused(refusal)) => {
                tracing::error!(%refusal, "the end of a transaction is not found");
            }
        }
    }
    Ok(())
}

async fn read(
    reader: &ArchiveReader,
    place: &mut Place,
    until_ms: u64,
    ahead: &mut Ahead,
) -> Result<Read, ReadError> {
    if ahead.undecided(&place.range) == 0 {
        return Ok(Read::Over);
    }
    let next = match place.next {
        Some(next) => next,
        None => match reader.birth(&place.partition).await? {
            Some(birth) => birth.begins() + 1,
            None => return Ok(Read::Later),
        },
    };
    place.next = Some(next);
    let mut chain: Chain = reader.chain(&place.partition).await?;
    let known = chain.last();
    let mut next = next;
    loop {
        let Some(name) = chain.covering(next).cloned() else {
            // Behind a hole nothing is learnt any more.
            return Ok(if known >= next {
                Read::Over
            } else {
                Read::Later
            });
        };
        let segment = match reader.manifest(&place.partition, &name).await {
            Ok(manifest) if manifest.first_time_ms > until_ms => return Ok(Read::Over),
            Ok(manifest) => reader.segment(&manifest).await,
            Err(error) => Err(error),
        };
        let segment = match segment {
            Ok(segment) => segment,
            Err(ReadError::Refused(refusal)) => {
                tracing::error!(%refusal, "a damaged object of the archive was passed over");
                chain.remove(&name);
                continue;
            }
            Err(error) => return Err(error),
        };
        for entry in segment.entries.iter().filter(|entry| entry.index >= next) {
            match ahead.take(entry) {
                Ok(None) => {}
                Ok(Some(split)) => {
                    let child = |id, start: &bytes::Bytes, end: &bytes::Bytes| Place {
                        partition: PartitionRef {
                            table: place.partition.table.clone(),
                            partition: id,
                        },
                        range: KeyRange {
                            start: start.clone(),
                            end: end.clone(),
                        },
                        next: None,
                    };
                    let KeyRange { start, end } = &place.range;
                    return Ok(Read::Split(vec![
                        child(split.left, start, &split.point),
                        child(split.right, &split.point, end),
                    ]));
                }
                Err(error) => {
                    let partition = place.partition.partition.0;
                    tracing::error!(partition, %error, "the end of a transaction is not found");
                    return Ok(Read::Over);
                }
            }
        }
        next = segment.last() + 1;
        place.next = Some(next);
        if ahead.undecided(&place.range) == 0 {
            return Ok(Read::Over);
        }
    }
}
