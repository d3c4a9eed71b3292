//! The three connections of one process. Owns which subject travels on which; never encodes.

use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::bus_settings::{BusSettings, Identity};
use crate::calls::Calls;
use crate::error::MeshError;
use crate::link::Link;
use crate::stats::Stats;

/// Connections, opened at first use.
pub(crate) struct Nats {
    settings: BusSettings,
    identity: Identity,
    pub(crate) calls: Arc<Calls>,
    pub(crate) stats: Arc<Stats>,
    main: Link,
    replication: OnceLock<Option<Link>>,
    /// Where that connection lives, if not on a thread of its own.
    pub(crate) replication_host: OnceLock<Handle>,
    bulk: OnceLock<Option<Link>>,
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.calls.close();
    }
}

impl Nats {
    /// Connect, or fail within `connect_ms_max`.
    pub(crate) async fn connect(
        settings: &BusSettings,
        identity: Identity,
    ) -> Result<Self, MeshError> {
        let stats = Arc::new(Stats::default());
        let calls = Calls::start(stats.clone());
        let (up, came_up) = oneshot::channel();
        let main = Link::start(
            "main",
            None,
            settings,
            &identity,
            calls.clone(),
            stats.clone(),
            Some(up),
        )?;
        came_up.await.map_err(|_| MeshError::Closed)??;
        let settings = settings.clone();
        let (replication, bulk) = (OnceLock::new(), OnceLock::new());
        Ok(Self {
            settings,
            identity,
            calls,
            stats,
            main,
            replication,
            replication_host: OnceLock::new(),
            bulk,
        })
    }

    /// The connection for a subject.
    pub(crate) fn link(&self, subject: &str) -> Option<&Link> {
        if subject.ends_with(".repl") {
            let open = || self.open("repl", self.replication_host.get());
            self.replication.get_or_init(open).as_ref()
        } else if subject.ends_with(".bulk") {
            self.bulk.get_or_init(|| self.open("bulk", None)).as_ref()
        } else {
            Some(&self.main)
        }
    }

    fn open(&self, lane: &'static str, host: Option<&Handle>) -> Option<Link> {
        let (calls, stats) = (self.calls.clone(), self.stats.clone());
        let (settings, identity) = (&self.settings, &self.identity);
        Link::start(lane, host, settings, identity, calls, stats, None)
            .inspect_err(|error| tracing::error!(%error, lane, "cannot open a connection"))
            .ok()
    }

    /// Those that are open.
    pub(crate) fn links(&self) -> impl Iterator<Item = &Link> {
        let lazy = [self.replication.get(), self.bulk.get()];
        std::iter::once(&self.main).chain(lazy.into_iter().flatten().flatten())
    }
}
