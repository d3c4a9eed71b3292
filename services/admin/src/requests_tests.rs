use serde_json::json;

use super::*;
use crate::tagging::Tagging;

fn create(change: Value) -> Result<NewTable, ApiError> {
    let mut body = json!({
        "TableName": "music",
        "AttributeDefinitions": [
            {"AttributeName": "artist", "AttributeType": "S"},
            {"AttributeName": "year", "AttributeType": "N"},
        ],
        "KeySchema": [
            {"AttributeName": "artist", "KeyType": "HASH"},
            {"AttributeName": "year", "KeyType": "RANGE"},
        ],
        "BillingMode": "PAY_PER_REQUEST",
    });
    for (key, value) in change.as_object().unwrap() {
        if value.is_null() {
            body.as_object_mut().unwrap().remove(key);
        } else {
            body[key] = value.clone();
        }
    }
    serde_json::from_value::<CreateTable>(body)
        .unwrap()
        .validate()
}

fn refused(change: Value) -> String {
    create(change).unwrap_err().message
}

#[test]
fn a_valid_table() {
    let table = create(json!({"Tags": [{"Key": "team", "Value": ""}]})).unwrap();
    assert_eq!(table.name, "music");
    assert_eq!(table.keys.partition.name, "artist");
    assert_eq!(table.keys.sort.unwrap().kind, ScalarType::N);
    assert_eq!(table.billing, BillingMode::PayPerRequest);
    assert_eq!(table.tags["team"], "");
    let off = json!({"StreamSpecification": {"StreamEnabled": false}, "SSESpecification": {"Enabled": false}});
    assert!(create(off).is_ok());
}

#[test]
fn billing_and_throughput_must_fit() {
    let units = json!({"ReadCapacityUnits": 5, "WriteCapacityUnits": 6});
    assert_eq!(
        refused(json!({"ProvisionedThroughput": units})),
        "One or more parameter values were invalid: Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when \
         BillingMode is PAY_PER_REQUEST"
    );
    assert_eq!(
        refused(json!({"BillingMode": null})),
        "One or more parameter values were invalid: ReadCapacityUnits and WriteCapacityUnits must both be specified when \
         BillingMode is PROVISIONED"
    );
    assert_eq!(
        refused(json!({"BillingMode": "PROVISIONED"})),
        "One or more parameter values were invalid: ReadCapacityUnits and WriteCapacityUnits must both be specified when \
         BillingMode is PROVISIONED"
    );
    let table = create(json!({"BillingMode": null, "ProvisionedThroughput": units})).unwrap();
    assert_eq!(
        table.billing,
        BillingMode::Provisioned {
            read_units: 5,
            write_units: 6
        }
    );
    let zero = json!({"ReadCapacityUnits": 0, "WriteCapacityUnits": 6});
    assert_eq!(
        refused(json!({"BillingMode": null, "ProvisionedThroughput": zero})),
        "1 validation error detected: Value '0' at 'provisionedThroughput.readCapacityUnits' failed to satisfy constraint: \
         Member must have value greater than or equal to 1"
    );
    let huge = json!({"ReadCapacityUnits": 1_000_000_000_001u64, "WriteCapacityUnits": 6});
    assert_eq!(
        refused(json!({"BillingMode": null, "ProvisionedThroughput": huge})),
        "Given value 1000000000001 for ReadCapacityUnits is out of bounds"
    );
}

#[test]
fn keys_must_fit_their_definitions() {
    assert_eq!(
        refused(json!({"KeySchema": [{"AttributeName": "artist", "KeyType": "HASH"}]})),
        "One or more parameter values were invalid: Number of attributes in KeySchema does not exactly match number of \
         attributes defined in AttributeDefinitions"
    );
    assert_eq!(
        refused(json!({"KeySchema": [{"AttributeName": "artist", "KeyType": "RANGE"}]})),
        "Invalid KeySchema: The first KeySchemaElement is not a HASH key type"
    );
    let twice = json!([
        {"AttributeName": "artist", "KeyType": "HASH"},
        {"AttributeName": "artist", "KeyType": "RANGE"},
    ]);
    assert_eq!(
        refused(json!({"KeySchema": twice})),
        "Both the Hash Key and the Range Key element in the KeySchema have the same name"
    );
    let hashes = json!([
        {"AttributeName": "artist", "KeyType": "HASH"},
        {"AttributeName": "year", "KeyType": "HASH"},
    ]);
    assert_eq!(
        refused(json!({"KeySchema": hashes})),
        "Invalid KeySchema: The second KeySchemaElement is not a RANGE key type"
    );
    let undefined = json!([{"AttributeName": "album", "KeyType": "HASH"}]);
    assert_eq!(
        refused(json!({"KeySchema": undefined})),
        "One or more parameter values were invalid: Some index key attributes are not defined in AttributeDefinitions. Keys: \
         [album], AttributeDefinitions: [artist, year]"
    );
    assert!(refused(json!({"KeySchema": []})).contains("at 'keySchema' failed to satisfy"));
    assert!(refused(json!({"AttributeDefinitions": []})).contains("not defined"));
}

#[test]
fn missing_and_wrong_members_are_told_together() {
    assert_eq!(
        refused(json!({"TableName": null, "KeySchema": null})),
        "2 validation errors detected: Value null at 'tableName' failed to satisfy constraint: Member must not be null; \
         Value null at 'keySchema' failed to satisfy constraint: Member must not be null"
    );
    let wrong = json!([{"AttributeName": "artist", "KeyType": "hash"}]);
    assert_eq!(
        refused(json!({"KeySchema": wrong})),
        "1 validation error detected: Value 'hash' at 'keySchema.1.member.keyType' failed to satisfy constraint: Member must \
         satisfy enum value set: [HASH, RANGE]"
    );
}

#[test]
fn what_is_not_supported_is_named() {
    for parameter in ["GlobalTableSourceArn", "VectorIndexes"] {
        assert_eq!(
            refused(json!({parameter: [{}]})),
            format!(
                "One or more parameter values were invalid: {parameter} is not supported yet by Evenkeel"
            )
        );
    }
    assert!(refused(json!({"StreamSpecification": {"StreamEnabled": true}})).contains("Stream"));
    assert!(refused(json!({"ResourcePolicy": "{}"})).contains("Invalid policy document"));
}

#[test]
fn local_indexes_share_the_partition_key_and_have_another_sort_key() {
    let types = json!([
        {"AttributeName": "artist", "AttributeType": "S"},
        {"AttributeName": "year", "AttributeType": "N"},
        {"AttributeName": "label", "AttributeType": "S"},
    ]);
    let index = |name: &str, hash: &str, range: &str| {
        json!({
            "IndexName": name,
            "KeySchema": [
                {"AttributeName": hash, "KeyType": "HASH"},
                {"AttributeName": range, "KeyType": "RANGE"},
            ],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        })
    };
    let with = |indexes: Value| {
        create(json!({"AttributeDefinitions": types, "LocalSecondaryIndexes": indexes}))
    };
    let refused = |indexes: Value| {
        let error = with(indexes).unwrap_err().message;
        let rest = error.strip_prefix("One or more parameter values were invalid: ");
        rest.map_or(error.clone(), str::to_owned)
    };
    let table = with(json!([index("by-label", "artist", "label")])).unwrap();
    assert_eq!(table.indexes.len(), 1);
    assert_eq!(table.indexes[0].keys.sort[0].name, "label");
    assert!(table.indexes[0].is_local);

    assert_eq!(refused(json!([])), "List of LocalSecondaryIndexes is empty");
    assert_eq!(
        refused(json!([index("by-label", "label", "artist")])),
        "Index KeySchema does not have the same leading hash key as table KeySchema for index: by-label. index hash key: \
         label, table hash key: artist"
    );
    assert_eq!(
        refused(json!([index("by-label", "artist", "city")])),
        "Some index key attributes are not defined in AttributeDefinitions. Keys: [artist, city], AttributeDefinitions: \
         [artist, label, year]"
    );
    let twice = [
        index("one", "artist", "label"),
        index("one", "artist", "year"),
    ];
    assert_eq!(refused(json!(twice)), "Duplicate index name: one");
    assert_eq!(
        refused(json!([index("by-year", "artist", "year")])),
        "Some AttributeDefinitions are not used. AttributeDefinitions: [artist, label, year], keys used: [artist, year]"
    );
    let many: Vec<Value> = (0..6)
        .map(|n| index(&format!("index-{n}"), "artist", "label"))
        .collect();
    assert_eq!(
        refused(json!(many)),
        "Number of LocalSecondaryIndexes exceeds per-table limit of 5"
    );
    let mut bare = index("by-label", "artist", "label");
    bare["KeySchema"].as_array_mut().unwrap().pop();
    assert_eq!(
        refused(json!([bare])),
        "Index KeySchema does not have a range key for index: by-label"
    );
    for (projection, text) in [
        (json!({}), "Unknown ProjectionType: null"),
        (
            json!({"ProjectionType": "INCLUDE"}),
            "ProjectionType is INCLUDE, but NonKeyAttributes is not specified",
        ),
        (
            json!({"ProjectionType": "ALL", "NonKeyAttributes": ["x"]}),
            "ProjectionType is ALL, but NonKeyAttributes is specified",
        ),
    ] {
        let mut index = index("by-label", "artist", "label");
        index["Projection"] = projection;
        assert_eq!(refused(json!([index])), text);
    }
    let short = refused(json!([index("i", "artist", "label")]));
    assert!(
        short.contains("'localSecondaryIndexes.1.member.indexName' failed to satisfy constraint"),
        "{short}"
    );
}

#[test]
fn the_meshs_own_names_are_refused() {
    assert!(refused(json!({"TableName": "evenkeel.system"})).contains("reserved"));
    assert!(refused(json!({"TableName": "EvenKeel.x"})).contains("reserved"));
}

#[test]
fn tags_are_bounded_and_unique() {
    let tag = |n: usize| json!({"Key": format!("k{n}"), "Value": "v"});
    let many: Vec<Value> = (0..51).map(tag).collect();
    assert!(refused(json!({"Tags": many})).contains("50 tags"));
    assert!(refused(json!({"Tags": [tag(1), tag(1)]})).contains("Duplicate"));
    assert!(refused(json!({"Tags": [{"Key": "aws:x", "Value": ""}]})).contains("aws:"));
    assert!(refused(json!({"Tags": [{"Key": "", "Value": ""}]})).contains("tags.1.member.key"));
}

fn update(body: Value) -> Result<TableChange, ApiError> {
    serde_json::from_value::<UpdateTable>(body)
        .unwrap()
        .validate()
}

#[test]
fn updates_are_validated_as_far_as_they_can_be_without_the_table() {
    let refused = |change: Value| {
        let mut body = json!({"TableName": "music"});
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        update(body).unwrap_err().message
    };
    assert!(refused(json!({})).contains("At least one"));
    assert!(refused(json!({"OnDemandThroughput": {}})).contains("At least one"));
    let units = json!({"ReadCapacityUnits": 5, "WriteCapacityUnits": 6});
    assert!(
        refused(json!({"ProvisionedThroughput": units, "BillingMode": "PAY_PER_REQUEST"}))
            .contains("Neither ReadCapacityUnits")
    );
    for value in [0, -2, i64::MIN] {
        assert_eq!(
            refused(json!({"OnDemandThroughput": {"MaxWriteRequestUnits": value}})),
            "One or more parameter values were invalid: Requested MaxWriteRequestUnits for OnDemandThroughput for table is \
             outside of valid range"
        );
    }
    let name = "music";
    let none = json!({"TableName": name, "OnDemandThroughput": {"MaxWriteRequestUnits": -1}});
    assert!(update(none).is_ok());
    let change = update(json!({"TableName": name, "ProvisionedThroughput": units})).unwrap();
    assert_eq!(change.throughput.units, Some((5, 6)));
    assert!(change.throughput.alone);
    let more = json!({"TableName": name, "ProvisionedThroughput": units, "TableClass": "STANDARD"});
    assert!(!update(more).unwrap().throughput.alone);
    let change = update(json!({"TableName": name, "DeletionProtectionEnabled": true})).unwrap();
    assert_eq!(change.protection, Some(true));
    let index = json!({"GlobalSecondaryIndexUpdates": [{}]});
    assert!(refused(index).contains("GlobalSecondaryIndexUpdate.Create"));
}

#[test]
fn maximum_and_warm_throughput_of_a_new_table() {
    let table = create(json!({
        "OnDemandThroughput": {"MaxReadRequestUnits": 100},
        "WarmThroughput": {"ReadUnitsPerSecond": 12_001},
    }))
    .unwrap();
    assert_eq!(table.maximum.max_read_units, Some(100));
    assert_eq!(table.maximum.max_write_units, None);
    assert_eq!(table.warm.read_units, 12_001);
    for value in [0, -1, -2] {
        assert_eq!(
            refused(json!({"OnDemandThroughput": {"MaxReadRequestUnits": value}})),
            "One or more parameter values were invalid: Requested MaxReadRequestUnits for OnDemandThroughput for table is \
             outside of valid range"
        );
    }
    for value in [11_999, 0, -1] {
        assert_eq!(
            refused(json!({"WarmThroughput": {"ReadUnitsPerSecond": value}})),
            "One or more parameter values were invalid: Requested ReadUnitsPerSecond for WarmThroughput for table is lower \
             than initial throughput for OnDemand. See: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/\
             on-demand-capacity-mode.html#on-demand-capacity-mode-initial"
        );
    }
    let provisioned = json!({
        "BillingMode": "PROVISIONED",
        "ProvisionedThroughput": {"ReadCapacityUnits": 10, "WriteCapacityUnits": 10},
    });
    let with = |field: &str, value: Value| {
        let mut body = provisioned.clone();
        body[field] = value;
        body
    };
    assert_eq!(
        refused(with(
            "OnDemandThroughput",
            json!({"MaxReadRequestUnits": 100})
        )),
        "One or more parameter values were invalid: MaxReadRequestUnits for OnDemandThroughput cannot be specified when table \
         BillingMode is PROVISIONED."
    );
    assert_eq!(
        refused(with("WarmThroughput", json!({"WriteUnitsPerSecond": 5}))),
        "One or more parameter values were invalid: Requested WriteUnitsPerSecond for WarmThroughput for table is lower than \
         WriteCapacityUnits of ProvisionedThroughput"
    );
    assert!(create(with("WarmThroughput", json!({"WriteUnitsPerSecond": 11}))).is_ok());
}

#[test]
fn fractions_and_numbers_out_of_reach_are_no_longs() {
    let read = |units: &str| {
        let body = format!(
            r#"{{"ProvisionedThroughput": {{"ReadCapacityUnits": {units}, "WriteCapacityUnits": 1}}}}"#
        );
        model::json::from_slice::<CreateTable>(body.as_bytes())
            .unwrap_err()
            .message
    };
    assert_eq!(read("1.5"), "DECIMAL_VALUE cannot be converted to Long");
    assert_eq!(
        read("9223372036854775808"),
        "NUMBER_VALUE cannot be converted to Long"
    );
    assert_eq!(read("\"5\""), "STRING_VALUE cannot be converted to Long");
}

#[test]
fn lists_and_tags_name_their_members() {
    let list = |body: Value| {
        serde_json::from_value::<ListTables>(body)
            .unwrap()
            .validate()
    };
    assert_eq!(list(json!({})), Ok((None, 100)));
    assert_eq!(list(json!({"Limit": 3})), Ok((None, 3)));
    assert_eq!(
        list(json!({"Limit": 0})).unwrap_err().message,
        "1 validation error detected: Value '0' at 'limit' failed to satisfy constraint: Member must have value greater \
         than or equal to 1"
    );
    let tagging = |body: Value| serde_json::from_value::<Tagging>(body).unwrap();
    let arn = "arn:aws:dynamodb:us-east-1:000000000000:table/music";
    assert_eq!(
        tagging(json!({"ResourceArn": arn})).list().unwrap().table,
        "music"
    );
    assert!(tagging(json!({"ResourceArn": "music"})).list().is_err());
    assert!(
        tagging(json!({"ResourceArn": arn, "Tags": []}))
            .tag()
            .is_err()
    );
    assert!(
        tagging(json!({"ResourceArn": arn, "TagKeys": ["a"]}))
            .untag()
            .is_ok()
    );
}
