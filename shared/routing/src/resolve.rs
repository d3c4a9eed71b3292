//! Lookups that somebody waits for: two memds nodes are asked, the first positive answer counts, and only two nodes (or the
//! only one) can say that there is no such table. While somebody waits for two nodes already, others that miss the same table ask one.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use mesh::{Deadline, TraceContext};
use model::ApiError;
use protocol::directory::{Lookup, LookupAnswer, TableRef};
use tokio::sync::{Notify, oneshot};

use crate::client::Client;
use crate::errors;
use crate::lookups::Answered;
use crate::misses::Part;

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
        trace: TraceContext,
    ) -> Result<Resolved, ApiError> {
        let mut first = Some(self.shared.misses.part(&lookup.table));
        loop {
            let resolved = match first.take() {
                Some(Part::Follow(done)) => self.follow(lookup, &done, trace).await,
                // It leads until there is an answer; later tries of anybody ask two.
                Some(Part::Lead(_leading)) => self.ask_once(lookup, trace).await,
                None => self.ask_once(lookup, trace).await,
            };
            if let Some(resolved) = resolved {
                return Ok(resolved);
            }
            let pause = Duration::from_millis(rand::random_range(PAUSE_MS));
            if deadline.remaining() <= pause {
                return Err(errors::unavailable());
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// One try with one node, or what the leader of this miss learned meanwhile; none if neither gave an answer.
    async fn follow(
        &self,
        lookup: &Lookup,
        done: &Notify,
        trace: TraceContext,
    ) -> Option<Resolved> {
        let own = self.weigh(lookup, self.shared.lookups.ask_one(lookup, trace));
        tokio::pin!(own);
        tokio::select! {
            resolved = &mut own => return resolved,
            () = done.notified() => {}
        }
        if self.is_known(lookup) {
            // The own lookup is sent all the same; its answer refreshes the cache.
            return Some(Resolved::Positive(LookupAnswer::Unchanged));
        }
        own.await
    }

    /// Whether the cache has by now what the lookup is for.
    fn is_known(&self, lookup: &Lookup) -> bool {
        let routes = self.shared.routes.read();
        match (&lookup.table, &lookup.key) {
            (TableRef::Name(name), None) => routes.table(name).is_some(),
            (TableRef::Id(id), Some(key)) => routes.partition(*id, key).is_some(),
            _ => false,
        }
    }

    /// One try with two nodes; none if it gave no answer.
    pub(crate) async fn ask_once(&self, lookup: &Lookup, trace: TraceContext) -> Option<Resolved> {
        self.weigh(lookup, self.shared.lookups.ask_two(lookup, trace))
            .await
    }

    /// What the answers say together.
    async fn weigh(
        &self,
        lookup: &Lookup,
        asked: Vec<oneshot::Receiver<Answered>>,
    ) -> Option<Resolved> {
        let lookups = &self.shared.lookups;
        let mut answers: FuturesUnordered<_> = asked.into_iter().collect();
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
