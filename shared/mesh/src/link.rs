//! One connection to NATS, on a thread of its own. Owns the connection's life: connecting, writing what is queued,
//! subscribing, reconnecting. Never decodes bodies, and nobody ever waits for it while holding a lock.
//!
//! A thread a connection, since a runtime shared with a busy service would delay heartbeats; all of a connection's tasks
//! run on it without waking other threads. Or a host: the thread whose work it is to answer what comes and to say what goes, so that
//! neither changes threads.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions, Event, Message, ServerAddr, StatusCode};
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::bus_settings::{BusSettings, Identity};
use crate::calls::Calls;
use crate::chunk::{Assembler, CHUNK_ABOVE_BYTES};
use crate::delivery::Handler;
use crate::envelope::{Head, PROTOCOL_VERSION, encode_head};
use crate::error::MeshError;
use crate::inbound::{INBOX_PREFIX, Inbound};
use crate::outbox::{Outgoing, Ready, STALE_AFTER};
use crate::stats::Stats;

/// Messages that one subscription may have waiting; beyond it NATS messages are dropped (and counted).
const SUBSCRIPTION_MESSAGES_MAX: usize = 8_192;
/// Messages handed to the client library but not written yet. Small: what waits shall wait in our queues, where it is
/// bounded in bytes and where frames still join messages.
const CLIENT_MESSAGES_MAX: usize = 64;
/// Orders to the thread that wait.
const COMMANDS_MAX: usize = 256;
/// A silent server is given up after about three of these.
const PING_EVERY: Duration = Duration::from_secs(2);
/// Between attempts to connect.
const RETRY_MS_MAX: u64 = 500;
/// An ended subscription is read for at most so long without a message.
const LINGER_MAX: Duration = Duration::from_secs(1);
/// For the server to confirm that a subscription is in place.
const CONFIRM_MAX: Duration = Duration::from_secs(5);

/// What a link is told to do.
pub(crate) enum Command {
    /// Subscribe.
    Serve(Service),
    /// Say when everything queued has been written to the socket.
    Drain { done: oneshot::Sender<()> },
}

/// A subject to be served.
pub(crate) struct Service {
    pub(crate) subject: String,
    pub(crate) queue_group: Option<String>,
    pub(crate) handler: Handler,
    /// Ends the subscription.
    pub(crate) ended: oneshot::Receiver<()>,
    /// Told when the subscription stands.
    pub(crate) done: oneshot::Sender<Result<(), MeshError>>,
}

/// Handle of the thread; dropping it closes the connection.
pub(crate) struct Link {
    pub(crate) outgoing: Arc<Outgoing>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) connection: Arc<ConnectionState>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.outgoing.close();
    }
}

/// Whether the server can be reached.
#[derive(Default)]
pub(crate) struct ConnectionState {
    connected: AtomicBool,
    changed: Notify,
}

impl ConnectionState {
    pub(crate) fn connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }
    fn set(&self, connected: bool) {
        self.connected.store(connected, Ordering::Release);
        self.changed.notify_waiters();
    }
}

impl Link {
    /// Start the thread. It connects in its own time; `up` is told how the first attempts went, if it is asked for
    /// (then the link ends when they failed; otherwise it tries forever). With a host it runs there, on one thread as well.
    pub(crate) fn start(
        lane: &'static str,
        host: Option<&Handle>,
        settings: &BusSettings,
        identity: &Identity,
        calls: Arc<Calls>,
        stats: Arc<Stats>,
        up: Option<oneshot::Sender<Result<(), MeshError>>>,
    ) -> Result<Self, MeshError> {
        let inbox = format!("{INBOX_PREFIX}{}", uuid::Uuid::new_v4().simple());
        let reply = format!("{inbox}.r");
        let head = encode_head(&Head {
            version: PROTOCOL_VERSION,
            instance: identity.instance,
            incarnation: identity.incarnation,
            reply: Some(&reply),
            ..Head::default()
        })
        .map_err(MeshError::Settings)?;
        let outgoing = Outgoing::new(head, stats.clone());
        let connection = Arc::new(ConnectionState::default());
        let (commands, received_commands) = mpsc::channel(COMMANDS_MAX);
        let inbound = Inbound {
            calls,
            outgoing: outgoing.clone(),
            stats,
            assembler: Mutex::new(Assembler::default()),
        };
        let worker = Arc::new(Worker {
            inbox,
            inbound,
            connection: connection.clone(),
            barriers: Mutex::default(),
        });
        let (servers, options) = options(settings, identity, lane, &worker)?;
        let patience = up
            .is_some()
            .then(|| Duration::from_millis(settings.connect_ms_max));
        let run = worker.run(servers, options, patience, up, received_commands);
        match host {
            Some(host) => drop(host.spawn(run)),
            None => {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(|error| {
                        MeshError::Settings(format!("cannot start a runtime: {error}"))
                    })?;
                thread::Builder::new()
                    .name(format!("mesh-{lane}"))
                    .spawn(move || runtime.block_on(run))
                    .map_err(|error| {
                        MeshError::Settings(format!("cannot start a thread: {error}"))
                    })?;
            }
        }
        Ok(Self {
            outgoing,
            commands,
            connection,
        })
    }
}

fn options(
    settings: &BusSettings,
    identity: &Identity,
    lane: &str,
    worker: &Arc<Worker>,
) -> Result<(Vec<ServerAddr>, ConnectOptions), MeshError> {
    let mut servers = Vec::with_capacity(settings.urls.len());
    for url in &settings.urls {
        let server = url
            .parse::<ServerAddr>()
            .map_err(|error| MeshError::Settings(format!("url {url:?}: {error}")))?;
        servers.push(server);
    }
    if servers.is_empty() {
        return Err(MeshError::Settings("urls is empty".to_owned()));
    }
    let weak = Arc::downgrade(worker);
    let mut options = ConnectOptions::new()
        .name(format!("{}-{}-{lane}", identity.service, identity.instance))
        // The nearest server is named first. In any other order, the loss of one zone or link would hit processes of all zones.
        .retain_servers_order()
        .subscription_capacity(SUBSCRIPTION_MESSAGES_MAX)
        .client_capacity(CLIENT_MESSAGES_MAX)
        .ping_interval(PING_EVERY)
        .connection_timeout(Duration::from_secs(2))
        .reconnect_delay_callback(|attempt| {
            Duration::from_millis((attempt as u64).saturating_mul(25).min(RETRY_MS_MAX))
        })
        .event_callback(move |event| {
            let worker = weak.clone();
            async move {
                if let Some(worker) = worker.upgrade() {
                    worker.notice(&event);
                }
            }
        });
    match (&settings.user, &settings.password) {
        (Some(user), Some(password)) => {
            options = options.user_and_password(user.clone(), password.clone());
        }
        (None, None) => {}
        _ => {
            let reason = "user and password belong together".to_owned();
            return Err(MeshError::Settings(reason));
        }
    }
    if let Some(file) = &settings.tls_ca_file {
        options = options.add_root_certificates(file.into()).require_tls(true);
    }
    match (&settings.tls_certificate_file, &settings.tls_key_file) {
        (Some(certificate), Some(key)) => {
            options = options.add_client_certificate(certificate.into(), key.into());
        }
        (None, None) => {}
        _ => {
            let reason = "tls_certificate_file and tls_key_file belong together".to_owned();
            return Err(MeshError::Settings(reason));
        }
    }
    // several crates bring rustls with different providers: choose one, once; a second choice is refused and ignored
    let _ = async_nats::rustls::crypto::ring::default_provider().install_default();
    Ok((servers, options))
}

/// What the thread works with.
struct Worker {
    inbox: String,
    inbound: Inbound,
    connection: Arc<ConnectionState>,
    /// Marks that we sent to ourselves: once one is back, the server has processed everything sent before it.
    barriers: Mutex<HashMap<u64, oneshot::Sender<()>>>,
}

impl Worker {
    async fn run(
        self: Arc<Self>,
        servers: Vec<ServerAddr>,
        options: ConnectOptions,
        patience: Option<Duration>,
        up: Option<oneshot::Sender<Result<(), MeshError>>>,
        mut commands: mpsc::Receiver<Command>,
    ) {
        let ready = match self.connect(&servers, options, patience).await {
            Ok(client) => self.open_inbox(&client).await.map(|()| client),
            Err(error) => Err(error),
        };
        let client = match ready {
            Ok(client) => client,
            Err(error) => {
                self.inbound.outgoing.close();
                match up {
                    Some(up) => drop(up.send(Err(error))),
                    None => tracing::error!(%error, "a connection to the bus ended"),
                }
                return;
            }
        };
        if let Some(up) = up {
            let _ = up.send(Ok(()));
        }
        let writer = tokio::spawn(self.clone().write(client.clone()));
        let mut served = 0_u64;
        while let Some(command) = commands.recv().await {
            match command {
                Command::Serve(service) => {
                    served += 1;
                    tokio::spawn(self.clone().serve(client.clone(), service, served));
                }
                Command::Drain { done } => {
                    tokio::spawn(self.clone().drain(client.clone(), done));
                }
            }
        }
        // the handle is gone: what is queued was either drained before or is not wanted
        writer.abort();
        self.connection.set(false);
    }

    async fn connect(
        &self,
        servers: &[ServerAddr],
        options: ConnectOptions,
        patience: Option<Duration>,
    ) -> Result<Client, MeshError> {
        let give_up = patience.map(|patience| Instant::now() + patience);
        let mut pause_ms = 25;
        loop {
            if self.inbound.outgoing.closed() {
                return Err(MeshError::Closed);
            }
            match options.clone().connect(servers).await {
                Ok(client) => {
                    self.connection.set(true);
                    if client.max_payload() < CHUNK_ABOVE_BYTES + 1024 {
                        let reason = format!(
                            "max_payload of nats-server is {}; it must be at least 1 MiB",
                            client.max_payload()
                        );
                        return Err(MeshError::Settings(reason));
                    }
                    return Ok(client);
                }
                Err(error) if give_up.is_some_and(|end| Instant::now() >= end) => {
                    let urls: Vec<_> = servers
                        .iter()
                        .map(|server| format!("{}:{}", server.host(), server.port()))
                        .collect();
                    let reason = error.to_string();
                    return Err(MeshError::Unreachable {
                        urls: urls.join(", "),
                        reason,
                    });
                }
                Err(error) => tracing::debug!(%error, "cannot connect to the bus yet"),
            }
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            pause_ms = (pause_ms * 2).min(RETRY_MS_MAX);
        }
    }

    /// Events of the client library.
    fn notice(&self, event: &Event) {
        match event {
            Event::Connected => {
                tracing::info!("connected to the bus");
                self.connection.set(true);
            }
            Event::Disconnected => {
                tracing::warn!("lost the connection to the bus; reconnecting");
                self.inbound.stats.disconnects.one();
                self.connection.set(false);
            }
            Event::SlowConsumer(_) => self.inbound.stats.slow_consumer_dropped.one(),
            Event::ServerError(error) => tracing::warn!(%error, "the bus refuses"),
            Event::ClientError(error) => tracing::debug!(%error, "bus client"),
            Event::LameDuckMode | Event::Draining | Event::Closed => {
                tracing::info!(%event, "bus");
            }
        }
    }

    async fn open_inbox(self: &Arc<Self>, client: &Client) -> Result<(), MeshError> {
        let subject = format!("{}.>", self.inbox);
        let mut inbox = client
            .subscribe(subject)
            .await
            .map_err(|_| MeshError::Closed)?;
        let worker = self.clone();
        tokio::spawn(async move {
            while let Some(message) = inbox.next().await {
                worker.receive_in_inbox(message);
            }
        });
        self.confirm(client, 0).await;
        Ok(())
    }

    /// `<inbox>.r`: answers. `<inbox>.n.<queue>.<message>`: nobody got that message. `<inbox>.b.<n>`: own marks.
    fn receive_in_inbox(&self, message: Message) {
        let kind = message
            .subject
            .get(self.inbox.len() + 1..)
            .unwrap_or_default();
        let mut tokens = kind.split('.');
        match tokens.next() {
            Some("r") => self.inbound.receive(message.payload, None),
            Some("n") if message.status == Some(StatusCode::NO_RESPONDERS) => {
                let mut number = || tokens.next()?.parse::<u64>().ok();
                if let (Some(queue), Some(message)) = (number(), number()) {
                    self.inbound.calls.refuse_route((queue, message));
                }
            }
            Some("b") => {
                let number = tokens.next().and_then(|token| token.parse::<u64>().ok());
                let barrier = number.and_then(|number| self.barriers.lock().remove(&number));
                if let Some(barrier) = barrier {
                    let _ = barrier.send(());
                }
            }
            _ => self.inbound.stats.malformed_dropped.one(),
        }
    }

    /// Resolves when the server has processed everything that was sent before.
    async fn confirm(&self, client: &Client, number: u64) {
        let (sender, back) = oneshot::channel();
        self.barriers.lock().insert(number, sender);
        let subject = format!("{}.b.{number}", self.inbox);
        let sent = client.publish(subject, bytes::Bytes::new()).await;
        let confirmed = match sent {
            Ok(()) => matches!(tokio::time::timeout(CONFIRM_MAX, back).await, Ok(Ok(()))),
            Err(_) => false,
        };
        self.barriers.lock().remove(&number);
        // not confirmed: the connection broke meanwhile; the library subscribes again when it is back
        if !confirmed {
            tracing::warn!("a subscription was not confirmed in time");
        }
    }

    /// One subscription, from beginning to end.
    async fn serve(self: Arc<Self>, client: Client, service: Service, number: u64) {
        let Service {
            subject,
            queue_group,
            handler,
            mut ended,
            done,
        } = service;
        let subscribed = match queue_group {
            Some(group) => client.queue_subscribe(subject, group).await,
            None => client.subscribe(subject).await,
        };
        let Ok(mut messages) = subscribed else {
            let _ = done.send(Err(MeshError::Closed));
            return;
        };
        let worker = self.clone();
        tokio::spawn(async move {
            worker.confirm(&client, number).await;
            let _ = done.send(Ok(()));
        });
        loop {
            tokio::select! {
                biased;
                // resolves when the subscription is dropped
                _ = &mut ended => break,
                message = messages.next() => match message {
                    Some(message) => self.inbound.receive(message.payload, Some(&handler)),
                    None => return,
                },
            }
        }
        drop(handler);
        // What the server sent before it heard of the end is refused, so that callers try elsewhere at once.
        if messages.drain().await.is_ok() {
            while let Ok(Some(message)) = tokio::time::timeout(LINGER_MAX, messages.next()).await {
                self.inbound.receive(message.payload, None);
            }
        }
    }

    /// Send what is queued, queue by queue in turn, one bus message at a time.
    async fn write(self: Arc<Self>, client: Client) {
        let outgoing = &self.inbound.outgoing;
        while !outgoing.closed() {
            // lets whatever is ready to run now (more callers, answers) join the messages
            tokio::task::yield_now().await;
            let Some(outbox) = outgoing.next_scheduled() else {
                outgoing.work.notified().await;
                continue;
            };
            self.wait_connected().await;
            if let Some(ready) = outbox.take() {
                let bytes = ready.payload.len();
                self.send(&client, outbox.subject.clone(), ready).await;
                outgoing.done_with(bytes);
            }
        }
    }

    async fn wait_connected(&self) {
        while !self.connection.connected() {
            // checked again after a while, so that a change just before waiting is not missed
            let changed = self.connection.changed.notified();
            let _ = tokio::time::timeout(Duration::from_millis(20), changed).await;
        }
    }

    async fn send(&self, client: &Client, subject: async_nats::Subject, ready: Ready) {
        let stats = &self.inbound.stats;
        if ready.queued_at.elapsed() > STALE_AFTER {
            // Late is worse than lost: the other side would act on old news. Never sent, so never executed.
            stats.stale_dropped.add(ready.frames);
            if let Some(route) = ready.route {
                self.inbound.calls.refuse_route(route);
            }
            return;
        }
        stats.messages_sent.one();
        stats.bytes_sent.add(ready.payload.len() as u64);
        let sent = match ready.route {
            Some((queue, message)) => {
                let reply = format!("{}.n.{queue}.{message}", self.inbox);
                client
                    .publish_with_reply(subject, reply, ready.payload)
                    .await
            }
            None => client.publish(subject, ready.payload).await,
        };
        if let Err(error) = sent {
            tracing::warn!(%error, "cannot send on the bus");
        }
    }

    async fn drain(self: Arc<Self>, client: Client, done: oneshot::Sender<()>) {
        let outgoing = &self.inbound.outgoing;
        while outgoing.queued_bytes() > 0 && !outgoing.closed() {
            let emptied = outgoing.emptied.notified();
            let _ = tokio::time::timeout(Duration::from_millis(20), emptied).await;
        }
        let _ = client.flush().await;
        let _ = done.send(());
    }
}
