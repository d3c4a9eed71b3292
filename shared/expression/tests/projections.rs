//! Projections: which part of an item they give, and what is wrong with them.

mod support;

use expression::{Placeholders, Projection, parse_projection};
use model::Item;
use support::*;

fn parse(text: &str) -> Projection {
    parse_projection(text, &mut placeholders()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn problem(text: &str) -> String {
    let error = parse_projection(text, &mut placeholders())
        .map(|_| ())
        .expect_err(text);
    let prefix = "Invalid ProjectionExpression: ";
    error
        .message
        .strip_prefix(prefix)
        .unwrap_or_else(|| panic!("{}", error.message))
        .to_owned()
}

fn thing() -> Item {
    item([
        ("pk", s("key")),
        (
            "a",
            m([
                (
                    "b",
                    l([
                        n("2"),
                        n("4"),
                        m([("x", s("hi")), ("y", s("yo"))]),
                        l([n("9")]),
                    ]),
                ),
                ("c", n("5")),
            ]),
        ),
        ("b", s("hello")),
        ("a.b", s("dotted")),
    ])
}

#[test]
fn parts_of_an_item() {
    let element = |x: &str, value| item([("a", m([("b", l([m([(x, value)])]))]))]);
    let cases = [
        ("b", item([("b", s("hello"))])),
        (" b , pk ", item([("b", s("hello")), ("pk", s("key"))])),
        ("gone", item([])),
        ("#dot", item([("a.b", s("dotted"))])),
        ("a.c", item([("a", m([("c", n("5"))]))])),
        (
            "#a.#c, b",
            item([("a", m([("c", n("5"))])), ("b", s("hello"))]),
        ),
        ("a.b[0]", item([("a", m([("b", l([n("2")]))]))])),
        ("a.b[2].y", element("y", s("yo"))),
        (
            "a.b[3][0], a.b[1]",
            item([("a", m([("b", l([n("4"), l([n("9")])]))]))]),
        ),
        (
            "a.b[1],a.b[0]",
            item([("a", m([("b", l([n("2"), n("4")]))]))]),
        ),
        ("a.b[10], a.b[1]", item([("a", m([("b", l([n("4")]))]))])),
        (
            "a.b[2].y, a.c, a.b[2].x",
            item([(
                "a",
                m([
                    ("b", l([m([("x", s("hi")), ("y", s("yo"))])])),
                    ("c", n("5")),
                ]),
            )]),
        ),
        // what is not there, or not of that kind
        ("a.b[4], a.x.y, a.b[5].x", item([])),
        ("a.b.x, pk.x, b[0]", item([])),
        ("a[0]", item([])),
        ("a.b[0].x, a.b[1][0]", item([])),
        ("a.x, a.b[0], x", item([("a", m([("b", l([n("2")]))]))])),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text).apply(&thing()), expected, "{text}");
    }
    let projection = Projection::of_attributes(["b".to_owned(), "x".to_owned()]);
    assert_eq!(projection.apply(&thing()), item([("b", s("hello"))]));
}

#[test]
fn problems() {
    let overlap = |one: &str, two: &str| {
        format!(
            "Two document paths overlap with each other; must remove or rewrite one of these \
             paths; path one: {one}, path two: {two}"
        )
    };
    let conflict = |one: &str, two: &str| {
        format!(
            "Two document paths conflict with each other; must remove or rewrite one of these \
             paths; path one: {one}, path two: {two}"
        )
    };
    let syntax =
        |token: &str, near: &str| format!("Syntax error; token: \"{token}\", near: \"{near}\"");
    let cases = [
        ("", "The expression can not be empty;".to_owned()),
        (" ", syntax("<EOF>", "")),
        ("a,", syntax("<EOF>", ",")),
        (",a", syntax(",", ",a")),
        ("a,,b", syntax(",", ",,b")),
        ("a b", syntax("b", "a b")),
        ("(a)", syntax("(", "(a")),
        (":n", syntax(":n", ":n")),
        ("a.5", syntax("5", ".5")),
        ("size(a)", syntax("(", "size(a")),
        (
            "a, #b.Name",
            "Attribute name is a reserved keyword; reserved keyword: Name".to_owned(),
        ),
        (
            "a, #x",
            "An expression attribute name used in the document path is not defined; attribute \
             name: #x"
                .to_owned(),
        ),
        (
            "a[99999999999]",
            "List index is not within the allowable range; index: [99999999999]".to_owned(),
        ),
        ("a, b, #a", overlap("[a]", "[a]")),
        ("a.b[0], c, a.b", overlap("[a, b, [0]]", "[a, b]")),
        ("a.b, a[1]", conflict("[a, b]", "[a, [1]]")),
        (
            "a[1].x, a[1][2], a[1].x",
            overlap("[a, [1], x]", "[a, [1], x]"),
        ),
        ("a.b.c, a.b[2]", conflict("[a, b, c]", "[a, b, [2]]")),
    ];
    for (text, expected) in cases {
        assert_eq!(problem(text), expected, "{text}");
    }
    for fine in [
        "a.b, a.c",
        "a[1], a[2]",
        "#dot, a.b",
        "ab, a.b",
        "a.b.d, a.b.e, a.c[1]",
    ] {
        parse(fine);
    }
}

#[test]
fn key_attributes_are_scalars() {
    let schema = keys(None);
    assert!(parse("pk, a.pk").check_key_paths(&schema).is_ok());
    assert_eq!(
        parse("a, pk.x")
            .check_key_paths(&schema)
            .expect_err("nested")
            .message,
        "Key attributes must be scalars; list random access '[]' and map lookup '.' are not \
         allowed: Key: pk"
    );
}

#[test]
fn projections_travel() {
    let projection = parse("a.b[2].y, #dot, pk");
    let bytes = rmp_serde::to_vec_named(&projection).expect("encodes");
    let decoded: Projection = rmp_serde::from_slice(&bytes).expect("decodes");
    assert_eq!(decoded, projection);
    // paths that no parser gives: none, too long, or with an index first
    for broken in [
        rmp_serde::to_vec_named(&[Vec::<String>::new()]),
        rmp_serde::to_vec_named(&[vec!["a"; 33]]),
        rmp_serde::to_vec_named(&[[7_u32]]),
        rmp_serde::to_vec_named(&[[u64::MAX]]),
    ] {
        let bytes = broken.expect("encodes");
        assert!(rmp_serde::from_slice::<Projection>(&bytes).is_err());
    }
}

#[test]
fn names_are_counted_as_used() {
    let names = [
        ("#x".to_owned(), "a".to_owned()),
        ("#y".to_owned(), "b".to_owned()),
    ];
    let mut placeholders = Placeholders::new(Some(names.into()), None);
    assert!(parse_projection("#x", &mut placeholders).is_ok());
    assert_eq!(
        placeholders.finish().expect_err("unused").message,
        "Value provided in ExpressionAttributeNames unused in expressions: keys: {#y}"
    );
    assert!(parse_projection("c.#y", &mut placeholders).is_ok());
    assert_eq!(placeholders.finish(), Ok(()));
}
