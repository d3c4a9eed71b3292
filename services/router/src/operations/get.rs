//! GetItem.

use model::{ApiError, capacity, key};
use protocol::item::{Get, ItemOperation, ItemReply};

use super::{fault_error, usable_table};
use crate::answer::Answer;
use crate::backend::{Backend, Context};
use crate::constraints::{Constraints, owned_table_of};
use crate::consumed::Detail;
use crate::legacy;
use crate::parameters::{self, Unchecked, item};
use crate::requests::GetItem;
use crate::texts;

pub(super) async fn execute<B: Backend>(
    request: GetItem,
    backend: &B,
    context: &Context,
) -> Result<Vec<u8>, ApiError> {
    let mut constraints = Constraints::default();
    constraints.return_consumed_capacity(request.return_consumed_capacity.as_deref());
    constraints.table_name(request.table_name.as_deref());
    constraints.present("key", request.key.is_some());
    constraints.attributes_to_get("attributesToGet", &request.attributes_to_get);
    constraints.finish()?;

    let projection = request.projection_expression;
    let placeholders = Unchecked::new(
        request.expression_attribute_names,
        None,
        &[("AttributesToGet", request.attributes_to_get.is_some())],
        &[("ProjectionExpression", projection.is_some())],
    )?;
    let key = item(request.key)?;
    let mut placeholders = placeholders.check()?;
    let projection = parameters::projection(projection.as_deref(), &mut placeholders)?;
    placeholders.finish()?;
    let projection = match projection {
        None => legacy::projection(request.attributes_to_get)?,
        projection => projection,
    };

    let name = owned_table_of(request.table_name.unwrap_or_default());
    let table = usable_table(backend, &name, context).await?;
    let key = key::key_from_key(&table, &key)?;
    parameters::check_key_paths(&table, None, projection.as_ref())?;
    let strong = request.consistent_read.unwrap_or(false);
    let operation = ItemOperation::Get(Get {
        key: key.clone(),
        strong,
        projection,
    });
    let (item, size_bytes) = match backend.item(&table, &key, operation, context).await? {
        ItemReply::Item { item, size_bytes } => (item, size_bytes),
        ItemReply::Fault(fault) => return Err(fault_error(fault)),
        other => return Err(texts::internal(format!("a read was answered by {other:?}"))),
    };

    let detail = Detail::of(request.return_consumed_capacity.as_deref());
    let mut answer = Answer::with_capacity(item.as_ref().map_or(128, |item| item.len() * 2 + 64));
    if let Some(item) = &item {
        answer.item("Item", item)?;
    }
    detail.add(
        &mut answer,
        &table.name,
        capacity::read_units(size_bytes, strong),
    );
    Ok(answer.finish())
}
