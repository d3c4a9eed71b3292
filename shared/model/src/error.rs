//! API errors: DynamoDB's exception types with their HTTP status and JSON form, and the message texts of this crate in one
//! place (Amazon changes wording region by region; tests and code refer to `texts`). Never decides when to raise one.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{codec, json};

pub mod cancellation;
pub mod texts;
pub mod throttling;

pub use cancellation::CancellationReason;
pub use throttling::{ThrottlingReason, ThroughputLimit, throttling_reasons};

/// Exception types of the DynamoDB API (and of the coral framework in front of it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum ErrorKind {
    AccessDenied,
    BackupInUse,
    BackupNotFound,
    ConditionalCheckFailed,
    ContinuousBackupsUnavailable,
    ExpiredIterator,
    DuplicateItem,
    ExportConflict,
    ExportNotFound,
    IdempotentParameterMismatch,
    GlobalTableNotFound,
    ImportConflict,
    ImportNotFound,
    IncompleteSignature,
    InternalServerError,
    InvalidExportTime,
    InvalidRestoreTime,
    InvalidSignature,
    ItemCollectionSizeLimitExceeded,
    LimitExceeded,
    MissingAuthenticationToken,
    PointInTimeRecoveryUnavailable,
    PolicyNotFound,
    ProvisionedThroughputExceeded,
    RequestLimitExceeded,
    ResourceInUse,
    ResourceNotFound,
    Serialization,
    ServiceUnavailable,
    TableAlreadyExists,
    TableInUse,
    TableNotFound,
    Throttling,
    TransactionCanceled,
    TransactionConflict,
    TransactionInProgress,
    TrimmedDataAccess,
    UnknownOperation,
    UnrecognizedClient,
    Validation,
}

impl ErrorKind {
    /// Name with namespace, as in `__type`, e.g. `com.amazonaws.dynamodb.v20120810#ResourceNotFoundException`.
    pub fn type_name(self) -> &'static str {
        macro_rules! dynamodb {
            ($name:literal) => {
                concat!("com.amazonaws.dynamodb.v20120810#", $name)
            };
        }
        macro_rules! coral {
            ($name:literal) => {
                concat!("com.amazon.coral.service#", $name)
            };
        }
        match self {
            Self::AccessDenied => coral!("AccessDeniedException"),
            Self::BackupInUse => dynamodb!("BackupInUseException"),
            Self::BackupNotFound => dynamodb!("BackupNotFoundException"),
            Self::ConditionalCheckFailed => dynamodb!("ConditionalCheckFailedException"),
            Self::ContinuousBackupsUnavailable => {
                dynamodb!("ContinuousBackupsUnavailableException")
            }
            Self::ExpiredIterator => dynamodb!("ExpiredIteratorException"),
            Self::DuplicateItem => dynamodb!("DuplicateItemException"),
            Self::ExportConflict => dynamodb!("ExportConflictException"),
            Self::ExportNotFound => dynamodb!("ExportNotFoundException"),
            Self::IdempotentParameterMismatch => {
                dynamodb!("IdempotentParameterMismatchException")
            }
            Self::GlobalTableNotFound => dynamodb!("GlobalTableNotFoundException"),
            Self::ImportConflict => dynamodb!("ImportConflictException"),
            Self::ImportNotFound => dynamodb!("ImportNotFoundException"),
            Self::IncompleteSignature => coral!("IncompleteSignatureException"),
            Self::InternalServerError => dynamodb!("InternalServerError"),
            Self::InvalidExportTime => dynamodb!("InvalidExportTimeException"),
            Self::InvalidRestoreTime => dynamodb!("InvalidRestoreTimeException"),
            Self::InvalidSignature => coral!("InvalidSignatureException"),
            Self::ItemCollectionSizeLimitExceeded => {
                dynamodb!("ItemCollectionSizeLimitExceededException")
            }
            Self::LimitExceeded => dynamodb!("LimitExceededException"),
            Self::MissingAuthenticationToken => coral!("MissingAuthenticationTokenException"),
            Self::PointInTimeRecoveryUnavailable => {
                dynamodb!("PointInTimeRecoveryUnavailableException")
            }
            Self::PolicyNotFound => dynamodb!("PolicyNotFoundException"),
            Self::ProvisionedThroughputExceeded => {
                dynamodb!("ProvisionedThroughputExceededException")
            }
            Self::RequestLimitExceeded => dynamodb!("RequestLimitExceeded"),
            Self::ResourceInUse => dynamodb!("ResourceInUseException"),
            Self::ResourceNotFound => dynamodb!("ResourceNotFoundException"),
            Self::Serialization => coral!("SerializationException"),
            Self::ServiceUnavailable => coral!("ServiceUnavailableException"),
            Self::TableAlreadyExists => dynamodb!("TableAlreadyExistsException"),
            Self::TableInUse => dynamodb!("TableInUseException"),
            Self::TableNotFound => dynamodb!("TableNotFoundException"),
            Self::Throttling => "com.amazon.coral.availability#ThrottlingException",
            Self::TransactionCanceled => dynamodb!("TransactionCanceledException"),
            Self::TransactionConflict => dynamodb!("TransactionConflictException"),
            Self::TransactionInProgress => dynamodb!("TransactionInProgressException"),
            Self::TrimmedDataAccess => dynamodb!("TrimmedDataAccessException"),
            Self::UnknownOperation => coral!("UnknownOperationException"),
            Self::UnrecognizedClient => coral!("UnrecognizedClientException"),
            Self::Validation => "com.amazon.coral.validate#ValidationException",
        }
    }

    /// Name without namespace, e.g. `ValidationException`.
    pub fn short_name(self) -> &'static str {
        let name = self.type_name();
        name.split_once('#').map_or(name, |(_, short)| short)
    }

    /// HTTP status of the answer: 400, 500 or 503.
    pub fn http_status(self) -> u16 {
        match self {
            Self::InternalServerError => 500,
            Self::ServiceUnavailable => 503,
            _ => 400,
        }
    }

    /// Name of the message's field: these come from the framework in front, or are modelled so, with a capital letter.
    fn message_field(self) -> &'static str {
        match self {
            Self::AccessDenied
            | Self::IdempotentParameterMismatch
            | Self::Serialization
            | Self::TransactionCanceled
            | Self::TransactionInProgress => "Message",
            _ => "message",
        }
    }
}

/// An error answer of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{kind:?}: {message}")]
pub struct ApiError {
    /// Exception type.
    pub kind: ErrorKind,
    /// Message text, as the client sees it. Empty: the answer has none.
    pub message: String,
    /// ConditionalCheckFailed: the item as it is, encoded (`crate::codec`), if the request asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Bytes>,
    /// Throttling: which limits, of what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub throttling_reasons: Vec<ThrottlingReason>,
    /// TransactionCanceled: why, by operation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cancellation_reasons: Vec<CancellationReason>,
}

impl ApiError {
    /// An error of `kind` with `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            item: None,
            throttling_reasons: Vec::new(),
            cancellation_reasons: Vec::new(),
        }
    }

    /// A ValidationException.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Validation, message)
    }

    /// A SerializationException; an empty message is left out of the answer.
    pub fn serialization(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Serialization, message)
    }

    /// An InternalServerError: also the answer when it is not known whether a write was done.
    pub fn internal() -> Self {
        Self::new(ErrorKind::InternalServerError, texts::INTERNAL)
    }

    /// A ResourceNotFoundException of a data-plane operation.
    pub fn resource_not_found() -> Self {
        Self::new(ErrorKind::ResourceNotFound, texts::RESOURCE_NOT_FOUND)
    }

    /// A ConditionalCheckFailedException, with the encoded item if the request asked for it.
    pub fn condition_failed(item: Option<Bytes>) -> Self {
        Self {
            item,
            ..Self::new(ErrorKind::ConditionalCheckFailed, texts::CONDITION_FAILED)
        }
    }

    /// HTTP status of the answer.
    pub fn http_status(&self) -> u16 {
        self.kind.http_status()
    }

    /// Name with namespace, as in `__type`.
    pub fn type_name(&self) -> &'static str {
        self.kind.type_name()
    }

    /// JSON body of the answer: `__type`, the message, the item of a failed condition, the reasons of throttling.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.message.len());
        out.extend_from_slice(b"{\"__type\":\"");
        out.extend_from_slice(self.type_name().as_bytes());
        out.push(b'"');
        if let Some(item) = &self.item {
            let start = out.len();
            out.extend_from_slice(b",\"Item\":");
            // An item that cannot be read is left out: the failed condition is what the client must learn.
            if codec::write_json(item, &mut out).is_err() {
                out.truncate(start);
            }
        }
        if !self.throttling_reasons.is_empty() {
            throttling::write_reasons(self.kind, &self.throttling_reasons, &mut out);
        }
        if !self.cancellation_reasons.is_empty() {
            cancellation::write_reasons(&self.cancellation_reasons, &mut out);
        }
        if !self.message.is_empty() {
            out.extend_from_slice(b",\"");
            out.extend_from_slice(self.kind.message_field().as_bytes());
            out.extend_from_slice(b"\":");
            json::write_string(&self.message, &mut out);
        }
        out.push(b'}');
        out
    }
}
