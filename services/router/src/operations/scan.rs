//! Scan.

use expression::ConditionKind;
use model::key;
use model::{ApiError, IndexId};
use protocol::item::Page;

use super::target::{Named, Target};
use super::{pages, usable_table};
use crate::backend::{Backend, Context};
use crate::constraints::{Constraints, owned_table_of};
use crate::consumed::Detail;
use crate::legacy;
use crate::parameters::{self, Unchecked};
use crate::requests::Scan;
use crate::texts;

/// Most segments of a parallel scan.
const SEGMENTS_MAX: i64 = 1_000_000;

pub(super) async fn execute<B: Backend>(
    request: Scan,
    backend: &B,
    context: &Context,
) -> Result<Vec<u8>, ApiError> {
    let segment = request.segment.map(|segment| segment.0);
    let total = request.total_segments.map(|total| total.0);
    let mut constraints = Constraints::default();
    constraints.return_consumed_capacity(request.return_consumed_capacity.as_deref());
    constraints.table_name(request.table_name.as_deref());
    constraints.index_name(request.index_name.as_deref());
    constraints.select(request.select.as_deref());
    constraints.between("limit", request.limit.map(|limit| limit.0), 1, i64::MAX);
    constraints.between("segment", segment, 0, SEGMENTS_MAX - 1);
    constraints.between("totalSegments", total, 1, SEGMENTS_MAX);
    constraints.attributes_to_get("attributesToGet", &request.attributes_to_get);
    constraints.conditions("scanFilter", &request.scan_filter);
    constraints.conditional_operator(request.conditional_operator.as_deref());
    constraints.finish()?;

    let filter = request.filter_expression;
    let projection = request.projection_expression;
    let placeholders = Unchecked::new(
        request.expression_attribute_names,
        request.expression_attribute_values,
        &[
            ("AttributesToGet", request.attributes_to_get.is_some()),
            ("ScanFilter", request.scan_filter.is_some()),
            (
                "ConditionalOperator",
                request.conditional_operator.is_some(),
            ),
        ],
        &[
            ("ProjectionExpression", projection.is_some()),
            ("FilterExpression", filter.is_some()),
        ],
    )?;
    let start = pages::start_key(request.exclusive_start_key)?;
    let mut placeholders = placeholders.check()?;
    let filter =
        parameters::condition(ConditionKind::Filter, filter.as_deref(), &mut placeholders)?;
    let projection = parameters::projection(projection.as_deref(), &mut placeholders)?;
    placeholders.finish()?;
    let filter = match filter {
        None => legacy::filter(request.scan_filter, request.conditional_operator.as_deref())?,
        filter => filter,
    };
    let named = projection.is_none() && request.attributes_to_get.is_some();
    let projection = match projection {
        None => legacy::projection(request.attributes_to_get)?,
        projection => projection,
    };
    let counts_only = pages::counts_only(
        request.select.as_deref(),
        projection.as_ref().map(|_| pages::projection_name(named)),
        request.index_name.as_deref(),
    )?;
    let segment = match (segment, total) {
        (None, None) => None,
        (Some(_), None) => return Err(texts::total_segments_missing()),
        (None, Some(_)) => return Err(texts::segment_missing()),
        (Some(segment), Some(total)) if segment >= total => {
            return Err(texts::segment_too_large(segment, total));
        }
        (Some(segment), Some(total)) => Some((segment, total)),
    };

    let name = owned_table_of(request.table_name.unwrap_or_default());
    let table = usable_table(backend, &name, context).await?;
    let strong = request.consistent_read.unwrap_or(false);
    let index = request.index_name.as_deref();
    let target = Target::of(table, (index, Named::InRequest), strong, backend, context).await?;
    let after = match &start {
        Some(start) => Some(
            target
                .start(start)
                .map_err(|error| texts::start_key_invalid_because(&error.message))?,
        ),
        None => None,
    };
    let range = match segment {
        None => target.whole(),
        Some((segment, total)) => {
            let (number, of) = (small(segment), small(total));
            let range = key::segment_range(target.asked.id, IndexId(0), number, of);
            if after.as_ref().is_some_and(|after| !range.contains(after)) {
                return Err(texts::start_key_of_other_segment(segment, total));
            }
            range
        }
    };

    parameters::check_key_paths(&target.table, filter.as_ref(), projection.as_ref())?;
    let select = request.select.as_deref();
    let fetch = target.fetch(select, projection.as_ref(), filter.as_ref())?;

    let page = Page {
        range,
        after,
        reverse: false,
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
    let page = backend.page(&target.asked, page, context).await?;
    let detail = Detail::of(request.return_consumed_capacity.as_deref());
    pages::answer(&target, &page, counts_only, strong, detail)
}

/// A segment number, which was checked to be at most a million.
fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
