//! Resolution of a condition: the checks of its operators and functions, piece by piece. Owns what operands they take; the order of
//! the checks is DynamoDB's.

use std::cmp::Ordering;

use model::{ApiError, AttributeValue, Number};

use super::{Comparison, Instruction, Test};
use crate::operand::{self, Operand};
use crate::parser::{OperandId, Piece, Syntax};
use crate::placeholders::Placeholders;
use crate::resolver::{Function, Resolver};
use crate::texts;

/// Most values in the list of IN.
const IN_OPERANDS_MAX: usize = 100;

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
