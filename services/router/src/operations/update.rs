//! UpdateItem.

use expression::{ConditionKind, parse_update};
use model::{ApiError, key};
use protocol::item::{ItemOperation, Write, WriteAction};

use super::{Told, encode, return_values, usable_table, write_answer, written};
use crate::backend::{Backend, Context};
use crate::constraints::{Constraints, owned_table_of};
use crate::legacy;
use crate::parameters::{self, Unchecked, item};
use crate::requests::UpdateItem;

pub(super) async fn execute<B: Backend>(
    request: UpdateItem,
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
    constraints.present("key", request.key.is_some());
    constraints.attribute_updates(&request.attribute_updates);
    constraints.expected(&request.expected);
    constraints.conditional_operator(request.conditional_operator.as_deref());
    constraints.finish()?;

    let update = request.update_expression;
    let condition = request.condition_expression;
    let placeholders = Unchecked::new(
        request.expression_attribute_names,
        request.expression_attribute_values,
        &[
            ("AttributeUpdates", request.attribute_updates.is_some()),
            ("Expected", request.expected.is_some()),
            (
                "ConditionalOperator",
                request.conditional_operator.is_some(),
            ),
        ],
        &[
            ("UpdateExpression", update.is_some()),
            ("ConditionExpression", condition.is_some()),
        ],
    )?;
    let key_item = item(request.key)?;
    let mut placeholders = placeholders.check()?;
    let update = update
        .as_deref()
        .map(|text| parse_update(text, &mut placeholders))
        .transpose()?;
    let condition = parameters::condition(
        ConditionKind::Condition,
        condition.as_deref(),
        &mut placeholders,
    )?;
    placeholders.finish()?;
    let update = match update {
        None => legacy::update(request.attribute_updates)?,
        update => update,
    };
    let condition = match condition {
        None => legacy::expected(request.expected, request.conditional_operator.as_deref())?,
        condition => condition,
    };

    let name = owned_table_of(request.table_name.unwrap_or_default());
    let table = usable_table(backend, &name, context).await?;
    let key = key::key_from_key(&table, &key_item)?;
    if let Some(update) = &update {
        update.check_keys(&table.keys)?;
    }
    parameters::check_key_paths(&table, condition.as_ref(), None)?;
    let write = Write {
        key: key.clone(),
        action: WriteAction::Update {
            key_item: encode(&key_item),
            update,
        },
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
        &key_item,
    );
    write_answer(&table, &told, &written)
}
