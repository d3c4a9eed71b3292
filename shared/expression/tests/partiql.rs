//! PartiQL statements: what they mean for a table, and what is refused.

use std::collections::BTreeMap;

use expression::partiql::{Access, Statement, parse};
use expression::{IndexCondition, SortCondition};
use model::index::IndexKeys;
use model::table::{KeyAttribute, KeySchema, ScalarType};
use model::{ApiError, AttributeValue, Item, Number};
use proptest::prelude::*;

fn keys() -> KeySchema {
    let key = |name: &str, kind| KeyAttribute {
        name: name.to_owned(),
        kind,
    };
    KeySchema {
        partition: key("pk", ScalarType::S),
        sort: Some(key("sk", ScalarType::N)),
    }
}

fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn n(number: u64) -> AttributeValue {
    AttributeValue::N(Number::from(number))
}

fn item(attributes: &[(&str, AttributeValue)]) -> Item {
    attributes
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect()
}

fn index_keys() -> IndexKeys {
    let KeySchema { partition, sort } = keys();
    IndexKeys {
        partition: vec![partition],
        sort: sort.into_iter().collect(),
    }
}

fn access_with(text: &str, keys: &IndexKeys) -> Result<Access, ApiError> {
    match parse(text, Vec::new())? {
        Statement::Select(select) => select.access(keys),
        other => panic!("not a SELECT: {other:?}"),
    }
}

fn access(text: &str) -> Result<Access, ApiError> {
    access_with(text, &index_keys())
}

/// What a statement reads, with the attributes of these keys.
fn collections(access: Access, keys: &IndexKeys) -> Option<Vec<IndexCondition>> {
    let resolved = access.collections?.into_iter().map(|terms| {
        terms
            .resolve_index(keys)
            .expect("conditions that fit the keys")
    });
    Some(resolved.collect())
}

fn collection(partition: &str, sort: Option<SortCondition>) -> IndexCondition {
    IndexCondition {
        values: vec![s(partition)],
        sort,
    }
}

fn message<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
    result.expect_err("refused").message
}

#[test]
fn equality_on_the_partition_key_is_a_query() {
    let got = access("SELECT * FROM t WHERE pk = 'a'").unwrap();
    assert_eq!(got.filter, None);
    let read = collections(got, &index_keys());
    assert_eq!(read, Some(vec![collection("a", None)]));

    let got =
        access("select * from \"t\" where sk >= 3 and 'a' = \"pk\" and v < 7 order by sk desc;")
            .unwrap();
    let sort = SortCondition::GreaterOrEqual(n(3));
    assert!(got.reverse);
    let filter = got.filter.clone().unwrap();
    assert!(filter.evaluate(&item(&[("v", n(6))])).unwrap());
    assert!(!filter.evaluate(&item(&[("v", n(7))])).unwrap());
    let read = collections(got, &index_keys());
    assert_eq!(read, Some(vec![collection("a", Some(sort))]));

    let got =
        access("SELECT * FROM t WHERE pk IN ['b', 'a', 'b'] AND sk BETWEEN 1 AND 2 ORDER BY pk")
            .unwrap();
    let sort = || Some(SortCondition::Between(n(1), n(2)));
    assert_eq!(
        collections(got, &index_keys()),
        Some(vec![collection("a", sort()), collection("b", sort())])
    );
}

#[test]
fn an_index_may_have_several_key_attributes() {
    let key = |name: &str, kind| KeyAttribute {
        name: name.to_owned(),
        kind,
    };
    let keys = IndexKeys {
        partition: vec![key("a", ScalarType::S), key("b", ScalarType::N)],
        sort: vec![key("c", ScalarType::N), key("d", ScalarType::S)],
    };
    let read = |text: &str| {
        let access = access_with(&format!("SELECT * FROM t.i WHERE {text}"), &keys).unwrap();
        (
            access.filter.is_some(),
            access.reverse,
            collections(access, &keys),
        )
    };
    let condition = |values: &[AttributeValue], sort| IndexCondition {
        values: values.to_vec(),
        sort,
    };
    let got = read("b IN [2, 1] AND d > 'x' AND a = 'p' AND c = 5 ORDER BY b, d DESC");
    let after = || Some(SortCondition::Greater(s("x")));
    let both = vec![
        condition(&[s("p"), n(1), n(5)], after()),
        condition(&[s("p"), n(2), n(5)], after()),
    ];
    assert_eq!(got, (false, true, Some(both)));
    // What follows another condition than equality is a filter, and so is what follows a gap.
    let less = Some(SortCondition::Less(n(5)));
    let got = read("a = 'p' AND b = 1 AND c < 5 AND d = 'x'");
    let one = vec![condition(&[s("p"), n(1)], less)];
    assert_eq!(got, (true, false, Some(one)));
    let got = read("a = 'p' AND b = 1 AND d = 'x'");
    let one = vec![condition(&[s("p"), n(1)], None)];
    assert_eq!(got, (true, false, Some(one)));
    // Items are in the order of all attributes of the sort key, which can be reversed, but is not another one.
    let ordered = |order: &str, more: &str| {
        let text = format!("SELECT * FROM t.i WHERE a = 'p' AND b = 1 {more} ORDER BY {order}");
        access_with(&text, &keys).map(|access| access.reverse)
    };
    for (order, reverse) in [("c", false), ("c DESC, d DESC", true), ("a DESC, c", false)] {
        assert_eq!(ordered(order, "").unwrap(), reverse, "{order}");
    }
    assert!(ordered("d DESC", "AND c = 5").unwrap());
    assert!(ordered("c, d DESC", "AND c = 5").unwrap(), "c is the same");
    for (order, more) in [
        ("d", ""),
        ("c, d DESC", ""),
        ("d, c", ""),
        ("d", "AND c > 5"),
    ] {
        assert_eq!(
            message(ordered(order, more)),
            "ORDER BY clause must name the attributes of the sort key from the first one on, all in the same direction",
            "{order} {more}"
        );
    }
    // Part of a partition key finds nothing by itself.
    assert_eq!(read("a = 'p' AND c = 1"), (true, false, None));
    let many = "1, ".repeat(7) + "1";
    let text =
        format!("SELECT * FROM t.i WHERE a IN ['1','2','3','4','5','6','7'] AND b IN [{many}]");
    assert!(access_with(&text, &keys).is_err(), "56 collections");
    let error = access_with(
        "SELECT * FROM t.i WHERE a = 'p' AND b = 1 ORDER BY pk",
        &keys,
    );
    assert_eq!(
        message(error),
        "Variable reference pk in ORDER BY clause must be part of the primary key"
    );
}

#[test]
fn everything_else_is_a_scan() {
    for text in [
        "SELECT * FROM t",
        "SELECT * FROM t WHERE sk = 1",
        "SELECT * FROM t WHERE pk = 'a' OR pk = 'b'",
        "SELECT * FROM t WHERE NOT pk = 'a'",
        "SELECT * FROM t WHERE pk > 'a'",
        "SELECT * FROM t WHERE pk.x = 'a'",
        "SELECT * FROM t WHERE pk = other",
    ] {
        assert_eq!(access(text).unwrap().collections, None, "{text}");
    }
}

#[test]
fn filters_hold_for_what_they_say() {
    let row = item(&[
        ("a", n(5)),
        ("t", s("it's")),
        ("l", AttributeValue::L(vec![n(1), s("x")])),
        (
            "m",
            AttributeValue::M(item(&[("k", AttributeValue::Bool(true))])),
        ),
        ("null", AttributeValue::Null),
        (
            "set",
            AttributeValue::StringSet(vec!["p".into(), "q".into()]),
        ),
    ]);
    for (text, holds) in [
        ("a = 5.0", true),
        ("a != 5", false),
        ("a <> 6 AND a <= 5", true),
        ("a = 1 OR a = 5 AND t = 'no'", false),
        ("(a = 1 OR a = 5) AND t = 'it''s'", true),
        ("NOT (a = 1 OR a = 5)", false),
        ("a BETWEEN -1 AND 5e0", true),
        ("a NOT BETWEEN 1 AND 9", false),
        ("a IN (1, 5)", true),
        ("a NOT IN [1, 5]", false),
        ("l[1] = 'x'", true),
        ("m.k = true", true),
        ("m['k'] = FALSE", false),
        ("\"m\".\"k\" = TRUE", true),
        ("m = {'k': true}", true),
        ("l = [1, 'x']", true),
        ("set = <<'q', 'p'>>", true),
        ("absent IS MISSING", true),
        ("a IS NOT MISSING", true),
        ("null IS NULL", false),
        ("\"null\" IS NULL", true),
        ("a IS NOT NULL", true),
        ("begins_with(t, 'it')", true),
        ("contains(\"set\", 'p')", true),
        ("attribute_type(l, 'L')", true),
        ("size(t) = 4", true),
        ("size(l) > 2", false),
    ] {
        let got = access(&format!("SELECT * FROM t WHERE {text}"));
        if text == "null IS NULL" {
            assert!(got.is_err(), "a literal has no type test");
            continue;
        }
        let filter = got
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .filter
            .unwrap();
        assert_eq!(filter.evaluate(&row).unwrap(), holds, "{text}");
    }
}

#[test]
fn parameters_stand_for_values_in_their_order() {
    let statement = parse(
        "SELECT a, b.c[0] FROM t WHERE pk = ? AND v IN [?, ?]",
        vec![s("a"), n(1), n(2)],
    )
    .unwrap();
    let Statement::Select(select) = statement else {
        panic!("not a SELECT");
    };
    assert_eq!(select.projection.as_ref().map(|p| p.paths().len()), Some(2));
    let got = select.access(&index_keys()).unwrap();
    let read = collections(got, &index_keys());
    assert_eq!(read, Some(vec![collection("a", None)]));
    for (text, parameters) in [
        ("SELECT * FROM t WHERE pk = ?", vec![]),
        ("SELECT * FROM t WHERE pk = ?", vec![s("a"), s("b")]),
    ] {
        assert_eq!(
            message(parse(text, parameters)),
            "Number of parameters in request and statement don't match."
        );
    }
}

#[test]
fn updates_compute_from_the_old_item() {
    let text = "UPDATE t SET a = a + 1 SET b = list_append(b, [9]), c = if_not_exists(c, 0) - 2 \
                SET s = set_add(s, <<'z'>>) REMOVE d.e, f[0] WHERE pk = 'x' AND sk = 1 AND a > 0 RETURNING ALL NEW *";
    let Statement::Update(update) = parse(text, Vec::new()).unwrap() else {
        panic!("not an UPDATE");
    };
    let keyed = update.keyed(&keys()).unwrap();
    assert_eq!(keyed.key, item(&[("pk", s("x")), ("sk", n(1))]));
    let condition = keyed.condition.unwrap();
    let old = item(&[
        ("pk", s("x")),
        ("a", n(1)),
        ("b", AttributeValue::L(vec![n(8)])),
        ("d", AttributeValue::M(item(&[("e", n(1)), ("g", n(2))]))),
        ("f", AttributeValue::L(vec![n(1), n(2)])),
        ("s", AttributeValue::StringSet(vec!["y".into()])),
    ]);
    assert!(condition.evaluate(&old).unwrap());
    assert!(!condition.evaluate(&BTreeMap::new()).unwrap());
    let new = update.update.apply(&old).unwrap().item;
    assert_eq!(new["a"], n(2));
    assert_eq!(new["b"], AttributeValue::L(vec![n(8), n(9)]));
    assert_eq!(new["c"], AttributeValue::N("-2".parse().unwrap()));
    assert_eq!(new["d"], AttributeValue::M(item(&[("g", n(2))])));
    assert_eq!(new["f"], AttributeValue::L(vec![n(2)]));
    assert_eq!(
        new["s"],
        AttributeValue::StringSet(vec!["y".into(), "z".into()])
    );
}

#[test]
fn a_delete_fails_for_an_item_that_is_there_and_does_not_fit() {
    let Statement::Delete(delete) = parse(
        "DELETE FROM t WHERE pk = 'x' AND sk = 1 AND a = 1",
        Vec::new(),
    )
    .unwrap() else {
        panic!("not a DELETE");
    };
    let condition = delete.keyed(&keys()).unwrap().condition.unwrap();
    assert!(condition.evaluate(&BTreeMap::new()).unwrap());
    assert!(
        condition
            .evaluate(&item(&[("pk", s("x")), ("a", n(1))]))
            .unwrap()
    );
    assert!(
        !condition
            .evaluate(&item(&[("pk", s("x")), ("a", n(2))]))
            .unwrap()
    );
}

#[test]
fn exists_demands_an_item_that_fits() {
    let text = "EXISTS(SELECT * FROM t WHERE pk = 'x' AND sk = 1 AND a = 1)";
    let Statement::Exists(exists) = parse(text, Vec::new()).unwrap() else {
        panic!("not an EXISTS");
    };
    let keyed = exists.keyed(&keys()).unwrap();
    assert_eq!(keyed.key, item(&[("pk", s("x")), ("sk", n(1))]));
    let condition = keyed.condition.unwrap();
    assert!(!condition.evaluate(&BTreeMap::new()).unwrap());
    assert!(
        condition
            .evaluate(&item(&[("pk", s("x")), ("a", n(1))]))
            .unwrap()
    );
    assert!(
        !condition
            .evaluate(&item(&[("pk", s("x")), ("a", n(2))]))
            .unwrap()
    );
    let key_alone = "EXISTS(SELECT * FROM t WHERE pk = 'x' AND sk = 1)";
    let Statement::Exists(exists) = parse(key_alone, Vec::new()).unwrap() else {
        panic!("not an EXISTS");
    };
    assert!(exists.keyed(&keys()).is_err());
}

#[test]
fn what_has_no_meaning_is_refused() {
    for text in [
        "",
        "SELEC * FROM t",
        "SELECT * FROM",
        "SELECT * FROM t WHERE",
        "SELECT * FROM t WHERE a",
        "SELECT * FROM t WHERE 1 = 1",
        "SELECT * FROM t WHERE a = 'x",
        "SELECT * FROM t WHERE a = 1 2",
        "SELECT a, a FROM t",
        "SELECT * FROM t WHERE a = [1",
        "SELECT * FROM t WHERE a = <<1, 'x'>>",
        "SELECT * FROM t WHERE exists(a)",
        "SELECT * FROM t WHERE EXISTS(SELECT * FROM t)",
        "EXISTS(SELECT * FROM t",
        "EXISTS(DELETE FROM t WHERE pk = 'a')",
        "SELECT count(*) FROM t",
        "INSERT INTO t VALUE [1]",
        "INSERT INTO t VALUE {'a': 1, 'a': 2}",
        "UPDATE t WHERE pk = 'a'",
        "UPDATE t SET a = 1",
        "UPDATE t SET a = 1, a.b = 2 WHERE pk = 'a'",
        "UPDATE t SET a = nothing(1, 2) WHERE pk = 'a'",
        "DELETE FROM t",
        "DELETE FROM t WHERE pk = 'a' RETURNING ALL NEW *",
        "é; DROP TABLE",
    ] {
        assert!(parse(text, Vec::new()).is_err(), "{text}");
    }
    assert_eq!(
        message(access("SELECT * FROM t ORDER BY sk")),
        "Must have WHERE clause in the statement when using ORDER BY clause."
    );
    assert_eq!(
        message(access("SELECT * FROM t WHERE sk = 1 ORDER BY sk")),
        "Must have at least one non-optional hash key condition in WHERE clause when using ORDER BY clause."
    );
    assert_eq!(
        message(access("SELECT * FROM t WHERE pk = 'a' ORDER BY v")),
        "Variable reference v in ORDER BY clause must be part of the primary key"
    );
    let Statement::Delete(delete) =
        parse("DELETE FROM t WHERE pk = 'x' AND sk > 1", Vec::new()).unwrap()
    else {
        panic!("not a DELETE");
    };
    assert_eq!(
        message(delete.keyed(&keys())),
        "Where clause does not contain a mandatory equality on all key attributes"
    );
}

#[test]
fn nesting_is_bounded() {
    for (open, close) in [("(", ")"), ("NOT ", "")] {
        let text = format!(
            "SELECT * FROM t WHERE {}a = 1{}",
            open.repeat(2000),
            close.repeat(2000)
        );
        assert!(parse(&text, Vec::new()).is_err());
    }
    for (open, close) in [("[", "]"), ("{'a':", "}"), ("<<", ">>")] {
        let text = format!(
            "SELECT * FROM t WHERE a = {}1{}",
            open.repeat(1500),
            close.repeat(1500)
        );
        assert!(parse(&text, Vec::new()).is_err());
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "(SELECT|UPDATE|INSERT INTO|DELETE FROM|WHERE|SET|VALUE|[a-z\"'.,()<>=?*0-9{}\\[\\] é]){0,40}") {
        let _ = parse(&text, Vec::new());
    }
}
