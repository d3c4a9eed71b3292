//! What is wrong with an operation of a transaction before anything is asked of its partition: which of it refuses the whole request, and
//! which cancels the transaction. Owns that distinction, and never the checks themselves.

use expression::Update;
use model::error::CancellationReason;
use model::error::texts::ITEM_SIZE;
use model::{ApiError, Item, TableDefinition, key, size};

/// Why an operation is not tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// DynamoDB sees it before the transaction begins: the answer is this error, as to a single write.
    Request(ApiError),
    /// The operation does not fit its table: the transaction is cancelled, and its reason at this place says why.
    Operation(ApiError),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Operation(error)
    }
}

impl Refusal {
    /// As the answer to a single write.
    pub(super) fn into_error(self) -> ApiError {
        match self {
            Self::Request(error) | Self::Operation(error) => error,
        }
    }

    /// As a cancellation reason.
    ///
    /// # Errors
    /// The answer to the whole request, where that is the answer: so also that a table is not there, or not allowed.
    pub(super) fn reason(self) -> Result<CancellationReason, ApiError> {
        match self {
            Self::Request(error) => Err(error),
            Self::Operation(error) => CancellationReason::of(&error).ok_or(error),
        }
    }
}

/// What DynamoDB checks before a transaction begins: the size of an item that is `put`, and that no key attribute is empty, be it the
/// table's or an index's. `item` is the item of a put, else the key.
pub(super) fn check_before(
    table: &TableDefinition,
    item: &Item,
    put: bool,
    update: Option<&Update>,
) -> Result<(), Refusal> {
    let check = || {
        if put && size::item_size(item) > size::ITEM_BYTES_MAX {
            return Err(ApiError::validation(ITEM_SIZE));
        }
        key::check_keys_not_empty(table, item)?;
        if put {
            table.check_index_keys_not_empty(item)?;
        }
        for (name, value) in update.iter().flat_map(|update| update.set_values()) {
            table.check_set_not_empty(name, value)?;
        }
        Ok(())
    };
    check().map_err(Refusal::Request)
}
