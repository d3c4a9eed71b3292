//! Answers: backups, exports and imports as the API describes them. Pure.

use model::table::{BillingMode, api_time};
use protocol::jobs::{Outcome, Task, Work};
use serde_json::{Value, json};

use super::arn::{Kind, arn};
use super::records::{BackupKind, BackupRecord, JobRecord, Restored};
use super::window::{PointInTime, Window};

/// `ContinuousBackupsDescription`. `archived`: an archiver is at work.
pub(crate) fn continuous(archived: bool, recovery: Option<(PointInTime, Window)>) -> Value {
    let point_in_time = match recovery {
        None => json!({ "PointInTimeRecoveryStatus": "DISABLED" }),
        Some((recovery, window)) => json!({
            "PointInTimeRecoveryStatus": "ENABLED",
            "RecoveryPeriodInDays": recovery.days,
            "EarliestRestorableDateTime": api_time(window.earliest_ms),
            "LatestRestorableDateTime": api_time(window.latest_ms),
        }),
    };
    json!({ "ContinuousBackupsDescription": {
        // Amazon's are always enabled; here it takes an archiver.
        "ContinuousBackupsStatus": if archived || recovery.is_some() { "ENABLED" } else { "DISABLED" },
        "PointInTimeRecoveryDescription": point_in_time,
    } })
}

impl BackupRecord {
    pub(crate) fn arn(&self, region: &str) -> String {
        arn(region, &self.table.name, Kind::Backup, &self.number)
    }

    fn status(&self) -> &'static str {
        if self.available {
            "AVAILABLE"
        } else {
            "CREATING"
        }
    }

    fn kind(&self) -> &'static str {
        match self.kind {
            BackupKind::User => "USER",
            BackupKind::System => "SYSTEM",
        }
    }

    /// `BackupDetails`.
    pub(crate) fn details(&self, region: &str) -> Value {
        let mut details = json!({
            "BackupArn": self.arn(region),
            "BackupName": self.name,
            "BackupSizeBytes": self.bytes,
            "BackupStatus": self.status(),
            "BackupType": self.kind(),
            "BackupCreationDateTime": api_time(self.at_ms),
        });
        if let Some(ms) = self.expires_ms {
            details["BackupExpiryDateTime"] = api_time(ms);
        }
        details
    }

    /// `BackupSummary`.
    pub(crate) fn summary(&self, region: &str) -> Value {
        let mut summary = self.details(region);
        summary["TableName"] = json!(self.table.name);
        summary["TableId"] = json!(self.table.uuid);
        summary["TableArn"] = json!(self.table.arn(region));
        summary
    }

    /// `BackupDescription`.
    pub(crate) fn describe(&self, region: &str) -> Value {
        let table = &self.table;
        let (billing, reads, writes) = billing(table.billing);
        let mut source = json!({
            "TableName": table.name,
            "TableId": table.uuid,
            "TableArn": table.arn(region),
            "TableSizeBytes": self.bytes,
            "KeySchema": table.keys.describe(),
            "TableCreationDateTime": api_time(table.created_ms),
            "ProvisionedThroughput": { "ReadCapacityUnits": reads, "WriteCapacityUnits": writes },
            "ItemCount": self.items,
            "BillingMode": billing,
        });
        for (field, max) in [
            ("MaxReadRequestUnits", table.on_demand_max.max_read_units),
            ("MaxWriteRequestUnits", table.on_demand_max.max_write_units),
        ] {
            if let Some(max) = max {
                source["OnDemandThroughput"][field] = json!(max);
            }
        }
        json!({
            "BackupDetails": self.details(region),
            "SourceTableDetails": source,
            "SourceTableFeatureDetails": self.features(region),
        })
    }

    /// `SourceTableFeatureDetails`.
    fn features(&self, region: &str) -> Value {
        let table = &self.table;
        let mut features = json!({ "TimeToLiveDescription": table.ttl.describe(false) });
        for (member, local) in [
            ("LocalSecondaryIndexes", true),
            ("GlobalSecondaryIndexes", false),
        ] {
            let indexes = table.index_requests(local);
            if !indexes.is_empty() {
                features[member] = json!(indexes);
            }
        }
        let mut shown = json!({});
        table.streams.describe(&table.arn(region), &mut shown);
        if let Some(stream) = shown.get("StreamSpecification") {
            features["StreamDescription"] = stream.clone();
        }
        features
    }
}

fn billing(mode: BillingMode) -> (&'static str, u64, u64) {
    match mode {
        BillingMode::PayPerRequest => ("PAY_PER_REQUEST", 0, 0),
        BillingMode::Provisioned {
            read_units,
            write_units,
        } => ("PROVISIONED", read_units, write_units),
    }
}

/// `RestoreSummary` of a table.
pub(crate) fn restore_summary(restored: &Restored, in_progress: bool) -> Value {
    let mut summary = json!({
        "SourceTableArn": restored.table_arn,
        "RestoreDateTime": api_time(restored.at_ms),
        "RestoreInProgress": in_progress,
    });
    if let Some(arn) = &restored.backup_arn {
        summary["SourceBackupArn"] = json!(arn);
    }
    summary
}

fn total(tasks: &[Task], what: impl Fn(&Task) -> u64) -> u64 {
    tasks.iter().map(what).sum()
}

impl JobRecord {
    /// Its Amazon Resource Name: of an export or import.
    pub(crate) fn arn(&self, region: &str) -> String {
        let kind = if self.is_import() {
            Kind::Import
        } else {
            Kind::Export
        };
        arn(region, &self.table, kind, &self.number)
    }

    fn status(&self) -> &'static str {
        match &self.outcome {
            None => "IN_PROGRESS",
            Some(Outcome::Done { .. }) => "COMPLETED",
            Some(Outcome::Failed { .. }) => "FAILED",
        }
    }

    /// What was asked for, and how it went: common to exports and imports.
    fn told(&self) -> Value {
        let mut told = match &self.asked {
            Value::Object(asked) => Value::Object(asked.clone()),
            _ => json!({}),
        };
        told["StartTime"] = api_time(self.started_ms);
        if self.ended_ms > 0 {
            told["EndTime"] = api_time(self.ended_ms);
        }
        if let Some(token) = &self.token {
            told["ClientToken"] = json!(token);
        }
        if let Some(Outcome::Failed { code, message }) = &self.outcome {
            told["FailureCode"] = json!(code);
            told["FailureMessage"] = json!(message);
        }
        told
    }

    /// `ExportDescription`.
    pub(crate) fn describe_export(&self, region: &str) -> Value {
        let mut told = self.told();
        told["ExportArn"] = json!(self.arn(region));
        told["ExportStatus"] = json!(self.status());
        told["TableArn"] = json!(model::table::table_arn(region, &self.table));
        told["TableId"] = json!(self.uuid);
        if let Work::Export(export) = &self.work {
            told["ExportTime"] = api_time(export.source.at_ms);
        }
        if let Some(Outcome::Done { manifest }) = &self.outcome {
            told["BilledSizeBytes"] = json!(total(&self.tasks, |t| t.bytes));
            told["ItemCount"] = json!(total(&self.tasks, |t| t.items));
            if let Some(manifest) = manifest {
                told["ExportManifest"] = json!(manifest);
            }
        }
        told
    }

    /// `ExportSummary`.
    pub(crate) fn summarise_export(&self, region: &str) -> Value {
        json!({
            "ExportArn": self.arn(region),
            "ExportStatus": self.status(),
            "ExportType": "FULL_EXPORT",
        })
    }

    /// `ImportTableDescription`.
    pub(crate) fn describe_import(&self, region: &str) -> Value {
        let mut told = self.told();
        told["ImportArn"] = json!(self.arn(region));
        told["ImportStatus"] = json!(self.status());
        told["TableArn"] = json!(model::table::table_arn(region, &self.table));
        told["TableId"] = json!(self.uuid);
        told["ErrorCount"] = json!(total(&self.tasks, |t| t.errors));
        told["ProcessedSizeBytes"] = json!(total(&self.tasks, |t| t.bytes));
        told["ProcessedItemCount"] = json!(total(&self.tasks, |t| t.records));
        told["ImportedItemCount"] = json!(total(&self.tasks, |t| t.items));
        told
    }

    /// `ImportSummary`.
    pub(crate) fn summarise_import(&self, region: &str) -> Value {
        let all = self.describe_import(region);
        let fields = [
            "ImportArn",
            "ImportStatus",
            "TableArn",
            "S3BucketSource",
            "InputFormat",
            "StartTime",
            "EndTime",
        ];
        fields
            .into_iter()
            .filter(|field| !all[*field].is_null())
            .map(|field| (field.to_owned(), all[field].clone()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}
