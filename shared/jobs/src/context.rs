//! What every job of an instance shares, and where a running job's progress is kept. Owns the retries of what fails for a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use objects::{Objects, ReadError, RebuildError, TableError};
use parking_lot::Mutex;
use protocol::jobs::{JobProgress, Task};
use routing::Client;

use crate::scratch::Scratch;
use crate::settings::JobSettings;

/// First pause after what failed for a while; doubled …
const PAUSE: Duration = Duration::from_millis(200);
/// … up to this.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Shared by all jobs of an instance.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) settings: JobSettings,
    pub(crate) objects: Objects,
    pub(crate) scratch: Arc<Scratch>,
    /// When the next bytes may be written into a table.
    pace: tokio::sync::Mutex<Instant>,
}

impl Context {
    pub(crate) fn new(settings: JobSettings, objects: Objects, scratch: Arc<Scratch>) -> Self {
        Self {
            settings,
            objects,
            scratch,
            pace: tokio::sync::Mutex::new(Instant::now()),
        }
    }

    /// Waits until so many bytes may be written.
    pub(crate) async fn pace(&self, bytes: u64) {
        let rate = self.settings.write_bytes_per_second.max(1);
        let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let from = {
            let mut next = self.pace.lock().await;
            let from = (*next).max(Instant::now());
            *next = from + cost;
            from
        };
        tokio::time::sleep_until(from.into()).await;
    }
}

/// Why a job, or a part of it, went no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It may go well later, without anybody's doing.
    Later(String),
    /// It can't be done.
    Failed {
        /// As `FailureCode` of the API.
        code: &'static str,
        /// In words.
        message: String,
    },
}

impl Stop {
    pub(crate) fn failed(code: &'static str, message: impl ToString) -> Self {
        let message = message.to_string();
        Self::Failed { code, message }
    }
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        match error.is_transient() {
            true => Self::Later(error.to_string()),
            false => Self::failed("ArchiveDamaged", error),
        }
    }
}

impl From<TableError> for Stop {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Read(error) => error.into(),
            // What is missing may be on its way: the admin let the job begin because the archivers said that they are done.
            error @ TableError::Lineage { .. } => Self::failed("ArchiveIncomplete", error),
        }
    }
}

impl From<RebuildError> for Stop {
    fn from(error: RebuildError) -> Self {
        match error {
            RebuildError::Store(error) if error.is_transient() => Self::Later(error.to_string()),
            error => Self::failed("ArchiveDamaged", error),
        }
    }
}

/// A job's progress, as it is reported.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    shared: Arc<Mutex<JobProgress>>,
    /// When a part of it got further last.
    moved: Arc<Mutex<Instant>>,
    wait_max: Duration,
}

impl Progress {
    /// Of a job that may wait for so long while nothing goes on.
    pub(crate) fn new(progress: JobProgress, wait_max: Duration) -> Self {
        Self {
            shared: Arc::new(Mutex::new(progress)),
            moved: Arc::new(Mutex::new(Instant::now())),
            wait_max,
        }
    }

    pub(crate) fn get(&self) -> JobProgress {
        self.shared.lock().clone()
    }

    pub(crate) fn task(&self, at: usize) -> Task {
        self.shared
            .lock()
            .tasks
            .get(at)
            .cloned()
            .unwrap_or_default()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut JobProgress)) {
        change(&mut self.shared.lock());
    }

    pub(crate) fn change_task(&self, at: usize, change: impl FnOnce(&mut Task)) {
        if let Some(task) = self.shared.lock().tasks.get_mut(at) {
            change(task);
        }
        *self.moved.lock() = Instant::now();
    }

    /// For how long nothing has gone on, as of a wait that began then.
    fn still(&self, since: Instant) -> Duration {
        (*self.moved.lock()).max(since).elapsed()
    }

    /// Does something until it is done or can't be done; what it waits for is told meanwhile. Pauses grow, and are bounded, as is the time in which
    /// nothing goes on.
    pub(crate) async fn insist<T, F>(&self, mut act: impl FnMut() -> F) -> Result<T, Stop>
    where
        F: Future<Output = Result<T, Stop>>,
    {
        // The wait begins with the first failure: what took long until then went on.
        let (mut pause, mut since) = (PAUSE, None);
        loop {
            match act().await {
                Err(Stop::Later(why))
                    if since.is_some_and(|since| self.still(since) >= self.wait_max) =>
                {
                    let seconds = self.wait_max.as_secs();
                    let message = format!("Nothing went on for {seconds} seconds: {why}");
                    return Err(Stop::failed("TimedOut", message));
                }
                Err(Stop::Later(why)) => {
                    since.get_or_insert_with(Instant::now);
                    tracing::info!(why, "a job waits");
                    self.change(|progress| progress.waits = why);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                done => {
                    self.change(|progress| progress.waits.clear());
                    return done;
                }
            }
        }
    }
}

/// What a restore or an import writes to.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) client: Client,
    pub(crate) table: Arc<model::TableDefinition>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(wait_max: Duration) -> Progress {
        let tasks = vec![Task::default()];
        let progress = JobProgress {
            tasks,
            ..JobProgress::default()
        };
        Progress::new(progress, wait_max)
    }

    #[tokio::test]
    async fn what_waits_for_too_long_fails_and_says_for_what() {
        let progress = progress(Duration::ZERO);
        let waited =
            progress.insist(|| async { Err::<(), _>(Stop::Later("the store is down".into())) });
        let message = "Nothing went on for 0 seconds: the store is down";
        assert_eq!(waited.await, Err(Stop::failed("TimedOut", message)));
    }

    #[tokio::test]
    async fn what_gets_further_meanwhile_goes_on() {
        let progress = progress(Duration::from_secs(3_600));
        let mut tries = 0;
        let done = progress.insist(|| {
            tries += 1;
            progress.change_task(0, |task| task.items += 1);
            let done = tries == 2;
            async move { done.then_some(7).ok_or(Stop::Later("not yet".into())) }
        });
        assert_eq!(done.await, Ok(7));
        assert_eq!(progress.get().waits, "");
        // A wait that begins counts from its own beginning.
        assert!(progress.still(Instant::now()) < Duration::from_secs(3_600));
    }
}
