//! The handle that services hold. Owns the choice of transport; the transports own the rest.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::bus_settings::{BusSettings, Identity, SenderId};
use crate::calls::Calls;
use crate::deadline::{Deadline, now_unix_ms};
use crate::delivery::{Delivery, Handler, decode};
use crate::envelope::{Envelope, FRAME_BYTES_MAX, Kind, encode_frame};
use crate::error::{CallError, CastError, MeshError};
use crate::inbound::is_subject;
use crate::link::{Command, Service};
use crate::local::{LocalBus, LocalSubscription, Outbound};
use crate::nats::Nats;
use crate::outbox::{NotQueued, with_scratch};
use crate::stats::Stats;
use crate::trace_context::{TraceContext, TraceParent};

/// A cast is of no use to anyone after this; generous, since it compares clocks of two machines.
const CAST_EXPIRES_MS: u64 = 30_000;

/// A cheap handle to the bus; clones are the same participant. Over NATS the connections close with the last handle.
#[derive(Clone)]
pub struct Mesh {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Identity,
    succeeds_the_dead: bool,
    transport: Transport,
}

enum Transport {
    Nats(Box<Nats>),
    Local(LocalBus),
}

/// A served subject; dropping it ends the subscription (what was already taken off the wire is still handled).
#[must_use = "dropping it ends the subscription"]
pub struct Subscription {
    _ends: Ends,
}

enum Ends {
    Nats { _ended: oneshot::Sender<()> },
    Local { _subscription: LocalSubscription },
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesh")
            .field("identity", &self.inner.identity)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

impl Mesh {
    /// Join the bus over NATS. Tries for `connect_ms_max`; once connected, lost connections come back by themselves.
    pub async fn connect(settings: &BusSettings, identity: Identity) -> Result<Mesh, MeshError> {
        let nats = Nats::connect(settings, identity.clone()).await?;
        let transport = Transport::Nats(Box::new(nats));
        Ok(Self {
            inner: Arc::new(Inner {
                identity,
                succeeds_the_dead: false,
                transport,
            }),
        })
    }

    /// Join an in-process bus.
    pub fn local(bus: &LocalBus, identity: Identity) -> Mesh {
        let succeeds_the_dead = bus.shared.join(&identity);
        let transport = Transport::Local(bus.clone());
        Self {
            inner: Arc::new(Inner {
                identity,
                succeeds_the_dead,
                transport,
            }),
        }
    }

    /// Who we are.
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// Whether everybody of an earlier life of this mesh is dead for certain: this process is the whole mesh and holds its lock, and this is
    /// the first participant of its service and instance in it. What such a one finds promised on its disk was promised to the dead, and
    /// it need not wait for anybody's lease. Never over NATS, where nobody can know that.
    pub fn succeeds_the_dead(&self) -> bool {
        self.inner.succeeds_the_dead
    }

    /// Counters, for export. In-process participants share those of their bus.
    pub fn stats(&self) -> &Arc<Stats> {
        match &self.inner.transport {
            Transport::Nats(nats) => &nats.stats,
            Transport::Local(bus) => &bus.shared.stats,
        }
    }

    /// Lets the connection for replication (subjects that end with `.repl`) live on this runtime, which must have one thread, instead of on
    /// a thread of its own: for a service where one thread does all that such messages ask for, so that neither what it hears nor what
    /// it says changes threads. The connection ends with the runtime. To be called before the first use of such a subject: later, and in
    /// process, it does nothing.
    pub fn host_replication(&self, runtime: Handle) {
        if let Transport::Nats(nats) = &self.inner.transport {
            // A second host is one too many: the first stays.
            let _ = nats.replication_host.set(runtime);
        }
    }

    /// Whether all open connections stand at the moment (in process: always).
    pub fn connected(&self) -> bool {
        match &self.inner.transport {
            Transport::Nats(nats) => nats.links().all(|link| link.connection.connected()),
            Transport::Local(_) => true,
        }
    }

    /// Ask whoever serves `subject`; the first answer counts. Dropping the future forgets the call.
    pub async fn call<Q: Serialize + ?Sized, R: DeserializeOwned>(
        &self,
        subject: &str,
        request: &Q,
        deadline: Deadline,
        trace: &TraceContext,
    ) -> Result<R, CallError> {
        if !is_subject(subject) {
            return Err(CallError::Malformed(format!("not a subject: {subject:?}")));
        }
        let remaining = deadline.remaining();
        if remaining.is_zero() {
            self.stats().calls_timed_out.one();
            return Err(CallError::TimedOut);
        }
        let calls = self.calls();
        let open = calls.open()?;
        // monotonic from here on: the wall clock may jump
        let expires = Instant::now() + remaining;
        let receiver = match &self.inner.transport {
            Transport::Nats(nats) => {
                let mut traceparent = TraceParent::room();
                let envelope = Envelope {
                    kind: Kind::Call.code(),
                    correlation: open.correlation,
                    deadline_unix_ms: deadline.unix_ms(),
                    traceparent: trace.text(&mut traceparent),
                    ..Envelope::default()
                };
                let mut receiver = None;
                with_scratch(|frame| {
                    encode_frame(frame, &envelope, request).map_err(CallError::Malformed)?;
                    let mut expect = |route| {
                        receiver = Some(calls.insert(open.correlation, expires, route));
                    };
                    self.queue(nats, subject, frame, deadline.unix_ms(), Some(&mut expect))
                        .map_err(CallError::from)
                })?;
                receiver.ok_or(CallError::Closed)?
            }
            Transport::Local(bus) => {
                let body = encode_local(request).map_err(CallError::Malformed)?;
                let receiver = calls.insert(open.correlation, expires, (0, 0));
                let message = Outbound {
                    subject,
                    sender: self.sender(),
                    deadline: Some(deadline),
                    trace,
                    body,
                    correlation: Some(open.correlation),
                };
                if !bus.shared.send(&message) {
                    bus.shared.stats.calls_without_responder.one();
                    return Err(CallError::NoResponders);
                }
                receiver
            }
        };
        let body = receiver.await.map_err(|_| CallError::Closed)??;
        decode(&body).map_err(|error| CallError::Malformed(error.to_string()))
    }

    /// Send one way; never blocks. `Ok` says that it was queued, not that anybody got it.
    pub fn cast<Q: Serialize + ?Sized>(&self, subject: &str, message: &Q) -> Result<(), CastError> {
        if !is_subject(subject) {
            return Err(CastError::Malformed(format!("not a subject: {subject:?}")));
        }
        match &self.inner.transport {
            Transport::Nats(nats) => {
                let deadline_unix_ms = now_unix_ms() + CAST_EXPIRES_MS;
                let envelope = Envelope {
                    kind: Kind::Cast.code(),
                    deadline_unix_ms,
                    ..Envelope::default()
                };
                with_scratch(|frame| {
                    encode_frame(frame, &envelope, message).map_err(CastError::Malformed)?;
                    self.queue(nats, subject, frame, deadline_unix_ms, None)
                        .map_err(CastError::from)
                })
            }
            Transport::Local(bus) => {
                bus.shared.send(&Outbound {
                    subject,
                    sender: self.sender(),
                    deadline: None,
                    trace: &TraceContext::default(),
                    body: encode_local(message).map_err(CastError::Malformed)?,
                    correlation: None,
                });
                Ok(())
            }
        }
    }

    /// Handle what is sent to `subject`; with a queue group, one member of it gets each message. Returns once the
    /// subscription stands. The handler must not block and must hold no lock while it sends: it runs on the bus' thread
    /// or, in process, on the sender's.
    pub async fn serve(
        &self,
        subject: &str,
        queue_group: Option<&str>,
        handler: impl Fn(Delivery) + Send + Sync + 'static,
    ) -> Result<Subscription, MeshError> {
        for name in std::iter::once(subject).chain(queue_group) {
            if !is_subject(name) {
                return Err(MeshError::Subject(name.to_owned()));
            }
        }
        let handler: Handler = Arc::new(handler);
        let ends = match &self.inner.transport {
            Transport::Nats(nats) => {
                let (end, ended) = oneshot::channel();
                let (done, is_done) = oneshot::channel();
                let command = Command::Serve(Service {
                    subject: subject.to_owned(),
                    queue_group: queue_group.map(str::to_owned),
                    handler,
                    ended,
                    done,
                });
                let link = nats.link(subject).ok_or(MeshError::Closed)?;
                link.commands
                    .send(command)
                    .await
                    .map_err(|_| MeshError::Closed)?;
                is_done.await.map_err(|_| MeshError::Closed)??;
                Ends::Nats { _ended: end }
            }
            Transport::Local(bus) => Ends::Local {
                _subscription: bus.shared.serve(subject, queue_group, handler),
            },
        };
        Ok(Subscription { _ends: ends })
    }

    /// Wait until everything queued has been written to the sockets, at most so long.
    pub async fn drain(&self, within: Duration) {
        let Transport::Nats(nats) = &self.inner.transport else {
            return;
        };
        let mut drained = Vec::new();
        for link in nats.links() {
            let (done, is_done) = oneshot::channel();
            if link.commands.try_send(Command::Drain { done }).is_ok() {
                drained.push(is_done);
            }
        }
        let all = async move {
            for is_done in drained {
                let _ = is_done.await;
            }
        };
        tokio::select! {
            () = all => {}
            () = tokio::time::sleep(within) => tracing::warn!("the bus was not drained in time"),
        }
    }

    fn calls(&self) -> &Arc<Calls> {
        match &self.inner.transport {
            Transport::Nats(nats) => &nats.calls,
            Transport::Local(bus) => &bus.shared.calls,
        }
    }

    fn sender(&self) -> SenderId {
        let Identity {
            instance,
            incarnation,
            ..
        } = self.inner.identity;
        SenderId {
            instance,
            incarnation,
        }
    }

    fn queue(
        &self,
        nats: &Nats,
        subject: &str,
        frame: &[u8],
        deadline_unix_ms: u64,
        expect: Option<&mut dyn FnMut((u64, u64))>,
    ) -> Result<(), NotQueued> {
        let link = nats.link(subject).ok_or(NotQueued::Closed)?;
        let outbox = link.outgoing.outbox(subject);
        let queued = outbox.and_then(|outbox| outbox.push(frame, deadline_unix_ms, expect));
        if queued == Err(NotQueued::Full) {
            nats.stats.overloaded.one();
        }
        queued
    }
}

fn encode_local<T: Serialize + ?Sized>(body: &T) -> Result<bytes::Bytes, String> {
    let encoded = rmp_serde::to_vec_named(body).map_err(|error| error.to_string())?;
    if encoded.len() > FRAME_BYTES_MAX {
        return Err(format!(
            "{} bytes are more than a frame may have",
            encoded.len()
        ));
    }
    Ok(encoded.into())
}

impl From<NotQueued> for CallError {
    fn from(reason: NotQueued) -> Self {
        match reason {
            NotQueued::Full => Self::Overloaded,
            NotQueued::Closed => Self::Closed,
        }
    }
}

impl From<NotQueued> for CastError {
    fn from(reason: NotQueued) -> Self {
        match reason {
            NotQueued::Full => Self::Overloaded,
            NotQueued::Closed => Self::Closed,
        }
    }
}
