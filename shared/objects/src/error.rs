//! What can go wrong with an object store. Owns which errors are worth another attempt.

use archive::Refusal;

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// There is no such object.
    #[error("it is not there")]
    NotFound,
    /// The store does not let us: credentials, bucket policy, file permissions.
    #[error("the store refuses access: {0}")]
    Denied(String),
    /// No answer within the time. It may have happened all the same.
    #[error("no answer within {0} ms")]
    TimedOut(u64),
    /// The store cannot be reached, or says that it cannot (5xx). It may have happened all the same.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The object, or the listing, is larger than what is taken.
    #[error("it is larger than {0}")]
    TooLarge(u64),
    /// Anything that another attempt does not change.
    #[error("{0}")]
    Rejected(String),
}

/// An operation on an object, or on a folder, failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation} of {key} in the object store failed: {reason}")]
pub struct ObjectError {
    /// `get`, `put`, `list`, `delete`.
    pub operation: &'static str,
    /// Key or prefix, below the archive's.
    pub key: String,
    /// Why.
    pub reason: Reason,
}

impl ObjectError {
    /// Whether the same may succeed later, without anybody's doing.
    pub fn is_transient(&self) -> bool {
        matches!(self.reason, Reason::TimedOut(_) | Reason::Unavailable(_))
    }
}

/// The archive could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The store's fault: ask again later.
    #[error(transparent)]
    Store(#[from] ObjectError),
    /// An object is not what it must be.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl ReadError {
    /// Whether the same may succeed later, without anybody's doing.
    pub fn is_transient(&self) -> bool {
        match self {
            ReadError::Store(error) => error.is_transient(),
            ReadError::Refused(_) => false,
        }
    }
}
