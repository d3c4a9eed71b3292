//! Query.

use expression::{ConditionKind, parse_key_terms};
use model::ApiError;
use protocol::item::{Page, PageReply};

use super::target::{Named, Target};
use super::{pages, usable_table};
use crate::backend::{Backend, Context};
use crate::constraints::{Constraints, owned_table_of};
use crate::consumed::Detail;
use crate::legacy;
use crate::parameters::{self, Unchecked};
use crate::requests::Query;
use crate::texts;

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
    let strong = request.consistent_read.unwrap_or(false);
    let index = request.index_name.as_deref();
    let target = Target::of(table, (index, Named::InRequest), strong, backend, context).await?;
    if let Some(start) = &start {
        target.check_start_attributes(start)?;
    }
    let condition = target.resolve(terms)?;
    let range = target.range(&condition)?;
    let after = match &start {
        Some(start) => Some(target.start_within(start, &condition, &range)?),
        None => None,
    };
    parameters::check_key_paths(&target.table, None, projection.as_ref())?;
    if let Some(filter) = &filter {
        target.check_filter(filter, legacy_filter)?;
    }
    let select = request.select.as_deref();
    let fetch = target.fetch(select, projection.as_ref(), filter.as_ref())?;

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
            index: target.local(),
            fetch,
        };
        backend.page(&target.asked, page, context).await?
    };
    let detail = Detail::of(request.return_consumed_capacity.as_deref());
    pages::answer(&target, &page, counts_only, strong, detail)
}
