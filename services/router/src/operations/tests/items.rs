//! PutItem, GetItem, UpdateItem, DeleteItem.

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
    let mixed =
        json!({"Expected": {"a": {"Exists": false}}, "ConditionExpression": "attribute_exists(a)"});
    assert_eq!(
        refused(&fake, "PutItem", with(put("a"), mixed)).await,
        "Can not use both expression and non-expression parameters in the same request: \
         Non-expression parameters: {Expected} Expression parameters: {ConditionExpression}"
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
