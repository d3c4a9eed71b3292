//! The driven table: its name, its items, and how it is made and filled.

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::connection::Connection;

/// Makes the table if it is not there and waits (bounded) until it is active.
pub async fn create(connection: &mut Connection, table: &str) -> anyhow::Result<()> {
    let request = json!({
        "TableName": table,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
    });
    let (status, body) = connection
        .call("CreateTable", &serde_json::to_vec(&request)?)
        .await?;
    let text = String::from_utf8_lossy(body).into_owned();
    if status != 200 && !text.contains("ResourceInUseException") {
        bail!("CreateTable: {status} {text}");
    }
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
