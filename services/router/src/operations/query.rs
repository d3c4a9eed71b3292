//! Query.

use expression::{ConditionKind, KeyCondition, SortCondition, parse_key_terms};
use model::key::{self, SortBound};
use model::{ApiError, EncodedKey, IndexId, Item, KeyRange, TableDefinition};
use protocol::item::{Page, PageReply};

use super::{pages, usable_table};
use crate::backend::{Backend, Context};
use crate::constraints::{Constraints, owned_table_of};
use crate::consumed::Detail;
use crate::legacy;
use crate::parameters::{self, Unchecked};
use crate::requests::Query;
use crate::texts;

/// The base table.
const BASE: IndexId = IndexId(0);

pub(super) async fn execute<B: Backend>(
    request: Query,
    backend: &B,
    context: &Context,
) -> Result<Vec<u8>, ApiError> {
    let mut constraints = Constraints::default();
    constraints.return_consumed_capacity(request.return_consumed_capacity.as_deref());
    constraints.table_name(request.table_name.as_deref());
    constraints.index_name(request.index_name.as_deref());
    constraints.select(request.select.as_deref());
    constraints.between("limit", request.limit.map(|limit| limit.0), 1, i64::MAX);
    constraints.attributes_to_get("attributesToGet", &request.attributes_to_get);
    constraints.conditions("keyConditions", &request.key_conditions);
    constraints.conditions("queryFilter", &request.query_filter);
    constraints.conditional_operator(request.conditional_operator.as_deref());
    constraints.finish()?;

    let key_condition = request.key_condition_expression;
    let filter = request.filter_expression;
    let projection = request.projection_expression;
    let placeholders = Unchecked::new(
        request.expression_attribute_names,
        request.expression_attribute_values,
        &[
            ("AttributesToGet", request.attributes_to_get.is_some()),
            ("QueryFilter", request.query_filter.is_some()),
            (
                "ConditionalOperator",
                request.conditional_operator.is_some(),
            ),
            ("KeyConditions", request.key_conditions.is_some()),
        ],
        &[
            ("ProjectionExpression", projection.is_some()),
            ("FilterExpression", filter.is_some()),
            ("KeyConditionExpression", key_condition.is_some()),
        ],
    )?;
    let start = pages::start_key(request.exclusive_start_key)?;
    let mut placeholders = placeholders.check()?;
    let terms = match key_condition {
        Some(text) => Some(parse_key_terms(&text, &mut placeholders)?),
        None => None,
    };
    let filter =
        parameters::condition(ConditionKind::Filter, filter.as_deref(), &mut placeholders)?;
    let projection = parameters::projection(projection.as_deref(), &mut placeholders)?;
    placeholders.finish()?;
    let terms = match terms {
        None => legacy::key_conditions(request.key_conditions)?,
        terms => terms,
    };
    let (filter, legacy_filter) = match filter {
        None => {
            let operator = request.conditional_operator.as_deref();
            (legacy::filter(request.query_filter, operator)?, true)
        }
        filter => (filter, false),
    };
    let named = projection.is_none() && request.attributes_to_get.is_some();
    let projection = match projection {
        None => legacy::projection(request.attributes_to_get)?,
        projection => projection,
    };
    let terms = terms.ok_or_else(texts::no_key_condition)?;
    let counts_only = pages::counts_only(
        request.select.as_deref(),
        projection.as_ref().map(|_| pages::projection_name(named)),
        request.index_name.as_deref(),
    )?;

    let name = owned_table_of(request.table_name.unwrap_or_default());
    let table = usable_table(backend, &name, context).await?;
    if let Some(index) = &request.index_name {
        return Err(texts::no_such_index(index));
    }
    if let Some(start) = &start {
        check_start_attributes(&table, start)?;
    }
    let condition = terms.resolve(&table.keys)?;
    let range = range(&table, &condition)?;
    let after = match &start {
        Some(start) => Some(start_behind(&table, &condition, &range, start)?),
        None => None,
    };
    parameters::check_key_paths(&table, None, projection.as_ref())?;
    if let Some(filter) = &filter {
        if legacy_filter {
            filter.check_legacy_filter_keys(&table.keys)?;
        } else {
            filter.check_filter_keys(&table.keys)?;
        }
    }

    let strong = request.consistent_read.unwrap_or(false);
    let page = if range.is_empty() {
        PageReply::default()
    } else {
        let page = Page {
            range,
            after,
            reverse: !request.scan_index_forward.unwrap_or(true),
            strong,
            limit: pages::limit(request.limit),
            bytes_max: pages::PAGE_BYTES_MAX,
            filter,
            projection,
            count_only: counts_only,
            believed: None,
            name_last: false,
        };
        backend.page(&table, page, context).await?
    };
    let detail = Detail::of(request.return_consumed_capacity.as_deref());
    pages::answer(&table.name, &page, counts_only, strong, detail)
}

/// The keys that satisfy a condition.
pub(super) fn range(
    table: &TableDefinition,
    condition: &KeyCondition,
) -> Result<KeyRange, ApiError> {
    let bound = match &condition.sort {
        None => return key::collection_range(table.id, BASE, &condition.partition),
        Some(SortCondition::Equal(value)) => SortBound::Equal(value),
        Some(SortCondition::Less(value)) => SortBound::Less(value),
        Some(SortCondition::LessOrEqual(value)) => SortBound::LessOrEqual(value),
        Some(SortCondition::Greater(value)) => SortBound::Greater(value),
        Some(SortCondition::GreaterOrEqual(value)) => SortBound::GreaterOrEqual(value),
        Some(SortCondition::Between(low, high)) => SortBound::Between(low, high),
        Some(SortCondition::BeginsWith(value)) => SortBound::BeginsWith(value),
    };
    key::sort_range(table.id, BASE, &condition.partition, bound)
}

/// A starting key must have the key attributes and nothing else.
fn check_start_attributes(table: &TableDefinition, start: &Item) -> Result<(), ApiError> {
    let keys = &table.keys;
    let wanted = 1 + usize::from(keys.sort.is_some());
    let complete = start.contains_key(&keys.partition.name)
        && keys
            .sort
            .as_ref()
            .is_none_or(|sort| start.contains_key(&sort.name));
    if start.len() == wanted && complete {
        Ok(())
    } else {
        Err(texts::start_key_invalid())
    }
}

/// The encoded starting key, which must satisfy the condition.
fn start_behind(
    table: &TableDefinition,
    condition: &KeyCondition,
    range: &KeyRange,
    start: &Item,
) -> Result<EncodedKey, ApiError> {
    let after = key::key_from_key(table, start)?;
    if range.contains(&after) {
        return Ok(after);
    }
    if condition.sort.is_none() {
        return Err(texts::start_key_outside());
    }
    // which of the two halves is wrong?
    let sort = table
        .keys
        .sort
        .as_ref()
        .and_then(|sort| start.get(&sort.name));
    let in_collection = key::encode_key(table.id, BASE, &condition.partition, sort)?;
    if range.contains(&in_collection) {
        Err(texts::start_key_of_other_collection())
    } else {
        Err(texts::start_key_against_range())
    }
}
