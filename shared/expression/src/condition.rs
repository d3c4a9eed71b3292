//! Condition and filter expressions: static checks of their operators, the resolved form, and evaluation. Never changes an item.

mod resolution;

use std::cmp::Ordering;
use std::fmt;

use model::table::KeySchema;
use model::{ApiError, AttributeValue, Item};
use serde::{Deserialize, Serialize};

pub(crate) use self::resolution::resolve;
use crate::operand::{self, Operand};
use crate::parser;
use crate::path::Path;
use crate::placeholders::Placeholders;
use crate::texts::{self, Parameter};

/// Which parameter a condition comes from; it names the parameter in errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionKind {
    /// `ConditionExpression`.
    Condition,
    /// `FilterExpression`.
    Filter,
}

/// A resolved condition or filter: instructions over one truth value, which is true at the start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Program", into = "Program")]
pub struct Condition {
    instructions: Vec<Instruction>,
}

/// A condition as it travels, its skips not checked yet.
#[derive(Serialize, Deserialize)]
struct Program {
    #[serde(rename = "i")]
    instructions: Vec<Instruction>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Instruction {
    /// Sets the truth value.
    #[serde(rename = "t")]
    Test(Test),
    /// Turns it over.
    #[serde(rename = "n")]
    Not,
    /// Goes on at instruction `.1`, which is behind this one, when the truth value is `.0`.
    #[serde(rename = "s")]
    Skip(bool, u32),
}

/// A test of an item. A missing attribute makes it false, but for `<>` and `attribute_not_exists`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Test {
    #[serde(rename = "c")]
    Compare(Comparison, Operand, Operand),
    #[serde(rename = "b")]
    Between(Operand, Operand, Operand),
    #[serde(rename = "i")]
    In(Operand, Vec<Operand>),
    #[serde(rename = "e")]
    Exists(Path),
    #[serde(rename = "n")]
    NotExists(Path),
    /// Operand, name of the type.
    #[serde(rename = "t")]
    Type(Operand, String),
    #[serde(rename = "p")]
    BeginsWith(Operand, Operand),
    #[serde(rename = "h")]
    Contains(Operand, Operand),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Comparison {
    #[serde(rename = "=")]
    Equal,
    #[serde(rename = "<>")]
    NotEqual,
    #[serde(rename = "<")]
    Less,
    #[serde(rename = "<=")]
    LessOrEqual,
    #[serde(rename = ">")]
    Greater,
    #[serde(rename = ">=")]
    GreaterOrEqual,
}

/// Parses, resolves and statically checks a condition or filter.
pub fn parse_condition(
    kind: ConditionKind,
    text: &str,
    placeholders: &mut Placeholders,
) -> Result<Condition, ApiError> {
    let parameter = match kind {
        ConditionKind::Condition => Parameter::Condition,
        ConditionKind::Filter => Parameter::Filter,
    };
    let (syntax, pieces) = parser::parse_condition(parameter, text)?;
    let instructions = resolve(&syntax, &pieces, placeholders)?;
    Ok(Condition { instructions })
}

impl Condition {
    /// Of instructions whose skips lead forward.
    pub(crate) fn of_instructions(instructions: Vec<Instruction>) -> Self {
        Self { instructions }
    }

    /// Whether it holds for `item` (an absent item is an empty one). An error is a ValidationException.
    pub fn evaluate(&self, item: &Item) -> Result<bool, ApiError> {
        let mut holds = true;
        let mut next = 0;
        while let Some(instruction) = self.instructions.get(next) {
            next += 1;
            match instruction {
                Instruction::Test(test) => holds = test.holds(item),
                Instruction::Not => holds = !holds,
                // `max`: forward only, so that this loop ends whatever the instructions are
                Instruction::Skip(when, to) if holds == *when => next = next.max(*to as usize),
                Instruction::Skip(..) => {}
            }
        }
        Ok(holds)
    }

    /// Refuses paths that go into a key attribute.
    pub fn check_key_paths(&self, keys: &KeySchema) -> Result<(), ApiError> {
        for test in self.tests() {
            test.check_paths(|path| check_key_path(path, keys))?;
        }
        Ok(())
    }

    /// For Query's filter: it may not name an attribute of the key that the query uses.
    pub fn check_filter_keys(&self, keys: &KeySchema) -> Result<(), ApiError> {
        self.check_filter(keys, texts::filter_on_key)
    }

    /// Same, for a `QueryFilter`.
    pub fn check_legacy_filter_keys(&self, keys: &KeySchema) -> Result<(), ApiError> {
        self.check_filter(keys, texts::legacy::filter_on_key)
    }

    fn check_filter(&self, keys: &KeySchema, problem: fn(&str) -> String) -> Result<(), ApiError> {
        for key in key_names(keys) {
            for test in self.tests() {
                test.check_paths(|path| {
                    if path.head() == key {
                        return Err(ApiError::validation(problem(key)));
                    }
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// Names of the top-level attributes that it looks at.
    pub fn attributes(&self) -> Vec<String> {
        let mut names = Vec::new();
        for test in self.tests() {
            // Nothing is refused here.
            let _ = test.check_paths(|path| {
                names.push(path.head().to_owned());
                Ok(())
            });
        }
        names
    }

    fn tests(&self) -> impl Iterator<Item = &Test> {
        self.instructions
            .iter()
            .filter_map(|instruction| match instruction {
                Instruction::Test(test) => Some(test),
                _ => None,
            })
    }
}

/// Names of the key attributes, partition key first.
pub(crate) fn key_names(keys: &KeySchema) -> impl Iterator<Item = &str> {
    std::iter::once(keys.partition.name.as_str())
        .chain(keys.sort.as_ref().map(|sort| sort.name.as_str()))
}

/// Key attributes are scalars: no path goes into them.
pub(crate) fn check_key_path(path: &Path, keys: &KeySchema) -> Result<(), ApiError> {
    match key_names(keys).find(|key| path.is_nested() && path.head() == *key) {
        Some(key) => Err(ApiError::validation(texts::key_not_scalar(key))),
        None => Ok(()),
    }
}

/// A skip does not lead forward.
#[derive(Debug)]
struct BadSkip;

impl fmt::Display for BadSkip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a condition: a skip leads back or out")
    }
}

impl TryFrom<Program> for Condition {
    type Error = BadSkip;

    fn try_from(Program { instructions }: Program) -> Result<Self, BadSkip> {
        let forward = instructions
            .iter()
            .enumerate()
            .all(|(at, instruction)| match instruction {
                Instruction::Skip(_, to) => *to as usize > at && *to as usize <= instructions.len(),
                _ => true,
            });
        if forward {
            Ok(Self { instructions })
        } else {
            Err(BadSkip)
        }
    }
}

impl From<Condition> for Program {
    fn from(condition: Condition) -> Self {
        Self {
            instructions: condition.instructions,
        }
    }
}

impl Test {
    fn holds(&self, item: &Item) -> bool {
        match self {
            Self::Compare(comparison, left, right) => {
                let (Some(left), Some(right)) = (left.value(item), right.value(item)) else {
                    return *comparison == Comparison::NotEqual;
                };
                comparison.holds(&left, &right)
            }
            Self::Between(value, lower, upper) => {
                let (Some(value), Some(lower), Some(upper)) =
                    (value.value(item), lower.value(item), upper.value(item))
                else {
                    return false;
                };
                Comparison::GreaterOrEqual.holds(&value, &lower)
                    && Comparison::LessOrEqual.holds(&value, &upper)
            }
            Self::In(value, list) => {
                let Some(value) = value.value(item) else {
                    return false;
                };
                list.iter()
                    .any(|element| element.value(item).is_some_and(|e| e == value))
            }
            Self::Exists(path) => path.find(item).is_some(),
            Self::NotExists(path) => path.find(item).is_none(),
            Self::Type(operand, name) => operand
                .value(item)
                .is_some_and(|value| value.type_name() == name),
            Self::BeginsWith(value, prefix) => match (value.value(item), prefix.value(item)) {
                (Some(value), Some(prefix)) => operand::begins_with(&value, &prefix),
                _ => false,
            },
            Self::Contains(value, element) => match (value.value(item), element.value(item)) {
                (Some(value), Some(element)) => operand::contains(&value, &element),
                _ => false,
            },
        }
    }

    fn check_paths(
        &self,
        mut check: impl FnMut(&Path) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        let mut operands = |operands: &[&Operand]| {
            operands
                .iter()
                .filter_map(|operand| operand.path())
                .try_for_each(&mut check)
        };
        match self {
            Self::Exists(path) | Self::NotExists(path) => check(path),
            Self::Type(operand, _) => operands(&[operand]),
            Self::Compare(_, left, right)
            | Self::BeginsWith(left, right)
            | Self::Contains(left, right) => operands(&[left, right]),
            Self::Between(value, lower, upper) => operands(&[value, lower, upper]),
            Self::In(value, list) => {
                operands(&[value])?;
                list.iter().try_for_each(|element| operands(&[element]))
            }
        }
    }
}

impl Comparison {
    pub(crate) fn of(operator: &str) -> Self {
        match operator {
            "=" => Self::Equal,
            "<>" => Self::NotEqual,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            _ => Self::GreaterOrEqual,
        }
    }

    fn holds(self, left: &AttributeValue, right: &AttributeValue) -> bool {
        let order = match self {
            Self::Equal => return left == right,
            Self::NotEqual => return left != right,
            _ => operand::order(left, right),
        };
        match self {
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => order.is_some_and(Ordering::is_le),
            Self::Greater => order == Some(Ordering::Greater),
            _ => order.is_some_and(Ordering::is_ge),
        }
    }

    fn is_ordering(self) -> bool {
        !matches!(self, Self::Equal | Self::NotEqual)
    }
}
