//! The control plane's operations: from the JSON body that a router passed on to the JSON answer. Owns the answers' shapes.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use model::json::from_slice;
use model::{ApiError, TableDefinition};
use protocol::control::{ApiCall, ApiReply, MAKE_LEDGER};
use serde_json::{Value, json};

use crate::absent;
use crate::backups::restore_summary;
use crate::driver::Admin;
use crate::indexes::is_index_table;
use crate::records::{TableRecord, table_name_of};
use crate::requests::{CreateTable, ListTables, NamedTable, UpdateTable};
use crate::tagging::{Resource, Tagging, check_tag_count};
use crate::texts;
use crate::time_to_live;

/// Answers one call.
pub(crate) async fn answer(admin: &Arc<Admin>, call: ApiCall) -> ApiReply {
    let Ok(_permit) = admin.calls.try_acquire() else {
        return ApiReply::Error(texts::too_many_calls());
    };
    match dispatch(admin, &call).await {
        // Operations without an answer have an empty body.
        Ok(Value::Null) => ApiReply::Ok(Bytes::new()),
        Ok(json) => ApiReply::Ok(json.to_string().into()),
        Err(error) => ApiReply::Error(error),
    }
}

async fn dispatch(admin: &Arc<Admin>, call: &ApiCall) -> Result<Value, ApiError> {
    let body = &call.body;
    admin.check_access(call).await?;
    match call.operation.as_str() {
        "CreateTable" => create_table(admin, from_slice(body)?).await,
        "DescribeTable" => describe_table(admin, from_slice(body)?).await,
        "ListTables" => list_tables(admin, from_slice(body)?).await,
        "UpdateTable" => update_table(admin, from_slice(body)?).await,
        "DeleteTable" => delete_table(admin, from_slice(body)?).await,
        "TagResource" => tag(admin, from_slice(body)?).await,
        "UntagResource" => untag(admin, from_slice(body)?).await,
        "ListTagsOfResource" => list_tags(admin, from_slice(body)?).await,
        "PutResourcePolicy" => admin.put_resource_policy(from_slice(body)?, call).await,
        "GetResourcePolicy" => admin.get_resource_policy(from_slice(body)?).await,
        "DeleteResourcePolicy" => admin.delete_resource_policy(from_slice(body)?).await,
        "DescribeLimits" => Ok(admin.settings.quotas.describe()),
        "DescribeTimeToLive" => {
            let definition = find(admin, from_slice(body)?).await?;
            Ok(time_to_live::describe(&definition))
        }
        "UpdateTimeToLive" => time_to_live::update(admin, from_slice(body)?, now_ms()).await,
        "ListStreams" => admin.list_streams(from_slice(body)?).await,
        "DescribeContinuousBackups" => {
            let body = from_slice(body)?;
            admin.describe_continuous_backups(body, now_ms()).await
        }
        "UpdateContinuousBackups" => {
            let body = from_slice(body)?;
            admin.update_continuous_backups(body, now_ms()).await
        }
        "CreateBackup" => admin.create_backup(from_slice(body)?, now_ms()).await,
        "DescribeBackup" => admin.describe_backup(from_slice(body)?).await,
        "DeleteBackup" => admin.delete_backup(from_slice(body)?).await,
        "ListBackups" => admin.list_backups(from_slice(body)?).await,
        "RestoreTableFromBackup" => {
            let body = from_slice(body)?;
            admin.restore_from_backup(body, now_ms()).await
        }
        "RestoreTableToPointInTime" => {
            let body = from_slice(body)?;
            admin.restore_to_point_in_time(body, now_ms()).await
        }
        "ExportTableToPointInTime" => admin.export_table(from_slice(body)?, now_ms()).await,
        "DescribeExport" => admin.describe_export(from_slice(body)?).await,
        "ListExports" => admin.list_exports(from_slice(body)?).await,
        "ImportTable" => admin.import_table(from_slice(body)?, now_ms()).await,
        "DescribeImport" => admin.describe_import(from_slice(body)?).await,
        "ListImports" => admin.list_imports(from_slice(body)?).await,
        MAKE_LEDGER => {
            admin.make_ledger(now_ms()).await?;
            admin
                .drive(transactions::ledger::TABLE, admin.answer_wait())
                .await;
            Ok(Value::Null)
        }
        operation if absent::OPERATIONS.contains(&operation) => {
            absent::answer(admin, operation, from_slice(body)?).await
        }
        _ => Err(texts::unknown_operation()),
    }
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Admin {
    fn describe(&self, definition: &TableDefinition) -> Value {
        let counts = self.partitions.read().counts(definition.id);
        definition.describe(&self.settings.region, &counts, now_ms())
    }

    /// Same, of a table's whole record.
    pub(crate) fn describe_record(&self, record: &TableRecord) -> Value {
        let mut table = self.describe(&record.definition);
        if let Some(restored) = &record.restored {
            table["RestoreSummary"] = restore_summary(restored, record.filling.is_some());
        }
        table
    }

    /// Same, with the table's global indexes.
    async fn describe_whole(&self, record: &TableRecord) -> Result<Value, ApiError> {
        let mut table = self.describe_record(record);
        let indexes = self.describe_global_indexes(&record.definition, now_ms());
        if let Some(indexes) = indexes.await? {
            table["GlobalSecondaryIndexes"] = indexes;
        }
        Ok(table)
    }

    /// Same, of a table whose definition is all that matters.
    async fn describe_definition(&self, definition: TableDefinition) -> Result<Value, ApiError> {
        let record = TableRecord {
            definition,
            ..TableRecord::default()
        };
        self.describe_whole(&record).await
    }

    /// How long an answer waits for a change to be carried out.
    pub(crate) fn answer_wait(&self) -> Duration {
        Duration::from_millis(self.settings.answer_wait_ms)
    }
}

async fn create_table(admin: &Arc<Admin>, body: CreateTable) -> Result<Value, ApiError> {
    let definition = admin.record_table(body.validate()?, now_ms()).await?;
    admin.drive(&definition.name, admin.answer_wait()).await;
    Ok(json!({ "TableDescription": admin.describe_definition(definition).await? }))
}

async fn find(admin: &Admin, body: NamedTable) -> Result<TableDefinition, ApiError> {
    let name = body.validate()?;
    let found = admin.table(&name).await?;
    found
        .map(|stored| stored.value.definition)
        .ok_or_else(|| texts::table_not_found(&name))
}

async fn describe_table(admin: &Admin, body: NamedTable) -> Result<Value, ApiError> {
    let name = body.validate()?;
    let found = admin.table(&name).await?;
    let found = found.ok_or_else(|| texts::table_not_found(&name))?;
    Ok(json!({ "Table": admin.describe_whole(&found.value).await? }))
}

async fn list_tables(admin: &Admin, body: ListTables) -> Result<Value, ApiError> {
    let (after, limit) = body.validate()?;
    let tables = admin
        .catalog
        .scan_records::<TableRecord>(|key| table_name_of(key).is_some())
        .await?;
    let mut names: Vec<String> = tables
        .into_iter()
        .map(|stored| stored.value.definition.name)
        .filter(|name| !is_index_table(name) && name != transactions::ledger::TABLE)
        .collect();
    names.sort();
    if let Some(after) = after {
        names.retain(|name| *name > after);
    }
    let more = names.len() > limit;
    names.truncate(limit);
    let mut answer = json!({ "TableNames": names });
    if let (true, Some(last)) = (more, names.last()) {
        answer["LastEvaluatedTableName"] = json!(last);
    }
    Ok(answer)
}

async fn update_table(admin: &Arc<Admin>, body: UpdateTable) -> Result<Value, ApiError> {
    let change = body.validate()?;
    let definition = admin.record_change(&change, now_ms()).await?;
    admin.drive(&definition.name, admin.answer_wait()).await;
    Ok(json!({ "TableDescription": admin.describe_definition(definition).await? }))
}

async fn delete_table(admin: &Arc<Admin>, body: NamedTable) -> Result<Value, ApiError> {
    let name = body.validate()?;
    let definition = admin.record_deletion(&name).await?;
    admin.drive(&name, admin.answer_wait()).await;
    Ok(json!({ "TableDescription": admin.describe_definition(definition).await? }))
}

async fn tag(admin: &Admin, body: Tagging) -> Result<Value, ApiError> {
    let (resource, new) = body.tag()?;
    let changed = admin.change_record(&resource.table, |definition| {
        definition.tags.extend(new.clone());
        check_tag_count(&definition.tags)
    });
    exists(changed.await?.is_some(), &resource)
}

async fn untag(admin: &Admin, body: Tagging) -> Result<Value, ApiError> {
    let (resource, keys) = body.untag()?;
    let changed = admin.change_record(&resource.table, |definition| {
        definition.tags.retain(|key, _| !keys.contains(key));
        Ok(())
    });
    exists(changed.await?.is_some(), &resource)
}

async fn list_tags(admin: &Admin, body: Tagging) -> Result<Value, ApiError> {
    let resource = body.list()?;
    let stored = admin.table(&resource.table).await?;
    exists(stored.is_some(), &resource)?;
    let tags = stored
        .map(|stored| stored.value.definition.tags)
        .unwrap_or_default();
    let tags: Vec<Value> = tags
        .iter()
        .map(|(key, value)| json!({ "Key": key, "Value": value }))
        .collect();
    Ok(json!({ "Tags": tags }))
}

fn exists(found: bool, resource: &Resource) -> Result<Value, ApiError> {
    if found {
        Ok(Value::Null)
    } else {
        Err(texts::arn_not_found(&resource.arn))
    }
}
