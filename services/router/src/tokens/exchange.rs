//! The exchange with the GAC instances: about once a second one message to each, and what they answer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use mesh::{Deadline, Mesh, MeshError, Subscription, TraceContext};
use parking_lot::Mutex;
use protocol::health::Heartbeat;
use protocol::subjects;
use protocol::tokens::{TokenReply, TokenRequest};
use tokens::Answered;
use tokio::task::JoinHandle;

use super::TableLine;

/// Time between looks at what is due.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The running exchange; ends when dropped.
pub(crate) struct Exchange {
    work: JoinHandle<()>,
    _heartbeats: Subscription,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.work.abort();
    }
}

impl Exchange {
    /// Starts it on the current runtime. An answer counts for `answer_max`.
    pub(crate) async fn start(
        line: TableLine,
        mesh: Mesh,
        answer_max: Duration,
    ) -> Result<Self, MeshError> {
        let listener = line.clone();
        let heartbeats = mesh
            .serve(subjects::HEALTH, None, move |delivery| {
                if let Ok(beat) = delivery.decode::<Heartbeat>() {
                    heard(&listener, &beat);
                }
            })
            .await?;
        let work = tokio::spawn(run(line, mesh, answer_max));
        Ok(Self {
            work,
            _heartbeats: heartbeats,
        })
    }
}

fn heard(line: &TableLine, beat: &Heartbeat) {
    if beat.service != "gac" {
        return;
    }
    let shared = line.shared();
    let mut ring = shared.ring.lock();
    match beat.draining {
        true => ring.left(beat.instance),
        false => ring.heard(shared.now_ms(), beat.instance),
    }
}

async fn run(line: TableLine, mesh: Mesh, answer_max: Duration) {
    // At most one call to an instance at a time: one that hangs is not piled upon.
    let asking = Arc::new(Mutex::new(BTreeSet::new()));
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let shared = line.shared();
        let now_ms = shared.now_ms();
        let ring = {
            let mut ring = shared.ring.lock();
            ring.expire(now_ms);
            ring.clone()
        };
        let requests = shared.shares.lock().requests(now_ms, &ring, rand::random);
        for (instance, request) in requests {
            if !asking.lock().insert(instance) {
                continue;
            }
            let (line, mesh, asking) = (line.clone(), mesh.clone(), asking.clone());
            tokio::spawn(async move {
                ask(&line, &mesh, instance, &request, answer_max).await;
                asking.lock().remove(&instance);
            });
        }
    }
}

async fn ask(
    line: &TableLine,
    mesh: &Mesh,
    instance: u64,
    request: &TokenRequest,
    answer_max: Duration,
) {
    let subject = subjects::gac_tokens(instance);
    let (deadline, trace) = (Deadline::after(answer_max), TraceContext::default());
    let answer = mesh.call::<_, TokenReply>(&subject, request, deadline, &trace);
    match answer.await {
        Ok(reply) => {
            let shared = line.shared();
            let now_ms = shared.now_ms();
            let answered = shared.shares.lock().answered(now_ms, instance, &reply);
            match answered {
                Answered::Taken => shared.taken.fetch_add(1, Relaxed),
                Answered::Unasked => shared.unasked.fetch_add(1, Relaxed),
            };
        }
        // The shares go on without it.
        Err(error) => tracing::debug!(instance, %error, "a GAC instance did not answer"),
    }
}
