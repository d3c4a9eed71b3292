//! Key conditions: their forms, and what is wrong with them.

mod support;

use expression::{KeyCondition, SortCondition, parse_key_condition, parse_key_terms};
use model::table::ScalarType;
use support::*;

fn parse(text: &str, sort: Option<ScalarType>) -> Result<KeyCondition, String> {
    let mut values = with_values([
        (":p", s("key")),
        (":e", s("")),
        (":n", n("5")),
        (":n2", n("7")),
        (":b", b(b"x")),
        (":be", b(b"")),
        (":l", l([])),
        (":ss", ss(&["x"])),
    ]);
    parse_key_condition(text, &mut values, &keys(sort)).map_err(|error| error.message)
}

#[test]
fn forms() {
    let number = Some(ScalarType::N);
    let cases = [
        ("pk = :p", None, None),
        ("pk = :p", number, None),
        (":p = pk", number, None),
        ("(pk = :p)", number, None),
        (
            "pk = :p AND sk = :n",
            number,
            Some(SortCondition::Equal(n("5"))),
        ),
        (
            "sk = :n and pk = :p",
            number,
            Some(SortCondition::Equal(n("5"))),
        ),
        (
            "((sk = :n) AND (pk = :p))",
            number,
            Some(SortCondition::Equal(n("5"))),
        ),
        (
            "pk = :p AND sk < :n",
            number,
            Some(SortCondition::Less(n("5"))),
        ),
        (
            "pk = :p AND sk <= :n",
            number,
            Some(SortCondition::LessOrEqual(n("5"))),
        ),
        (
            "pk = :p AND sk > :n",
            number,
            Some(SortCondition::Greater(n("5"))),
        ),
        (
            "pk = :p AND sk >= :n",
            number,
            Some(SortCondition::GreaterOrEqual(n("5"))),
        ),
        // the attribute on the right turns the comparison round
        (
            ":p = pk AND :n = sk",
            number,
            Some(SortCondition::Equal(n("5"))),
        ),
        (
            "pk = :p AND :n < sk",
            number,
            Some(SortCondition::Greater(n("5"))),
        ),
        (
            "pk = :p AND :n <= sk",
            number,
            Some(SortCondition::GreaterOrEqual(n("5"))),
        ),
        (
            "pk = :p AND :n > sk",
            number,
            Some(SortCondition::Less(n("5"))),
        ),
        (
            "pk = :p AND :n >= sk",
            number,
            Some(SortCondition::LessOrEqual(n("5"))),
        ),
        (
            "pk = :p AND sk BETWEEN :n AND :n2",
            number,
            Some(SortCondition::Between(n("5"), n("7"))),
        ),
        (
            "sk between :n and :n aNd pk = :p",
            number,
            Some(SortCondition::Between(n("5"), n("5"))),
        ),
        (
            "pk = :p AND begins_with(sk, :p)",
            Some(ScalarType::S),
            Some(SortCondition::BeginsWith(s("key"))),
        ),
        (
            "pk = :p AND begins_with(sk, :b)",
            Some(ScalarType::B),
            Some(SortCondition::BeginsWith(b(b"x"))),
        ),
    ];
    for (text, schema, sort) in cases {
        let expected = KeyCondition {
            partition: s("key"),
            sort,
        };
        assert_eq!(parse(text, schema), Ok(expected), "{text}");
    }
}

#[test]
fn problems() {
    let number = Some(ScalarType::N);
    let string = Some(ScalarType::S);
    let operator = |name: &str| format!("Invalid operator used in KeyConditionExpression: {name}");
    let form = |problem: &str| format!("Invalid condition in KeyConditionExpression: {problem}");
    let missed = |key: &str| format!("Query condition missed key schema element: {key}");
    let unsupported = "Query key condition not supported".to_owned();
    let wrong_type =
        "One or more parameter values were invalid: Condition parameter type does not \
                      match schema type"
            .to_owned();
    let twice = "KeyConditionExpressions must only contain one condition per key".to_owned();
    let several = form("Multiple attribute names used in one condition");
    let cases = [
        (
            "",
            number,
            "Invalid KeyConditionExpression: The expression can not be empty;".to_owned(),
        ),
        (
            "pk",
            number,
            "Invalid KeyConditionExpression: Syntax error; token: \"<EOF>\", near: \"pk\""
                .to_owned(),
        ),
        (
            "pk = :p AND sk != :n",
            number,
            "Invalid KeyConditionExpression: Syntax error; token: \"!\", near: \"sk !=\""
                .to_owned(),
        ),
        (
            "pk = :x",
            number,
            "Invalid KeyConditionExpression: An expression attribute value used in expression is \
             not defined; attribute value: :x"
                .to_owned(),
        ),
        (
            "pk = :p AND dog(sk, :n)",
            number,
            "Invalid KeyConditionExpression: Invalid function name; function: dog".to_owned(),
        ),
        (
            "pk = :p AND ((sk = :n))",
            number,
            "Invalid KeyConditionExpression: The expression has redundant parentheses;".to_owned(),
        ),
        (
            "pk = :p AND begins_with(sk, :n)",
            number,
            "Invalid KeyConditionExpression: Incorrect operand type for operator or function; \
             operator or function: begins_with, operand type: N"
                .to_owned(),
        ),
        (
            "pk = :p AND sk BETWEEN :n2 AND :n",
            number,
            "Invalid KeyConditionExpression: The BETWEEN operator requires upper bound to be \
             greater than or equal to lower bound; lower bound operand: AttributeValue: {N:7}, \
             upper bound operand: AttributeValue: {N:5}"
                .to_owned(),
        ),
        // operators
        ("pk <> :p", number, operator("<>")),
        ("pk = :p AND sk IN (:n)", number, operator("IN")),
        ("pk = :p OR sk = :n", number, operator("OR")),
        ("NOT pk = :p", number, operator("NOT")),
        ("NOT sk = :n AND pk = :p", number, operator("NOT")),
        ("pk = :p AND NOT sk <> :n", number, operator("NOT")),
        ("pk <> :p AND NOT sk = :n", number, operator("<>")),
        ("pk <> :p OR NOT sk = :n", number, operator("OR")),
        ("NOT pk <> :p OR sk = :n", number, operator("OR")),
        ("NOT (pk <> :p OR sk = :n)", number, operator("NOT")),
        (
            "pk = :p AND (sk = :n OR NOT sk = :n2)",
            number,
            operator("OR"),
        ),
        (
            "pk = :p AND attribute_exists(sk)",
            number,
            operator("attribute_exists"),
        ),
        ("contains(pk, :p)", number, operator("contains")),
        // forms
        ("pk = sk", number, several.clone()),
        ("pk = :p AND sk BETWEEN :n AND a", number, several.clone()),
        ("pk = :p AND begins_with(sk, pk)", string, several),
        (":p = :n", number, form("No key attribute specified")),
        (
            ":n BETWEEN sk AND :n2",
            number,
            form("BETWEEN operator must have the key attribute as its first operand"),
        ),
        (
            "begins_with(:p, sk)",
            string,
            form("begins_with operator must have the key attribute as its first operand"),
        ),
        (
            "pk = :p AND sk.a < :n",
            number,
            "KeyConditionExpressions cannot have conditions on nested attributes".to_owned(),
        ),
        (
            "pk = :p AND size(sk) < :n",
            number,
            "KeyConditionExpressions cannot contain nested operations".to_owned(),
        ),
        (
            "pk = :p AND sk < size(:p)",
            number,
            "KeyConditionExpressions cannot contain nested operations".to_owned(),
        ),
        ("pk = :p AND pk = :p", number, twice.clone()),
        ("pk = :p AND sk > :n AND sk < :n2", number, twice),
        (
            "pk = :p AND sk = :n AND a = :n",
            number,
            "Conditions can be of length 1 or 2 only".to_owned(),
        ),
        (
            "pk = :l",
            number,
            "One or more parameter values were invalid: ComparisonOperator EQ is not valid for L \
             AttributeValue type"
                .to_owned(),
        ),
        // against the keys
        ("sk = :n", number, missed("pk")),
        ("a = :n", number, missed("pk")),
        ("pk = :p AND a < :n", number, missed("sk")),
        ("sk = :n AND a = :n", number, missed("pk")),
        ("pk = :p AND a = :n", None, unsupported.clone()),
        ("pk < :p", number, unsupported.clone()),
        ("begins_with(pk, :p) AND sk = :n", number, unsupported),
        ("pk = :n", number, wrong_type.clone()),
        ("pk = :ss", number, wrong_type.clone()),
        ("pk > :n", number, wrong_type.clone()),
        ("pk = :p AND sk = :p", number, wrong_type.clone()),
        ("pk = :p AND sk BETWEEN :p AND :p", number, wrong_type),
        (
            "pk = :e",
            number,
            "One or more parameter values are not valid. The AttributeValue for a key attribute \
             cannot contain an empty string value. Key: pk"
                .to_owned(),
        ),
        (
            "pk = :p AND sk > :be",
            Some(ScalarType::B),
            "One or more parameter values are not valid. The AttributeValue for a key attribute \
             cannot contain an empty binary value. Key: sk"
                .to_owned(),
        ),
    ];
    for (text, schema, expected) in cases {
        assert_eq!(parse(text, schema), Err(expected), "{text}");
    }
}

#[test]
fn form_is_checked_before_the_table_is_known() {
    let mut values = with_values([(":p", s("key")), (":unused", n("5"))]);
    let terms = parse_key_terms("whatever = :p", &mut values).expect("good form");
    assert_eq!(
        values.finish().expect_err("unused").message,
        "Value provided in ExpressionAttributeNames unused in expressions: keys: {#c, #three, \
         #dot, #a, #set, #b}"
    );
    assert_eq!(
        terms
            .resolve(&keys(None))
            .expect_err("another attribute")
            .message,
        "Query condition missed key schema element: pk"
    );
}

#[test]
fn key_conditions_travel() {
    let condition = parse("pk = :p AND sk BETWEEN :n AND :n2", Some(ScalarType::N)).expect("valid");
    let bytes = rmp_serde::to_vec_named(&condition).expect("encodes");
    assert_eq!(
        rmp_serde::from_slice::<KeyCondition>(&bytes).expect("decodes"),
        condition
    );
}
