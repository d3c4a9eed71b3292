//! Query and Scan.

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
            let request = json!({"TableName": "hash", "Segment": segment, "TotalSegments": total});
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
