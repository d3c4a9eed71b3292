//! ExecuteTransaction: up to 100 statements, each on one item; all of them or none, as TransactGetItems and TransactWriteItems do it.

use std::collections::HashSet;

use expression::partiql::{Exists, Select, Statement, parse};
use model::error::CancellationReason;
use model::{ApiError, EncodedKey, ErrorKind, key, size};
use protocol::item::{ReturnValues, Write, WriteAction};

use super::super::refusal::{Refusal, check_before};
use super::super::transact_get::{self, Place};
use super::super::transact_write::{BYTES_MAX, OPERATIONS_MAX, TOKEN_MAX, add_capacity};
use super::super::{Limits, usable_table_for};
use super::{constrain_statement, values, write};
use crate::answer::Answer;
use crate::backend::{Backend, Context};
use crate::constraints::{Constraints, table_of};
use crate::consumed::Detail;
use crate::requests::{ExecuteTransaction, TransactStatement};
use crate::server::unix_ms;
use crate::texts;
use crate::transact::{self, Part, WriteRequest};

/// A statement that was understood.
struct Parsed {
    statement: Statement,
    return_on_failure: bool,
}

pub(in crate::operations) async fn execute<B: Backend>(
    request: ExecuteTransaction,
    backend: &B,
    limits: Limits,
    context: &Context,
) -> Result<Vec<u8>, ApiError> {
    constrain(&request)?;
    let detail = Detail::of(request.return_consumed_capacity.as_deref());
    let statements = request
        .transact_statements
        .unwrap_or_default()
        .into_iter()
        .enumerate()
        .map(|(at, statement)| read(at, statement))
        .collect::<Result<Vec<_>, _>>()?;
    let reads = |parsed: &&Parsed| parsed.statement.is_read();
    match statements.iter().filter(reads).count() {
        0 => {
            let (parts, inserts) = plan(statements, backend, context).await?;
            let tables: Vec<String> = parts.iter().map(|part| part.table.name.clone()).collect();
            let request = WriteRequest {
                parts,
                token: request.client_request_token,
                now_ms: unix_ms(),
            };
            let finished = transact::write(backend, request, context)
                .await
                .map_err(|error| with_duplicates(error, &inserts))?;
            let mut answer = Answer::with_capacity(64);
            // The service says nothing of the single statements.
            answer.member("Responses").extend_from_slice(b"[]");
            add_capacity(&mut answer, detail, &tables, &finished);
            Ok(answer.finish())
        }
        reads if reads < statements.len() => Err(texts::mixed_transaction()),
        _ => {
            let places = places(statements, backend, context).await?;
            transact_get::read_all(&places, detail, backend, limits, context).await
        }
    }
}

fn constrain(request: &ExecuteTransaction) -> Result<(), ApiError> {
    let member = "transactStatements";
    let mut constraints = Constraints::default();
    constraints.return_consumed_capacity(request.return_consumed_capacity.as_deref());
    constraints.token(request.client_request_token.as_deref(), TOKEN_MAX);
    match &request.transact_statements {
        None => constraints.present(member, false),
        Some(statements) => {
            let empty = statements.is_empty();
            constraints.hidden(empty, member, &texts::length_at_least(1));
            let too_many = statements.len() > OPERATIONS_MAX;
            constraints.hidden(too_many, member, &texts::length_at_most(OPERATIONS_MAX));
        }
    }
    for (at, statement) in request.transact_statements.iter().flatten().enumerate() {
        let member = |name: &str| format!("{member}.{}.member.{name}", at + 1);
        constrain_statement(
            &mut constraints,
            &member("statement"),
            statement.statement.as_deref(),
            statement.parameters.as_deref(),
            &member("parameters"),
        );
        constraints.member_on_failure(
            &member("returnValuesOnConditionCheckFailure"),
            statement
                .return_values_on_condition_check_failure
                .as_deref(),
        );
    }
    constraints.finish()
}

fn read(at: usize, request: TransactStatement) -> Result<Parsed, ApiError> {
    let statement = parse(
        &request.statement.unwrap_or_default(),
        values(request.parameters)?,
    )?;
    let returning = match &statement {
        Statement::Update(update) => update.returning,
        Statement::Delete(delete) => delete.returning,
        _ => None,
    };
    if returning.is_some() {
        return Err(texts::returning_in_transaction(at));
    }
    if let Statement::Select(select) = &statement
        && select.target.index.is_some()
    {
        return Err(texts::index_in_transaction(at));
    }
    Ok(Parsed {
        statement,
        return_on_failure: request.return_values_on_condition_check_failure.as_deref()
            == Some("ALL_OLD"),
    })
}

/// The different items of a transaction, as its statements come. What is wrong with a statement cancels the transaction; its reason says which.
#[derive(Default)]
struct Items {
    seen: HashSet<EncodedKey>,
    reasons: Vec<CancellationReason>,
    cancelled: bool,
}

impl Items {
    /// Notes the item of the next statement.
    fn add(&mut self, key: Result<&EncodedKey, &Refusal>) -> Result<(), ApiError> {
        match key {
            Ok(key) => {
                // Encoded keys hold the table's number.
                if !self.seen.insert(key.clone()) {
                    return Err(texts::several_operations_on_one_item());
                }
                self.reasons.push(CancellationReason::none());
            }
            Err(refusal) => {
                self.reasons.push(refusal.clone().reason()?);
                self.cancelled = true;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<(), ApiError> {
        if self.cancelled {
            return Err(ApiError::transaction_canceled(self.reasons));
        }
        Ok(())
    }
}

/// What the statements write, and which of them are INSERTs.
async fn plan<B: Backend>(
    statements: Vec<Parsed>,
    backend: &B,
    context: &Context,
) -> Result<(Vec<Part>, Vec<bool>), ApiError> {
    let mut items = Items::default();
    let mut parts = Vec::with_capacity(statements.len());
    let mut inserts = Vec::with_capacity(statements.len());
    let mut bytes = 0;
    for parsed in statements {
        if let Statement::Insert(insert) = &parsed.statement {
            bytes += size::item_size(&insert.item);
        }
        let planned = match parsed.statement {
            Statement::Exists(exists) => {
                check(exists, parsed.return_on_failure, backend, context).await
            }
            statement => write::plan(statement, parsed.return_on_failure, backend, context).await,
        };
        items.add(planned.as_ref().map(|planned| &planned.key))?;
        if let Ok(planned) = planned {
            inserts.push(planned.inserts);
            parts.push(Part {
                table: planned.table,
                write: planned.write,
            });
        }
    }
    if bytes > BYTES_MAX {
        return Err(texts::transaction_too_large());
    }
    items.finish()?;
    Ok((parts, inserts))
}

/// EXISTS, which changes nothing.
async fn check<B: Backend>(
    exists: Exists,
    return_on_failure: bool,
    backend: &B,
    context: &Context,
) -> Result<write::Planned, Refusal> {
    let target = exists.target();
    let table =
        usable_table_for("PartiQLSelect", backend, table_of(&target.table), context).await?;
    if let Some(index) = &target.index {
        return Err(texts::write_to_index(index).into());
    }
    let keyed = exists.keyed(&table.keys)?;
    check_before(&table, &keyed.key, false, None)?;
    let key = key::key_from_key(&table, &keyed.key)?;
    if let Some(condition) = &keyed.condition {
        condition.check_key_paths(&table.keys)?;
    }
    let write = Write {
        key: key.clone(),
        action: WriteAction::Check,
        condition: keyed.condition,
        return_values: ReturnValues::None,
        return_on_failure,
    };
    Ok(write::Planned {
        table,
        key,
        write,
        inserts: false,
    })
}

/// What the statements read.
async fn places<B: Backend>(
    statements: Vec<Parsed>,
    backend: &B,
    context: &Context,
) -> Result<Vec<Place>, ApiError> {
    let mut items = Items::default();
    let mut places = Vec::with_capacity(statements.len());
    for parsed in statements {
        let Statement::Select(select) = parsed.statement else {
            return Err(texts::mixed_transaction());
        };
        let placed = place(select, backend, context).await;
        items.add(placed.as_ref().map(|place| &place.key))?;
        places.extend(placed.ok());
    }
    items.finish()?;
    Ok(places)
}

async fn place<B: Backend>(
    select: Select,
    backend: &B,
    context: &Context,
) -> Result<Place, Refusal> {
    let name = table_of(&select.target.table);
    let table = usable_table_for("PartiQLSelect", backend, name, context).await?;
    let keyed = select
        .single_key(&table.keys)
        .map_err(|_| texts::transaction_needs_key())?;
    if keyed.condition.is_some() {
        return Err(texts::transaction_needs_key().into());
    }
    if let Some(projection) = &select.projection {
        projection.check_key_paths(&table.keys)?;
    }
    Ok(Place {
        key: key::key_from_key(&table, &keyed.key)?,
        table,
        projection: select.projection,
        columns: true,
    })
}

/// That the condition of an INSERT failed means that there is such an item.
fn with_duplicates(mut error: ApiError, inserts: &[bool]) -> ApiError {
    if error.kind != ErrorKind::TransactionCanceled {
        return error;
    }
    let mut reasons = std::mem::take(&mut error.cancellation_reasons);
    for (reason, inserts) in reasons.iter_mut().zip(inserts) {
        if *inserts && reason.code == "ConditionalCheckFailed" {
            *reason = CancellationReason::new("DuplicateItem", texts::duplicate_item().message);
        }
    }
    ApiError::transaction_canceled(reasons)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insert_that_finds_its_item_is_a_duplicate() {
        let failed = || CancellationReason::new("ConditionalCheckFailed", "failed");
        let error = ApiError::transaction_canceled(vec![failed(), failed()]);
        let told = with_duplicates(error, &[true, false]);
        let codes: Vec<&str> = told
            .cancellation_reasons
            .iter()
            .map(|reason| reason.code.as_str())
            .collect();
        assert_eq!(codes, ["DuplicateItem", "ConditionalCheckFailed"]);
        assert!(
            told.message
                .ends_with("[DuplicateItem, ConditionalCheckFailed]")
        );
        let other = ApiError::resource_not_found();
        assert_eq!(with_duplicates(other.clone(), &[true]), other);
    }

    #[test]
    fn a_statement_that_does_not_fit_cancels_all() {
        let key = EncodedKey::from_static(b"a");
        let wrong = Refusal::Operation(ApiError::validation("wrong"));
        let absent = Refusal::Operation(ApiError::resource_not_found());
        let told_at_once = Refusal::Request(ApiError::validation("empty"));
        let mut items = Items::default();
        items.add(Ok(&key)).expect("the first of its item");
        items.add(Err(&wrong)).expect("a reason");
        assert!(items.add(Ok(&key)).is_err(), "the same item");
        assert!(items.add(Err(&absent)).is_err());
        assert!(items.add(Err(&told_at_once)).is_err());
        let error = items.finish().expect_err("one does not fit");
        assert_eq!(error.cancellation_reasons.len(), 2);
        assert_eq!(error.cancellation_reasons[1].code, "ValidationError");
        assert_eq!(Items::default().finish(), Ok(()));
    }
}
