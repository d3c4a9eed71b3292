//! The object store as this crate sees it: a trait of five operations, and over it time-outs and retries. Owns both; an operation ends within
//! `attempts_max × (timeout_ms + pause_ms_max)`, with what came of it or a typed error.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{ObjectError, Reason};
use crate::settings::ArchiveSettings;

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key, below the archive's prefix.
    pub key: String,
    /// Its size, bytes.
    pub bytes: u64,
    /// When it was written, by the store's clock, milliseconds since the epoch.
    pub modified_ms: u64,
}

/// Whether an object may be there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// It must not (`If-None-Match: *`). Not every store keeps to that.
    Create,
    /// It is replaced.
    Replace,
}

/// What came of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The object was written.
    Written,
    /// There is one already; nothing was written. After an attempt without an answer it may be our own.
    Exists,
}

/// An object store. Keys are below the archive's prefix.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// The whole object, if it has at most `bytes_max` bytes.
    async fn get(&self, key: &str, bytes_max: u64) -> Result<Bytes, Reason>;
    /// Writes an object, durably, all of it or nothing.
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Put, Reason>;
    /// All objects below a folder (ends with `/`), by key; at most `max`.
    async fn list(&self, folder: &str, max: usize) -> Result<Vec<Listed>, Reason>;
    /// The folders directly below a folder, as whole prefixes that end with `/`, in order; at most `max`.
    async fn folders(&self, folder: &str, max: usize) -> Result<Vec<String>, Reason>;
    /// Deletes an object; one that is not there is fine.
    async fn delete(&self, key: &str) -> Result<(), Reason>;
}

/// A connection to the object store: bounded, retried, and cheap to clone.
#[derive(Clone, Debug)]
pub struct Objects {
    store: Arc<dyn Store>,
    settings: Arc<ArchiveSettings>,
}

impl Objects {
    /// Connects to what the settings name. Does not speak to it yet.
    ///
    /// # Errors
    /// In words for the operator, when the settings cannot work.
    pub fn connect(settings: &ArchiveSettings) -> Result<Objects, String> {
        settings.check()?;
        let store = crate::remote::Remote::connect(settings)?;
        Ok(Objects::over(Arc::new(store), settings))
    }

    /// Over any store, with the limits of these settings: for tests and drills.
    pub fn over(store: Arc<dyn Store>, settings: &ArchiveSettings) -> Objects {
        Objects {
            store,
            settings: Arc::new(settings.clone()),
        }
    }

    /// The settings.
    pub fn settings(&self) -> &ArchiveSettings {
        &self.settings
    }

    /// The store below, without time-outs and retries.
    pub fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    /// The whole object.
    pub async fn get(&self, key: &str) -> Result<Bytes, ObjectError> {
        let bytes_max = self.settings.object_bytes_max;
        self.attempt("get", key, || self.store.get(key, bytes_max))
            .await
    }

    /// Writes an object. `Exists` may be the doing of an own attempt that got no answer: compare.
    pub async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Put, ObjectError> {
        self.attempt("put", key, || self.store.put(key, body.clone(), mode))
            .await
    }

    /// All objects below a folder (ends with `/`), by key.
    pub async fn list(&self, folder: &str) -> Result<Vec<Listed>, ObjectError> {
        let max = self.settings.listed_max;
        self.attempt("list", folder, || self.store.list(folder, max))
            .await
    }

    /// The folders directly below a folder, as whole prefixes, in order.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>, ObjectError> {
        let max = self.settings.listed_max;
        self.attempt("list", folder, || self.store.folders(folder, max))
            .await
    }

    /// Deletes an object; one that is not there is fine.
    pub async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.attempt("delete", key, || self.store.delete(key)).await
    }

    async fn attempt<T, F>(
        &self,
        operation: &'static str,
        key: &str,
        act: impl Fn() -> F,
    ) -> Result<T, ObjectError>
    where
        F: Future<Output = Result<T, Reason>>,
    {
        let settings = &self.settings;
        let mut pause_ms = settings.pause_ms;
        for left in (0..settings.attempts_max).rev() {
            let limit = Duration::from_millis(settings.timeout_ms);
            let result = tokio::time::timeout(limit, act()).await;
            let reason = match result {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(reason)) => reason,
                Err(_) => Reason::TimedOut(settings.timeout_ms),
            };
            let error = ObjectError {
                operation,
                key: key.to_owned(),
                reason,
            };
            if left == 0 || !error.is_transient() {
                return Err(error);
            }
            tracing::debug!(%error, left, "another attempt");
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            pause_ms = (pause_ms * 2).min(settings.pause_ms_max.max(settings.pause_ms));
        }
        Err(ObjectError {
            operation,
            key: key.to_owned(),
            reason: Reason::Rejected("archive.attempts_max is 0".to_owned()),
        })
    }
}
