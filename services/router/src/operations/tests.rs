//! Every operation against a backend in memory: what is refused, in which order and words, and what the answers look like.

mod batches;
mod items;
mod pages;
mod statements;

use model::{ApiError, ErrorKind};
use serde_json::{Value, json};

use super::{Limits, execute};
use crate::fake::{Fake, context};
use crate::operation::Operation;
use crate::texts;

/// Executes an operation; the answer or the error as JSON.
async fn call(fake: &Fake, operation: &str, request: Value) -> Result<Value, ApiError> {
    let operation = Operation::from_target(format!("DynamoDB_20120810.{operation}").as_bytes());
    let body = request.to_string();
    let limits = Limits { fan_out_max: 4 };
    let answer = execute(
        operation.unwrap(),
        body.as_bytes(),
        fake,
        limits,
        &context(),
    )
    .await?;
    Ok(serde_json::from_slice(&answer).expect("answers are JSON"))
}

/// The message of the ValidationException that is expected.
async fn refused(fake: &Fake, operation: &str, request: Value) -> String {
    let error = call(fake, operation, request)
        .await
        .expect_err("should be refused");
    assert_eq!(error.kind, ErrorKind::Validation, "{error}");
    error.message
}

/// A request with some members replaced.
fn with(mut request: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

fn put(pk: &str) -> Value {
    json!({"TableName": "hash", "Item": {"pk": {"S": pk}, "n": {"N": "1"}}})
}

fn get(pk: &str) -> Value {
    json!({"TableName": "hash", "Key": {"pk": {"S": pk}}})
}

/// A fake with `count` items in one collection of `range`.
async fn filled(count: u32) -> Fake {
    let fake = Fake::new();
    for sk in 1..=count {
        let item =
            json!({"pk": {"S": "a"}, "sk": {"N": sk.to_string()}, "odd": {"BOOL": sk % 2 == 1}});
        call(
            &fake,
            "PutItem",
            json!({"TableName": "range", "Item": item}),
        )
        .await
        .unwrap();
    }
    fake
}

fn query() -> Value {
    json!({
        "TableName": "range",
        "KeyConditionExpression": "pk = :p",
        "ExpressionAttributeValues": {":p": {"S": "a"}},
    })
}

fn sks(answer: &Value) -> Vec<i64> {
    let items = answer["Items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["sk"]["N"].as_str().unwrap().parse().unwrap())
        .collect()
}

#[actix_web::test]
async fn the_read_kind_reaches_storage() {
    let fake = filled(1).await;
    call(
        &fake,
        "Query",
        with(query(), json!({"ConsistentRead": true, "Limit": 7})),
    )
    .await
    .unwrap();
    let page = fake.last_page().unwrap();
    assert!(page.strong);
    assert_eq!(page.limit, Some(7));
    assert_eq!(page.bytes_max, 1024 * 1024);
    call(&fake, "GetItem", get("a")).await.unwrap();
    assert!(matches!(
        fake.last_call(),
        Some(protocol::item::ItemOperation::Get(get)) if !get.strong
    ));
}

#[tokio::test]
async fn a_table_that_a_stale_cache_knew_is_asked_for_again() {
    let fake = Fake::new();
    call(&fake, "PutItem", put("a")).await.unwrap();
    fake.fail_next([Some(ApiError::resource_not_found())]);
    let got = call(&fake, "GetItem", get("a")).await.unwrap();
    assert_eq!(got["Item"]["n"], json!({"N": "1"}));
    fake.fail_next([
        Some(ApiError::resource_not_found()),
        Some(ApiError::resource_not_found()),
    ]);
    let error = call(&fake, "GetItem", get("a")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ResourceNotFound);
}
