//! The driven table: its name, its items, and how it is made and filled.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::connection::Connection;
use signature::Signer;

/// Write units that give a new table one more partition.
const UNITS_PER_PARTITION: u64 = 1_000;

/// Makes the table if it is not there and waits (bounded) until it is active. With `partitions`, it is provisioned so that it gets so
/// many; otherwise it is on demand.
pub async fn create(
    connection: &mut Connection,
    table: &str,
    partitions: Option<u64>,
) -> anyhow::Result<()> {
    let mut request = json!({
        "TableName": table,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
    });
    if let Some(partitions) = partitions {
        request["BillingMode"] = json!("PROVISIONED");
        request["ProvisionedThroughput"] = json!({
            "ReadCapacityUnits": 1,
            "WriteCapacityUnits": partitions * UNITS_PER_PARTITION,
        });
    }
    create_as(connection, table, &request).await
}

/// Makes a table by this request, if it is not there, and waits (bounded) until it is active.
pub async fn create_as(
    connection: &mut Connection,
    table: &str,
    request: &Value,
) -> anyhow::Result<()> {
    let (status, body) = connection
        .call("CreateTable", &serde_json::to_vec(request)?)
        .await?;
    let text = String::from_utf8_lossy(body).into_owned();
    if status != 200 && !text.contains("ResourceInUseException") {
        bail!("CreateTable: {status} {text}");
    }
    wait_until_active(connection, table).await
}

/// Waits (bounded) until a table is active.
pub async fn wait_until_active(connection: &mut Connection, table: &str) -> anyhow::Result<()> {
    let describe = serde_json::to_vec(&json!({"TableName": table}))?;
    for _ in 0..300 {
        let (status, body) = connection.call("DescribeTable", &describe).await?;
        if status == 200 {
            let answer: Value = serde_json::from_slice(body).context("DescribeTable")?;
            if answer["Table"]["TableStatus"] == "ACTIVE" {
                return Ok(());
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    bail!("table {table} did not become active");
}

/// Options of `tables`.
#[derive(clap::Args)]
pub struct TablesOptions {
    /// Endpoint, host:port (plain HTTP).
    #[arg(long, default_value = "127.0.0.1:8000")]
    endpoint: String,
    /// Partitions in all.
    #[arg(long, default_value_t = 1_000)]
    partitions: u64,
    /// Partitions of one table; the admin's own limit is 64.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    partitions_each: u64,
    /// Access key.
    #[arg(long, default_value = "evenkeel", env = "AWS_ACCESS_KEY_ID")]
    access_key: String,
    /// Secret key.
    #[arg(
        long,
        default_value = "evenkeel",
        env = "AWS_SECRET_ACCESS_KEY",
        hide_env_values = true
    )]
    secret_key: String,
}

/// Makes empty tables, one after the other, that have so many partitions together.
pub async fn create_many(options: TablesOptions) -> anyhow::Result<()> {
    let signer = Signer::new(&options.access_key, &options.secret_key);
    let mut connection = Connection::open(&options.endpoint, signer).await?;
    let mut missing = options.partitions;
    for number in 1_u64.. {
        let partitions = missing.min(options.partitions_each);
        if partitions == 0 {
            break;
        }
        create(&mut connection, &format!("idle-{number}"), Some(partitions)).await?;
        missing -= partitions;
    }
    Ok(())
}

/// Key of item `number`.
pub fn key(number: u64) -> String {
    format!("user{number:012}")
}

/// PutItem request of item `number`, about `bytes` large.
pub fn put(table: &str, number: u64, bytes: usize, fill: char) -> Vec<u8> {
    let key = key(number);
    let padding = bytes.saturating_sub(key.len() + "pk".len() + "field0".len());
    let value: String = std::iter::repeat_n(fill, padding).collect();
    format!(
        r#"{{"TableName":"{table}","Item":{{"pk":{{"S":"{key}"}},"field0":{{"S":"{value}"}}}}}}"#
    )
    .into_bytes()
}

/// GetItem request of item `number`.
pub fn get(table: &str, number: u64, strong: bool) -> Vec<u8> {
    format!(
        r#"{{"TableName":"{table}","Key":{{"pk":{{"S":"{}"}}}},"ConsistentRead":{strong}}}"#,
        key(number)
    )
    .into_bytes()
}
