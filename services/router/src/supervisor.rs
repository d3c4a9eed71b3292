//! The actor that watches over a router: says every second that it is there, and takes it down in order.

use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_web::dev::ServerHandle;
use mesh::Mesh;
use protocol::health::Heartbeat;
use protocol::subjects;
use telemetry::Health;

use crate::admission::Admission;

/// Time between heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often it is looked whether the last request is done.
const POLL: Duration = Duration::from_millis(20);
/// How long there must be no request before the last answers can be taken as sent.
const QUIET: Duration = Duration::from_millis(100);

/// Whether the router can find tables (it knows a memds node).
pub(crate) type Ready = Box<dyn Fn() -> bool + Send>;

/// The actor.
pub(crate) struct Supervisor {
    pub(crate) mesh: Mesh,
    pub(crate) zone: String,
    pub(crate) http: String,
    pub(crate) server: ServerHandle,
    pub(crate) admission: Admission,
    pub(crate) health: Health,
    pub(crate) ready: Ready,
    pub(crate) drain_max: Duration,
}

/// Take the router down: new connections are refused, requests under way finish (bounded).
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Drain;

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.beat();
        context.run_interval(HEARTBEAT, |supervisor, _| supervisor.beat());
    }
}

impl Supervisor {
    fn beat(&self) {
        let draining = self.admission.draining();
        let ready = !draining && (self.ready)();
        self.health
            .ready
            .store(ready, std::sync::atomic::Ordering::Relaxed);
        let identity = self.mesh.identity();
        let heartbeat = Heartbeat {
            service: "router".to_owned(),
            instance: identity.instance,
            zone: self.zone.clone(),
            incarnation: identity.incarnation,
            http: self.http.clone(),
            ready,
            draining,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Heartbeat::default()
        };
        if let Err(error) = self.mesh.cast(subjects::HEALTH, &heartbeat) {
            tracing::debug!(%error, "heartbeat not sent");
        }
    }
}

impl Handler<Drain> for Supervisor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        self.admission.start_draining();
        self.beat();
        let (server, admission) = (self.server.clone(), self.admission.clone());
        let (mesh, drain_max) = (self.mesh.clone(), self.drain_max);
        Box::pin(async move {
            let deadline = Instant::now() + drain_max;
            // the listener closes at once; waiting for idle keep-alive connections as well would take all of the time
            let stopped = server.stop(true);
            let finished = async {
                let mut quiet_since = Instant::now();
                while Instant::now() < deadline && quiet_since.elapsed() < QUIET {
                    tokio::time::sleep(POLL).await;
                    if admission.requests() > 0 {
                        quiet_since = Instant::now();
                    }
                }
            };
            futures::future::select(Box::pin(stopped), Box::pin(finished)).await;
            let left = admission.requests();
            if left > 0 {
                tracing::warn!(
                    left,
                    "requests were still under way when the time to drain was over"
                );
            }
            mesh.drain(
                deadline
                    .saturating_duration_since(Instant::now())
                    .min(Duration::from_secs(1)),
            )
            .await;
            System::current().stop();
        })
    }
}
