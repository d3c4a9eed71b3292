//! PartiQL: ExecuteStatement, BatchExecuteStatement and ExecuteTransaction. Owns how statements are carried out with the calls that the other operations
//! use; their syntax and meaning are `expression::partiql`.

mod batch;
mod columns;
mod select;
mod token;
mod transaction;
mod write;

use expression::partiql::{Statement, parse};
use model::json::JsonValue;
use model::{ApiError, AttributeValue};

use crate::answer::{Answer, write_items};
use crate::backend::{Backend, Context};
use crate::constraints::Constraints;
use crate::consumed::Detail;
use crate::requests::ExecuteStatement;

pub(super) use batch::execute as execute_batch;
pub(super) use columns::columns;
pub(super) use transaction::execute as execute_transaction;

/// Longest statement, characters.
const STATEMENT_MAX: usize = 8192;
/// Longest NextToken, bytes.
const TOKEN_BYTES_MAX: usize = 32_768;

pub(super) async fn execute<B: Backend>(
    request: ExecuteStatement,
    backend: &B,
    context: &Context,
) -> Result<Vec<u8>, ApiError> {
    let mut constraints = Constraints::default();
    constraints.return_consumed_capacity(request.return_consumed_capacity.as_deref());
    constraints
        .return_values_on_failure(request.return_values_on_condition_check_failure.as_deref());
    constrain_statement(
        &mut constraints,
        "statement",
        request.statement.as_deref(),
        request.parameters.as_deref(),
        "parameters",
    );
    constraints.between("limit", request.limit.map(|limit| limit.0), 1, i64::MAX);
    if let Some(token) = &request.next_token {
        constraints.length("nextToken", token, 1, TOKEN_BYTES_MAX);
    }
    constraints.finish()?;

    let text = request.statement.unwrap_or_default();
    let parameters = values(request.parameters)?;
    let fingerprint = token::fingerprint(&text, &parameters);
    let detail = Detail::of(request.return_consumed_capacity.as_deref());
    let on_failure = request.return_values_on_condition_check_failure.as_deref() == Some("ALL_OLD");
    match parse(&text, parameters)? {
        Statement::Select(select) => {
            let reading = select::Reading {
                fingerprint,
                next_token: request.next_token,
                limit: request.limit,
                strong: request.consistent_read.unwrap_or(false),
                detail,
            };
            select::execute(select, reading, backend, context).await
        }
        statement => {
            let done = write::execute(statement, on_failure, backend, context).await?;
            let mut answer = Answer::with_capacity(256);
            write_items(done.attributes.as_deref(), answer.member("Items"))?;
            detail.add(&mut answer, &done.table.name, done.units);
            Ok(answer.finish())
        }
    }
}

fn constrain_statement(
    constraints: &mut Constraints,
    member: &str,
    statement: Option<&str>,
    parameters: Option<&[JsonValue]>,
    parameters_member: &str,
) {
    match statement {
        None => constraints.present(member, false),
        Some(statement) => constraints.length(member, statement, 1, STATEMENT_MAX),
    }
    if parameters.is_some_and(<[_]>::is_empty) {
        constraints.length_at_least("[]", parameters_member, 1);
    }
}

fn values(parameters: Option<Vec<JsonValue>>) -> Result<Vec<AttributeValue>, ApiError> {
    parameters
        .unwrap_or_default()
        .into_iter()
        .map(|value| value.0)
        .collect()
}
