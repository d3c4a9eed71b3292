//! What Query and Scan share: `Select`, `Limit` and the answer.

use model::{ApiError, Item};
use protocol::item::PageReply;

use super::target::Target;
use crate::answer::{Answer, write_items};
use crate::consumed::Detail;
use crate::parameters::item;
use crate::requests::Integer;
use crate::texts;
use model::json::JsonItem;

/// Sizes of evaluated items that end a page, bytes.
pub(super) const PAGE_BYTES_MAX: u64 = 1024 * 1024;

/// Which parameter a projection came from.
pub(super) fn projection_name(legacy: bool) -> &'static str {
    if legacy {
        "AttributesToGet"
    } else {
        "ProjectionExpression"
    }
}

/// Checks `Select` against the other parameters (`projection`: the parameter that gave one); whether only counts are wanted.
pub(super) fn counts_only(
    select: Option<&str>,
    projection: Option<&str>,
    index: Option<&str>,
) -> Result<bool, ApiError> {
    match (select, projection) {
        (Some(select), Some(parameter)) if select != "SPECIFIC_ATTRIBUTES" => {
            Err(texts::select_excludes_projection(parameter, select))
        }
        (Some("SPECIFIC_ATTRIBUTES"), None) => Err(texts::select_needs_projection()),
        (Some("ALL_PROJECTED_ATTRIBUTES"), _) if index.is_none() => {
            Err(texts::select_needs_index())
        }
        (select, _) => Ok(select == Some("COUNT")),
    }
}

/// `Limit`, which was validated before.
pub(super) fn limit(parameter: Option<Integer>) -> Option<u32> {
    parameter.map(|limit| u32::try_from(limit.0).unwrap_or(u32::MAX))
}

/// `ExclusiveStartKey`, its values checked.
pub(super) fn start_key(parameter: Option<JsonItem>) -> Result<Option<Item>, ApiError> {
    if parameter.is_none() {
        return Ok(None);
    }
    item(parameter)
        .map(Some)
        .map_err(|error| texts::start_key_invalid_because(&error.message))
}

/// The answer of a page.
pub(super) fn answer(
    target: &Target,
    page: &PageReply,
    counts_only: bool,
    strong: bool,
    detail: Detail,
) -> Result<Vec<u8>, ApiError> {
    let encoded: usize = page.items.iter().map(|item| item.len()).sum();
    let mut answer = Answer::with_capacity(encoded * 2 + page.items.len() * 16 + 256);
    if !counts_only {
        write_items(
            page.items.iter().map(|item| &item[..]),
            answer.member("Items"),
        )?;
    }
    answer.number("Count", page.count);
    answer.number("ScannedCount", page.scanned_count);
    if let (Some(_), Some(key)) = (&page.last_key, &page.last_key_item) {
        answer.item("LastEvaluatedKey", key)?;
    }
    target.add_cost(&mut answer, page, strong, detail);
    Ok(answer.finish())
}
