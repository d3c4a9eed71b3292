//! Streams in the control plane: `StreamSpecification` of CreateTable and UpdateTable, and ListStreams. Reading a stream is the router's.

use model::stream::{StreamSettings, StreamViewType};
use model::{ApiError, TableDefinition};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::constraints::{Constraints, table_of};
use crate::driver::Admin;
use crate::records::{TableRecord, table_name_of};
use crate::texts;

const VIEWS: &[&str] = &["NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES", "KEYS_ONLY"];
/// Streams in one answer to ListStreams at most.
const LIST_MAX: i64 = 100;

/// `StreamSpecification`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct StreamSpecification {
    stream_enabled: Option<bool>,
    stream_view_type: Option<String>,
}

/// What is asked of a table's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamChange {
    Enable(StreamViewType),
    Disable,
}

impl StreamSpecification {
    /// The constraints of the API model.
    pub(crate) fn constrain(&self, constraints: &mut Constraints) {
        let member = |name: &str| format!("streamSpecification.{name}");
        constraints.present(&member("streamEnabled"), self.stream_enabled.is_some());
        let view = self.stream_view_type.as_deref();
        constraints.one_of(&member("streamViewType"), view, VIEWS);
    }

    /// What it asks for.
    pub(crate) fn change(&self) -> Result<StreamChange, ApiError> {
        let view = self.stream_view_type.as_deref();
        match (self.stream_enabled.unwrap_or_default(), view) {
            (true, Some(view)) => StreamViewType::parse(view)
                .map(StreamChange::Enable)
                .ok_or_else(ApiError::internal),
            (true, None) => Err(texts::stream_without_view()),
            (false, Some(_)) => Err(texts::view_without_stream()),
            (false, None) => Ok(StreamChange::Disable),
        }
    }
}

/// Streams of a table that is made with this specification.
pub(crate) fn first_stream(change: Option<StreamChange>, now_ms: u64) -> StreamSettings {
    let mut streams = StreamSettings::default();
    if let Some(StreamChange::Enable(view)) = change {
        streams.enable(view, now_ms);
    }
    streams
}

/// Changes the stream of a table.
pub(crate) fn apply(
    change: StreamChange,
    definition: &mut TableDefinition,
    now_ms: u64,
) -> Result<(), ApiError> {
    let enabled = definition.streams.enabled().is_some();
    match change {
        StreamChange::Enable(_) if enabled => Err(texts::stream_is_enabled(&definition.name)),
        StreamChange::Disable if !enabled => Err(texts::stream_is_disabled(&definition.name)),
        StreamChange::Enable(view) => {
            definition.streams.enable(view, now_ms);
            Ok(())
        }
        StreamChange::Disable => {
            definition.streams.disable(now_ms);
            Ok(())
        }
    }
}

/// Body of ListStreams.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct ListStreams {
    table_name: Option<String>,
    exclusive_start_stream_arn: Option<String>,
    limit: Option<i64>,
}

impl Admin {
    /// ListStreams, in the order of the ARNs.
    pub(crate) async fn list_streams(&self, body: ListStreams) -> Result<Value, ApiError> {
        let mut constraints = Constraints::default();
        if body.table_name.is_some() {
            constraints.table_name(body.table_name.as_deref());
        }
        if let Some(arn) = &body.exclusive_start_stream_arn {
            constraints.length("exclusiveStartStreamArn", arn, 37, 1024);
        }
        constraints.between("limit", body.limit, 1, LIST_MAX);
        constraints.check()?;
        let wanted = body.table_name.as_deref().map(table_of);
        let definitions = match wanted {
            Some(name) => match self.table(name).await? {
                Some(stored) => vec![stored.value.definition],
                None => return Err(texts::table_not_found(name)),
            },
            None => {
                let is_table = |key: &str| table_name_of(key).is_some();
                let tables = self.catalog.scan_records::<TableRecord>(is_table).await?;
                let tables = tables.into_iter();
                tables.map(|stored| stored.value.definition).collect()
            }
        };
        let limit = usize::try_from(body.limit.unwrap_or(LIST_MAX)).unwrap_or(1);
        let after = body.exclusive_start_stream_arn.as_deref();
        Ok(list(&definitions, &self.settings.region, after, limit))
    }
}

fn list(definitions: &[TableDefinition], region: &str, after: Option<&str>, limit: usize) -> Value {
    let of_table = |table: &TableDefinition| {
        let (arn, name) = (table.arn(region), table.name.clone());
        let streams = table.streams.all.clone().into_iter();
        streams.map(move |stream| (stream.arn(&arn), name.clone(), stream.label()))
    };
    let mut streams: Vec<_> = definitions.iter().flat_map(of_table).collect();
    streams.sort();
    streams.retain(|(arn, _, _)| after.is_none_or(|after| arn.as_str() > after));
    let more = streams.len() > limit;
    streams.truncate(limit);
    let shown = |(arn, name, label): &(String, String, String)| json!({ "StreamArn": arn, "TableName": name, "StreamLabel": label });
    let mut answer = json!({ "Streams": streams.iter().map(shown).collect::<Vec<_>>() });
    if let (true, Some((arn, _, _))) = (more, streams.last()) {
        answer["LastEvaluatedStreamArn"] = json!(arn);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specification(body: Value) -> Result<StreamChange, ApiError> {
        let parsed: StreamSpecification = serde_json::from_value(body).unwrap();
        let mut constraints = Constraints::default();
        parsed.constrain(&mut constraints);
        constraints.check()?;
        parsed.change()
    }

    #[test]
    fn a_specification_says_what_it_wants_or_is_refused() {
        let enabled = json!({ "StreamEnabled": true, "StreamViewType": "OLD_IMAGE" });
        let wanted = StreamChange::Enable(StreamViewType::OldImage);
        assert_eq!(specification(enabled), Ok(wanted));
        let disabled = json!({ "StreamEnabled": false });
        assert_eq!(specification(disabled), Ok(StreamChange::Disable));
        for wrong in [
            json!({}),
            json!({ "StreamEnabled": true }),
            json!({ "StreamEnabled": false, "StreamViewType": "OLD_IMAGE" }),
            json!({ "StreamEnabled": true, "StreamViewType": "ALL" }),
        ] {
            let error = specification(wrong.clone()).unwrap_err();
            assert_eq!(error.kind, model::ErrorKind::Validation, "{wrong}");
        }
    }

    #[test]
    fn a_stream_is_enabled_and_disabled_in_turns_and_listed_page_by_page() {
        let mut table = TableDefinition {
            name: "music".to_owned(),
            ..TableDefinition::default()
        };
        assert!(apply(StreamChange::Disable, &mut table, 1).is_err());
        let enable = StreamChange::Enable(StreamViewType::KeysOnly);
        assert_eq!(apply(enable, &mut table, 1_000), Ok(()));
        assert!(apply(enable, &mut table, 1_001).is_err());
        assert_eq!(apply(StreamChange::Disable, &mut table, 1_002), Ok(()));
        assert_eq!(apply(enable, &mut table, 1_003), Ok(()));
        let tables = [table];
        let first = list(&tables, "here", None, 1);
        let last = first["LastEvaluatedStreamArn"].as_str().unwrap();
        let second = list(&tables, "here", Some(last), 1);
        assert_ne!(first["Streams"], second["Streams"]);
        assert_eq!(second["LastEvaluatedStreamArn"], Value::Null);
        assert_eq!(second["Streams"][0]["TableName"], "music");
    }
}
