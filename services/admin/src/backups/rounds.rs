//! What goes on about backups without anybody calling: reports of archivers are taken in and answered, jobs are given out, backups become available,
//! old records go. By the active admin only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::table::{DAY_MS, TableStatus};
use model::{ApiError, Item};
use protocol::archive::{ArchivePlan, ArchiveReport, TablePolicy};
use protocol::jobs::{JobsReply, JobsReport, Outcome, Work};

use super::arn;
use super::jobs::{Change, Workers, aged, progressed};
use super::policies::kept;
use super::records::{BackupKind, BackupRecord, JobRecord, backup_key, is_backup, is_job, job_key};
use crate::api::now_ms;
use crate::catalog::WriteError;
use crate::driver::{Admin, Unsettled};
use crate::records::{self, Stored, TableRecord};

/// The last backup of a deleted table is kept for so long, milliseconds (developer guide).
const LAST_BACKUP_MS: u64 = 35 * DAY_MS;
/// Leaders' clocks may be ahead of ours by so much, milliseconds: what they stamped last belongs to the last backup, too.
const AHEAD_MS: u64 = 1_000;

/// Policies in one answer.
const POLICIES_MAX: usize = 1_000;

/// What the active admin knows of jobs and of what the archive keeps, as of the last reconciliation and the reports since.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// The epoch under which it was looked at: what an earlier holder of the lease did meanwhile is known.
    epoch: Option<u64>,
    jobs: BTreeMap<String, Stored<JobRecord>>,
    workers: Workers,
    kept: Vec<TablePolicy>,
}

impl Admin {
    /// Takes in a report of a worker; the answer, if this admin gives the orders.
    pub(crate) async fn take_jobs_report(
        self: &Arc<Self>,
        report: JobsReport,
    ) -> Option<JobsReply> {
        let epoch = self.epoch()?;
        {
            let mut board = self.board.lock();
            board.workers.heard(&report, self.now_ms());
            // Silence lets a worker go on; an empty answer would stop it.
            if board.epoch != Some(epoch) {
                return None;
            }
        }
        for progress in &report.progress {
            let known = self.board.lock().jobs.get(&progress.id).cloned();
            let Some(known) = known else { continue };
            let next = progressed(&known.value, report.instance, progress, now_ms());
            if let Some(next) = next {
                self.write_job(next, &known.token).await;
            }
        }
        let board = self.board.lock();
        let jobs = board.jobs.values().map(|stored| &stored.value);
        let own = jobs.filter(|job| {
            job.outcome.is_none()
                && (job.owner, job.incarnation) == (Some(report.instance), report.incarnation)
        });
        Some(JobsReply {
            jobs: own.map(JobRecord::job).collect(),
        })
    }

    /// Writes a job's record; if somebody else did, the next reconciliation shows what there is.
    async fn write_job(self: &Arc<Self>, next: JobRecord, token: &str) {
        let key = job_key(&next.number);
        let number = next.number.clone();
        match self.catalog.put(&key, &next, Some(token)).await {
            Ok(token) => {
                let ended = next.outcome.clone();
                let filled = next.target().map(|table| table.name.clone());
                let value = next;
                self.board
                    .lock()
                    .jobs
                    .insert(number.clone(), Stored { value, token });
                if let Some(outcome) = ended {
                    match outcome {
                        Outcome::Done { .. } => tracing::info!(job = number, "a job is done"),
                        Outcome::Failed { code, message } => {
                            tracing::error!(job = number, code, message, "a job has failed");
                        }
                    }
                    if let Some(table) = filled {
                        self.drive(&table, Duration::ZERO).await;
                    }
                }
            }
            Err(WriteError::Conflict) => {
                tracing::debug!(job = number, "a job's record was changed meanwhile");
            }
            Err(WriteError::Api(error)) => {
                tracing::warn!(job = number, %error, "a job's record can't be written");
            }
        }
    }

    /// One round, with all items of the system table; `tables` are known by now.
    pub(crate) async fn look_after_backups(self: &Arc<Self>, items: &[Item]) {
        let mut jobs = Vec::new();
        let mut backups = Vec::new();
        for item in items {
            match records::key_of(item) {
                Some(key) if is_job(key) => jobs.extend(records::from_item::<JobRecord>(item)),
                Some(key) if is_backup(key) => {
                    backups.extend(records::from_item::<BackupRecord>(item));
                }
                _ => {}
            }
        }
        let tables = self.tables.read().clone();
        self.note_archived(&tables, &backups);
        let Some(epoch) = self.epoch() else {
            self.board.lock().epoch = None;
            return;
        };
        self.age_backups(&tables, &mut backups).await;
        let filling: BTreeSet<&str> = tables
            .iter()
            .filter_map(|table| Some(table.filling.as_ref()?.job.as_str()))
            .collect();
        for job in &jobs {
            match aged(
                &job.value,
                filling.contains(job.value.number.as_str()),
                now_ms(),
            ) {
                Change::Keep => {}
                Change::Put(next) => self.write_job(*next, &job.token).await,
                Change::Delete => {
                    let key = job_key(&job.value.number);
                    self.forget(&key, &job.token).await;
                }
            }
        }
        let given = {
            let mut board = self.board.lock();
            board.kept = kept(
                &tables,
                backups.iter().map(|b| &b.value),
                jobs.iter().map(|j| &j.value),
                now_ms(),
            );
            let jobs = jobs.into_iter().map(|job| (job.value.number.clone(), job));
            let board = &mut *board;
            board.jobs = jobs.collect();
            if board.epoch.replace(epoch) != Some(epoch) {
                board.workers.forget_waits();
            }
            let made: BTreeSet<&str> = tables
                .iter()
                .filter_map(|table| table.filling.as_ref().filter(|f| f.made))
                .map(|filling| filling.job.as_str())
                .collect();
            let lacks = |job: &JobRecord| {
                if job.target().is_some() && !made.contains(job.number.as_str()) {
                    return Some("The table that is to be filled is not made");
                }
                let waits = !self.archived_for(job, &tables);
                waits.then_some("The archive has not come as far as the point in time")
            };
            let jobs = || board.jobs.values().map(|stored| &stored.value);
            let wait_ms_max = self.settings.job_wait_ms_max;
            let times = (self.now_ms(), now_ms());
            let mut given = board.workers.give_up(jobs(), lacks, wait_ms_max, times);
            let open = jobs().filter(|job| !given.iter().any(|up| up.number == job.number));
            let ready = |job: &JobRecord| lacks(job).is_none();
            given.extend(board.workers.assign(open, ready, self.now_ms()));
            let token = |job: &JobRecord| board.jobs.get(&job.number).map(|s| s.token.clone());
            let given: Vec<_> = given
                .into_iter()
                .filter_map(|job| token(&job).map(|token| (job, token)))
                .collect();
            given
        };
        for (job, token) in given {
            self.write_job(job, &token).await;
        }
    }

    /// Takes note of how far the archive is, also here where it is not asked for at the moment.
    fn note_archived(&self, tables: &[TableRecord], backups: &[Stored<BackupRecord>]) {
        for table in tables {
            self.archived_ms(table);
        }
        let live: BTreeSet<&str> = tables.iter().map(|t| t.definition.uuid.as_str()).collect();
        let held: BTreeSet<&str> = backups
            .iter()
            .map(|b| b.value.table.uuid.as_str())
            .collect();
        let wanted = |uuid: &str| live.contains(uuid) || held.contains(uuid);
        self.archived.write().retain(wanted);
    }

    /// Whether the archive has all that a job reads: it waits until then. What is read of a table that is gone was archived before that went.
    fn archived_for(&self, job: &JobRecord, tables: &[TableRecord]) -> bool {
        let source = match &job.work {
            Work::Restore { source, .. } => source,
            Work::Export(export) => &export.source,
            Work::Import(_) => return true,
        };
        let table = tables.iter().find(|t| t.definition.uuid == source.uuid);
        table.is_none_or(|table| self.archived_ms(table).is_some_and(|ms| ms >= source.at_ms))
    }

    /// Backups become available once the archive has all of them, and go once they have expired.
    async fn age_backups(&self, tables: &[TableRecord], backups: &mut Vec<Stored<BackupRecord>>) {
        let now_ms = now_ms();
        let mut left = Vec::with_capacity(backups.len());
        for mut stored in backups.drain(..) {
            let backup = &stored.value;
            if backup.expires_ms.is_some_and(|ms| ms <= now_ms) {
                self.forget(&backup_key(&backup.number), &stored.token)
                    .await;
                continue;
            }
            if !backup.available {
                let table = tables
                    .iter()
                    .find(|t| t.definition.uuid == backup.table.uuid);
                let archived = table.and_then(|table| self.archived_ms(table));
                if archived.is_some_and(|ms| ms >= backup.at_ms) {
                    let mut next = backup.clone();
                    next.available = true;
                    let key = backup_key(&next.number);
                    if let Ok(token) = self.catalog.put(&key, &next, Some(&stored.token)).await {
                        stored = Stored { value: next, token };
                    }
                }
            }
            left.push(stored);
        }
        *backups = left;
    }

    async fn forget(&self, key: &str, token: &str) {
        match self.catalog.delete(key, token).await {
            Ok(()) | Err(WriteError::Conflict) => {}
            Err(WriteError::Api(error)) => {
                tracing::warn!(key, %error, "an old record can't be deleted");
            }
        }
    }

    /// Takes in how far an archiver is; the answer, if this admin gives the orders and knows what is to be kept.
    pub(crate) fn take_archive_report(&self, report: &ArchiveReport) -> Option<ArchivePlan> {
        {
            let now_ms = self.now_ms();
            let mut archived = self.archived.write();
            archived.heard(now_ms);
            for table in &report.tables {
                for &partition in &table.partitions {
                    archived.learn(&table.uuid, partition, table.through_ms, now_ms);
                }
            }
        }
        let epoch = self.epoch()?;
        let board = self.board.lock();
        if board.epoch != Some(epoch) {
            return None;
        }
        let rest = board.kept.iter().filter(|kept| kept.uuid > report.after);
        let mut policies: Vec<TablePolicy> = rest.take(POLICIES_MAX + 1).cloned().collect();
        let more = policies.len() > POLICIES_MAX;
        policies.truncate(POLICIES_MAX);
        let last = policies.last().filter(|_| more);
        Some(ArchivePlan {
            next: last.map(|policy| policy.uuid.clone()),
            policies,
        })
    }

    /// The last backup of a table that is DELETING and had point-in-time recovery: taken once its partitions take no more writes.
    pub(crate) async fn take_last_backup(
        &self,
        mut stored: Stored<TableRecord>,
    ) -> Result<Stored<TableRecord>, Unsettled> {
        if stored.value.point_in_time.is_none() {
            return Ok(stored);
        }
        let record = &mut stored.value;
        if record.last_backup.is_none() {
            for &partition in &record.partitions {
                let Some(partition) = self.partition(partition).await? else {
                    return Err(Unsettled::Later("a partition has no record"));
                };
                // The second time it is not done before all that was under way is over, too.
                for _ in 0..2 {
                    self.set_table(&partition.value, &record.definition).await?;
                }
            }
            record.last_backup = Some(arn::number(now_ms() + AHEAD_MS, rand::random()));
            let key = records::table_key(&record.definition.name);
            stored.token = self.catalog.put(&key, record, Some(&stored.token)).await?;
        }
        if let Some(number) = record.last_backup.clone() {
            let name = format!("{}$DeletedTableBackup", record.definition.name);
            let at_ms = arn::time_of(&number);
            let key = backup_key(&number);
            let mut backup = self.new_backup(record, name, BackupKind::System, at_ms);
            backup.table.status = TableStatus::Active;
            backup.expires_ms = Some(at_ms + LAST_BACKUP_MS);
            backup.number = number;
            match self.catalog.put(&key, &backup, None).await {
                Ok(_) | Err(WriteError::Conflict) => {}
                Err(WriteError::Api(error)) => return Err(error.into()),
            }
        }
        Ok(stored)
    }

    /// Backups of a table whose log is still on its way into the archive: its partitions are not dropped before.
    pub(crate) async fn await_backups(&self, record: &TableRecord) -> Result<(), Unsettled> {
        let uuid = &record.definition.uuid;
        let backups = self.catalog.scan_records::<BackupRecord>(is_backup).await;
        let backups = backups.map_err(|error: ApiError| Unsettled::Api(error))?;
        let backed_up =
            |b: &Stored<BackupRecord>| b.value.table.uuid == *uuid && !b.value.available;
        let jobs = self.job_records().await?;
        let tables = std::slice::from_ref(record);
        let read = |job: &JobRecord| job.outcome.is_none() && !self.archived_for(job, tables);
        match backups.iter().any(backed_up) || jobs.iter().any(read) {
            true => Err(Unsettled::Later(
                "what a backup, restore or export of it needs is not archived yet",
            )),
            false => Ok(()),
        }
    }
}
