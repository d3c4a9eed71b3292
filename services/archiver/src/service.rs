//! The shell: heartbeats of this instance and of others, health endpoints, metrics; starts and ends the loops.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use actix::prelude::*;
use anyhow::Context as _;
use jobs::Jobs;
use mesh::{Mesh, Subscription};
use objects::{ArchiveSettings, Objects};
use protocol::archive::SnapshotWish;
use protocol::health::Heartbeat;
use protocol::subjects;
use routing::{Client, ClientSettings};
use telemetry::Health;
use tokio::task::JoinSet;

use crate::ArchiverSettings;
use crate::desk::Desk;
use crate::drive;
use crate::retention;
use crate::source::Source;
use crate::suspects;

/// Time between heartbeats.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// Name in heartbeats.
const SERVICE: &str = "archiver";

/// A running instance.
pub struct Running {
    keeper: Addr<Keeper>,
    jobs: Jobs,
    http: Option<telemetry::HttpServer>,
    mesh: Mesh,
}

impl Running {
    /// Says good-bye and stops. What is under way is cut off: it is begun anew by whoever looks after the partition next.
    pub async fn stop(self) {
        self.jobs.stop().await;
        // The keeper may be gone already (its system stopped): then there is nothing left to stop.
        let _ = self.keeper.send(Stop).await;
        self.mesh.drain(Duration::from_secs(1)).await;
        if let Some(http) = self.http {
            http.stop().await;
        }
    }
}

/// Starts an instance. It need not wait for the store: readiness says whether that answers.
///
/// # Errors
/// When the settings cannot work, or the bus or the health address can't be had.
pub async fn start(
    settings: ArchiverSettings,
    archive: &ArchiveSettings,
    mesh: Mesh,
) -> anyhow::Result<Running> {
    settings.check()?;
    let objects = Objects::connect(archive).map_err(|why| anyhow::anyhow!("{why}"))?;
    start_over(settings, objects, mesh).await
}

/// The same, over a given store: for tests and drills.
///
/// # Errors
/// When the bus or the health address can't be had.
pub async fn start_over(
    settings: ArchiverSettings,
    objects: Objects,
    mesh: Mesh,
) -> anyhow::Result<Running> {
    let client = Client::start(mesh.clone(), ClientSettings::new(settings.zone.clone())).await?;
    let jobs = Jobs::start(
        settings.jobs.clone(),
        settings.instance,
        mesh.clone(),
        client,
        objects.clone(),
    )?;
    let source = Source::new(mesh.clone(), settings.call_ms);
    let flows = telemetry::traces::flows(&mesh);
    let desk = Arc::new(Desk::new(settings, source, objects, flows));
    let listener = desk.clone();
    let beats = mesh
        .serve(subjects::HEALTH, None, move |delivery| {
            if let Ok(beat) = delivery.decode::<Heartbeat>() {
                heard(&listener, &beat);
            }
        })
        .await?;
    let wishing = desk.clone();
    let wishes = mesh
        .serve(subjects::ARCHIVE_SNAPSHOTS, None, move |delivery| {
            if let Ok(wish) = delivery.decode::<SnapshotWish>() {
                wishing.wish(wish.partition);
            }
        })
        .await?;
    let exported = desk.clone();
    telemetry::export("evenkeel_archiver", crate::desk::WORDS, move || {
        exported.numbers()
    });
    let health = Health {
        ready: desk.store_up.clone(),
    };
    let http = match desk.settings.http {
        None => None,
        Some(address) => {
            let server = telemetry::serve_http(address, health).await;
            Some(server.with_context(|| format!("archiver.http: {address}"))?)
        }
    };
    let mut loops = JoinSet::new();
    loops.spawn(drive::watch_store(desk.clone()));
    loops.spawn(drive::survey(desk.clone()));
    loops.spawn(drive::work(desk.clone()));
    loops.spawn(suspects::condemn(desk.clone()));
    loops.spawn(retention::run(desk.clone()));
    loops.spawn(drive::report(desk.clone(), mesh.clone()));
    let settings = &desk.settings;
    let keeper = Keeper {
        heartbeat: Heartbeat {
            service: SERVICE.to_owned(),
            instance: settings.instance,
            zone: settings.zone.clone(),
            incarnation: mesh.identity().incarnation,
            http: settings.http.map_or(String::new(), |a| a.to_string()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Heartbeat::default()
        },
        desk,
        mesh: mesh.clone(),
        served: vec![beats, wishes],
        loops,
    }
    .start();
    Ok(Running {
        keeper,
        jobs,
        http,
        mesh,
    })
}

/// A heartbeat: of a storage node, of another instance, or one's own.
fn heard(desk: &Desk, beat: &Heartbeat) {
    let now_ms = desk.now_ms();
    desk.survey.lock().heard(beat, now_ms);
    if beat.service != SERVICE {
        return;
    }
    let mut ring = desk.ring.lock();
    match beat.draining {
        true => ring.left(beat.instance),
        false => ring.heard(now_ms, beat.instance),
    }
}

/// Says that the instance is there, and how far it is.
struct Keeper {
    heartbeat: Heartbeat,
    desk: Arc<Desk>,
    mesh: Mesh,
    /// Served until the instance stops.
    served: Vec<Subscription>,
    loops: JoinSet<()>,
}

impl Keeper {
    fn beat(&mut self) {
        self.desk.ring.lock().expire(self.desk.now_ms());
        self.heartbeat.ready = self.desk.store_up.load(Relaxed);
        self.heartbeat.archive = Some(self.desk.health());
        self.heartbeat.troubles = self.desk.troubles();
        // A lost heartbeat means nothing; the next one follows in a second.
        let _ = self.mesh.cast(subjects::HEALTH, &self.heartbeat);
        // The loops never end by themselves: one that did has panicked, and nothing would be archived any more.
        if !self.heartbeat.draining && self.loops.try_join_next().is_some() {
            tracing::error!("a part of the archiver is gone: ending the process");
            std::process::abort();
        }
    }
}

impl Actor for Keeper {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.beat();
        context.run_interval(BEAT_EVERY, |keeper, _| keeper.beat());
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
        self.loops.abort_all();
        self.heartbeat.draining = true;
        self.beat();
        context.stop();
    }
}
