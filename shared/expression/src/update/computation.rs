//! How new values are computed: the right sides of SET as small stack programs, and what ADD and DELETE make of a value. Reads the item
//! as it was; never changes one.

use std::borrow::Cow;
use std::collections::BTreeSet;

use model::number::NumberError;
use model::size::{ITEM_BYTES_MAX, value_size};
use model::{ApiError, AttributeValue, Item};
use serde::{Deserialize, Serialize};

use crate::lexer::Kind;
use crate::parser::{OperandId, OperandSyntax};
use crate::path::Path;
use crate::resolver::{Function, Resolver};
use crate::texts;

/// One step of the computation of a new value, on a stack of values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Instruction {
    /// Pushes a value of the request.
    #[serde(rename = "v")]
    Value(AttributeValue),
    /// Pushes what the path names; it must exist.
    #[serde(rename = "p")]
    Path(Path),
    /// If the path names something, pushes that and leaves out the next so many instructions.
    #[serde(rename = "i")]
    IfExists(Path, u32),
    #[serde(rename = "+")]
    Add,
    #[serde(rename = "-")]
    Subtract,
    #[serde(rename = "l")]
    ListAppend,
}

/// How the operands of an update are computed, by number.
pub(super) struct Computations(Vec<Computation>);

#[derive(Default)]
pub(super) struct Computation {
    pub(super) instructions: Vec<Instruction>,
    /// Its type, where that does not depend on the item.
    static_type: Option<&'static str>,
}

impl Computations {
    /// Operands come behind their own operands, so one pass sees everything. Those that are `resolved` already are left out.
    pub(super) fn of(
        mut resolver: Resolver<'_, '_, '_>,
        resolved: &[bool],
    ) -> Result<Self, ApiError> {
        let syntax = resolver.syntax;
        let mut computations = Self(Vec::with_capacity(syntax.operands.len()));
        for (operand, operand_syntax) in syntax.operands.iter().enumerate() {
            let computation = match operand_syntax {
                _ if resolved.get(operand) == Some(&true) => Computation::default(),
                OperandSyntax::Value(_) => {
                    let value = resolver.value(operand)?;
                    Computation {
                        static_type: value.as_ref().map(AttributeValue::type_name),
                        instructions: value.into_iter().map(Instruction::Value).collect(),
                    }
                }
                OperandSyntax::Path(_) => Computation {
                    static_type: None,
                    instructions: resolver
                        .path(operand)?
                        .into_iter()
                        .map(Instruction::Path)
                        .collect(),
                },
                OperandSyntax::Call { .. } => computations.call(&mut resolver, operand)?,
                OperandSyntax::Arithmetic {
                    operator,
                    left,
                    right,
                } => {
                    resolver.count_operator()?;
                    let instruction = match operator.kind {
                        Kind::Plus => Instruction::Add,
                        _ => Instruction::Subtract,
                    };
                    let operands = [*left, *right].map(|operand| computations.take(operand));
                    let name = operator.text(syntax.text);
                    combine(&resolver, name, "N", operands, instruction)?
                }
            };
            computations.0.push(computation);
        }
        Ok(computations)
    }

    pub(super) fn take(&mut self, operand: OperandId) -> Computation {
        self.0
            .get_mut(operand)
            .map(std::mem::take)
            .unwrap_or_default()
    }

    fn call(
        &mut self,
        resolver: &mut Resolver<'_, '_, '_>,
        operand: OperandId,
    ) -> Result<Computation, ApiError> {
        let Some((function, &[first, second])) =
            resolver.call(operand)?.and_then(|(function, operands)| {
                Some((function, <&[OperandId; 2]>::try_from(operands).ok()?))
            })
        else {
            return Ok(Computation::default());
        };
        let name = function.name();
        let (first, mut second) = (self.take(first), self.take(second));
        if function == Function::ListAppend {
            return combine(
                resolver,
                name,
                "L",
                [first, second],
                Instruction::ListAppend,
            );
        }
        let path = match <[Instruction; 1]>::try_from(first.instructions) {
            Ok([Instruction::Path(path)]) => path,
            _ => return Err(resolver.invalid(texts::path_required(name))),
        };
        if matches!(second.instructions.as_slice(), [Instruction::Path(other)] if *other == path) {
            return Err(resolver.invalid(texts::not_distinct(name, &path)));
        }
        let skip = second.instructions.len() as u32;
        second
            .instructions
            .insert(0, Instruction::IfExists(path, skip));
        Ok(Computation {
            instructions: second.instructions,
            static_type: None,
        })
    }
}

/// An operator or function of two operands that must have the type that its result has.
fn combine(
    resolver: &Resolver<'_, '_, '_>,
    name: &str,
    kind: &'static str,
    [left, right]: [Computation; 2],
    instruction: Instruction,
) -> Result<Computation, ApiError> {
    for operand in [&left, &right] {
        if let Some(found) = operand.static_type
            && found != kind
        {
            return Err(resolver.invalid(texts::operand_type(name, found)));
        }
    }
    let mut instructions = left.instructions;
    instructions.extend(right.instructions);
    instructions.push(instruction);
    Ok(Computation {
        instructions,
        static_type: Some(kind),
    })
}

/// All assigned values become part of the item, so together they can't be larger than an item. Counted before they are copied: an
/// update may name a large attribute hundreds of times.
pub(super) struct Budget {
    bytes: u64,
}

impl Budget {
    pub(super) fn of_item() -> Self {
        Self {
            bytes: ITEM_BYTES_MAX,
        }
    }

    pub(super) fn spend(&mut self, value: &AttributeValue) -> Result<(), ApiError> {
        match self.bytes.checked_sub(value_size(value)) {
            Some(left) => {
                self.bytes = left;
                Ok(())
            }
            None => Err(ApiError::validation(texts::UPDATE_TOO_LARGE)),
        }
    }
}

/// Runs the program of a SET.
pub(super) fn run<'a>(
    program: &'a [Instruction],
    old: &'a Item,
) -> Result<Cow<'a, AttributeValue>, ApiError> {
    let wrong_type = || ApiError::validation(texts::WRONG_DATA_TYPE);
    let missing = || ApiError::validation(texts::MISSING_ATTRIBUTE);
    let mut stack: Vec<Cow<'_, AttributeValue>> = Vec::with_capacity(2);
    let mut next = 0_usize;
    while let Some(instruction) = program.get(next) {
        next += 1;
        let value = match instruction {
            Instruction::Value(value) => Cow::Borrowed(value),
            Instruction::Path(path) => Cow::Borrowed(path.find(old).ok_or_else(missing)?),
            Instruction::IfExists(path, skip) => match path.find(old) {
                Some(value) => {
                    next = next.saturating_add(*skip as usize);
                    Cow::Borrowed(value)
                }
                None => continue,
            },
            Instruction::Add | Instruction::Subtract => {
                let (Some(right), Some(left)) = (stack.pop(), stack.pop()) else {
                    return Err(wrong_type());
                };
                let (AttributeValue::N(left), AttributeValue::N(right)) = (&*left, &*right) else {
                    return Err(wrong_type());
                };
                let result = match instruction {
                    Instruction::Add => left.add(right),
                    _ => left.sub(right),
                };
                Cow::Owned(AttributeValue::N(result.map_err(out_of_range)?))
            }
            Instruction::ListAppend => {
                let (Some(right), Some(left)) = (stack.pop(), stack.pop()) else {
                    return Err(wrong_type());
                };
                let (AttributeValue::L(head), AttributeValue::L(tail)) = (&*left, &*right) else {
                    return Err(wrong_type());
                };
                let mut budget = Budget::of_item();
                budget.spend(&left)?;
                budget.spend(&right)?;
                Cow::Owned(AttributeValue::L(
                    [head.as_slice(), tail.as_slice()].concat(),
                ))
            }
        };
        stack.push(value);
    }
    stack.pop().ok_or_else(missing)
}

#[cold]
fn out_of_range(error: NumberError) -> ApiError {
    ApiError::validation(match error {
        NumberError::Underflow => texts::NUMBER_UNDERFLOW,
        // DynamoDB says so of results with too many digits, too.
        _ => texts::NUMBER_OVERFLOW,
    })
}

/// ADD to an existing attribute.
pub(super) fn add(
    value: &AttributeValue,
    operand: &AttributeValue,
) -> Result<AttributeValue, ApiError> {
    Ok(match (value, operand) {
        (AttributeValue::N(value), AttributeValue::N(operand)) => {
            AttributeValue::N(value.add(operand).map_err(out_of_range)?)
        }
        (AttributeValue::StringSet(set), AttributeValue::StringSet(more)) => {
            AttributeValue::StringSet(union(set, more))
        }
        (AttributeValue::NumberSet(set), AttributeValue::NumberSet(more)) => {
            AttributeValue::NumberSet(union(set, more))
        }
        (AttributeValue::BinarySet(set), AttributeValue::BinarySet(more)) => {
            AttributeValue::BinarySet(union(set, more))
        }
        _ => return Err(ApiError::validation(texts::WRONG_DATA_TYPE)),
    })
}

/// DELETE from an existing set; none when nothing is left, since sets can't be empty.
pub(super) fn delete(
    value: &AttributeValue,
    operand: &AttributeValue,
) -> Result<Option<AttributeValue>, ApiError> {
    Ok(match (value, operand) {
        (AttributeValue::StringSet(set), AttributeValue::StringSet(less)) => {
            difference(set, less).map(AttributeValue::StringSet)
        }
        (AttributeValue::NumberSet(set), AttributeValue::NumberSet(less)) => {
            difference(set, less).map(AttributeValue::NumberSet)
        }
        (AttributeValue::BinarySet(set), AttributeValue::BinarySet(less)) => {
            difference(set, less).map(AttributeValue::BinarySet)
        }
        _ => return Err(ApiError::validation(texts::WRONG_DATA_TYPE)),
    })
}

fn union<T: Clone + Ord>(set: &[T], more: &[T]) -> Vec<T> {
    let mut all = [set, more].concat();
    all.sort();
    all.dedup();
    all
}

fn difference<T: Clone + Ord>(set: &[T], less: &[T]) -> Option<Vec<T>> {
    let less: BTreeSet<&T> = less.iter().collect();
    let left: Vec<T> = set
        .iter()
        .filter(|element| !less.contains(element))
        .cloned()
        .collect();
    (!left.is_empty()).then_some(left)
}
