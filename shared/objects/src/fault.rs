//! A store that does what stores do wrong: for tests and drills. Owns which faults come when: each is told how often it strikes, and to which
//! keys, so that a test says exactly what happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::Reason;
use crate::store::{Listed, Put, PutMode, Store};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operation fails (as by a 500), and nothing happened.
    Unavailable,
    /// The operation happens, and its answer is lost (as by a 500 after the fact).
    AnswerLost,
    /// No answer ever comes.
    Hangs,
    /// `Create` overwrites.
    CreateOverwrites,
    /// `Create` of what exists claims to have written, and did not.
    CreateClaims,
    /// A read gives only the first half.
    Truncated,
    /// A read gives one bit flipped, in the middle.
    BitFlipped,
    /// A write stores only the first half, and says that all is well.
    WriteTruncated,
    /// A write says that all is well, and stores nothing.
    WriteLost,
}

#[derive(Debug)]
struct Rule {
    fault: Fault,
    /// Part of the keys that it strikes.
    keys: String,
    /// How often still; `u64::MAX` = always.
    left: u64,
}

/// A store with faults in front of another.
#[derive(Debug)]
pub struct FaultStore {
    inner: Arc<dyn Store>,
    rules: Mutex<Vec<Rule>>,
    struck: AtomicU64,
}

impl FaultStore {
    /// Without faults yet.
    pub fn new(inner: Arc<dyn Store>) -> Arc<FaultStore> {
        Arc::new(FaultStore {
            inner,
            rules: Mutex::default(),
            struck: AtomicU64::new(0),
        })
    }

    /// The next `times` operations that this fault can strike, on keys that contain `keys` (empty: all), go wrong.
    pub fn strike(&self, fault: Fault, keys: &str, times: u64) {
        self.rules.lock().push(Rule {
            fault,
            keys: keys.to_owned(),
            left: times,
        });
    }

    /// From now on all such operations go wrong.
    pub fn always(&self, fault: Fault, keys: &str) {
        self.strike(fault, keys, u64::MAX);
    }

    /// No more faults.
    pub fn heal(&self) {
        self.rules.lock().clear();
    }

    /// How often a fault struck.
    pub fn struck(&self) -> u64 {
        self.struck.load(Ordering::Relaxed)
    }

    /// The fault that strikes this operation.
    fn due(&self, key: &str, possible: &[Fault]) -> Option<Fault> {
        let mut rules = self.rules.lock();
        let fits = |rule: &&mut Rule| {
            rule.left > 0 && possible.contains(&rule.fault) && key.contains(&rule.keys)
        };
        let rule = rules.iter_mut().find(fits)?;
        if rule.left != u64::MAX {
            rule.left -= 1;
        }
        self.struck.fetch_add(1, Ordering::Relaxed);
        Some(rule.fault)
    }

    /// Faults that any operation can have; says whether the answer is to be lost.
    async fn before(&self, key: &str) -> Result<bool, Reason> {
        match self.due(key, &[Fault::Unavailable, Fault::AnswerLost, Fault::Hangs]) {
            Some(Fault::Unavailable) => Err(unavailable()),
            Some(Fault::AnswerLost) => Ok(true),
            Some(_) => std::future::pending().await,
            None => Ok(false),
        }
    }
}

fn unavailable() -> Reason {
    Reason::Unavailable("injected fault".to_owned())
}

fn answer<T>(result: Result<T, Reason>, lost: bool) -> Result<T, Reason> {
    match lost {
        true => Err(unavailable()),
        false => result,
    }
}

#[async_trait]
impl Store for FaultStore {
    async fn get(&self, key: &str, bytes_max: u64) -> Result<Bytes, Reason> {
        let lost = self.before(key).await?;
        let body = answer(self.inner.get(key, bytes_max).await, lost)?;
        Ok(
            match self.due(key, &[Fault::Truncated, Fault::BitFlipped]) {
                Some(Fault::Truncated) => body.slice(..body.len() / 2),
                Some(_) => {
                    let mut body = body.to_vec();
                    let middle = body.len() / 2;
                    if let Some(byte) = body.get_mut(middle) {
                        *byte ^= 0x10;
                    }
                    body.into()
                }
                None => body,
            },
        )
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Put, Reason> {
        let lost = self.before(key).await?;
        let fault = self.due(key, &[Fault::WriteTruncated, Fault::WriteLost]);
        let body = match fault {
            Some(Fault::WriteTruncated) => body.slice(..body.len() / 2),
            Some(_) => return answer(Ok(Put::Written), lost),
            None => body,
        };
        let lie = match mode {
            PutMode::Create => self.due(key, &[Fault::CreateOverwrites, Fault::CreateClaims]),
            PutMode::Replace => None,
        };
        let put = match lie {
            Some(Fault::CreateOverwrites) => self.inner.put(key, body, PutMode::Replace).await,
            Some(_) => self.inner.put(key, body, mode).await.map(|_| Put::Written),
            None => self.inner.put(key, body, mode).await,
        };
        answer(put, lost)
    }

    async fn list(&self, folder: &str, max: usize) -> Result<Vec<Listed>, Reason> {
        let lost = self.before(folder).await?;
        answer(self.inner.list(folder, max).await, lost)
    }

    async fn folders(&self, folder: &str, max: usize) -> Result<Vec<String>, Reason> {
        let lost = self.before(folder).await?;
        answer(self.inner.folders(folder, max).await, lost)
    }

    async fn delete(&self, key: &str) -> Result<(), Reason> {
        let lost = self.before(key).await?;
        answer(self.inner.delete(key).await, lost)
    }
}
