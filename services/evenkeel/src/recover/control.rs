//! Tables in the fresh mesh. Owns how a recovery makes one: on demand and unprotected while it is filled, marked as unfinished by a tag, and with
//! its old definition in the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mesh::{Deadline, Mesh, TraceContext};
use model::table::BillingMode;
use model::{ApiError, ErrorKind, TableDefinition};
use protocol::control::{ApiCall, ApiReply};
use protocol::subjects;
use routing::Client;
use serde_json::{Value, json};

/// The tag of a table that is being filled; its value is the UUID in the lost mesh.
const UNFINISHED: &str = "evenkeel:recovering";
/// Time for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Time for a table to become what it shall be.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const AGAIN: Duration = Duration::from_millis(200);
/// Units a second that a partition takes: asking for as many makes as many partitions as there were.
const PARTITION_UNITS: (u64, u64) = (3_000, 1_000);
/// No more is asked for than accounts have by default.
const UNITS_MAX: u64 = 40_000;

/// A table of this name in the mesh.
pub(super) enum Found {
    /// There is none.
    Nothing,
    /// An earlier recovery did not finish it.
    Unfinished,
    /// There is one.
    Complete,
}

/// The control plane.
pub(super) struct Control {
    mesh: Mesh,
}

impl Control {
    pub(super) fn new(mesh: Mesh) -> Control {
        Control { mesh }
    }

    /// One call; asked again while no admin answers.
    async fn call(&self, operation: &str, body: &Value) -> anyhow::Result<Result<Value, ApiError>> {
        let call = ApiCall {
            operation: operation.to_owned(),
            body: serde_json::to_vec(body)?.into(),
            principal: "evenkeel ctl recover".to_owned(),
            ..ApiCall::default()
        };
        let started = Instant::now();
        loop {
            let (deadline, trace) = (Deadline::after(ANSWER_MAX), TraceContext::default());
            let asked = self
                .mesh
                .call::<_, ApiReply>(subjects::ADMIN_API, &call, deadline, &trace);
            let why = match asked.await {
                // Tagging answers with nothing at all.
                Ok(ApiReply::Ok(body)) if body.is_empty() => return Ok(Ok(Value::Null)),
                Ok(ApiReply::Ok(body)) => return Ok(Ok(serde_json::from_slice(&body)?)),
                Ok(ApiReply::Error(error)) if is_transient(&error) => error.message.clone(),
                Ok(ApiReply::Error(error)) => return Ok(Err(error)),
                Err(error) => error.to_string(),
            };
            anyhow::ensure!(started.elapsed() < PATIENCE, "{operation}: {why}");
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn done(&self, operation: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = self.call(operation, body).await?;
        answer.map_err(|error| anyhow::anyhow!("{operation}: {}", error.message))
    }

    /// The table's description; none if there is no such table.
    async fn describe(&self, name: &str) -> anyhow::Result<Option<Value>> {
        match self
            .call("DescribeTable", &json!({ "TableName": name }))
            .await?
        {
            Ok(mut answer) => Ok(Some(answer["Table"].take())),
            Err(error) if error.kind == ErrorKind::ResourceNotFound => Ok(None),
            Err(error) => anyhow::bail!("DescribeTable: {}", error.message),
        }
    }

    /// Whether there is a table of this name, and whether it is complete.
    pub(super) async fn find(&self, name: &str) -> anyhow::Result<Found> {
        let Some(table) = self.describe(name).await? else {
            return Ok(Found::Nothing);
        };
        let tags = self
            .done(
                "ListTagsOfResource",
                &json!({ "ResourceArn": table["TableArn"] }),
            )
            .await?;
        let tags = tags["Tags"].as_array().cloned().unwrap_or_default();
        Ok(match tags.iter().any(|tag| tag["Key"] == UNFINISHED) {
            true => Found::Unfinished,
            false => Found::Complete,
        })
    }

    /// Deletes a table that an earlier recovery did not finish.
    pub(super) async fn delete(&self, name: &str) -> anyhow::Result<()> {
        let started = Instant::now();
        let table = json!({ "TableName": name });
        while self.describe(name).await?.is_some() {
            // It may be busy being made, or being deleted.
            let deleted = self.call("DeleteTable", &table).await?;
            if let Err(error) = deleted
                && !matches!(
                    error.kind,
                    ErrorKind::ResourceInUse | ErrorKind::ResourceNotFound
                )
            {
                anyhow::bail!("DeleteTable: {}", error.message);
            }
            anyhow::ensure!(
                started.elapsed() < PATIENCE,
                "the unfinished table is not deleted in time"
            );
            tokio::time::sleep(AGAIN).await;
        }
        Ok(())
    }

    /// Makes the table, with about as many partitions as it had, and waits until requests find it.
    pub(super) async fn create(
        &self,
        lost: &TableDefinition,
        partitions: usize,
        client: &Client,
    ) -> anyhow::Result<Arc<TableDefinition>> {
        let mut tags: Vec<Value> = tags(lost);
        tags.push(json!({ "Key": UNFINISHED, "Value": lost.uuid }));
        let units = |one: u64, warm: u64| (one * partitions as u64).clamp(1, UNITS_MAX).max(warm);
        let (read, write) = PARTITION_UNITS;
        let mut body = json!({
            "TableName": lost.name,
            "AttributeDefinitions": lost.attribute_definitions(),
            "KeySchema": lost.keys.describe(),
            "BillingMode": "PAY_PER_REQUEST",
            "Tags": tags,
        });
        for (member, local) in [
            ("LocalSecondaryIndexes", true),
            ("GlobalSecondaryIndexes", false),
        ] {
            let indexes = lost.index_requests(local);
            if !indexes.is_empty() {
                body[member] = json!(indexes);
            }
        }
        // Few partitions there are anyway.
        if partitions > 4 {
            body["WarmThroughput"] = json!({
                "ReadUnitsPerSecond": units(read, 12_000),
                "WriteUnitsPerSecond": units(write, 4_000),
            });
        }
        if let Some(class) = &lost.table_class {
            body["TableClass"] = json!(class);
        }
        self.done("CreateTable", &body).await?;
        let described = self.active(&lost.name).await?;
        let uuid = described["TableId"]
            .as_str()
            .context("a table without TableId")?
            .to_owned();
        let started = Instant::now();
        loop {
            let trace = TraceContext::default();
            let found = client
                .table(&lost.name, Deadline::after(ANSWER_MAX), &trace)
                .await;
            match found {
                Ok(definition) if definition.uuid == uuid => return Ok(definition),
                // A table of this name that was deleted before.
                Ok(definition) => client.forget_table(definition.id),
                Err(_) => {}
            }
            anyhow::ensure!(
                started.elapsed() < PATIENCE,
                "requests do not find the new table in time"
            );
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn active(&self, name: &str) -> anyhow::Result<Value> {
        let started = Instant::now();
        loop {
            if let Some(table) = self.describe(name).await?
                && table["TableStatus"] == "ACTIVE"
            {
                return Ok(table);
            }
            anyhow::ensure!(
                started.elapsed() < PATIENCE,
                "the table is not ACTIVE in time"
            );
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Gives a filled table its old throughput and protection, then takes the mark away.
    pub(super) async fn complete(&self, lost: &TableDefinition) -> anyhow::Result<()> {
        let mut changes = Vec::new();
        match lost.billing {
            BillingMode::Provisioned {
                read_units,
                write_units,
            } => changes.push(json!({
                "TableName": lost.name,
                "BillingMode": "PROVISIONED",
                "ProvisionedThroughput": { "ReadCapacityUnits": read_units, "WriteCapacityUnits": write_units },
            })),
            BillingMode::PayPerRequest => {
                let maximum = lost.on_demand_max;
                if maximum != Default::default() {
                    let units = |max: Option<u64>| max.map_or(json!(-1), |max| json!(max));
                    changes.push(json!({
                        "TableName": lost.name,
                        "OnDemandThroughput": {
                            "MaxReadRequestUnits": units(maximum.max_read_units),
                            "MaxWriteRequestUnits": units(maximum.max_write_units),
                        },
                    }));
                }
            }
        }
        if lost.deletion_protection {
            changes.push(json!({ "TableName": lost.name, "DeletionProtectionEnabled": true }));
        }
        for change in &changes {
            self.done("UpdateTable", change).await?;
            self.active(&lost.name).await?;
        }
        let table = self.active(&lost.name).await?;
        let untag = json!({ "ResourceArn": table["TableArn"], "TagKeys": [UNFINISHED] });
        self.done("UntagResource", &untag).await.map(drop)
    }
}

fn tags(lost: &TableDefinition) -> Vec<Value> {
    let tags = lost.tags.iter();
    // A recovered mesh may be lost, too, before a table is complete.
    tags.filter(|(key, _)| *key != UNFINISHED)
        .map(|(key, value)| json!({ "Key": key, "Value": value }))
        .collect()
}

fn is_transient(error: &ApiError) -> bool {
    matches!(
        error.kind,
        ErrorKind::InternalServerError | ErrorKind::ServiceUnavailable | ErrorKind::Throttling
    )
}
