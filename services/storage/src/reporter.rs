//! The node's heartbeat: an actor that says once a second what placement needs to know, and brings the metrics up to date.
//! Decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message};
use model::Units;
use protocol::health::{Heartbeat, NodeRoom, PartitionCaps, PeerHealth, StorageHealth};
use protocol::subjects;
use wal::WalMetrics;

use crate::flusher::FlushJob;
use crate::inbox::Event;
use crate::node::Node;
use crate::pool::Jobs;
use crate::pressure::pressed;

const EVERY: Duration = Duration::from_secs(1);
/// Reports between two rounds of truncation.
const RELEASE_EVERY: u32 = 3;
/// Groups asked to truncate in one round.
const RELEASED_MAX: usize = 256;

/// Replicas of each kind that a heartbeat names.
const NAMED_MAX: usize = 256;

/// The actor.
pub(crate) struct Reporter {
    pub(crate) node: Arc<Node>,
    pub(crate) flusher: Jobs<FlushJob>,
    /// Where the health endpoints are, host:port.
    pub(crate) http: String,
    /// What the WAL said the last time.
    pub(crate) wal: WalMetrics,
    pub(crate) reports_since_release: u32,
    /// The space on the disk is being measured.
    pub(crate) measuring: Arc<AtomicBool>,
}

/// Say something now.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Report;

/// End.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Stop;

impl Reporter {
    fn report(&mut self) {
        let node = self.node.clone();
        // A disk that hangs must not hold up the heartbeat. At most one waits.
        if !self.measuring.swap(true, Ordering::Acquire) {
            let measuring = self.measuring.clone();
            actix::spawn(async move {
                let measured = tokio::task::spawn_blocking(move || node.measure_space());
                // It neither panics nor is it aborted.
                let _ = measured.await;
                measuring.store(false, Ordering::Release);
            });
        }
        let node = &self.node;
        let before = self.wal;
        self.wal = node.export(self.flusher.len());
        let syncs = self.wal.syncs.saturating_sub(before.syncs);
        let sync_us = self.wal.sync_us.saturating_sub(before.sync_us);
        let sync_us = sync_us.checked_div(syncs).unwrap_or(0);
        node.watch_log(self.wal.segment_bytes);
        self.release_log();
        let node = &self.node;
        let numbers = node.numbers();
        let (heard, now) = (node.take_peers(), node.now());
        let peers = heard.iter().map(|(node, peer)| PeerHealth {
            node,
            silent_ms: now.since(peer.heard),
            acknowledged_us: peer.acknowledged_us(),
        });
        let (room, free_bytes) = (node.capacity.room(now), node.space().free_bytes);
        let used_bytes = numbers.tree_bytes + self.wal.segment_bytes;
        let (admission, limits) = (&node.settings.admission, &node.settings.limits);
        let rated = NodeRoom {
            read: Units::new(admission.node_read_units),
            write: Units::new(admission.node_write_units),
        };
        let pressed = pressed(room, rated, used_bytes, free_bytes, limits.pressed_permille);
        let candidates = match pressed {
            true => node.led.candidates(now, limits.push_every_ms),
            false => Vec::new(),
        };
        let heartbeat = Heartbeat {
            service: "storage".to_owned(),
            instance: node.id.0,
            zone: node.settings.zone.clone(),
            incarnation: node.incarnation,
            http: self.http.clone(),
            ready: node.ready.load(Ordering::Relaxed),
            draining: node.is_draining(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            storage: Some(StorageHealth {
                replicas: numbers.replicas,
                leading: numbers.leading,
                used_bytes,
                free_bytes,
                troubles: node.troubles(),
                fenced: node.fenced(),
                leaderless: shortened(node.leaderless()),
                peers: peers.collect(),
                sync_us,
                room: Some(room),
                rated,
                pressed,
                candidates,
                caps: Some(PartitionCaps {
                    read_units: admission.partition_read_units_max,
                    write_units: admission.partition_write_units_max,
                }),
            }),
            ..Heartbeat::default()
        };
        // Whatever becomes of it on the bus.
        node.nodes.write().hear(now, &heartbeat);
        if let Err(error) = node.mesh.cast(subjects::HEALTH, &heartbeat) {
            tracing::debug!(%error, "heartbeat not sent");
        }
    }
}

impl Reporter {
    /// When the log is too large: asks the groups that keep its oldest segments alive to let go.
    fn release_log(&mut self) {
        if self.wal.segment_bytes <= self.node.settings.limits.wal_bytes_max {
            return;
        }
        self.reports_since_release += 1;
        if self.reports_since_release < RELEASE_EVERY {
            return;
        }
        self.reports_since_release = 0;
        let pinned = self.node.wal.pinned_groups();
        tracing::info!(
            bytes = self.wal.segment_bytes,
            groups = pinned.len(),
            "the write-ahead log is too large, truncating"
        );
        for (group, _) in pinned.into_iter().take(RELEASED_MAX) {
            self.node.inbox(group).event(Event::ReleaseLog(group));
        }
    }
}

/// No more of it than a heartbeat may carry.
fn shortened<T>(mut list: Vec<T>) -> Vec<T> {
    list.truncate(NAMED_MAX);
    list
}

impl Actor for Reporter {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.report();
        context.run_interval(EVERY, |reporter, _| reporter.report());
    }
}

impl Handler<Report> for Reporter {
    type Result = ();

    fn handle(&mut self, _: Report, _: &mut Self::Context) {
        self.report();
    }
}

impl Handler<Stop> for Reporter {
    type Result = ();

    fn handle(&mut self, _: Stop, context: &mut Self::Context) {
        context.stop();
    }
}
