//! The shell: what is heard and sent, the probing tasks, the alarms' ways out, metrics, heartbeats.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix::prelude::*;
use availability::{
    Alarm, BOUNDS_MS, Board, Change, Class, Counts, Kind, Outcome, Scope, Severity,
};
use mesh::{Mesh, Subscription};
use parking_lot::Mutex;
use protocol::canary::{OutcomeReport, View, ViewRequest};
use protocol::health::Heartbeat;
use protocol::subjects;
use telemetry::{Health, Name, Sample, Samples};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::customers::Customers;
use crate::probe::{Probed, Prober};
use crate::settings::{CanarySettings, Endpoint};
use crate::webhook::{Sent, Webhook, payload};

/// Time between heartbeats.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// Between two looks whether the table is there.
const TABLE_EVERY: Duration = Duration::from_secs(2);
/// Strips in one view.
const STRIPS_MAX: usize = 600;
/// Windows in one view: six hours.
const WINDOWS_MAX: u64 = 72;
/// Alarms named in a heartbeat.
const TROUBLES_MAX: usize = 20;

const NAMES: [Name; 6] = [
    Name {
        name: "evenkeel_canary_probes_total",
        help: "The canary's own requests by the endpoint's zone, class and outcome.",
    },
    Name {
        name: "evenkeel_canary_probe_seconds",
        help: "Time to the answers of the canary's own requests, by class.",
    },
    Name {
        name: "evenkeel_canary_availability_ratio",
        help: "Share of requests in the last five minutes that did not fail, by scope (service, table, canary), subject and class.",
    },
    Name {
        name: "evenkeel_canary_throttled_ratio",
        help: "Share of requests in the last five minutes that were throttled, by scope, subject and class.",
    },
    Name {
        name: "evenkeel_canary_alarms",
        help: "Customer-facing alarms that stand, by kind and severity.",
    },
    Name {
        name: "evenkeel_canary_endpoint_up",
        help: "1 if the last requests through the endpoint were answered by anybody, by zone and url.",
    },
];

/// What the plain numbers are, by name.
const WORDS: telemetry::Words = &[
    (
        "series",
        "Series of outcomes (table, endpoint or canary, by class) that are followed.",
    ),
    (
        "requests_left_out_total",
        "Requests of which no series was made, because there are as many as there may be.",
    ),
    ("routers", "Routers whose reports of outcomes are heard."),
    (
        "table_ready",
        "1 if the canary's own table could be used lately.",
    ),
    (
        "webhook_posts_total",
        "Messages to the webhook that were taken.",
    ),
    (
        "webhook_failures_total",
        "Messages to the webhook that were given up.",
    ),
];

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// A running canary.
pub struct Running {
    keeper: Addr<Keeper>,
    tasks: Vec<JoinHandle<()>>,
    http: Option<telemetry::HttpServer>,
    health: Health,
    mesh: Mesh,
}

impl Running {
    /// Sends no more requests, says good-bye and stops.
    pub async fn stop(self) {
        self.health.ready.store(false, Relaxed);
        for task in self.tasks {
            task.abort();
        }
        // The keeper may be gone already (its system stopped): then there is nothing left to stop.
        let _ = self.keeper.send(Stop).await;
        self.mesh.drain(Duration::from_secs(1)).await;
        if let Some(http) = self.http {
            http.stop().await;
        }
    }
}

/// Requests by zone of the endpoint, class and outcome.
type Tally = BTreeMap<(String, Class), Counts>;

/// What the tasks share. Nothing waits while it holds a lock.
struct Shared {
    settings: CanarySettings,
    board: Mutex<Board>,
    customers: Mutex<Customers>,
    tally: Mutex<Tally>,
    micros: [AtomicU64; 3],
    /// Whether the canary's table could be used lately.
    table_ready: AtomicBool,
    sent: Arc<Sent>,
    /// Alarms began or ended.
    changed: Notify,
}

impl Shared {
    fn take_report(&self, report: OutcomeReport) {
        let now_ms = now_ms();
        let new = self.customers.lock().take(now_ms, report);
        let mut board = self.board.lock();
        for (table, class, counts) in new {
            // What canaries do is no customer's business.
            if table == self.settings.table {
                continue;
            }
            board.add(now_ms, Scope::Service, class, &counts);
            board.add(now_ms, Scope::Table(table), class, &counts);
        }
    }

    fn take_probe(&self, endpoint: &Endpoint, probed: &Probed) {
        if probed.no_table {
            // Somebody deleted it; what that looks like to a customer says nothing of the mesh.
            self.table_ready.store(false, Relaxed);
            return;
        }
        let took_ms = u64::try_from(probed.took.as_millis()).unwrap_or(u64::MAX);
        let counts = Counts::one(probed.outcome, took_ms);
        if probed.outcome == Outcome::Good {
            let micros = u64::try_from(probed.took.as_micros()).unwrap_or(u64::MAX);
            self.micros[probed.class.index()].fetch_add(micros, Relaxed);
        } else {
            let (zone, url, class) = (&endpoint.zone, &endpoint.url, probed.class.name());
            info!(zone, url, class, why = probed.why, "a probe was not served");
        }
        let key = (endpoint.zone.clone(), probed.class);
        self.tally.lock().entry(key).or_default().add(&counts);
        let scope = Scope::Endpoint {
            zone: endpoint.zone.clone(),
            url: endpoint.url.clone(),
        };
        let (now_ms, mut board) = (now_ms(), self.board.lock());
        board.add(now_ms, scope, probed.class, &counts);
        let scope = Scope::Canary(self.settings.table.clone());
        board.add(now_ms, scope, probed.class, &counts);
    }

    fn evaluate(&self) {
        let changes = self.board.lock().evaluate(now_ms());
        if changes.is_empty() {
            return;
        }
        for change in changes {
            match change {
                Change::Began(alarm) => say(&alarm, "a customer-facing alarm begins"),
                Change::Ended(alarm) => say(&alarm, "a customer-facing alarm ends"),
            }
        }
        self.changed.notify_one();
    }

    fn view(&self, windows: u64) -> View {
        let (now_ms, board) = (now_ms(), self.board.lock());
        View {
            instance: self.settings.instance,
            zone: self.settings.zone.clone(),
            now_ms,
            probes: self.settings.probes,
            strips: board.strips(now_ms, windows.clamp(1, WINDOWS_MAX), STRIPS_MAX),
            standing: board.standing(),
            ended: board.ended().cloned().collect(),
        }
    }

    fn alerts(&self) -> serde_json::Value {
        let (now_ms, settings) = (now_ms(), &self.settings);
        let (standing, ended) = {
            let board = self.board.lock();
            (board.standing(), board.ended().cloned().collect::<Vec<_>>())
        };
        let every_ms = settings.webhook_every_ms;
        payload(&standing, &ended, now_ms, every_ms, &settings.runbooks)
    }

    fn numbers(&self) -> telemetry::Values {
        let board = self.board.lock();
        vec![
            ("series", board.series() as u64),
            ("requests_left_out_total", board.left_out()),
            ("routers", self.customers.lock().routers() as u64),
            ("table_ready", u64::from(self.table_ready.load(Relaxed))),
            ("webhook_posts_total", self.sent.posts.load(Relaxed)),
            ("webhook_failures_total", self.sent.failures.load(Relaxed)),
        ]
    }

    fn samples(&self) -> Vec<Samples> {
        let (mut probes, mut seconds) = (Samples::new(), Samples::new());
        let tally = self.tally.lock().clone();
        let mut by_class: BTreeMap<Class, Counts> = BTreeMap::new();
        for ((zone, class), counts) in &tally {
            by_class.entry(*class).or_default().add(counts);
            let outcomes = [
                ("good", counts.good),
                ("throttled", counts.throttled),
                ("failed", counts.failed),
                ("unreachable", counts.unreachable),
            ];
            for (outcome, count) in outcomes {
                let labels = vec![
                    ("zone", zone.clone()),
                    ("class", class.name().to_owned()),
                    ("outcome", outcome.to_owned()),
                ];
                probes.push((labels, Sample::Counter(count as f64)));
            }
        }
        for (class, counts) in by_class {
            let histogram = Sample::Histogram {
                bounds: BOUNDS_MS.iter().map(|&ms| ms as f64 / 1_000.0).collect(),
                counts: counts.latency.to_vec(),
                sum: self.micros[class.index()].load(Relaxed) as f64 / 1_000_000.0,
            };
            seconds.push((vec![("class", class.name().to_owned())], histogram));
        }
        let (mut available, mut throttled) = (Samples::new(), Samples::new());
        let board = self.board.lock();
        for (scope, class, counts) in board.recent(now_ms()) {
            let word = match scope {
                Scope::Service => "service",
                Scope::Table(_) => "table",
                Scope::Canary(_) => "canary",
                // See below: five minutes are too long to tell whether somebody is there.
                Scope::Endpoint { .. } => continue,
            };
            let labels = vec![
                ("scope", word.to_owned()),
                ("subject", scope.subject()),
                ("class", class.name().to_owned()),
            ];
            if let Some(share) = counts.failed_share() {
                available.push((labels.clone(), Sample::Gauge(1.0 - share)));
            }
            if let Some(share) = counts.throttled_share() {
                throttled.push((labels, Sample::Gauge(share)));
            }
        }
        // Those that do not stand are told, too: an alert rule on what is absent never fires.
        let both = [Severity::Warning, Severity::Critical];
        let mut standing: BTreeMap<_, u64> = Kind::ALL
            .into_iter()
            .flat_map(|kind| both.map(|severity| ((kind, severity), 0)))
            .collect();
        for alarm in board.standing() {
            *standing.entry((alarm.kind, alarm.severity)).or_default() += 1;
        }
        let alarms = standing.into_iter().map(|((kind, severity), count)| {
            let labels = vec![
                ("kind", kind.name().to_owned()),
                ("severity", severity.name().to_owned()),
            ];
            (labels, Sample::Gauge(count as f64))
        });
        let up = board
            .endpoints(now_ms())
            .into_iter()
            .map(|((zone, url), up)| {
                let labels = vec![("zone", zone.to_owned()), ("url", url.to_owned())];
                (labels, Sample::Gauge(f64::from(u8::from(up))))
            });
        vec![
            probes,
            seconds,
            available,
            throttled,
            alarms.collect(),
            up.collect(),
        ]
    }
}

/// The log event of an alarm.
fn say(alarm: &Alarm, what: &str) {
    let (kind, severity) = (alarm.kind.name(), alarm.severity.name());
    let class = alarm.class.map_or("", Class::name);
    let (subject, summary) = (&alarm.subject, &alarm.summary);
    match (alarm.ended_ms, alarm.severity) {
        (Some(_), _) => info!(alarm = kind, severity, subject, class, summary, "{what}"),
        (None, Severity::Critical) => {
            error!(alarm = kind, severity, subject, class, summary, "{what}");
        }
        (None, Severity::Warning) => {
            warn!(alarm = kind, severity, subject, class, summary, "{what}");
        }
    }
}

/// Starts a canary.
///
/// # Errors
/// When the bus or the health address can't be had.
pub async fn start(settings: CanarySettings, mesh: Mesh) -> anyhow::Result<Running> {
    let shared = Arc::new(Shared {
        board: Mutex::new(Board::new(settings.rules.clone())),
        customers: Mutex::default(),
        tally: Mutex::default(),
        micros: Default::default(),
        table_ready: AtomicBool::new(false),
        sent: Arc::default(),
        changed: Notify::new(),
        settings,
    });
    let settings = &shared.settings;
    let listener = shared.clone();
    let reports = mesh
        .serve(subjects::OUTCOMES, None, move |delivery| {
            if let Ok(report) = delivery.decode::<OutcomeReport>() {
                listener.take_report(report);
            }
        })
        .await?;
    let shown = shared.clone();
    let subject = subjects::canary_view(settings.instance);
    let views = mesh
        .serve(&subject, None, move |delivery| {
            if let Ok(request) = delivery.decode::<ViewRequest>() {
                delivery.reply(&shown.view(request.windows));
            }
        })
        .await?;
    let exported = shared.clone();
    telemetry::export("evenkeel_canary", WORDS, move || exported.numbers());
    let exported = shared.clone();
    telemetry::export_families(&NAMES, move || exported.samples());
    let health = Health::default();
    let http = match settings.http {
        None => None,
        Some(address) => Some(telemetry::serve_http(address, health.clone()).await?),
    };
    let mut tasks = Vec::new();
    if settings.probes {
        for endpoint in &settings.endpoints {
            let prober = Prober::new(settings, &endpoint.url)?;
            tasks.push(tokio::spawn(probe(
                shared.clone(),
                endpoint.clone(),
                prober,
            )));
        }
        if settings.endpoints.is_empty() {
            warn!("canary.endpoints names none: nothing is probed");
        }
    }
    if !settings.webhook.is_empty() {
        let webhook = Webhook::new(settings, shared.sent.clone())?;
        tasks.push(tokio::spawn(tell(shared.clone(), webhook)));
    }
    let keeper = Keeper {
        heartbeat: Heartbeat {
            service: "canary".to_owned(),
            instance: settings.instance,
            zone: settings.zone.clone(),
            incarnation: mesh.identity().incarnation,
            http: settings.http.map_or(String::new(), |a| a.to_string()),
            ready: true,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Heartbeat::default()
        },
        shared: shared.clone(),
        mesh: mesh.clone(),
        served: vec![reports, views],
    }
    .start();
    // It has nothing to wait for: a mesh that is not there is what it is to tell of.
    health.ready.store(true, Relaxed);
    Ok(Running {
        keeper,
        tasks,
        http,
        health,
        mesh,
    })
}

/// Probes through one endpoint for ever.
async fn probe(shared: Arc<Shared>, endpoint: Endpoint, mut prober: Prober) {
    let every = Duration::from_millis(shared.settings.probe_every_ms.max(50));
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut said = String::new();
    loop {
        ticks.tick().await;
        if !shared.table_ready.load(Relaxed) {
            match prober.table_is_there().await {
                Ok(true) => shared.table_ready.store(true, Relaxed),
                Ok(false) => {
                    tokio::time::sleep(TABLE_EVERY).await;
                    continue;
                }
                Err(why) if why != said => {
                    warn!(
                        url = endpoint.url,
                        why, "the canary's table can't be had through this endpoint"
                    );
                    said = why;
                }
                Err(_) => {}
            }
        }
        // A canary that starts during an outage is to tell of it. Until the table was had once, only "nobody is there" says something of
        // the mesh.
        let known = shared.table_ready.load(Relaxed);
        for probed in prober.round().await {
            if probed.outcome == Outcome::Good {
                shared.table_ready.store(true, Relaxed);
            }
            if known || probed.outcome == Outcome::Unreachable {
                shared.take_probe(&endpoint, &probed);
            }
        }
    }
}

/// Tells the webhook for ever: at once when something changes, and again and again.
async fn tell(shared: Arc<Shared>, webhook: Webhook) {
    let every = Duration::from_millis(shared.settings.webhook_every_ms.max(1_000));
    loop {
        // Both mean the same.
        let _ = tokio::time::timeout(every, shared.changed.notified()).await;
        let alerts = shared.alerts();
        if alerts.as_array().is_some_and(|alerts| !alerts.is_empty()) {
            webhook.send(&alerts).await;
        }
    }
}

/// Says that the canary is there and what it has found, and looks at the alarms.
struct Keeper {
    heartbeat: Heartbeat,
    shared: Arc<Shared>,
    mesh: Mesh,
    /// Served until the canary stops.
    served: Vec<Subscription>,
}

impl Keeper {
    fn beat(&mut self) {
        let standing = self.shared.board.lock().standing();
        let critical = standing
            .iter()
            .filter(|alarm| alarm.severity == Severity::Critical);
        let words = critical
            .map(|alarm| format!("customers are hit: {} ({})", alarm.summary, alarm.subject));
        self.heartbeat.troubles = words.take(TROUBLES_MAX).collect();
        // A lost heartbeat means nothing; the next one follows in a second.
        let _ = self.mesh.cast(subjects::HEALTH, &self.heartbeat);
    }
}

impl Actor for Keeper {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.beat();
        context.run_interval(BEAT_EVERY, |keeper, _| keeper.beat());
        let every = Duration::from_millis(self.shared.settings.evaluate_every_ms.max(100));
        context.run_interval(every, |keeper, _| keeper.shared.evaluate());
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
