//! Legacy parameters mean what the expressions mean that Amazon's developer guide gives for them.

use std::collections::BTreeMap;

use expression::legacy::{
    Comparison, ComparisonOperator, Expected, Joint, expected_condition, filter_condition,
};
use expression::{ConditionKind, Placeholders, parse_condition};
use model::{AttributeValue, Item, Number};
use proptest::prelude::*;

fn value() -> impl Strategy<Value = AttributeValue> {
    prop_oneof![
        (0_u64..3).prop_map(|n| AttributeValue::N(Number::from(n))),
        "[ab]{1,2}".prop_map(AttributeValue::S),
        Just(AttributeValue::StringSet(vec!["a".into()])),
        Just(AttributeValue::L(vec![AttributeValue::S("a".into())])),
    ]
}

fn scalar() -> impl Strategy<Value = AttributeValue> {
    prop_oneof![
        (0_u64..3).prop_map(|n| AttributeValue::N(Number::from(n))),
        "[ab]{1,2}".prop_map(AttributeValue::S),
    ]
}

/// A comparison, and the expression for it.
fn comparison() -> impl Strategy<Value = (ComparisonOperator, &'static str)> {
    prop::sample::select(vec![
        (ComparisonOperator::Eq, "# = :"),
        (ComparisonOperator::Ne, "# <> :"),
        (ComparisonOperator::Lt, "# < :"),
        (ComparisonOperator::Le, "# <= :"),
        (ComparisonOperator::Gt, "# > :"),
        (ComparisonOperator::Ge, "# >= :"),
        (ComparisonOperator::In, "# IN (:)"),
        (ComparisonOperator::Contains, "contains(#, :)"),
        (
            ComparisonOperator::NotContains,
            "(attribute_exists(#) AND NOT contains(#, :))",
        ),
        (ComparisonOperator::Null, "attribute_not_exists(#)"),
        (ComparisonOperator::NotNull, "attribute_exists(#)"),
    ])
}

proptest! {
    #[test]
    fn comparisons_are_expressions(
        item in prop::collection::btree_map(prop::sample::select(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]), value(), 0..3),
        wanted in prop::collection::btree_map(
            prop::sample::select(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]),
            (comparison(), scalar()),
            1..4,
        ),
        or in any::<bool>(),
    ) {
        let item: Item = item;
        let mut texts = Vec::new();
        let mut values = BTreeMap::new();
        let mut filter = BTreeMap::new();
        let mut expected = BTreeMap::new();
        for (name, ((operator, text), operand)) in wanted {
            texts.push(text.replace('#', &name).replace(':', &format!(":{name}")));
            let unary = matches!(operator, ComparisonOperator::Null | ComparisonOperator::NotNull);
            let list = if unary { Vec::new() } else { vec![operand.clone()] };
            if !unary {
                values.insert(format!(":{name}"), operand);
            }
            filter.insert(name.clone(), Comparison { operator, values: list.clone() });
            expected.insert(name, Expected { operator: Some(operator), values: Some(list), ..Expected::default() });
        }
        let joint = (texts.len() > 1).then_some(if or { Joint::Or } else { Joint::And });
        let text = texts.join(if or { " OR " } else { " AND " });
        let mut placeholders = Placeholders::new(None, (!values.is_empty()).then_some(values));
        let expression = parse_condition(ConditionKind::Filter, &text, &mut placeholders).unwrap();
        let holds = expression.evaluate(&item).unwrap();
        let legacy = filter_condition(filter, joint).unwrap().unwrap();
        prop_assert_eq!(legacy.evaluate(&item).unwrap(), holds);
        let legacy = expected_condition(expected, joint).unwrap().unwrap();
        prop_assert_eq!(legacy.evaluate(&item).unwrap(), holds);
    }
}
