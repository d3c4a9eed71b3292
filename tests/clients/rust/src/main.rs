//! Drives an endpoint with the official SDK for Rust and says what it saw, as one line of JSON: typed errors, paginators,
//! batches, transactions. Usage: sdk-for-rust http://127.0.0.1:8000

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, ConditionCheck, Delete, GlobalSecondaryIndex,
    KeySchemaElement, KeyType, KeysAndAttributes, Projection, ProjectionType, Put, PutRequest,
    ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure, ScalarAttributeType,
    TableStatus, TransactWriteItem, Update, WriteRequest,
};
use aws_sdk_dynamodb::{Client, Config, Error};
use serde_json::{Value, json};

const TABLE: &str = "of-the-rust-sdk";
const PATIENCE: Duration = Duration::from_secs(120);

type Item = HashMap<String, AttributeValue>;

fn client(endpoint: &str) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(
            "evenkeel", "evenkeel", None, None, "fixed",
        ))
        // What is asked twice could be answered otherwise: all that is written here is written once.
        .retry_config(RetryConfig::disabled())
        .timeout_config(
            TimeoutConfig::builder()
                .read_timeout(PATIENCE)
                .operation_timeout(PATIENCE)
                .build(),
        )
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    Client::from_conf(config)
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: usize) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn place(n: usize) -> Item {
    HashMap::from([
        ("country".to_owned(), text(["FI", "NO"][n % 2])),
        ("name".to_owned(), text(&format!("place {n:03}"))),
        ("rank".to_owned(), number(n)),
        (
            "tags".to_owned(),
            AttributeValue::Ss(vec!["a".to_owned(), "b".to_owned()]),
        ),
        (
            "shape".to_owned(),
            AttributeValue::B(Blob::new(vec![0, 255, n as u8])),
        ),
        (
            "at".to_owned(),
            AttributeValue::M(HashMap::from([(
                "north".to_owned(),
                AttributeValue::Bool(n > 9),
            )])),
        ),
    ])
}

fn key(country: &str, name: &str) -> Item {
    HashMap::from([
        ("country".to_owned(), text(country)),
        ("name".to_owned(), text(name)),
    ])
}

fn ranks(items: &[Item]) -> Vec<usize> {
    let rank = |item: &Item| item["rank"].as_n().ok().and_then(|rank| rank.parse().ok());
    items.iter().filter_map(rank).collect()
}

async fn create(client: &Client) -> Result<(), Error> {
    let defined = |name: &str, kind| {
        AttributeDefinition::builder()
            .attribute_name(name)
            .attribute_type(kind)
            .build()
    };
    let part = |name: &str, kind| {
        KeySchemaElement::builder()
            .attribute_name(name)
            .key_type(kind)
            .build()
    };
    let by_rank = GlobalSecondaryIndex::builder()
        .index_name("by-rank")
        .key_schema(part("country", KeyType::Hash)?)
        .key_schema(part("rank", KeyType::Range)?)
        .projection(
            Projection::builder()
                .projection_type(ProjectionType::KeysOnly)
                .build(),
        )
        .build()?;
    client
        .create_table()
        .table_name(TABLE)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(defined("country", ScalarAttributeType::S)?)
        .attribute_definitions(defined("name", ScalarAttributeType::S)?)
        .attribute_definitions(defined("rank", ScalarAttributeType::N)?)
        .key_schema(part("country", KeyType::Hash)?)
        .key_schema(part("name", KeyType::Range)?)
        .global_secondary_indexes(by_rank)
        .send()
        .await?;
    let until = Instant::now() + PATIENCE;
    loop {
        let table = client
            .describe_table()
            .table_name(TABLE)
            .send()
            .await?
            .table;
        if table.and_then(|table| table.table_status) == Some(TableStatus::Active)
            || Instant::now() > until
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn items(client: &Client) -> Result<Value, Error> {
    let put = client.put_item().table_name(TABLE).set_item(Some(place(0)));
    let put = put
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .send()
        .await?;
    let units = put
        .consumed_capacity()
        .and_then(|capacity| capacity.capacity_units());
    let again = client
        .put_item()
        .table_name(TABLE)
        .set_item(Some(place(0)))
        .condition_expression("attribute_not_exists(country)")
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .send()
        .await;
    let refused = match again.map_err(SdkError::into_service_error) {
        Err(PutItemError::ConditionalCheckFailedException(failed)) => failed.item == Some(place(0)),
        _ => false,
    };
    let updated = client
        .update_item()
        .table_name(TABLE)
        .set_key(Some(key("FI", "place 000")))
        .update_expression(
            "SET #at.north = :yes, visits = if_not_exists(visits, :none) + :one DELETE tags :a",
        )
        .expression_attribute_names("#at", "at")
        .expression_attribute_values(":yes", AttributeValue::Bool(true))
        .expression_attribute_values(":none", number(0))
        .expression_attribute_values(":one", number(1))
        .expression_attribute_values(":a", AttributeValue::Ss(vec!["a".to_owned()]))
        .return_values(ReturnValue::AllNew)
        .send()
        .await?;
    let updated = updated.attributes.unwrap_or_default();
    let got = client
        .get_item()
        .table_name(TABLE)
        .set_key(Some(key("FI", "place 000")))
        .consistent_read(true)
        .send()
        .await?;
    let none = client
        .get_item()
        .table_name(TABLE)
        .set_key(Some(key("FI", "nowhere")))
        .consistent_read(true)
        .send()
        .await?;
    let wrong = client
        .get_item()
        .table_name(TABLE)
        .key("country", number(1))
        .send()
        .await
        .map_err(SdkError::into_service_error);
    let wrong = wrong.err().map(|error| {
        (
            error.code().unwrap_or_default().to_owned(),
            error.message().unwrap_or_default().to_owned(),
        )
    });
    let nowhere = client
        .get_item()
        .table_name("nowhere")
        .key("country", text("FI"))
        .send()
        .await
        .map_err(SdkError::into_service_error);
    Ok(json!({
        "units": units,
        "refused": refused,
        "updated": [updated["visits"].as_n().ok(), updated["tags"].as_ss().ok()],
        "same": got.item == Some(updated.clone()),
        "none": none.item.is_none(),
        "wrong": wrong,
        "nowhere": nowhere.err().is_some_and(|error| error.is_resource_not_found_exception()),
    }))
}

async fn collections(client: &Client) -> Result<Value, Error> {
    for chunk in (1..40).collect::<Vec<_>>().chunks(25) {
        let put = |n: &usize| {
            Ok(WriteRequest::builder()
                .put_request(PutRequest::builder().set_item(Some(place(*n))).build()?)
                .build())
        };
        let mut left = Some(HashMap::from([(
            TABLE.to_owned(),
            chunk.iter().map(put).collect::<Result<Vec<_>, Error>>()?,
        )]));
        while left.as_ref().is_some_and(|left| !left.is_empty()) {
            left = client
                .batch_write_item()
                .set_request_items(left)
                .send()
                .await?
                .unprocessed_items;
        }
    }
    let wanted = KeysAndAttributes::builder()
        .consistent_read(true)
        .projection_expression("#r")
        .expression_attribute_names("#r", "rank");
    let wanted = wanted
        .keys(key("NO", "place 001"))
        .keys(key("FI", "place 038"))
        .keys(key("FI", "nowhere"))
        .build()?;
    let batch = client
        .batch_get_item()
        .request_items(TABLE, wanted)
        .send()
        .await?;
    let mut batch = ranks(&batch.responses.unwrap_or_default()[TABLE]);
    batch.sort_unstable();
    let query = client
        .query()
        .table_name(TABLE)
        .consistent_read(true)
        .key_condition_expression("country = :c AND #n BETWEEN :from AND :to")
        .filter_expression("#a.north = :yes")
        .expression_attribute_names("#n", "name")
        .expression_attribute_names("#a", "at")
        .expression_attribute_values(":c", text("NO"))
        .expression_attribute_values(":from", text("place 005"))
        .expression_attribute_values(":to", text("place 021"))
        .expression_attribute_values(":yes", AttributeValue::Bool(true))
        .scan_index_forward(false);
    // Pages of four, put together by the SDK.
    let mut pages = query.limit(4).into_paginator().send();
    let (mut paged, mut count) = (Vec::new(), 0);
    while let Some(page) = pages.next().await {
        count += 1;
        paged.extend(ranks(page?.items()));
    }
    let mut scanned = 0;
    for segment in 0..3 {
        let scan = client
            .scan()
            .table_name(TABLE)
            .consistent_read(true)
            .segment(segment)
            .total_segments(3);
        let mut items = scan.into_paginator().page_size(7).items().send();
        while let Some(item) = items.next().await {
            item?;
            scanned += 1;
        }
    }
    let until = Instant::now() + PATIENCE;
    let expected: Vec<usize> = (31..40).step_by(2).collect();
    // An index follows its table after a while.
    let by_rank = loop {
        let query = client
            .query()
            .table_name(TABLE)
            .index_name("by-rank")
            .key_condition_expression("country = :c AND #r > :r");
        let query = query
            .expression_attribute_names("#r", "rank")
            .expression_attribute_values(":c", text("NO"));
        let found = ranks(
            query
                .expression_attribute_values(":r", number(30))
                .send()
                .await?
                .items(),
        );
        if found == expected || Instant::now() > until {
            break found;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    Ok(
        json!({"batch": batch, "paged": paged, "pages": count > 1, "scanned": scanned, "by_rank": by_rank}),
    )
}

async fn transactions(client: &Client) -> Result<Value, Error> {
    let put = Put::builder()
        .table_name(TABLE)
        .set_item(Some(place(100)))
        .condition_expression("attribute_not_exists(country)")
        .build()?;
    let update = Update::builder()
        .table_name(TABLE)
        .set_key(Some(key("FI", "place 000")))
        .update_expression("ADD visits :one");
    let update = update
        .expression_attribute_values(":one", number(1))
        .build()?;
    let delete = Delete::builder()
        .table_name(TABLE)
        .set_key(Some(key("NO", "place 001")))
        .build()?;
    let write = client
        .transact_write_items()
        .client_request_token("once")
        .transact_items(TransactWriteItem::builder().put(put).build())
        .transact_items(TransactWriteItem::builder().update(update).build())
        .transact_items(TransactWriteItem::builder().delete(delete).build());
    write.clone().send().await?;
    // The same token: done already.
    write.send().await?;
    let check = ConditionCheck::builder()
        .table_name(TABLE)
        .set_key(Some(key("NO", "place 001")))
        .condition_expression("attribute_exists(country)");
    let put = Put::builder()
        .table_name(TABLE)
        .set_item(Some(place(101)))
        .build()?;
    let cancelled = client
        .transact_write_items()
        .transact_items(
            TransactWriteItem::builder()
                .condition_check(check.build()?)
                .build(),
        )
        .transact_items(TransactWriteItem::builder().put(put).build())
        .send()
        .await;
    let reasons = match cancelled.map_err(SdkError::into_service_error) {
        Err(TransactWriteItemsError::TransactionCanceledException(cancelled)) => cancelled
            .cancellation_reasons()
            .iter()
            .map(|reason| reason.code().unwrap_or_default().to_owned())
            .collect(),
        other => vec![format!("{other:?}")],
    };
    let get = |key| {
        client
            .get_item()
            .table_name(TABLE)
            .set_key(Some(key))
            .consistent_read(true)
            .send()
    };
    let visits = get(key("FI", "place 000"))
        .await?
        .item
        .map(|item| item["visits"].clone());
    Ok(json!({
        "put": get(key("FI", "place 100")).await?.item == Some(place(100)),
        "visits": visits.and_then(|visits| visits.as_n().ok().cloned()),
        "deleted": get(key("NO", "place 001")).await?.item.is_none(),
        "reasons": reasons,
        "nothing": get(key("NO", "place 101")).await?.item.is_none(),
    }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let endpoint = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "http://127.0.0.1:8000".to_owned());
    let client = client(&endpoint);
    create(&client).await?;
    let seen = json!({
        "items": items(&client).await?,
        "collections": collections(&client).await?,
        "transactions": transactions(&client).await?,
    });
    client.delete_table().table_name(TABLE).send().await?;
    println!("{seen}");
    Ok(())
}
