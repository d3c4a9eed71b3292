//! ExecuteStatement and BatchExecuteStatement.

use super::*;

async fn run(fake: &Fake, statement: &str, more: Value) -> Result<Value, ApiError> {
    let request = with(json!({"Statement": statement}), more);
    call(fake, "ExecuteStatement", request).await
}

#[actix_web::test]
async fn a_select_reads_collections_page_by_page() {
    let fake = filled(5).await;
    let all = run(
        &fake,
        "SELECT * FROM range WHERE pk = 'a' AND sk > 1 AND odd = TRUE ORDER BY sk DESC",
        json!({}),
    )
    .await
    .unwrap();
    assert_eq!(sks(&all), [5, 3]);
    assert!(fake.last_page().unwrap().reverse);

    let statement = "SELECT sk FROM range WHERE pk IN ['a', 'nobody']";
    let (mut got, mut more) = (Vec::new(), json!({"Limit": 2}));
    loop {
        let page = run(&fake, statement, more.clone()).await.unwrap();
        assert!(sks(&page).len() <= 2);
        got.extend(sks(&page));
        match page.get("NextToken") {
            Some(token) => more["NextToken"] = token.clone(),
            None => break,
        }
    }
    assert_eq!(got, [1, 2, 3, 4, 5]);
    let error = run(&fake, "SELECT * FROM range", more).await.unwrap_err();
    assert!(error.message.contains("NextToken"), "{error}");
}

#[actix_web::test]
async fn writes_demand_what_they_say() {
    let fake = Fake::new();
    let insert = "INSERT INTO hash VALUE {'pk': ?, 'n': 1}";
    let key = json!({"Parameters": [{"S": "a"}]});
    let done = run(&fake, insert, key.clone()).await.unwrap();
    assert_eq!(done, json!({"Items": []}));
    let error = run(&fake, insert, key.clone()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::DuplicateItem);
    let update = "UPDATE hash SET n = n + 1 WHERE pk = ? RETURNING ALL NEW *";
    let done = run(&fake, update, key.clone()).await.unwrap();
    assert_eq!(done["Items"][0]["n"], json!({"N": "2"}));
    let nobody = json!({"Parameters": [{"S": "nobody"}]});
    let error = run(&fake, update, nobody.clone()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ConditionalCheckFailed);
    let delete = "DELETE FROM hash WHERE pk = ? AND n = 1";
    assert!(run(&fake, delete, nobody).await.is_ok());
    let error = run(&fake, delete, key.clone()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ConditionalCheckFailed);
    let delete = "DELETE FROM hash WHERE pk = ? RETURNING ALL OLD *";
    let done = run(&fake, delete, key).await.unwrap();
    assert_eq!(done["Items"][0]["n"], json!({"N": "2"}));
    let error = run(
        &fake,
        "EXISTS(SELECT * FROM hash WHERE pk = 'a')",
        json!({}),
    )
    .await
    .unwrap_err();
    assert_eq!(error.message, "EXISTS can only be used in a transaction");
}

#[actix_web::test]
async fn a_batch_tells_of_each_statement() {
    let fake = Fake::new();
    call(&fake, "PutItem", put("a")).await.unwrap();
    let batch = |statements: &[&str]| {
        let statements: Vec<Value> = statements
            .iter()
            .map(|text| json!({"Statement": text}))
            .collect();
        json!({"Statements": statements})
    };
    let reads = batch(&[
        "SELECT n FROM hash WHERE pk = 'a'",
        "SELECT * FROM hash WHERE pk = 'b'",
        "SELECT * FROM hash",
        "nonsense",
        "SELECT * FROM nothing WHERE pk = 'a'",
    ]);
    let done = call(&fake, "BatchExecuteStatement", reads).await.unwrap();
    let responses = done["Responses"].as_array().unwrap();
    assert_eq!(
        responses[0],
        json!({"Item": {"n": {"N": "1"}}, "TableName": "hash"})
    );
    assert_eq!(responses[1], json!({"TableName": "hash"}));
    for (at, code) in [
        (2, "ValidationError"),
        (3, "ValidationError"),
        (4, "ResourceNotFound"),
    ] {
        assert_eq!(responses[at]["Error"]["Code"], code);
    }
    let mixed = batch(&[
        "SELECT * FROM hash WHERE pk = 'a'",
        "DELETE FROM hash WHERE pk = 'a'",
    ]);
    assert_eq!(
        refused(&fake, "BatchExecuteStatement", mixed).await,
        "A batch must consist of either all reads or all writes"
    );
}

#[actix_web::test]
async fn legacy_parameters_do_what_expressions_do() {
    let fake = filled(4).await;
    let equals = |value: Value| json!({"ComparisonOperator": "EQ", "AttributeValueList": [value]});
    let query = json!({
        "TableName": "range",
        "KeyConditions": {"pk": equals(json!({"S": "a"}))},
        "QueryFilter": {"odd": equals(json!({"BOOL": true}))},
        "AttributesToGet": ["sk"],
    });
    let got = call(&fake, "Query", query).await.unwrap();
    assert_eq!(sks(&got), [1, 3]);
    assert_eq!(got["ScannedCount"], 4);
    let key = json!({"pk": {"S": "a"}, "sk": {"N": "1"}});
    let update = json!({
        "TableName": "range",
        "Key": key,
        "Expected": {"odd": {"Value": {"BOOL": true}}, "none": {"Exists": false}},
        "AttributeUpdates": {
            "n": {"Action": "ADD", "Value": {"N": "2"}},
            "l": {"Action": "ADD", "Value": {"L": [{"N": "1"}]}},
            "odd": {"Action": "DELETE"},
        },
        "ReturnValues": "ALL_NEW",
    });
    let got = call(&fake, "UpdateItem", update.clone()).await.unwrap();
    assert_eq!(
        got["Attributes"],
        json!({"pk": {"S": "a"}, "sk": {"N": "1"}, "n": {"N": "2"}, "l": {"L": [{"N": "1"}]}})
    );
    let error = call(&fake, "UpdateItem", update).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ConditionalCheckFailed);
}
