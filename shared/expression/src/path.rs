//! Document paths: what they are, how they print, what they find in an item. Never changes an item.

use std::cmp::Ordering;
use std::fmt;

use model::{AttributeValue, Item};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::texts::{self, Parameter};

/// Most steps that a path can have.
pub const STEPS_MAX: usize = 32;

/// A document path: an attribute name, then `.name` and `[index]` steps, at most 32 in all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Vec<Step>", into = "Vec<Step>")]
pub struct Path(Vec<Step>);

/// One step of a path; the first is always a name. Names order before indexes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Attribute or map entry.
    Name(String),
    /// List element.
    Index(u32),
}

/// The steps are no path: none, too many, or the first is an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPath;

impl fmt::Display for NoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a document path of 1 to 32 steps that starts with a name")
    }
}

impl TryFrom<Vec<Step>> for Path {
    type Error = NoPath;

    fn try_from(steps: Vec<Step>) -> Result<Self, NoPath> {
        match steps.first() {
            Some(Step::Name(_)) if steps.len() <= STEPS_MAX => Ok(Self(steps)),
            _ => Err(NoPath),
        }
    }
}

impl From<Path> for Vec<Step> {
    fn from(path: Path) -> Self {
        path.0
    }
}

impl Path {
    /// The path of a top-level attribute.
    pub fn attribute(name: impl Into<String>) -> Self {
        Self(vec![Step::Name(name.into())])
    }

    /// The steps, at least one.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Name of the top-level attribute.
    pub fn head(&self) -> &str {
        match self.0.first() {
            Some(Step::Name(name)) => name,
            _ => "",
        }
    }

    /// Whether it goes into a document.
    pub fn is_nested(&self) -> bool {
        self.0.len() > 1
    }

    /// What it names in `item`, if that exists.
    pub fn find<'i>(&self, item: &'i Item) -> Option<&'i AttributeValue> {
        let (first, rest) = self.0.split_first()?;
        let Step::Name(name) = first else { return None };
        let mut value = item.get(name)?;
        for step in rest {
            value = match (value, step) {
                (AttributeValue::M(map), Step::Name(name)) => map.get(name)?,
                (AttributeValue::L(list), Step::Index(index)) => list.get(*index as usize)?,
                _ => return None,
            };
        }
        Some(value)
    }
}

/// As DynamoDB prints paths: `[a, b, [1]]`.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (at, step) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            match step {
                Step::Name(name) => f.write_str(name)?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        f.write_str("]")
    }
}

/// Steps travel as plain strings and integers, to keep messages small.
impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Name(name) => serializer.serialize_str(name),
            Self::Index(index) => serializer.serialize_u32(*index),
        }
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StepVisitor;

        impl Visitor<'_> for StepVisitor {
            type Value = Step;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or a list index")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Step, E> {
                Ok(Step::Name(name.to_owned()))
            }

            fn visit_string<E: Error>(self, name: String) -> Result<Step, E> {
                Ok(Step::Name(name))
            }

            fn visit_u64<E: Error>(self, index: u64) -> Result<Step, E> {
                u32::try_from(index)
                    .map(Step::Index)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(index), &self))
            }
        }

        deserializer.deserialize_any(StepVisitor)
    }
}

/// Refuses paths of which one lies inside the other, or that use the same attribute as a map and as a list.
pub(crate) fn check_disjoint(parameter: Parameter, paths: &[&Path]) -> Result<(), model::ApiError> {
    // In order, a path and what lies inside it are neighbours, and so are the last `.name` and the first `[index]` below one prefix.
    let mut sorted = paths.to_vec();
    sorted.sort_unstable();
    if sorted
        .windows(2)
        .all(|pair| relation(pair[0], pair[1]) == Relation::Disjoint)
    {
        return Ok(());
    }
    // Something is wrong: now find what DynamoDB would name, the first overlap in order of writing, or else the first conflict.
    let mut conflict = None;
    for (at, two) in paths.iter().enumerate() {
        for one in &paths[..at] {
            match relation(one, two) {
                Relation::Overlap => return Err(parameter.invalid(texts::paths_overlap(one, two))),
                Relation::Conflict if conflict.is_none() => conflict = Some((one, two)),
                _ => {}
            }
        }
    }
    match conflict {
        Some((one, two)) => Err(parameter.invalid(texts::paths_conflict(one, two))),
        None => Ok(()),
    }
}

#[derive(PartialEq, Eq)]
enum Relation {
    Disjoint,
    Overlap,
    Conflict,
}

fn relation(one: &Path, two: &Path) -> Relation {
    for (left, right) in one.0.iter().zip(&two.0) {
        match (left, right) {
            (Step::Name(_), Step::Index(_)) | (Step::Index(_), Step::Name(_)) => {
                return Relation::Conflict;
            }
            _ if left.cmp(right) != Ordering::Equal => return Relation::Disjoint,
            _ => {}
        }
    }
    Relation::Overlap
}
