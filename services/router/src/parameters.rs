//! Parameters that several operations share: legacy ones, expressions with their placeholders, keys.

use expression::Placeholders;
use model::json::{JsonItem, JsonValue};
use model::{ApiError, AttributeValue, Item, TableDefinition, table::ScalarType};

use crate::requests::{Names, Values};
use crate::texts;

/// A parameter that excludes expressions, whether it is there, and what to use instead.
pub(crate) type Legacy<'a> = (&'a str, bool, &'a str);

/// Refuses legacy parameters: together with expressions as DynamoDB does, alone because we do not support them.
pub(crate) fn refuse_legacy(
    legacy: &[Legacy<'_>],
    expressions: &[(&str, bool)],
) -> Result<(), ApiError> {
    let Some((name, _, instead)) = legacy.iter().find(|(_, present, _)| *present) else {
        return Ok(());
    };
    if expressions.iter().any(|(_, present)| *present) {
        let old: Vec<&str> = legacy.iter().filter(|p| p.1).map(|p| p.0).collect();
        let new: Vec<&str> = expressions.iter().filter(|p| p.1).map(|p| p.0).collect();
        return Err(texts::mixed_parameters(&old, &new));
    }
    Err(texts::unsupported(name, instead))
}

/// The placeholders of a request, checked in two steps as DynamoDB does: first whether they are allowed at all, then (after
/// other parameters were looked at) whether they are well formed.
pub(crate) struct Unchecked<'a> {
    placeholders: Option<Placeholders>,
    has_expression: bool,
    parameters: &'a [&'a str],
    bad_value: Option<ApiError>,
}

impl<'a> Unchecked<'a> {
    /// First step. `parameters` are the operation's expression parameters, in DynamoDB's order.
    pub(crate) fn new(
        names: Names,
        values: Values,
        has_expression: bool,
        parameters: &'a [&'a str],
    ) -> Result<Self, ApiError> {
        if names.is_none() && values.is_none() {
            return Ok(Self {
                placeholders: None,
                has_expression,
                parameters,
                bad_value: None,
            });
        }
        let mut bad_value = None;
        let values = values.map(|values| {
            values
                .into_iter()
                .map(|(key, JsonValue(value))| {
                    let value = value.unwrap_or_else(|error| {
                        bad_value.get_or_insert_with(|| {
                            texts::invalid_placeholder_value(&error.message, &key)
                        });
                        // keeps its place until `check`, which then fails
                        AttributeValue::Null
                    });
                    (key, value)
                })
                .collect()
        });
        let placeholders = Placeholders::new(names, values);
        if !has_expression {
            placeholders.check(false, parameters)?;
        }
        Ok(Self {
            placeholders: Some(placeholders),
            has_expression,
            parameters,
            bad_value,
        })
    }

    /// Second step.
    pub(crate) fn check(self) -> Result<Placeholders, ApiError> {
        let Some(placeholders) = self.placeholders else {
            return Ok(Placeholders::new(None, None));
        };
        placeholders.check(self.has_expression, self.parameters)?;
        match self.bad_value {
            Some(error) => Err(error),
            None => Ok(placeholders),
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
            matches!(
                (key.kind, item.get(&key.name)),
                (ScalarType::S, Some(AttributeValue::S(_)))
                    | (ScalarType::N, Some(AttributeValue::N(_)))
                    | (ScalarType::B, Some(AttributeValue::B(_)))
            )
        })
}
