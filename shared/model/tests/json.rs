//! DynamoDB JSON: what is accepted, and with which error the rest is refused.

mod values;

use std::collections::BTreeMap;

use bytes::Bytes;
use model::error::texts;
use model::json::{
    ItemJson, JsonItem, JsonValue, ValueJson, from_slice, write_item, write_string, write_value,
};
use model::value::NESTING_LEVELS_MAX;
use model::{ApiError, AttributeValue, ErrorKind, Item, Number};
use proptest::prelude::*;
use serde::Deserialize;

/// The value of an attribute in a request: the parse error, or else the value or its ValidationException.
fn value(json: &str) -> Result<AttributeValue, ApiError> {
    from_slice::<JsonValue>(json.as_bytes())?.0
}

fn item(json: &str) -> Result<Item, ApiError> {
    from_slice::<JsonItem>(json.as_bytes())?.0
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

#[test]
fn all_types_are_read() {
    let number = |text| Number::parse(text).unwrap();
    for (json, expected) in [
        (r#"{"S":"a\u00e9\ud83d\ude00\n"}"#, text("aé😀\n")),
        (r#"{"S":""}"#, text("")),
        (r#" { "N" : "-1.50" } "#, AttributeValue::N(number("-1.5"))),
        (
            r#"{"B":"AAH/"}"#,
            AttributeValue::B(Bytes::from_static(&[0, 1, 255])),
        ),
        (r#"{"B":""}"#, AttributeValue::B(Bytes::new())),
        (r#"{"BOOL":true}"#, AttributeValue::Bool(true)),
        (r#"{"BOOL":false}"#, AttributeValue::Bool(false)),
        (r#"{"NULL":true}"#, AttributeValue::Null),
        (r#"{"NULL":false}"#, AttributeValue::Null),
        (
            r#"{"SS":["b","","a"]}"#,
            AttributeValue::StringSet(vec!["".into(), "a".into(), "b".into()]),
        ),
        (
            r#"{"NS":["10","9","-1"]}"#,
            AttributeValue::NumberSet(vec![number("-1"), number("9"), number("10")]),
        ),
        (
            r#"{"BS":["Yg==","YQ=="]}"#,
            AttributeValue::BinarySet(vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")]),
        ),
        (r#"{"L":[]}"#, AttributeValue::L(vec![])),
        (
            r#"{"L":[{"S":"x"},{"NULL":true}]}"#,
            AttributeValue::L(vec![text("x"), AttributeValue::Null]),
        ),
        (r#"{"M":{}}"#, AttributeValue::M(Item::new())),
        (
            r#"{"M":{"k":{"S":"x"}}}"#,
            AttributeValue::M(Item::from([("k".to_owned(), text("x"))])),
        ),
        // Nulls and unknown members are as good as absent; the last of equal members counts.
        (r#"{"S":"x","N":null,"Z":[{}]}"#, text("x")),
        (r#"{"S":"x","S":"y"}"#, text("y")),
    ] {
        assert_eq!(value(json), Ok(expected), "{json}");
    }
    assert_eq!(
        item(r#"{"a":{"S":"x"},"a":{"S":"y"}}"#),
        Ok(Item::from([("a".to_owned(), text("y"))]))
    );
}

#[test]
fn refused_values_are_validation_exceptions() {
    let invalid = |text: &str| format!("{}{text}", texts::INVALID);
    for (json, message) in [
        ("{}", texts::NO_DATATYPE.to_owned()),
        ("null", texts::NO_DATATYPE.to_owned()),
        (r#"{"a":""}"#, texts::NO_DATATYPE.to_owned()),
        (r#"{"S":null}"#, texts::NO_DATATYPE.to_owned()),
        (r#"{"M":{"a":{}}}"#, texts::NO_DATATYPE.to_owned()),
        (r#"{"L":[{}]}"#, texts::NO_DATATYPE.to_owned()),
        (r#"{"L":[null]}"#, texts::NO_DATATYPE.to_owned()),
        (r#"{"S":"a","N":"1"}"#, texts::SEVERAL_DATATYPES.to_owned()),
        // The wrong number comes before the second type.
        (r#"{"S":"a","N":""}"#, "The parameter cannot be converted to a numeric value".to_owned()),
        (r#"{"S":"a","N":"b"}"#, "The parameter cannot be converted to a numeric value: b".to_owned()),
        (r#"{"N":"abc"}"#, "The parameter cannot be converted to a numeric value: abc".to_owned()),
        (r#"{"NS":["1",""]}"#, "The parameter cannot be converted to a numeric value".to_owned()),
        (r#"{"NS":["1",null]}"#, "The parameter cannot be converted to a numeric value".to_owned()),
        (r#"{"NS":["1","b"]}"#, "The parameter cannot be converted to a numeric value: b".to_owned()),
        (r#"{"NS":["1","1.0"]}"#, "Input collection contains duplicates".to_owned()),
        (
            r#"{"N":"123456789012345678901234567890123456789"}"#,
            "Attempting to store more than 38 significant digits in a Number".to_owned(),
        ),
        (
            r#"{"N":"1e126"}"#,
            "Number overflow. Attempting to store a number with magnitude larger than supported range".to_owned(),
        ),
        (
            r#"{"N":"-1e-131"}"#,
            "Number underflow. Attempting to store a number with magnitude smaller than supported range".to_owned(),
        ),
        (r#"{"SS":[]}"#, invalid("An string set  may not be empty")),
        (r#"{"NS":[]}"#, invalid("An number set  may not be empty")),
        (r#"{"BS":[]}"#, invalid("Binary sets should not be empty")),
        (r#"{"SS":["a",null]}"#, invalid("An string set may not have a empty string as a member")),
        (r#"{"BS":[null]}"#, invalid("Binary sets may not contain null or empty values")),
        (r#"{"SS":["a","a"]}"#, invalid("Input collection [a, a] contains duplicates.")),
        (r#"{"SS":["b","a","b"]}"#, invalid("Input collection [b, a, b] contains duplicates.")),
        (r#"{"BS":["Yg==","Yg=="]}"#, invalid("Input collection [Yg==, Yg==]of type BS contains duplicates.")),
        (r#"{"BS":["",""]}"#, invalid("Input collection [, ]of type BS contains duplicates.")),
        // The first wrong one counts.
        (r#"{"L":[{"SS":[]},{"N":"x"}]}"#, invalid("An string set  may not be empty")),
    ] {
        assert_eq!(value(json), Err(ApiError::validation(message.clone())), "{json}");
        // An item has the error of its first wrong value, and it keeps its kind.
        let whole = format!(r#"{{"ok":{{"S":"x"}},"bad":{json},"worse":{{"L":[{{}}]}}}}"#);
        assert_eq!(item(&whole), Err(ApiError::validation(message)), "{whole}");
    }
}

#[test]
fn wrong_json_types_are_serialization_exceptions() {
    let map_of = "Unrecognized collection type java.util.Map<java.lang.String, \
                  com.amazonaws.dynamodb.v20120810.AttributeValue>";
    let value_list =
        "Unrecognized collection type class com.amazonaws.dynamodb.v20120810.AttributeValue";
    for (json, message) in [
        (r#""x""#, "Unexpected value type in payload"),
        ("23", "Unexpected value type in payload"),
        ("true", "Unexpected value type in payload"),
        ("[]", value_list),
        (r#"{"S":true}"#, "TRUE_VALUE cannot be converted to String"),
        (
            r#"{"S":false}"#,
            "FALSE_VALUE cannot be converted to String",
        ),
        (r#"{"S":23}"#, "NUMBER_VALUE cannot be converted to String"),
        (
            r#"{"S":-2147483649}"#,
            "NUMBER_VALUE cannot be converted to String",
        ),
        (
            r#"{"S":34.56}"#,
            "DECIMAL_VALUE cannot be converted to String",
        ),
        (
            r#"{"S":[]}"#,
            "Unrecognized collection type class java.lang.String",
        ),
        (
            r#"{"S":{}}"#,
            "Start of structure or map found where not expected",
        ),
        (r#"{"N":1}"#, "NUMBER_VALUE cannot be converted to String"),
        (
            r#"{"NS":[1]}"#,
            "NUMBER_VALUE cannot be converted to String",
        ),
        (
            r#"{"SS":[["a"]]}"#,
            "Unrecognized collection type class java.lang.String",
        ),
        (r#"{"SS":"a"}"#, "Unexpected field type"),
        (
            r#"{"SS":{}}"#,
            "Start of structure or map found where not expected",
        ),
        (
            r#"{"B":1}"#,
            "only base-64-encoded strings are convertible to bytes",
        ),
        (
            r#"{"B":[]}"#,
            "Unrecognized collection type class java.nio.ByteBuffer",
        ),
        (
            r#"{"B":"23456"}"#,
            "Base64 encoded length is expected a multiple of 4 bytes but found: 5",
        ),
        (
            r#"{"B":"=+/="}"#,
            "Invalid last non-pad Base64 character dectected",
        ),
        (
            r#"{"B":"+/+="}"#,
            "Invalid last non-pad Base64 character dectected",
        ),
        (
            r#"{"BS":["YQ"]}"#,
            "Base64 encoded length is expected a multiple of 4 bytes but found: 2",
        ),
        (
            r#"{"BOOL":"true"}"#,
            "Unexpected token received from parser",
        ),
        (
            r#"{"BOOL":1}"#,
            "NUMBER_VALUE cannot be converted to Boolean",
        ),
        (r#"{"NULL":"no"}"#, "Unexpected token received from parser"),
        (
            r#"{"NULL":[]}"#,
            "Unrecognized collection type class java.lang.Boolean",
        ),
        (r#"{"M":[]}"#, map_of),
        (r#"{"M":"x"}"#, "Unexpected field type"),
        (
            r#"{"L":{}}"#,
            "Start of structure or map found where not expected",
        ),
        (r#"{"L":[[]]}"#, value_list),
        (r#"{"M":{"a":5}}"#, "Unexpected value type in payload"),
    ] {
        assert_eq!(value(json), Err(ApiError::serialization(message)), "{json}");
        // Wherever it stands, and whatever else is wrong with the item.
        let whole = format!("{{\"bad\":{{\"SS\":[]}},\n \"worse\":{json}}}");
        assert_eq!(
            item(&whole),
            Err(ApiError::serialization(message)),
            "{whole}"
        );
    }
    assert_eq!(item("[]"), Err(ApiError::serialization(map_of)));
    assert_eq!(
        item("7"),
        Err(ApiError::serialization("Unexpected field type"))
    );
}

#[test]
fn malformed_json_is_a_serialization_exception_without_message() {
    for json in [
        &b""[..],
        b"{",
        b"nonsense",
        br#"{"S":"x"}}"#,
        br#"{"S":"x",}"#,
        br#"{"S":"\x"}"#,
        b"{\"S\":\"\n\"}",
        b"{\"S\":\"\xff\"}",
        b"{\"\xff\":1}",
        br#"{"S":"\ud800"}"#,
    ] {
        let parsed = from_slice::<JsonValue>(json);
        assert_eq!(
            parsed,
            Err(ApiError::serialization("")),
            "{}",
            json.escape_ascii()
        );
    }
}

#[test]
fn parameters_of_wrong_types_get_the_services_texts() {
    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Request {
        table_name: Option<String>,
        limit: Option<i32>,
        consistent_read: Option<bool>,
        names: Option<BTreeMap<String, String>>,
        list: Option<Vec<String>>,
        item: Option<JsonItem>,
    }
    let parse = |json: &str| from_slice::<Request>(json.as_bytes());
    for (json, message) in [
        (
            r#"{"TableName":5}"#,
            "NUMBER_VALUE cannot be converted to String",
        ),
        (
            r#"{"TableName":5.5}"#,
            "DECIMAL_VALUE cannot be converted to String",
        ),
        (
            r#"{"TableName":true}"#,
            "TRUE_VALUE cannot be converted to String",
        ),
        (
            r#"{"TableName":[]}"#,
            "Unrecognized collection type class java.lang.String",
        ),
        (
            r#"{"TableName":{}}"#,
            "Start of structure or map found where not expected",
        ),
        (
            r#"{"Limit":"5"}"#,
            "STRING_VALUE cannot be converted to Integer",
        ),
        (
            r#"{"Limit":false}"#,
            "FALSE_VALUE cannot be converted to Integer",
        ),
        (
            r#"{"ConsistentRead":"true"}"#,
            "Unexpected token received from parser",
        ),
        (
            r#"{"ConsistentRead":1}"#,
            "NUMBER_VALUE cannot be converted to Boolean",
        ),
        (
            r#"{"Names":{"a":5}}"#,
            "NUMBER_VALUE cannot be converted to String",
        ),
        (r#"{"Names":"a"}"#, "Unexpected field type"),
        (r#"{"List":5}"#, "Unexpected field type"),
        (
            r#"{"List":{}}"#,
            "Start of structure or map found where not expected",
        ),
        (
            r#"{"Item":{"a":{"S":5}}}"#,
            "NUMBER_VALUE cannot be converted to String",
        ),
    ] {
        assert_eq!(parse(json), Err(ApiError::serialization(message)), "{json}");
    }
    assert_eq!(
        parse(r#"{"Item":null,"TableName":null}"#),
        Ok(Request::default())
    );
    let request = parse(r#"{"Item":{"a":{}},"TableName":"t"}"#).unwrap();
    assert_eq!(
        request.item,
        Some(JsonItem(Err(ApiError::validation(texts::NO_DATATYPE))))
    );
    assert_eq!(request.table_name.as_deref(), Some("t"));
}

#[test]
fn nesting_is_limited_to_32_levels() {
    let json = |wraps| {
        let mut out = Vec::new();
        write_value(&values::nested(wraps), &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(value(&json(31)), Ok(values::nested(31)));
    assert_eq!(value(&json(32)), Err(ApiError::validation(texts::NESTING)));
    assert!(values::nested(31).within_levels(NESTING_LEVELS_MAX));
    assert!(!values::nested(32).within_levels(NESTING_LEVELS_MAX));
    let whole = |wraps| item(&format!(r#"{{"a":{}}}"#, json(wraps)));
    assert!(whole(31).is_ok());
    assert_eq!(whole(32), Err(ApiError::validation(texts::NESTING)));
    assert_eq!(whole(55), Err(ApiError::validation(texts::NESTING)));
}

#[test]
fn deep_json_does_not_overflow_the_stack() {
    const DEPTH: usize = 1_000_000;
    for (open, leaf, close) in [
        (r#"{"L":["#, r#"{"S":""}"#, "]}"),
        (r#"{"M":{"a":"#, r#"{"S":""}"#, "}}"),
        (r#"{"M":{"a":"#, r#"{"S":""}"#, ""),
        ("[", "", "]"),
        (r#"{"Z":"#, "1", "}"),
    ] {
        let json = format!("{}{leaf}{}", open.repeat(DEPTH), close.repeat(DEPTH));
        let error = value(&json).unwrap_err();
        assert!(matches!(
            error.kind,
            ErrorKind::Validation | ErrorKind::Serialization
        ));
    }
}

#[test]
fn strings_are_escaped() {
    let mut out = Vec::new();
    write_string("a\"b\\c\n\r\t\u{8}\u{c}\u{1}\u{1f}é€😀\u{7f}/", &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "\"a\\\"b\\\\c\\n\\r\\t\\b\\f\\u0001\\u001fé€😀\u{7f}/\""
    );
}

proptest! {
    #[test]
    fn strings_are_written_as_serde_does(text in values::text(), before in "[ -~]{0,9}") {
        let text = before + &text;
        let mut out = Vec::new();
        write_string(&text, &mut out);
        prop_assert_eq!(out, serde_json::to_vec(&text).unwrap());
    }

    #[test]
    fn items_round_trip(item in values::item()) {
        let mut out = Vec::new();
        write_item(&item, &mut out);
        prop_assert_eq!(from_slice::<JsonItem>(&out).unwrap().0, Ok(item.clone()));
        prop_assert_eq!(serde_json::to_vec(&ItemJson(&item)).unwrap(), out);
        // Through a generic tree too: nothing depends on one parser's way of calling the visitors.
        let tree = serde_json::to_value(ItemJson(&item)).unwrap();
        prop_assert_eq!(serde_json::from_value::<JsonItem>(tree).unwrap().0, Ok(item));
    }

    #[test]
    fn values_round_trip(value in values::value()) {
        let mut out = Vec::new();
        write_value(&value, &mut out);
        prop_assert_eq!(&from_slice::<JsonValue>(&out).unwrap().0, &Ok(value.clone()));
        prop_assert_eq!(serde_json::to_vec(&ValueJson(&value)).unwrap(), out);
    }

    #[test]
    fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..100), like in "[{}\\[\\]:,\"SNBLM01eatruflns ]{0,60}") {
        for json in [&bytes[..], like.as_bytes()] {
            match from_slice::<JsonItem>(json) {
                Ok(JsonItem(Ok(item))) => {
                    let mut out = Vec::new();
                    write_item(&item, &mut out);
                    prop_assert_eq!(from_slice::<JsonItem>(&out).unwrap().0, Ok(item));
                }
                Ok(JsonItem(Err(error))) => prop_assert_eq!(error.kind, ErrorKind::Validation),
                Err(error) => prop_assert_eq!(error.kind, ErrorKind::Serialization),
            }
        }
    }

    #[test]
    fn damaged_json_is_safe(item in values::item(), at in any::<prop::sample::Index>(), byte in "[{}\\[\\]:,\"SN0]") {
        let mut json = Vec::new();
        write_item(&item, &mut json);
        let at = at.index(json.len());
        json[at] = byte.as_bytes()[0];
        match from_slice::<JsonItem>(&json) {
            Ok(JsonItem(Ok(_))) => {}
            Ok(JsonItem(Err(error))) => prop_assert_eq!(error.kind, ErrorKind::Validation),
            Err(error) => prop_assert_eq!(error.kind, ErrorKind::Serialization),
        }
    }
}
