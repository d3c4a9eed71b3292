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

/// The environment with its two tables: `items` and `meta`.
pub(crate) struct Environment {
    path: PathBuf,
    limit_bytes: usize,
    pub(crate) items: Table,
    pub(crate) meta: Table,
    open: Mutex<Open>,
}

/// All that can hold a transaction open.
struct Open {
    /// None once closed.
    env: Option<Env<WithoutTls>>,
    /// The transaction of ordinary reads: begun by the first read after a flush, ended by the next flush.
    shared: Option<Reading>,
    /// Transactions of snapshots.
    snapshots: Vec<Weak<Mutex<Option<Reading>>>>,
}

impl Environment {
    /// Opens the folder's environment; `first` writes into the tables of a new one, in the transaction that makes them.
    pub(crate) fn create(
        path: &Path,
        options: TreeOptions,
        first: impl FnOnce(&mut RwTxn, Table0<'_>) -> heed::Result<()>,
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
        Ok(Self::new(path, options, env, items, meta))
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
        Ok(tables.map(|(items, meta)| Self::new(path, options, env, items, meta)))
    }

    fn new(
        path: &Path,
        options: TreeOptions,
        env: Env<WithoutTls>,
        items: Table,
        meta: Table,
    ) -> Self {
        let open = Mutex::new(Open { env: Some(env), shared: None, snapshots: Vec::new() });
        let limit_bytes = options.map_bytes_max;
        Self { path: path.into(), limit_bytes, items, meta, open }
    }

    /// Reads what was committed last.
    pub(crate) fn read<R>(
        &self,
        read: impl FnOnce(&Reading) -> Result<R, TreeError>,
    ) -> Result<R, TreeError> {
        let mut open = self.open.lock();
        if open.shared.is_none() {
            open.shared = Some(self.begin(&open)?);
        }
        match &open.shared {
            Some(transaction) => read(transaction),
            None => Err(self.gone()),
        }
    }

    /// Lets later reads see what was committed meanwhile.
    pub(crate) fn refresh(&self) {
        self.open.lock().shared = None;
    }

    /// A transaction that stays at this state until it is dropped or taken away.
    pub(crate) fn snapshot(&self) -> Result<Revocable, TreeError> {
        let mut open = self.open.lock();
        let snapshot = Arc::new(Mutex::new(Some(self.begin(&open)?)));
        open.snapshots.retain(|other| other.strong_count() > 0);
        open.snapshots.push(Arc::downgrade(&snapshot));
        Ok(snapshot)
    }

    fn begin(&self, open: &Open) -> Result<Reading, TreeError> {
        let env = open.env.clone().ok_or_else(|| self.gone())?;
        env.static_read_txn().map_err(|error| TreeError::heed(&self.path, "read", error))
    }

    pub(crate) fn gone(&self) -> TreeError {
        TreeError::SnapshotGone { path: self.path.clone() }
    }

    /// The environment, for a write transaction. The caller lets only one thread write.
    pub(crate) fn env(&self) -> Result<Env<WithoutTls>, TreeError> {
        self.open.lock().env.clone().ok_or_else(|| self.gone())
    }

    /// Doubles the map. Ends all read transactions first: ordinary reads begin a new one, snapshots are gone. The caller
    /// has no write transaction open.
    pub(crate) fn grow(&self) -> Result<(), TreeError> {
        let mut open = self.open.lock();
        let Some(env) = open.env.clone() else { return Err(self.gone()) };
        let bytes = env.info().map_size.saturating_mul(2).min(self.limit_bytes);
        if bytes <= env.info().map_size {
            let limit_bytes = self.limit_bytes as u64;
            return Err(TreeError::TooLarge { path: self.path.clone(), limit_bytes });
        }
        end_reads(&mut open);
        resize(&env, bytes).map_err(|error| TreeError::heed(&self.path, "growth", error))
    }

    /// Size of the map now.
    #[cfg(test)]
    pub(crate) fn map_bytes(&self) -> usize {
        self.open.lock().env.as_ref().map_or(0, |env| env.info().map_size)
    }

    /// Ends everything; later reads and snapshots fail.
    pub(crate) fn close(&self) {
        let mut open = self.open.lock();
        end_reads(&mut open);
        open.env = None;
    }
}

/// The table handle inside of the transaction that makes it.
pub(crate) type Table0<'e> = heed::Database<'e, Bytes, Bytes>;

fn end_reads(open: &mut Open) {
    open.shared = None;
    for snapshot in open.snapshots.drain(..).filter_map(|snapshot| snapshot.upgrade()) {
        *snapshot.lock() = None;
    }
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
    open.map_size(bytes.max(used.next_multiple_of(page))).max_readers(READERS_MAX).max_dbs(2);
    // SAFETY: the file may be changed by LMDB only while it is mapped. The folder lies in the node's data folder, which is
    // locked against other processes (`wal::DataDir`); within this process heed refuses to open a path twice; nothing else
    // in this service writes into the folder while the environment is open. No unsafe flags are set: commits are synced,
    // and the map is read-only.
    unsafe { open.open(path) }
}

#[allow(unsafe_code)]
fn resize(env: &Env<WithoutTls>, bytes: usize) -> heed::Result<()> {
    // SAFETY: no transaction may be active. The only caller, `grow`, holds the lock under which every read transaction is
    // begun and has just ended them all, each under its own lock, so that no reader is inside of one; and it is called by
    // the one thread that writes, between its write transactions.
    unsafe { env.resize(bytes) }
}
