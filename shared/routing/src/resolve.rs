//! Lookups that somebody waits for: two memds nodes are asked, the first positive answer counts, and only two nodes (or the
//! only one) can say that there is no such table.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use mesh::Deadline;
use model::ApiError;
use protocol::directory::{Lookup, LookupAnswer};

use crate::client::Client;
use crate::errors;

/// Pauses between tries while no memds node has an answer.
const PAUSE_MS: std::ops::Range<u64> = 10..60;

/// What the directory says.
pub(crate) enum Resolved {
    /// An answer other than `NoTable` or `NotReady`, already in the cache.
    Positive(LookupAnswer),
    /// There is no such table.
    NoTable,
}

impl Client {
    /// Asks until there is an answer, the deadline at the latest. A table whose partition is not known yet is being made or
    /// changing hands: that is asked again too.
    pub(crate) async fn resolve(
        &self,
        lookup: &Lookup,
        deadline: Deadline,
    ) -> Result<Resolved, ApiError> {
        loop {
            if let Some(resolved) = self.ask_once(lookup).await {
                return Ok(resolved);
            }
            let pause = Duration::from_millis(rand::random_range(PAUSE_MS));
            if deadline.remaining() <= pause {
                return Err(errors::unavailable());
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// One try; none if it gave no answer.
    pub(crate) async fn ask_once(&self, lookup: &Lookup) -> Option<Resolved> {
        let lookups = &self.shared.lookups;
        let mut answers: FuturesUnordered<_> = lookups.ask_two(lookup).into_iter().collect();
        let asked = answers.len();
        let mut no_table = 0;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(Ok(LookupAnswer::NoTable)) => no_table += 1,
                Ok(Ok(LookupAnswer::NotReady)) | Ok(Err(_)) | Err(_) => {}
                Ok(Ok(positive)) => {
                    if satisfies(lookup, &positive) {
                        return Some(Resolved::Positive(positive));
                    }
                }
            }
        }
        let agreed = no_table >= 2 || (no_table == 1 && asked == 1 && lookups.ready() == 1);
        agreed.then_some(Resolved::NoTable)
    }
}

/// Whether the answer has what the asker lacked.
fn satisfies(lookup: &Lookup, answer: &LookupAnswer) -> bool {
    match answer {
        LookupAnswer::Unchanged => true,
        LookupAnswer::Found { table, partition } => {
            (lookup.known_table_version > 0 || lookup.key.is_some() || table.is_some())
                && (lookup.key.is_none() || lookup.known_partition.is_some() || partition.is_some())
        }
        LookupAnswer::NoTable | LookupAnswer::NotReady => false,
    }
}
