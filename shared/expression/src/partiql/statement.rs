//! Statements, and what they mean for a table with certain keys: which keys they read or write, and what remains as a condition.

use model::index::IndexKeys;
use model::table::KeySchema;
use model::{ApiError, Item};

use super::clause::{Clause, all, equals};
use super::texts;
use crate::condition::{Condition, Test};
use crate::key_condition::{KeyTerms, SortCondition, key_term};
use crate::path::Path;
use crate::projection::Projection;
use crate::update;

/// Most item collections that one statement reads (values of a partition key in one IN).
const PARTITIONS_MAX: usize = 50;

/// Conditions on key attributes.
type Terms = Vec<(String, SortCondition)>;

/// A statement.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Statement {
    Select(Select),
    Insert(Insert),
    Update(Update),
    Delete(Delete),
    /// Of a transaction only.
    Exists(Exists),
}

impl Statement {
    /// What it reads or writes.
    pub fn target(&self) -> &Target {
        match self {
            Self::Select(select) => &select.target,
            Self::Insert(insert) => &insert.target,
            Self::Update(update) => &update.target,
            Self::Delete(delete) => &delete.target,
            Self::Exists(exists) => exists.target(),
        }
    }

    /// Whether it only reads.
    pub fn is_read(&self) -> bool {
        matches!(self, Self::Select(_))
    }
}

/// `"table"."index"`.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Name or ARN of the table.
    pub table: String,
    /// Name of an index.
    pub index: Option<String>,
}

/// SELECT.
#[derive(Clone, Debug, PartialEq)]
pub struct Select {
    /// What is read.
    pub target: Target,
    /// None for `*`.
    pub projection: Option<Projection>,
    pub(super) clause: Option<Clause>,
    /// Names, and whether they are in descending order.
    pub(super) order: Vec<(String, bool)>,
}

/// INSERT.
#[derive(Clone, Debug, PartialEq)]
pub struct Insert {
    /// What is written.
    pub target: Target,
    /// The new item.
    pub item: Item,
}

/// UPDATE.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// What is written.
    pub target: Target,
    /// What is done to the item.
    pub update: update::Update,
    pub(super) clause: Clause,
    /// RETURNING.
    pub returning: Option<WriteReturn>,
}

/// DELETE.
#[derive(Clone, Debug, PartialEq)]
pub struct Delete {
    /// What is written.
    pub target: Target,
    pub(super) clause: Clause,
    /// RETURNING.
    pub returning: Option<WriteReturn>,
}

/// `EXISTS(SELECT …)`: there is an item with this key, and it satisfies the condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Exists {
    pub(super) select: Select,
}

/// RETURNING of UPDATE and DELETE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum WriteReturn {
    AllOld,
    AllNew,
    ModifiedOld,
    ModifiedNew,
}

impl WriteReturn {
    /// As statements say it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::AllOld => "ALL OLD",
            Self::AllNew => "ALL NEW",
            Self::ModifiedOld => "MODIFIED OLD",
            Self::ModifiedNew => "MODIFIED NEW",
        }
    }
}

/// How a SELECT reads its table or index.
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// The item collections to read, one after another; none: everything is scanned.
    pub collections: Option<Vec<KeyTerms>>,
    /// Condition on what is read.
    pub filter: Option<Condition>,
    /// Descending order.
    pub reverse: bool,
}

/// Which item a write changes, and under what condition.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyedWrite {
    /// The key attributes.
    pub key: Item,
    /// Must hold for the item as it is.
    pub condition: Option<Condition>,
}

impl Select {
    /// How to read a table or index with these keys.
    pub fn access(&self, keys: &IndexKeys) -> Result<Access, ApiError> {
        let is_key = |name: &str| keys.all().any(|(key, _)| key.name == name);
        if let Some((other, _)) = self.order.iter().find(|(name, _)| !is_key(name)) {
            return Err(texts::order_by_other(other));
        }
        let scan = |filter| Access {
            collections: None,
            filter,
            reverse: false,
        };
        let Some(clause) = self.clause.clone() else {
            if self.order.is_empty() {
                return Ok(scan(None));
            }
            return Err(texts::order_without_where());
        };
        let mut rest = clause.conjuncts();
        let Some(partitions) = self.partitions(keys, &mut rest)? else {
            if !self.order.is_empty() {
                return Err(texts::order_without_partition());
            }
            return Ok(scan(all(rest)));
        };
        let sort = sort_terms(keys, &mut rest);
        let reverse = self.is_reverse(keys, &sort)?;
        let mut collections: Vec<KeyTerms> = Vec::with_capacity(partitions.len());
        for mut terms in partitions {
            terms.extend(sort.iter().cloned());
            let collection = KeyTerms::of_terms(terms);
            // Each item is answered once.
            if !collections.contains(&collection) {
                collections.push(collection);
            }
        }
        Ok(Access {
            collections: Some(collections),
            filter: all(rest),
            reverse,
        })
    }

    /// Whether item collections are to be read backwards. `sort`: the conditions on the sort key. Collections are in the order of all of its
    /// attributes; those that are fixed say nothing.
    fn is_reverse(&self, keys: &IndexKeys, sort: &Terms) -> Result<bool, ApiError> {
        let is_fixed = |wanted: &str| {
            let mut fixed = sort.iter();
            fixed.any(|(name, is)| name == wanted && matches!(is, SortCondition::Equal(_)))
        };
        let names = keys.sort.iter().map(|key| key.name.as_str());
        let open: Vec<&str> = names.filter(|name| !is_fixed(name)).collect();
        let asked = self.order.iter().map(|(name, down)| (name.as_str(), *down));
        let asked: Vec<(&str, bool)> = asked.filter(|(name, _)| open.contains(name)).collect();
        let reverse = asked.first().is_some_and(|(_, down)| *down);
        let is_theirs = asked.len() <= open.len()
            && asked.iter().zip(&open).all(|(one, name)| one.0 == *name)
            && asked.iter().all(|(_, down)| *down == reverse);
        match is_theirs {
            true => Ok(reverse),
            false => Err(texts::order_of_no_index()),
        }
    }

    /// Whether a name stands in ORDER BY, descending.
    fn descends(&self, wanted: &str) -> bool {
        let found = self.order.iter().find(|(name, _)| name == wanted);
        found.is_some_and(|(_, descending)| *descending)
    }

    /// Takes out the equalities on all attributes of the partition key: the combinations of their values, in the order in which they are to be
    /// read. None if there is one without.
    fn partitions(
        &self,
        keys: &IndexKeys,
        rest: &mut Vec<Clause>,
    ) -> Result<Option<Vec<Terms>>, ApiError> {
        let without = |name: &str| !rest.iter().any(|clause| equals(clause, name).is_some());
        if keys.partition.iter().any(|key| without(&key.name)) {
            return Ok(None);
        }
        let mut combinations: Vec<Terms> = vec![Vec::new()];
        for key in &keys.partition {
            let mut values = take(rest, |clause| equals(clause, &key.name)).unwrap_or_default();
            if combinations.len().saturating_mul(values.len()) > PARTITIONS_MAX {
                return Err(texts::too_many_in(PARTITIONS_MAX));
            }
            if self.order.iter().any(|(name, _)| *name == key.name) {
                values.sort_by(|one, other| {
                    crate::operand::order(one, other).unwrap_or(std::cmp::Ordering::Equal)
                });
                if self.descends(&key.name) {
                    values.reverse();
                }
            }
            combinations = combinations
                .iter()
                .flat_map(|terms| {
                    values.iter().map(|value| {
                        let mut terms = terms.clone();
                        terms.push((key.name.clone(), SortCondition::Equal(value.clone())));
                        terms
                    })
                })
                .collect();
        }
        Ok(Some(combinations))
    }

    /// The one item that it reads, if its condition is equality on the whole key and nothing else is done.
    pub fn single_key(&self, keys: &KeySchema) -> Result<KeyedWrite, ApiError> {
        let clause = self.clause.clone().ok_or_else(texts::key_not_given)?;
        let (key, rest) = key_of(clause, keys)?;
        Ok(KeyedWrite {
            key,
            condition: all(rest),
        })
    }
}

impl Insert {
    /// There must be no such item yet.
    pub fn condition(keys: &KeySchema) -> Option<Condition> {
        all(vec![Clause::Test(Test::NotExists(partition_path(keys)))])
    }
}

impl Update {
    /// The item, which must be there.
    pub fn keyed(&self, keys: &KeySchema) -> Result<KeyedWrite, ApiError> {
        let (key, mut rest) = key_of(self.clause.clone(), keys)?;
        rest.insert(0, Clause::Test(Test::Exists(partition_path(keys))));
        Ok(KeyedWrite {
            key,
            condition: all(rest),
        })
    }
}

impl Exists {
    /// What it reads.
    pub fn target(&self) -> &Target {
        &self.select.target
    }

    /// The item, which must be there. The documentation wants a condition beside those on its key.
    pub fn keyed(&self, keys: &KeySchema) -> Result<KeyedWrite, ApiError> {
        let clause = self
            .select
            .clause
            .clone()
            .ok_or_else(texts::key_not_given)?;
        let (key, mut rest) = key_of(clause, keys)?;
        if rest.is_empty() {
            return Err(texts::exists_without_condition());
        }
        rest.insert(0, Clause::Test(Test::Exists(partition_path(keys))));
        Ok(KeyedWrite {
            key,
            condition: all(rest),
        })
    }
}

impl Delete {
    /// The item; that there is none is no failure.
    pub fn keyed(&self, keys: &KeySchema) -> Result<KeyedWrite, ApiError> {
        let (key, rest) = key_of(self.clause.clone(), keys)?;
        let condition = if rest.is_empty() {
            None
        } else {
            let absent = Clause::Test(Test::NotExists(partition_path(keys)));
            all(vec![Clause::Or(vec![absent, Clause::And(rest)])])
        };
        Ok(KeyedWrite { key, condition })
    }
}

fn partition_path(keys: &KeySchema) -> Path {
    Path::attribute(keys.partition.name.clone())
}

/// Equality on all key attributes, and the clauses that remain.
fn key_of(clause: Clause, keys: &KeySchema) -> Result<(Item, Vec<Clause>), ApiError> {
    let mut rest = clause.conjuncts();
    let mut key = Item::new();
    for attribute in std::iter::once(&keys.partition).chain(&keys.sort) {
        let value = take(&mut rest, |clause| {
            let mut values = equals(clause, &attribute.name)?;
            (values.len() == 1).then(|| values.pop()).flatten()
        });
        let value = value.ok_or_else(texts::key_not_given)?;
        key.insert(attribute.name.clone(), value);
    }
    Ok((key, rest))
}

/// Takes out the conditions on the attributes of the sort key, from the first one on: equalities, and then at most one other.
fn sort_terms(keys: &IndexKeys, rest: &mut Vec<Clause>) -> Terms {
    let mut terms = Terms::new();
    for key in &keys.sort {
        let Some(condition) = take(rest, |clause| sort_condition(clause, &key.name)) else {
            break;
        };
        let last = !matches!(condition, SortCondition::Equal(_));
        terms.push((key.name.clone(), condition));
        if last {
            break;
        }
    }
    terms
}

fn sort_condition(clause: &Clause, attribute: &str) -> Option<SortCondition> {
    let Clause::Test(test) = clause else {
        return None;
    };
    let (path, condition) = key_term(test.clone())?;
    (!path.is_nested() && path.head() == attribute).then_some(condition)
}

/// Takes out the first clause that gives something.
fn take<T>(clauses: &mut Vec<Clause>, wanted: impl Fn(&Clause) -> Option<T>) -> Option<T> {
    let (at, found) = clauses
        .iter()
        .enumerate()
        .find_map(|(at, clause)| Some((at, wanted(clause)?)))?;
    clauses.remove(at);
    Some(found)
}
