//! `AttributeUpdates`: one action an attribute.

use std::collections::BTreeMap;

use model::{ApiError, AttributeValue};

use crate::path::Path;
use crate::texts::legacy as texts;
use crate::update::Update;

/// `Action` of an attribute's update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum UpdateAction {
    #[default]
    Put,
    Add,
    Delete,
}

impl UpdateAction {
    /// All names, in the order in which the service lists them.
    pub const NAMES: [&str; 3] = ["ADD", "PUT", "DELETE"];

    /// From its name in the API.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "PUT" => Self::Put,
            "ADD" => Self::Add,
            "DELETE" => Self::Delete,
            _ => return None,
        })
    }
}

/// One element of `AttributeUpdates`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttributeUpdate {
    /// `Action`.
    pub action: UpdateAction,
    /// `Value`.
    pub value: Option<AttributeValue>,
}

/// The update that `AttributeUpdates` stands for; none if it is empty.
pub fn legacy_update(
    updates: BTreeMap<String, AttributeUpdate>,
) -> Result<Option<Update>, ApiError> {
    for update in updates.values() {
        let Some(value) = &update.value else {
            if update.action == UpdateAction::Delete {
                continue;
            }
            return Err(texts::only_delete_without_value());
        };
        let is_set = matches!(
            value,
            AttributeValue::StringSet(_)
                | AttributeValue::NumberSet(_)
                | AttributeValue::BinarySet(_)
        );
        // ADD to a list is not documented, but done: it appends.
        let is_addable = is_set || matches!(value, AttributeValue::N(_) | AttributeValue::L(_));
        match update.action {
            UpdateAction::Delete if !is_set => {
                return Err(texts::delete_type(value.type_name()));
            }
            UpdateAction::Add if !is_addable => {
                return Err(texts::add_type(value.type_name()));
            }
            _ => {}
        }
    }
    if updates.is_empty() {
        return Ok(None);
    }
    let mut update = Update::empty_legacy();
    for (name, AttributeUpdate { action, value }) in updates {
        let path = Path::attribute(name);
        match (action, value) {
            (_, None) => update.remove(path),
            (UpdateAction::Put, Some(value)) => update.set(path, value),
            (UpdateAction::Add, Some(AttributeValue::L(list))) => update.append(path, list),
            (UpdateAction::Add, Some(value)) => update.add(path, value),
            (UpdateAction::Delete, Some(value)) => update.delete(path, value),
        }
    }
    Ok(Some(update))
}
