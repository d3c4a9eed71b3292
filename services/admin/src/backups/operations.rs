//! The operations on backups and points in time: what the API's calls do to the records. Work on tables is done by archivers (`rounds`).

use std::sync::Arc;

use model::table::TableStatus;
use model::{ApiError, ErrorKind, TableDefinition};
use protocol::jobs::{Export, Import, Source, Work};
use serde_json::{Value, json};

use super::arn;
use super::describe;
use super::records::{
    BackupKind, BackupRecord, JobRecord, Restored, backup_key, is_backup, is_job, job_key,
};
use super::request::{
    BackupQuery, Billing, CreateBackup, ListBackups, NamedBackup, Restore, RestoreTableFromBackup,
    RestoreTableToPointInTime, TableAt, UpdateContinuousBackups,
};
use super::texts;
use super::transfer::{
    ExportTable, ImportTable, ListTransfers, NamedExport, NamedImport, TransferQuery, token_of,
};
use super::window::{DAYS_MAX, PointInTime, Window};
use crate::catalog::WriteError;
use crate::create::Fill;
use crate::driver::Admin;
use crate::records::{Stored, TableRecord};
use crate::requests::{NamedTable, NewTable};

/// Restores and imports under way at most (API reference).
const RESTORES_MAX: usize = 50;
/// Exports under way at most (developer guide).
const EXPORTS_MAX: usize = 300;
/// A client token is known for so long, milliseconds (API reference).
const TOKEN_MS: u64 = 8 * 3_600_000;

impl Admin {
    fn region(&self) -> &str {
        &self.settings.region
    }

    /// Everything that was written to a table up to then is archived, milliseconds since the epoch.
    pub(crate) fn archived_ms(&self, record: &TableRecord) -> Option<u64> {
        let uuid = &record.definition.uuid;
        let mut archived = self.archived.write();
        archived.through(uuid, &record.partitions, self.now_ms())
    }

    pub(crate) fn archiver_at_work(&self) -> bool {
        self.archived.read().at_work(self.now_ms())
    }

    async fn table_of_backups(&self, name: &str) -> Result<Stored<TableRecord>, ApiError> {
        let found = self.table(name).await?;
        found.ok_or_else(|| texts::table_not_found(name))
    }

    fn recovery(&self, record: &TableRecord, now_ms: u64) -> Option<(PointInTime, Window)> {
        let recovery = record.point_in_time?;
        let window = recovery.window(self.archived_ms(record), now_ms);
        Some((recovery, window))
    }

    /// The point in time that is meant; none was given: the latest one, if that is known (just after a start it is not).
    fn point(
        &self,
        record: &TableRecord,
        at_ms: Option<u64>,
        window: Window,
    ) -> Result<u64, ApiError> {
        match (at_ms, self.archived_ms(record)) {
            (Some(at_ms), _) => Ok(at_ms),
            (None, Some(_)) => Ok(window.latest_ms),
            (None, None) => Err(texts::latest_unknown()),
        }
    }

    fn continuous(&self, record: &TableRecord, now_ms: u64) -> Value {
        describe::continuous(self.archiver_at_work(), self.recovery(record, now_ms))
    }

    /// DescribeContinuousBackups.
    pub(crate) async fn describe_continuous_backups(
        &self,
        body: NamedTable,
        now_ms: u64,
    ) -> Result<Value, ApiError> {
        let stored = self.table_of_backups(&body.validate()?).await?;
        Ok(self.continuous(&stored.value, now_ms))
    }

    /// UpdateContinuousBackups.
    pub(crate) async fn update_continuous_backups(
        &self,
        body: UpdateContinuousBackups,
        now_ms: u64,
    ) -> Result<Value, ApiError> {
        let change = body.validate()?;
        let stored = self.table_of_backups(&change.table).await?;
        if change.enabled && !self.archiver_at_work() {
            return Err(texts::backups_unavailable(&stored.value.definition.name));
        }
        let changed = self.change_table(&change.table, |record| {
            if record.definition.status == TableStatus::Deleting {
                return Err(texts::table_not_found(&change.table));
            }
            record.point_in_time = change.enabled.then(|| {
                let before = record.point_in_time;
                PointInTime {
                    since_ms: before.map_or(now_ms, |before| before.since_ms),
                    days: change.days.or(before.map(|b| b.days)).unwrap_or(DAYS_MAX),
                }
            });
            Ok(())
        });
        let record = changed.await?;
        let record = record.ok_or_else(|| texts::table_not_found(&change.table))?;
        Ok(self.continuous(&record, now_ms))
    }

    /// CreateBackup.
    pub(crate) async fn create_backup(
        &self,
        body: CreateBackup,
        now_ms: u64,
    ) -> Result<Value, ApiError> {
        let (name, backup) = body.validate()?;
        let table = self.table_of_backups(&name).await?.value;
        match table.definition.status {
            TableStatus::Creating => return Err(texts::table_in_use(&name, "created")),
            TableStatus::Deleting => return Err(texts::table_in_use(&name, "deleted")),
            TableStatus::Active | TableStatus::Updating => {}
        }
        if !self.archiver_at_work() {
            return Err(texts::backups_unavailable(&name));
        }
        let record = self.new_backup(&table, backup, BackupKind::User, now_ms);
        self.put_backup(&record).await?;
        Ok(json!({ "BackupDetails": record.details(self.region()) }))
    }

    /// A backup of a table as it is now.
    pub(crate) fn new_backup(
        &self,
        table: &TableRecord,
        name: String,
        kind: BackupKind,
        now_ms: u64,
    ) -> BackupRecord {
        let counts = self.partitions.read().counts(table.definition.id);
        BackupRecord {
            number: arn::number(now_ms, rand::random()),
            name,
            kind,
            table: table.definition.clone(),
            partitions: table.partitions.clone(),
            at_ms: now_ms,
            items: counts.items,
            bytes: counts.size_bytes,
            available: false,
            expires_ms: None,
        }
    }

    async fn put_backup(&self, record: &BackupRecord) -> Result<(), ApiError> {
        let key = backup_key(&record.number);
        match self.catalog.put(&key, record, None).await {
            Ok(_) => Ok(()),
            // The number was drawn twice.
            Err(WriteError::Conflict) => Err(ApiError::internal()),
            Err(WriteError::Api(error)) => Err(error),
        }
    }

    async fn backup(
        &self,
        named: &super::request::Named,
    ) -> Result<Stored<BackupRecord>, ApiError> {
        let key = backup_key(&named.number);
        let stored = self.catalog.get::<BackupRecord>(&key).await?;
        let found = stored.filter(|s| s.value.table.name == named.table);
        found.ok_or_else(|| texts::backup_not_found(&named.arn))
    }

    /// DescribeBackup.
    pub(crate) async fn describe_backup(&self, body: NamedBackup) -> Result<Value, ApiError> {
        let backup = self.backup(&body.validate()?).await?.value;
        Ok(json!({ "BackupDescription": backup.describe(self.region()) }))
    }

    /// DeleteBackup.
    pub(crate) async fn delete_backup(&self, body: NamedBackup) -> Result<Value, ApiError> {
        let named = body.validate()?;
        let stored = self.backup(&named).await?;
        let jobs = self.job_records().await?;
        let used = |job: &JobRecord| match &job.work {
            Work::Restore { source, .. } => {
                let of_this = (source.uuid.as_str(), source.at_ms)
                    == (stored.value.table.uuid.as_str(), stored.value.at_ms);
                job.outcome.is_none() && of_this
            }
            Work::Export(_) | Work::Import(_) => false,
        };
        if !stored.value.available || jobs.iter().any(used) {
            return Err(texts::backup_in_use(&named.arn));
        }
        match self
            .catalog
            .delete(&backup_key(&named.number), &stored.token)
            .await
        {
            Ok(()) => {}
            Err(WriteError::Conflict) => return Err(texts::backup_in_use(&named.arn)),
            Err(WriteError::Api(error)) => return Err(error),
        }
        let mut description = stored.value.describe(self.region());
        description["BackupDetails"]["BackupStatus"] = json!("DELETED");
        Ok(json!({ "BackupDescription": description }))
    }

    /// ListBackups.
    pub(crate) async fn list_backups(&self, body: ListBackups) -> Result<Value, ApiError> {
        let query = body.validate()?;
        let all = self.catalog.scan_records::<BackupRecord>(is_backup).await?;
        let (page, more) = page_of(all.into_iter().map(|s| s.value).collect(), &query);
        let region = self.region();
        let summaries: Vec<Value> = page.iter().map(|b| b.summary(region)).collect();
        let mut answer = json!({ "BackupSummaries": summaries });
        if let (true, Some(last)) = (more, page.last()) {
            answer["LastEvaluatedBackupArn"] = json!(last.arn(region));
        }
        Ok(answer)
    }

    pub(crate) async fn job_records(&self) -> Result<Vec<JobRecord>, ApiError> {
        let all = self.catalog.scan_records::<JobRecord>(is_job).await?;
        Ok(all.into_iter().map(|stored| stored.value).collect())
    }

    /// RestoreTableFromBackup.
    pub(crate) async fn restore_from_backup(
        self: &Arc<Self>,
        body: RestoreTableFromBackup,
        now_ms: u64,
    ) -> Result<Value, ApiError> {
        let asked = body.validate()?;
        self.refuse_target(&asked.target).await?;
        let backup = self.backup(&asked.source).await?.value;
        if !backup.available {
            return Err(texts::backup_in_use(&asked.source.arn));
        }
        let restored = Restored {
            backup_arn: Some(asked.source.arn.clone()),
            table_arn: backup.table.arn(self.region()),
            at_ms: backup.at_ms,
        };
        let partitions = backup.partitions.len();
        self.restore(&asked, &backup.table, partitions, restored, now_ms)
            .await
    }

    /// RestoreTableToPointInTime.
    pub(crate) async fn restore_to_point_in_time(
        self: &Arc<Self>,
        body: RestoreTableToPointInTime,
        now_ms: u64,
    ) -> Result<Value, ApiError> {
        let asked = body.validate()?;
        let TableAt { table, at_ms } = asked.source.clone();
        let source = self.table_of_backups(&table).await?.value;
        if source.definition.status == TableStatus::Deleting {
            return Err(texts::table_in_use(&table, "deleted"));
        }
        let Some((_, window)) = self.recovery(&source, now_ms) else {
            return Err(texts::recovery_unavailable(&table));
        };
        let at_ms = self.point(&source, at_ms, window)?;
        if !window.contains(at_ms) {
            return Err(texts::restore_time());
        }
        self.refuse_target(&asked.target).await?;
        let restored = Restored {
            backup_arn: None,
            table_arn: source.definition.arn(self.region()),
            at_ms,
        };
        let partitions = source.partitions.len();
        self.restore(&asked, &source.definition, partitions, restored, now_ms)
            .await
    }

    async fn refuse_target(&self, name: &str) -> Result<(), ApiError> {
        let found = self.table(name).await?;
        match found.map(|stored| stored.value.definition.status) {
            None => Ok(()),
            Some(TableStatus::Creating) => Err(texts::table_in_use(name, "created")),
            Some(TableStatus::Deleting) => Err(texts::table_in_use(name, "deleted")),
            Some(TableStatus::Active | TableStatus::Updating) => Err(texts::table_exists(name)),
        }
    }

    async fn restore<S>(
        self: &Arc<Self>,
        asked: &Restore<S>,
        source: &TableDefinition,
        partitions: usize,
        restored: Restored,
        now_ms: u64,
    ) -> Result<Value, ApiError> {
        let Billing { mode, maximum } = asked.billing(source)?;
        let new = NewTable {
            name: asked.target.clone(),
            keys: source.keys.clone(),
            indexes: asked.indexes(source, mode)?,
            billing: mode,
            maximum,
            warm: Default::default(),
            class: source.table_class.clone(),
            protection: false,
            tags: Default::default(),
            stream: None,
            policy: None,
        };
        new.refuse_reserved()?;
        let jobs = self.job_records().await?;
        check_room(&jobs, "restores", RESTORES_MAX, JobRecord::is_restore)?;
        let from = Source {
            uuid: source.uuid.clone(),
            table: source.id,
            at_ms: restored.at_ms,
        };
        let fill = Fill {
            partitions: u32::try_from(partitions).unwrap_or(u32::MAX),
            restored: Some(restored),
            job: move |target: &TableDefinition, number: String| {
                let work = Work::Restore {
                    source: from,
                    target: Box::new(target.clone()),
                };
                JobRecord::new(number, target, work, now_ms)
            },
        };
        let made = self.record_filled_table(new, now_ms, fill).await;
        let (record, _) = made.map_err(|error| match error.kind {
            // Another request was first.
            ErrorKind::ResourceInUse => texts::table_exists(&asked.target),
            _ => error,
        })?;
        self.drive(&asked.target, std::time::Duration::ZERO).await;
        Ok(json!({ "TableDescription": self.describe_record(&record) }))
    }

    /// ExportTableToPointInTime.
    pub(crate) async fn export_table(
        &self,
        body: ExportTable,
        now_ms: u64,
    ) -> Result<Value, ApiError> {
        let asked = body.validate()?;
        let source = self.table_of_backups(&asked.table).await?.value;
        let Some((_, window)) = self.recovery(&source, now_ms) else {
            return Err(texts::recovery_unavailable(&asked.table));
        };
        let jobs = self.job_records().await?;
        let region = self.region();
        let token = asked.token.as_deref();
        if let Some(earlier) = with_token(&jobs, token, now_ms, JobRecord::is_export) {
            let same_time = match (&earlier.work, asked.at_ms) {
                (Work::Export(export), Some(at_ms)) => export.source.at_ms == at_ms,
                _ => true,
            };
            let same = earlier.table == asked.table && earlier.asked == asked.asked && same_time;
            return match same {
                true => Ok(json!({ "ExportDescription": earlier.describe_export(region) })),
                false => Err(texts::export_conflict()),
            };
        }
        check_room(&jobs, "exports", EXPORTS_MAX, JobRecord::is_export)?;
        let at_ms = self.point(&source, asked.at_ms, window)?;
        if !window.contains(at_ms) {
            return Err(texts::export_time());
        }
        let number = arn::number(now_ms, rand::random());
        let work = Work::Export(Box::new(Export {
            source: Source {
                uuid: source.definition.uuid.clone(),
                table: source.definition.id,
                at_ms,
            },
            bucket: asked.bucket,
            prefix: asked.prefix,
            folder: number.clone(),
            arn: arn::arn(region, &asked.table, arn::Kind::Export, &number),
            table_arn: source.definition.arn(region),
            started_ms: now_ms,
        }));
        let record = JobRecord {
            asked: asked.asked,
            token: asked.token,
            ..JobRecord::new(number, &source.definition, work, now_ms)
        };
        self.put_job(&record).await?;
        Ok(json!({ "ExportDescription": record.describe_export(region) }))
    }

    pub(crate) async fn put_job(&self, record: &JobRecord) -> Result<(), ApiError> {
        let key = job_key(&record.number);
        match self.catalog.put(&key, record, None).await {
            Ok(_) => Ok(()),
            // The number was drawn twice.
            Err(WriteError::Conflict) => Err(ApiError::internal()),
            Err(WriteError::Api(error)) => Err(error),
        }
    }

    /// DescribeExport.
    pub(crate) async fn describe_export(&self, body: NamedExport) -> Result<Value, ApiError> {
        let named = body.validate()?;
        let key = job_key(&named.number);
        let stored = self.catalog.get::<JobRecord>(&key).await?;
        let found = stored.map(|stored| stored.value);
        let found = found.filter(|job| job.is_export() && job.table == named.table);
        let job = found.ok_or_else(|| texts::export_not_found(&named.arn))?;
        Ok(json!({ "ExportDescription": job.describe_export(self.region()) }))
    }

    /// ListExports.
    pub(crate) async fn list_exports(&self, body: ListTransfers) -> Result<Value, ApiError> {
        let query = body.validate()?;
        let jobs = self.job_records().await?;
        let exports = jobs.into_iter().filter(JobRecord::is_export).collect();
        let (page, next) = transfers(exports, &query);
        let region = self.region();
        let page: Vec<Value> = page.iter().map(|j| j.summarise_export(region)).collect();
        let mut answer = json!({ "ExportSummaries": page });
        if let Some(next) = next {
            answer["NextToken"] = json!(next);
        }
        Ok(answer)
    }

    /// ImportTable.
    pub(crate) async fn import_table(
        self: &Arc<Self>,
        body: ImportTable,
        now_ms: u64,
    ) -> Result<Value, ApiError> {
        let asked = body.validate()?;
        let jobs = self.job_records().await?;
        let region = self.region();
        let token = asked.token.as_deref();
        if let Some(earlier) = with_token(&jobs, token, now_ms, JobRecord::is_import) {
            return match earlier.asked == asked.asked {
                true => Ok(json!({ "ImportTableDescription": earlier.describe_import(region) })),
                false => Err(texts::import_conflict()),
            };
        }
        check_room(&jobs, "imports", RESTORES_MAX, JobRecord::is_import)?;
        let name = asked.table.name.clone();
        let fill = Fill {
            partitions: 0,
            restored: None,
            job: move |target: &TableDefinition, number: String| {
                let work = Work::Import(Box::new(Import {
                    bucket: asked.bucket,
                    prefix: asked.prefix,
                    format: asked.format,
                    gzip: asked.gzip,
                    target: Box::new(target.clone()),
                }));
                JobRecord {
                    asked: asked.asked,
                    token: asked.token,
                    ..JobRecord::new(number, target, work, now_ms)
                }
            },
        };
        let (_, job) = self.record_filled_table(asked.table, now_ms, fill).await?;
        self.drive(&name, std::time::Duration::ZERO).await;
        Ok(json!({ "ImportTableDescription": job.describe_import(self.region()) }))
    }

    /// DescribeImport.
    pub(crate) async fn describe_import(&self, body: NamedImport) -> Result<Value, ApiError> {
        let named = body.validate()?;
        let key = job_key(&named.number);
        let stored = self.catalog.get::<JobRecord>(&key).await?;
        let found = stored.map(|stored| stored.value);
        let found = found.filter(|job| job.is_import() && job.table == named.table);
        let job = found.ok_or_else(|| texts::import_not_found(&named.arn))?;
        Ok(json!({ "ImportTableDescription": job.describe_import(self.region()) }))
    }

    /// ListImports.
    pub(crate) async fn list_imports(&self, body: ListTransfers) -> Result<Value, ApiError> {
        let query = body.validate()?;
        let jobs = self.job_records().await?;
        let imports = jobs.into_iter().filter(JobRecord::is_import).collect();
        let (page, next) = transfers(imports, &query);
        let region = self.region();
        let page: Vec<Value> = page.iter().map(|j| j.summarise_import(region)).collect();
        let mut answer = json!({ "ImportSummaryList": page });
        if let Some(next) = next {
            answer["NextToken"] = json!(next);
        }
        Ok(answer)
    }
}

/// The backups of a page, in the order of their tables and times, and whether there are more.
fn page_of(all: Vec<BackupRecord>, query: &BackupQuery) -> (Vec<BackupRecord>, bool) {
    let place = |b: &BackupRecord| (b.table.name.clone(), b.number.clone());
    let after = query
        .after
        .as_ref()
        .map(|a| (a.table.clone(), a.number.clone()));
    let kind = |b: &BackupRecord| match query.kind.as_str() {
        "ALL" => true,
        "USER" => b.kind == BackupKind::User,
        "SYSTEM" => b.kind == BackupKind::System,
        _ => false,
    };
    let mut page: Vec<BackupRecord> = all
        .into_iter()
        .filter(|b| query.table.as_ref().is_none_or(|t| *t == b.table.name))
        .filter(|b| (query.from_ms..query.until_ms).contains(&b.at_ms))
        .filter(|b| kind(b) && after.as_ref().is_none_or(|after| place(b) > *after))
        .collect();
    page.sort_by_key(place);
    let more = page.len() > query.limit;
    page.truncate(query.limit);
    (page, more)
}

/// The exports or imports of a page, the newest first, and the token of the next one.
fn transfers(mut jobs: Vec<JobRecord>, query: &TransferQuery) -> (Vec<JobRecord>, Option<String>) {
    jobs.retain(|job| {
        query.table.as_ref().is_none_or(|table| *table == job.table)
            && query
                .before
                .as_ref()
                .is_none_or(|before| job.number < *before)
    });
    jobs.sort_by(|a, b| b.number.cmp(&a.number));
    let more = jobs.len() > query.limit;
    jobs.truncate(query.limit);
    let next = jobs
        .last()
        .filter(|_| more)
        .map(|job| token_of(&job.number));
    (jobs, next)
}

/// Refuses one more job of a kind beside those that are under way.
fn check_room(
    jobs: &[JobRecord],
    what: &str,
    limit: usize,
    of: impl Fn(&JobRecord) -> bool,
) -> Result<(), ApiError> {
    let running = jobs.iter().filter(|j| j.outcome.is_none() && of(j)).count();
    match running < limit {
        true => Ok(()),
        false => Err(texts::too_many(what, limit)),
    }
}

/// The job that was asked for with this token, if that is known still.
fn with_token<'a>(
    jobs: &'a [JobRecord],
    token: Option<&str>,
    now_ms: u64,
    of: impl Fn(&JobRecord) -> bool,
) -> Option<&'a JobRecord> {
    let token = token?;
    jobs.iter().find(|job| {
        let known = job.outcome.is_none() || now_ms.saturating_sub(job.ended_ms) < TOKEN_MS;
        of(job) && known && job.token.as_deref() == Some(token)
    })
}

#[cfg(test)]
#[path = "operations_tests.rs"]
mod tests;
