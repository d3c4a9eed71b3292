//! What a caller hears when the mesh cannot do what was asked. Never about the content of a request.

use model::{ApiError, ErrorKind};

pub(crate) fn no_table() -> ApiError {
    ApiError::new(ErrorKind::ResourceNotFound, "Requested resource not found")
}

/// Certainly not done.
pub(crate) fn unavailable() -> ApiError {
    ApiError::new(
        ErrorKind::ServiceUnavailable,
        "The request was not executed: the partition or the directory is unavailable. Please try again.",
    )
}

/// Done or not: nobody knows.
pub(crate) fn unknown() -> ApiError {
    ApiError::new(
        ErrorKind::InternalServerError,
        "The outcome of the request is unknown: it may or may not have been executed.",
    )
}

/// Shed.
pub(crate) fn overloaded() -> ApiError {
    ApiError::new(
        ErrorKind::Throttling,
        "The request was not executed: too many requests are under way. Please try again.",
    )
}
