//! Updates: what they do to an item, what they return, and what is wrong with them.

mod support;

use expression::{Update, parse_update};
use model::{AttributeValue, ErrorKind, Item};
use support::*;

fn parse(text: &str) -> Update {
    parse_update(text, &mut placeholders()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn problem(text: &str) -> String {
    let error = parse_update(text, &mut placeholders())
        .map(|_| ())
        .expect_err(text);
    assert_eq!(error.kind, ErrorKind::Validation);
    let prefix = "Invalid UpdateExpression: ";
    error
        .message
        .strip_prefix(prefix)
        .unwrap_or_else(|| panic!("{}", error.message))
        .to_owned()
}

fn thing() -> Item {
    item([
        ("pk", s("key")),
        ("a", n("5")),
        (
            "b",
            m([("x", n("1")), ("els", l([n("1"), n("2"), n("3")]))]),
        ),
        ("s", s("text")),
        ("strings", ss(&["x", "z"])),
        ("numbers", ns(&["1", "3"])),
        ("binaries", bs(&[b"x"])),
        (
            "l1",
            l([s("0"), s("1"), s("2"), m([("k", l([s("30"), s("31")]))])]),
        ),
    ])
}

/// The item with one attribute changed.
fn with(name: &str, value: AttributeValue) -> Item {
    let mut item = thing();
    item.insert(name.to_owned(), value);
    item
}

fn without(name: &str) -> Item {
    let mut item = thing();
    item.remove(name);
    item
}

#[test]
fn effects() {
    let elements = |texts: &[&str]| l(texts.iter().map(|text| s(text)));
    let tail = || m([("k", l([s("30"), s("31")]))]);
    let cases = [
        // SET
        ("SET a = :s", with("a", s("text"))),
        ("set fresh = :n", with("fresh", n("5"))),
        ("SET fresh = b.els[1]", with("fresh", n("2"))),
        ("SET #dot = a", with("a.b", n("5"))),
        ("SET a = a", thing()),
        ("SET a = :n + :n2", with("a", n("12"))),
        ("SET a = a - :n2", with("a", n("-2"))),
        ("SET a = :n2 - a", with("a", n("2"))),
        ("SET a = (a + b.x)", with("a", n("6"))),
        ("SET a = ((b.x)+(a))", with("a", n("6"))),
        ("SET a = (a) + (a)", with("a", n("10"))),
        ("SET a = (:s)", with("a", s("text"))),
        ("SET a = if_not_exists(a, :n2)", thing()),
        (
            "SET fresh = if_not_exists(fresh, :n2)",
            with("fresh", n("7")),
        ),
        ("SET fresh = if_not_exists(a, fresh)", with("fresh", n("5"))),
        (
            "SET fresh = if_not_exists(gone, if_not_exists(absent, :s))",
            with("fresh", s("text")),
        ),
        (
            "SET fresh = if_not_exists(gone, if_not_exists(a, absent))",
            with("fresh", n("5")),
        ),
        (
            "SET fresh = if_not_exists(fresh, :n) + :n",
            with("fresh", n("10")),
        ),
        (
            "SET fresh = :n - if_not_exists(a, :l)",
            with("fresh", n("0")),
        ),
        ("SET fresh = list_append(:l, b.els)", {
            with("fresh", l([n("1"), s("x"), n("1"), n("2"), n("3")]))
        }),
        ("SET fresh = list_append(if_not_exists(fresh, :l), :l)", {
            with("fresh", l([n("1"), s("x"), n("1"), s("x")]))
        }),
        ("SET fresh = list_append(:l, (:l))", {
            with("fresh", l([n("1"), s("x"), n("1"), s("x")]))
        }),
        // documents
        (
            "SET b.x = :s, b.y = :n REMOVE b.els",
            with("b", m([("x", s("text")), ("y", n("5"))])),
        ),
        ("SET b.els[1] = :n", {
            with(
                "b",
                m([("x", n("1")), ("els", l([n("1"), n("5"), n("3")]))]),
            )
        }),
        ("SET l1[3].k[1] = :s", {
            with(
                "l1",
                l([s("0"), s("1"), s("2"), m([("k", l([s("30"), s("text")]))])]),
            )
        }),
        // behind the end of a list: appended, in order of the indexes
        (
            "SET l1[3].k[2] = :s, l1[3].k[100] = :n, l1[3].k[50] = :n2",
            {
                let k = l([s("30"), s("31"), s("text"), n("7"), n("5")]);
                with("l1", l([s("0"), s("1"), s("2"), m([("k", k)])]))
            },
        ),
        // everything is read from the item as it was
        ("SET a = s, s = a", {
            let mut item = with("a", s("text"));
            item.insert("s".to_owned(), n("5"));
            item
        }),
        ("REMOVE a SET fresh = a", {
            let mut item = with("fresh", n("5"));
            item.remove("a");
            item
        }),
        // REMOVE
        ("REMOVE a", without("a")),
        ("REMOVE gone, b.gone, l1[17], b.els[3]", thing()),
        ("REMOVE l1[0], l1[2], l1[3].k[0]", {
            with("l1", l([s("1"), m([("k", l([s("31")]))])]))
        }),
        (
            "REMOVE l1[1] SET l1[2] = :s",
            with("l1", l([s("0"), s("text"), tail()])),
        ),
        (
            "SET l1[2] = :s REMOVE l1[1]",
            with("l1", l([s("0"), s("text"), tail()])),
        ),
        (
            "REMOVE l1[0] SET l1[9] = :s",
            with("l1", l([s("1"), s("2"), tail(), s("text")])),
        ),
        (
            "REMOVE l1[3].k SET l1[0] = :s",
            with("l1", l([s("text"), s("1"), s("2"), m([])])),
        ),
        (
            "REMOVE l1[2], l1[0], l1[1], l1[3]",
            with("l1", elements(&[])),
        ),
        ("REMOVE b.x, b.els", with("b", m([]))),
        // ADD
        ("ADD a :n", with("a", n("10"))),
        ("ADD fresh :n", with("fresh", n("5"))),
        ("ADD strings :ss", with("strings", ss(&["x", "y", "z"]))),
        ("ADD numbers :ns", with("numbers", ns(&["1", "2", "3"]))),
        ("ADD binaries :bs", thing()),
        ("ADD fresh :bs", with("fresh", bs(&[b"x"]))),
        (
            "ADD b.x :n, b.els[0] :n, b.els[9] :n2",
            with("b", {
                m([("x", n("6")), ("els", l([n("6"), n("2"), n("3"), n("7")]))])
            }),
        ),
        // DELETE
        ("DELETE strings :ss", with("strings", ss(&["z"]))),
        ("DELETE numbers :ns", with("numbers", ns(&["3"]))),
        ("DELETE binaries :bs", without("binaries")),
        ("DELETE gone :ss", thing()),
        // all sections
        ("DELETE strings :ss ADD a :n REMOVE binaries SET s = a", {
            let mut item = without("binaries");
            item.insert("strings".to_owned(), ss(&["z"]));
            item.insert("a".to_owned(), n("10"));
            item.insert("s".to_owned(), n("5"));
            item
        }),
    ];
    for (text, expected) in cases {
        let update = parse(text);
        let updated = update
            .apply(&thing())
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(updated.item, expected, "{text}");
    }
}

#[test]
fn a_set_emptied_inside_a_list_is_removed() {
    let old = item([("l1", l([ss(&["x", "y"]), s("kept")]))]);
    let update = parse("DELETE l1[0] :ss");
    assert_eq!(
        update.apply(&old).expect("applies").item,
        item([("l1", l([s("kept")]))])
    );
}

#[test]
fn problems_of_application() {
    let missing = "The provided expression refers to an attribute that does not exist in the item";
    let wrong_type = "An operand in the update expression has an incorrect data type";
    let invalid_path = "The document path provided in the update expression is invalid for update";
    let cases = [
        ("SET fresh = gone", missing),
        ("SET fresh = b.gone.more", missing),
        ("SET fresh = l1[4]", missing),
        ("SET fresh = :n, also = fresh", missing),
        ("SET fresh = gone + :n", missing),
        ("SET fresh = list_append(gone, :l)", missing),
        ("SET fresh = if_not_exists(gone, absent)", missing),
        ("SET fresh = s + :n", wrong_type),
        ("SET fresh = :n - strings", wrong_type),
        ("SET fresh = list_append(a, :l)", wrong_type),
        ("SET fresh = list_append(:l, s)", wrong_type),
        ("SET fresh = if_not_exists(s, :n) + :n", wrong_type),
        ("ADD s :n", wrong_type),
        ("ADD strings :ns", wrong_type),
        ("ADD l1 :ns", wrong_type),
        ("DELETE strings :ns", wrong_type),
        ("DELETE a :ss", wrong_type),
        ("SET s.x = :n", invalid_path),
        ("SET l1.x = :n", invalid_path),
        ("SET gone.x = :n", invalid_path),
        ("SET b[0] = :n", invalid_path),
        ("SET gone[0] = :n", invalid_path),
        ("SET l1[9].x = :n", invalid_path),
        ("SET b.fresh = :m, b.els[9].x = :n", invalid_path),
        ("REMOVE s.x", invalid_path),
        ("REMOVE l1.x", invalid_path),
        ("REMOVE gone.x", invalid_path),
        ("REMOVE s[0]", invalid_path),
        ("REMOVE gone[0]", invalid_path),
        ("ADD gone.x :n", invalid_path),
        ("DELETE gone.x :ss", invalid_path),
    ];
    for (text, expected) in cases {
        let error = parse(text).apply(&thing()).map(|_| ()).expect_err(text);
        assert_eq!(error.kind, ErrorKind::Validation);
        assert_eq!(error.message, expected, "{text}");
    }
}

#[test]
fn numbers_out_of_range() {
    let overflow =
        "Number overflow. Attempting to store a number with magnitude larger than supported range";
    let cases = [
        ("9e125", "9e125", overflow),
        ("-9e125", "-9e125", overflow),
        // DynamoDB calls more than 38 digits an overflow, too
        ("1e50", "1", overflow),
    ];
    for (left, right, expected) in cases {
        let old = item([("a", n(left))]);
        for text in ["SET a = a + :x", "ADD a :x"] {
            let mut values = with_values([(":x", n(right))]);
            let update = parse_update(text, &mut values).expect("valid");
            let error = update.apply(&old).map(|_| ()).expect_err(text);
            assert_eq!(error.message, expected, "{left} and {right}");
        }
    }
    let mut values = with_values([(":x", n("1"))]);
    let update = parse_update("SET a = a - :x", &mut values).expect("valid");
    let old = item([("a", n("10000000000000000000000"))]);
    assert_eq!(
        update.apply(&old).expect("applies").item,
        item([("a", n("9999999999999999999999"))])
    );
}

#[test]
fn nesting_is_limited() {
    let nested = |levels: usize| (0..levels).fold(n("1"), |value, _| l([value]));
    let old = item([("b", m([("x", n("1"))]))]);
    for (text, levels, allowed) in [
        ("SET a = :x", 32, true),
        ("SET a = :x", 33, false),
        ("SET b.x = :x", 31, true),
        ("SET b.x = :x", 32, false),
    ] {
        let mut values = with_values([(":x", nested(levels))]);
        let update = parse_update(text, &mut values).expect("valid");
        let result = update
            .apply(&old)
            .map(|_| ())
            .map_err(|error| error.message);
        let expected = "Nesting Levels have exceeded supported limits: Attributes in the item \
                        have nested levels beyond supported limit";
        let expected = if allowed {
            Ok(())
        } else {
            Err(expected.to_owned())
        };
        assert_eq!(result, expected, "{text} with {levels}");
    }
}

#[test]
fn copies_of_large_attributes_are_bounded() {
    let old = item([("a", l((0..20_000).map(|_| s("0123456789"))))]);
    let too_large = "Item size to update has exceeded the maximum allowed size";
    let copies: Vec<_> = (0..300).map(|copy| format!("x{copy}=a")).collect();
    for text in [
        format!("SET {}", copies.join(",")),
        "SET a = list_append(a, a)".to_owned(),
    ] {
        let error = parse(&text).apply(&old).map(|_| ()).expect_err("too large");
        assert_eq!(error.message, too_large);
    }
    // many removals from one list
    let removals: Vec<_> = (0..500).map(|index| format!("a[{index}]")).collect();
    let update = parse(&format!("REMOVE {}", removals.join(",")));
    let updated = update.apply(&old).expect("applies");
    assert_eq!(
        updated.item,
        item([("a", l((0..19_500).map(|_| s("0123456789"))))])
    );
}

#[test]
fn updated_attributes() {
    let old = item([
        (
            "a",
            m([("b", s("dog")), ("c", l([n("1"), n("2"), n("3")]))]),
        ),
        ("d", s("cat")),
        ("set", ss(&["x", "y"])),
    ]);
    let empty = || item([]);
    let cases = [
        (
            "SET d = :s, e = :n",
            item([("d", s("cat"))]),
            item([("d", s("text")), ("e", n("5"))]),
        ),
        ("REMOVE d", item([("d", s("cat"))]), empty()),
        ("SET e = :n", empty(), item([("e", n("5"))])),
        (
            "SET d = d",
            item([("d", s("cat"))]),
            item([("d", s("cat"))]),
        ),
        (
            "SET a.b = :s",
            item([("a", m([("b", s("dog"))]))]),
            item([("a", m([("b", s("text"))]))]),
        ),
        (
            "SET a.c[1] = :n, a.b = :s",
            item([("a", m([("b", s("dog")), ("c", l([n("2")]))]))]),
            item([("a", m([("b", s("text")), ("c", l([n("5")]))]))]),
        ),
        ("SET a.x = :n", empty(), item([("a", m([("x", n("5"))]))])),
        // an index behind the end names nothing, before and after
        ("SET a.c[100] = :n", empty(), empty()),
        // where an element was removed, another one moved up
        (
            "REMOVE a.c[1]",
            item([("a", m([("c", l([n("2")]))]))]),
            item([("a", m([("c", l([n("3")]))]))]),
        ),
        (
            "REMOVE a.c[2], a.c[9]",
            item([("a", m([("c", l([n("3")]))]))]),
            empty(),
        ),
        ("DELETE #set :ss", item([("set", ss(&["x", "y"]))]), empty()),
        ("ADD e :n", empty(), item([("e", n("5"))])),
    ];
    for (text, updated_old, updated_new) in cases {
        let update = parse(text);
        let updated = update
            .apply(&old)
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(updated.updated_old(&old), updated_old, "{text}");
        assert_eq!(updated.updated_new(), updated_new, "{text}");
    }
}

#[test]
fn whether_an_absent_item_comes_to_be() {
    for (text, creates) in [
        ("SET a = :n", true),
        ("ADD a :n", true),
        ("REMOVE a SET b = :n", true),
        ("REMOVE a.b[1]", false),
        ("DELETE a :ss", false),
        ("REMOVE a DELETE b :ss", false),
    ] {
        assert_eq!(parse(text).creates_item(), creates, "{text}");
    }
}

#[test]
fn key_attributes_stay() {
    let schema = keys(Some(model::table::ScalarType::N));
    for (text, key) in [
        ("SET a = :n, sk = :n", Some("sk")),
        ("ADD pk.b :n", Some("pk")),
        ("DELETE pk :ns", Some("pk")),
        ("REMOVE a SET b = :n", None),
        ("SET a = pk", None),
        ("REMOVE a.pk", None),
    ] {
        let update = parse(text);
        let expected = key.map(|key| {
            format!(
                "One or more parameter values were invalid: Cannot update attribute {key}. This \
                 attribute is part of the key"
            )
        });
        assert_eq!(
            update.check_keys(&schema).err().map(|error| error.message),
            expected,
            "{text}"
        );
    }
}

#[test]
fn syntax_errors() {
    for text in [
        "whatever",
        "set a",
        "add a",
        "delete a",
        "set a=set",
        "remove a = b",
        "add a = b",
        "delete a = b",
        "delete a b",
        "delete a if_not_exist(b)",
        "add abort b",
        "add a if_not_exist(b)",
        "remove a b",
        "set a b",
        "set :a = b",
        "add :a b",
        "delete :a b",
        "remove :a",
        "set a = b / c",
        "set a = b * c",
        "set a[1] = \"eight\"",
        "set a[1] = 1",
        "SET a = if_not_exist(a, 100)",
        "SET if_not_exist(a, b) = a",
        "set (a = (b + c))",
        "set a = (b.c).d + e",
        "set a = (b.c)[0] + e",
        "set a = b + c + d",
        "set a = (b + c) + d",
        "set a = (b + c",
        "set a = b)",
        "set a = list_append(b + c, d)",
        "set a = :n,",
        "set a = :n set",
        "set hi-there = :n",
        "set 123 = :n",
        "set a = _f(b)",
        "remove a,,b",
        "a = :n",
        " ",
    ] {
        assert!(
            problem(text).starts_with("Syntax error; token: \""),
            "{text}"
        );
    }
    assert_eq!(
        problem("SET _123 = :n"),
        "Syntax error; token: \"_\", near: \"SET _123\""
    );
    assert_eq!(
        problem("SET a = :n + "),
        "Syntax error; token: \"<EOF>\", near: \"+ \""
    );
}

#[test]
fn problems_of_meaning() {
    let operand_type = |operator: &str, kind: &str| {
        format!(
            "Incorrect operand type for operator or function; operator or function: {operator}, \
             operand type: {kind}"
        )
    };
    let action_type = |action: &str, kind: &str| {
        format!(
            "Incorrect operand type for operator or function; operator: {action}, operand type: \
             {kind}, typeSet: ALLOWED_FOR_{action}_OPERAND"
        )
    };
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
    let twice = |section: &str| {
        format!("The \"{section}\" section can only be used once in an update expression;")
    };
    let undefined_name = |name: &str| {
        format!(
            "An expression attribute name used in the document path is not defined; attribute \
             name: {name}"
        )
    };
    let cases = [
        ("", "The expression can not be empty;".to_owned()),
        (
            "set a = ((b))",
            "The expression has redundant parentheses;".to_owned(),
        ),
        (
            "set a = ((b + c))",
            "The expression has redundant parentheses;".to_owned(),
        ),
        (
            "set a = :n + ((b))",
            "The expression has redundant parentheses;".to_owned(),
        ),
        // order of the checks
        (
            " set #x = :x set abOrt = true ",
            "Attribute name is a reserved keyword; reserved keyword: abOrt".to_owned(),
        ),
        (
            " remove Absolute ",
            "Attribute name is a reserved keyword; reserved keyword: Absolute".to_owned(),
        ),
        (
            "set #x = if_not_exist(:x) set c = d",
            "Invalid function name; function: if_not_exist".to_owned(),
        ),
        ("set a = #x set c = :x", twice("SET")),
        ("remove #x set a = b remove e", twice("REMOVE")),
        ("add #x :x set a = b add e :x", twice("ADD")),
        ("delete #x :x set a = b delete #y :x", twice("DELETE")),
        ("SET #x = if_not_exists(:x)", undefined_name("#x")),
        ("SET #a = :x, b = #x", undefined_name("#x")),
        (
            "SET #a = if_not_exists(:x)",
            "An expression attribute value used in expression is not defined; attribute value: :x"
                .to_owned(),
        ),
        (
            "set d[1] = a, d.b = a, c[1].a = a, #c = if_not_exists(a)",
            overlap("[c, [1], a]", "[c]"),
        ),
        (
            "set #c[3].#three = a, #c[3] = a",
            overlap("[c, [3], [3]]", "[c, [3]]"),
        ),
        ("set a = :n remove a", overlap("[a]", "[a]")),
        ("set #a = :n, a.b.c = :n", overlap("[a]", "[a, b, c]")),
        (
            "remove a[1], b, a[1][2]",
            overlap("[a, [1]]", "[a, [1], [2]]"),
        ),
        (
            "set #c[3].#three = a, #c.#three[3] = if_not_exists(a)",
            conflict("[c, [3], [3]]", "[c, [3], [3]]"),
        ),
        ("remove a.#c set a[1] = b", conflict("[a, c]", "[a, [1]]")),
        (
            "set b = list_append(:s, a), c = if_not_exists(a) add a.b :s",
            action_type("ADD", "STRING"),
        ),
        ("delete a.b :s", action_type("DELETE", "STRING")),
        ("add a.b :z", action_type("ADD", "NULL")),
        ("delete a.b :t", action_type("DELETE", "BOOLEAN")),
        ("add a.b :b", action_type("ADD", "BINARY")),
        ("add a.b :m", action_type("ADD", "MAP")),
        ("add a.b :l", action_type("ADD", "LIST")),
        ("delete a.b :n", action_type("DELETE", "NUMBER")),
        // functions
        (
            "set a = size(b)",
            "The function is not allowed in an update expression; function: size".to_owned(),
        ),
        (
            "set a = LIST_APPEND(b, c)",
            "Invalid function name; function: LIST_APPEND".to_owned(),
        ),
        (
            "set a = list_append(list_append(:l, :l), :l)",
            "The function is not allowed to be used this way in an expression; function: \
             list_append"
                .to_owned(),
        ),
        (
            "set a = if_not_exists(c)",
            "Incorrect number of operands for operator or function; operator or function: \
             if_not_exists, number of operands: 1"
                .to_owned(),
        ),
        (
            "set a = list_append(b, c, d)",
            "Incorrect number of operands for operator or function; operator or function: \
             list_append, number of operands: 3"
                .to_owned(),
        ),
        (
            "set a = if_not_exists(:n, c)",
            "Operator or function requires a document path; operator or function: if_not_exists"
                .to_owned(),
        ),
        (
            "set a = if_not_exists(if_not_exists(a, b), c)",
            "Operator or function requires a document path; operator or function: if_not_exists"
                .to_owned(),
        ),
        (
            "set a = list_append(:s, a)",
            operand_type("list_append", "S"),
        ),
        (
            "set a = list_append(a, :n)",
            operand_type("list_append", "N"),
        ),
        (
            "set a = list_append(:m, a)",
            operand_type("list_append", "M"),
        ),
        ("set a = a + :s", operand_type("+", "S")),
        ("set a = :b + a", operand_type("+", "B")),
        ("set a = a - :ns", operand_type("-", "NS")),
        ("set a = :l - :t", operand_type("-", "L")),
        ("set a = list_append(b, c) + :n", operand_type("+", "L")),
    ];
    for (text, expected) in cases {
        assert_eq!(problem(text), expected, "{text}");
    }
}

#[test]
fn limits() {
    // 300 operators and functions
    let sums = |count: usize| {
        let actions: Vec<_> = (0..count).map(|at| format!("a{at}=b+c")).collect();
        format!("SET {}", actions.join(","))
    };
    parse(&sums(300));
    assert_eq!(
        problem(&sums(301)),
        "The expression contains too many operators; operator count: 301"
    );
    // nested calls
    let nested = |depth: usize| {
        format!(
            "SET a={}:n{}",
            "if_not_exists(b,".repeat(depth),
            ")".repeat(depth)
        )
    };
    let update = parse(&nested(240));
    let updated = update.apply(&item([])).expect("applies");
    assert_eq!(updated.item, item([("a", n("5"))]));
}

#[test]
fn updates_travel() {
    let text = "SET a = if_not_exists(gone, a) + :n, b.els[1] = list_append(:l, if_not_exists(x, \
                :l)), fresh = :m REMOVE l1[1], s ADD numbers :ns DELETE strings :ss";
    let update = parse(text);
    let bytes = rmp_serde::to_vec_named(&update).expect("encodes");
    let decoded: Update = rmp_serde::from_slice(&bytes).expect("decodes");
    assert_eq!(decoded, update);
    assert_eq!(
        decoded.apply(&thing()).expect("applies").item,
        update.apply(&thing()).expect("applies").item
    );
}
