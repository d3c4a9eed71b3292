//! The stored form of items.

mod values;

use bytes::Bytes;
use model::codec::{
    CodecError, DEPTH_MAX, attributes, decode_item, encode_item, encode_item_into,
    encoded_item_size, get_attribute, pick_attributes, write_json,
};
use model::{AttributeValue, Item, Number, json};
use proptest::prelude::*;

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

/// All readers on the same bytes; they must agree on what is an item, except that the ones that step over values may
/// accept more.
fn read_all(bytes: &[u8]) -> Result<Item, CodecError> {
    let decoded = decode_item(bytes);
    let mut out = b"before".to_vec();
    let json = write_json(bytes, &mut out);
    assert_eq!(json.is_ok(), decoded.is_ok());
    assert!(out.starts_with(b"before"));
    if decoded.is_err() {
        assert_eq!(out, b"before");
    }
    let size = encoded_item_size(bytes);
    assert!(size.is_ok() || decoded.is_err());
    let picked = pick_attributes(bytes, &["a"]);
    assert!(picked.is_ok() || decoded.is_err());
    let found = get_attribute(bytes, "a");
    if let Ok(item) = &decoded {
        assert_eq!(found, Ok(item.get("a").cloned()));
    }
    if let Ok(all) = attributes(bytes) {
        let _ = all
            .filter(|attribute| attribute.as_ref().is_ok_and(|a| a.decode().is_ok()))
            .count();
    }
    decoded
}

#[test]
fn the_format_does_not_change() {
    let item = Item::from([
        ("b".to_owned(), AttributeValue::N(Number::from(-42i64))),
        ("a".to_owned(), text("x")),
        (
            "c".to_owned(),
            AttributeValue::L(vec![AttributeValue::Null, AttributeValue::Bool(true)]),
        ),
    ]);
    let expected = [
        1,
        3,
        1,
        b'a',
        1,
        1,
        b'x',
        1,
        b'b',
        2,
        0x7f,
        0x7c,
        0xff ^ 84,
        1,
        b'c',
        11,
        3,
        0,
        0,
        0,
        2,
        6,
        5,
    ];
    assert_eq!(encode_item(&item), Bytes::copy_from_slice(&expected));
    assert_eq!(decode_item(&expected), Ok(item));
    assert_eq!(encode_item(&Item::new()), Bytes::from_static(&[1, 0]));
}

#[test]
fn other_bytes_are_refused() {
    let cases: [(&str, &[u8]); 17] = [
        ("nothing", &[]),
        ("no count", &[1]),
        ("unknown version", &[2, 0]),
        ("trailing bytes", &[1, 0, 0]),
        ("count too high", &[1, 2, 1, b'a', 6]),
        ("unknown tag", &[1, 1, 1, b'a', 12]),
        ("tag 0", &[1, 1, 1, b'a', 0]),
        ("names not ascending", &[1, 2, 1, b'b', 6, 1, b'a', 6]),
        ("name twice", &[1, 2, 1, b'a', 6, 1, b'a', 6]),
        ("name not UTF-8", &[1, 1, 1, 0xff, 6]),
        ("text not UTF-8", &[1, 1, 1, b'a', 1, 1, 0xff]),
        ("length not shortest", &[1, 0x80, 0]),
        ("length too large", &[1, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("empty set", &[1, 1, 1, b'a', 7, 1, 0, 0, 0, 0]),
        (
            "unsorted set",
            &[1, 1, 1, b'a', 7, 5, 0, 0, 0, 2, 1, b'b', 1, b'a'],
        ),
        ("container too long", &[1, 1, 1, b'a', 11, 9, 0, 0, 0, 0]),
        (
            "container with a rest",
            &[1, 1, 1, b'a', 11, 2, 0, 0, 0, 0, 6],
        ),
    ];
    for (what, bytes) in cases {
        assert!(read_all(bytes).is_err(), "{what}");
    }
}

#[test]
fn lengths_do_not_make_readers_allocate() {
    // A list that claims 2^28 - 1 elements, in 14 bytes.
    let lying = [1, 1, 1, b'a', 11, 5, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 6];
    assert!(read_all(&lying).is_err());
}

#[test]
fn depth_is_bounded() {
    let item = |wraps| Item::from([("a".to_owned(), values::nested(wraps))]);
    assert_eq!(
        read_all(&encode_item(&item(DEPTH_MAX))),
        Ok(item(DEPTH_MAX))
    );
    let deeper = encode_item(&item(DEPTH_MAX + 1));
    assert!(decode_item(&deeper).is_err());
    assert!(write_json(&deeper, &mut Vec::new()).is_err());
    assert!(encoded_item_size(&deeper).is_err());
    assert!(get_attribute(&deeper, "a").is_err());
    // Deeper than any stack.
    let mut content = vec![6];
    for _ in 0..100_000 {
        let mut list = vec![11];
        list.extend_from_slice(&(content.len() as u32 + 1).to_le_bytes());
        list.push(1);
        content.splice(0..0, list);
        if content.len() > 400_000 {
            break;
        }
    }
    let mut bytes = vec![1, 1, 1, b'a'];
    bytes.extend(content);
    assert!(read_all(&bytes).is_err());
}

#[test]
fn sets_out_of_order_are_stored_in_order() {
    let unsorted = AttributeValue::StringSet(vec!["b".into(), "a".into(), "b".into()]);
    let sorted = AttributeValue::StringSet(vec!["a".into(), "b".into()]);
    let bytes = encode_item(&Item::from([("s".to_owned(), unsorted)]));
    assert_eq!(
        decode_item(&bytes),
        Ok(Item::from([("s".to_owned(), sorted)]))
    );
}

proptest! {
    #[test]
    fn items_round_trip(item in values::item()) {
        let bytes = encode_item(&item);
        prop_assert_eq!(read_all(&bytes), Ok(item.clone()));
        let mut appended = b"x".to_vec();
        encode_item_into(&item, &mut appended);
        prop_assert_eq!(&appended[1..], &bytes[..]);
    }

    #[test]
    fn json_is_that_of_the_decoded_item(item in values::item()) {
        let (mut streamed, mut built) = (Vec::new(), Vec::new());
        write_json(&encode_item(&item), &mut streamed).unwrap();
        json::write_item(&item, &mut built);
        prop_assert_eq!(&streamed, &built);
        prop_assert_eq!(streamed, serde_json::to_vec(&json::ItemJson(&item)).unwrap());
    }

    #[test]
    fn attributes_are_found(item in values::item(), absent in values::text()) {
        let bytes = encode_item(&item);
        for (name, value) in &item {
            prop_assert_eq!(get_attribute(&bytes, name), Ok(Some(value.clone())));
        }
        prop_assert_eq!(get_attribute(&bytes, &absent), Ok(item.get(&absent).cloned()));
        let read: Vec<_> = attributes(&bytes)
            .unwrap()
            .map(|attribute| {
                let attribute = attribute.unwrap();
                let (mut streamed, mut built) = (Vec::new(), Vec::new());
                attribute.write_json(&mut streamed).unwrap();
                json::write_value(&item[attribute.name], &mut built);
                assert_eq!(streamed, built);
                (attribute.name.to_owned(), attribute.decode().unwrap())
            })
            .collect();
        prop_assert_eq!(read, item.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn picked_attributes_make_an_item(item in values::item(), pick in any::<prop::sample::Selector>()) {
        let names: Vec<&str> = item.keys().map(String::as_str).collect();
        let chosen = if names.is_empty() { "x" } else { *pick.select(&names) };
        let wanted: Item =
            item.iter().filter(|(name, _)| *name == chosen).map(|(n, v)| (n.clone(), v.clone())).collect();
        let picked = pick_attributes(&encode_item(&item), &["\u{1}absent", chosen]).unwrap();
        prop_assert_eq!(picked, encode_item(&wanted));
    }

    #[test]
    fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(item) = read_all(&bytes) {
            prop_assert_eq!(&encode_item(&item)[..], &bytes[..]);
        }
    }

    #[test]
    fn damaged_items_are_safe(
        item in values::item(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = encode_item(&item).to_vec();
        let mut changed = bytes.clone();
        changed[at.index(bytes.len())] = byte;
        // Whatever is still accepted is the one encoding of what it says.
        if let Ok(item) = read_all(&changed) {
            prop_assert_eq!(encode_item(&item), changed);
        }
        let cut = cut.index(bytes.len());
        prop_assert!(read_all(&bytes[..cut]).is_err());
    }
}
