//! One open LMDB environment and its read transactions. Owns what needs `unsafe`: opening the map and resizing it, with the
//! rule that no transaction is active while it is resized. Never looks into values.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, RoTxn, RwTxn, WithoutTls};
use parking_lot::Mutex;

use super::TreeOptions;
use super::error::TreeError;

/// Keys and values as bytes.
pub(crate) type Table = Database<'static, Bytes, Bytes>;
/// A read transaction that may move between threads.
pub(crate) type Reading = RoTxn<'static, WithoutTls>;

/// Read transactions at a time: the shared one, and copies.
const READERS_MAX: u32 = 64;
pub(crate) const DATA_FILE: &str = "data.mdb";

/// A read transaction that can be taken away from its holder.
pub(crate) type Revocable = Arc<Mutex<Option<Reading>>>;

/// An environment and its two tables.
#[derive(Clone)]
pub(crate) struct Handles {
    pub(crate) env: Env<WithoutTls>,
    pub(crate) items: Table,
    pub(crate) meta: Table,
}

/// The environment and all that can hold a read transaction open.
pub(crate) struct Environment {
    path: PathBuf,
    options: TreeOptions,
    /// None once closed.
    handles: Option<Handles>,
    /// The transaction of ordinary reads: begun by the first read after a flush, ended by the next flush.
    shared: Option<Reading>,
    /// Transactions of snapshots.
    snapshots: Vec<Weak<Mutex<Option<Reading>>>>,
}

impl Environment {
    /// Makes the folder's environment; `first` writes into its `meta` table in the transaction that makes it.
    pub(crate) fn create(
        path: &Path,
        options: TreeOptions,
        first: impl FnOnce(&mut RwTxn, Database<'_, Bytes, Bytes>) -> heed::Result<()>,
    ) -> Result<Self, TreeError> {
        let fail = |error| TreeError::heed(path, "creation", error);
        let env = open_env(path, options).map_err(fail)?;
        let transaction = env.write_txn().map_err(fail)?;
        let tables = env.create_databases_and_commit(transaction, |opener, transaction| {
            let items = opener.create_database::<Bytes, Bytes>(transaction, Some("items"))?;
            let meta = opener.create_database::<Bytes, Bytes>(transaction, Some("meta"))?;
            first(transaction, meta)?;
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit((items, meta)))
        });
        let (items, meta) = tables.map_err(fail)?.unwrap_commit();
        Ok(Self::new(path, options, Handles { env, items, meta }))
    }

    /// Opens an environment that is there; none when it has no tables.
    pub(crate) fn open(path: &Path, options: TreeOptions) -> Result<Option<Self>, TreeError> {
        let fail = |error| TreeError::heed(path, "opening", error);
        let env = open_env(path, options).map_err(fail)?;
        let transaction = env.read_txn().map_err(fail)?;
        let tables = env.open_databases_and_commit(transaction, |opener, transaction| {
            let items = opener.open_database::<Bytes, Bytes>(transaction, Some("items"))?;
            let meta = opener.open_database::<Bytes, Bytes>(transaction, Some("meta"))?;
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit((items, meta)))
        });
        let (items, meta) = tables.map_err(fail)?.unwrap_commit();
        let tables = items.zip(meta);
        Ok(tables.map(|(items, meta)| Self::new(path, options, Handles { env, items, meta })))
    }

    fn new(path: &Path, options: TreeOptions, handles: Handles) -> Self {
        let handles = Some(handles);
        Self {
            path: path.into(),
            options,
            handles,
            shared: None,
            snapshots: Vec::new(),
        }
    }

    /// Reads what was committed last.
    pub(crate) fn read<R>(
        &mut self,
        read: impl FnOnce(&Reading, &Handles) -> Result<R, TreeError>,
    ) -> Result<R, TreeError> {
        let Some(handles) = &self.handles else {
            return Err(self.gone());
        };
        let transaction = match self.shared.take() {
            Some(transaction) => transaction,
            None => begin(&self.path, handles)?,
        };
        read(self.shared.insert(transaction), handles)
    }

    /// Lets later reads see what was committed meanwhile.
    pub(crate) fn refresh(&mut self) {
        self.shared = None;
    }

    /// A transaction that stays at this state until it is dropped or taken away.
    pub(crate) fn snapshot(&mut self) -> Result<Revocable, TreeError> {
        let reading = begin(&self.path, &self.handles()?)?;
        let snapshot = Arc::new(Mutex::new(Some(reading)));
        self.snapshots.retain(|other| other.strong_count() > 0);
        self.snapshots.push(Arc::downgrade(&snapshot));
        Ok(snapshot)
    }

    fn gone(&self) -> TreeError {
        TreeError::SnapshotGone {
            path: self.path.clone(),
        }
    }

    /// The environment, for a write transaction. The caller lets only one thread write.
    pub(crate) fn handles(&self) -> Result<Handles, TreeError> {
        self.handles.clone().ok_or_else(|| self.gone())
    }

    /// Doubles the map. Ends all read transactions first: ordinary reads begin a new one, snapshots are gone. The caller
    /// has no write transaction open.
    pub(crate) fn grow(&mut self) -> Result<(), TreeError> {
        let env = self.handles()?.env;
        let limit = self.options.map_bytes_max;
        let bytes = env.info().map_size.saturating_mul(2).min(limit);
        if bytes <= env.info().map_size {
            let limit_bytes = limit as u64;
            return Err(TreeError::TooLarge {
                path: self.path.clone(),
                limit_bytes,
            });
        }
        self.end_reads();
        resize(&env, bytes).map_err(|error| TreeError::heed(&self.path, "growth", error))
    }

    /// Size of the map now.
    #[cfg(test)]
    pub(crate) fn map_bytes(&self) -> usize {
        self.handles
            .as_ref()
            .map_or(0, |handles| handles.env.info().map_size)
    }

    /// Ends everything; later reads and snapshots fail.
    pub(crate) fn close(&mut self) {
        self.end_reads();
        self.handles = None;
    }

    fn end_reads(&mut self) {
        self.shared = None;
        for snapshot in self
            .snapshots
            .drain(..)
            .filter_map(|snapshot| snapshot.upgrade())
        {
            *snapshot.lock() = None;
        }
    }
}

fn begin(path: &Path, handles: &Handles) -> Result<Reading, TreeError> {
    let transaction = handles.env.clone().static_read_txn();
    transaction.map_err(|error| TreeError::heed(path, "read", error))
}

#[allow(unsafe_code)]
fn open_env(path: &Path, options: TreeOptions) -> heed::Result<Env<WithoutTls>> {
    let page = 64 << 10;
    let used = std::fs::metadata(path.join(DATA_FILE)).map_or(0, |file| file.len() as usize);
    let mut bytes = options.map_bytes.next_multiple_of(page);
    while bytes < used.saturating_mul(2) && bytes < options.map_bytes_max {
        bytes *= 2;
    }
    let mut open = EnvOpenOptions::new().read_txn_without_tls();
    open.map_size(bytes.max(used.next_multiple_of(page)))
        .max_readers(READERS_MAX)
        .max_dbs(2);
    // SAFETY: the file may be changed by LMDB only while it is mapped. The folder lies in the node's data folder, which is
    // locked against other processes (`wal::DataDir`); within this process heed refuses to open a path twice; nothing else
    // in this service writes into the folder while the environment is open. No unsafe flags are set: commits are synced,
    // and the map is read-only.
    unsafe { open.open(path) }
}

#[allow(unsafe_code)]
fn resize(env: &Env<WithoutTls>, bytes: usize) -> heed::Result<()> {
    // SAFETY: no transaction may be active. The only caller, `grow`, has the environment for itself (`&mut`), and every read
    // transaction is begun and used under `&mut`, too, or registered as a snapshot: it has just ended them all, snapshots
    // under their own locks, so that no reader is inside of one. It is called by the one thread that writes, between its
    // write transactions.
    unsafe { env.resize(bytes) }
}
