//! Storage behind the table line.

use std::sync::Arc;

use model::capacity::{Direction, read_units};
use model::{ApiError, EncodedKey, ErrorKind, TableDefinition, TableId, Units};
use protocol::control::{ApiCall, ApiReply};
use protocol::item::{ItemOperation, ItemReply, Page, PageReply};
use protocol::transact::Transact;

use super::TableLine;
use super::line::Entered;
use crate::backend::{Backend, Context};

/// A backend whose item requests pass the table line first. Control-plane calls and the mesh's own tables are never stopped.
#[derive(Clone)]
pub(crate) struct Limited<B> {
    pub(crate) backend: B,
    pub(crate) line: TableLine,
}

/// Settles by what came back; an outcome that is not known is charged.
fn settle<T>(
    entered: Entered,
    sure: Units,
    result: &Result<T, ApiError>,
    cost: impl FnOnce(&T) -> Units,
) {
    entered.settle(match result {
        Ok(reply) => cost(reply),
        Err(error) if error.kind == ErrorKind::InternalServerError => sure,
        Err(_) => Units::ZERO,
    });
}

impl<B: Backend> Backend for Limited<B> {
    async fn table(&self, name: &str, context: &Context) -> Result<Arc<TableDefinition>, ApiError> {
        let table = self.backend.table(name, context).await?;
        context.marks.table(&table);
        Ok(table)
    }

    async fn item(
        &self,
        table: &TableDefinition,
        key: &EncodedKey,
        operation: ItemOperation,
        context: &Context,
    ) -> Result<ItemReply, ApiError> {
        let ((direction, sure), strong) = (operation.surely(), operation.strong());
        context.marks.admission();
        let entered = self.line.enter(table, direction, sure);
        context.marks.admitted();
        let entered = entered?;
        let result = self.backend.item(table, key, operation, context).await;
        settle(entered, sure, &result, |reply| reply.cost(sure, strong));
        result
    }

    async fn page(
        &self,
        table: &TableDefinition,
        page: Page,
        context: &Context,
    ) -> Result<PageReply, ApiError> {
        let strong = page.strong;
        let sure = read_units(0, strong);
        context.marks.admission();
        let entered = self.line.enter(table, Direction::Read, sure);
        context.marks.admitted();
        let entered = entered?;
        let result = self.backend.page(table, page, context).await;
        settle(entered, sure, &result, |reply| {
            read_units(reply.bytes_read, strong)
        });
        result
    }

    async fn settle(
        &self,
        table: TableId,
        key: &EncodedKey,
        transact: Transact,
        context: &Context,
    ) -> Result<ItemReply, ApiError> {
        // It was paid for when it was prepared.
        self.backend.settle(table, key, transact, context).await
    }

    async fn ledger(&self, context: &Context) -> Result<Arc<TableDefinition>, ApiError> {
        self.backend.ledger(context).await
    }

    async fn control(&self, call: ApiCall, context: &Context) -> Result<ApiReply, ApiError> {
        self.backend.control(call, context).await
    }
}

#[cfg(test)]
mod tests {
    use model::Item;
    use model::table::BillingMode;
    use protocol::item::{Get, ReturnValues, Write, WriteAction};
    use tokens::ShareSettings;

    use super::*;
    use crate::fake::{Fake, context};

    /// A fake behind a line for one router; table `hash` provisioned with 2 read and 3 write units.
    async fn limited() -> (Limited<Fake>, TableDefinition, EncodedKey) {
        let settings = ShareSettings {
            routers_expected: 1,
            ..ShareSettings::default()
        };
        let limited = Limited {
            backend: Fake::new(),
            line: TableLine::new(settings, 1, 1, "eu-west-1"),
        };
        let table = limited.table("hash", &context()).await.unwrap();
        let table = TableDefinition {
            billing: BillingMode::Provisioned {
                read_units: 2,
                write_units: 3,
            },
            ..(*table).clone()
        };
        let item = Item::from([("pk".to_owned(), model::AttributeValue::S("a".to_owned()))]);
        let key = model::key::key_from_item(&table, &item).unwrap();
        (limited, table, key)
    }

    fn put(key: &EncodedKey, bytes: usize) -> ItemOperation {
        let item = Item::from([
            ("pk".to_owned(), model::AttributeValue::S("a".to_owned())),
            (
                "text".to_owned(),
                model::AttributeValue::S("x".repeat(bytes)),
            ),
        ]);
        ItemOperation::Write(Box::new(Write {
            key: key.clone(),
            action: WriteAction::Put(model::codec::encode_item(&item)),
            condition: None,
            return_values: ReturnValues::None,
            return_on_failure: false,
        }))
    }

    fn get(key: &EncodedKey) -> ItemOperation {
        ItemOperation::Get(Get {
            key: key.clone(),
            strong: true,
            projection: None,
        })
    }

    #[tokio::test]
    async fn what_goes_beyond_is_refused_with_its_reason_and_not_routed() {
        let (limited, table, key) = limited().await;
        let context = context();
        let call = |operation| limited.item(&table, &key, operation, &context);
        call(put(&key, 2_500)).await.unwrap();
        let calls = limited.backend.calls();
        let error = call(put(&key, 2_500)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::ProvisionedThroughputExceeded);
        let reason = &error.throttling_reasons[0];
        assert_eq!(reason.reason, "TableWriteProvisionedThroughputExceeded");
        assert_eq!(
            reason.resource,
            "arn:aws:dynamodb:eu-west-1:000000000000:table/hash"
        );
        assert_eq!(limited.backend.calls(), calls);
        // Reads have units of their own, and are charged what they really read: 2,5 KB are one unit.
        call(get(&key)).await.unwrap();
        call(get(&key)).await.unwrap();
        assert!(call(get(&key)).await.is_err());
    }

    #[tokio::test]
    async fn what_was_not_executed_costs_nothing_and_what_may_have_been_does() {
        let (limited, table, key) = limited().await;
        let context = context();
        let call = || limited.item(&table, &key, put(&key, 2_500), &context);
        let busy = ApiError::new(ErrorKind::ServiceUnavailable, "");
        limited
            .backend
            .fail_next([Some(busy.clone()), Some(busy), Some(ApiError::internal())]);
        for kind in [
            ErrorKind::ServiceUnavailable,
            ErrorKind::ServiceUnavailable,
            ErrorKind::InternalServerError,
            ErrorKind::ProvisionedThroughputExceeded,
        ] {
            assert_eq!(call().await.unwrap_err().kind, kind);
        }
    }

    #[tokio::test]
    async fn a_request_that_is_given_up_is_charged() {
        let (limited, table, _) = limited().await;
        let enter = || limited.line.enter(&table, Direction::Write, Units::new(3));
        drop(enter().unwrap());
        assert!(enter().is_err());
    }

    #[tokio::test]
    async fn the_meshs_own_tables_are_never_stopped() {
        let (limited, table, _) = limited().await;
        let own = TableDefinition {
            id: model::TableId(1),
            ..table
        };
        for _ in 0..100 {
            let entered = limited.line.enter(&own, Direction::Write, Units::new(9));
            entered.unwrap().settle(Units::new(9));
        }
    }
}
