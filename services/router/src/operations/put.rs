//! PutItem.

use expression::ConditionKind;
use model::error::texts::ITEM_SIZE;
use model::{ApiError, codec, key, size};
use protocol::item::{ItemOperation, Write, WriteAction};

use super::{Told, return_values, usable_table, write_answer, written};
use crate::backend::{Backend, Context};
use crate::constraints::{Constraints, owned_table_of};
use crate::legacy;
use crate::parameters::{self, Unchecked, item};
use crate::requests::PutItem;
use crate::texts;

pub(super) async fn execute<B: Backend>(
    request: PutItem,
    backend: &B,
    context: &Context,
) -> Result<Vec<u8>, ApiError> {
    let mut constraints = Constraints::default();
    constraints.return_consumed_capacity(request.return_consumed_capacity.as_deref());
    constraints.table_name(request.table_name.as_deref());
    constraints.return_item_collection_metrics(request.return_item_collection_metrics.as_deref());
    constraints.return_values(request.return_values.as_deref());
    constraints
        .return_values_on_failure(request.return_values_on_condition_check_failure.as_deref());
    constraints.present("item", request.item.is_some());
    constraints.expected(&request.expected);
    constraints.conditional_operator(request.conditional_operator.as_deref());
    constraints.finish()?;

    let condition = request.condition_expression;
    let placeholders = Unchecked::new(
        request.expression_attribute_names,
        request.expression_attribute_values,
        &[
            ("Expected", request.expected.is_some()),
            (
                "ConditionalOperator",
                request.conditional_operator.is_some(),
            ),
        ],
        &[("ConditionExpression", condition.is_some())],
    )?;
    let item = item(request.item)?;
    if !matches!(
        request.return_values.as_deref(),
        None | Some("NONE" | "ALL_OLD")
    ) {
        return Err(texts::return_values());
    }
    if size::item_size(&item) > size::ITEM_BYTES_MAX {
        return Err(ApiError::validation(ITEM_SIZE));
    }
    let mut placeholders = placeholders.check()?;
    let condition = parameters::condition(
        ConditionKind::Condition,
        condition.as_deref(),
        &mut placeholders,
    )?;
    placeholders.finish()?;
    let condition = match condition {
        None => legacy::expected(request.expected, request.conditional_operator.as_deref())?,
        condition => condition,
    };

    let name = owned_table_of(request.table_name.unwrap_or_default());
    let table = usable_table(backend, &name, context).await?;
    let key = key::key_from_item(&table, &item)?;
    table.check_index_keys(&item, |fault| fault.of_item())?;
    parameters::check_key_paths(&table, condition.as_ref(), None)?;
    let write = Write {
        key: key.clone(),
        action: WriteAction::Put(codec::encode_item(&item)),
        condition,
        return_values: return_values(request.return_values.as_deref()),
        return_on_failure: request.return_values_on_condition_check_failure.as_deref()
            == Some("ALL_OLD"),
    };
    let operation = ItemOperation::Write(Box::new(write));
    let written = written(backend.item(&table, &key, operation, context).await?)?;
    let told = Told::of(
        request.return_consumed_capacity.as_deref(),
        request.return_item_collection_metrics.as_deref(),
        &item,
    );
    write_answer(&table, &told, &written)
}
