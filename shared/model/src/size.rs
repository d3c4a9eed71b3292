//! Item sizes as DynamoDB counts them (developer guide, "Item sizes and formats"), in bytes. The limit on an item and the
//! capacity units of a request follow from them. Owns the rules; never measures stored bytes or JSON.

use crate::{AttributeValue, Item};

/// Largest item: 400 KB, names included. An item of exactly this size is accepted.
pub const ITEM_BYTES_MAX: u64 = 400 * 1024;

/// What a list or a map costs by itself.
pub(crate) const CONTAINER_BYTES: u64 = 3;
/// What each element of a list and each entry of a map costs beside its value (and name).
pub(crate) const ELEMENT_BYTES: u64 = 1;
/// What a null or a boolean costs.
pub(crate) const FLAG_BYTES: u64 = 1;

/// Size of a whole item, attribute names included.
pub fn item_size(item: &Item) -> u64 {
    item.iter()
        .map(|(name, value)| name.len() as u64 + value_size(value))
        .sum()
}

/// Size of one value.
pub fn value_size(value: &AttributeValue) -> u64 {
    match value {
        AttributeValue::S(text) => text.len() as u64,
        AttributeValue::N(number) => number.size_bytes(),
        AttributeValue::B(bytes) => bytes.len() as u64,
        AttributeValue::Bool(_) | AttributeValue::Null => FLAG_BYTES,
        AttributeValue::StringSet(set) => set.iter().map(|text| text.len() as u64).sum(),
        AttributeValue::NumberSet(set) => set.iter().map(|number| number.size_bytes()).sum(),
        AttributeValue::BinarySet(set) => set.iter().map(|bytes| bytes.len() as u64).sum(),
        AttributeValue::M(map) => {
            CONTAINER_BYTES + map.len() as u64 * ELEMENT_BYTES + item_size(map)
        }
        AttributeValue::L(list) => {
            let elements = list.iter().map(|value| ELEMENT_BYTES + value_size(value));
            CONTAINER_BYTES + elements.sum::<u64>()
        }
    }
}
