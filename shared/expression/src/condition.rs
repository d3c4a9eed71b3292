//! Condition and filter expressions: static checks of their operators, the resolved form, and evaluation. Never changes an item.

use std::cmp::Ordering;
use std::fmt;

use model::table::KeySchema;
use model::{ApiError, AttributeValue, Item, Number};
use serde::{Deserialize, Serialize};

use crate::operand::{self, Operand};
use crate::parser::{self, OperandId, Piece, Syntax};
use crate::path::Path;
use crate::placeholders::Placeholders;
use crate::resolver::{Function, Resolver};
use crate::texts::{self, Parameter};

/// Most values in the list of IN.
const IN_OPERANDS_MAX: usize = 100;

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
        for key in key_names(keys) {
            for test in self.tests() {
                test.check_paths(|path| {
                    if path.head() == key {
                        return Err(ApiError::validation(texts::filter_on_key(key)));
                    }
                    Ok(())
                })?;
            }
        }
        Ok(())
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
    fn of(operator: &str) -> Self {
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

/// Resolves the pieces of a condition one by one, each with the operands that it is made of.
pub(crate) fn resolve(
    syntax: &Syntax<'_>,
    pieces: &[Piece],
    placeholders: &mut Placeholders,
) -> Result<Vec<Instruction>, ApiError> {
    let resolver = Resolver::new(syntax, placeholders);
    resolver.check_mentions()?;
    let mut resolution = Resolution {
        operands: Vec::with_capacity(syntax.operands.len()),
        resolver,
    };
    pieces
        .iter()
        .map(|piece| resolution.instruction(piece))
        .collect()
}

struct Resolution<'s, 't, 'p> {
    resolver: Resolver<'s, 't, 'p>,
    /// By number; an operand is taken by what it is an operand of.
    operands: Vec<Resolved>,
}

enum Resolved {
    Taken,
    Operand(Operand),
    Test(Test),
}

impl Resolution<'_, '_, '_> {
    fn instruction(&mut self, piece: &Piece) -> Result<Instruction, ApiError> {
        let last = match piece {
            Piece::Not { .. } => {
                self.resolver.count_operator()?;
                return Ok(Instruction::Not);
            }
            Piece::Skip { when, to, .. } => {
                self.resolver.count_operator()?;
                return Ok(Instruction::Skip(*when, *to as u32));
            }
            Piece::Compare { right, .. } => *right,
            Piece::Between { upper, .. } => *upper,
            Piece::In { value, list } => list.last().copied().unwrap_or(*value),
            Piece::Call(call) => *call,
        };
        let new = self.operands.len()..=last;
        for operand in new.clone() {
            self.resolver.check_placeholders(operand)?;
        }
        for operand in new {
            let resolved = self.operand(operand)?;
            self.operands.push(resolved);
        }
        let test = match piece {
            Piece::Compare {
                operator,
                left,
                right,
            } => {
                let operator = operator.text(self.resolver.syntax.text);
                self.compare(operator, *left, *right)?
            }
            Piece::Between {
                value,
                lower,
                upper,
            } => self.between(*value, *lower, *upper)?,
            Piece::In { value, list } => self.is_in(*value, list)?,
            _ => match self
                .operands
                .get_mut(last)
                .map(|it| std::mem::replace(it, Resolved::Taken))
            {
                Some(Resolved::Test(test)) => test,
                // The parser takes nothing but calls as conditions, and `check_mentions` lets pass only those that are tests.
                _ => return Err(self.resolver.invalid(texts::MISUSED_OPERAND)),
            },
        };
        Ok(Instruction::Test(test))
    }

    fn take(&mut self, operand: OperandId) -> Result<Operand, ApiError> {
        match self
            .operands
            .get_mut(operand)
            .map(|it| std::mem::replace(it, Resolved::Taken))
        {
            Some(Resolved::Operand(operand)) => Ok(operand),
            // As above: tests can't be operands.
            _ => Err(self.resolver.invalid(texts::MISUSED_OPERAND)),
        }
    }

    /// Resolves an operand whose own operands are resolved.
    fn operand(&mut self, operand: OperandId) -> Result<Resolved, ApiError> {
        if let Some(value) = self.resolver.value(operand)? {
            return Ok(Resolved::Operand(Operand::Value(value)));
        }
        if let Some(path) = self.resolver.path(operand)? {
            return Ok(Resolved::Operand(Operand::Path(path)));
        }
        let Some((function, operands)) = self.resolver.call(operand)? else {
            return Err(self.resolver.invalid(texts::MISUSED_OPERAND));
        };
        self.call(function, operands)
    }

    fn call(&mut self, function: Function, operands: &[OperandId]) -> Result<Resolved, ApiError> {
        let name = function.name();
        let (first, second) = match operands {
            [first] => (self.take(*first)?, None),
            [first, second] => (self.take(*first)?, Some(self.take(*second)?)),
            _ => {
                return Err(self
                    .resolver
                    .invalid(texts::operand_count(name, operands.len())));
            }
        };
        if let Some(second) = &second {
            self.check_distinct(name, &first, std::slice::from_ref(second))?;
        }
        let test = match (function, first, second) {
            (Function::AttributeExists, Operand::Path(path), _) => Test::Exists(path),
            (Function::AttributeNotExists, Operand::Path(path), _) => Test::NotExists(path),
            (Function::AttributeExists | Function::AttributeNotExists, ..) => {
                return Err(self.resolver.invalid(texts::path_required(name)));
            }
            (Function::Size, first, _) => return self.size(first),
            (Function::BeginsWith, first, Some(second)) => {
                for operand in [&first, &second] {
                    self.check_type(name, operand, &["S", "B"])?;
                }
                Test::BeginsWith(first, second)
            }
            (Function::Contains, first, Some(second)) => Test::Contains(first, second),
            (_, first, Some(second)) => Test::Type(first, self.type_name(second)?),
            _ => {
                return Err(self
                    .resolver
                    .invalid(texts::operand_count(name, operands.len())));
            }
        };
        Ok(Resolved::Test(test))
    }

    fn size(&self, operand: Operand) -> Result<Resolved, ApiError> {
        let wrong = |kind| self.resolver.invalid(texts::operand_type("size", kind));
        Ok(Resolved::Operand(match operand {
            Operand::Path(path) => Operand::Size(path),
            Operand::Size(_) => return Err(wrong("N")),
            Operand::Value(value) => match operand::size(&value) {
                Some(size) => Operand::Value(AttributeValue::N(Number::from(size))),
                None => return Err(wrong(value.type_name())),
            },
        }))
    }

    /// The second operand of `attribute_type`.
    fn type_name(&self, operand: Operand) -> Result<String, ApiError> {
        const TYPES: [&str; 10] = ["S", "N", "B", "BOOL", "NULL", "SS", "NS", "BS", "M", "L"];
        match operand {
            Operand::Value(AttributeValue::S(name)) if TYPES.contains(&name.as_str()) => Ok(name),
            Operand::Value(AttributeValue::S(name)) => {
                Err(self.resolver.invalid(texts::unknown_type(&name)))
            }
            other => {
                let kind = other.static_type().unwrap_or(texts::ANY_TYPE);
                Err(self
                    .resolver
                    .invalid(texts::operand_type("attribute_type", kind)))
            }
        }
    }

    fn compare(
        &mut self,
        operator: &str,
        left: OperandId,
        right: OperandId,
    ) -> Result<Test, ApiError> {
        self.resolver.count_operator()?;
        let comparison = Comparison::of(operator);
        let (left, right) = (self.take(left)?, self.take(right)?);
        if comparison.is_ordering() {
            for operand in [&left, &right] {
                self.check_type(operator, operand, &["S", "N", "B"])?;
            }
        }
        self.check_distinct(operator, &left, std::slice::from_ref(&right))?;
        Ok(Test::Compare(comparison, left, right))
    }

    fn between(
        &mut self,
        value: OperandId,
        lower: OperandId,
        upper: OperandId,
    ) -> Result<Test, ApiError> {
        self.resolver.count_operator()?;
        let value = self.take(value)?;
        let bounds = [self.take(lower)?, self.take(upper)?];
        for operand in std::iter::once(&value).chain(&bounds) {
            self.check_type("BETWEEN", operand, &["S", "N", "B"])?;
        }
        self.check_distinct("BETWEEN", &value, &bounds)?;
        let [lower, upper] = bounds;
        if let (Operand::Value(lower), Operand::Value(upper)) = (&lower, &upper) {
            match operand::order(lower, upper) {
                None => return Err(self.resolver.invalid(texts::between_types(lower, upper))),
                Some(Ordering::Greater) => {
                    return Err(self.resolver.invalid(texts::between_order(lower, upper)));
                }
                Some(_) => {}
            }
        }
        Ok(Test::Between(value, lower, upper))
    }

    fn is_in(&mut self, value: OperandId, list: &[OperandId]) -> Result<Test, ApiError> {
        self.resolver.count_operator()?;
        let value = self.take(value)?;
        let list = list
            .iter()
            .map(|element| self.take(*element))
            .collect::<Result<Vec<_>, _>>()?;
        self.check_distinct("IN", &value, &list)?;
        if list.len() > IN_OPERANDS_MAX {
            return Err(self
                .resolver
                .invalid(texts::too_many_in_operands(list.len())));
        }
        Ok(Test::In(value, list))
    }

    fn check_type(
        &self,
        operator: &str,
        operand: &Operand,
        allowed: &[&str],
    ) -> Result<(), ApiError> {
        match operand.static_type() {
            Some(kind) if !allowed.contains(&kind) => {
                Err(self.resolver.invalid(texts::operand_type(operator, kind)))
            }
            _ => Ok(()),
        }
    }

    fn check_distinct(
        &self,
        operator: &str,
        first: &Operand,
        others: &[Operand],
    ) -> Result<(), ApiError> {
        if let Operand::Path(path) = first
            && others.contains(first)
        {
            return Err(self.resolver.invalid(texts::not_distinct(operator, path)));
        }
        Ok(())
    }
}
