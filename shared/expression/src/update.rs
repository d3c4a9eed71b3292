//! Update expressions.

use model::{ApiError, Item, table::KeySchema};
use serde::{Deserialize, Serialize};

use crate::Placeholders;

/// A resolved update expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Update {}

/// Parses, resolves and statically checks an update.
pub fn parse_update(_text: &str, _placeholders: &mut Placeholders) -> Result<Update, ApiError> {
    todo!()
}

impl Update {
    /// Refuses updates of key attributes ("Cannot update attribute pk. This attribute is part of the key").
    pub fn check_keys(&self, _keys: &KeySchema) -> Result<(), ApiError> {
        todo!()
    }

    /// The item after the update. `old` is the item as it is, or the item of key attributes when there is none. Does not check the
    /// 400 KB limit.
    pub fn apply(&self, _old: &Item) -> Result<Updated, ApiError> {
        todo!()
    }
}

/// What an update made of an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Updated {
    /// The item after the update.
    pub item: Item,
}

impl Updated {
    /// `ReturnValues: UPDATED_OLD`: the touched paths as they were in `old` (empty when the item did not exist).
    pub fn updated_old(&self, _old: &Item) -> Item {
        todo!()
    }

    /// `ReturnValues: UPDATED_NEW`: the touched paths as they are now.
    pub fn updated_new(&self) -> Item {
        todo!()
    }
}
