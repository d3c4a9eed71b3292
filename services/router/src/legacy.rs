//! The legacy parameters of requests: their constraints, and their way into resolved expressions (`expression::legacy`).

use std::collections::{BTreeMap, HashSet};

use expression::legacy::{
    AttributeUpdate, Comparison, ComparisonOperator, Expected, Joint, UpdateAction,
    expected_condition, filter_condition, key_terms, legacy_update,
};
use expression::{Condition, KeyTerms, Projection, Update};
use model::json::JsonValue;
use model::{ApiError, AttributeValue};
use serde::Deserialize;

use crate::constraints::Constraints;
use crate::texts;

/// `ConditionalOperator`.
const JOINTS: &[&str] = &["OR", "AND"];

/// One element of `KeyConditions`, `QueryFilter` or `ScanFilter`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ConditionOf {
    comparison_operator: Option<String>,
    attribute_value_list: Option<Vec<JsonValue>>,
}

/// One element of `Expected`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ExpectedOf {
    value: Option<JsonValue>,
    exists: Option<bool>,
    comparison_operator: Option<String>,
    attribute_value_list: Option<Vec<JsonValue>>,
}

/// One element of `AttributeUpdates`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct UpdateOf {
    value: Option<JsonValue>,
    action: Option<String>,
}

/// `KeyConditions`, `QueryFilter`, `ScanFilter`.
pub(crate) type Conditions = Option<BTreeMap<String, ConditionOf>>;
/// `Expected`.
pub(crate) type ExpectedAttributes = Option<BTreeMap<String, ExpectedOf>>;
/// `AttributeUpdates`.
pub(crate) type AttributeUpdates = Option<BTreeMap<String, UpdateOf>>;

impl Constraints {
    /// `KeyConditions`, `QueryFilter` or `ScanFilter`; `member` is its name with a small letter.
    pub(crate) fn conditions(&mut self, member: &str, conditions: &Conditions) {
        for (name, condition) in conditions.iter().flatten() {
            let member = || format!("{member}.{name}.member.comparisonOperator");
            match condition.comparison_operator.as_deref() {
                None => self.present(&member(), false),
                operator => self.comparison_operator(member, operator),
            }
        }
    }

    /// `Expected`.
    pub(crate) fn expected(&mut self, expected: &ExpectedAttributes) {
        for (name, expected) in expected.iter().flatten() {
            let member = || format!("expected.{name}.member.comparisonOperator");
            self.comparison_operator(member, expected.comparison_operator.as_deref());
        }
    }

    /// `AttributeUpdates`.
    pub(crate) fn attribute_updates(&mut self, updates: &AttributeUpdates) {
        for (name, update) in updates.iter().flatten() {
            let action = update.action.as_deref();
            if action.is_some_and(|action| UpdateAction::of(action).is_none()) {
                let member = format!("attributeUpdates.{name}.member.action");
                self.one_of(&member, action, &UpdateAction::NAMES);
            }
        }
    }

    /// `ConditionalOperator`.
    pub(crate) fn conditional_operator(&mut self, operator: Option<&str>) {
        self.one_of("conditionalOperator", operator, JOINTS);
    }

    /// `AttributesToGet`; `member` with a small letter.
    pub(crate) fn attributes_to_get(&mut self, member: &str, names: &Option<Vec<String>>) {
        if names.as_ref().is_some_and(Vec::is_empty) {
            self.length_at_least("[]", member, 1);
        }
    }

    fn comparison_operator(&mut self, member: impl Fn() -> String, operator: Option<&str>) {
        if operator.is_some_and(|operator| ComparisonOperator::of(operator).is_none()) {
            self.one_of(&member(), operator, &ComparisonOperator::NAMES);
        }
    }
}

/// `AttributesToGet`.
pub(crate) fn projection(names: Option<Vec<String>>) -> Result<Option<Projection>, ApiError> {
    let Some(names) = names else { return Ok(None) };
    let mut seen = HashSet::with_capacity(names.len());
    if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
        return Err(texts::duplicate_attribute(twice));
    }
    Ok(Some(Projection::of_attributes(names)))
}

/// `Expected` with `ConditionalOperator`.
pub(crate) fn expected(
    expected: ExpectedAttributes,
    operator: Option<&str>,
) -> Result<Option<Condition>, ApiError> {
    let mut checked = BTreeMap::new();
    for (name, expected) in expected.into_iter().flatten() {
        let expected = Expected {
            value: expected.value.map(|value| value.0).transpose()?,
            exists: expected.exists,
            operator: expected
                .comparison_operator
                .as_deref()
                .and_then(ComparisonOperator::of),
            values: expected.attribute_value_list.map(values).transpose()?,
        };
        checked.insert(name, expected);
    }
    expected_condition(checked, joint(operator))
}

/// `QueryFilter` or `ScanFilter`, with `ConditionalOperator`.
pub(crate) fn filter(
    conditions: Conditions,
    operator: Option<&str>,
) -> Result<Option<Condition>, ApiError> {
    filter_condition(
        comparisons(conditions.unwrap_or_default())?,
        joint(operator),
    )
}

/// `KeyConditions`.
pub(crate) fn key_conditions(conditions: Conditions) -> Result<Option<KeyTerms>, ApiError> {
    match conditions {
        Some(conditions) => key_terms(comparisons(conditions)?).map(Some),
        None => Ok(None),
    }
}

/// `AttributeUpdates`.
pub(crate) fn update(updates: AttributeUpdates) -> Result<Option<Update>, ApiError> {
    let mut checked = BTreeMap::new();
    for (name, update) in updates.into_iter().flatten() {
        let update = AttributeUpdate {
            action: update
                .action
                .as_deref()
                .and_then(UpdateAction::of)
                .unwrap_or_default(),
            value: update.value.map(|value| value.0).transpose()?,
        };
        checked.insert(name, update);
    }
    legacy_update(checked)
}

fn comparisons(
    conditions: BTreeMap<String, ConditionOf>,
) -> Result<BTreeMap<String, Comparison>, ApiError> {
    let mut checked = BTreeMap::new();
    for (name, condition) in conditions {
        let values = values(condition.attribute_value_list.unwrap_or_default())?;
        // The constraints let nothing else pass.
        let operator = condition
            .comparison_operator
            .as_deref()
            .and_then(ComparisonOperator::of)
            .unwrap_or(ComparisonOperator::Eq);
        checked.insert(name, Comparison { operator, values });
    }
    Ok(checked)
}

fn values(list: Vec<JsonValue>) -> Result<Vec<AttributeValue>, ApiError> {
    list.into_iter().map(|value| value.0).collect()
}

fn joint(operator: Option<&str>) -> Option<Joint> {
    match operator {
        Some("OR") => Some(Joint::Or),
        Some(_) => Some(Joint::And),
        None => None,
    }
}
