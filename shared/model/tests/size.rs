//! Sizes as the service counts them.

mod values;

use model::codec::{encode_item, encoded_item_size};
use model::size::{item_size, value_size};
use model::{AttributeValue, Item, Number};
use proptest::prelude::*;

#[test]
fn numbers_count_pairs_of_digits_on_each_side_of_the_point() {
    // Figures that the public suite nubo-db/dynamodb-conformance measured against the service.
    for (text, bytes) in [
        ("0", 1),
        ("1", 2),
        ("12", 2),
        ("123", 3),
        ("1234", 3),
        ("12345678901234567890123456789012345678", 20),
        ("0042", 2),
        ("100", 2),
        ("1010", 3),
        ("0.0000001", 2),
        ("1E125", 2),
        ("1E-100", 2),
        ("1.5", 3),
        ("15", 2),
        ("1.200", 3),
        ("1.234", 4),
        ("3.14159", 5),
        ("123456", 4),
        ("100.5", 4),
        ("0.15", 2),
        ("-42", 3),
        ("-0", 1),
    ] {
        let number = Number::parse(text).unwrap();
        assert_eq!(value_size(&AttributeValue::N(number)), bytes, "{text}");
    }
}

#[test]
fn containers_count_three_bytes_and_one_an_element() {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let map = Item::from([
        ("ab".to_owned(), text("xyz")),
        ("é".to_owned(), AttributeValue::Null),
    ]);
    for (value, bytes) in [
        (text("é€"), 5),
        (AttributeValue::B(bytes::Bytes::from_static(b"1234")), 4),
        (AttributeValue::Bool(true), 1),
        (AttributeValue::Null, 1),
        (AttributeValue::StringSet(vec!["a".into(), "bc".into()]), 3),
        (
            AttributeValue::NumberSet(vec![Number::from(1u64), Number::from(123u64)]),
            5,
        ),
        (AttributeValue::L(vec![]), 3),
        (
            AttributeValue::L(vec![text("ab"), AttributeValue::Null]),
            3 + 3 + 2,
        ),
        (AttributeValue::M(Item::new()), 3),
        (AttributeValue::M(map), 3 + (1 + 2 + 3) + (1 + 2 + 1)),
    ] {
        assert_eq!(value_size(&value), bytes, "{value:?}");
        let item = Item::from([("name".to_owned(), value)]);
        assert_eq!(item_size(&item), 4 + bytes);
    }
}

proptest! {
    #[test]
    fn encoded_items_have_the_same_size(item in values::item()) {
        prop_assert_eq!(encoded_item_size(&encode_item(&item)), Ok(item_size(&item)));
    }
}
