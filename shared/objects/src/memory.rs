//! An object store in memory, for tests of whatever uses one. Owns a sorted map; keeps `Create`.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::Reason;
use crate::store::{Listed, Put, PutMode, Store};

/// Objects by key.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<String, Bytes>>,
}

impl MemoryStore {
    /// Everything that is in it.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.objects.lock().clone()
    }

    /// Puts something in, as a fault of the medium would.
    pub fn set(&self, key: &str, body: Bytes) {
        self.objects.lock().insert(key.to_owned(), body);
    }

    /// Loses something.
    pub fn lose(&self, key: &str) {
        self.objects.lock().remove(key);
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &str, bytes_max: u64) -> Result<Bytes, Reason> {
        let found = self.objects.lock().get(key).cloned();
        let found = found.ok_or(Reason::NotFound)?;
        match found.len() as u64 <= bytes_max {
            true => Ok(found),
            false => Err(Reason::TooLarge(bytes_max)),
        }
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<Put, Reason> {
        let mut objects = self.objects.lock();
        if mode == PutMode::Create && objects.contains_key(key) {
            return Ok(Put::Exists);
        }
        objects.insert(key.to_owned(), body);
        Ok(Put::Written)
    }

    async fn list(&self, folder: &str, max: usize) -> Result<Vec<Listed>, Reason> {
        let objects = self.objects.lock();
        let below = objects.range(folder.to_owned()..);
        let below = below.take_while(|(key, _)| key.starts_with(folder));
        let listed: Vec<Listed> = below
            .take(max.saturating_add(1))
            .map(|(key, body)| Listed {
                key: key.clone(),
                bytes: body.len() as u64,
                modified_ms: 0,
            })
            .collect();
        match listed.len() <= max {
            true => Ok(listed),
            false => Err(Reason::TooLarge(max as u64)),
        }
    }

    async fn folders(&self, folder: &str, max: usize) -> Result<Vec<String>, Reason> {
        let objects = self.objects.lock();
        let below = objects.keys().filter_map(|key| {
            let (step, _) = key.strip_prefix(folder)?.split_once('/')?;
            Some(format!("{folder}{step}/"))
        });
        let folders: BTreeSet<String> = below.collect();
        match folders.len() <= max {
            true => Ok(folders.into_iter().collect()),
            false => Err(Reason::TooLarge(max as u64)),
        }
    }

    async fn delete(&self, key: &str) -> Result<(), Reason> {
        self.objects.lock().remove(key);
        Ok(())
    }
}
