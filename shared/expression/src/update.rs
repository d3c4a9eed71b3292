//! Update expressions: static checks, the resolved form, and their application to an item. Owns what an update does to a document;
//! sizes are checked by the caller.

mod computation;
mod document;

use model::table::KeySchema;
use model::{ApiError, AttributeValue, Item};
use serde::{Deserialize, Serialize};

pub(crate) use self::computation::Instruction;
use self::computation::{Budget, Computations, add, delete, run};
use self::document::{Place, is_deeper, place, remove_all};
use crate::condition::key_names;
use crate::lexer::Kind;
use crate::parser;
use crate::path::{Path, check_disjoint};
use crate::placeholders::Placeholders;
use crate::projection::project;
use crate::resolver::Resolver;
use crate::texts::{self, Parameter};

/// Most lists and maps around a value.
const NESTING_MAX: usize = 32;

/// A resolved update expression: actions on paths of which none lies inside another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Update {
    #[serde(rename = "a")]
    actions: Vec<Action>,
    /// It comes from `AttributeUpdates`, whose errors have a wording of their own.
    #[serde(rename = "l", default, skip_serializing_if = "std::ops::Not::not")]
    legacy: bool,
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
    Ok(Update {
        actions,
        legacy: false,
    })
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
    /// An update of `AttributeUpdates`, to be filled.
    pub(crate) fn empty_legacy() -> Self {
        Self {
            actions: Vec::new(),
            legacy: true,
        }
    }

    /// An update that is to be filled.
    pub(crate) fn empty() -> Self {
        Self {
            actions: Vec::new(),
            legacy: false,
        }
    }

    /// What it changes.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.actions.iter().map(Action::path)
    }

    /// Sets what a program leaves on its stack.
    pub(crate) fn compute(&mut self, path: Path, program: Vec<Instruction>) {
        self.actions.push(Action::Set(path, program));
    }

    pub(crate) fn set(&mut self, path: Path, value: AttributeValue) {
        let program = vec![Instruction::Value(value)];
        self.actions.push(Action::Set(path, program));
    }

    pub(crate) fn remove(&mut self, path: Path) {
        self.actions.push(Action::Remove(path));
    }

    pub(crate) fn add(&mut self, path: Path, value: AttributeValue) {
        self.actions.push(Action::Add(path, value));
    }

    pub(crate) fn delete(&mut self, path: Path, value: AttributeValue) {
        self.actions.push(Action::Delete(path, value));
    }

    /// Appends to a list, which is made where there is none.
    pub(crate) fn append(&mut self, path: Path, list: Vec<AttributeValue>) {
        let program = vec![
            Instruction::IfExists(path.clone(), 1),
            Instruction::Value(AttributeValue::L(Vec::new())),
            Instruction::Value(AttributeValue::L(list)),
            Instruction::ListAppend,
        ];
        self.actions.push(Action::Set(path, program));
    }

    /// Refuses updates of key attributes ("Cannot update attribute pk. This attribute is part of the key").
    pub fn check_keys(&self, keys: &KeySchema) -> Result<(), ApiError> {
        for action in &self.actions {
            if let Some(key) = key_names(keys).find(|key| *key == action.path().head()) {
                return Err(ApiError::validation(texts::key_update(key)));
            }
        }
        Ok(())
    }

    /// The attributes that it sets to values of the request, as those are.
    pub fn set_values(&self) -> impl Iterator<Item = (&str, &AttributeValue)> {
        self.actions.iter().filter_map(|action| match action {
            Action::Set(path, program) if !path.is_nested() => match program.as_slice() {
                [Instruction::Value(value)] => Some((path.head(), value)),
                _ => None,
            },
            _ => None,
        })
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
        self.apply_expression(old).map_err(|error| {
            if self.legacy && error.message == texts::WRONG_DATA_TYPE {
                ApiError::validation(texts::legacy::TYPE_MISMATCH)
            } else {
                error
            }
        })
    }

    fn apply_expression(&self, old: &Item) -> Result<Updated<'_>, ApiError> {
        let mut assignments = Vec::with_capacity(self.actions.len());
        let mut removals = Vec::new();
        let mut budget = Budget::of_item();
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
