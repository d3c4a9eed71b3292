//! Projections: which part of an item an answer holds.

use model::{ApiError, Item};
use serde::{Deserialize, Serialize};

use crate::{Path, Placeholders};

/// A resolved projection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Projection {
    /// Paths, none a prefix of another.
    pub paths: Vec<Path>,
}

/// Parses, resolves and statically checks a projection.
pub fn parse_projection(_text: &str, _placeholders: &mut Placeholders) -> Result<Projection, ApiError> {
    todo!()
}

impl Projection {
    /// A projection on top-level attributes (`AttributesToGet`).
    pub fn of_attributes(_names: impl IntoIterator<Item = String>) -> Self {
        todo!()
    }

    /// The part of `item` that the paths name; elements of lists move together.
    pub fn apply(&self, _item: &Item) -> Item {
        todo!()
    }
}
