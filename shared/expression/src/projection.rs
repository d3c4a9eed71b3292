//! Projections: which part of an item an answer holds.

use std::collections::BTreeMap;

use model::table::KeySchema;
use model::{ApiError, AttributeValue, Item};
use serde::{Deserialize, Serialize};

use crate::condition::check_key_path;
use crate::parser;
use crate::path::{Path, Step, check_disjoint};
use crate::placeholders::Placeholders;
use crate::resolver::Resolver;
use crate::texts::Parameter;

/// A resolved projection: paths, none inside another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<Path>", into = "Vec<Path>")]
pub struct Projection {
    /// Sorted, so that what one list or map gives stands together.
    paths: Vec<Path>,
}

/// Parses, resolves and statically checks a projection.
pub fn parse_projection(
    text: &str,
    placeholders: &mut Placeholders,
) -> Result<Projection, ApiError> {
    let (syntax, operands) = parser::parse_projection(text)?;
    let mut resolver = Resolver::new(&syntax, placeholders);
    resolver.check_mentions()?;
    resolver.check_names()?;
    let mut paths = Vec::with_capacity(operands.len());
    for operand in operands {
        paths.extend(resolver.path(operand)?);
    }
    check_disjoint(Parameter::Projection, &paths.iter().collect::<Vec<_>>())?;
    Ok(Projection::from(paths))
}

impl From<Vec<Path>> for Projection {
    fn from(mut paths: Vec<Path>) -> Self {
        paths.sort_unstable();
        Self { paths }
    }
}

impl From<Projection> for Vec<Path> {
    fn from(projection: Projection) -> Self {
        projection.paths
    }
}

impl Projection {
    /// A projection on top-level attributes (`AttributesToGet`).
    pub fn of_attributes(names: impl IntoIterator<Item = String>) -> Self {
        Self::from(names.into_iter().map(Path::attribute).collect::<Vec<_>>())
    }

    /// The paths, sorted.
    pub fn paths(&self) -> &[Path] {
        &self.paths
    }

    /// Refuses paths that go into a key attribute.
    pub fn check_key_paths(&self, keys: &KeySchema) -> Result<(), ApiError> {
        self.paths
            .iter()
            .try_for_each(|path| check_key_path(path, keys))
    }

    /// The part of `item` that the paths name; elements of lists move together.
    pub fn apply(&self, item: &Item) -> Item {
        let paths: Vec<&[Step]> = self.paths.iter().map(Path::steps).collect();
        project_map(item, &paths)
    }
}

/// The part of `item` that the sorted `paths` name.
pub(crate) fn project(item: &Item, mut paths: Vec<&Path>) -> Item {
    paths.sort_unstable();
    let paths: Vec<&[Step]> = paths.into_iter().map(Path::steps).collect();
    project_map(item, &paths)
}

fn project_map(map: &Item, paths: &[&[Step]]) -> Item {
    let mut projected = BTreeMap::new();
    for (step, rests) in by_first_step(paths) {
        if let Step::Name(name) = step
            && let Some(value) = map.get(name)
            && let Some(value) = project_value(value, &rests)
        {
            projected.insert(name.clone(), value);
        }
    }
    projected
}

/// As deep as the longest path, which is bounded.
fn project_value(value: &AttributeValue, paths: &[&[Step]]) -> Option<AttributeValue> {
    if paths.iter().any(|path| path.is_empty()) {
        return Some(value.clone());
    }
    match value {
        AttributeValue::M(map) => {
            let projected = project_map(map, paths);
            (!projected.is_empty()).then_some(AttributeValue::M(projected))
        }
        AttributeValue::L(list) => {
            let projected: Vec<_> = by_first_step(paths)
                .into_iter()
                .filter_map(|(step, rests)| match step {
                    Step::Index(index) => project_value(list.get(*index as usize)?, &rests),
                    Step::Name(_) => None,
                })
                .collect();
            (!projected.is_empty()).then_some(AttributeValue::L(projected))
        }
        _ => None,
    }
}

/// Sorted paths by their first step; what is left of each path behind it.
fn by_first_step<'p>(paths: &[&'p [Step]]) -> Vec<(&'p Step, Vec<&'p [Step]>)> {
    let mut groups: Vec<(&Step, Vec<&[Step]>)> = Vec::with_capacity(paths.len());
    for path in paths {
        let Some((step, rest)) = path.split_first() else {
            continue;
        };
        match groups.last_mut() {
            Some((last, rests)) if *last == step => rests.push(rest),
            _ => groups.push((step, vec![rest])),
        }
    }
    groups
}
