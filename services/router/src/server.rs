//! Starting and stopping a router. The HTTP server and the supervisor live in an actix system on a thread of their own, so that
//! a router can be started from any runtime.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix::prelude::*;
use actix_web::http::KeepAlive;
use actix_web::{App as HttpApp, HttpServer, web};
use anyhow::Context;
use mesh::{Mesh, MeshError, Subscription};
use parking_lot::Mutex;
use protocol::subjects;
use routing::{Client, ClientSettings};
use telemetry::{Health, HttpServer as HealthServer};
use tokio::sync::oneshot;

use crate::access::Policies;
use crate::admission::Admission;
use crate::auth::Keys;
use crate::backend::{Backend, MeshBackend};
use crate::http::{App, handle};
use crate::outcomes::{Outcomes, Reporter, Watched};
use crate::settings::RouterSettings;
use crate::supervisor::{Drain, Ready, Supervisor};
use crate::tokens::{self, Exchange, Limited, TableLine};
use crate::transact::Recovery;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 2048;
/// Between two orders to forget all routes.
const FORGET_EVERY_MIN: Duration = Duration::from_secs(1);

/// A running router.
pub struct Running {
    address: SocketAddr,
    supervisor: Addr<Supervisor>,
    thread: Option<JoinHandle<()>>,
    health: Option<HealthServer>,
    /// What the router hears besides its clients' requests.
    listening: Vec<Subscription>,
    /// Ends with the router.
    exchange: Option<Exchange>,
    /// Same.
    recovery: Option<Recovery>,
    /// Likewise.
    reporter: Option<Reporter>,
}

impl Running {
    /// Address of the DynamoDB endpoint (the port that was drawn, if 0 was asked for).
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Drains and stops: no new connections, requests under way finish (bounded), then everything is gone.
    pub async fn stop(mut self) {
        // an error means that the system is gone already
        if self.supervisor.send(Drain).await.is_err() {
            tracing::debug!("the router had stopped before");
        }
        if let Some(thread) = self.thread.take() {
            // it ends right after the drain; joining it must not block the caller's runtime
            let joined = tokio::task::spawn_blocking(move || thread.join());
            if !matches!(joined.await, Ok(Ok(()))) {
                tracing::error!("the router's thread panicked");
            }
        }
        self.listening.clear();
        drop((self.exchange.take(), self.reporter.take()));
        drop(self.recovery.take());
        if let Some(health) = self.health.take() {
            health.stop().await;
        }
    }
}

/// Starts a router on the bus; it listens when this returns. An error names the address or the file that is to blame.
pub async fn start(settings: RouterSettings, mesh: Mesh) -> anyhow::Result<Running> {
    telemetry::traces::join(&mesh)
        .await
        .context("cannot trace requests")?;
    let client = Client::start(
        mesh.clone(),
        ClientSettings {
            calls_in_flight_max: settings.calls_in_flight_max,
            region: settings.arn_region().to_owned(),
            ..ClientSettings::new(settings.zone.as_str())
        },
    )
    .await
    .context("cannot start the routing client")?;
    let forgetting = forget_when_told(&mesh, client.clone())
        .await
        .context("cannot listen to orders to forget routes")?;
    let directory = client.clone();
    let ready: Ready = Box::new(move || directory.has_directory());
    let routes = client.clone();
    telemetry::export("evenkeel_router_routes", WORDS, move || {
        route_numbers(&routes)
    });
    let outcomes = Outcomes::new();
    outcomes.export();
    let reporter = outcomes.reporter(mesh.clone(), settings.zone.clone());
    let storage = MeshBackend {
        mesh: mesh.clone(),
        client,
    };
    let recovery = Recovery::start(&mesh, storage.clone(), unix_ms)
        .await
        .context("cannot listen to reports of stalled transactions")?;
    if !settings.tokens.enforced {
        tracing::warn!("tables are not held to their throughput (router.tokens.enforced)");
        let backend = Watched {
            backend: storage,
            outcomes,
        };
        let mut running = start_with(settings, mesh, backend, ready).await?;
        running.reporter = Some(reporter);
        running.listening.push(forgetting);
        running.recovery = Some(recovery);
        return Ok(running);
    }
    let identity = mesh.identity();
    let shares = settings.tokens.core();
    let line = TableLine::new(
        shares,
        settings.instance,
        identity.incarnation,
        settings.arn_region(),
    );
    let answer_max = Duration::from_millis(shares.answer_ms_max);
    let exchange = Exchange::start(line.clone(), mesh.clone(), answer_max)
        .await
        .context("cannot start the exchange with GAC")?;
    let exported = line.clone();
    telemetry::export("evenkeel_router_tokens", tokens::WORDS, move || {
        exported.numbers()
    });
    let limited = Limited {
        backend: storage,
        line,
    };
    let backend = Watched {
        backend: limited,
        outcomes,
    };
    let mut running = start_with(settings, mesh, backend, ready).await?;
    running.reporter = Some(reporter);
    running.exchange = Some(exchange);
    running.listening.push(forgetting);
    running.recovery = Some(recovery);
    Ok(running)
}

/// What the numbers of routes are, by name.
const WORDS: telemetry::Words = &[
    (
        "hits_total",
        "Requests whose partition was found in the cache of routes.",
    ),
    ("misses_total", "Requests that waited for a lookup."),
    (
        "lookups_total",
        "Lookups asked of memds, one for each request's table and partition, hit or miss.",
    ),
    (
        "lookup_messages_total",
        "Messages to memds that carried these lookups.",
    ),
    (
        "lookups_dropped_total",
        "Lookups that were not sent: too many waited, or no memds was heard.",
    ),
    ("tables", "Tables in the cache of routes."),
    ("partitions", "Partitions in the cache of routes."),
    (
        "calls_in_flight",
        "Calls to storage nodes that wait for an answer.",
    ),
];

fn route_numbers(client: &Client) -> telemetry::Values {
    let stats = client.stats();
    vec![
        ("hits_total", stats.hits),
        ("misses_total", stats.misses),
        ("lookups_total", stats.lookups),
        ("lookup_messages_total", stats.lookup_messages),
        ("lookups_dropped_total", stats.lookups_dropped),
        ("tables", stats.tables),
        ("partitions", stats.partitions),
        ("calls_in_flight", stats.calls_in_flight),
    ]
}

/// Empties the route cache when the operator orders it, at most once a second: an order that comes too soon is dropped.
async fn forget_when_told(mesh: &Mesh, client: Client) -> Result<Subscription, MeshError> {
    let last: Mutex<Option<Instant>> = Mutex::default();
    let forget = move |_| {
        let mut last = last.lock();
        if last.is_none_or(|last| last.elapsed() >= FORGET_EVERY_MIN) {
            *last = Some(Instant::now());
            client.forget_all();
            tracing::info!("all routes are forgotten, as ordered");
        }
    };
    mesh.serve(subjects::ROUTES_FORGET, None, forget).await
}

/// Starts a router in front of any backend.
async fn start_with<B: Backend>(
    settings: RouterSettings,
    mesh: Mesh,
    backend: B,
    ready: Ready,
) -> anyhow::Result<Running> {
    let listener = listen(&settings.listen)?;
    let address = listener
        .local_addr()
        .context("cannot find out the own address")?;
    let keys = Keys::load(&settings)?;
    let policies = Policies::load(&settings)?;
    let health = Health::default();
    let health_server = if settings.http.is_empty() {
        None
    } else {
        let at = resolve(&settings.http)?;
        let server = telemetry::serve_http(at, health.clone())
            .await
            .with_context(|| format!("cannot listen on {at} (http)"))?;
        Some(server)
    };
    let http = health_server
        .as_ref()
        .map_or_else(String::new, |server| server.address().to_string());

    let (started, starting) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("router".to_owned())
        .spawn(move || {
            run(
                &settings,
                listener,
                (keys, policies),
                mesh,
                backend,
                (health, http, ready),
                started,
            )
        })
        .context("cannot start the router's thread")?;
    let supervisor = starting
        .await
        .context("the router's thread ended while starting")??;
    tracing::info!(%address, "router listens");
    Ok(Running {
        address,
        supervisor,
        thread: Some(thread),
        health: health_server,
        listening: Vec::new(),
        exchange: None,
        recovery: None,
        reporter: None,
    })
}

/// The wall clock, milliseconds since the epoch.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Body of the router's thread.
fn run<B: Backend>(
    settings: &RouterSettings,
    listener: TcpListener,
    (keys, policies): (Keys, Policies),
    mesh: Mesh,
    backend: B,
    (health, http, ready): (Health, String, Ready),
    started: oneshot::Sender<anyhow::Result<Addr<Supervisor>>>,
) {
    let system = System::new();
    let admission = Admission::new(
        settings.requests_in_flight_max,
        settings.body_bytes_in_flight_max,
    );
    let recorder = telemetry::traces::of(&mesh);
    let app = web::Data::new(App::new(
        settings,
        keys,
        policies,
        admission.clone(),
        backend,
        recorder,
    ));
    let workers = match settings.workers {
        0 => std::thread::available_parallelism().map_or(2, usize::from),
        workers => workers,
    };
    let drain_max = Duration::from_millis(settings.drain_ms_max);
    let result = system.block_on(async move {
        let server = HttpServer::new(move || {
            HttpApp::new()
                .app_data(app.clone())
                .default_service(web::to(handle::<B>))
        })
        .workers(workers)
        .worker_max_blocking_threads(1)
        .backlog(BACKLOG)
        .max_connections((settings.connections_max / workers).max(1))
        .client_request_timeout(Duration::from_millis(settings.head_ms_max))
        .client_disconnect_timeout(Duration::from_secs(1))
        .keep_alive(KeepAlive::Timeout(Duration::from_secs(
            settings.keep_alive_s,
        )))
        .tcp_nodelay(true)
        .shutdown_timeout(drain_max.as_secs().max(1))
        .disable_signals()
        .listen(listener)
        .context("cannot serve on the router's listener")?
        .run();
        let supervisor = Supervisor {
            mesh,
            zone: settings.zone.clone(),
            http,
            server: server.handle(),
            admission,
            health,
            ready,
            drain_max,
        }
        .start();
        actix::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the HTTP server failed");
            }
        });
        anyhow::Ok(supervisor)
    });
    match result {
        Ok(supervisor) => {
            if started.send(Ok(supervisor)).is_ok()
                && let Err(error) = system.run()
            {
                tracing::error!(%error, "the router's actor system failed");
            }
        }
        // nobody to tell means nobody is interested
        Err(error) => drop(started.send(Err(error))),
    }
}

fn resolve(address: &str) -> anyhow::Result<SocketAddr> {
    address
        .to_socket_addrs()
        .with_context(|| format!("{address:?} is not host:port"))?
        .next()
        .with_context(|| format!("{address:?} resolves to no address"))
}

fn listen(address: &str) -> anyhow::Result<TcpListener> {
    let at = resolve(address)?;
    let listener = TcpListener::bind(at)
        .with_context(|| format!("cannot listen on {at}; is another process using the port?"))?;
    listener
        .set_nonblocking(true)
        .context("cannot make the listener non-blocking")?;
    Ok(listener)
}

#[cfg(test)]
mod tests;
