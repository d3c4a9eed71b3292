//! The shell: the subject that routers ask on, heartbeats, metrics, and the reports to the admins.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use actix::prelude::*;
use mesh::{Delivery, Mesh, Subscription};
use model::Units;
use parking_lot::Mutex;
use protocol::health::Heartbeat;
use protocol::subjects;
use protocol::tokens::{
    SideView, TableQuota, TokenRequest, VIEWS_MAX, ViewReply, ViewRequest, WarmReport,
};
use telemetry::Health;
use tokens::{Instance, Ring};
use tracing::{info, warn};

use crate::GacSettings;

/// Time between heartbeats.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// A running instance.
pub struct Running {
    keeper: Addr<Keeper>,
    http: Option<telemetry::HttpServer>,
    health: Health,
    mesh: Mesh,
}

impl Running {
    /// Says good-bye and stops: routers turn to the other instances, or go on with their shares.
    pub async fn stop(self) {
        self.health.ready.store(false, Relaxed);
        // The keeper may be gone already (its system stopped): then there is nothing left to stop.
        let _ = self.keeper.send(Stop).await;
        self.mesh.drain(Duration::from_secs(1)).await;
        if let Some(http) = self.http {
            http.stop().await;
        }
    }
}

/// What the handlers share. Nothing waits while it holds a lock.
struct Shared {
    started: Instant,
    instance: Mutex<Instance>,
    ring: Mutex<Ring>,
    answered: AtomicU64,
    ignored: AtomicU64,
}

impl Shared {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn answer(&self, delivery: Delivery) {
        let request = match delivery.decode::<TokenRequest>() {
            Ok(request) => request,
            Err(error) => {
                self.ignored.fetch_add(1, Relaxed);
                return warn!(%error, "a router's request can't be read; it is dropped");
            }
        };
        let reply = self.instance.lock().answer(self.now_ms(), &request);
        match reply {
            Some(reply) => {
                self.answered.fetch_add(1, Relaxed);
                delivery.reply(&reply);
            }
            None => {
                self.ignored.fetch_add(1, Relaxed);
            }
        }
    }

    /// What an operator asks for.
    fn show(&self, delivery: Delivery) {
        let Ok(request) = delivery.decode::<ViewRequest>() else {
            self.ignored.fetch_add(1, Relaxed);
            return;
        };
        let tables = self.instance.lock().tables(self.now_ms());
        let wanted = tables.into_iter().filter(|view| {
            view.table > request.after && request.table.is_none_or(|table| table == view.table)
        });
        delivery.reply(&ViewReply {
            tables: wanted.take(VIEWS_MAX).collect(),
        });
    }

    /// Another instance's heartbeat, or one's own.
    fn heard(&self, beat: &Heartbeat) {
        if beat.service != "gac" {
            return;
        }
        let now_ms = self.now_ms();
        self.change_ring(now_ms, |ring| match beat.draining {
            true => ring.left(beat.instance),
            false => ring.heard(now_ms, beat.instance),
        });
    }

    fn change_ring(&self, now_ms: u64, change: impl FnOnce(&mut Ring)) {
        let mut ring = self.ring.lock();
        let before: Vec<u64> = ring.instances().collect();
        change(&mut ring);
        let after: Vec<u64> = ring.instances().collect();
        drop(ring);
        if before != after {
            info!(?before, ?after, "instances came or went; tables may move");
            self.instance.lock().ring_changed(now_ms);
        }
    }

    fn numbers(&self) -> telemetry::Values {
        let tables = self.instance.lock().tables(self.now_ms());
        let reads = |of: fn(&SideView) -> Units| whole(tables.iter().map(|table| of(&table.read)));
        let writes =
            |of: fn(&SideView) -> Units| whole(tables.iter().map(|table| of(&table.write)));
        vec![
            ("tables", tables.len() as u64),
            ("instances", self.ring.lock().instances().count() as u64),
            ("answered_total", self.answered.load(Relaxed)),
            ("ignored_total", self.ignored.load(Relaxed)),
            ("read_demand_units", reads(|side| side.demand)),
            ("write_demand_units", writes(|side| side.demand)),
            ("read_share_units", reads(|side| side.shares)),
            ("write_share_units", writes(|side| side.shares)),
            ("read_debt_units", reads(|side| side.debt)),
            ("write_debt_units", writes(|side| side.debt)),
        ]
    }
}

fn whole(units: impl Iterator<Item = Units>) -> u64 {
    units.sum::<Units>().thousandths() / 1000
}

/// What the numbers for the metrics are, by name.
const WORDS: telemetry::Words = &[
    ("tables", "Tables that this instance looks after."),
    (
        "instances",
        "Instances of global admission control that are heard, this one included.",
    ),
    ("answered_total", "Requests of routers that were answered."),
    (
        "ignored_total",
        "Requests that were not answered: unreadable, old, or repeated.",
    ),
    (
        "read_demand_units",
        "Read units a second that clients want of the tables looked after here.",
    ),
    (
        "write_demand_units",
        "Write units a second that clients want of the tables looked after here.",
    ),
    (
        "read_share_units",
        "Read units a second that routers may spend of the tables looked after here.",
    ),
    (
        "write_share_units",
        "Write units a second that routers may spend of the tables looked after here.",
    ),
    (
        "read_debt_units",
        "Read units that tables were given above their rate and pay back.",
    ),
    (
        "write_debt_units",
        "Write units that tables were given above their rate and pay back.",
    ),
];

/// Starts an instance.
///
/// # Errors
/// When the bus or the health address can't be had.
pub async fn start(settings: GacSettings, mesh: Mesh) -> anyhow::Result<Running> {
    let shared = Arc::new(Shared {
        started: Instant::now(),
        instance: Mutex::new(Instance::new(settings.core(), 0)),
        ring: Mutex::default(),
        answered: AtomicU64::new(0),
        ignored: AtomicU64::new(0),
    });
    let listener = shared.clone();
    let beats = mesh
        .serve(subjects::HEALTH, None, move |delivery| {
            if let Ok(beat) = delivery.decode::<Heartbeat>() {
                listener.heard(&beat);
            }
        })
        .await?;
    let server = shared.clone();
    let subject = subjects::gac_tokens(settings.instance);
    let requests = mesh
        .serve(&subject, None, move |delivery| server.answer(delivery))
        .await?;
    let shown = shared.clone();
    let subject = subjects::gac_view(settings.instance);
    let views = mesh
        .serve(&subject, None, move |delivery| shown.show(delivery))
        .await?;
    let exported = shared.clone();
    telemetry::export("evenkeel_gac", WORDS, move || exported.numbers());
    let health = Health::default();
    let http = match settings.http {
        None => None,
        Some(address) => Some(telemetry::serve_http(address, health.clone()).await?),
    };
    let keeper = Keeper {
        heartbeat: Heartbeat {
            service: "gac".to_owned(),
            instance: settings.instance,
            zone: settings.zone.clone(),
            incarnation: mesh.identity().incarnation,
            http: settings.http.map_or(String::new(), |a| a.to_string()),
            ready: true,
            draining: false,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Heartbeat::default()
        },
        report_every: Duration::from_millis(settings.report_every_ms.max(100)),
        shared,
        mesh: mesh.clone(),
        served: vec![beats, requests, views],
        quota: TableQuota {
            instance: settings.instance,
            read_units: settings.table_read_units,
            write_units: settings.table_write_units,
        },
    }
    .start();
    // It has nothing to wait for: whatever it must know, routers tell it.
    health.ready.store(true, Relaxed);
    Ok(Running {
        keeper,
        http,
        health,
        mesh,
    })
}

/// Says that the instance is there, and what it found out.
struct Keeper {
    heartbeat: Heartbeat,
    report_every: Duration,
    shared: Arc<Shared>,
    mesh: Mesh,
    quota: TableQuota,
    /// Served until the instance stops.
    served: Vec<Subscription>,
}

impl Keeper {
    fn beat(&self) {
        let now_ms = self.shared.now_ms();
        self.shared.change_ring(now_ms, |ring| ring.expire(now_ms));
        // A lost heartbeat means nothing; the next one follows in a second.
        let _ = self.mesh.cast(subjects::HEALTH, &self.heartbeat);
    }

    fn report(&self) {
        let tables = self.shared.instance.lock().grown(self.shared.now_ms());
        // It is repeated until the tables' definitions say as much.
        let report = WarmReport {
            tables,
            quota: Some(self.quota),
        };
        if let Err(error) = self.mesh.cast(subjects::ADMIN_WARM, &report) {
            warn!(%error, "the admins can't be told of grown tables");
        }
    }
}

impl Actor for Keeper {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.beat();
        context.run_interval(BEAT_EVERY, |keeper, _| keeper.beat());
        context.run_interval(self.report_every, |keeper, _| keeper.report());
    }
}

/// Stop the keeper after a last heartbeat.
#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for Keeper {
    type Result = ();

    fn handle(&mut self, _: Stop, context: &mut Context<Self>) {
        self.served.clear();
        self.heartbeat.draining = true;
        self.heartbeat.ready = false;
        self.beat();
        context.stop();
    }
}
