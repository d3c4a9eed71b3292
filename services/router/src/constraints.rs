//! Constraints that the API model puts on members of a request. All that are broken are reported in one answer, at most ten.

use std::borrow::Cow;

use model::ApiError;

use crate::texts;

/// Most errors that one answer tells.
const ERRORS_MAX: usize = 10;
/// Longest value that is shown back, bytes.
const SHOWN_BYTES_MAX: usize = 4096;

/// `ReturnConsumedCapacity`.
const CAPACITY: &[&str] = &["INDEXES", "TOTAL", "NONE"];
/// `ReturnItemCollectionMetrics`.
const METRICS: &[&str] = &["SIZE", "NONE"];
/// `ReturnValues`.
const RETURN_VALUES: &[&str] = &["ALL_NEW", "UPDATED_OLD", "ALL_OLD", "NONE", "UPDATED_NEW"];
/// `ReturnValuesOnConditionCheckFailure`.
const ON_FAILURE: &[&str] = &["ALL_OLD", "NONE"];
/// `Select`.
const SELECT: &[&str] = &[
    "SPECIFIC_ATTRIBUTES",
    "COUNT",
    "ALL_ATTRIBUTES",
    "ALL_PROJECTED_ATTRIBUTES",
];

/// Collects broken constraints.
#[derive(Debug, Default)]
pub(crate) struct Constraints {
    count: usize,
    texts: String,
}

impl Constraints {
    fn fail(&mut self, text: &str) {
        if self.count < ERRORS_MAX {
            if self.count > 0 {
                self.texts.push_str("; ");
            }
            self.texts.push_str(text);
            self.count += 1;
        }
    }

    fn broken(&mut self, value: &str, member: &str, rule: &str) {
        let mut end = value.len().min(SHOWN_BYTES_MAX);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        self.fail(&texts::constraint(Some(&value[..end]), member, rule));
    }

    /// A constraint on a member whose value would be too large to show.
    pub(crate) fn hidden(&mut self, broken: bool, member: &str, rule: &str) {
        if broken {
            self.fail(&texts::hidden_constraint(member, rule));
        }
    }

    /// A member that must be there.
    pub(crate) fn present(&mut self, member: &str, present: bool) {
        if !present {
            self.fail(&texts::constraint(None, member, texts::NOT_NULL));
        }
    }

    /// `TableName`.
    pub(crate) fn table_name(&mut self, name: Option<&str>) {
        match name {
            None => self.present("tableName", false),
            Some(name) => self.name("tableName", table_of(name)),
        }
    }

    /// A table's name somewhere in a transaction.
    pub(crate) fn member_table_name(&mut self, member: &str, name: Option<&str>) {
        match name {
            None => self.present(member, false),
            Some(name) => self.name(member, table_of(name)),
        }
    }

    /// `ReturnValuesOnConditionCheckFailure` somewhere in a transaction.
    pub(crate) fn member_on_failure(&mut self, member: &str, value: Option<&str>) {
        self.one_of(member, value, ON_FAILURE);
    }

    /// `ClientRequestToken`.
    pub(crate) fn token(&mut self, token: Option<&str>, max: usize) {
        let Some(token) = token else { return };
        if token.is_empty() {
            self.broken(token, "clientRequestToken", &texts::length_at_least(1));
        }
        if token.len() > max {
            self.broken(token, "clientRequestToken", &texts::length_at_most(max));
        }
    }

    /// How many operations there are in `TransactItems`; none: it is missing.
    pub(crate) fn operations(&mut self, count: Option<usize>, max: usize) {
        match count {
            None => self.present("transactItems", false),
            Some(0) => self.hidden(true, "transactItems", &texts::length_at_least(1)),
            Some(count) => {
                self.hidden(count > max, "transactItems", &texts::length_at_most(max));
            }
        }
    }

    /// `IndexName`.
    pub(crate) fn index_name(&mut self, name: Option<&str>) {
        if let Some(name) = name {
            self.name("indexName", name);
        }
    }

    fn name(&mut self, member: &str, name: &str) {
        if !has_name_pattern(name) {
            self.broken(name, member, texts::NAME_PATTERN);
        }
        if name.len() < 3 {
            self.broken(name, member, &texts::length_at_least(3));
        }
        if name.len() > 255 {
            self.broken(name, member, &texts::length_at_most(255));
        }
    }

    /// A collection that is too short; `value` as it is shown.
    pub(crate) fn length_at_least(&mut self, value: &str, member: &str, min: usize) {
        self.broken(value, member, &texts::length_at_least(min));
    }

    /// A text of bounded length; its value is not shown when it is too long.
    pub(crate) fn length(&mut self, member: &str, value: &str, min: usize, max: usize) {
        if value.len() < min {
            self.broken(value, member, &texts::length_at_least(min));
        }
        if value.len() > max {
            self.hidden(true, member, &texts::length_at_most(max));
        }
    }

    /// Names of the tables of a batch.
    pub(crate) fn table_names<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        for name in names {
            let name = table_of(name);
            if !has_name_pattern(name) || name.len() < 3 || name.len() > 255 {
                self.hidden(true, "requestItems", &texts::map_keys());
            }
        }
    }

    /// A member that takes only the values of a set.
    pub(crate) fn one_of(&mut self, member: &str, value: Option<&str>, set: &[&str]) {
        if let Some(value) = value
            && !set.contains(&value)
        {
            self.broken(value, member, &texts::one_of(set));
        }
    }

    /// `ReturnConsumedCapacity`.
    pub(crate) fn return_consumed_capacity(&mut self, value: Option<&str>) {
        self.one_of("returnConsumedCapacity", value, CAPACITY);
    }

    /// `ReturnItemCollectionMetrics`.
    pub(crate) fn return_item_collection_metrics(&mut self, value: Option<&str>) {
        self.one_of("returnItemCollectionMetrics", value, METRICS);
    }

    /// `ReturnValues`.
    pub(crate) fn return_values(&mut self, value: Option<&str>) {
        self.one_of("returnValues", value, RETURN_VALUES);
    }

    /// `ReturnValuesOnConditionCheckFailure`.
    pub(crate) fn return_values_on_failure(&mut self, value: Option<&str>) {
        self.one_of("returnValuesOnConditionCheckFailure", value, ON_FAILURE);
    }

    /// `Select`.
    pub(crate) fn select(&mut self, value: Option<&str>) {
        self.one_of("select", value, SELECT);
    }

    /// A number within bounds, both inclusive.
    pub(crate) fn between(&mut self, member: &str, value: Option<i64>, min: i64, max: i64) {
        let Some(value) = value else { return };
        if value < min {
            self.broken(&value.to_string(), member, &texts::value_at_least(min));
        }
        if value > max {
            self.broken(&value.to_string(), member, &texts::value_at_most(max));
        }
    }

    /// The ValidationException that tells all that are broken.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        if self.count == 0 {
            Ok(())
        } else {
            Err(texts::constraints(self.count, &self.texts))
        }
    }
}

fn has_name_pattern(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// The table's name, of a name or an ARN (`arn:aws:dynamodb:region:account:table/Name`).
pub(crate) fn table_of(name: &str) -> &str {
    if name.starts_with("arn:")
        && let Some((_, table)) = name.split_once(":table/")
    {
        return table;
    }
    name
}

/// Same, on an owned name.
pub(crate) fn owned_table_of(name: String) -> String {
    match Cow::from(table_of(&name)) {
        Cow::Borrowed(table) if table.len() == name.len() => name,
        table => table.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(check: impl FnOnce(&mut Constraints)) -> String {
        let mut constraints = Constraints::default();
        check(&mut constraints);
        constraints
            .finish()
            .err()
            .map(|error| error.message)
            .unwrap_or_default()
    }

    #[test]
    fn a_short_table_name_is_told_as_dynamodb_does() {
        assert_eq!(
            message(|c| c.table_name(Some("a"))),
            "1 validation error detected: Value 'a' at 'tableName' failed to satisfy constraint: \
             Member must have length greater than or equal to 3"
        );
        assert_eq!(
            message(|c| c.table_name(None)),
            "1 validation error detected: Value null at 'tableName' failed to satisfy constraint: \
             Member must not be null"
        );
        assert_eq!(message(|c| c.table_name(Some("abc"))), "");
        assert_eq!(
            message(|c| c.table_name(Some("arn:aws:dynamodb:eu-west-1:1:table/abc"))),
            ""
        );
    }

    #[test]
    fn all_broken_constraints_share_one_answer() {
        assert_eq!(
            message(|c| {
                c.return_consumed_capacity(Some("hi"));
                c.table_name(Some("a!"));
                c.between("limit", Some(0), 1, i64::MAX);
            }),
            "4 validation errors detected: \
             Value 'hi' at 'returnConsumedCapacity' failed to satisfy constraint: \
             Member must satisfy enum value set: [INDEXES, TOTAL, NONE]; \
             Value 'a!' at 'tableName' failed to satisfy constraint: \
             Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; \
             Value 'a!' at 'tableName' failed to satisfy constraint: \
             Member must have length greater than or equal to 3; \
             Value '0' at 'limit' failed to satisfy constraint: \
             Member must have value greater than or equal to 1"
        );
    }

    #[test]
    fn ten_errors_at_most_and_long_values_are_cut_at_a_character() {
        let many = message(|c| {
            for _ in 0..20 {
                c.present("key", false);
            }
        });
        assert!(
            many.starts_with("10 validation errors detected: "),
            "{many}"
        );
        let long = "é".repeat(5000);
        assert!(message(|c| c.select(Some(&long))).len() < 5000);
    }
}
