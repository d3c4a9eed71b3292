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
        "No provisioned throughput specified for the table"
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
    for parameter in [
        "GlobalSecondaryIndexes",
        "LocalSecondaryIndexes",
        "ResourcePolicy",
    ] {
        assert_eq!(
            refused(json!({parameter: [{}]})),
            format!(
                "One or more parameter values were invalid: {parameter} is not supported yet by Evenkeel"
            )
        );
    }
    assert!(refused(json!({"StreamSpecification": {"StreamEnabled": true}})).contains("Stream"));
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
fn updates_depend_on_the_table() {
    let provisioned = BillingMode::Provisioned {
        read_units: 5,
        write_units: 6,
    };
    let name = "music";
    assert!(
        update(json!({"TableName": name}))
            .unwrap_err()
            .message
            .contains("At least one")
    );
    let same = json!({"ReadCapacityUnits": 5, "WriteCapacityUnits": 6});
    let change = update(json!({"TableName": name, "ProvisionedThroughput": same})).unwrap();
    let message = change.billing(provisioned).unwrap_err().message;
    assert!(message.starts_with("The provisioned throughput for the table will not change."));
    let message = change
        .billing(BillingMode::PayPerRequest)
        .unwrap_err()
        .message;
    assert!(message.contains("Neither ReadCapacityUnits"));
    let change = update(json!({"TableName": name, "BillingMode": "PAY_PER_REQUEST"})).unwrap();
    assert_eq!(change.billing(provisioned), Ok(BillingMode::PayPerRequest));
    let change = update(json!({"TableName": name, "BillingMode": "PROVISIONED"})).unwrap();
    assert!(change.billing(BillingMode::PayPerRequest).is_err());
    assert_eq!(change.billing(provisioned), Ok(provisioned));
    let change = update(json!({"TableName": name, "DeletionProtectionEnabled": true})).unwrap();
    assert_eq!(change.billing(provisioned), Ok(provisioned));
    assert_eq!(change.protection, Some(true));
    let index = json!({"TableName": name, "GlobalSecondaryIndexUpdates": []});
    assert!(
        update(index)
            .unwrap_err()
            .message
            .contains("not supported yet by Evenkeel")
    );
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
