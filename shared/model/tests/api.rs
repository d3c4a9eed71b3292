//! Error answers and table descriptions, as the API shows them.

mod values;

use model::capacity::Direction;
use model::codec::encode_item;
use model::error::{ThroughputLimit, texts};
use model::table::{
    BillingMode, DAY_MS, KeyAttribute, KeySchema, ScalarType, TableCounts, TableStatus,
    ThroughputChanges,
};
use model::throughput::UnitRates;
use model::{ApiError, AttributeValue, ErrorKind, Item, Number, TableDefinition, TableId};
use serde_json::{Value, json};

fn body(error: &ApiError) -> Value {
    serde_json::from_slice(&error.to_json()).unwrap()
}

#[test]
fn errors_have_the_services_names_and_statuses() {
    for (kind, name, status) in [
        (
            ErrorKind::Validation,
            "com.amazon.coral.validate#ValidationException",
            400,
        ),
        (
            ErrorKind::Serialization,
            "com.amazon.coral.service#SerializationException",
            400,
        ),
        (
            ErrorKind::ResourceNotFound,
            "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException",
            400,
        ),
        (
            ErrorKind::ResourceInUse,
            "com.amazonaws.dynamodb.v20120810#ResourceInUseException",
            400,
        ),
        (
            ErrorKind::ConditionalCheckFailed,
            "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
            400,
        ),
        (
            ErrorKind::InternalServerError,
            "com.amazonaws.dynamodb.v20120810#InternalServerError",
            500,
        ),
        (
            ErrorKind::ServiceUnavailable,
            "com.amazon.coral.service#ServiceUnavailableException",
            503,
        ),
        (
            ErrorKind::Throttling,
            "com.amazon.coral.availability#ThrottlingException",
            400,
        ),
        (
            ErrorKind::UnknownOperation,
            "com.amazon.coral.service#UnknownOperationException",
            400,
        ),
    ] {
        let error = ApiError::new(kind, "why");
        assert_eq!((error.type_name(), error.http_status()), (name, status));
        assert_eq!(kind.short_name(), name.split('#').nth(1).unwrap());
    }
}

#[test]
fn error_bodies_look_like_the_services() {
    assert_eq!(
        body(&ApiError::validation("quoted \"é\"\n")),
        json!({"__type": "com.amazon.coral.validate#ValidationException", "message": "quoted \"é\"\n"})
    );
    assert_eq!(
        body(&ApiError::serialization("why")),
        json!({"__type": "com.amazon.coral.service#SerializationException", "Message": "why"})
    );
    assert_eq!(
        body(&ApiError::serialization("")),
        json!({"__type": "com.amazon.coral.service#SerializationException"})
    );
    let item = Item::from([("pk".to_owned(), AttributeValue::N(Number::from(7u64)))]);
    let failed = ApiError::condition_failed(Some(encode_item(&item)));
    assert_eq!(
        body(&failed),
        json!({
            "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
            "Item": {"pk": {"N": "7"}},
            "message": "The conditional request failed",
        })
    );
    // An unreadable item does not hide the error.
    let damaged = ApiError::condition_failed(Some(bytes::Bytes::from_static(b"\x01\x02")));
    assert_eq!(body(&damaged), body(&ApiError::condition_failed(None)));
    assert_eq!(
        texts::table_not_found("t"),
        "Requested resource not found: Table: t not found"
    );
}

#[test]
fn throttling_names_its_exception_text_and_reason() {
    let provisioned = BillingMode::Provisioned {
        read_units: 5,
        write_units: 5,
    };
    let on_demand = BillingMode::PayPerRequest;
    let table = model::table::table_arn("eu-west-1", "orders");
    let index = format!("{table}/index/by_day");
    for (limit, direction, billing, arn, name, reason) in [
        (
            ThroughputLimit::KeyRange,
            Direction::Read,
            provisioned,
            &table,
            "ProvisionedThroughputExceededException",
            "TableReadKeyRangeThroughputExceeded",
        ),
        (
            ThroughputLimit::Provisioned,
            Direction::Write,
            provisioned,
            &index,
            "ProvisionedThroughputExceededException",
            "IndexWriteProvisionedThroughputExceeded",
        ),
        (
            ThroughputLimit::KeyRange,
            Direction::Write,
            on_demand,
            &table,
            "ThrottlingException",
            "TableWriteKeyRangeThroughputExceeded",
        ),
        (
            ThroughputLimit::MaxOnDemand,
            Direction::Read,
            on_demand,
            &index,
            "ThrottlingException",
            "IndexReadMaxOnDemandThroughputExceeded",
        ),
        (
            ThroughputLimit::Account,
            Direction::Read,
            on_demand,
            &table,
            "RequestLimitExceeded",
            "TableReadAccountLimitExceeded",
        ),
    ] {
        let error = ApiError::throttled(limit, direction, billing, arn);
        assert_eq!(error.http_status(), 400);
        assert_eq!(error.kind.short_name(), name);
        assert!(error.is_throttling() && !error.message.is_empty());
        let field = match name {
            "ThrottlingException" => "throttlingReasons",
            _ => "ThrottlingReasons",
        };
        let mut wanted = json!({"__type": error.type_name(), "message": error.message});
        wanted[field] = json!([{"reason": reason, "resource": arn}]);
        assert_eq!(body(&error), wanted);
        let text = serde_json::to_string(&error).unwrap();
        assert_eq!(serde_json::from_str::<ApiError>(&text).unwrap(), error);
    }
    let exceeded = ApiError::throttled(
        ThroughputLimit::Provisioned,
        Direction::Read,
        provisioned,
        &table,
    );
    assert_eq!(
        exceeded.message,
        "The level of configured provisioned throughput for the table was exceeded. Consider increasing your provisioning \
         level with the UpdateTable API."
    );
}

#[test]
fn errors_survive_their_serde_form() {
    let error = ApiError::condition_failed(Some(encode_item(&Item::new())));
    let text = serde_json::to_string(&error).unwrap();
    assert_eq!(serde_json::from_str::<ApiError>(&text).unwrap(), error);
    let old = r#"{"kind":"Validation","message":"m"}"#;
    assert_eq!(
        serde_json::from_str::<ApiError>(old).unwrap(),
        ApiError::validation("m")
    );
}

const NOW_MS: u64 = 1_700_000_003_000;

fn table() -> TableDefinition {
    let key = |name: &str, kind| KeyAttribute {
        name: name.to_owned(),
        kind,
    };
    TableDefinition {
        id: TableId(100),
        name: "places".to_owned(),
        version: 3,
        keys: KeySchema {
            partition: key("country", ScalarType::S),
            sort: Some(key("area", ScalarType::N)),
        },
        billing: BillingMode::Provisioned {
            read_units: 5,
            write_units: 6,
        },
        status: TableStatus::Active,
        created_ms: 1_700_000_000_123,
        uuid: "0b7d5c1e-0000-4000-8000-000000000000".to_owned(),
        deletion_protection: true,
        table_class: Some("STANDARD".to_owned()),
        tags: [("team".to_owned(), "maps".to_owned())].into(),
        throughput_changes: ThroughputChanges {
            increased_ms: 1_700_000_001_000,
            ..Default::default()
        },
        on_demand_max: Default::default(),
        ..Default::default()
    }
}

#[test]
fn provisioned_tables_are_described() {
    assert_eq!(
        table().describe(
            "eu-west-1",
            &TableCounts {
                items: 7,
                size_bytes: 900,
                ..Default::default()
            },
            NOW_MS
        ),
        json!({
            "AttributeDefinitions": [
                {"AttributeName": "area", "AttributeType": "N"},
                {"AttributeName": "country", "AttributeType": "S"},
            ],
            "TableName": "places",
            "KeySchema": [
                {"AttributeName": "country", "KeyType": "HASH"},
                {"AttributeName": "area", "KeyType": "RANGE"},
            ],
            "TableStatus": "ACTIVE",
            "CreationDateTime": 1_700_000_000.123,
            "ProvisionedThroughput": {
                "LastIncreaseDateTime": 1_700_000_001.0,
                "NumberOfDecreasesToday": 0,
                "ReadCapacityUnits": 5,
                "WriteCapacityUnits": 6,
            },
            "TableSizeBytes": 900,
            "ItemCount": 7,
            "TableArn": "arn:aws:dynamodb:eu-west-1:000000000000:table/places",
            "TableId": "0b7d5c1e-0000-4000-8000-000000000000",
            "DeletionProtectionEnabled": true,
            "TableClassSummary": {"TableClass": "STANDARD"},
            "WarmThroughput": {
                "ReadUnitsPerSecond": 5,
                "WriteUnitsPerSecond": 6,
                "Status": "ACTIVE",
            },
        })
    );
}

#[test]
fn on_demand_tables_are_described() {
    let mut table = TableDefinition {
        billing: BillingMode::PayPerRequest,
        status: TableStatus::Creating,
        table_class: None,
        ..table()
    };
    let described = table.describe("local", &TableCounts::default(), NOW_MS);
    assert_eq!(
        described["BillingModeSummary"],
        json!({
            "BillingMode": "PAY_PER_REQUEST",
            "LastUpdateToPayPerRequestDateTime": 1_700_000_000.123,
        })
    );
    assert_eq!(
        described["ProvisionedThroughput"]["ReadCapacityUnits"],
        json!(0)
    );
    assert_eq!(described["TableStatus"], json!("CREATING"));
    assert_eq!(described.get("WarmThroughput"), None);
    assert_eq!(described.get("TableClassSummary"), None);
    table.throughput_changes.on_demand_ms = 1_700_000_002_000;
    table.billing = BillingMode::Provisioned {
        read_units: 1,
        write_units: 1,
    };
    assert_eq!(
        table.describe("local", &TableCounts::default(), NOW_MS)["BillingModeSummary"]["BillingMode"],
        json!("PROVISIONED")
    );
}

#[test]
fn decreases_are_counted_by_days() {
    let mut table = table();
    table.throughput_changes.decreased_ms = 1_700_000_000_000;
    table.throughput_changes.decreases_today = 3;
    let decreases = |now_ms| {
        table.describe("local", &TableCounts::default(), now_ms)["ProvisionedThroughput"]["NumberOfDecreasesToday"].clone()
    };
    assert_eq!(decreases(NOW_MS), json!(3));
    assert_eq!(decreases(NOW_MS + DAY_MS), json!(0));
}

#[test]
fn limits_follow_billing_warm_throughput_and_maximum() {
    let mut table = table();
    assert_eq!(
        table.limit(Direction::Read),
        (5, ThroughputLimit::Provisioned)
    );
    table.warm = UnitRates {
        read_units: 50,
        write_units: 1,
    };
    assert_eq!(
        table.limit(Direction::Read),
        (5, ThroughputLimit::Provisioned)
    );
    assert_eq!(
        table.warm_rates(),
        UnitRates {
            read_units: 50,
            write_units: 6
        }
    );
    table.billing = BillingMode::PayPerRequest;
    assert_eq!(
        table.limit(Direction::Read),
        (12_000, ThroughputLimit::KeyRange)
    );
    table.warm.read_units = 30_000;
    assert_eq!(
        table.limit(Direction::Read),
        (30_000, ThroughputLimit::KeyRange)
    );
    table.on_demand_max.max_read_units = Some(7);
    assert_eq!(
        table.limit(Direction::Read),
        (7, ThroughputLimit::MaxOnDemand)
    );
    assert_eq!(
        table.limit(Direction::Write),
        (4_000, ThroughputLimit::KeyRange)
    );
    let described = table.describe("local", &TableCounts::default(), NOW_MS);
    assert_eq!(
        described["OnDemandThroughput"],
        json!({"MaxReadRequestUnits": 7})
    );
    assert_eq!(
        described["WarmThroughput"],
        json!({"ReadUnitsPerSecond": 30_000, "WriteUnitsPerSecond": 4_000, "Status": "ACTIVE"})
    );
}

#[test]
fn definitions_survive_their_serde_form() {
    let table = table();
    let text = serde_json::to_string(&table).unwrap();
    assert_eq!(
        serde_json::from_str::<TableDefinition>(&text).unwrap(),
        table
    );
    // What a later version adds is optional.
    let mut tree = serde_json::to_value(&table).unwrap();
    let fields = tree.as_object_mut().unwrap();
    for optional in [
        "deletion_protection",
        "table_class",
        "tags",
        "throughput_changes",
        "on_demand_max",
        "warm",
    ] {
        fields.remove(optional);
    }
    fields.insert("new".to_owned(), json!(1));
    let read: TableDefinition = serde_json::from_value(tree).unwrap();
    assert_eq!((read.name, read.tags.len()), (table.name, 0));
}
