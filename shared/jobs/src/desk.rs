//! The jobs of this instance: asks the admin for them, runs them, reports how far they are. What is not in the admin's answer any more is stopped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use mesh::{Deadline, Mesh, TraceContext};
use objects::Objects;
use protocol::jobs::{Job, JobProgress, JobsReply, JobsReport, Outcome, Work};
use protocol::subjects;
use routing::Client;
use telemetry::traces::{Flow, Flows, within};
use tokio::task::JoinHandle;

use crate::context::{Context, Progress, Stop, Target};
use crate::scratch::Scratch;
use crate::settings::JobSettings;
use crate::{export, import, restore};

/// An answer is waited for so long.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The jobs of an instance, until it is dropped.
pub struct Jobs {
    work: JoinHandle<()>,
}

impl Jobs {
    /// Starts asking for jobs. `objects` is the archive's store.
    ///
    /// # Errors
    /// When the settings can't work, or the folder for rebuilds can't be had.
    pub fn start(
        settings: JobSettings,
        instance: u64,
        mesh: Mesh,
        client: Client,
        objects: Objects,
    ) -> anyhow::Result<Self> {
        settings.check()?;
        let scratch = Scratch::open(&settings.rebuild_folder, settings.rebuild_bytes_max)
            .context("archiver.jobs.rebuild_folder")?;
        let desk = Desk {
            context: Arc::new(Context::new(settings, objects, scratch)),
            instance,
            flows: telemetry::traces::flows(&mesh),
            mesh,
            client,
            running: BTreeMap::new(),
        };
        Ok(Self {
            work: tokio::spawn(desk.serve()),
        })
    }

    /// Stops all jobs where they are; others go on with them.
    pub async fn stop(self) {
        self.work.abort();
        // Aborted or not: it is over.
        let _ = self.work.await;
    }
}

/// A job that runs here.
struct Running {
    attempt: u64,
    progress: Progress,
    work: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.work.abort();
    }
}

struct Desk {
    context: Arc<Context>,
    instance: u64,
    flows: Flows,
    mesh: Mesh,
    client: Client,
    running: BTreeMap<String, Running>,
}

impl Desk {
    async fn serve(mut self) {
        let every = Duration::from_millis(self.context.settings.report_ms);
        loop {
            self.exchange().await;
            tokio::time::sleep(every).await;
        }
    }

    async fn exchange(&mut self) {
        let report = JobsReport {
            instance: self.instance,
            incarnation: self.mesh.identity().incarnation,
            jobs_max: self.context.settings.jobs_max,
            progress: self
                .running
                .values()
                .map(|job| job.progress.get())
                .collect(),
        };
        let (deadline, trace) = (Deadline::after(ANSWER_MAX), TraceContext::default());
        let call = self
            .mesh
            .call::<_, JobsReply>(subjects::ADMIN_JOBS, &report, deadline, &trace);
        match call.await {
            Ok(reply) => self.follow(reply.jobs),
            // Without an admin that gives orders, what runs goes on.
            Err(error) => tracing::debug!(%error, "no admin answered the report of jobs"),
        }
    }

    fn follow(&mut self, jobs: Vec<Job>) {
        self.running.retain(|id, running| {
            jobs.iter()
                .any(|job| job.id == *id && job.attempt == running.attempt)
        });
        for job in jobs {
            if !self.running.contains_key(&job.id) {
                let running = self.begin(&job);
                self.running.insert(job.id, running);
            }
        }
    }

    fn begin(&self, job: &Job) -> Running {
        tracing::info!(job = job.id, attempt = job.attempt, "a job begins");
        let progress = JobProgress {
            id: job.id.clone(),
            attempt: job.attempt,
            tasks: job.tasks.clone(),
            ..JobProgress::default()
        };
        let wait_max = Duration::from_millis(self.context.settings.wait_ms_max);
        let progress = Progress::new(progress, wait_max);
        let (context, client) = (self.context.clone(), self.client.clone());
        let (shared, work) = (progress.clone(), job.work.clone());
        let attempt = format!("{}-{}", job.id, job.attempt);
        let flow = Flow::begin(name(&work))
            .caused_by(TraceContext::new(&job.traceparent))
            .with("evenkeel.job", job.id.clone())
            .with(
                "evenkeel.job.attempt",
                i64::try_from(job.attempt).unwrap_or(i64::MAX),
            );
        let flows = self.flows.clone();
        let work = tokio::spawn(async move {
            let run = std::pin::pin!(run(context, client, work, shared.clone(), attempt));
            let outcome = within(flow.context(), run).await;
            let result = match &outcome {
                Outcome::Done { .. } => Ok(()),
                Outcome::Failed { code, message } => Err(format!("{code}: {message}")),
            };
            flows.end(flow, result);
            shared.change(|progress| progress.outcome = Some(outcome));
        });
        Running {
            attempt: job.attempt,
            progress,
            work,
        }
    }
}

/// What its trace is called.
fn name(work: &Work) -> &'static str {
    match work {
        Work::Restore { .. } => "restore",
        Work::Export(_) => "export",
        Work::Import(_) => "import",
    }
}

async fn run(
    context: Arc<Context>,
    client: Client,
    work: Work,
    progress: Progress,
    attempt: String,
) -> Outcome {
    let target = |table| Target {
        client: client.clone(),
        table: Arc::new(table),
    };
    let insisted = progress.clone();
    let act = || {
        let (context, progress) = (context.clone(), progress.clone());
        let (work, target) = (work.clone(), &target);
        async move {
            match work {
                Work::Restore {
                    source,
                    target: table,
                } => restore::run(context, source, target(*table), progress).await,
                Work::Export(export) => export::run(context, *export, progress).await,
                Work::Import(import) => {
                    let table = target((*import.target).clone());
                    import::run(context, *import, table, progress).await
                }
            }
        }
    };
    match insisted.insist(act).await {
        Ok(outcome) => outcome,
        Err(Stop::Failed { code, message }) => {
            tracing::error!(job = attempt, code, message, "a job has failed");
            Outcome::Failed {
                code: code.to_owned(),
                message,
            }
        }
        // `insist` makes a failure of it.
        Err(Stop::Later(message)) => Outcome::Failed {
            code: "InternalError".to_owned(),
            message,
        },
    }
}
