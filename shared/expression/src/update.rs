//! Update expressions: static checks, the resolved form, and their application to an item. Owns what an update does to a document;
//! sizes are checked by the caller.

use std::borrow::Cow;
use std::collections::BTreeSet;

use model::number::NumberError;
use model::size::{ITEM_BYTES_MAX, value_size};
use model::table::KeySchema;
use model::{ApiError, AttributeValue, Item};
use serde::{Deserialize, Serialize};

use crate::condition::key_names;
use crate::lexer::Kind;
use crate::parser::{self, OperandId, OperandSyntax};
use crate::path::{Path, Step, check_disjoint};
use crate::placeholders::Placeholders;
use crate::projection::project;
use crate::resolver::{Function, Resolver};
use crate::texts::{self, Parameter};

/// Most lists and maps around a value.
const NESTING_MAX: usize = 32;

/// A resolved update expression: actions on paths of which none lies inside another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Update {
    #[serde(rename = "a")]
    actions: Vec<Action>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Action {
    /// The value is what the program leaves on its stack.
    #[serde(rename = "s")]
    Set(Path, Vec<Instruction>),
    #[serde(rename = "r")]
    Remove(Path),
    #[serde(rename = "a")]
    Add(Path, AttributeValue),
    #[serde(rename = "d")]
    Delete(Path, AttributeValue),
}

/// One step of the computation of a new value, on a stack of values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Instruction {
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

/// Parses, resolves and statically checks an update.
pub fn parse_update(text: &str, placeholders: &mut Placeholders) -> Result<Update, ApiError> {
    let (syntax, update) = parser::parse_update(text)?;
    let mut resolver = Resolver::new(&syntax, placeholders);
    resolver.check_mentions()?;
    if let Some(section) = update.repeated {
        return Err(resolver.invalid(texts::repeated_section(section)));
    }
    resolver.check_names()?;
    for operand in 0..syntax.operands.len() {
        resolver.check_value(operand)?;
    }
    let mut paths = Vec::with_capacity(update.actions.len());
    for action in &update.actions {
        paths.extend(resolver.path(action.path)?);
    }
    check_disjoint(Parameter::Update, &paths.iter().collect::<Vec<_>>())?;
    // Operands of ADD and DELETE are checked before those of functions.
    let mut values = Vec::with_capacity(paths.len());
    for action in &update.actions {
        values.push(match (action.section, action.value) {
            (Kind::Add | Kind::Delete, Some(value)) => {
                let value = resolver.value(value)?;
                if let Some(value) = &value {
                    check_action(&resolver, action.section, value)?;
                }
                value
            }
            _ => None,
        });
    }
    let mut resolved = vec![false; syntax.operands.len()];
    for action in &update.actions {
        let value = action.value.filter(|_| action.section != Kind::Set);
        for operand in std::iter::once(action.path).chain(value) {
            if let Some(resolved) = resolved.get_mut(operand) {
                *resolved = true;
            }
        }
    }
    let mut computations = Computations::of(resolver, &resolved)?;
    let mut actions = Vec::with_capacity(paths.len());
    for ((action, path), value) in update.actions.iter().zip(paths).zip(values) {
        actions.push(match (action.section, action.value, value) {
            (Kind::Set, Some(right_side), _) => {
                Action::Set(path, computations.take(right_side).instructions)
            }
            (Kind::Add, _, Some(value)) => Action::Add(path, value),
            (Kind::Delete, _, Some(value)) => Action::Delete(path, value),
            _ => Action::Remove(path),
        });
    }
    Ok(Update { actions })
}

fn check_action(
    resolver: &Resolver<'_, '_, '_>,
    section: Kind,
    value: &AttributeValue,
) -> Result<(), ApiError> {
    let (action, allowed) = match (section, value) {
        (Kind::Add, AttributeValue::N(_)) => ("ADD", true),
        (
            _,
            AttributeValue::StringSet(_)
            | AttributeValue::NumberSet(_)
            | AttributeValue::BinarySet(_),
        ) => ("", true),
        (Kind::Add, _) => ("ADD", false),
        _ => ("DELETE", false),
    };
    if allowed {
        Ok(())
    } else {
        Err(resolver.invalid(texts::action_type(action, value)))
    }
}

/// How the operands of an update are computed, by number.
struct Computations(Vec<Computation>);

#[derive(Default)]
struct Computation {
    instructions: Vec<Instruction>,
    /// Its type, where that does not depend on the item.
    static_type: Option<&'static str>,
}

impl Computations {
    /// Operands come behind their own operands, so one pass sees everything. Those that are `resolved` already are left out.
    fn of(mut resolver: Resolver<'_, '_, '_>, resolved: &[bool]) -> Result<Self, ApiError> {
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

    fn take(&mut self, operand: OperandId) -> Computation {
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

impl Action {
    fn path(&self) -> &Path {
        match self {
            Self::Set(path, _)
            | Self::Remove(path)
            | Self::Add(path, _)
            | Self::Delete(path, _) => path,
        }
    }
}

impl Update {
    /// Refuses updates of key attributes ("Cannot update attribute pk. This attribute is part of the key").
    pub fn check_keys(&self, keys: &KeySchema) -> Result<(), ApiError> {
        for action in &self.actions {
            if let Some(key) = key_names(keys).find(|key| *key == action.path().head()) {
                return Err(ApiError::validation(texts::key_update(key)));
            }
        }
        Ok(())
    }

    /// Whether the update makes an item where there is none: one that only removes leaves an absent item absent (and then its paths do
    /// not matter: do not `apply` it).
    pub fn creates_item(&self) -> bool {
        self.actions
            .iter()
            .any(|action| matches!(action, Action::Set(..) | Action::Add(..)))
    }

    /// The item after the update. `old` is the item as it is, or the item of key attributes when there is none. Does not check the
    /// 400 KB limit.
    pub fn apply(&self, old: &Item) -> Result<Updated<'_>, ApiError> {
        let mut assignments = Vec::with_capacity(self.actions.len());
        let mut removals = Vec::new();
        let mut budget = Budget {
            bytes: ITEM_BYTES_MAX,
        };
        // Everything is computed from the old item; then come the assignments, then the removals.
        for action in &self.actions {
            let path = action.path();
            match action {
                Action::Set(_, program) => {
                    let value = run(program, old)?;
                    budget.spend(&value)?;
                    assignments.push((path, value.into_owned()));
                }
                Action::Remove(_) => removals.push(path),
                Action::Add(_, operand) => {
                    let value = match path.find(old) {
                        Some(value) => add(value, operand)?,
                        None => operand.clone(),
                    };
                    budget.spend(&value)?;
                    assignments.push((path, value));
                }
                Action::Delete(_, operand) => match path.find(old) {
                    Some(value) => match delete(value, operand)? {
                        Some(value) => {
                            budget.spend(&value)?;
                            assignments.push((path, value));
                        }
                        None => removals.push(path),
                    },
                    None => removals.push(path),
                },
            }
        }
        let mut item = old.clone();
        // In order, so that elements set behind a list's end are appended in order of their indexes.
        assignments.sort_unstable_by_key(|(path, _)| *path);
        for (path, value) in assignments {
            let around = path.steps().len() - 1;
            if NESTING_MAX
                .checked_sub(around)
                .is_none_or(|left| is_deeper(&value, left))
            {
                return Err(ApiError::validation(texts::TOO_NESTED));
            }
            match place(&mut item, path)? {
                Place::Entry(map, name) => {
                    map.insert(name.to_owned(), value);
                }
                Place::Element(list, index) => match list.get_mut(index) {
                    Some(element) => *element = value,
                    None => list.push(value),
                },
            }
        }
        remove_all(&mut item, removals)?;
        Ok(Updated { item, update: self })
    }

    /// `ReturnValues: UPDATED_OLD`: the touched paths as they were in `old` (an empty item when there was none).
    pub fn updated_old(&self, old: &Item) -> Item {
        project(old, self.actions.iter().map(Action::path).collect())
    }

    /// `ReturnValues: UPDATED_NEW`: the touched paths as they are in `new`. As in DynamoDB, that is what the paths name *now*: not an
    /// element that was appended for an index behind the end, but the element that moved up where one was removed.
    pub fn updated_new(&self, new: &Item) -> Item {
        self.updated_old(new)
    }
}

/// What an update made of an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Updated<'u> {
    /// The item after the update.
    pub item: Item,
    update: &'u Update,
}

impl Updated<'_> {
    /// `Update::updated_old`.
    pub fn updated_old(&self, old: &Item) -> Item {
        self.update.updated_old(old)
    }

    /// `Update::updated_new` of the item after the update.
    pub fn updated_new(&self) -> Item {
        self.update.updated_new(&self.item)
    }
}

/// Where a path ends.
enum Place<'i, 'p> {
    Entry(&'i mut Item, &'p str),
    Element(&'i mut Vec<AttributeValue>, usize),
}

/// The map or list that `path` ends in, which must exist.
fn place<'i, 'p>(item: &'i mut Item, path: &'p Path) -> Result<Place<'i, 'p>, ApiError> {
    let invalid = || ApiError::validation(texts::INVALID_UPDATE_PATH);
    let steps = path.steps();
    let [Step::Name(head), middle @ .., last] = steps else {
        return match steps {
            [Step::Name(name)] => Ok(Place::Entry(item, name)),
            _ => Err(invalid()),
        };
    };
    let mut value = item.get_mut(head).ok_or_else(invalid)?;
    for step in middle {
        value = match (value, step) {
            (AttributeValue::M(map), Step::Name(name)) => map.get_mut(name),
            (AttributeValue::L(list), Step::Index(index)) => list.get_mut(*index as usize),
            _ => None,
        }
        .ok_or_else(invalid)?;
    }
    match (value, last) {
        (AttributeValue::M(map), Step::Name(name)) => Ok(Place::Entry(map, name)),
        (AttributeValue::L(list), Step::Index(index)) => Ok(Place::Element(list, *index as usize)),
        _ => Err(invalid()),
    }
}

/// Removes what the paths name, where it exists. Indexes mean what they mean before anything is removed: so the deepest go first, and
/// the elements of one list together (which also keeps the work linear, however many there are).
fn remove_all(item: &mut Item, mut paths: Vec<&Path>) -> Result<(), ApiError> {
    paths.sort_unstable_by(|one, two| {
        two.steps()
            .len()
            .cmp(&one.steps().len())
            .then_with(|| one.cmp(two))
    });
    let together = |one: &&Path, two: &&Path| match (one.steps(), two.steps()) {
        ([one @ .., Step::Name(_)], [two @ .., Step::Name(_)])
        | ([one @ .., Step::Index(_)], [two @ .., Step::Index(_)]) => one == two,
        _ => false,
    };
    for group in paths.chunk_by(together) {
        let Some(first) = group.first() else { continue };
        let lasts = group.iter().filter_map(|path| path.steps().last());
        match place(item, first)? {
            Place::Entry(map, _) => {
                for last in lasts {
                    if let Step::Name(name) = last {
                        map.remove(name);
                    }
                }
            }
            Place::Element(list, _) => {
                let mut removed = lasts
                    .filter_map(|last| match last {
                        Step::Index(index) => Some(*index as usize),
                        Step::Name(_) => None,
                    })
                    .peekable();
                let mut index = 0;
                list.retain(|_| {
                    let keep = removed.next_if_eq(&index).is_none();
                    index += 1;
                    keep
                });
            }
        }
    }
    Ok(())
}

/// Whether more than `limit` lists and maps lie inside each other. Looks no deeper than that.
fn is_deeper(value: &AttributeValue, limit: usize) -> bool {
    match (value, limit) {
        (AttributeValue::M(_) | AttributeValue::L(_), 0) => true,
        (AttributeValue::M(map), _) => map.values().any(|value| is_deeper(value, limit - 1)),
        (AttributeValue::L(list), _) => list.iter().any(|value| is_deeper(value, limit - 1)),
        _ => false,
    }
}

/// All assigned values become part of the item, so together they can't be larger than an item. Counted before they are copied: an
/// update may name a large attribute hundreds of times.
struct Budget {
    bytes: u64,
}

impl Budget {
    fn spend(&mut self, value: &AttributeValue) -> Result<(), ApiError> {
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
fn run<'a>(program: &'a [Instruction], old: &'a Item) -> Result<Cow<'a, AttributeValue>, ApiError> {
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
                let mut budget = Budget {
                    bytes: ITEM_BYTES_MAX,
                };
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
fn add(value: &AttributeValue, operand: &AttributeValue) -> Result<AttributeValue, ApiError> {
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
fn delete(
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
