//! Conditions and filters: what they say of an item, and what is wrong with them.

mod support;

use expression::{Condition, ConditionKind, Placeholders, parse_condition};
use model::{AttributeValue, ErrorKind, Item};
use support::*;

fn parse(text: &str) -> Condition {
    parse_condition(ConditionKind::Condition, text, &mut placeholders())
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn problem(text: &str) -> String {
    let error = parse_condition(ConditionKind::Condition, text, &mut placeholders())
        .map(|_| ())
        .expect_err(text);
    assert_eq!(error.kind, ErrorKind::Validation);
    let prefix = "Invalid ConditionExpression: ";
    error
        .message
        .strip_prefix(prefix)
        .unwrap_or_else(|| panic!("{}", error.message))
        .to_owned()
}

fn thing() -> Item {
    item([
        ("a", n("5")),
        ("b", n("7")),
        ("c", n("5.0")),
        ("s", s("text")),
        ("bin", b(b"bytes")),
        ("yes", AttributeValue::Bool(true)),
        ("nil", AttributeValue::Null),
        ("strings", ss(&["x", "y"])),
        ("numbers", ns(&["1", "2.0"])),
        ("binaries", bs(&[b"x"])),
        ("m1", m([("k", n("1")), ("deep", l([l([s("end")])]))])),
        ("l1", l([n("1"), s("x"), ss(&["x", "y"]), l([n("2")])])),
        ("a.b", s("dotted")),
        ("set", s("reserved")),
        ("smile", s("😀é")),
    ])
}

#[test]
fn truth_of_conditions() {
    let cases = [
        // comparisons
        ("a = :n", true),
        ("a = c", true),
        ("a <> c", false),
        ("a = :s", false),
        ("a <> :s", true),
        ("a < :n2", true),
        ("a < c", false),
        ("a <= c", true),
        ("b > a", true),
        ("b >= :n2", true),
        (":n < b", true),
        ("s = :s", true),
        ("s > bin", false),
        ("s < bin", false),
        ("bin = :b", true),
        ("strings = :ss", true),
        ("numbers = :ns", true),
        ("l1[0] = m1.k", true),
        ("yes = :t", true),
        ("nil = :z", true),
        ("m1.deep[0][0] <> :s", true),
        ("#dot <> a", true),
        ("#set = :s", false),
        // attributes that are not there, or have no order
        ("gone = :n", false),
        ("gone <> :n", true),
        ("gone < :n", false),
        ("gone >= also_gone", false),
        ("gone = also_gone", false),
        ("gone <> also_gone", true),
        ("m1.gone.more < :n", false),
        ("l1[9] = l1[8]", false),
        ("a[0] = :n", false),
        ("strings < :n", false),
        ("l1 >= l1[3]", false),
        ("yes >= nil", false),
        // BETWEEN, IN
        ("a BETWEEN :n AND :n2", true),
        ("b between a and b2", false),
        ("b between a and :n2", true),
        (":n BETWEEN a AND b", true),
        ("a BETWEEN b AND c", false),
        ("a BETWEEN s AND s2", false),
        ("a BETWEEN s AND strings", false),
        ("gone BETWEEN :n AND :n2", false),
        ("s BETWEEN :n AND :n2", false),
        ("a IN (:s, :n)", true),
        ("a in (b, c)", true),
        ("a IN (b)", false),
        ("l1 IN (:l, :m)", false),
        ("gone IN (:n, also_gone)", false),
        // functions
        ("attribute_exists(a)", true),
        ("attribute_exists (m1.deep[0][0])", true),
        ("attribute_exists(m1.deep[1])", false),
        ("attribute_not_exists(gone)", true),
        ("attribute_not_exists(a)", false),
        ("attribute_type(s, :type)", true),
        ("attribute_type(a, :type)", false),
        ("attribute_type(gone, :type)", false),
        ("attribute_type(:s, :type)", true),
        ("begins_with(s, :s)", true),
        ("begins_with(:s, s)", true),
        ("begins_with(a, :s)", false),
        ("begins_with(bin, :s)", false),
        ("begins_with(bin, :b)", true),
        ("begins_with(gone, :s)", false),
        ("contains(s, :s)", true),
        ("contains(s, l1[1])", true),
        ("contains(strings, l1[1])", true),
        ("contains(strings, :s)", false),
        ("contains(numbers, m1.k)", true),
        ("contains(numbers, :s)", false),
        ("contains(bin, :b)", true),
        ("contains(bin, :s)", false),
        ("contains(l1, :ss)", true),
        ("contains(l1, :l)", false),
        ("contains(l1, m1.k)", true),
        ("contains(m1, :s)", false),
        ("contains(a, :n)", false),
        ("contains(gone, :n)", false),
        // size
        ("size(s) < :n", true),
        ("size(smile) = l1[9]", false),
        ("size(smile) BETWEEN l1[0] AND :n", true),
        ("size(bin) = :n", true),
        ("size(strings) = size(numbers)", true),
        ("size(l1) < size(bin)", true),
        ("size(m1) = size(strings)", true),
        ("size(:s) < :n", true),
        ("size(:s) = size(s)", true),
        ("size(s) = :s", false),
        ("size(a) = :n", false),
        ("size(a) <> :n", true),
        ("size(yes) < :n", false),
        ("size(gone) = size(nil)", false),
        (":n IN (size(s), size(bin))", true),
        ("contains(numbers, size(binaries))", true),
        // NOT, then AND, then OR
        ("NOT a = :n", false),
        ("not NOT nOt a = b", true),
        ("a = b AND a = c OR a = c", true),
        ("a = c OR a = c AND a = b", true),
        ("(a = c OR a = c) AND a = b", false),
        ("NOT a = b AND a = b", false),
        ("NOT (a = b AND a = b)", true),
        ("NOT (a = c OR a = b) OR b > a", true),
        ("a = c AND NOT a = b AND (b = a OR NOT (a = b))", true),
        ("b BETWEEN a AND b2 OR b BETWEEN a AND :n2 AND a < b", true),
        (
            "attribute_exists(a) AND (attribute_exists(gone) OR (NOT attribute_exists(gone)))",
            true,
        ),
        // parentheses around everything, once
        ("(a = c)", true),
        ("(a) = (c)", true),
        ("((a) = (c))", true),
        ("((size(s)) < (:n))", true),
        ("(attribute_exists(a))", true),
        ("(attribute_exists((a)))", true),
        ("(NOT (attribute_exists(a)))", false),
        ("((a = c) AND (attribute_exists(a)))", true),
        ("(a) IN ((b), (c))", true),
        ("(a) BETWEEN (:n) AND (:n2)", true),
        ("\t( a\n=\rc ) ", true),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text).evaluate(&thing()), Ok(expected), "{text}");
    }
}

#[test]
fn size_counts_utf16_units() {
    let mut values = with_values([(":three", n("3"))]);
    let condition =
        parse_condition(ConditionKind::Filter, "size(smile) = :three", &mut values).expect("valid");
    assert_eq!(condition.evaluate(&thing()), Ok(true));
}

#[test]
#[allow(clippy::nonminimal_bool)] // written as the shapes are
fn a_truth_table_of_nested_operators() {
    // Every way to give three tests a truth value, for every shape of two operators, with and without NOT and parentheses.
    type Expected = fn(bool, bool, bool) -> bool;
    let shapes: [(&str, Expected); 10] = [
        ("x AND y AND z", |x, y, z| x && y && z),
        ("x AND y OR z", |x, y, z| (x && y) || z),
        ("x OR y AND z", |x, y, z| x || (y && z)),
        ("x OR y OR z", |x, y, z| x || y || z),
        ("x AND (y OR z)", |x, y, z| x && (y || z)),
        ("(x OR y) AND z", |x, y, z| (x || y) && z),
        ("NOT x OR y AND NOT z", |x, y, z| !x || (y && !z)),
        ("NOT (x OR y) AND z", |x, y, z| !(x || y) && z),
        ("x AND NOT (y AND NOT z)", |x, y, z| x && !(y && !z)),
        ("NOT (NOT (x AND y) OR NOT NOT z)", |x, y, z| {
            !(!(x && y) || z)
        }),
    ];
    for (shape, expected) in shapes {
        for bits in 0..8 {
            let truth = [bits & 1 > 0, bits & 2 > 0, bits & 4 > 0];
            let mut text = shape.to_owned();
            for (name, value) in ["x", "y", "z"].iter().zip(truth) {
                text = text.replace(name, if value { "A = C" } else { "A = B" });
            }
            let text = text.replace('A', "a").replace('B', "b").replace('C', "c");
            let text = text.replace("aND", "AND");
            let [x, y, z] = truth;
            assert_eq!(
                parse(&text).evaluate(&thing()),
                Ok(expected(x, y, z)),
                "{text}"
            );
        }
    }
}

#[test]
fn syntax_errors() {
    let cases = [
        // text, token, near
        ("a", "<EOF>", "a"),
        ("whatever :n", ":n", "whatever :n"),
        ("a = ", "<EOF>", "= "),
        ("a = :n b", "b", ":n b"),
        ("a = :n AND", "<EOF>", "AND"),
        ("a != :n", "!", "a !="),
        ("a == :n", "=", "== :n"),
        ("AND a = b", "AND", "AND a"),
        ("a = b OR OR a = c", "OR", "OR OR a"),
        ("NOT", "<EOF>", "NOT"),
        ("NOT a", "<EOF>", "a"),
        ("a IN ()", ")", "()"),
        ("a IN b", "b", "IN b"),
        ("a IN (b", "<EOF>", "b"),
        ("a BETWEEN b", "<EOF>", "b"),
        ("a BETWEEN b OR c", "OR", "b OR c"),
        ("(a = b", "<EOF>", "b"),
        ("a = b)", ")", "b)"),
        ("(a = b) = c", "=", ") = c"),
        ("(a)", "<EOF>", ")"),
        ("(NOT a)", ")", "a)"),
        ("()", ")", "()"),
        ("(((", "<EOF>", "("),
        ("a = b.", "<EOF>", "."),
        ("a[b] = c", "b", "[b]"),
        ("a[-1] = c", "-", "[-1"),
        ("a[01] = c", "1", "01]"),
        ("a[0 = c", "=", "0 = c"),
        ("a[#b] = c", "#b", "[#b]"),
        ("a[:n] = c", ":n", "[:n]"),
        ("_a = b", "_", "_a"),
        ("a._b = c", "_", "._b"),
        ("attribute_exists(a,)", ")", ",)"),
        ("attribute_exists()", ")", "()"),
        ("attribute_exists(a = b)", "=", "a = b"),
        ("# = :n", "#", "# ="),
        ("a = :", ":", "= :"),
        ("a = 5", "5", "= 5"),
        ("a = \"x\"", "\"", "= \"x"),
        ("set = :n", "set", "set ="),
        ("a.delete = :n", "delete", ".delete ="),
        ("#a(b)", "(", "#a(b"),
        (":n.a = b", ".", ":n.a"),
        ("(a).b = c", ".", ").b"),
        ("é = :n", "é", "é ="),
        ("a = b,", ",", "b,"),
    ];
    for (text, token, near) in cases {
        let expected = format!("Syntax error; token: \"{token}\", near: \"{near}\"");
        assert_eq!(problem(text), expected, "{text}");
    }
}

#[test]
fn problems_of_meaning() {
    let operand_type = |operator: &str, kind: &str| {
        format!(
            "Incorrect operand type for operator or function; operator or function: {operator}, \
             operand type: {kind}"
        )
    };
    let count = |function: &str, count: usize| {
        format!(
            "Incorrect number of operands for operator or function; operator or function: \
             {function}, number of operands: {count}"
        )
    };
    let misused = |function: &str| {
        format!(
            "The function is not allowed to be used this way in an expression; function: {function}"
        )
    };
    let distinct = |operator: &str, path: &str| {
        format!(
            "The first operand must be distinct from the remaining operands for this operator or \
             function; operator: {operator}, first operand: {path}"
        )
    };
    let cases = [
        ("", "The expression can not be empty;".to_owned()),
        ("((a = b))", "The expression has redundant parentheses;".to_owned()),
        ("((a)) = b", "The expression has redundant parentheses;".to_owned()),
        ("a = ((b))", "The expression has redundant parentheses;".to_owned()),
        ("a = b AND ((c = b", "Syntax error; token: \"<EOF>\", near: \"b\"".to_owned()),
        ("((a = b)) AND", "The expression has redundant parentheses;".to_owned()),
        ("((attribute_exists(a)))", "The expression has redundant parentheses;".to_owned()),
        ("attribute_exists(((a)))", "The expression has redundant parentheses;".to_owned()),
        ("(NOT ((a = b)))", "The expression has redundant parentheses;".to_owned()),
        (
            "a = b AND name = :n",
            "Attribute name is a reserved keyword; reserved keyword: name".to_owned(),
        ),
        ("a.ABort = b", "Attribute name is a reserved keyword; reserved keyword: ABort".to_owned()),
        (
            "a[2147483648] = b",
            "List index is not within the allowable range; index: [2147483648]".to_owned(),
        ),
        ("dog(a) = :n", "Invalid function name; function: dog".to_owned()),
        ("SIZE(a) = :n", "Invalid function name; function: SIZE".to_owned()),
        ("attribute_exists(dog(a))", "Invalid function name; function: dog".to_owned()),
        (
            "if_not_exists(a, a) = :n",
            "The function is not allowed in a condition expression; function: if_not_exists"
                .to_owned(),
        ),
        (
            "list_append(a, b)",
            "The function is not allowed in a condition expression; function: list_append"
                .to_owned(),
        ),
        ("size(a)", misused("size")),
        ("(size(a))", misused("size")),
        ("a = b AND NOT size(a)", misused("size")),
        ("attribute_exists(a) < :n", misused("attribute_exists")),
        (":n IN (a, begins_with(a, :s))", misused("begins_with")),
        ("size(contains(a, b)) = :n", misused("contains")),
        ("a = :n AND #x = :n", undefined("name", "#x")),
        ("a.#x = :n", undefined("name", "#x")),
        ("a = :x", undefined("value", ":x")),
        ("size(:n, :x) = :n", undefined("value", ":x")),
        ("size(:x) = #x", undefined("value", ":x")),
        ("size(a, b) = :n", count("size", 2)),
        ("attribute_exists(a, b)", count("attribute_exists", 2)),
        ("begins_with(a)", count("begins_with", 1)),
        ("contains(a, b, c)", count("contains", 3)),
        ("a = a", distinct("=", "[a]")),
        ("a.b[1] <> a.#b[1]", distinct("<>", "[a, b, [1]]")),
        ("contains(a, a)", distinct("contains", "[a]")),
        ("a BETWEEN :n AND a", distinct("BETWEEN", "[a]")),
        ("a IN (b, a)", distinct("IN", "[a]")),
        ("a < :l", operand_type("<", "L")),
        (":m >= a", operand_type(">=", "M")),
        ("a > :t", operand_type(">", "BOOL")),
        ("a <= :ss", operand_type("<=", "SS")),
        ("a BETWEEN :z AND b", operand_type("BETWEEN", "NULL")),
        ("begins_with(a, :n)", operand_type("begins_with", "N")),
        ("begins_with(size(a), :s)", operand_type("begins_with", "N")),
        ("size(:n) = :n", operand_type("size", "N")),
        ("size(:z) = :n", operand_type("size", "NULL")),
        ("size(size(a)) = :n", operand_type("size", "N")),
        ("attribute_type(a, :n)", operand_type("attribute_type", "N")),
        (
            "attribute_type(a, b)",
            operand_type("attribute_type", "{NS,SS,L,BS,N,M,B,BOOL,NULL,S}"),
        ),
        (
            "attribute_type(a, :s)",
            "Invalid attribute type name found; type: text, valid types: \
             {B,NULL,SS,BOOL,L,BS,N,NS,S,M}"
                .to_owned(),
        ),
        (
            "attribute_exists(:n)",
            "Operator or function requires a document path; operator or function: attribute_exists"
                .to_owned(),
        ),
        (
            "attribute_not_exists(size(a))",
            "Operator or function requires a document path; operator or function: \
             attribute_not_exists"
                .to_owned(),
        ),
        (
            "a BETWEEN :n2 AND :n",
            "The BETWEEN operator requires upper bound to be greater than or equal to lower bound; \
             lower bound operand: AttributeValue: {N:7}, upper bound operand: AttributeValue: {N:5}"
                .to_owned(),
        ),
        (
            "a BETWEEN :s AND :n",
            "The BETWEEN operator requires same data type for lower and upper bounds; lower bound \
             operand: AttributeValue: {S:text}, upper bound operand: AttributeValue: {N:5}"
                .to_owned(),
        ),
        // what is looked at first
        ("size(a) AND name = :x", misused("size")),
        ("dog(a) = name", "Invalid function name; function: dog".to_owned()),
        ("a = :x AND size(a) = :n AND dog(b)", "Invalid function name; function: dog".to_owned()),
        ("a < :l AND a = :x", operand_type("<", "L")),
    ];
    for (text, expected) in cases {
        assert_eq!(problem(text), expected, "{text}");
    }
}

fn undefined(what: &str, placeholder: &str) -> String {
    match what {
        "name" => format!(
            "An expression attribute name used in the document path is not defined; attribute \
             name: {placeholder}"
        ),
        _ => format!(
            "An expression attribute value used in expression is not defined; attribute value: \
             {placeholder}"
        ),
    }
}

#[test]
fn the_parameter_is_named() {
    let error = parse_condition(ConditionKind::Filter, "", &mut placeholders()).expect_err("empty");
    assert_eq!(
        error.message,
        "Invalid FilterExpression: The expression can not be empty;"
    );
}

#[test]
fn limits() {
    // size
    let long = format!("a = {}", "b".repeat(4093));
    assert_eq!(
        problem(&long),
        "Expression size has exceeded the maximum allowed size; expression size: 4097"
    );
    parse(&long[..4096]);
    // operators
    let operators =
        |nested: usize| format!("a<b {}{}", "or (a<b ".repeat(nested), ")".repeat(nested));
    parse(&operators(149));
    assert_eq!(
        problem(&operators(150)),
        "The expression contains too many operators; operator count: 301"
    );
    parse(&format!("{}a<b", "NOT ".repeat(299)));
    assert_eq!(
        problem(&format!("{}a<b", "NOT ".repeat(1000))),
        "The expression contains too many operators; operator count: 301"
    );
    // operands of IN
    let list = |count: usize| format!("a IN ({})", vec!["b"; count].join(","));
    parse(&list(100));
    assert_eq!(
        problem(&list(101)),
        "The IN operator is provided with too many operands; number of operands: 101"
    );
    // depth of paths
    let path = |steps: usize| format!("a{} = b", ".b".repeat(steps - 1));
    parse(&path(32));
    assert_eq!(
        problem(&path(33)),
        "The document path has too many nesting levels; nesting levels: 33"
    );
}

#[test]
fn depth_does_not_reach_the_stack() {
    let cases = [
        ("(".repeat(4096), "Syntax error"),
        (
            format!("{}a<b{}", "(".repeat(2046), ")".repeat(2046)),
            "redundant parentheses",
        ),
        (
            format!("a = {}b{}", "(".repeat(2045), ")".repeat(2045)),
            "redundant parentheses",
        ),
        (
            format!("a < {}b{}", "f(".repeat(1355), ")".repeat(1355)),
            "Invalid function name",
        ),
        (
            format!("a < {}b{}", "size(".repeat(680), ")".repeat(680)),
            "operand type: N",
        ),
        (format!("{}a", "NOT(".repeat(1000)), "Syntax error"),
    ];
    for (text, expected) in cases {
        // a stack on which deep recursion would show
        let found = std::thread::Builder::new()
            .stack_size(64 * 1024)
            .spawn(move || problem(&text))
            .expect("a thread")
            .join()
            .expect("no overflow");
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn unused_and_short_circuited_placeholders() {
    let mut placeholders = Placeholders::new(
        Some([("#x".to_owned(), "a".to_owned())].into()),
        Some([(":n".to_owned(), n("5")), (":gone".to_owned(), n("6"))].into()),
    );
    let condition = parse_condition(
        ConditionKind::Condition,
        "#x = :n OR #x = :gone",
        &mut placeholders,
    )
    .expect("valid");
    assert_eq!(condition.evaluate(&thing()), Ok(true));
    assert_eq!(placeholders.finish(), Ok(()));
}

#[test]
fn key_attributes_in_conditions() {
    let schema = keys(Some(model::table::ScalarType::N));
    let message = |text: &str, filter: bool| {
        let condition = parse(text);
        let result = if filter {
            condition.check_filter_keys(&schema)
        } else {
            condition.check_key_paths(&schema)
        };
        result.err().map(|error| error.message)
    };
    let scalar = "Key attributes must be scalars; list random access '[]' and map lookup '.' are \
                  not allowed: Key: ";
    assert_eq!(message("pk = :s AND attribute_exists(a.pk)", false), None);
    assert_eq!(message("pk.a = :s", false), Some(format!("{scalar}pk")));
    assert_eq!(
        message("a IN (:s, size(sk[0]))", false),
        Some(format!("{scalar}sk"))
    );
    let filter = "Filter Expression can only contain non-primary key attributes: Primary key \
                  attribute: ";
    assert_eq!(message("a.pk = :s", true), None);
    assert_eq!(
        message("NOT attribute_exists(sk) OR pk = :s", true),
        Some(format!("{filter}pk"))
    );
    assert_eq!(
        message("a BETWEEN b AND sk", true),
        Some(format!("{filter}sk"))
    );
}

#[test]
fn conditions_travel() {
    let text = "(a = :n OR size(l1) BETWEEN :n AND :n2) AND NOT (s IN (:s, :l) OR \
                attribute_type(m1.deep[0], :type)) AND contains(l1, :m) OR attribute_exists(#dot)";
    let condition = parse(text);
    let bytes = rmp_serde::to_vec_named(&condition).expect("encodes");
    let decoded: Condition = rmp_serde::from_slice(&bytes).expect("decodes");
    assert_eq!(decoded, condition);
    assert_eq!(decoded.evaluate(&thing()), condition.evaluate(&thing()));
}

#[test]
fn skips_that_lead_back_are_refused() {
    let condition = parse("a = :n OR b = :n");
    let bytes = rmp_serde::to_vec_named(&condition).expect("encodes");
    // {"i": [{"t": …}, {"s": [true, 3]}, {"t": …}]}
    let at = bytes
        .windows(4)
        .position(|four| four == [b's', 0x92, 0xc3, 3])
        .expect("the skip");
    for target in [0, 1, 4] {
        let mut broken = bytes.clone();
        broken[at + 3] = target;
        assert!(
            rmp_serde::from_slice::<Condition>(&broken).is_err(),
            "{target}"
        );
    }
}
