//! BatchExecuteStatement: up to 25 statements, each on one item, each with an outcome of its own.

use std::collections::BTreeMap;

use bytes::Bytes;
use expression::partiql::{Statement, parse};
use futures::{StreamExt, stream};
use model::{ApiError, ErrorKind, Units, capacity, json, key};
use protocol::item::{Get, ItemOperation, ItemReply};

use super::super::{Limits, fault_error, usable_table_for};
use super::{columns, constrain_statement, values, write};
use crate::answer::{Answer, comma};
use crate::backend::{Backend, Context};
use crate::constraints::{Constraints, table_of};
use crate::consumed::Detail;
use crate::requests::{BatchExecuteStatement, BatchStatement};
use crate::texts;

/// Most statements of a batch.
const STATEMENTS_MAX: usize = 25;

/// What came of one statement.
struct Outcome {
    /// As far as it is known.
    table: Option<String>,
    result: Result<Success, ApiError>,
}

struct Success {
    item: Option<Bytes>,
    units: Units,
}

pub(in crate::operations) async fn execute<B: Backend>(
    request: BatchExecuteStatement,
    backend: &B,
    limits: Limits,
    context: &Context,
) -> Result<Vec<u8>, ApiError> {
    let mut constraints = Constraints::default();
    constraints.return_consumed_capacity(request.return_consumed_capacity.as_deref());
    constraints.present("statements", request.statements.is_some());
    let statements = request.statements.unwrap_or_default();
    for (at, statement) in statements.iter().enumerate() {
        let member = |name: &str| format!("statements.{}.member.{name}", at + 1);
        constrain_statement(
            &mut constraints,
            &member("statement"),
            statement.statement.as_deref(),
            statement.parameters.as_deref(),
            &member("parameters"),
        );
        constraints.return_values_on_failure(
            statement
                .return_values_on_condition_check_failure
                .as_deref(),
        );
    }
    constraints.finish()?;
    if statements.is_empty() || statements.len() > STATEMENTS_MAX {
        let member = "statements";
        let mut constraints = Constraints::default();
        let rule = if statements.is_empty() {
            texts::length_at_least(1)
        } else {
            texts::length_at_most(STATEMENTS_MAX)
        };
        constraints.hidden(true, member, &rule);
        return constraints.finish().map(|()| Vec::new());
    }

    // A statement without meaning fails alone, but what can be read tells whether the batch reads or writes.
    let parsed: Vec<(Result<Statement, ApiError>, BatchStatementRest)> = statements
        .into_iter()
        .map(|statement| {
            let (text, parameters, rest) = split(statement);
            let parsed = values(parameters).and_then(|parameters| parse(&text, parameters));
            (parsed, rest)
        })
        .collect();
    let mut known = parsed
        .iter()
        .filter_map(|(parsed, _)| parsed.as_ref().ok())
        .map(Statement::is_read);
    if let Some(first) = known.next()
        && known.any(|reads| reads != first)
    {
        return Err(texts::mixed_batch());
    }

    let outcomes: Vec<Outcome> =
        stream::iter(parsed.into_iter().map(|(parsed, rest)| async move {
            match parsed {
                Ok(statement) => one(statement, rest, backend, context).await,
                Err(error) => Outcome {
                    table: None,
                    result: Err(error),
                },
            }
        }))
        .buffered(limits.fan_out_max)
        .collect()
        .await;
    answer(
        &outcomes,
        Detail::of(request.return_consumed_capacity.as_deref()),
    )
}

/// A statement's settings.
struct BatchStatementRest {
    strong: bool,
    return_on_failure: bool,
}

fn split(
    statement: BatchStatement,
) -> (
    String,
    Option<Vec<model::json::JsonValue>>,
    BatchStatementRest,
) {
    let rest = BatchStatementRest {
        strong: statement.consistent_read.unwrap_or(false),
        return_on_failure: statement
            .return_values_on_condition_check_failure
            .as_deref()
            == Some("ALL_OLD"),
    };
    (
        statement.statement.unwrap_or_default(),
        statement.parameters,
        rest,
    )
}

async fn one<B: Backend>(
    statement: Statement,
    rest: BatchStatementRest,
    backend: &B,
    context: &Context,
) -> Outcome {
    let table = table_of(&statement.target().table).to_owned();
    let result = match statement {
        Statement::Select(select) => read(select, rest.strong, backend, context).await,
        statement => write::execute(statement, rest.return_on_failure, backend, context)
            .await
            .map(|done| Success {
                item: done.attributes,
                units: done.units,
            }),
    };
    Outcome {
        table: Some(table),
        result,
    }
}

async fn read<B: Backend>(
    select: expression::partiql::Select,
    strong: bool,
    backend: &B,
    context: &Context,
) -> Result<Success, ApiError> {
    let table = usable_table_for(
        "PartiQLSelect",
        backend,
        table_of(&select.target.table),
        context,
    )
    .await?;
    if select.target.index.is_some() {
        return Err(texts::batch_needs_key());
    }
    let keyed = select
        .single_key(&table.keys)
        .map_err(|_| texts::batch_needs_key())?;
    if keyed.condition.is_some() {
        return Err(texts::batch_needs_key());
    }
    if let Some(projection) = &select.projection {
        projection.check_key_paths(&table.keys)?;
    }
    let key = key::key_from_key(&table, &keyed.key)?;
    let get = Get {
        key: key.clone(),
        strong,
        projection: select.projection.clone(),
    };
    match backend
        .item(&table, &key, ItemOperation::Get(get), context)
        .await?
    {
        ItemReply::Item { item, size_bytes } => Ok(Success {
            item: match (item, &select.projection) {
                (Some(item), Some(projection)) => Some(columns(projection, item)?),
                (item, _) => item,
            },
            units: capacity::read_units(size_bytes, strong),
        }),
        ItemReply::Fault(fault) => Err(fault_error(fault)),
        other => Err(texts::internal(format!("a read was answered by {other:?}"))),
    }
}

fn answer(outcomes: &[Outcome], detail: Detail) -> Result<Vec<u8>, ApiError> {
    let mut answer = Answer::with_capacity(1024);
    let mut units: BTreeMap<&str, Units> = BTreeMap::new();
    let mut list = vec![b'['];
    let mut first = true;
    for outcome in outcomes {
        let mut response = Answer::with_capacity(256);
        match &outcome.result {
            Ok(success) => {
                if let Some(table) = &outcome.table {
                    let sum = units.entry(table).or_insert(Units::ZERO);
                    *sum = sum.saturating_add(success.units);
                }
                if let Some(item) = &success.item {
                    response.item("Item", item)?;
                }
            }
            Err(error) => {
                let mut told = Answer::with_capacity(128);
                json::write_string(code(error), told.member("Code"));
                json::write_string(&error.message, told.member("Message"));
                if let Some(item) = &error.item {
                    told.item("Item", item)?;
                }
                response.member("Error").extend_from_slice(&told.finish());
            }
        }
        if let Some(table) = &outcome.table {
            json::write_string(table, response.member("TableName"));
        }
        comma(&mut list, &mut first);
        list.extend_from_slice(&response.finish());
    }
    list.push(b']');
    answer.member("Responses").extend_from_slice(&list);
    detail.add_list(&mut answer, units);
    Ok(answer.finish())
}

/// `BatchStatementErrorCodeEnum`.
fn code(error: &ApiError) -> &'static str {
    match error.kind {
        ErrorKind::ConditionalCheckFailed => "ConditionalCheckFailed",
        ErrorKind::ItemCollectionSizeLimitExceeded => "ItemCollectionSizeLimitExceeded",
        ErrorKind::RequestLimitExceeded => "RequestLimitExceeded",
        ErrorKind::Validation => "ValidationError",
        ErrorKind::ProvisionedThroughputExceeded => "ProvisionedThroughputExceeded",
        ErrorKind::Throttling => "ThrottlingError",
        ErrorKind::ResourceNotFound => "ResourceNotFound",
        ErrorKind::AccessDenied => "AccessDenied",
        ErrorKind::DuplicateItem => "DuplicateItem",
        ErrorKind::TransactionConflict => "TransactionConflict",
        _ => "InternalServerError",
    }
}
