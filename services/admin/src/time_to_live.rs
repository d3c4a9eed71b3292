//! UpdateTimeToLive and DescribeTimeToLive. The deletion itself is the storage nodes'.

use std::sync::Arc;

use model::table::TableStatus;
use model::{ApiError, TableDefinition};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::constraints::{Constraints, table_of};
use crate::driver::Admin;
use crate::texts;
use crate::update::refuse_busy;

/// Body of UpdateTimeToLive.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct UpdateTimeToLive {
    table_name: Option<String>,
    time_to_live_specification: Option<Specification>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Specification {
    enabled: Option<bool>,
    attribute_name: Option<String>,
}

impl UpdateTimeToLive {
    /// Table, attribute, and whether it is to be enabled.
    fn validate(self) -> Result<(String, String, bool), ApiError> {
        let mut constraints = Constraints::default();
        constraints.table_name(self.table_name.as_deref());
        let specification = self.time_to_live_specification.as_ref();
        constraints.present("timeToLiveSpecification", specification.is_some());
        if let Some(specification) = specification {
            let member = |name: &str| format!("timeToLiveSpecification.{name}");
            constraints.present(&member("enabled"), specification.enabled.is_some());
            match &specification.attribute_name {
                None => constraints.present(&member("attributeName"), false),
                Some(name) => constraints.length(&member("attributeName"), name, 1, 255),
            }
        }
        constraints.check()?;
        let specification = self.time_to_live_specification.unwrap_or_default();
        Ok((
            table_of(self.table_name.as_deref().unwrap_or_default()).to_owned(),
            specification.attribute_name.unwrap_or_default(),
            specification.enabled.unwrap_or_default(),
        ))
    }
}

/// Changes the time to live of a table; `interval_ms`: between two changes.
fn apply(
    definition: &mut TableDefinition,
    attribute: &str,
    enabled: bool,
    (now_ms, interval_ms): (u64, u64),
) -> Result<(), ApiError> {
    refuse_busy(definition)?;
    let ttl = &mut definition.ttl;
    match (&ttl.attribute, enabled) {
        (Some(current), _) if current != attribute => {
            return Err(texts::ttl_on_other_attribute(current));
        }
        (Some(_), true) => return Err(texts::ttl_is_enabled()),
        (None, false) => return Err(texts::ttl_is_disabled()),
        _ => {}
    }
    if ttl.changed_ms > 0 && now_ms < ttl.changed_ms.saturating_add(interval_ms) {
        return Err(texts::ttl_changed_lately());
    }
    ttl.attribute = enabled.then(|| attribute.to_owned());
    ttl.changed_attribute = attribute.to_owned();
    ttl.changed_ms = now_ms;
    definition.note_change(false);
    Ok(())
}

/// `TimeToLiveDescription`.
pub(crate) fn describe(definition: &TableDefinition) -> Value {
    let settling = definition.shown_status() == TableStatus::Updating;
    let described = definition
        .ttl
        .describe(settling && definition.ttl.changed_ms > 0);
    json!({ "TimeToLiveDescription": described })
}

/// UpdateTimeToLive.
pub(crate) async fn update(
    admin: &Arc<Admin>,
    body: UpdateTimeToLive,
    now_ms: u64,
) -> Result<Value, ApiError> {
    let (name, attribute, enabled) = body.validate()?;
    let times = (now_ms, admin.settings.ttl_change_every_ms);
    let changed = admin.change_record(&name, |definition| {
        apply(definition, &attribute, enabled, times)
    });
    changed
        .await?
        .ok_or_else(|| texts::table_not_found(&name))?;
    admin.drive(&name, admin.answer_wait()).await;
    Ok(json!({
        "TimeToLiveSpecification": { "AttributeName": attribute, "Enabled": enabled }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn change(
        table: &mut TableDefinition,
        attribute: &str,
        enabled: bool,
        now_ms: u64,
    ) -> Result<(), String> {
        let done = apply(table, attribute, enabled, (now_ms, HOUR));
        table.status = TableStatus::Active;
        done.map_err(|error| error.message)
    }

    #[test]
    fn it_is_enabled_once_and_changed_once_an_hour() {
        let mut table = TableDefinition {
            status: TableStatus::Active,
            ..TableDefinition::default()
        };
        let refused = change(&mut table, "a", false, 1);
        assert_eq!(refused.unwrap_err(), "TimeToLive is already disabled");
        assert_eq!(change(&mut table, "a", true, 10), Ok(()));
        let shown = describe(&table);
        let status = &shown["TimeToLiveDescription"]["TimeToLiveStatus"];
        assert_eq!(status, "ENABLED");
        let refused = change(&mut table, "a", true, 20);
        assert_eq!(refused.unwrap_err(), "TimeToLive is already enabled");
        for enabled in [true, false] {
            let refused = change(&mut table, "b", enabled, 20).unwrap_err();
            assert!(refused.contains("current AttributeName is a"), "{refused}");
        }
        let early = change(&mut table, "a", false, 9 + HOUR).unwrap_err();
        assert!(early.contains("fixed interval"), "{early}");
        assert_eq!(change(&mut table, "a", false, 10 + HOUR), Ok(()));
        assert_eq!(table.ttl.attribute, None);
        table.status = TableStatus::Deleting;
        assert!(apply(&mut table, "a", true, (5 * HOUR, HOUR)).is_err());
    }

    #[test]
    fn a_body_without_its_members_is_refused() {
        let body = serde_json::from_value::<UpdateTimeToLive>(json!({ "TableName": "music" }));
        let error = body.unwrap().validate().unwrap_err();
        assert!(error.message.contains("timeToLiveSpecification"), "{error}");
        let body = json!({ "TableName": "music", "TimeToLiveSpecification": {} });
        let error = serde_json::from_value::<UpdateTimeToLive>(body)
            .unwrap()
            .validate()
            .unwrap_err();
        assert!(error.message.starts_with("2 validation errors"), "{error}");
    }
}
