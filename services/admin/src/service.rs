//! The shell: subjects, heartbeat, health, and the actor that founds and reconciles.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::prelude::*;
use anyhow::Context as _;
use mesh::{Deadline, Delivery, Mesh, Subscription, TraceContext};
use protocol::archive::ArchiveReport;
use protocol::control::{ApiCall, ApiReply, Order};
use protocol::directory::Push;
use protocol::health::Heartbeat;
use protocol::jobs::JobsReport;
use protocol::operate::{Answer, Command, Nudge};
use protocol::subjects;
use protocol::tokens::WarmReport;
use routing::{Client, ClientSettings};
use telemetry::Health;
use tracing::{info, warn};

use crate::AdminSettings;
use crate::api;
use crate::console::Console;
use crate::driver::{Admin, Outcome};
use crate::founding::{create_replica, founded_table, founding};
use crate::numbers;
use crate::operate;
use crate::records::{COUNTERS, Counters, SYSTEM_GROUP, system_table};

/// Time between looks whether the mesh is to be founded.
const FOUND_EVERY: Duration = Duration::from_millis(50);
/// Time between looks whether something about the lease is due.
const LEASE_EVERY: Duration = Duration::from_millis(50);
/// Longest wait for the lease to be given back at the end.
const RELEASE_MAX: Duration = Duration::from_secs(1);
/// Tries to give one node its order of the founding.
const FOUND_TRIES_MAX: usize = 100;

/// A running admin.
pub struct Running {
    admin: Arc<Admin>,
    keeper: Addr<Keeper>,
    http: Option<telemetry::HttpServer>,
    health: Health,
    mesh: Mesh,
}

impl Running {
    /// Where the health endpoints and the console listen, if they do.
    pub fn http_address(&self) -> Option<std::net::SocketAddr> {
        self.http.as_ref().map(telemetry::HttpServer::address)
    }

    /// Takes no more calls, says good-bye and stops. What is unfinished is resumed by another admin or the next start.
    pub async fn stop(self) {
        self.health.ready.store(false, Ordering::Relaxed);
        // The keeper may be gone already (its system stopped): then there is nothing left to stop.
        let _ = self.keeper.send(Stop).await;
        let _ = tokio::time::timeout(RELEASE_MAX, self.admin.release_lease()).await;
        self.mesh.drain(Duration::from_secs(1)).await;
        if let Some(http) = self.http {
            http.stop().await;
        }
    }
}

/// Starts an admin.
///
/// # Errors
/// When the bus or the health address can't be had.
pub async fn start(settings: AdminSettings, mesh: Mesh) -> anyhow::Result<Running> {
    let client = Client::start(mesh.clone(), ClientSettings::new(settings.zone.clone())).await?;
    let admin = Arc::new(Admin::new(settings, mesh.clone(), client));
    let health = Health::default();
    let listener = admin.clone();
    let served = !admin.settings.http.is_empty() && admin.settings.console.enabled;
    let console = served.then(|| Console::new(admin.clone()));
    let shown = console.clone();
    let heartbeats = mesh
        .serve(subjects::HEALTH, None, move |delivery| {
            if let Ok(beat) = delivery.decode::<Heartbeat>() {
                if let Some(console) = &shown {
                    console.heard(&beat);
                }
                let now_ms = listener.now_ms();
                listener.cluster.write().heard(beat, now_ms);
            }
        })
        .await?;
    let (server, runtime) = (admin.clone(), tokio::runtime::Handle::current());
    let calls = mesh
        .serve(subjects::ADMIN_API, Some("admin"), move |delivery| {
            take_call(&server, &runtime, delivery);
        })
        .await?;
    let listener = admin.clone();
    let pushes = mesh
        .serve(subjects::MEMDS_PUSH, None, move |delivery| {
            if let Ok(push) = delivery.decode::<Push>() {
                let now_ms = listener.now_ms();
                listener.partitions.write().learn(push, now_ms);
            }
        })
        .await?;
    let (server, runtime) = (admin.clone(), tokio::runtime::Handle::current());
    let nudges = mesh
        .serve(subjects::ADMIN_NUDGE, None, move |delivery| {
            take_nudge(&server, &runtime, &delivery);
        })
        .await?;
    let (server, runtime) = (admin.clone(), tokio::runtime::Handle::current());
    let commands = mesh
        .serve(subjects::ADMIN_OPERATE, None, move |delivery| {
            take_command(&server, &runtime, delivery);
        })
        .await?;
    let server = admin.clone();
    let archive = mesh
        .serve(subjects::ADMIN_ARCHIVE, None, move |delivery| {
            // Every admin takes note; the active one answers, and while it does not know, nothing is deleted.
            if let Ok(report) = delivery.decode::<ArchiveReport>()
                && let Some(plan) = server.take_archive_report(&report)
            {
                delivery.reply(&plan);
            }
        })
        .await?;
    let (server, runtime) = (admin.clone(), tokio::runtime::Handle::current());
    let jobs = mesh
        .serve(subjects::ADMIN_JOBS, None, move |delivery| {
            take_jobs_report(&server, &runtime, delivery);
        })
        .await?;
    let (server, runtime) = (admin.clone(), tokio::runtime::Handle::current());
    let grown = mesh
        .serve(subjects::ADMIN_WARM, None, move |delivery| {
            take_warm_report(&server, &runtime, &delivery);
        })
        .await?;
    admin.ask_for_pushes();
    let exported = admin.clone();
    telemetry::export("evenkeel_admin", numbers::WORDS, move || exported.numbers());
    let http = match admin.settings.http.as_str() {
        "" => None,
        address => {
            let address = address
                .parse()
                .with_context(|| format!("admin.http: '{address}' is not host:port"))?;
            let routes = move |config: &mut actix_web::web::ServiceConfig| {
                if let Some(console) = &console {
                    console.routes(config);
                }
            };
            Some(telemetry::serve_http_with(address, health.clone(), routes).await?)
        }
    };
    let listens_at = http.as_ref().map(|http| http.address().to_string());
    let heartbeat = Heartbeat {
        service: "admin".to_owned(),
        instance: admin.settings.instance,
        zone: admin.settings.zone.clone(),
        incarnation: mesh.identity().incarnation,
        http: listens_at.unwrap_or_default(),
        ready: false,
        draining: false,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Heartbeat::default()
    };
    let keeper = Keeper {
        admin: admin.clone(),
        health: health.clone(),
        heartbeat,
        served: vec![calls, nudges, commands, archive, jobs, grown],
        _heard: [heartbeats, pushes],
        founding: false,
        reconciling: false,
        leasing: false,
        splitting: false,
        active: false,
    }
    .start();
    Ok(Running {
        admin,
        keeper,
        http,
        health,
        mesh,
    })
}

fn take_call(admin: &Arc<Admin>, runtime: &tokio::runtime::Handle, delivery: Delivery) {
    let call = match delivery.decode::<ApiCall>() {
        Ok(call) => call,
        Err(error) => {
            warn!(%error, "a control-plane call can't be read");
            return delivery.reply(&ApiReply::Error(model::ApiError::internal()));
        }
    };
    let admin = admin.clone();
    let (trace, responder) = (delivery.trace, delivery.responder());
    runtime.spawn(async move {
        let answer = std::pin::pin!(api::answer(&admin, call));
        responder.reply(&telemetry::traces::within(trace, answer).await);
    });
}

fn take_nudge(admin: &Arc<Admin>, runtime: &tokio::runtime::Handle, delivery: &Delivery) {
    // Without the lease there is nothing to do; the one who has it hears this, too.
    let Ok(nudge) = delivery.decode::<Nudge>() else {
        return;
    };
    if admin.epoch().is_some() {
        let admin = admin.clone();
        runtime.spawn(async move { admin.drive(&nudge.table, Duration::ZERO).await });
    }
}

fn take_warm_report(admin: &Arc<Admin>, runtime: &tokio::runtime::Handle, delivery: &Delivery) {
    let Ok(report) = delivery.decode::<WarmReport>() else {
        return;
    };
    if let Some(quota) = report.quota {
        admin.cluster.write().told_quota(quota);
    }
    // The active admin notes it.
    if !report.tables.is_empty() && admin.epoch().is_some() {
        let admin = admin.clone();
        runtime.spawn(async move { admin.take_warm_report(report).await });
    }
}

fn take_jobs_report(admin: &Arc<Admin>, runtime: &tokio::runtime::Handle, delivery: Delivery) {
    // The active admin answers; the others are silent, which lets a worker go on.
    let Ok(report) = delivery.decode::<JobsReport>() else {
        return;
    };
    if admin.epoch().is_none() {
        return;
    }
    let (admin, responder) = (admin.clone(), delivery.responder());
    runtime.spawn(async move {
        if let Some(reply) = admin.take_jobs_report(report).await {
            responder.reply(&reply);
        }
    });
}

fn take_command(admin: &Arc<Admin>, runtime: &tokio::runtime::Handle, delivery: Delivery) {
    // The active admin answers.
    if admin.epoch().is_none() {
        return;
    }
    let command = match delivery.decode::<Command>() {
        Ok(command) => command,
        Err(error) => {
            warn!(%error, "an operator's command can't be read");
            let why = format!(
                "this admin ({}) does not know the command",
                env!("CARGO_PKG_VERSION")
            );
            return delivery.reply(&Answer::Refused(why));
        }
    };
    let (admin, trace, responder) = (admin.clone(), delivery.trace, delivery.responder());
    runtime.spawn(async move {
        let answer = std::pin::pin!(operate::answer(&admin, command));
        responder.reply(&telemetry::traces::within(trace, answer).await);
    });
}

/// Founds the mesh, finishes what is unfinished, and says that it is there.
struct Keeper {
    admin: Arc<Admin>,
    health: Health,
    heartbeat: Heartbeat,
    /// Served until the admin stops.
    served: Vec<Subscription>,
    _heard: [Subscription; 2],
    founding: bool,
    reconciling: bool,
    leasing: bool,
    splitting: bool,
    /// Whether it held the lease at the last look.
    active: bool,
}

impl Keeper {
    fn beat(&mut self) {
        self.heartbeat.ready = self.health.ready.load(Ordering::Relaxed);
        // A lost heartbeat means nothing; the next one follows in a second.
        let _ = self.admin.mesh.cast(subjects::HEALTH, &self.heartbeat);
    }

    fn found(&mut self, context: &mut Context<Self>) {
        if self.founding || self.heartbeat.ready {
            return;
        }
        let orders = {
            let settings = &self.admin.settings;
            let now_ms = self.admin.now_ms();
            let mut cluster = self.admin.cluster.write();
            cluster.observe(now_ms);
            founding(&cluster, settings.instance, settings.found_after_ms, now_ms)
        };
        let Some(orders) = orders else { return };
        self.founding = true;
        let admin = self.admin.clone();
        let work = async move {
            info!("founding the mesh: the storage nodes hold nothing yet");
            let first = orders.first().map(|(node, _)| *node);
            let given = orders
                .into_iter()
                .map(|(node, order)| give(&admin, node, order));
            futures::future::join_all(given).await;
            if let Some(first) = first {
                let partition = SYSTEM_GROUP;
                let hint = Order::Campaign { partition };
                admin.founding_order(first, &hint).await;
            }
        };
        context.spawn(
            work.into_actor(self)
                .map(|(), keeper, _| keeper.founding = false),
        );
    }

    fn reconcile(&mut self, context: &mut Context<Self>) {
        if self.reconciling || (self.heartbeat.ready && !self.active) {
            return;
        }
        self.reconciling = true;
        let (admin, ready) = (self.admin.clone(), self.heartbeat.ready);
        let work = async move {
            if !ready {
                // Waits for the directory, and for the system partition's leader.
                admin.catalog.get::<Counters>(COUNTERS).await?;
                complete_system_group(&admin).await;
            }
            if admin.epoch().is_some() {
                admin.reconcile().await?;
            }
            Ok::<(), model::ApiError>(())
        };
        context.spawn(work.into_actor(self).map(|done, keeper, _| {
            keeper.reconciling = false;
            // Who knows neither that it holds the lease nor that another does is not ready.
            let looked = keeper.admin.lease.lock().looked();
            match done {
                Ok(()) if !keeper.heartbeat.ready && looked => {
                    keeper.health.ready.store(true, Ordering::Relaxed);
                    keeper.beat();
                }
                Ok(()) => {}
                Err(error) => info!(%error, "the system table can't be had at the moment"),
            }
        }));
    }

    /// Goes on with the splits.
    fn split(&mut self, context: &mut Context<Self>) {
        if self.splitting || !self.active {
            return;
        }
        self.splitting = true;
        let admin = self.admin.clone();
        let work = async move { admin.split_round().await };
        context.spawn(
            work.into_actor(self)
                .map(|(), keeper, _| keeper.splitting = false),
        );
    }

    /// Tends the lease, and notes when it comes or goes.
    fn lease(&mut self, context: &mut Context<Self>) {
        self.note_lease(context);
        if self.leasing {
            return;
        }
        self.leasing = true;
        let admin = self.admin.clone();
        let work = async move { admin.tend_lease().await };
        context.spawn(work.into_actor(self).map(|(), keeper, context| {
            keeper.leasing = false;
            keeper.note_lease(context);
        }));
    }

    fn note_lease(&mut self, context: &mut Context<Self>) {
        let epoch = self.admin.epoch();
        if epoch.is_some() == self.active {
            return;
        }
        self.active = epoch.is_some();
        self.admin.forget_plans();
        if let Some(epoch) = epoch {
            info!(epoch, "this admin gives the orders now");
            self.admin.ask_for_pushes();
            let admin = self.admin.clone();
            context.spawn(async move { admin.announce().await }.into_actor(self));
            self.reconcile(context);
        } else {
            info!("this admin gives no orders any more");
        }
    }
}

/// Gives a node its order until it carried it out.
async fn give(admin: &Admin, node: paxos::NodeId, order: Order) {
    for _ in 0..FOUND_TRIES_MAX {
        match admin.founding_order(node, &order).await {
            Outcome::Done => return,
            outcome => warn!(node = node.0, ?outcome, "a system replica is not made yet"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A founding that was cut short may have left members of the system group without their replica.
async fn complete_system_group(admin: &Arc<Admin>) {
    let table = system_table();
    let range = model::key::table_range(table.id);
    let (deadline, trace) = (
        Deadline::after(Duration::from_secs(1)),
        TraceContext::default(),
    );
    let found = admin
        .client
        .partitions(&table, &range, deadline, &trace)
        .await;
    let Some(info) = found.unwrap_or_default().into_iter().next() else {
        return;
    };
    if info.generation != 1 {
        return;
    }
    for member in &info.members {
        let order = create_replica(
            info.partition,
            founded_table(&info.members),
            info.range.clone(),
            &info.members,
        );
        let (admin, node) = (admin.clone(), member.member.node);
        tokio::spawn(async move { give(&admin, node, order).await });
    }
}

impl Actor for Keeper {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.beat();
        self.reconcile(context);
        context.run_interval(Duration::from_secs(1), |keeper, _| keeper.beat());
        context.run_interval(FOUND_EVERY, Self::found);
        let every = Duration::from_millis(self.admin.settings.reconcile_every_ms.max(10));
        context.run_interval(every, Self::reconcile);
        context.run_interval(LEASE_EVERY, Self::lease);
        let every = Duration::from_millis(self.admin.settings.splits.look_every_ms.max(10));
        context.run_interval(every, Self::split);
        let every = Duration::from_millis(self.admin.settings.healing.plan_every_ms.max(10));
        context.run_interval(every, |keeper, _| {
            if keeper.active {
                keeper.admin.plan();
            }
        });
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
        self.health.ready.store(false, Ordering::Relaxed);
        self.beat();
        context.stop();
    }
}
