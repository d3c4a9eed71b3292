//! API errors: DynamoDB's exception types with their HTTP status, and every message text in one place
//! (Amazon changes wording region by region; tests and code refer to the constructors here).

use bytes::Bytes;
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
    /// ConditionalCheckFailed: the item as it is, encoded (`crate::codec`), if the request asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Bytes>,
}

impl ApiError {
    /// An error of `kind` with `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), item: None }
    }
    /// A ValidationException.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Validation, message)
    }
    /// HTTP status of the answer.
    pub fn http_status(&self) -> u16 {
        todo!()
    }
    /// Name with namespace, as in `__type`.
    pub fn type_name(&self) -> &'static str {
        todo!()
    }
    /// JSON body of the answer.
    pub fn to_json(&self) -> Vec<u8> {
        todo!()
    }
}
