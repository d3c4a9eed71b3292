//! Properties: every text gives an expression or a ValidationException, and no expression panics on any item.

mod support;

use expression::{
    Condition, ConditionKind, Placeholders, Projection, Update, parse_condition,
    parse_key_condition, parse_projection, parse_update,
};
use model::table::ScalarType;
use model::{AttributeValue, ErrorKind, Item};
use proptest::prelude::*;
use support::*;

/// Texts made of what expressions are made of: many of them are nearly right, some are right.
fn text() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "a",
        "b",
        "c",
        "#a",
        "#b",
        "#dot",
        "#x",
        ":s",
        ":n",
        ":l",
        ":ss",
        ":m",
        ":type",
        ":x",
        "(",
        ")",
        "[",
        "]",
        "0",
        "1",
        "2147483648",
        ".",
        ",",
        "=",
        "<>",
        "<",
        "<=",
        ">",
        ">=",
        "+",
        "-",
        "AND",
        "OR",
        "NOT",
        "BETWEEN",
        "IN",
        "SET",
        "REMOVE",
        "ADD",
        "DELETE",
        "size",
        "contains",
        "name",
        "attribute_exists",
        "begins_with",
        "attribute_type",
        "if_not_exists",
        "list_append",
        "_",
        "é",
    ]);
    prop_oneof![
        prop::collection::vec(word, 0..24).prop_map(|words| words.join(" ")),
        "\\PC{0,60}",
        "[ab#:()\\[\\]0.,=<>+ -]{0,60}",
    ]
}

fn path() -> impl Strategy<Value = String> {
    let head = prop::sample::select(vec!["a", "b", "c", "#dot"]);
    let step = prop_oneof![
        Just(".a".to_owned()),
        Just(".#b".to_owned()),
        (0..4).prop_map(|index| format!("[{index}]")),
    ];
    (head, prop::collection::vec(step, 0..3))
        .prop_map(|(head, steps)| head.to_owned() + &steps.concat())
}

fn operand() -> impl Strategy<Value = String> {
    let value = prop::sample::select(vec![":s", ":n", ":b", ":t", ":z", ":ss", ":ns", ":m", ":l"]);
    prop_oneof![
        path(),
        value.prop_map(str::to_owned),
        path().prop_map(|path| format!("size({path})"))
    ]
}

/// Well-formed conditions.
fn condition() -> impl Strategy<Value = String> {
    let comparison = prop::sample::select(vec!["=", "<>", "<", "<=", ">", ">="]);
    let test = prop_oneof![
        (operand(), comparison, operand()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        (operand(), operand(), operand()).prop_map(|(a, b, c)| format!("{a} BETWEEN {b} AND {c}")),
        (operand(), prop::collection::vec(operand(), 1..4))
            .prop_map(|(a, list)| format!("{a} IN ({})", list.join(", "))),
        path().prop_map(|path| format!("attribute_exists({path})")),
        (operand(), operand()).prop_map(|(a, b)| format!("contains({a}, {b})")),
        (path(), path()).prop_map(|(a, b)| format!("begins_with({a}, {b})")),
    ];
    test.prop_recursive(5, 24, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} AND {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) OR ({b} OR a = b)")),
            inner.prop_map(|a| format!("NOT {a}")),
        ]
    })
}

/// Well-formed updates.
fn update() -> impl Strategy<Value = String> {
    let action = prop_oneof![
        (path(), operand_of_set()).prop_map(|(path, value)| ("SET", format!("{path} = {value}"))),
        (path(), operand_of_set(), operand_of_set())
            .prop_map(|(path, a, b)| ("SET", format!("{path} = {a} + {b}"))),
        path().prop_map(|path| ("REMOVE", path)),
        (path(), prop::sample::select(vec![":n", ":ss", ":ns"]))
            .prop_map(|(path, value)| ("ADD", format!("{path} {value}"))),
        (path(), prop::sample::select(vec![":ss", ":ns"]))
            .prop_map(|(path, value)| ("DELETE", format!("{path} {value}"))),
    ];
    prop::collection::vec(action, 1..5).prop_map(|actions| {
        ["SET", "REMOVE", "ADD", "DELETE"]
            .into_iter()
            .filter_map(|section| {
                let of_section: Vec<_> = actions
                    .iter()
                    .filter(|(s, _)| *s == section)
                    .map(|(_, a)| a.as_str())
                    .collect();
                (!of_section.is_empty()).then(|| format!("{section} {}", of_section.join(", ")))
            })
            .collect::<Vec<_>>()
            .join(" ")
    })
}

fn operand_of_set() -> impl Strategy<Value = String> {
    prop_oneof![
        path(),
        Just(":n".to_owned()),
        Just(":l".to_owned()),
        (path(), path()).prop_map(|(a, b)| format!("if_not_exists({a}, {b})")),
        (path(), Just(":l"))
            .prop_map(|(a, b)| format!("list_append(if_not_exists({a}, {b}), {b})")),
    ]
}

fn value() -> impl Strategy<Value = AttributeValue> {
    let leaf = prop_oneof![
        "[a-c]{0,3}".prop_map(|text| s(&text)),
        (-3..9_i32).prop_map(|number| n(&number.to_string())),
        Just(b(b"bytes")),
        any::<bool>().prop_map(AttributeValue::Bool),
        Just(AttributeValue::Null),
        Just(ss(&["x", "y"])),
        Just(ns(&["1", "5"])),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(AttributeValue::L),
            prop::collection::btree_map(prop::sample::select(vec!["a", "b", "c"]), inner, 0..3)
                .prop_map(|map| AttributeValue::M(
                    map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
                )),
        ]
    })
}

fn any_item() -> impl Strategy<Value = Item> {
    prop::collection::btree_map(
        prop::sample::select(vec!["a", "b", "c", "a.b"]),
        value(),
        0..5,
    )
    .prop_map(|map| map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
}

fn check_error<T>(result: Result<T, model::ApiError>, place: &str) -> Option<T> {
    match result {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::Validation);
            assert!(error.message.contains(place), "{}", error.message);
            None
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_text_is_an_expression_or_an_error(text in text(), item in any_item()) {
        let filter = parse_condition(ConditionKind::Filter, &text, &mut placeholders());
        if let Some(filter) = check_error(filter, "Invalid FilterExpression: ") {
            prop_assert!(filter.evaluate(&item).is_ok());
        }
        let update = parse_update(&text, &mut placeholders());
        if let Some(update) = check_error(update, "Invalid UpdateExpression: ") {
            let _ = update.apply(&item);
        }
        let projection = parse_projection(&text, &mut placeholders());
        if let Some(projection) = check_error(projection, "Invalid ProjectionExpression: ") {
            projection.apply(&item);
        }
        let keys = keys(Some(ScalarType::N));
        let _ = check_error(parse_key_condition(&text, &mut placeholders(), &keys), "");
        // and without placeholders
        let _ = parse_update(&text, &mut Placeholders::default());
    }

    #[test]
    fn conditions_evaluate_alike_after_travel(text in condition(), item in any_item()) {
        let parsed = parse_condition(ConditionKind::Condition, &text, &mut placeholders());
        if let Some(condition) = check_error(parsed, "Invalid ConditionExpression: ") {
            let bytes = rmp_serde::to_vec_named(&condition).expect("encodes");
            let decoded: Condition = rmp_serde::from_slice(&bytes).expect("decodes");
            prop_assert_eq!(decoded.evaluate(&item), condition.evaluate(&item));
            // a condition and its opposite
            let mut placeholders = placeholders();
            let opposite = format!("NOT ({text})");
            let opposite = parse_condition(ConditionKind::Condition, &opposite, &mut placeholders);
            if let Ok(opposite) = opposite {
                prop_assert_eq!(opposite.evaluate(&item), condition.evaluate(&item).map(|it| !it));
            }
        }
    }

    #[test]
    fn updates_touch_only_their_paths(text in update(), old in any_item()) {
        let parsed = parse_update(&text, &mut placeholders());
        if let Some(update) = check_error(parsed, "Invalid UpdateExpression: ") {
            let bytes = rmp_serde::to_vec_named(&update).expect("encodes");
            let decoded: Update = rmp_serde::from_slice(&bytes).expect("decodes");
            prop_assert_eq!(&decoded, &update);
            if let Ok(updated) = update.apply(&old) {
                // top-level attributes that the text doesn't mention stay
                for (name, sign) in [("a", "a"), ("b", "b"), ("c", "c"), ("a.b", "#dot")] {
                    if !text.contains(sign) {
                        prop_assert_eq!(updated.item.get(name), old.get(name));
                    }
                }
                // no empty sets come to be
                for value in updated.item.values() {
                    prop_assert!(!matches!(value, AttributeValue::StringSet(set) if set.is_empty()));
                    prop_assert!(!matches!(value, AttributeValue::NumberSet(set) if set.is_empty()));
                }
                // what is returned is part of the item
                let returned = updated.updated_new();
                prop_assert!(returned.keys().all(|name| updated.item.contains_key(name)));
            }
        }
    }

    #[test]
    fn projections_are_parts(paths in prop::collection::vec(path(), 1..4), item in any_item()) {
        let parsed = parse_projection(&paths.join(", "), &mut placeholders());
        if let Some(projection) = check_error(parsed, "Invalid ProjectionExpression: ") {
            let part = projection.apply(&item);
            prop_assert!(part.len() <= item.len());
            for (name, value) in &part {
                prop_assert_eq!(value.type_name(), item[name].type_name());
            }
        }
    }

    #[test]
    fn hostile_messages_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..200), item in any_item()) {
        if let Ok(condition) = rmp_serde::from_slice::<Condition>(&bytes) {
            prop_assert!(condition.evaluate(&item).is_ok());
        }
        if let Ok(update) = rmp_serde::from_slice::<Update>(&bytes) {
            let _ = update.apply(&item);
        }
        if let Ok(projection) = rmp_serde::from_slice::<Projection>(&bytes) {
            projection.apply(&item);
        }
    }

    #[test]
    fn damaged_messages_are_safe(
        text in update(),
        condition in condition(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        item in any_item(),
    ) {
        let damaged = |mut bytes: Vec<u8>| {
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            bytes
        };
        if let Ok(update) = parse_update(&text, &mut placeholders()) {
            let bytes = damaged(rmp_serde::to_vec_named(&update).expect("encodes"));
            if let Ok(update) = rmp_serde::from_slice::<Update>(&bytes) {
                let _ = update.apply(&item);
            }
        }
        let parsed = parse_condition(ConditionKind::Filter, &condition, &mut placeholders());
        if let Ok(condition) = parsed {
            let bytes = damaged(rmp_serde::to_vec_named(&condition).expect("encodes"));
            if let Ok(condition) = rmp_serde::from_slice::<Condition>(&bytes) {
                prop_assert!(condition.evaluate(&item).is_ok());
            }
        }
    }
}

#[test]
fn deep_messages_do_not_reach_the_stack() {
    // {"i": [{"t": {"c": ["=", {"v": {"L": [{"L": [ …
    let mut bytes = vec![
        0x81, 0xa1, b'i', 0x91, 0x81, 0xa1, b't', 0x81, 0xa1, b'c', 0x93, 0xa1, b'=',
    ];
    bytes.extend([0x81, 0xa1, b'v']);
    for _ in 0..200_000 {
        bytes.extend([0x81, 0xa1, b'L', 0x91]);
    }
    let decoded = std::thread::Builder::new()
        .stack_size(2 * 1024 * 1024)
        .spawn(move || rmp_serde::from_slice::<Condition>(&bytes).is_ok())
        .expect("a thread")
        .join()
        .expect("no overflow");
    assert!(!decoded);
}
