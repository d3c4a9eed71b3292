//! Files of imports: good records, bad ones, and what ends a file.

use std::io::Cursor;

use model::TableId;
use model::codec::decode_item;
use model::table::{BillingMode, KeySchema, TableStatus};

use super::*;

pub(crate) fn table(partition: ScalarType, sort: Option<ScalarType>) -> TableDefinition {
    let key = |name: &str, kind| KeyAttribute {
        name: name.into(),
        kind,
    };
    TableDefinition {
        id: TableId(20),
        name: "music".into(),
        version: 1,
        keys: KeySchema {
            partition: key("pk", partition),
            sort: sort.map(|kind| key("sk", kind)),
        },
        billing: BillingMode::PayPerRequest,
        status: TableStatus::Creating,
        created_ms: 0,
        uuid: String::new(),
        deletion_protection: false,
        table_class: None,
        tags: Default::default(),
        throughput_changes: Default::default(),
        on_demand_max: Default::default(),
        ..Default::default()
    }
}

/// All records, bad ones as their messages; at the end what made the file unreadable.
fn read(
    text: &[u8],
    format: &Format,
    table: &TableDefinition,
) -> (Vec<Result<Item, String>>, Option<String>) {
    let mut records = match Records::open(Cursor::new(text.to_vec()), format, table) {
        Ok(records) => records,
        Err(why) => return (Vec::new(), Some(why)),
    };
    let mut all = Vec::new();
    loop {
        match records.next() {
            Ok(None) => return (all, None),
            Ok(Some(record)) => all.push(record.map(|(key, item)| {
                let item = decode_item(&item).unwrap();
                assert_eq!(key, key_from_item(table, &item).unwrap());
                item
            })),
            Err(why) => return (all, Some(why)),
        }
    }
}

fn item(attributes: &[(&str, &str)]) -> Item {
    let value = |text: &str| AttributeValue::S(text.into());
    attributes
        .iter()
        .map(|(name, text)| ((*name).to_owned(), value(text)))
        .collect()
}

fn csv(delimiter: char, header: Option<&[&str]>) -> Format {
    let header = header.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    Format::Csv { delimiter, header }
}

#[test]
fn lines_of_json_are_items_and_bad_ones_don_t_stop_the_others() {
    let text = br#"{"Item":{"pk":{"S":"a"},"n":{"S":"1"}}}

{"Item":{"pk":{"N":"1"}}}
{"Item":{"n":{"S":"1"}}}
{"Item":{"pk":{"S":""}}}
not json
{"pk":{"S":"b"}}
{"Item":{"pk":{"S":"z"}}}"#;
    let (records, end) = read(text, &Format::DynamoDbJson, &table(ScalarType::S, None));
    assert_eq!(end, None);
    let good: Vec<bool> = records.iter().map(Result::is_ok).collect();
    assert_eq!(good, [true, false, false, false, false, false, true]);
    assert_eq!(records[0], Ok(item(&[("pk", "a"), ("n", "1")])));
    assert_eq!(records[6], Ok(item(&[("pk", "z")])));
}

#[test]
fn a_line_that_is_too_long_is_one_error() {
    let mut text = vec![b'x'; LINE_BYTES_MAX + 70_000];
    text.extend_from_slice(b"\n{\"Item\":{\"pk\":{\"S\":\"z\"}}}\n");
    let (records, end) = read(&text, &Format::DynamoDbJson, &table(ScalarType::S, None));
    assert_eq!((records.len(), end), (2, None));
    assert!(records[0].as_ref().unwrap_err().contains("longer"));
    assert_eq!(records[1], Ok(item(&[("pk", "z")])));
}

#[test]
fn columns_have_the_types_of_the_keys_or_are_strings() {
    let text = b"sk,pk,title,year\n3,YQ==,\"say \"\"hi\"\", you\",\n-1.50,YQ==,,1999\nx,YQ==,,\n1,?,,\n1,YQ==,t\n";
    let table = table(ScalarType::B, Some(ScalarType::N));
    let (records, end) = read(text, &csv(',', None), &table);
    assert_eq!(end, None);
    let key = |number: &str| {
        Item::from([
            ("pk".to_owned(), AttributeValue::B(b"a".to_vec().into())),
            (
                "sk".to_owned(),
                AttributeValue::N(Number::parse(number).unwrap()),
            ),
        ])
    };
    let with = |number: &str, name: &str, text: &str| {
        let mut item = key(number);
        item.insert(name.into(), AttributeValue::S(text.into()));
        item
    };
    assert_eq!(records[0], Ok(with("3", "title", "say \"hi\", you")));
    assert_eq!(records[1], Ok(with("-1.5", "year", "1999")));
    let bad: Vec<bool> = records[2..].iter().map(Result::is_err).collect();
    assert_eq!(bad, [true; 3], "no number, no Base64, a value too few");
}

#[test]
fn a_header_may_be_given_and_must_have_all_keys_once() {
    let table = table(ScalarType::S, None);
    let (records, end) = read(b"1;a\n", &csv(';', Some(&["n", "pk"])), &table);
    assert_eq!(
        (records, end),
        (vec![Ok(item(&[("pk", "a"), ("n", "1")]))], None)
    );
    for text in ["a,b\n1,2\n", "pk,pk\n1,2\n", "pk,\n1,2\n", ""] {
        let (records, end) = read(text.as_bytes(), &csv(',', None), &table);
        assert!(records.is_empty() && end.is_some(), "{text}");
    }
}

#[test]
fn text_that_is_no_utf8_is_an_error_of_its_row() {
    let (records, end) = read(
        b"pk,n\na,\xff\nb,1\n",
        &csv(',', None),
        &table(ScalarType::S, None),
    );
    assert_eq!(end, None);
    assert!(records[0].is_err());
    assert_eq!(records[1], Ok(item(&[("pk", "b"), ("n", "1")])));
}
