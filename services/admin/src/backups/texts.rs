//! Every message text of backups, exports and imports.

use model::{ApiError, ErrorKind};

fn validation(text: impl Into<String>) -> ApiError {
    ApiError::validation(text)
}

pub(crate) fn table_not_found(name: &str) -> ApiError {
    ApiError::new(ErrorKind::TableNotFound, format!("Table not found: {name}"))
}
/// `doing` is `created`, `updated` or `deleted`.
pub(crate) fn table_in_use(name: &str, doing: &str) -> ApiError {
    ApiError::new(
        ErrorKind::TableInUse,
        format!("Table is being {doing}: {name}"),
    )
}
pub(crate) fn table_exists(name: &str) -> ApiError {
    ApiError::new(
        ErrorKind::TableAlreadyExists,
        format!("Table already exists: {name}"),
    )
}
pub(crate) fn backup_not_found(arn: &str) -> ApiError {
    ApiError::new(
        ErrorKind::BackupNotFound,
        format!("Backup not found: {arn}"),
    )
}
pub(crate) fn backup_in_use(arn: &str) -> ApiError {
    let text = format!("Backup is being created, deleted or restored to a table: {arn}");
    ApiError::new(ErrorKind::BackupInUse, text)
}
pub(crate) fn bad_backup_arn() -> ApiError {
    validation(
        "The specified BackupArn is invalid: expected arn:aws:dynamodb:REGION:ACCOUNT:table/TABLE/backup/BACKUP",
    )
}
/// No archiver was heard of.
pub(crate) fn backups_unavailable(name: &str) -> ApiError {
    let text = format!("Backups are being enabled for the table: {name}. Please retry later");
    ApiError::new(ErrorKind::ContinuousBackupsUnavailable, text)
}
pub(crate) fn recovery_unavailable(name: &str) -> ApiError {
    let text = format!("Point in time recovery is not enabled for table '{name}'");
    ApiError::new(ErrorKind::PointInTimeRecoveryUnavailable, text)
}
pub(crate) fn restore_time() -> ApiError {
    let text = "An invalid restore time was specified. RestoreDateTime must be between EarliestRestorableDateTime and LatestRestorableDateTime.";
    ApiError::new(ErrorKind::InvalidRestoreTime, text)
}
pub(crate) fn export_time() -> ApiError {
    let text = "The specified ExportTime is outside of the point in time recovery window.";
    ApiError::new(ErrorKind::InvalidExportTime, text)
}
pub(crate) fn period_without_recovery() -> ApiError {
    validation(
        "One or more parameter values were invalid: RecoveryPeriodInDays cannot be specified when PointInTimeRecoveryEnabled is false",
    )
}
pub(crate) fn no_source() -> ApiError {
    validation(
        "One or more parameter values were invalid: either SourceTableName or SourceTableArn must be specified",
    )
}
pub(crate) fn two_sources() -> ApiError {
    validation(
        "One or more parameter values were invalid: only one of SourceTableName and SourceTableArn can be specified",
    )
}
pub(crate) fn no_restore_time() -> ApiError {
    validation(
        "One or more parameter values were invalid: either RestoreDateTime or UseLatestRestorableTime must be specified",
    )
}
pub(crate) fn two_restore_times() -> ApiError {
    validation(
        "One or more parameter values were invalid: RestoreDateTime cannot be specified when UseLatestRestorableTime is true",
    )
}
pub(crate) fn vector_override() -> ApiError {
    validation(
        "One or more parameter values were invalid: VectorIndexOverride is not supported yet by Evenkeel, except as an empty list",
    )
}
/// Ours: an override selects among the source's indexes.
pub(crate) fn index_of_no_source(index: &str) -> ApiError {
    validation(format!(
        "One or more parameter values were invalid: Index override does not match an index of the source table: {index}"
    ))
}
pub(crate) fn empty_on_demand_override() -> ApiError {
    validation(
        "One or more parameter values were invalid: MaxReadRequestUnits, MaxWriteRequestUnits or both must be specified for OnDemandThroughputOverride",
    )
}
pub(crate) fn bad_table_arn(arn: &str) -> ApiError {
    validation(format!("Invalid TableArn: {arn}"))
}
pub(crate) fn export_not_found(arn: &str) -> ApiError {
    ApiError::new(
        ErrorKind::ExportNotFound,
        format!("Export not found: {arn}"),
    )
}
pub(crate) fn import_not_found(arn: &str) -> ApiError {
    ApiError::new(
        ErrorKind::ImportNotFound,
        format!("Import not found: {arn}"),
    )
}
pub(crate) fn bad_arn(member: &str) -> ApiError {
    validation(format!("The specified {member} is invalid"))
}
pub(crate) fn bad_token() -> ApiError {
    validation("The specified NextToken is invalid")
}
pub(crate) fn export_conflict() -> ApiError {
    let text = "An export with the same ClientToken and other parameters was requested within the last 8 hours";
    ApiError::new(ErrorKind::ExportConflict, text)
}
pub(crate) fn import_conflict() -> ApiError {
    let text = "An import with the same ClientToken and other parameters was requested within the last 8 hours";
    ApiError::new(ErrorKind::ImportConflict, text)
}
pub(crate) fn too_many(what: &str, limit: usize) -> ApiError {
    let text = format!("Subscriber limit exceeded: There is a limit of {limit} concurrent {what}");
    ApiError::new(ErrorKind::LimitExceeded, text)
}
pub(crate) fn csv_options_of_other_format() -> ApiError {
    validation(
        "One or more parameter values were invalid: InputFormatOptions.Csv can only be specified when InputFormat is CSV",
    )
}
pub(crate) fn csv_header_lacks_keys() -> ApiError {
    validation(
        "One or more parameter values were invalid: HeaderList must name all key attributes, and no attribute twice",
    )
}
/// Ours: certainly not done.
pub(crate) fn latest_unknown() -> ApiError {
    let text =
        "The request was not executed: how far the archive is was not heard yet. Please try again.";
    ApiError::new(ErrorKind::ServiceUnavailable, text)
}
