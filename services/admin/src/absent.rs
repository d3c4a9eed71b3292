//! Operations on what Evenkeel does not have: Contributor Insights, Kinesis destinations, global tables and their auto scaling, bulk
//! operations, vectors. Their reads answer what Amazon answers where there is none of it; what would make one is refused by name.

use model::{ApiError, TableDefinition};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::constraints::{Constraints, table_of};
use crate::driver::Admin;
use crate::texts;

/// What these operations name.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Named {
    table_name: Option<String>,
    index_name: Option<String>,
    global_table_name: Option<String>,
    bulk_operation_arn: Option<String>,
    stream_arn: Option<String>,
    contributor_insights_action: Option<String>,
}

/// The operations, by name.
pub(crate) const OPERATIONS: [&str; 20] = [
    "CancelBulkOperation",
    "CreateGlobalTable",
    "DescribeBulkOperation",
    "DescribeContributorInsights",
    "DescribeGlobalTable",
    "DescribeGlobalTableSettings",
    "DescribeKinesisStreamingDestination",
    "DescribeTableReplicaAutoScaling",
    "DisableKinesisStreamingDestination",
    "EnableKinesisStreamingDestination",
    "ListBulkOperations",
    "ListContributorInsights",
    "ListGlobalTables",
    "SearchVectors",
    "StartBulkPutItems",
    "UpdateContributorInsights",
    "UpdateGlobalTable",
    "UpdateGlobalTableSettings",
    "UpdateKinesisStreamingDestination",
    "UpdateTableReplicaAutoScaling",
];

/// Answers one of `OPERATIONS`.
pub(crate) async fn answer(
    admin: &Admin,
    operation: &str,
    named: Named,
) -> Result<Value, ApiError> {
    named.constrain(operation)?;
    match operation {
        "ListBulkOperations" => Ok(json!({ "BulkOperationsSummaryList": [] })),
        "DescribeBulkOperation" | "CancelBulkOperation" => {
            let arn = named.bulk_operation_arn.unwrap_or_default();
            Err(texts::arn_not_found(&arn))
        }
        "ListGlobalTables" => Ok(json!({ "GlobalTables": [] })),
        "DescribeGlobalTable"
        | "DescribeGlobalTableSettings"
        | "UpdateGlobalTable"
        | "UpdateGlobalTableSettings" => Err(texts::global_table_not_found(
            named.global_table_name.as_deref().unwrap_or_default(),
        )),
        "CreateGlobalTable" => Err(texts::unsupported(operation)),
        "ListContributorInsights" => {
            if named.table_name.is_some() {
                named.table(admin).await?;
            }
            Ok(json!({ "ContributorInsightsSummaries": [] }))
        }
        _ => of_table(operation, &named, &named.table(admin).await?),
    }
}

/// Those that name a table that must be there.
fn of_table(operation: &str, named: &Named, table: &TableDefinition) -> Result<Value, ApiError> {
    let name = &table.name;
    match operation {
        "DescribeContributorInsights" => {
            let mut answer = json!({
                "TableName": name,
                "ContributorInsightsRuleList": [],
                "ContributorInsightsStatus": "DISABLED",
            });
            named.add_index(&mut answer);
            Ok(answer)
        }
        "UpdateContributorInsights"
            if named.contributor_insights_action.as_deref() == Some("DISABLE") =>
        {
            let mut answer = json!({ "TableName": name, "ContributorInsightsStatus": "DISABLED" });
            named.add_index(&mut answer);
            Ok(answer)
        }
        "DescribeKinesisStreamingDestination" => {
            Ok(json!({ "TableName": name, "KinesisDataStreamDestinations": [] }))
        }
        "DisableKinesisStreamingDestination" => Err(texts::no_kinesis_destination("DISABLE")),
        "UpdateKinesisStreamingDestination" => Err(texts::no_kinesis_destination("UPDATE")),
        "DescribeTableReplicaAutoScaling" => Ok(json!({
            "TableAutoScalingDescription": {
                "TableName": name,
                "TableStatus": table.status.as_str(),
                "Replicas": [],
            }
        })),
        "SearchVectors" => Err(ApiError::validation(format!(
            "The table does not have the specified index: {}",
            named.index_name.as_deref().unwrap_or_default()
        ))),
        _ => Err(texts::unsupported(operation)),
    }
}

impl Named {
    fn constrain(&self, operation: &str) -> Result<(), ApiError> {
        let mut constraints = Constraints::default();
        match operation {
            "ListBulkOperations" | "ListGlobalTables" => {}
            "ListContributorInsights" if self.table_name.is_none() => {}
            "DescribeBulkOperation" | "CancelBulkOperation" => {
                constraints.present("bulkOperationArn", self.bulk_operation_arn.is_some());
            }
            "CreateGlobalTable"
            | "DescribeGlobalTable"
            | "DescribeGlobalTableSettings"
            | "UpdateGlobalTable"
            | "UpdateGlobalTableSettings" => match &self.global_table_name {
                None => constraints.present("globalTableName", false),
                Some(name) => constraints.name("globalTableName", name),
            },
            _ => constraints.table_name(self.table_name.as_deref()),
        }
        match operation {
            "UpdateContributorInsights" => {
                let action = self.contributor_insights_action.as_deref();
                constraints.present("contributorInsightsAction", action.is_some());
                constraints.one_of("contributorInsightsAction", action, &["ENABLE", "DISABLE"]);
            }
            "EnableKinesisStreamingDestination"
            | "DisableKinesisStreamingDestination"
            | "UpdateKinesisStreamingDestination" => {
                constraints.present("streamArn", self.stream_arn.is_some());
            }
            _ => {}
        }
        constraints.check()
    }

    async fn table(&self, admin: &Admin) -> Result<TableDefinition, ApiError> {
        let name = table_of(self.table_name.as_deref().unwrap_or_default());
        let found = admin.table(name).await?;
        found
            .map(|stored| stored.value.definition)
            .ok_or_else(|| texts::table_not_found(name))
    }

    fn add_index(&self, answer: &mut Value) {
        if let Some(index) = &self.index_name {
            answer["IndexName"] = json!(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(body: Value) -> Named {
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn what_makes_something_is_refused_and_what_shows_it_shows_nothing() {
        let table = TableDefinition {
            name: "Music".to_owned(),
            ..TableDefinition::default()
        };
        let plain = named(json!({ "TableName": "Music" }));
        let shown = of_table("DescribeKinesisStreamingDestination", &plain, &table).unwrap();
        assert_eq!(shown["KinesisDataStreamDestinations"], json!([]));
        for operation in [
            "EnableKinesisStreamingDestination",
            "StartBulkPutItems",
            "UpdateTableReplicaAutoScaling",
            "UpdateContributorInsights",
        ] {
            let error = of_table(operation, &plain, &table).unwrap_err();
            assert!(error.message.contains(operation), "{error}");
        }
        let off = named(json!({ "ContributorInsightsAction": "DISABLE", "IndexName": "i" }));
        let shown = of_table("UpdateContributorInsights", &off, &table).unwrap();
        assert_eq!(shown["ContributorInsightsStatus"], "DISABLED");
        assert_eq!(shown["IndexName"], "i");
    }

    #[test]
    fn members_are_demanded() {
        for operation in OPERATIONS {
            let demands = !operation.starts_with("List");
            assert_eq!(
                Named::default().constrain(operation).is_err(),
                demands,
                "{operation}"
            );
        }
    }
}
