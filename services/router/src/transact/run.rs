//! One transaction, driven: carries out what its coordinator says, and keeps what the answers carried. Ends with the request's deadline;
//! what is left then is recovery's.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use model::error::CancellationReason;
use model::{ApiError, EncodedKey, ErrorKind, TableDefinition};
use parking_lot::Mutex;
use protocol::item::{ItemFault, ItemOperation, ItemReply, Write};
use protocol::transact::{Settle, Transact, TransactionId, TransactionRef};
use sha2::{Digest, Sha256};
use transactions::ledger::record_name;
use transactions::{
    Action, Coordinator, Existing, Input, Participant, Record, State, Verdict, Vote,
};

use super::ledger::{Ledger, Put};
use crate::backend::{Backend, Context};
use crate::texts;

/// First pause before something is repeated; doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// How often the ledger is asked for room for a record.
const RECORD_TRIES_MAX: u32 = 10;
/// Between two of them, while the record that is there is committed and not noted as done yet.
const NEARLY_DONE: Duration = Duration::from_millis(20);
/// Calls of one transaction under way at once.
const CALLS_MAX: usize = 100;

/// One operation of TransactWriteItems.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Its table.
    pub(crate) table: Arc<TableDefinition>,
    /// The write; `WriteAction::Check` for a ConditionCheck.
    pub(crate) write: Write,
}

/// A transaction that is to be written.
#[derive(Clone, Debug)]
pub(crate) struct WriteRequest {
    /// At least one, each of another item.
    pub(crate) parts: Vec<Part>,
    /// `ClientRequestToken`.
    pub(crate) token: Option<String>,
    /// By the router's clock, milliseconds since the epoch.
    pub(crate) now_ms: u64,
}

/// A transaction that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    /// By operation, the larger of its item's sizes before and after, bytes.
    pub(crate) sizes: Vec<u64>,
    /// By operation, bytes that its item collection has at most, in tables with local secondary indexes; empty if it was `repeated`.
    pub(crate) collections: Vec<Option<u64>>,
    /// It had been done before, with this token.
    pub(crate) repeated: bool,
}

/// Executes a transaction, all or nothing. Must run within a local task set (actix's workers do). It goes on if the caller is gone, so that
/// nothing stays pending because a client hung up.
pub(crate) async fn write<B: Backend>(
    backend: &B,
    request: WriteRequest,
    context: &Context,
) -> Result<Finished, ApiError> {
    let (backend, context) = (backend.clone(), context.clone());
    let work = async move {
        let table = backend.ledger(&context).await?;
        let run = Run::begin(Ledger::new(backend, table), request, context)?;
        let (course, actions) = Coordinator::begin(run.record.participants.len());
        let (verdict, close) = run.drive(course, actions).await;
        let result = run.result(verdict);
        match close.filter(|_| !run.was_there_before()) {
            // Nobody waits for it; recovery does what it may fail to do.
            Some(true) => drop(actix_web::rt::spawn(async move { run.close(true).await })),
            // The client may use its token again at once.
            Some(false) => run.close(false).await,
            None => {}
        }
        result
    };
    actix_web::rt::spawn(work)
        .await
        .unwrap_or_else(|error| Err(texts::internal(error)))
}

/// A transaction on its way, or one that is recovered.
pub(super) struct Run<B> {
    ledger: Ledger<B>,
    name: String,
    record: Record,
    transaction: TransactionRef,
    /// None for one that is recovered.
    parts: Vec<Part>,
    context: Context,
    learned: Mutex<Learned>,
}

#[derive(Default)]
struct Learned {
    reasons: Vec<Option<CancellationReason>>,
    sizes: Vec<u64>,
    collections: Vec<Option<u64>>,
    /// When it counts, if it is committed: the latest of its prepares by the logs' times, milliseconds since the epoch.
    commit_ms: u64,
    /// Why it failed, where no operation is to blame.
    failure: Option<ApiError>,
    /// The result, as the record says that was there before.
    before: Option<Result<Finished, ApiError>>,
}

impl<B: Backend> Run<B> {
    fn begin(ledger: Ledger<B>, request: WriteRequest, context: Context) -> Result<Self, ApiError> {
        let id = TransactionId(rand::random(), rand::random());
        let name = match &request.token {
            Some(token) => record_name(token.as_bytes()),
            // Longer than a token can be.
            None => record_name(&[id.0.to_be_bytes(), id.1.to_be_bytes()].concat().repeat(4)),
        };
        let parts = request.parts;
        let participants: Vec<Participant> = parts
            .iter()
            .map(|part| Participant {
                table: part.table.id,
                key: part.write.key.clone(),
                size_bytes: 0,
            })
            .collect();
        let transaction = TransactionRef {
            id,
            record: ledger.key(&name)?,
            timestamp_ms: request.now_ms,
        };
        let learned = Learned {
            reasons: vec![None; parts.len()],
            sizes: vec![0; parts.len()],
            collections: vec![None; parts.len()],
            ..Learned::default()
        };
        let record = Record {
            id,
            state: State::Open,
            timestamp_ms: request.now_ms,
            digest: digest(&parts)?,
            participants,
            commit_ms: 0,
        };
        Ok(Self {
            ledger,
            name,
            record,
            transaction,
            parts,
            context,
            learned: Mutex::new(learned),
        })
    }

    /// One that was found unfinished.
    pub(super) fn recover(
        ledger: Ledger<B>,
        (name, record): (String, Record),
        transaction: TransactionRef,
        context: Context,
    ) -> Self {
        let learned = Learned {
            commit_ms: record.commit_ms,
            ..Learned::default()
        };
        Self {
            ledger,
            name,
            record,
            transaction,
            parts: Vec::new(),
            context,
            learned: Mutex::new(learned),
        }
    }

    /// Drives the course to its end or the deadline; how it ended, and whether (and how) the record is to be closed.
    pub(super) async fn drive(
        &self,
        mut course: Coordinator,
        actions: Vec<Action>,
    ) -> (Verdict, Option<bool>) {
        let (mut waiting, mut close) = (VecDeque::from(actions), None);
        let mut work = FuturesUnordered::new();
        let mut repeated = 0_u32;
        let mut given_up = false;
        loop {
            while let Some(action) = waiting.front().copied() {
                match action {
                    Action::Answer(verdict) => return (verdict, close),
                    Action::Close { commits } => close = Some(commits),
                    _ if work.len() >= CALLS_MAX => break,
                    action => work.push(self.carry_out(action, repeated)),
                }
                waiting.pop_front();
            }
            let next = tokio::time::timeout(self.context.deadline.remaining(), work.next()).await;
            let input = match next {
                Ok(Some(input)) => input,
                // Nothing is under way: the course has ended, or never will.
                _ if given_up => return (Verdict::Unknown, None),
                _ => {
                    given_up = true;
                    Input::OutOfTime
                }
            };
            if matches!(input, Input::Settled(_, false) | Input::Decided(None)) {
                repeated = repeated.saturating_add(1);
            }
            waiting.extend(course.step(input));
        }
    }

    async fn carry_out(&self, action: Action, repeated: u32) -> Input {
        match action {
            Action::Record => Input::Recorded(self.record_it().await),
            Action::Prepare(operation) => Input::Prepared(operation, self.prepare(operation).await),
            Action::Decide => {
                let decided = self.put(State::Committed, &[State::Open, State::Committed]);
                match decided.await {
                    Ok(Put::Done) => Input::Decided(Some(true)),
                    Ok(Put::Differs(found)) => self.decided_otherwise(found),
                    Err(error) => {
                        self.pause(repeated, &error).await;
                        Input::Decided(None)
                    }
                }
            }
            Action::Withdraw => {
                let withdrawn = self.put(State::Cancelled, &[State::Open, State::Cancelled]);
                match withdrawn.await {
                    Ok(Put::Done) => Input::Decided(Some(false)),
                    Ok(Put::Differs(found)) => self.decided_otherwise(found),
                    Err(error) => {
                        self.pause(repeated, &error).await;
                        Input::Decided(None)
                    }
                }
            }
            Action::Settle { operation, commits } => {
                Input::Settled(operation, self.settle(operation, commits, repeated).await)
            }
            // Looked at where they come from.
            Action::Close { .. } | Action::Answer(_) => Input::OutOfTime,
        }
    }

    /// What the record says that was found instead: a recovery may have brought this transaction to its end, one way or the other. If it is
    /// gone, nothing was committed.
    fn decided_otherwise(&self, found: Option<Record>) -> Input {
        let ours = found.filter(|found| found.id == self.record.id);
        if let Some(ours) = &ours {
            let commit_ms = &mut self.learned.lock().commit_ms;
            *commit_ms = ours.commit_ms.max(*commit_ms);
        }
        Input::Decided(Some(ours.and_then(|r| r.decided()).unwrap_or(false)))
    }

    async fn pause(&self, repeated: u32, error: &ApiError) {
        tracing::debug!(%error, "a step of a transaction is repeated");
        let pause = PAUSE_MIN * 2_u32.saturating_pow(repeated.min(10));
        tokio::time::sleep(pause.min(PAUSE_MAX)).await;
    }

    /// Puts the record, and what was learned of the items' sizes.
    async fn put(&self, state: State, while_it_says: &[State]) -> Result<Put, ApiError> {
        let mut record = Record {
            state,
            ..self.record.clone()
        };
        let (sizes, commit_ms) = {
            let learned = self.learned.lock();
            (learned.sizes.clone(), learned.commit_ms)
        };
        if record.decided() == Some(true) {
            record.commit_ms = commit_ms;
        }
        for (participant, size) in record.participants.iter_mut().zip(sizes) {
            participant.size_bytes = size;
        }
        self.ledger
            .change(&self.name, &record, while_it_says, &self.context)
            .await
    }

    /// Whether the record is there.
    async fn record_it(&self) -> bool {
        let mut replaces: Option<Record> = None;
        // Once more, if there is one that may be replaced; and a little later, if there is one that is nearly done.
        for _ in 0..RECORD_TRIES_MAX {
            let made = self
                .ledger
                .make(&self.name, &self.record, replaces.as_ref(), &self.context);
            let found = match made.await {
                Ok(Put::Done) => return true,
                Ok(Put::Differs(found)) => found,
                Err(error) => {
                    self.learned.lock().failure = Some(error);
                    return false;
                }
            };
            let before = match &found {
                // It went away meanwhile; whoever was there first goes on.
                None => Err(texts::transaction_in_progress()),
                Some(found) => match found.meets(&self.record.digest, self.record.timestamp_ms) {
                    Existing::Replaceable => {
                        replaces = Some(found.clone());
                        continue;
                    }
                    Existing::Done => Ok(Finished {
                        sizes: found.participants.iter().map(|p| p.size_bytes).collect(),
                        collections: Vec::new(),
                        repeated: true,
                    }),
                    Existing::InProgress if found.state == State::Committed => {
                        replaces = None;
                        tokio::time::sleep(NEARLY_DONE).await;
                        continue;
                    }
                    Existing::InProgress => Err(texts::transaction_in_progress()),
                    Existing::Mismatch => Err(texts::token_mismatch()),
                },
            };
            self.learned.lock().before = Some(before);
            return false;
        }
        self.learned.lock().before = Some(Err(texts::transaction_in_progress()));
        false
    }

    async fn prepare(&self, operation: usize) -> Vote {
        let Some(Part { table, write }) = self.parts.get(operation) else {
            return Vote::Failed;
        };
        let transact = Transact::Prepare {
            transaction: self.transaction.clone(),
            write: write.clone(),
        };
        let request = ItemOperation::Transact(Box::new(transact));
        let reply = self
            .ledger
            .backend()
            .item(table, &write.key, request, &self.context)
            .await;
        let mut learned = self.learned.lock();
        let reason = match reply {
            Ok(ItemReply::Prepared {
                old_size_bytes,
                new_size_bytes,
                time_ms,
                collection_bytes,
            }) => {
                learned.collections[operation] = collection_bytes;
                learned.sizes[operation] = old_size_bytes.max(new_size_bytes);
                learned.commit_ms = learned.commit_ms.max(time_ms);
                return Vote::Accepted;
            }
            Ok(ItemReply::Fault(ItemFault::ConditionFailed { item, .. })) => {
                CancellationReason::of(&ApiError::condition_failed(item))
            }
            Ok(ItemReply::Fault(ItemFault::Conflict { .. })) => {
                Some(CancellationReason::conflict())
            }
            Ok(ItemReply::Fault(ItemFault::Untimely { now_ms })) => {
                let timestamp_ms = self.transaction.timestamp_ms;
                tracing::warn!(
                    now_ms,
                    timestamp_ms,
                    "a leader refuses a transaction's timestamp: is this router's clock right?"
                );
                learned.failure = Some(texts::unavailable());
                return Vote::Failed;
            }
            Ok(other) => {
                learned.failure = Some(texts::internal(format!(
                    "a prepare was answered by {other:?}"
                )));
                return Vote::Unknown;
            }
            Err(error) => match CancellationReason::of(&error) {
                Some(reason) => Some(reason),
                None => {
                    let unknown = error.kind == ErrorKind::InternalServerError;
                    learned.failure = Some(error);
                    return if unknown { Vote::Unknown } else { Vote::Failed };
                }
            },
        };
        learned.reasons[operation] = reason;
        Vote::Refused
    }

    /// Whether the end was acknowledged.
    async fn settle(&self, operation: usize, commits: bool, repeated: u32) -> bool {
        let Some(participant) = self.record.participants.get(operation) else {
            return true;
        };
        let commit_ms = self.learned.lock().commit_ms;
        let settled = settle(
            self.ledger.backend(),
            (participant.table, &participant.key),
            (&self.transaction, commits.then_some(commit_ms)),
            &self.context,
        );
        match settled.await {
            Ok(()) => true,
            Err(error) => {
                self.pause(repeated, &error).await;
                false
            }
        }
    }

    /// Notes in the record that all is done, or deletes it.
    pub(super) async fn close(&self, commits: bool) {
        let closed = match commits {
            true => {
                self.put(State::Done, &[State::Committed, State::Done])
                    .await
            }
            false => {
                let states = [State::Open, State::Cancelled];
                self.ledger
                    .delete(&self.name, self.record.id, &states, &self.context)
                    .await
            }
        };
        if let Err(error) = closed {
            tracing::debug!(%error, "a transaction's record is not closed: recovery will do it");
        }
    }

    fn was_there_before(&self) -> bool {
        self.learned.lock().before.is_some()
    }

    fn result(&self, verdict: Verdict) -> Result<Finished, ApiError> {
        let mut learned = self.learned.lock();
        if let Some(before) = &learned.before {
            return before.clone();
        }
        match verdict {
            Verdict::Committed => Ok(Finished {
                sizes: std::mem::take(&mut learned.sizes),
                collections: std::mem::take(&mut learned.collections),
                repeated: false,
            }),
            Verdict::Cancelled => Err(ApiError::transaction_canceled(
                learned
                    .reasons
                    .drain(..)
                    .map(|reason| reason.unwrap_or_else(CancellationReason::none))
                    .collect(),
            )),
            Verdict::Failed => Err(learned.failure.take().unwrap_or_else(texts::unavailable)),
            Verdict::Unknown => Err(texts::out_of_time()),
        }
    }
}

/// Ends a transaction at one item: commits it, as of that time, or cancels it.
///
/// # Errors
/// When that is not acknowledged. It may be repeated.
pub(super) async fn settle<B: Backend>(
    backend: &B,
    (table, key): (model::TableId, &EncodedKey),
    (transaction, commit_ms): (&TransactionRef, Option<u64>),
    context: &Context,
) -> Result<(), ApiError> {
    let end = Settle {
        key: key.clone(),
        id: transaction.id,
        timestamp_ms: transaction.timestamp_ms,
        commit_ms: commit_ms.unwrap_or_default(),
    };
    let transact = match commit_ms {
        Some(_) => Transact::Commit(end),
        None => Transact::Cancel(end),
    };
    match backend.settle(table, key, transact, context).await {
        Ok(ItemReply::Written { .. }) => Ok(()),
        Ok(other) => Err(texts::internal(format!(
            "the end of a transaction was answered by {other:?}"
        ))),
        // Nothing can be pending in a table that is gone.
        Err(error) if error.kind == ErrorKind::ResourceNotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Of everything that must be the same when a token is used again.
fn digest(parts: &[Part]) -> Result<[u8; 32], ApiError> {
    let mut digest = Sha256::new();
    for part in parts {
        let encoded = rmp_serde::to_vec_named(&part.write).map_err(|_| ApiError::internal())?;
        digest.update(part.table.id.0.to_be_bytes());
        digest.update((encoded.len() as u64).to_be_bytes());
        digest.update(encoded);
    }
    Ok(digest.finalize().into())
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
