//! API errors: DynamoDB's exception types with their HTTP status, and every message text in one place
//! (Amazon changes wording region by region; tests and code refer to the constructors here).

use serde::{Deserialize, Serialize};

/// Exception types of the DynamoDB API (and of the coral framework in front of it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum ErrorKind {
    AccessDenied,
    ConditionalCheckFailed,
    IncompleteSignature,
    InternalServerError,
    InvalidSignature,
    ItemCollectionSizeLimitExceeded,
    LimitExceeded,
    MissingAuthenticationToken,
    ProvisionedThroughputExceeded,
    RequestLimitExceeded,
    ResourceInUse,
    ResourceNotFound,
    Serialization,
    ServiceUnavailable,
    Throttling,
    UnknownOperation,
    UnrecognizedClient,
    Validation,
}

/// An error answer of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{kind:?}: {message}")]
pub struct ApiError {
    /// Exception type.
    pub kind: ErrorKind,
    /// Message text, as the client sees it.
    pub message: String,
}

impl ApiError {
    /// An error of `kind` with `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
    /// A ValidationException.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Validation, message)
    }
    // TODO(owner: model): http_status(), type_name() ("com.amazonaws.dynamodb.v20120810#ResourceNotFoundException"), texts
}
