//! Why a transaction was cancelled: one reason for each of its operations, in their order (API reference,
//! TransactionCanceledException).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{ApiError, ErrorKind, texts};
use crate::{codec, json};

/// A member of `CancellationReasons`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancellationReason {
    /// `Code`: `None` if this operation was not to blame.
    pub code: String,
    /// `Message`; none with the code `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// `Item`, encoded, if a condition failed and the operation asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Bytes>,
}

impl CancellationReason {
    /// Of an operation that was not to blame.
    pub fn none() -> Self {
        Self {
            code: "None".to_owned(),
            message: None,
            item: None,
        }
    }

    /// With a message.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: Some(message.into()),
            item: None,
        }
    }

    /// Another transaction, or a write, was in the way.
    pub fn conflict() -> Self {
        Self::new("TransactionConflict", texts::TRANSACTION_CONFLICT)
    }

    /// What an operation's own error comes to; none: it says nothing about the operation (the service failed).
    pub fn of(error: &ApiError) -> Option<Self> {
        let code = match error.kind {
            ErrorKind::ConditionalCheckFailed => "ConditionalCheckFailed",
            ErrorKind::ItemCollectionSizeLimitExceeded => "ItemCollectionSizeLimitExceeded",
            ErrorKind::ProvisionedThroughputExceeded => "ProvisionedThroughputExceeded",
            ErrorKind::Throttling | ErrorKind::RequestLimitExceeded => "ThrottlingError",
            ErrorKind::TransactionConflict => "TransactionConflict",
            ErrorKind::Validation => "ValidationError",
            _ => return None,
        };
        Some(Self {
            item: error.item.clone(),
            ..Self::new(code, error.message.clone())
        })
    }
}

impl ApiError {
    /// A TransactionConflictException: a single write to an item on which a transaction is pending.
    pub fn transaction_conflict() -> Self {
        Self::new(ErrorKind::TransactionConflict, texts::TRANSACTION_CONFLICT)
    }

    /// A TransactionCanceledException.
    pub fn transaction_canceled(reasons: Vec<CancellationReason>) -> Self {
        let codes: Vec<&str> = reasons.iter().map(|reason| reason.code.as_str()).collect();
        let message = format!("{} [{}]", texts::TRANSACTION_CANCELED, codes.join(", "));
        Self {
            cancellation_reasons: reasons,
            ..Self::new(ErrorKind::TransactionCanceled, message)
        }
    }
}

/// Appends the member `CancellationReasons`.
pub(super) fn write_reasons(reasons: &[CancellationReason], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"CancellationReasons\":[");
    for (number, reason) in reasons.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"Code\":");
        json::write_string(&reason.code, out);
        if let Some(item) = &reason.item {
            let start = out.len();
            out.extend_from_slice(b",\"Item\":");
            // An item that cannot be read is left out: the failed condition is what the client must learn.
            if codec::write_json(item, out).is_err() {
                out.truncate(start);
            }
        }
        if let Some(message) = &reason.message {
            out.extend_from_slice(b",\"Message\":");
            json::write_string(message, out);
        }
        out.push(b'}');
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reasons_come_in_the_order_of_the_operations() {
        let error = ApiError::transaction_canceled(vec![
            CancellationReason::none(),
            CancellationReason::conflict(),
        ]);
        let text = String::from_utf8(error.to_json()).unwrap();
        assert_eq!(
            text,
            "{\"__type\":\"com.amazonaws.dynamodb.v20120810#TransactionCanceledException\",\
             \"CancellationReasons\":[{\"Code\":\"None\"},{\"Code\":\"TransactionConflict\",\
             \"Message\":\"Transaction is ongoing for the item\"}],\
             \"Message\":\"Transaction cancelled, please refer cancellation reasons for specific reasons \
             [None, TransactionConflict]\"}"
        );
        assert_eq!(error.http_status(), 400);
    }
}
