//! Parameters that several operations share: legacy ones, expressions with their placeholders, keys.

use expression::{
    Condition, ConditionKind, Placeholders, Projection, parse_condition, parse_projection,
};
use model::error::texts::expression_value;
use model::json::{JsonItem, JsonValue};
use model::key::has_key_type;
use model::{ApiError, AttributeValue, Item, TableDefinition};

use crate::requests::{Names, Values};
use crate::texts;

/// A parameter that excludes expressions, and whether it is there.
pub(crate) type Legacy<'a> = (&'a str, bool);

/// Refuses legacy parameters together with expressions, as DynamoDB does.
fn refuse_mixture(legacy: &[Legacy<'_>], expressions: &[(&str, bool)]) -> Result<(), ApiError> {
    let there = |parameters: &[(&str, bool)]| -> Vec<String> {
        parameters
            .iter()
            .filter(|(_, present)| *present)
            .map(|(name, _)| (*name).to_owned())
            .collect()
    };
    if legacy.iter().any(|(_, present)| *present) && expressions.iter().any(|(_, present)| *present)
    {
        return Err(texts::mixed_parameters(&there(legacy), &there(expressions)));
    }
    Ok(())
}

/// The placeholders of a request, checked in two steps as DynamoDB does: first whether they are allowed at all, then (after
/// other parameters were looked at) whether they are well formed.
pub(crate) struct Unchecked {
    placeholders: Placeholders,
    bad_value: Option<ApiError>,
}

impl Unchecked {
    /// First step. `expressions`: the operation's expression parameters, in DynamoDB's order, and whether they are there.
    pub(crate) fn new(
        names: Names,
        values: Values,
        legacy: &[Legacy<'_>],
        expressions: &[(&str, bool)],
    ) -> Result<Self, ApiError> {
        refuse_mixture(legacy, expressions)?;
        let mut bad_value = None;
        let values = values.map(|values| {
            let checked = values.into_iter().map(|(key, JsonValue(value))| {
                let value = value.unwrap_or_else(|error| {
                    bad_value.get_or_insert_with(|| {
                        ApiError::validation(expression_value(&error.message, &key))
                    });
                    // keeps its place until `check`, which then fails
                    AttributeValue::Null
                });
                (key, value)
            });
            checked.collect()
        });
        let placeholders = Placeholders::new(names, values);
        placeholders.check_use(expressions)?;
        Ok(Self {
            placeholders,
            bad_value,
        })
    }

    /// Second step.
    pub(crate) fn check(self) -> Result<Placeholders, ApiError> {
        self.placeholders.check_syntax()?;
        match self.bad_value {
            Some(error) => Err(error),
            None => Ok(self.placeholders),
        }
    }
}

/// The item or key of a parameter whose presence was checked.
pub(crate) fn item(parameter: Option<JsonItem>) -> Result<Item, ApiError> {
    parameter.map_or_else(|| Ok(Item::new()), |item| item.0)
}

/// Whether the item has the table's key attributes, of the right types. (A batch reports that differently.)
pub(crate) fn has_key(table: &TableDefinition, item: &Item) -> bool {
    let keys = &table.keys;
    std::iter::once(&keys.partition)
        .chain(&keys.sort)
        .all(|key| {
            item.get(&key.name)
                .is_some_and(|value| has_key_type(key, value))
        })
}

/// Parses a condition or filter, if there is one.
pub(crate) fn condition(
    kind: ConditionKind,
    text: Option<&str>,
    placeholders: &mut Placeholders,
) -> Result<Option<Condition>, ApiError> {
    text.map(|text| parse_condition(kind, text, placeholders))
        .transpose()
}

/// Parses a projection, if there is one.
pub(crate) fn projection(
    text: Option<&str>,
    placeholders: &mut Placeholders,
) -> Result<Option<Projection>, ApiError> {
    text.map(|text| parse_projection(text, placeholders))
        .transpose()
}

/// Refuses paths into key attributes, which are scalars.
pub(crate) fn check_key_paths(
    table: &TableDefinition,
    condition: Option<&Condition>,
    projection: Option<&Projection>,
) -> Result<(), ApiError> {
    if let Some(projection) = projection {
        projection.check_key_paths(&table.keys)?;
    }
    if let Some(condition) = condition {
        condition.check_key_paths(&table.keys)?;
    }
    Ok(())
}
