//! The shell: subjects, metrics, heartbeat, and the actor that keeps the map complete.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::prelude::*;
use mesh::{Delivery, Mesh, Subscription};
use parking_lot::RwLock;
use protocol::directory::{
    CompareRequest, LookupAnswer, LookupReply, LookupRequest, Push, RepairRequest, SyncRequest,
};
use protocol::health::Heartbeat;
use protocol::subjects;
use telemetry::Health;
use telemetry::traces::{self, Answered, Record, Recorder};
use tracing::{info, warn};

use crate::hydration;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::repair;
use crate::{MemdsSettings, RouteMap};

/// Lookups that one message may hold.
const LOOKUPS_MAX: usize = 1_024;

/// The map as the handlers share it. Handlers only look up or insert; nothing waits while it holds the lock.
pub(crate) type SharedMap = Arc<RwLock<RouteMap>>;

/// A running memds node.
pub struct Running {
    keeper: Addr<Keeper>,
    http: Option<telemetry::HttpServer>,
    health: Health,
    mesh: Mesh,
}

impl Running {
    /// Says good-bye and stops.
    pub async fn stop(self) {
        self.health.ready.store(false, Ordering::Relaxed);
        // The keeper may be gone already (its system stopped): then there is nothing left to stop.
        let _ = self.keeper.send(Stop).await;
        self.mesh.drain(Duration::from_secs(1)).await;
        if let Some(http) = self.http {
            http.stop().await;
        }
    }
}

/// Starts a memds node.
///
/// # Errors
/// When the bus or the health address can't be had.
pub async fn start(settings: MemdsSettings, mesh: Mesh) -> anyhow::Result<Running> {
    let map = SharedMap::default();
    let metrics = Metrics::new(settings.instance)?;
    let health = Health::default();
    let peers = Peers::default();
    let mut subscriptions = Vec::new();

    let recorder = traces::join(&mesh).await?;
    let (m, counters) = (map.clone(), metrics.clone());
    subscriptions.push(
        mesh.serve(
            &subjects::memds_lookup(settings.instance),
            None,
            move |delivery| answer_lookups(&m, &counters, &recorder, delivery),
        )
        .await?,
    );
    let (m, counters) = (map.clone(), metrics.clone());
    subscriptions.push(
        mesh.serve(subjects::MEMDS_PUSH, None, move |delivery| {
            take_push(&m, &counters, &delivery);
        })
        .await?,
    );
    let m = map.clone();
    subscriptions.push(
        mesh.serve(
            &subjects::memds_sync(settings.instance),
            None,
            move |delivery| match delivery.decode::<SyncRequest>() {
                Ok(request) => {
                    let part = m.read().part(request.after);
                    delivery.reply(&part);
                }
                Err(error) => warn!(%error, "a sync request can't be read; it is dropped"),
            },
        )
        .await?,
    );
    let m = map.clone();
    subscriptions.push(
        mesh.serve(
            &subjects::memds_compare(settings.instance),
            None,
            move |delivery| match delivery.decode::<CompareRequest>() {
                Ok(request) => {
                    let reply = repair::compare(&m, &request);
                    delivery.reply(&reply);
                }
                Err(error) => warn!(%error, "a comparison can't be read; it is dropped"),
            },
        )
        .await?,
    );
    let (m, counters) = (map.clone(), metrics.clone());
    subscriptions.push(
        mesh.serve(
            &subjects::memds_repair(settings.instance),
            None,
            move |delivery| match delivery.decode::<RepairRequest>() {
                Ok(request) => {
                    let (news, reply) = repair::take(&m, request);
                    counters.repaired(news);
                    delivery.reply(&reply);
                }
                Err(error) => warn!(%error, "a repair can't be read; it is dropped"),
            },
        )
        .await?,
    );
    let known = peers.clone();
    let me = settings.instance;
    subscriptions.push(
        mesh.serve(subjects::HEALTH, None, move |delivery| {
            if let Ok(heartbeat) = delivery.decode::<Heartbeat>()
                && heartbeat.service == "memds"
                && heartbeat.instance != me
            {
                match heartbeat.draining {
                    true => known.gone(heartbeat.instance),
                    false => known.seen(heartbeat.instance, heartbeat.ready),
                }
            }
        })
        .await?,
    );
    let http = match settings.http {
        None => None,
        Some(address) => Some(telemetry::serve_http(address, health.clone()).await?),
    };
    let keeper = Keeper {
        heartbeat: Heartbeat {
            service: "memds".to_owned(),
            instance: settings.instance,
            zone: settings.zone.clone(),
            incarnation: mesh.identity().incarnation,
            http: settings.http.map_or(String::new(), |a| a.to_string()),
            ready: false,
            draining: false,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Heartbeat::default()
        },
        settings,
        mesh: mesh.clone(),
        map,
        metrics,
        health: health.clone(),
        peers,
        subscriptions,
        hydrating: false,
        comparing: false,
        started: Instant::now(),
    }
    .start();
    Ok(Running {
        keeper,
        http,
        health,
        mesh,
    })
}

fn answer_lookups(map: &SharedMap, metrics: &Metrics, recorder: &Recorder, delivery: Delivery) {
    let start_ns = recorder.now_ns();
    let request = match delivery.decode::<LookupRequest>() {
        Ok(request) if request.lookups.len() <= LOOKUPS_MAX => request,
        Ok(request) => {
            warn!(
                lookups = request.lookups.len(),
                "a message with too many lookups is dropped"
            );
            return;
        }
        Err(error) => {
            warn!(%error, "a lookup can't be read; it is dropped");
            return;
        }
    };
    let answers: Vec<LookupAnswer> = {
        let map = map.read();
        request
            .lookups
            .iter()
            .map(|lookup| map.lookup(lookup))
            .collect()
    };
    metrics.answered(&answers);
    // The message's trace is its own: the requests whose lookups it carries find it by its number.
    let (message, lookups) = (delivery.trace.span_id, answers.len() as u32);
    delivery.reply(&LookupReply { answers });
    if message != 0 && recorder.is_on() {
        recorder.note(Record::Answered(Answered {
            message,
            start_ns,
            end_ns: traces::now_ns(),
            lookups,
        }));
    }
}

fn take_push(map: &SharedMap, metrics: &Metrics, delivery: &Delivery) {
    match delivery.decode::<Push>() {
        Ok(push) => {
            metrics.pushed();
            map.write().push(push);
        }
        Err(error) => warn!(%error, "a membership push can't be read; it is dropped"),
    }
}

/// Keeps the map complete and the fleet informed.
struct Keeper {
    settings: MemdsSettings,
    mesh: Mesh,
    map: SharedMap,
    metrics: Metrics,
    health: Health,
    peers: Peers,
    heartbeat: Heartbeat,
    #[expect(dead_code, reason = "held so that the subjects stay served")]
    subscriptions: Vec<Subscription>,
    hydrating: bool,
    comparing: bool,
    started: Instant,
}

impl Keeper {
    fn beat(&mut self) {
        let (ready, partitions) = {
            let map = self.map.read();
            self.metrics.observe(&map);
            (map.ready(), map.partitions())
        };
        if ready && !self.heartbeat.ready {
            let took = self.started.elapsed();
            info!(partitions, ?took, "the map is ready");
            self.metrics.hydrated(took);
        }
        self.heartbeat.ready = ready;
        self.health.ready.store(ready, Ordering::Relaxed);
        // A lost heartbeat means nothing; the next one follows in a second.
        let _ = self.mesh.cast(subjects::HEALTH, &self.heartbeat);
    }

    fn hydrate(&mut self, context: &mut Context<Self>) {
        {
            let map = self.map.read();
            if self.hydrating || (map.ready() && !map.incomplete()) {
                return;
            }
        }
        self.hydrating = true;
        let work = hydration::once(
            self.mesh.clone(),
            self.map.clone(),
            self.peers.clone(),
            self.settings.instance,
            Duration::from_millis(self.settings.call_ms_max),
        );
        context.spawn(work.into_actor(self).map(|(), keeper, _| {
            keeper.hydrating = false;
            if keeper.map.read().ready() != keeper.heartbeat.ready {
                keeper.beat();
            }
        }));
    }
}

impl Keeper {
    /// Compares with the next peer; the same whatever happened since the last time (constant work).
    fn compare(&mut self, context: &mut Context<Self>) {
        if self.comparing {
            return;
        }
        let Some(peer) = self.peers.next() else {
            return;
        };
        self.comparing = true;
        let (mesh, map) = (self.mesh.clone(), self.map.clone());
        let call_max = Duration::from_millis(self.settings.call_ms_max);
        let work = async move { repair::once(&mesh, &map, peer, call_max).await };
        context.spawn(work.into_actor(self).map(move |round, keeper, _| {
            keeper.comparing = false;
            keeper.metrics.compared(&round);
            if round.repaired + round.offered > 0 {
                info!(
                    peer,
                    taken = round.repaired,
                    given = round.offered,
                    messages = round.messages,
                    "differences to a peer were repaired"
                );
            }
        }));
    }
}

impl Actor for Keeper {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.beat();
        self.hydrate(context);
        context.run_interval(Duration::from_secs(1), |keeper, _| keeper.beat());
        let every = Duration::from_millis(self.settings.hydrate_every_ms.max(10));
        context.run_interval(every, Self::hydrate);
        let every = Duration::from_millis(self.settings.compare_every_ms.max(10));
        context.run_interval(every, Self::compare);
    }
}

/// Stop the keeper after a last heartbeat.
#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for Keeper {
    type Result = ();

    fn handle(&mut self, _: Stop, context: &mut Context<Self>) {
        self.heartbeat.draining = true;
        self.heartbeat.ready = false;
        let _ = self.mesh.cast(subjects::HEALTH, &self.heartbeat);
        context.stop();
    }
}
