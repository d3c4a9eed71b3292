//! `evenkeel dev`: the whole mesh in one process on the in-process bus. Owns the order in which services start and stop, and the data
//! folder's lock; everything else is the services' own.

use std::fs::TryLockError;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use admin::{AdminSettings, ConsoleSettings, SplitSettings, Token};
use anyhow::{Context as _, bail};
use archiver::ArchiverSettings;
use canary::CanarySettings;
use gac::GacSettings;
use memds::MemdsSettings;
use mesh::{Identity, LocalBus, Mesh, MeshLock};
use objects::ArchiveSettings;
use router::{RouterSettings, TokenSettings};
use scrubber::ScrubberSettings;
use serde::Deserialize;
use storage::StorageSettings;
use telemetry::TelemetrySettings;

use crate::banner;
use crate::tracing_ui::TracingUi;

/// Options of `evenkeel dev`.
#[derive(clap::Args)]
pub struct Options {
    /// Port of the DynamoDB endpoint.
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// Address to listen on.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Data folder; made if absent.
    #[arg(long, default_value = "evenkeel-data")]
    data_dir: PathBuf,
    /// Address of /healthz, /readyz and /metrics (host:port); off by default.
    #[arg(long)]
    http: Option<SocketAddr>,
    /// Port of the console's web page; by default the one after the endpoint's, or any if that is taken.
    #[arg(long)]
    console_port: Option<u16>,
    /// Trace all requests (up to 20 a second), and serve the tracing pages (Jaeger's) at this address; another port if it is taken.
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, default_missing_value = "127.0.0.1:16686")]
    traces: Option<SocketAddr>,
    /// Address at which the traces of your own programs are taken, too (OTLP over gRPC; usually port 4317); another port if it is taken.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    otlp: SocketAddr,
}

/// Runs until Ctrl-C or SIGTERM.
pub fn run(options: Options) -> anyhow::Result<()> {
    // A developer's terminal shows the banner and what goes wrong; EVENKEEL_LOG=info shows the rest.
    telemetry::init_at("dev", "warn");
    let (data, lock) = lock_folder(&options.data_dir)?;
    let endpoint = SocketAddr::new(options.host, options.port);
    // Said early, before anything is started; the router binds it for good.
    TcpListener::bind(endpoint)
        .with_context(|| format!("port {} on {} can't be had", options.port, options.host))?;
    let mut given: Given = settings::load("dev", None)?;
    let console = console_address(options.host, options.port, options.console_port);
    if given.admin.console.operator_token.0.is_empty() {
        // Nobody but the reader of the terminal knows it.
        given.admin.console.operator_token = Token(format!("{:016x}", telemetry::incarnation()));
    }
    actix::System::with_tokio_rt(telemetry::runtime).block_on(serve(
        endpoint,
        &data,
        LocalBus::exclusive(lock),
        (&options, console),
        given,
    ))
}

/// The data folder, and proof that it is ours alone.
fn lock_folder(folder: &Path) -> anyhow::Result<(PathBuf, MeshLock)> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("the data folder {} can't be made", folder.display()))?;
    let path = folder.canonicalize()?;
    let lock = path.join("dev.lock");
    match MeshLock::take(&lock) {
        Ok(lock) => Ok((path, lock)),
        Err(TryLockError::WouldBlock) => bail!(
            "the data folder {} is in use by another `evenkeel dev`; stop it or choose another --data-dir",
            path.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("{} can't be locked", lock.display()))
        }
    }
}

/// Where the console listens: by default beside the endpoint; where that port is taken (several meshes on one machine), anywhere.
fn console_address(host: IpAddr, port: u16, wanted: Option<u16>) -> SocketAddr {
    let port = wanted.unwrap_or_else(|| {
        let next = port.checked_add(1).unwrap_or(0);
        match TcpListener::bind((host, next)) {
            Ok(_) => next,
            Err(_) => 0,
        }
    });
    SocketAddr::new(host, port)
}

/// What may be set from outside, by the same environment variables as for the services: how much capacity there is, when
/// partitions are split, and how and where logs are archived.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Given {
    admin: GivenAdmin,
    storage: GivenStorage,
    router: GivenRouter,
    gac: GacSettings,
    archiver: ArchiverSettings,
    archive: ArchiveSettings,
    scrubber: ScrubberSettings,
    telemetry: TelemetrySettings,
    canary: GivenCanary,
}

/// In `dev` the canary only listens, unless it is told to probe: its table would be among the developer's.
#[derive(Default, Deserialize)]
#[serde(default)]
struct GivenCanary {
    probes: bool,
    webhook: String,
    rules: availability::Rules,
}

#[derive(Deserialize)]
#[serde(default)]
struct GivenRouter {
    tokens: TokenSettings,
}

impl Default for GivenRouter {
    fn default() -> Self {
        // There is one router.
        let tokens = TokenSettings {
            routers_expected: 1,
            ..TokenSettings::default()
        };
        Self { tokens }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct GivenAdmin {
    splits: SplitSettings,
    console: ConsoleSettings,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct GivenStorage {
    admission: storage::Admission,
}

/// One process: there are no other nodes that could be late with the mesh's data.
fn admin_settings(given: &Given, console: SocketAddr) -> AdminSettings {
    AdminSettings {
        splits: given.admin.splits.clone(),
        http: console.to_string(),
        console: given.admin.console.clone(),
        found_after_ms: 0,
        ..AdminSettings::default()
    }
}

/// One process: a message takes microseconds, all clocks are one, and the nodes live and die together. So elections can be quick, which is
/// what a restart has to wait for (no lease of an earlier life counts: `Mesh::succeeds_the_dead`), and leadership need not be handed over at the end.
fn storage_settings(node: u64, data: &Path, given: &Given) -> StorageSettings {
    let mut settings = StorageSettings {
        node_id: node,
        zone: format!("az{node}"),
        data_dir: data.join(format!("storage-{node}")),
        shards: 1,
        admission: given.storage.admission.clone(),
        ..StorageSettings::default()
    };
    // A developer's tables are small, and looked at right after they were filled.
    settings.index_counts.round_every_ms = 1_000;
    settings.timing.heartbeat_ms = 150;
    settings.timing.lease_ms = 500;
    settings.timing.election_ms = 350;
    settings.timing.election_jitter_ms = 150;
    settings.timing.candidate_ms = 500;
    settings.limits.transfer_ms_max = 0;
    settings
}

/// Where the archive is, unless it is said: beside the nodes' data.
fn archive_settings(data: &Path, given: &Given) -> ArchiveSettings {
    let mut settings = given.archive.clone();
    if !settings.is_set() {
        settings.url = format!("file://{}", data.join("archive").display());
    }
    settings
}

fn archiver_settings(data: &Path, given: &Given) -> ArchiverSettings {
    let mut settings = given.archiver.clone();
    if settings.jobs.rebuild_folder.as_os_str().is_empty() {
        settings.jobs.rebuild_folder = data.join("rebuilds");
    }
    settings
}

fn scrubber_settings(data: &Path, given: &Given) -> ScrubberSettings {
    ScrubberSettings {
        data_dir: data.join("scrubber"),
        ..given.scrubber.clone()
    }
}

/// Traces to the own pages, if they are wanted, else to wherever the settings say.
async fn trace(options: &Options, given: &Given) -> anyhow::Result<Option<TracingUi>> {
    let given = &given.telemetry.traces;
    let Some(pages) = options.traces else {
        telemetry::traces::init(given);
        return Ok(None);
    };
    let ui = TracingUi::start(pages, options.otlp).await?;
    telemetry::traces::init(&ui.settings(given));
    Ok(Some(ui))
}

fn canary_settings(given: &Given, endpoint: SocketAddr) -> CanarySettings {
    CanarySettings {
        probes: given.canary.probes,
        webhook: given.canary.webhook.clone(),
        rules: given.canary.rules.clone(),
        endpoints: vec![canary::Endpoint {
            zone: RouterSettings::default().zone,
            url: format!("http://{endpoint}"),
        }],
        access_key: "canary".to_owned(),
        ..CanarySettings::default()
    }
}

async fn serve(
    endpoint: SocketAddr,
    data: &Path,
    bus: LocalBus,
    (options, console): (&Options, SocketAddr),
    mut given: Given,
) -> anyhow::Result<()> {
    let tracing_ui = trace(options, &given).await?;
    let trace_url = &mut given.admin.console.trace_url;
    if let (Some(ui), true) = (&tracing_ui, trace_url.is_empty()) {
        *trace_url = format!("http://{}/trace/{{trace_id}}", ui.pages);
    }
    let stats = bus.stats().clone();
    telemetry::export("evenkeel_mesh", mesh::Stats::WORDS, move || stats.values());
    let join = |service: &str, instance: u64| {
        Mesh::local(
            &bus,
            Identity {
                service: service.to_owned(),
                instance,
                incarnation: telemetry::incarnation(),
            },
        )
    };

    // Whoever listens starts before those whom it listens to: memds misses no push, the admin no first heartbeat.
    let memds = memds::start(MemdsSettings::default(), join("memds", 1)).await?;
    let admin = admin::start(admin_settings(&given, console), join("admin", 1)).await?;
    let node = async |node: u64| {
        let started =
            storage::start(storage_settings(node, data, &given), join("storage", node)).await;
        started.with_context(|| format!("storage node {node}"))
    };
    let nodes = tokio::try_join!(node(1), node(2), node(3))?;
    let gac = gac::start(given.gac.clone(), join("gac", 1)).await?;
    let archive = archive_settings(data, &given);
    let archiver = archiver::start(
        archiver_settings(data, &given),
        &archive,
        join("archiver", 1),
    )
    .await?;
    let scrubber = scrubber::start(
        scrubber_settings(data, &given),
        &archive,
        join("scrubber", 1),
    )
    .await?;
    let router = router::start(
        RouterSettings {
            listen: endpoint.to_string(),
            accept_any_key: true,
            tokens: given.router.tokens,
            ..RouterSettings::default()
        },
        join("router", 1),
    )
    .await?;
    let canary =
        canary::start(canary_settings(&given, router.address()), join("canary", 1)).await?;
    let health = telemetry::Health::default();
    let health_server = match options.http {
        Some(address) => Some(telemetry::serve_http(address, health.clone()).await?),
        None => None,
    };
    health
        .ready
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let console = admin.http_address().map(|address| {
        let token = given.admin.console.operator_token.0.as_str();
        (address, token)
    });
    println!(
        "{}",
        banner::text(router.address(), data, console, tracing_ui.as_ref())
    );

    telemetry::wait_for_shutdown().await;
    println!("Stopping …");
    // From the client inwards; each bounds its own draining.
    canary.stop().await;
    router.stop().await;
    scrubber.stop().await;
    gac.stop().await;
    archiver.stop().await;
    admin.stop().await;
    tokio::join!(nodes.0.stop(), nodes.1.stop(), nodes.2.stop());
    memds.stop().await;
    if let Some(server) = health_server {
        server.stop().await;
    }
    Ok(())
}
