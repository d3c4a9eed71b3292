//! Requests about exports and imports: constraints, their texts, tokens of pages.

use model::ErrorKind;
use model::json::from_slice;

use super::*;

const TABLE: &str = "arn:aws:dynamodb:us-east-1:000000000000:table/music";

fn parse<T: serde::de::DeserializeOwned>(body: Value) -> T {
    from_slice(body.to_string().as_bytes()).unwrap()
}

fn text<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Validation);
    error.message
}

fn export(more: Value) -> Result<NewExport, ApiError> {
    let mut body = json!({"TableArn": TABLE, "S3Bucket": "lake"});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    parse::<ExportTable>(body).validate()
}

#[test]
fn an_export_is_a_full_one_in_dynamodb_json() {
    let all = export(json!({
        "ExportTime": 1_700_000_000, "ClientToken": "t", "S3Prefix": "a/b/", "S3BucketOwner": "123456789012",
        "ExportFormat": "DYNAMODB_JSON", "ExportType": "FULL_EXPORT",
    }));
    let all = all.unwrap();
    assert_eq!(
        (
            all.table.as_str(),
            all.at_ms,
            all.bucket.as_str(),
            all.prefix.as_str()
        ),
        ("music", Some(1_700_000_000_000), "lake", "a/b")
    );
    assert_eq!(
        all.asked,
        json!({
            "S3Bucket": "lake", "S3Prefix": "a/b/", "S3BucketOwner": "123456789012",
            "ExportFormat": "DYNAMODB_JSON", "ExportType": "FULL_EXPORT",
        })
    );
    for unsupported in [
        json!({"ExportFormat": "ION"}),
        json!({"ExportType": "INCREMENTAL_EXPORT"}),
        json!({"S3SseAlgorithm": "AES256"}),
        json!({"FilterSpecification": {}}),
    ] {
        assert!(text(export(unsupported)).ends_with("is not supported yet by Evenkeel"));
    }
    assert!(text(export(json!({"TableArn": "music"}))).starts_with("Invalid TableArn"));
    assert_eq!(
        text(export(
            json!({"S3Bucket": "-", "ClientToken": "$", "S3BucketOwner": "1"})
        )),
        "3 validation errors detected: Value '$' at 'clientToken' failed to satisfy constraint: Member must satisfy regular \
         expression pattern: ^[^\\$]+$; Value '-' at 's3Bucket' failed to satisfy constraint: Member must satisfy regular \
         expression pattern: ^[a-z0-9A-Z]+[\\.\\-\\w]*[a-z0-9A-Z]+$; Value '1' at 's3BucketOwner' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: [0-9]{12}"
    );
}

fn import(more: Value) -> Result<NewImport, ApiError> {
    let mut body = json!({
        "S3BucketSource": {"S3Bucket": "lake", "S3KeyPrefix": "in/"},
        "InputFormat": "CSV",
        "TableCreationParameters": {
            "TableName": "music",
            "AttributeDefinitions": [{"AttributeName": "artist", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "artist", "KeyType": "HASH"}],
            "BillingMode": "PAY_PER_REQUEST",
        },
    });
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    parse::<ImportTable>(body).validate()
}

#[test]
fn an_import_says_how_its_files_are_to_be_read() {
    let plain = import(json!({})).unwrap();
    assert_eq!(
        (
            plain.table.name.as_str(),
            plain.bucket.as_str(),
            plain.prefix.as_str()
        ),
        ("music", "lake", "in/")
    );
    assert_eq!(
        (plain.gzip, plain.format),
        (
            false,
            Format::Csv {
                delimiter: ',',
                header: None
            }
        )
    );
    assert_eq!(plain.asked["InputCompressionType"], "NONE");
    let csv =
        |csv: Value| json!({"InputFormatOptions": {"Csv": csv}, "InputCompressionType": "GZIP"});
    let all = import(csv(
        json!({"Delimiter": "\t", "HeaderList": ["title", "artist"]}),
    ))
    .unwrap();
    let header = Some(vec!["title".to_owned(), "artist".to_owned()]);
    assert_eq!(
        (all.gzip, all.format),
        (
            true,
            Format::Csv {
                delimiter: '\t',
                header
            }
        )
    );
    let items = import(json!({"InputFormat": "DYNAMODB_JSON"})).unwrap();
    assert_eq!(items.format, Format::DynamoDbJson);
    for wrong in [
        json!({"InputFormat": "ION"}),
        json!({"InputCompressionType": "ZSTD"}),
        json!({"InputFormat": "DYNAMODB_JSON", "InputFormatOptions": {"Csv": {}}}),
        csv(json!({"HeaderList": ["title"]})),
        csv(json!({"HeaderList": ["artist", "title", "title"]})),
        csv(json!({"HeaderList": []})),
        csv(json!({"HeaderList": ["art\"ist"]})),
        csv(json!({"Delimiter": "x"})),
        csv(json!({"Delimiter": ",,"})),
        json!({"S3BucketSource": {}}),
    ] {
        text(import(wrong));
    }
    assert_eq!(
        text(import(
            json!({"TableCreationParameters": {"TableName": "a"}})
        ))
        .matches("tableCreationParameters.")
        .count(),
        3
    );
}

#[test]
fn a_pages_token_is_of_the_form_that_the_sdks_check() {
    let token = token_of("01489602797149-73d8d5bc");
    assert_eq!(token.len(), 112);
    assert!(token.bytes().all(|b| b.is_ascii_hexdigit()));
    let query = |token: &str| {
        parse::<ListTransfers>(json!({"TableArn": TABLE, "NextToken": token, "PageSize": 3}))
            .validate()
    };
    let expected = TransferQuery {
        table: Some("music".into()),
        limit: 3,
        before: Some("01489602797149-73d8d5bc".into()),
    };
    assert_eq!(query(&token), Ok(expected));
    for wrong in [
        "",
        "00",
        "zz",
        &token[1..],
        &"0".repeat(112),
        &"7a".repeat(56),
    ] {
        assert_eq!(
            text(query(wrong)),
            "The specified NextToken is invalid",
            "{wrong}"
        );
    }
}
