//! `#name` and `:value` placeholders of one request. Owns their syntax and the rule that each of them must be used.

use std::collections::BTreeMap;

use model::{ApiError, AttributeValue};

use crate::texts;

const NAMES: &str = "ExpressionAttributeNames";
const VALUES: &str = "ExpressionAttributeValues";

/// Longest placeholder, `#` or `:` included.
const KEY_BYTES_MAX: usize = 255;

/// The placeholders of one request and which of them were used, over all of its expressions.
#[derive(Clone, Debug, Default)]
pub struct Placeholders {
    names: Option<Vec<Placeholder<String>>>,
    values: Option<Vec<Placeholder<AttributeValue>>>,
}

/// One placeholder; lists of them are sorted by key.
#[derive(Clone, Debug)]
struct Placeholder<T> {
    key: String,
    meaning: T,
    used: bool,
}

impl Placeholders {
    /// The request's `ExpressionAttributeNames` and `ExpressionAttributeValues`, `None` where the request has none.
    /// Nothing is checked yet: `check` does.
    pub fn new(
        names: Option<BTreeMap<String, String>>,
        values: Option<BTreeMap<String, AttributeValue>>,
    ) -> Self {
        Self {
            names: names.map(sorted),
            values: values.map(sorted),
        }
    }

    /// Refuses placeholders in a request that `has_expression` none, then does `check_syntax`. Call it before parsing. `parameters`:
    /// the operation's expression parameters that take values, in DynamoDB's order.
    pub fn check(&self, has_expression: bool, parameters: &[&str]) -> Result<(), ApiError> {
        if !has_expression {
            let absent: Vec<_> = parameters.iter().map(|name| (*name, false)).collect();
            self.check_use(&absent)?;
        }
        self.check_syntax()
    }

    /// Refuses placeholders in a request that has no expression for them. `parameters`: the expression parameters that the operation
    /// knows, in DynamoDB's order, and whether the request has them. A `ProjectionExpression` takes names, but no values.
    pub fn check_use(&self, parameters: &[(&str, bool)]) -> Result<(), ApiError> {
        if self.names.is_some() && !parameters.iter().any(|(_, present)| *present) {
            return Err(ApiError::validation(texts::NAMES_WITHOUT_EXPRESSION));
        }
        let with_values: Vec<_> = parameters
            .iter()
            .filter(|(name, _)| *name != "ProjectionExpression")
            .collect();
        if self.values.is_some()
            && !with_values.is_empty()
            && !with_values.iter().any(|(_, present)| *present)
        {
            let names: Vec<_> = with_values.iter().map(|(name, _)| *name).collect();
            return Err(ApiError::validation(texts::values_without_expression(
                &names,
            )));
        }
        Ok(())
    }

    /// Checks that names and values are not empty and have valid keys.
    pub fn check_syntax(&self) -> Result<(), ApiError> {
        if let Some(names) = &self.names {
            check_keys(NAMES, b'#', names)?;
            if let Some(name) = names.iter().find(|name| name.meaning.is_empty()) {
                return Err(ApiError::validation(texts::empty_name(&name.key)));
            }
        }
        match &self.values {
            Some(values) => check_keys(VALUES, b':', values),
            None => Ok(()),
        }
    }

    /// Call it after all expressions of the request were parsed: every placeholder must have been used.
    pub fn finish(&self) -> Result<(), ApiError> {
        check_used(NAMES, self.names.as_deref())?;
        check_used(VALUES, self.values.as_deref())
    }

    /// The name behind `#key`; does not count as use.
    pub(crate) fn name(&self, key: &str) -> Option<&str> {
        let names = self.names.as_deref()?;
        names
            .get(position(names, key)?)
            .map(|name| name.meaning.as_str())
    }

    /// The value behind `:key`; does not count as use.
    pub(crate) fn value(&self, key: &str) -> Option<&AttributeValue> {
        let values = self.values.as_deref()?;
        values
            .get(position(values, key)?)
            .map(|value| &value.meaning)
    }

    /// The name behind `#key`, which is now used.
    pub(crate) fn use_name(&mut self, key: &str) -> Option<&str> {
        let names = self.names.as_deref_mut()?;
        let name = names.get_mut(position(names, key)?)?;
        name.used = true;
        Some(&name.meaning)
    }

    /// The value behind `:key`, which is now used.
    pub(crate) fn use_value(&mut self, key: &str) -> Option<&AttributeValue> {
        let values = self.values.as_deref_mut()?;
        let value = values.get_mut(position(values, key)?)?;
        value.used = true;
        Some(&value.meaning)
    }
}

fn sorted<T>(map: BTreeMap<String, T>) -> Vec<Placeholder<T>> {
    map.into_iter()
        .map(|(key, meaning)| Placeholder {
            key,
            meaning,
            used: false,
        })
        .collect()
}

fn position<T>(placeholders: &[Placeholder<T>], key: &str) -> Option<usize> {
    placeholders
        .binary_search_by(|placeholder| placeholder.key.as_str().cmp(key))
        .ok()
}

fn check_keys<T>(map: &str, sign: u8, placeholders: &[Placeholder<T>]) -> Result<(), ApiError> {
    if placeholders.is_empty() {
        return Err(ApiError::validation(texts::empty_map(map)));
    }
    for Placeholder { key, .. } in placeholders {
        if key.len() > KEY_BYTES_MAX {
            return Err(ApiError::validation(texts::key_too_long(map, key.len())));
        }
        let valid = match key.as_bytes() {
            [first, rest @ ..] => {
                *first == sign
                    && !rest.is_empty()
                    && rest
                        .iter()
                        .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
            }
            [] => false,
        };
        if !valid {
            return Err(ApiError::validation(texts::invalid_key(map, key)));
        }
    }
    Ok(())
}

fn check_used<T>(map: &str, placeholders: Option<&[Placeholder<T>]>) -> Result<(), ApiError> {
    let placeholders = placeholders.unwrap_or_default();
    if placeholders.iter().all(|placeholder| placeholder.used) {
        return Ok(());
    }
    let mut unused: Vec<&str> = placeholders
        .iter()
        .filter(|placeholder| !placeholder.used)
        .map(|placeholder| placeholder.key.as_str())
        .collect();
    // DynamoDB lists them in the order of a Java HashSet.
    let slots = (placeholders.len() * 4 / 3 + 1).max(16).next_power_of_two();
    unused.sort_by_key(|key| java_hash(key) as usize & (slots - 1));
    Err(ApiError::validation(texts::unused(map, &unused)))
}

/// Java's `String.hashCode`, spread as `HashMap` does.
fn java_hash(text: &str) -> u32 {
    let hash = text.encode_utf16().fold(0_u32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(u32::from(unit))
    });
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(keys: &[&str]) -> Placeholders {
        let names = keys
            .iter()
            .map(|key| (key.to_string(), "x".to_string()))
            .collect();
        Placeholders::new(Some(names), None)
    }

    fn values(keys: &[&str]) -> Placeholders {
        let values = keys
            .iter()
            .map(|key| (key.to_string(), AttributeValue::Null))
            .collect();
        Placeholders::new(None, Some(values))
    }

    fn message(result: Result<(), ApiError>) -> String {
        result.expect_err("refused").message
    }

    #[test]
    fn placeholders_need_an_expression() {
        let both = [("UpdateExpression", false), ("ConditionExpression", false)];
        assert_eq!(
            message(names(&["#a"]).check_use(&both)),
            "ExpressionAttributeNames can only be specified when using expressions"
        );
        assert_eq!(
            message(values(&[":a"]).check_use(&both)),
            "ExpressionAttributeValues can only be specified when using expressions: \
             UpdateExpression and ConditionExpression are null"
        );
        assert_eq!(
            message(
                values(&[":a"])
                    .check_use(&[("ProjectionExpression", true), ("FilterExpression", false)])
            ),
            "ExpressionAttributeValues can only be specified when using expressions: \
             FilterExpression is null"
        );
        assert_eq!(
            names(&["#a"]).check_use(&[("ProjectionExpression", true)]),
            Ok(())
        );
        assert_eq!(Placeholders::default().check_use(&both), Ok(()));
        assert_eq!(names(&["#a"]).check(true, &[]), Ok(()));
        assert_eq!(
            message(values(&[":a"]).check(false, &["FilterExpression", "KeyConditionExpression"])),
            "ExpressionAttributeValues can only be specified when using expressions: \
             FilterExpression and KeyConditionExpression are null"
        );
    }

    #[test]
    fn keys_are_checked() {
        assert_eq!(
            message(names(&[]).check_syntax()),
            "ExpressionAttributeNames must not be empty"
        );
        assert_eq!(
            message(values(&[]).check_syntax()),
            "ExpressionAttributeValues must not be empty"
        );
        for key in ["a", "#", "#a-b", "#é", "", ":a"] {
            assert_eq!(
                message(names(&[key]).check_syntax()),
                format!(
                    "ExpressionAttributeNames contains invalid key: Syntax error; key: \"{key}\""
                )
            );
        }
        for key in ["a", ":", ":a b", "#a"] {
            assert_eq!(
                message(values(&[key]).check_syntax()),
                format!(
                    "ExpressionAttributeValues contains invalid key: Syntax error; key: \"{key}\""
                )
            );
        }
        assert_eq!(names(&["#_", "#0a"]).check_syntax(), Ok(()));
        let long = format!(":{}", "a".repeat(255));
        assert!(message(values(&[&long]).check_syntax()).contains("too long"));
    }

    #[test]
    fn all_must_be_used() {
        let mut placeholders = values(&[":a", ":b", ":c"]);
        assert_eq!(
            message(placeholders.finish()),
            "Value provided in ExpressionAttributeValues unused in expressions: keys: {:a, :b, :c}"
        );
        assert!(placeholders.use_value(":b").is_some());
        assert_eq!(
            message(placeholders.finish()),
            "Value provided in ExpressionAttributeValues unused in expressions: keys: {:a, :c}"
        );
        let mut placeholders = names(&["#x"]);
        assert_eq!(
            message(placeholders.finish()),
            "Value provided in ExpressionAttributeNames unused in expressions: keys: {#x}"
        );
        assert!(placeholders.use_name("#x").is_some());
        assert_eq!(placeholders.finish(), Ok(()));
    }
}
