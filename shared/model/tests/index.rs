//! Keys of index entries: their order is that of their values, and ranges hold exactly what a condition says.

use std::collections::BTreeMap;

use model::codec::encode_item;
use model::error::texts;
use model::index::{
    FIRST_GLOBAL, GlobalIndex, IndexDefinition, IndexKeyFault, IndexKeys, IndexProjection,
    IndexScope, item_key_of, local_value, put_delimited,
};
use model::key::{SortBound, key_from_item};
use model::table::{KeyAttribute, KeySchema, ScalarType, TableStatus};
use model::{ApiError, AttributeValue, IndexId, Item, Number, TableDefinition, TableId, Units};
use proptest::prelude::*;

fn attribute(name: &str, kind: ScalarType) -> KeyAttribute {
    KeyAttribute {
        name: name.to_owned(),
        kind,
    }
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: i64) -> AttributeValue {
    AttributeValue::N(Number::parse(&value.to_string()).unwrap())
}

/// A table with a local index on `l` and a global one on `g` and `h`, sorted by `s` and `n`.
fn table() -> TableDefinition {
    let local = IndexDefinition {
        id: IndexId(1),
        name: "local".to_owned(),
        scope: IndexScope::Local,
        keys: IndexKeys {
            partition: vec![attribute("pk", ScalarType::S)],
            sort: vec![attribute("l", ScalarType::S)],
        },
        projection: IndexProjection::KeysOnly,
    };
    let global = IndexDefinition {
        id: IndexId(FIRST_GLOBAL),
        name: "global".to_owned(),
        scope: IndexScope::Global(GlobalIndex {
            table: TableId(21),
            status: TableStatus::Active,
            backfilling: false,
            billing: Default::default(),
            maximum: Default::default(),
            warm: Default::default(),
        }),
        keys: IndexKeys {
            partition: vec![attribute("g", ScalarType::S), attribute("h", ScalarType::S)],
            sort: vec![attribute("s", ScalarType::S), attribute("n", ScalarType::N)],
        },
        projection: IndexProjection::Include(vec!["x".to_owned()]),
    };
    TableDefinition {
        id: TableId(20),
        keys: KeySchema {
            partition: attribute("pk", ScalarType::S),
            sort: Some(attribute("sk", ScalarType::S)),
        },
        indexes: vec![local, global],
        ..TableDefinition::default()
    }
}

fn delimited(value: &AttributeValue) -> Vec<u8> {
    let mut key = Vec::new();
    put_delimited(value, &mut key);
    key
}

fn some_texts() -> impl Strategy<Value = String> {
    prop_oneof!["[\u{0}a]{1,20}", "[\u{0}a\u{1}]{7,9}", ".{1,20}"]
}

proptest! {
    #[test]
    fn delimited_values_keep_their_order_and_none_begins_with_another(a in some_texts(), b in some_texts()) {
        let (ka, kb) = (delimited(&text(&a)), delimited(&text(&b)));
        prop_assert_eq!(ka.cmp(&kb), a.as_bytes().cmp(b.as_bytes()));
        prop_assert!(a == b || !kb.starts_with(&ka));
        prop_assert!(ka.len() <= (a.len() / 8 + 1) * 9);
    }

    #[test]
    fn ranges_hold_what_the_condition_says(
        s in some_texts(), low in some_texts(), high in some_texts(), n in -5..5i64, pk in "[ab]", sk in some_texts(),
    ) {
        let table = table();
        let index = &table.indexes[1];
        let collection = [text("g"), text("h")];
        let values = [text("g"), text("h"), text(&s), number(n)];
        let key = index.encode(&table, &values, &text(&pk), Some(&text(&sk))).unwrap();
        let (l, h) = (text(&low), text(&high));
        for (bound, holds) in [
            (SortBound::Equal(&l), s == low),
            (SortBound::Less(&l), s.as_bytes() < low.as_bytes()),
            (SortBound::LessOrEqual(&l), s.as_bytes() <= low.as_bytes()),
            (SortBound::Greater(&l), s.as_bytes() > low.as_bytes()),
            (SortBound::GreaterOrEqual(&l), s.as_bytes() >= low.as_bytes()),
            (SortBound::Between(&l, &h), low.as_bytes() <= s.as_bytes() && s.as_bytes() <= high.as_bytes()),
            (SortBound::BeginsWith(&l), s.as_bytes().starts_with(low.as_bytes())),
        ] {
            let range = index.range(&table, &collection, Some(bound)).unwrap();
            prop_assert_eq!(range.contains(&key), holds, "{:?}", bound);
        }
        let both = [text("g"), text("h"), text(&s)];
        let zero = number(0);
        let range = index.range(&table, &both, Some(SortBound::Less(&zero))).unwrap();
        prop_assert_eq!(range.contains(&key), n < 0);
        prop_assert!(index.range(&table, &both, None).unwrap().contains(&key));
    }

    #[test]
    fn a_local_entry_leads_to_its_item(pk in ".{1,9}", sk in some_texts(), l in some_texts()) {
        let table = table();
        let item = Item::from([
            ("pk".to_owned(), text(&pk)),
            ("sk".to_owned(), text(&sk)),
            ("l".to_owned(), text(&l)),
        ]);
        let encoded = encode_item(&item);
        let (entry, shown) = table.indexes[0].entry(&table, &encoded).unwrap().unwrap();
        prop_assert!(table.is_entry(&entry));
        let key = key_from_item(&table, &item).unwrap();
        prop_assert!(!table.is_entry(&key));
        prop_assert_eq!(&entry[..42], &key[..42]);
        prop_assert_eq!(item_key_of(&entry, &local_value(&table, &encoded).unwrap()), Some(key));
        prop_assert_eq!(shown, encoded);
    }
}

#[test]
fn keys_of_the_longest_values_fit_the_storage() {
    let table = table();
    let long = "x".repeat(1_024);
    let item = Item::from([
        ("pk".to_owned(), text("p")),
        ("sk".to_owned(), text(&long)),
        ("l".to_owned(), text(&long)),
        ("g".to_owned(), text("g")),
        ("h".to_owned(), text("h")),
        ("s".to_owned(), text(&long)),
        ("n".to_owned(), number(i64::MIN)),
    ]);
    for index in &table.indexes {
        let (key, _) = index.entry(&table, &encode_item(&item)).unwrap().unwrap();
        assert!(key.len() <= 1_400, "{}", key.len());
    }
    let mut longer = item;
    longer.insert("s".to_owned(), text(&"x".repeat(1_025)));
    let encoded = encode_item(&longer);
    assert_eq!(table.indexes[1].entry(&table, &encoded).unwrap(), None);
}

#[test]
fn writes_cost_what_they_change() {
    let table = table();
    let item = |g: Option<&str>, s: &str, x: &str, y: &str| {
        let mut item = Item::from([
            ("pk".to_owned(), text("p")),
            ("sk".to_owned(), text("s")),
            ("h".to_owned(), text("h")),
            ("s".to_owned(), text(s)),
            ("n".to_owned(), number(1)),
            ("x".to_owned(), text(x)),
            ("y".to_owned(), text(y)),
        ]);
        item.extend(g.map(|g| ("g".to_owned(), text(g))));
        encode_item(&item)
    };
    let cost = |before: Option<&[u8]>, after: Option<&[u8]>| {
        let writes = table.index_writes(before, after).unwrap();
        assert!(writes.changes.is_empty(), "there is no local entry");
        let units: BTreeMap<_, _> = writes.units.into_iter().collect();
        units
            .get(&IndexId(FIRST_GLOBAL))
            .copied()
            .unwrap_or_default()
    };
    let first = item(Some("g"), "s", "x", "y");
    assert_eq!(cost(None, Some(&first)), Units::new(1));
    assert_eq!(cost(Some(&first), Some(&first)), Units::ZERO);
    assert_eq!(
        cost(Some(&first), Some(&item(Some("g"), "s", "x", "z"))),
        Units::ZERO,
        "y is not projected"
    );
    assert_eq!(
        cost(Some(&first), Some(&item(Some("g"), "s", "z", "y"))),
        Units::new(1)
    );
    assert_eq!(
        cost(Some(&first), Some(&item(Some("g"), "t", "x", "y"))),
        Units::new(2)
    );
    assert_eq!(
        cost(Some(&first), Some(&item(None, "s", "x", "y"))),
        Units::new(1)
    );
    let large = item(Some("g"), "s", &"x".repeat(3_000), "y");
    assert_eq!(cost(Some(&large), None), Units::new(3));
    assert_eq!(
        cost(Some(&large), Some(&item(Some("g"), "t", "x", "y"))),
        Units::new(4)
    );
}

#[test]
fn what_an_index_cannot_take_is_told_with_the_first_one_by_name() {
    let table = table();
    let item = |g: AttributeValue, l: AttributeValue| -> Item {
        let attributes = [("pk", text("p")), ("sk", text("s")), ("g", g), ("l", l)];
        let named = attributes.map(|(name, value)| (name.to_owned(), value));
        Item::from_iter(named)
    };
    let both = item(number(1), number(2));
    let error = table.check_index_keys(&both, |fault| fault.of_item());
    assert_eq!(
        error.unwrap_err().message,
        "One or more parameter values were invalid: Type mismatch for Index Key g Expected: S Actual: N IndexName: global"
    );
    // That one is empty is told before the types of others.
    table.check_index_keys_not_empty(&both).unwrap();
    let empty = table.check_index_keys_not_empty(&item(number(1), text("")));
    assert!(
        empty
            .unwrap_err()
            .message
            .ends_with("IndexName: local, IndexKey: l")
    );
    // An update is told otherwise, but for types within transactions.
    let of = |told: fn(&IndexKeyFault<'_>) -> ApiError, g, l| {
        table
            .check_index_keys(&item(g, l), told)
            .unwrap_err()
            .message
    };
    assert_eq!(
        of(|f| f.of_update(), number(1), text("l")),
        texts::INDEX_KEY_UPDATE_TYPE
    );
    assert!(of(|f| f.of_transaction(), number(1), text("l")).ends_with("IndexName: global"));
    let long = || text(&"l".repeat(1025));
    assert_eq!(
        of(|f| f.of_update(), text("g"), long()),
        texts::INDEX_KEY_UPDATE_SIZE
    );
    assert_eq!(of(|f| f.of_item(), text("g"), long()), texts::SORT_KEY_SIZE);
    table.check_set_not_empty("l", &text("l")).unwrap();
    table.check_set_not_empty("x", &text("")).unwrap();
    let set = table.check_set_not_empty("l", &text(""));
    assert_eq!(
        set.unwrap_err().message,
        texts::index_key_update_empty("string")
    );
}
