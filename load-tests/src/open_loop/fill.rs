//! The load phase: makes the tables of a scenario, fills them by BatchWriteItem, and drops them again. Bounded in time: a table that can't
//! be filled is an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::items::Items;
use super::scenario::TableSpec;
use crate::connection::Connection;
use crate::table;
use signature::Signer;

/// Items of a batch (DynamoDB's limit).
const BATCH: u64 = 25;
/// Bytes of a batch: far below DynamoDB's 16 MB, so that large items don't pile up in the driver.
const BATCH_BYTES: usize = 1 << 20;
/// Connections that fill.
const CONNECTIONS: u64 = 16;
/// A batch must be stored wholly within this time, throttling included.
const BATCH_TIME: Duration = Duration::from_secs(120);
/// Pauses after a batch that was not stored wholly: doubled each time.
const PAUSE: std::ops::Range<Duration> = Duration::from_millis(20)..Duration::from_millis(2_000);

/// Makes a table and waits until it is active.
pub async fn create(
    connection: &mut Connection,
    name: &str,
    spec: &TableSpec,
) -> anyhow::Result<()> {
    let mut attributes = vec![json!({"AttributeName": "pk", "AttributeType": "S"})];
    let mut keys = vec![json!({"AttributeName": "pk", "KeyType": "HASH"})];
    if spec.collection_items > 0 {
        attributes.push(json!({"AttributeName": "sk", "AttributeType": "S"}));
        keys.push(json!({"AttributeName": "sk", "KeyType": "RANGE"}));
    }
    let mut request = json!({
        "TableName": name, "AttributeDefinitions": attributes, "KeySchema": keys, "BillingMode": "PAY_PER_REQUEST",
    });
    if let Some((read, write)) = spec
        .read_units
        .zip(spec.load_write_units.or(spec.write_units))
    {
        request["BillingMode"] = json!("PROVISIONED");
        request["ProvisionedThroughput"] =
            json!({"ReadCapacityUnits": read, "WriteCapacityUnits": write});
    }
    if spec.read_units_max.is_some() || spec.write_units_max.is_some() {
        let limit = |units: Option<u64>| units.map_or(json!(-1), |units| json!(units));
        request["OnDemandThroughput"] = json!({"MaxReadRequestUnits": limit(spec.read_units_max), "MaxWriteRequestUnits": limit(spec.write_units_max)});
    }
    table::create_as(connection, name, &request).await
}

/// Fills a table with items 0 to `count`; `done` counts them.
pub async fn fill(
    endpoint: &str,
    signer: &Signer,
    items: &Items,
    count: u64,
    done: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let batch = BATCH.min((BATCH_BYTES / items.bytes) as u64).max(1);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS.min(count.div_ceil(batch)) {
        let (next, done, items) = (next.clone(), done.clone(), items.clone());
        let (endpoint, signer) = (endpoint.to_owned(), signer.clone());
        tasks.spawn(async move {
            let mut connection = Connection::open(&endpoint, signer).await?;
            loop {
                let first = next.fetch_add(batch, Ordering::Relaxed);
                if first >= count {
                    return anyhow::Ok(());
                }
                let behind = count.min(first + batch);
                write(&mut connection, items.batch(first..behind)).await?;
                done.fetch_add(behind - first, Ordering::Relaxed);
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task?.with_context(|| format!("filling {}", items.table))?;
    }
    Ok(())
}

/// Writes a batch, and what was left unprocessed, until all is stored.
async fn write(connection: &mut Connection, mut body: Vec<u8>) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut pause = PAUSE.start;
    loop {
        let (status, answer) = connection.call("BatchWriteItem", &body).await?;
        let answer_text = || String::from_utf8_lossy(&answer[..answer.len().min(500)]).into_owned();
        match status {
            200 => {
                let mut answer: Value = serde_json::from_slice(answer)?;
                let left = answer["UnprocessedItems"].take();
                if left.as_object().is_none_or(serde_json::Map::is_empty) {
                    return Ok(());
                }
                body = serde_json::to_vec(&json!({"RequestItems": left}))?;
            }
            400..
                if answer_text().contains("Throughput")
                    || answer_text().contains("Throttling")
                    || status >= 500 => {}
            _ => bail!("BatchWriteItem: {status} {}", answer_text()),
        }
        if started.elapsed() > BATCH_TIME {
            bail!(
                "a batch was not stored within {} s: is the table's write throughput too low to fill it? (load_write_units)",
                BATCH_TIME.as_secs()
            );
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.end);
    }
}

/// Lowers a filled table's throughput to what the scenario wants.
pub async fn settle(
    connection: &mut Connection,
    name: &str,
    spec: &TableSpec,
) -> anyhow::Result<()> {
    if spec.load_write_units.is_none() {
        return Ok(());
    }
    let request = json!({
        "TableName": name,
        "ProvisionedThroughput": {"ReadCapacityUnits": spec.read_units, "WriteCapacityUnits": spec.write_units},
    });
    let (status, body) = connection
        .call("UpdateTable", &serde_json::to_vec(&request)?)
        .await?;
    if status != 200 {
        bail!(
            "UpdateTable {name}: {status} {}",
            String::from_utf8_lossy(body)
        );
    }
    table::wait_until_active(connection, name).await
}

/// Drops a table; one that is not there is fine.
pub async fn drop_table(connection: &mut Connection, name: &str) -> anyhow::Result<()> {
    let request = serde_json::to_vec(&json!({"TableName": name}))?;
    let (status, body) = connection.call("DeleteTable", &request).await?;
    let text = String::from_utf8_lossy(body);
    if status != 200 && !text.contains("ResourceNotFoundException") {
        bail!("DeleteTable {name}: {status} {text}");
    }
    Ok(())
}
