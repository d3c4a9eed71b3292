//! Every operation against a backend in memory: what is refused, in which order and words, and what the answers look like.

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

mod items {
    use super::*;

    #[actix_web::test]
    async fn what_is_put_is_got() {
        let fake = Fake::new();
        assert_eq!(call(&fake, "PutItem", put("a")).await.unwrap(), json!({}));
        let answer = call(&fake, "GetItem", get("a")).await.unwrap();
        assert_eq!(answer, json!({"Item": {"pk": {"S": "a"}, "n": {"N": "1"}}}));
        assert_eq!(call(&fake, "GetItem", get("b")).await.unwrap(), json!({}));
        let old = call(
            &fake,
            "DeleteItem",
            with(get("a"), json!({"ReturnValues": "ALL_OLD"})),
        );
        assert_eq!(old.await.unwrap()["Attributes"]["n"], json!({"N": "1"}));
        assert_eq!(call(&fake, "GetItem", get("a")).await.unwrap(), json!({}));
    }

    #[actix_web::test]
    async fn constraints_come_before_everything_else() {
        let fake = Fake::new();
        let request = json!({
            "TableName": "a",
            "ReturnValues": "hi",
            "ReturnConsumedCapacity": "hi",
            "ConditionExpression": "nonsense!",
        });
        assert_eq!(
            refused(&fake, "PutItem", request).await,
            "4 validation errors detected: \
             Value 'hi' at 'returnConsumedCapacity' failed to satisfy constraint: Member must satisfy enum value set: [INDEXES, TOTAL, NONE]; \
             Value 'a' at 'tableName' failed to satisfy constraint: Member must have length greater than or equal to 3; \
             Value 'hi' at 'returnValues' failed to satisfy constraint: Member must satisfy enum value set: [ALL_NEW, UPDATED_OLD, ALL_OLD, NONE, UPDATED_NEW]; \
             Value null at 'item' failed to satisfy constraint: Member must not be null"
        );
        assert_eq!(fake.calls(), 0);
    }

    #[actix_web::test]
    async fn placeholders_need_an_expression_and_legacy_parameters_none() {
        let fake = Fake::new();
        let names = with(get("a"), json!({"ExpressionAttributeNames": {"#a": "a"}}));
        assert_eq!(
            refused(&fake, "GetItem", names).await,
            "ExpressionAttributeNames can only be specified when using expressions"
        );
        let mixed = json!({"Expected": {"a": {"Exists": false}}, "ConditionExpression": "attribute_exists(a)"});
        assert_eq!(
            refused(&fake, "PutItem", with(put("a"), mixed)).await,
            "Can not use both expression and non-expression parameters in the same request: \
             Non-expression parameters: {Expected} Expression parameters: {ConditionExpression}"
        );
        let legacy = refused(
            &fake,
            "GetItem",
            with(get("a"), json!({"AttributesToGet": ["a"]})),
        )
        .await;
        assert!(
            legacy.contains("AttributesToGet is not supported"),
            "{legacy}"
        );
        let unused = json!({
            "ConditionExpression": "attribute_exists(a)",
            "ExpressionAttributeValues": {":v": {"S": "a"}},
        });
        assert_eq!(
            refused(&fake, "PutItem", with(put("a"), unused)).await,
            "Value provided in ExpressionAttributeValues unused in expressions: keys: {:v}"
        );
    }

    #[actix_web::test]
    async fn a_bad_placeholder_value_names_its_key() {
        let fake = Fake::new();
        let request = json!({
            "ConditionExpression": "a = :v",
            "ExpressionAttributeValues": {":v": {"N": "x"}},
        });
        assert_eq!(
            refused(&fake, "PutItem", with(put("a"), request)).await,
            "ExpressionAttributeValues contains invalid value: \
             The parameter cannot be converted to a numeric value: x for key :v"
        );
    }

    #[actix_web::test]
    async fn keys_are_checked_against_the_table() {
        let fake = Fake::new();
        let item = json!({"TableName": "range", "Item": {"pk": {"S": "a"}}});
        assert_eq!(
            refused(&fake, "PutItem", item).await,
            "One or more parameter values were invalid: Missing the key sk in the item"
        );
        let key = json!({"TableName": "hash", "Key": {"pk": {"S": "a"}, "x": {"S": "a"}}});
        for operation in ["GetItem", "DeleteItem", "UpdateItem"] {
            assert_eq!(
                refused(&fake, operation, key.clone()).await,
                "The provided key element does not match the schema"
            );
        }
    }

    #[actix_web::test]
    async fn only_active_tables_exist() {
        let fake = Fake::new();
        for table in ["none", "making"] {
            let error = call(
                &fake,
                "GetItem",
                with(get("a"), json!({"TableName": table})),
            )
            .await;
            let error = error.unwrap_err();
            assert_eq!(error.kind, ErrorKind::ResourceNotFound);
            assert_eq!(error.message, "Requested resource not found");
        }
        let arn = json!({"TableName": "arn:aws:dynamodb:eu-west-1:123456789012:table/hash"});
        assert_eq!(
            call(&fake, "GetItem", with(get("a"), arn)).await.unwrap(),
            json!({})
        );
    }

    #[actix_web::test]
    async fn only_update_returns_new_values() {
        let fake = Fake::new();
        for (operation, request) in [("PutItem", put("a")), ("DeleteItem", get("a"))] {
            for value in ["ALL_NEW", "UPDATED_OLD", "UPDATED_NEW"] {
                assert_eq!(
                    refused(
                        &fake,
                        operation,
                        with(request.clone(), json!({"ReturnValues": value}))
                    )
                    .await,
                    "ReturnValues can only be ALL_OLD or NONE"
                );
            }
        }
        let update = json!({
            "UpdateExpression": "SET n = :n",
            "ExpressionAttributeValues": {":n": {"N": "7"}},
            "ReturnValues": "ALL_NEW",
        });
        let answer = call(&fake, "UpdateItem", with(get("a"), update))
            .await
            .unwrap();
        assert_eq!(
            answer,
            json!({"Attributes": {"pk": {"S": "a"}, "n": {"N": "7"}}})
        );
    }

    #[actix_web::test]
    async fn keys_cannot_be_updated() {
        let fake = Fake::new();
        let update = json!({
            "UpdateExpression": "SET pk = :n",
            "ExpressionAttributeValues": {":n": {"S": "7"}},
        });
        assert!(
            refused(&fake, "UpdateItem", with(get("a"), update))
                .await
                .contains("Cannot update attribute pk. This attribute is part of the key")
        );
        assert_eq!(fake.calls(), 0);
    }

    #[actix_web::test]
    async fn items_over_400_kb_are_refused() {
        let fake = Fake::new();
        let large = json!({"Item": {"pk": {"S": "a"}, "x": {"S": "x".repeat(400 * 1024)}}});
        assert_eq!(
            refused(&fake, "PutItem", with(put("a"), large.clone())).await,
            "Item size has exceeded the maximum allowed size"
        );
        let batch = json!({"RequestItems": {"hash": [{"PutRequest": large}]}});
        assert_eq!(
            refused(&fake, "BatchWriteItem", batch).await,
            "Item size has exceeded the maximum allowed size"
        );
    }

    #[actix_web::test]
    async fn a_failed_condition_carries_the_item_only_if_asked() {
        let fake = Fake::new();
        call(&fake, "PutItem", put("a")).await.unwrap();
        let condition = json!({"ConditionExpression": "attribute_not_exists(pk)"});
        let error = call(&fake, "PutItem", with(put("a"), condition.clone()))
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::ConditionalCheckFailed);
        assert_eq!(error.message, "The conditional request failed");
        assert_eq!(error.item, None);
        let asked = with(
            condition,
            json!({"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}),
        );
        let error = call(&fake, "PutItem", with(put("a"), asked))
            .await
            .unwrap_err();
        let body: Value = serde_json::from_slice(&error.to_json()).unwrap();
        assert_eq!(body["Item"]["pk"], json!({"S": "a"}));
    }

    #[actix_web::test]
    async fn capacity_is_exact() {
        let fake = Fake::new();
        let large = json!({
            "TableName": "hash",
            "Item": {"pk": {"S": "a"}, "x": {"S": "x".repeat(5000)}},
            "ReturnConsumedCapacity": "TOTAL",
        });
        let answer = call(&fake, "PutItem", large).await.unwrap();
        assert_eq!(
            answer,
            json!({"ConsumedCapacity": {"TableName": "hash", "CapacityUnits": 5.0}})
        );
        // the larger of before and after
        let small = with(put("a"), json!({"ReturnConsumedCapacity": "INDEXES"}));
        let answer = call(&fake, "PutItem", small).await.unwrap();
        assert_eq!(
            answer["ConsumedCapacity"],
            json!({"TableName": "hash", "CapacityUnits": 5.0, "Table": {"CapacityUnits": 5.0}})
        );
        for (strong, units) in [(false, 0.5), (true, 1.0)] {
            let read = json!({"ReturnConsumedCapacity": "TOTAL", "ConsistentRead": strong});
            let answer = call(&fake, "GetItem", with(get("a"), read)).await.unwrap();
            assert_eq!(answer["ConsumedCapacity"]["CapacityUnits"], json!(units));
        }
    }

    #[actix_web::test]
    async fn json_of_a_wrong_shape_is_a_serialization_exception() {
        let fake = Fake::new();
        let error = call(&fake, "GetItem", json!({"TableName": 5}))
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::Serialization);
        assert_eq!(error.message, "NUMBER_VALUE cannot be converted to String");
        let error = call(&fake, "GetItem", json!([])).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Serialization);
    }
}

mod pages {
    use super::*;

    #[actix_web::test]
    async fn a_query_goes_through_its_pages_in_both_directions() {
        let fake = filled(5).await;
        for (forward, expected) in [(true, vec![1, 2, 3, 4, 5]), (false, vec![5, 4, 3, 2, 1])] {
            let mut request = with(query(), json!({"Limit": 2, "ScanIndexForward": forward}));
            let mut seen = Vec::new();
            loop {
                let answer = call(&fake, "Query", request.clone()).await.unwrap();
                seen.extend(sks(&answer));
                let Some(key) = answer.get("LastEvaluatedKey") else {
                    break;
                };
                request["ExclusiveStartKey"] = key.clone();
            }
            assert_eq!(seen, expected);
        }
    }

    #[actix_web::test]
    async fn conditions_on_the_sort_key_narrow_the_range() {
        let fake = filled(9).await;
        for (condition, expected) in [
            ("sk = :a", vec![3]),
            ("sk < :a", vec![1, 2]),
            ("sk <= :a", vec![1, 2, 3]),
            ("sk > :b", vec![7, 8, 9]),
            ("sk >= :b", vec![6, 7, 8, 9]),
            ("sk BETWEEN :a AND :b", vec![3, 4, 5, 6]),
        ] {
            let mut values = json!({":p": {"S": "a"}});
            for (name, value) in [(":a", "3"), (":b", "6")] {
                if condition.contains(name) {
                    values[name] = json!({"N": value});
                }
            }
            let request = json!({
                "KeyConditionExpression": format!("pk = :p AND {condition}"),
                "ExpressionAttributeValues": values,
            });
            let answer = call(&fake, "Query", with(query(), request)).await.unwrap();
            assert_eq!(sks(&answer), expected, "{condition}");
        }
    }

    #[actix_web::test]
    async fn filters_count_what_they_drop() {
        let fake = filled(5).await;
        let request = json!({
            "FilterExpression": "odd = :t",
            "ExpressionAttributeValues": {":p": {"S": "a"}, ":t": {"BOOL": true}},
            "Select": "COUNT",
            "ReturnConsumedCapacity": "TOTAL",
        });
        let answer = call(&fake, "Query", with(query(), request)).await.unwrap();
        assert_eq!(
            answer,
            json!({
                "Count": 3,
                "ScannedCount": 5,
                "ConsumedCapacity": {"TableName": "range", "CapacityUnits": 0.5},
            })
        );
        assert!(fake.last_page().unwrap().count_only);
    }

    #[actix_web::test]
    async fn a_filter_may_not_name_a_key() {
        let fake = filled(1).await;
        let request = json!({
            "FilterExpression": "sk > :n",
            "ExpressionAttributeValues": {":p": {"S": "a"}, ":n": {"N": "1"}},
        });
        assert_eq!(
            refused(&fake, "Query", with(query(), request)).await,
            "Filter Expression can only contain non-primary key attributes: Primary key attribute: sk"
        );
    }

    #[actix_web::test]
    async fn starting_keys_must_fit_the_query() {
        let fake = filled(3).await;
        for (key, message) in [
            (
                json!({"pk": {"S": "a"}}),
                "The provided starting key is invalid",
            ),
            (
                json!({"pk": {"S": "a"}, "x": {"N": "1"}}),
                "The provided starting key is invalid",
            ),
            (
                json!({"pk": {"S": "a"}, "sk": {"S": "1"}}),
                "The provided key element does not match the schema",
            ),
            (
                json!({"pk": {"S": "b"}, "sk": {"N": "1"}}),
                "The provided starting key is outside query boundaries based on provided conditions",
            ),
            (
                json!({"pk": {"S": "a"}, "sk": {"N": "x"}}),
                "The provided starting key is invalid: \
                 The parameter cannot be converted to a numeric value: x",
            ),
        ] {
            let request = with(query(), json!({"ExclusiveStartKey": key}));
            assert_eq!(refused(&fake, "Query", request).await, message);
        }
        let narrowed = with(
            query(),
            json!({
                "KeyConditionExpression": "pk = :p AND sk > :a",
                "ExpressionAttributeValues": {":p": {"S": "a"}, ":a": {"N": "1"}},
                "ExclusiveStartKey": {"pk": {"S": "a"}, "sk": {"N": "1"}},
            }),
        );
        assert_eq!(
            refused(&fake, "Query", narrowed).await,
            "The provided starting key does not match the range key predicate"
        );
    }

    #[actix_web::test]
    async fn select_must_agree_with_the_projection() {
        let fake = filled(1).await;
        for (changes, message) in [
            (
                json!({"Select": "COUNT", "ProjectionExpression": "odd"}),
                "Cannot specify the ProjectionExpression when choosing to get only the Count",
            ),
            (
                json!({"Select": "ALL_ATTRIBUTES", "ProjectionExpression": "odd"}),
                "Cannot specify the ProjectionExpression when choosing to get ALL_ATTRIBUTES",
            ),
            (
                json!({"Select": "SPECIFIC_ATTRIBUTES"}),
                "Must specify the AttributesToGet or ProjectionExpression when choosing to get SPECIFIC_ATTRIBUTES",
            ),
            (
                json!({"Select": "ALL_PROJECTED_ATTRIBUTES"}),
                "ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName",
            ),
            (
                json!({"IndexName": "byOdd"}),
                "The table does not have the specified index: byOdd",
            ),
            (
                json!({"Limit": 0}),
                "1 validation error detected: Value '0' at 'limit' failed to satisfy constraint: \
                 Member must have value greater than or equal to 1",
            ),
        ] {
            assert_eq!(
                refused(&fake, "Query", with(query(), changes)).await,
                message
            );
        }
        assert_eq!(
            refused(&fake, "Query", json!({"TableName": "range"})).await,
            "Either the KeyConditions or KeyConditionExpression parameter must be specified in the request."
        );
    }

    #[actix_web::test]
    async fn segments_cover_the_table_once() {
        let fake = Fake::new();
        for number in 0..40 {
            call(&fake, "PutItem", put(&format!("item{number}")))
                .await
                .unwrap();
        }
        for total in [1, 3, 7] {
            let mut seen = Vec::new();
            for segment in 0..total {
                let request =
                    json!({"TableName": "hash", "Segment": segment, "TotalSegments": total});
                let answer = call(&fake, "Scan", request).await.unwrap();
                for item in answer["Items"].as_array().unwrap() {
                    seen.push(item["pk"]["S"].as_str().unwrap().to_owned());
                }
            }
            seen.sort();
            let all = seen.len();
            seen.dedup();
            assert_eq!((seen.len(), all), (40, 40), "{total} segments");
        }
    }

    #[actix_web::test]
    async fn segments_are_checked() {
        let fake = Fake::new();
        for (segment, total, message) in [
            (
                Some(0),
                None,
                "The TotalSegments parameter is required but was not present in the request when Segment parameter is present",
            ),
            (
                None,
                Some(4),
                "The Segment parameter is required but was not present in the request when parameter TotalSegments is present",
            ),
            (
                Some(5),
                Some(5),
                "The Segment parameter is zero-based and must be less than parameter TotalSegments: \
                 Segment: 5 is not less than TotalSegments: 5",
            ),
            (
                Some(-1),
                Some(4),
                "1 validation error detected: Value '-1' at 'segment' failed to satisfy constraint: \
                 Member must have value greater than or equal to 0",
            ),
            (
                Some(0),
                Some(1_000_001),
                "1 validation error detected: Value '1000001' at 'totalSegments' failed to satisfy constraint: \
                 Member must have value less than or equal to 1000000",
            ),
        ] {
            let request = json!({"TableName": "hash", "Segment": segment, "TotalSegments": total});
            assert_eq!(refused(&fake, "Scan", request).await, message);
        }
        // one of two segments holds the key, the other refuses it
        let mut refusals = 0;
        for segment in 0..2 {
            let request = json!({
                "TableName": "hash",
                "Segment": segment,
                "TotalSegments": 2,
                "ExclusiveStartKey": {"pk": {"S": "a"}},
            });
            if let Err(error) = call(&fake, "Scan", request).await {
                assert_eq!(error, texts::start_key_of_other_segment(segment, 2));
                refusals += 1;
            }
        }
        assert_eq!(refusals, 1);
        let request = json!({"TableName": "hash", "ExclusiveStartKey": {"bad": {"S": "p"}}});
        assert_eq!(
            refused(&fake, "Scan", request).await,
            "The provided starting key is invalid: The provided key element does not match the schema"
        );
    }
}

mod batches {
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
        let wrong =
            json!({"RequestItems": {"hash": [{"PutRequest": {"Item": {"pk": {"N": "5"}}}}]}});
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
