//! BatchGetItem and BatchWriteItem.

use super::*;

fn puts(count: usize) -> Value {
    let writes: Vec<Value> = (0..count)
        .map(|i| json!({"PutRequest": {"Item": {"pk": {"S": format!("b{i}")}}}}))
        .collect();
    json!({"RequestItems": {"hash": writes}})
}

fn gets(count: usize) -> Value {
    let keys: Vec<Value> = (0..count)
        .map(|i| json!({"pk": {"S": format!("b{i}")}}))
        .collect();
    json!({"RequestItems": {"hash": {"Keys": keys}}})
}

#[actix_web::test]
async fn unprocessed_is_there_also_when_empty() {
    let fake = Fake::new();
    assert_eq!(
        call(&fake, "BatchWriteItem", puts(25)).await.unwrap(),
        json!({"UnprocessedItems": {}})
    );
    let answer = call(&fake, "BatchGetItem", gets(26)).await.unwrap();
    assert_eq!(answer["UnprocessedKeys"], json!({}));
    // the one that is not there is left out
    assert_eq!(answer["Responses"]["hash"].as_array().unwrap().len(), 25);
}

#[actix_web::test]
async fn capacity_is_listed_by_table() {
    let fake = Fake::new();
    let request = json!({
        "RequestItems": {
            "hash": [{"PutRequest": {"Item": {"pk": {"S": "a"}}}}, {"DeleteRequest": {"Key": {"pk": {"S": "b"}}}}],
            "range": [{"PutRequest": {"Item": {"pk": {"S": "a"}, "sk": {"N": "1"}}}}],
        },
        "ReturnConsumedCapacity": "TOTAL",
    });
    let answer = call(&fake, "BatchWriteItem", request).await.unwrap();
    assert_eq!(
        answer["ConsumedCapacity"],
        json!([
            {"TableName": "hash", "CapacityUnits": 2.0},
            {"TableName": "range", "CapacityUnits": 1.0},
        ])
    );
    let request = json!({
        "RequestItems": {
            "hash": {"Keys": [{"pk": {"S": "a"}}], "ConsistentRead": true},
            "range": {"Keys": [{"pk": {"S": "a"}, "sk": {"N": "1"}}, {"pk": {"S": "a"}, "sk": {"N": "2"}}]},
        },
        "ReturnConsumedCapacity": "TOTAL",
    });
    let answer = call(&fake, "BatchGetItem", request).await.unwrap();
    assert_eq!(
        answer["ConsumedCapacity"],
        json!([
            {"TableName": "hash", "CapacityUnits": 1.0},
            {"TableName": "range", "CapacityUnits": 1.0},
        ])
    );
}

#[actix_web::test]
async fn limits_and_duplicates() {
    let fake = Fake::new();
    assert_eq!(
        refused(&fake, "BatchWriteItem", puts(26)).await,
        "1 validation error detected: Value at 'RequestItems.hash.member' failed to satisfy constraint: \
         Member must have length less than or equal to 25"
    );
    assert_eq!(
        refused(&fake, "BatchGetItem", gets(101)).await,
        "1 validation error detected: Value at 'RequestItems.hash.member.Keys' failed to satisfy constraint: \
         Member must have length less than or equal to 100"
    );
    let two_tables = with(
        json!({}),
        json!({"RequestItems": {"hash": puts(20)["RequestItems"]["hash"], "none": puts(20)["RequestItems"]["hash"]}}),
    );
    assert_eq!(
        refused(&fake, "BatchWriteItem", two_tables).await,
        "Too many items requested for the BatchWriteItem call"
    );
    for operation in ["BatchWriteItem", "BatchGetItem"] {
        assert_eq!(
            refused(&fake, operation, json!({"RequestItems": {}})).await,
            format!("The requestItems parameter is required for {operation}")
        );
        assert_eq!(
            refused(&fake, operation, json!({})).await,
            "1 validation error detected: Value null at 'requestItems' failed to satisfy constraint: \
             Member must not be null"
        );
    }
    assert!(
        refused(
            &fake,
            "BatchWriteItem",
            json!({"RequestItems": {"hash": []}})
        )
        .await
        .contains("greater than or equal to 1")
    );
    let twice = json!({"RequestItems": {"hash": [
        {"PutRequest": {"Item": {"pk": {"S": "a"}}}},
        {"DeleteRequest": {"Key": {"pk": {"S": "a"}}}},
    ]}});
    assert_eq!(
        refused(&fake, "BatchWriteItem", twice).await,
        "Provided list of item keys contains duplicates"
    );
    let twice =
        json!({"RequestItems": {"hash": {"Keys": [{"pk": {"S": "a"}}, {"pk": {"S": "a"}}]}}});
    assert_eq!(
        refused(&fake, "BatchGetItem", twice).await,
        "Provided list of item keys contains duplicates"
    );
    let wrong = json!({"RequestItems": {"hash": [{"PutRequest": {"Item": {"pk": {"N": "5"}}}}]}});
    assert_eq!(
        refused(&fake, "BatchWriteItem", wrong).await,
        "The provided key element does not match the schema"
    );
    assert_eq!(fake.calls(), 0);
}

#[actix_web::test]
async fn what_was_shed_is_unprocessed() {
    let fake = Fake::new();
    fake.fail_next([
        None,
        Some(texts::router_busy("x")),
        Some(texts::unavailable()),
    ]);
    let request = json!({"RequestItems": {"hash": [
        {"PutRequest": {"Item": {"pk": {"S": "a"}}}},
        {"PutRequest": {"Item": {"pk": {"S": "b"}, "x": {"NULL": true}}}},
        {"DeleteRequest": {"Key": {"pk": {"S": "c"}}}},
    ]}});
    assert_eq!(
        call(&fake, "BatchWriteItem", request).await.unwrap(),
        json!({"UnprocessedItems": {"hash": [
            {"PutRequest": {"Item": {"pk": {"S": "b"}, "x": {"NULL": true}}}},
            {"DeleteRequest": {"Key": {"pk": {"S": "c"}}}},
        ]}})
    );
    fake.fail_next([Some(texts::router_busy("x"))]);
    let request = json!({"RequestItems": {"hash": {
        "Keys": [{"pk": {"S": "b"}}, {"pk": {"S": "a"}}],
        "ConsistentRead": true,
        "ProjectionExpression": "#p",
        "ExpressionAttributeNames": {"#p": "pk"},
    }}});
    let answer = call(&fake, "BatchGetItem", request).await.unwrap();
    assert_eq!(
        answer,
        json!({
            "Responses": {"hash": [{"pk": {"S": "a"}}]},
            "UnprocessedKeys": {"hash": {
                "Keys": [{"pk": {"S": "b"}}],
                "ConsistentRead": true,
                "ProjectionExpression": "#p",
                "ExpressionAttributeNames": {"#p": "pk"},
            }},
        })
    );
}

#[actix_web::test]
async fn nothing_done_or_an_unknown_outcome_is_an_error() {
    let fake = Fake::new();
    fake.fail_next([Some(texts::router_busy("x"))]);
    let error = call(&fake, "BatchWriteItem", puts(1)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Throttling);
    fake.fail_next([None, Some(texts::out_of_time())]);
    let error = call(&fake, "BatchWriteItem", puts(3)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InternalServerError);
}

#[actix_web::test]
async fn sixteen_megabytes_end_an_answer() {
    let fake = Fake::new();
    let filler = "x".repeat(390 * 1024);
    for i in 0..45 {
        let item = json!({"pk": {"S": format!("b{i}")}, "x": {"S": filler}});
        call(&fake, "PutItem", json!({"TableName": "hash", "Item": item}))
            .await
            .unwrap();
    }
    let answer = call(&fake, "BatchGetItem", gets(45)).await.unwrap();
    let got = answer["Responses"]["hash"].as_array().unwrap().len();
    let left = answer["UnprocessedKeys"]["hash"]["Keys"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(got, 42);
    assert_eq!(got + left, 45);
}
