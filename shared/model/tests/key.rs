//! Keys and key ranges.

mod values;

use bytes::Bytes;
use model::error::texts;
use model::key::{self, ENCODED_KEY_BYTES_MAX, KeyRange, SortBound};
use model::table::{
    BillingMode, KeyAttribute, KeySchema, ScalarType, TableStatus, ThroughputChanges,
};
use model::{ApiError, AttributeValue, IndexId, Item, Number, TableDefinition, TableId};
use proptest::prelude::*;

const TABLE: TableId = TableId(77);
const BASE: IndexId = IndexId(0);

fn table(partition: ScalarType, sort: Option<ScalarType>) -> TableDefinition {
    let key = |name: &str, kind| KeyAttribute {
        name: name.to_owned(),
        kind,
    };
    TableDefinition {
        id: TABLE,
        name: "places".to_owned(),
        version: 1,
        keys: KeySchema {
            partition: key("pk", partition),
            sort: sort.map(|kind| key("sk", kind)),
        },
        billing: BillingMode::PayPerRequest,
        status: TableStatus::Active,
        created_ms: 0,
        uuid: String::new(),
        deletion_protection: false,
        table_class: None,
        tags: Default::default(),
        throughput_changes: ThroughputChanges::default(),
        on_demand_max: Default::default(),
        ..Default::default()
    }
}

fn text(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

fn number(value: i64) -> AttributeValue {
    AttributeValue::N(Number::from(value))
}

fn item<const N: usize>(entries: [(&str, AttributeValue); N]) -> Item {
    entries
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn encode(partition: &AttributeValue, sort: Option<&AttributeValue>) -> Bytes {
    key::encode_key(TABLE, BASE, partition, sort).unwrap()
}

#[test]
fn the_format_does_not_change() {
    let key = encode(&text("a"), Some(&text("b")));
    assert_eq!(&key[..10], &[0, 0, 0, 0, 0, 0, 0, 77, 0, 0]);
    // sha256 of "Sa".
    let hash = "a951efc79deb7ff3ecb2daabc383401317b475842f9f41aa2bc43f15942d312d";
    let hex: String = key[10..42]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(hex, hash);
    assert_eq!(&key[42..], b"b");
    assert_eq!(
        key::collection_prefix(TABLE, BASE, &text("a")).unwrap(),
        key.slice(..42)
    );
    assert_eq!(encode(&text("a"), None), key.slice(..42));
    assert_eq!(key::table_of(&key), Some(TABLE));
    assert_eq!(key::table_of(&[1, 2]), None);
}

#[test]
fn partition_keys_of_different_types_or_values_differ() {
    let binary = |bytes: &'static [u8]| AttributeValue::B(Bytes::from_static(bytes));
    let keys = [
        text("1"),
        text("2"),
        number(1),
        number(2),
        binary(b"1"),
        binary(b"2"),
    ];
    let encoded: std::collections::BTreeSet<_> = keys.iter().map(|key| encode(key, None)).collect();
    assert_eq!(encoded.len(), keys.len());
    let same = AttributeValue::N(Number::parse("1.00").unwrap());
    assert_eq!(encode(&same, None), encode(&number(1), None));
}

#[test]
fn items_must_have_valid_keys() {
    let table = table(ScalarType::S, Some(ScalarType::N));
    let good = item([
        ("pk", text("a")),
        ("sk", number(1)),
        ("other", AttributeValue::Null),
    ]);
    assert_eq!(
        key::key_from_item(&table, &good),
        Ok(encode(&text("a"), Some(&number(1))))
    );
    assert_eq!(
        key::key_item(&table, &good),
        item([("pk", text("a")), ("sk", number(1))])
    );
    for (bad, message) in [
        (
            item([]),
            "One or more parameter values were invalid: Missing the key pk in the item",
        ),
        (
            item([("pk", text("a"))]),
            "One or more parameter values were invalid: Missing the key sk in the item",
        ),
        (
            item([("pk", number(1)), ("sk", number(1))]),
            "One or more parameter values were invalid: Type mismatch for key pk expected: S actual: N",
        ),
        (
            item([("pk", text("a")), ("sk", AttributeValue::Null)]),
            "One or more parameter values were invalid: Type mismatch for key sk expected: N actual: NULL",
        ),
        (
            item([("pk", text("")), ("sk", number(1))]),
            "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an \
             empty string value. Key: pk",
        ),
        (
            item([("pk", text("a".repeat(2049))), ("sk", number(1))]),
            "One or more parameter values were invalid: Size of hashkey has exceeded the maximum size limit of2048 \
             bytes",
        ),
    ] {
        assert_eq!(
            key::key_from_item(&table, &bad),
            Err(ApiError::validation(message))
        );
    }
}

#[test]
fn sort_keys_have_their_own_limits() {
    let table = table(ScalarType::B, Some(ScalarType::B));
    let binary = |length| AttributeValue::B(Bytes::from(vec![0xff; length]));
    let entry = |partition, sort| item([("pk", binary(partition)), ("sk", binary(sort))]);
    let longest = key::key_from_item(&table, &entry(2048, 1024)).unwrap();
    assert_eq!(longest.len(), ENCODED_KEY_BYTES_MAX);
    for (bad, message) in [
        (
            entry(1, 1025),
            "One or more parameter values were invalid: Aggregated size of all range keys has exceeded the size \
             limit of 1024 bytes",
        ),
        (
            entry(1, 0),
            "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an \
             empty binary value. Key: sk",
        ),
    ] {
        assert_eq!(
            key::key_from_item(&table, &bad),
            Err(ApiError::validation(message))
        );
        assert_eq!(
            key::key_from_key(&table, &bad),
            Err(ApiError::validation(message))
        );
    }
}

#[test]
fn key_parameters_must_match_the_schema() {
    let table = table(ScalarType::S, Some(ScalarType::N));
    let good = item([("pk", text("a")), ("sk", number(1))]);
    assert_eq!(
        key::key_from_key(&table, &good),
        key::key_from_item(&table, &good)
    );
    for bad in [
        item([]),
        item([("pk", text("a"))]),
        item([("pk", text("a")), ("other", number(1))]),
        item([("pk", text("a")), ("sk", number(1)), ("other", number(1))]),
        item([("pk", text("a")), ("sk", text("1"))]),
        item([("pk", AttributeValue::Null), ("sk", number(1))]),
    ] {
        assert_eq!(
            key::key_from_key(&table, &bad),
            Err(ApiError::validation(texts::KEY_SCHEMA))
        );
    }
    let empty = item([("pk", text("")), ("sk", number(1))]);
    assert_eq!(
        key::key_from_key(&table, &empty),
        Err(ApiError::validation(texts::empty_key("string", "pk")))
    );
}

#[test]
fn values_that_are_no_keys_are_refused() {
    let list = AttributeValue::L(vec![]);
    assert!(key::encode_key(TABLE, BASE, &list, None).is_err());
    assert!(key::encode_key(TABLE, BASE, &text("a"), Some(&list)).is_err());
    assert!(key::encode_key(TABLE, BASE, &text("a"), Some(&text("x".repeat(1025)))).is_err());
    assert!(key::sort_range(TABLE, BASE, &text("a"), SortBound::BeginsWith(&number(1))).is_err());
}

#[test]
fn ranges_at_the_end_of_the_key_space_are_open() {
    let last = TableId(u64::MAX);
    let range = key::table_range(last);
    assert!(range.end.is_empty() && !range.is_empty());
    assert!(range.contains(&[0xff; 50]));
    assert!(!key::table_range(TABLE).contains(&[0xff; 50]));
    let parts = key::split_table_range(last, 3);
    assert!(parts[2].end.is_empty());
    assert!(key::segment_range(last, IndexId(u16::MAX), 3, 3).is_empty());
    assert!(
        key::segment_range(last, IndexId(u16::MAX), 2, 3)
            .end
            .is_empty()
    );
}

#[test]
fn ranges_intersect() {
    let range = |start: &'static str, end: &'static str| KeyRange {
        start: Bytes::from_static(start.as_bytes()),
        end: Bytes::from_static(end.as_bytes()),
    };
    assert_eq!(
        range("a", "m").intersection(&range("c", "z")),
        range("c", "m")
    );
    assert_eq!(
        range("a", "").intersection(&range("c", "z")),
        range("c", "z")
    );
    assert_eq!(range("a", "").intersection(&range("c", "")), range("c", ""));
    assert!(!range("a", "c").overlaps(&range("c", "")));
    assert!(range("a", "c").overlaps(&range("", "")));
    assert!(!range("c", "c").overlaps(&range("", "")));
}

fn sort_value() -> impl Strategy<Value = AttributeValue> {
    "[a-c\\x7fé]{1,4}".prop_map(AttributeValue::S)
}

fn binary_value() -> impl Strategy<Value = AttributeValue> {
    prop::collection::vec(
        prop_oneof![Just(0u8), Just(1), Just(0xfe), Just(0xff)],
        1..4,
    )
    .prop_map(|bytes| AttributeValue::B(Bytes::from(bytes)))
}

fn same_type() -> impl Strategy<Value = (AttributeValue, AttributeValue, AttributeValue)> {
    let numbers = || values::number().prop_map(AttributeValue::N);
    prop_oneof![
        (sort_value(), sort_value(), sort_value()),
        (binary_value(), binary_value(), binary_value()),
        (numbers(), numbers(), numbers()),
    ]
}

fn compare(a: &AttributeValue, b: &AttributeValue) -> std::cmp::Ordering {
    match (a, b) {
        (AttributeValue::S(a), AttributeValue::S(b)) => a.as_bytes().cmp(b.as_bytes()),
        (AttributeValue::B(a), AttributeValue::B(b)) => a.cmp(b),
        (AttributeValue::N(a), AttributeValue::N(b)) => a.cmp(b),
        _ => unreachable!("values of one type"),
    }
}

fn begins(value: &AttributeValue, with: &AttributeValue) -> Option<bool> {
    match (value, with) {
        (AttributeValue::S(value), AttributeValue::S(with)) => Some(value.starts_with(with)),
        (AttributeValue::B(value), AttributeValue::B(with)) => Some(value.starts_with(with)),
        _ => None,
    }
}

proptest! {
    #[test]
    fn keys_of_a_collection_are_in_the_order_of_their_sort_keys((a, b, pk) in same_type()) {
        let (key_a, key_b) = (encode(&pk, Some(&a)), encode(&pk, Some(&b)));
        prop_assert_eq!(key_a.cmp(&key_b), compare(&a, &b));
        prop_assert!(key::collection_range(TABLE, BASE, &pk).unwrap().contains(&key_a));
        prop_assert!(key::table_range(TABLE).contains(&key_a));
        prop_assert!(!key::table_range(TableId(78)).contains(&key_a));
        prop_assert!(!key::index_range(TABLE, IndexId(1)).contains(&key_a));
    }

    #[test]
    fn sort_ranges_hold_what_satisfies_the_condition((a, b, value) in same_type(), pk in "[a-z]{1,9}") {
        let pk = text(pk);
        let key = encode(&pk, Some(&value));
        let holds = |bound| key::sort_range(TABLE, BASE, &pk, bound).unwrap().contains(&key);
        let order = compare(&value, &a);
        prop_assert_eq!(holds(SortBound::Equal(&a)), order.is_eq());
        prop_assert_eq!(holds(SortBound::Less(&a)), order.is_lt());
        prop_assert_eq!(holds(SortBound::LessOrEqual(&a)), order.is_le());
        prop_assert_eq!(holds(SortBound::Greater(&a)), order.is_gt());
        prop_assert_eq!(holds(SortBound::GreaterOrEqual(&a)), order.is_ge());
        let between = order.is_ge() && compare(&value, &b).is_le();
        prop_assert_eq!(holds(SortBound::Between(&a, &b)), between);
        if let Some(begins) = begins(&value, &a) {
            prop_assert_eq!(holds(SortBound::BeginsWith(&a)), begins);
        }
        // Other collections are never in.
        let other = encode(&text("Another"), Some(&value));
        for bound in [SortBound::Less(&a), SortBound::Greater(&a), SortBound::GreaterOrEqual(&a)] {
            prop_assert!(!key::sort_range(TABLE, BASE, &pk, bound).unwrap().contains(&other));
        }
    }

    #[test]
    fn splits_and_segments_cover_everything_once(n in 1u32..70, pk in "[a-z]{1,9}") {
        let key = encode(&text(pk), None);
        let parts = key::split_table_range(TABLE, n);
        prop_assert_eq!(parts.len(), n as usize);
        prop_assert_eq!(&parts[0].start, &key::table_range(TABLE).start);
        prop_assert_eq!(&parts[n as usize - 1].end, &key::table_range(TABLE).end);
        for pair in parts.windows(2) {
            prop_assert_eq!(&pair[0].end, &pair[1].start);
            prop_assert!(!pair[0].is_empty());
        }
        prop_assert_eq!(parts.iter().filter(|part| part.contains(&key)).count(), 1);
        let holding: Vec<u32> = (0..n)
            .filter(|segment| key::segment_range(TABLE, BASE, *segment, n).contains(&key))
            .collect();
        prop_assert_eq!(holding, Vec::from_iter(key::segment_of(&key, n)));
        prop_assert!(key::segment_range(TABLE, BASE, n, n).is_empty());
    }

    #[test]
    fn segments_meet_at_their_bounds(total in 1u32..=1_000_000, segment in any::<prop::sample::Index>()) {
        let segment = segment.index(total as usize) as u32;
        let range = key::segment_range(TABLE, BASE, segment, total);
        let mut first = range.start.to_vec();
        first.resize(42, 0);
        prop_assert_eq!(key::segment_of(&first, total), Some(segment));
        if segment > 0 {
            // The last hash before it.
            let hash = u64::from_be_bytes(first[10..18].try_into().unwrap()) - 1;
            first[10..18].copy_from_slice(&hash.to_be_bytes());
            prop_assert_eq!(key::segment_of(&first, total), Some(segment - 1));
        }
        prop_assert_eq!(key::segment_of(&first[..17], total), None);
        prop_assert_eq!(key::segment_of(&first, 0), None);
    }

    #[test]
    fn halving_the_hash_space_gives_shares_that_halve(n in 1u32..9, halvings in 0u32..60, pick in any::<u64>()) {
        let parts = key::split_table_range(TABLE, n);
        let mut range = parts[(pick % u64::from(n)) as usize].clone();
        let sum: u128 = parts.iter().map(key::hash_width).sum();
        prop_assert_eq!(sum, 1 << 64);
        for halving in 0..halvings {
            let width = key::hash_width(&range);
            let Some(middle) = key::hash_middle(&range) else {
                prop_assert!(width < 2);
                break;
            };
            let left = KeyRange { start: range.start.clone(), end: middle.clone() };
            let right = KeyRange { start: middle.clone(), end: range.end.clone() };
            prop_assert_eq!(key::hash_width(&left), width / 2);
            prop_assert_eq!(key::hash_width(&right), width - width / 2);
            prop_assert!(middle.len() <= key::COLLECTION_BYTES);
            range = if (pick >> halving) & 1 == 0 { left } else { right };
        }
    }
}

#[test]
fn a_range_within_one_item_collection_has_no_middle_in_the_hash_space() {
    let key = |sort| encode(&text("x"), Some(&text(sort)));
    let range = KeyRange {
        start: key("a"),
        end: key("b"),
    };
    assert_eq!(key::hash_width(&range), 0);
    assert_eq!(key::hash_middle(&range), None);
}
