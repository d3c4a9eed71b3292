//! Legacy conditions: one comparison an attribute, all joined by AND or all by OR.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use model::{ApiError, AttributeValue};

use crate::condition::{self, Condition, Instruction, Test};
use crate::key_condition::{KeyTerms, SortCondition};
use crate::operand::{self, Operand};
use crate::path::Path;
use crate::texts::legacy as texts;

/// `ComparisonOperator`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ComparisonOperator {
    Eq,
    Ne,
    In,
    Le,
    Lt,
    Ge,
    Gt,
    Between,
    NotNull,
    Null,
    Contains,
    NotContains,
    BeginsWith,
}

impl ComparisonOperator {
    /// All names, in the order in which the service lists them.
    pub const NAMES: [&str; 13] = [
        "IN",
        "NULL",
        "BETWEEN",
        "LT",
        "NOT_CONTAINS",
        "EQ",
        "GT",
        "NOT_NULL",
        "NE",
        "LE",
        "BEGINS_WITH",
        "GE",
        "CONTAINS",
    ];

    /// From its name in the API.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "EQ" => Self::Eq,
            "NE" => Self::Ne,
            "IN" => Self::In,
            "LE" => Self::Le,
            "LT" => Self::Lt,
            "GE" => Self::Ge,
            "GT" => Self::Gt,
            "BETWEEN" => Self::Between,
            "NOT_NULL" => Self::NotNull,
            "NULL" => Self::Null,
            "CONTAINS" => Self::Contains,
            "NOT_CONTAINS" => Self::NotContains,
            "BEGINS_WITH" => Self::BeginsWith,
            _ => return None,
        })
    }

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eq => "EQ",
            Self::Ne => "NE",
            Self::In => "IN",
            Self::Le => "LE",
            Self::Lt => "LT",
            Self::Ge => "GE",
            Self::Gt => "GT",
            Self::Between => "BETWEEN",
            Self::NotNull => "NOT_NULL",
            Self::Null => "NULL",
            Self::Contains => "CONTAINS",
            Self::NotContains => "NOT_CONTAINS",
            Self::BeginsWith => "BEGINS_WITH",
        }
    }

    fn takes(self, count: usize) -> bool {
        match self {
            Self::Null | Self::NotNull => count == 0,
            Self::In => count > 0,
            Self::Between => count == 2,
            _ => count == 1,
        }
    }

    /// Whether values of the type can be its operands. (EQ and NE take all types.)
    fn takes_type(self, kind: &str) -> bool {
        match self {
            Self::Eq | Self::Ne | Self::Null | Self::NotNull => true,
            Self::BeginsWith => matches!(kind, "S" | "B"),
            _ => matches!(kind, "S" | "N" | "B"),
        }
    }
}

/// One comparison: of `KeyConditions`, `QueryFilter`, `ScanFilter`, or of `Expected`.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What is compared how.
    pub operator: ComparisonOperator,
    /// `AttributeValueList`.
    pub values: Vec<AttributeValue>,
}

/// One element of `Expected`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expected {
    /// `Value`.
    pub value: Option<AttributeValue>,
    /// `Exists`.
    pub exists: Option<bool>,
    /// `ComparisonOperator`.
    pub operator: Option<ComparisonOperator>,
    /// `AttributeValueList`.
    pub values: Option<Vec<AttributeValue>>,
}

/// `ConditionalOperator`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Joint {
    And,
    Or,
}

/// The condition that `Expected` stands for; none if there is nothing to expect.
pub fn expected_condition(
    expected: BTreeMap<String, Expected>,
    joint: Option<Joint>,
) -> Result<Option<Condition>, ApiError> {
    let comparisons = expected
        .into_iter()
        .map(|(name, expected)| Ok((expected.comparison(&name)?, name)))
        .collect::<Result<Vec<_>, ApiError>>()?;
    join(comparisons, joint)
}

/// The filter that `QueryFilter` or `ScanFilter` stands for; none if it is empty.
pub fn filter_condition(
    filter: BTreeMap<String, Comparison>,
    joint: Option<Joint>,
) -> Result<Option<Condition>, ApiError> {
    let comparisons = filter
        .into_iter()
        .map(|(name, comparison)| Ok((comparison.checked()?, name)))
        .collect::<Result<Vec<_>, ApiError>>()?;
    join(comparisons, joint)
}

/// The key condition that `KeyConditions` stands for.
pub fn key_terms(conditions: BTreeMap<String, Comparison>) -> Result<KeyTerms, ApiError> {
    let mut terms = Vec::with_capacity(conditions.len());
    for (name, comparison) in conditions {
        terms.push((name, comparison.checked()?.on_key()?));
    }
    if !(1..=2).contains(&terms.len()) {
        return Err(ApiError::validation(crate::texts::KEY_TERM_COUNT));
    }
    Ok(KeyTerms::of_terms(terms))
}

impl Expected {
    /// What it compares, its parameters checked against each other.
    fn comparison(self, name: &str) -> Result<Comparison, ApiError> {
        if self.value.is_some() && self.values.is_some() {
            return Err(texts::value_and_list(name));
        }
        let Some(operator) = self.operator else {
            if self.values.is_some() {
                return Err(texts::list_without_operator(name));
            }
            return match (self.exists, self.value) {
                (Some(false), None) => Ok(Comparison {
                    operator: ComparisonOperator::Null,
                    values: Vec::new(),
                }),
                (Some(false), Some(_)) => Err(texts::value_of_nothing(name)),
                (exists, None) => Err(texts::value_missing(exists, name)),
                (_, Some(value)) => Ok(Comparison {
                    operator: ComparisonOperator::Eq,
                    values: vec![value],
                }),
            };
        };
        if self.exists.is_some() {
            return Err(texts::exists_and_operator(name));
        }
        let needs_values = !operator.takes(0);
        if needs_values && self.value.is_none() && self.values.is_none() {
            return Err(texts::operator_without_value(operator.name(), name));
        }
        let values = self
            .values
            .unwrap_or_else(|| self.value.into_iter().collect());
        Comparison { operator, values }.checked()
    }
}

impl Comparison {
    fn checked(self) -> Result<Self, ApiError> {
        let name = self.operator.name();
        if !self.operator.takes(self.values.len()) {
            return Err(texts::argument_count(name));
        }
        for value in &self.values {
            if !self.operator.takes_type(value.type_name()) {
                return Err(texts::argument_type(name, value.type_name()));
            }
        }
        if let [first, others @ ..] = self.values.as_slice()
            && others
                .iter()
                .any(|other| other.type_name() != first.type_name())
        {
            return Err(texts::argument_types_differ());
        }
        if let (ComparisonOperator::Between, [lower, upper]) =
            (self.operator, self.values.as_slice())
            && operand::order(lower, upper) == Some(Ordering::Greater)
        {
            return Err(texts::between_order());
        }
        Ok(self)
    }

    /// As a condition on a key attribute.
    fn on_key(self) -> Result<SortCondition, ApiError> {
        let mut values = self.values.into_iter();
        let (Some(first), second) = (values.next(), values.next()) else {
            return Err(texts::not_indexable());
        };
        Ok(match (self.operator, second) {
            (ComparisonOperator::Eq, _) => SortCondition::Equal(first),
            (ComparisonOperator::Lt, _) => SortCondition::Less(first),
            (ComparisonOperator::Le, _) => SortCondition::LessOrEqual(first),
            (ComparisonOperator::Gt, _) => SortCondition::Greater(first),
            (ComparisonOperator::Ge, _) => SortCondition::GreaterOrEqual(first),
            (ComparisonOperator::BeginsWith, _) => SortCondition::BeginsWith(first),
            (ComparisonOperator::Between, Some(second)) => SortCondition::Between(first, second),
            _ => return Err(texts::not_indexable()),
        })
    }

    /// Instructions that leave its truth value; `at` is the number of the first.
    fn instructions(self, name: String, at: usize) -> Vec<Instruction> {
        let path = Path::attribute(name);
        let operand = Operand::Path(path.clone());
        let mut values = self.values.into_iter().map(Operand::Value);
        let test = match (self.operator, values.next(), values.next()) {
            (ComparisonOperator::NotNull, ..) => Test::Exists(path),
            (ComparisonOperator::Null, ..) | (_, None, _) => Test::NotExists(path),
            (ComparisonOperator::Between, Some(lower), Some(upper)) => {
                Test::Between(operand, lower, upper)
            }
            (ComparisonOperator::In, Some(first), second) => {
                let list = std::iter::once(first).chain(second).chain(values);
                Test::In(operand, list.collect())
            }
            (ComparisonOperator::BeginsWith, Some(prefix), _) => Test::BeginsWith(operand, prefix),
            (ComparisonOperator::Contains, Some(element), _) => Test::Contains(operand, element),
            (ComparisonOperator::NotContains, Some(element), _) => {
                // What is not there contains nothing, and is not "not containing" either.
                return vec![
                    Instruction::Test(Test::Exists(path)),
                    Instruction::Skip(false, (at + 4) as u32),
                    Instruction::Test(Test::Contains(operand, element)),
                    Instruction::Not,
                ];
            }
            (operator, Some(value), _) => {
                let comparison = match operator {
                    ComparisonOperator::Ne => condition::Comparison::NotEqual,
                    ComparisonOperator::Lt => condition::Comparison::Less,
                    ComparisonOperator::Le => condition::Comparison::LessOrEqual,
                    ComparisonOperator::Gt => condition::Comparison::Greater,
                    ComparisonOperator::Ge => condition::Comparison::GreaterOrEqual,
                    _ => condition::Comparison::Equal,
                };
                Test::Compare(comparison, operand, value)
            }
        };
        vec![Instruction::Test(test)]
    }
}

/// Joins checked comparisons: the first that decides ends the program.
fn join(
    comparisons: Vec<(Comparison, String)>,
    joint: Option<Joint>,
) -> Result<Option<Condition>, ApiError> {
    match (joint, comparisons.len()) {
        (Some(_), 0) => return Err(texts::operator_without_conditions()),
        (Some(_), 1) => return Err(texts::operator_for_one()),
        (None, 0) => return Ok(None),
        _ => {}
    }
    let decides = joint == Some(Joint::Or);
    let mut instructions = Vec::with_capacity(comparisons.len() * 2);
    let mut skips = Vec::with_capacity(comparisons.len());
    for (comparison, name) in comparisons {
        if !instructions.is_empty() {
            skips.push(instructions.len());
            instructions.push(Instruction::Skip(decides, 0));
        }
        let at = instructions.len();
        instructions.extend(comparison.instructions(name, at));
    }
    let end = instructions.len() as u32;
    for skip in skips {
        instructions[skip] = Instruction::Skip(decides, end);
    }
    Ok(Some(Condition::of_instructions(instructions)))
}
