//! Why a step could not be done. Owns which kinds there are and which of them an operator must hear of at once.

use archive::check::CheckError;
use objects::{ObjectError, ReadError, WriteError};

use crate::source::SourceError;

/// A step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// The store does not answer, or not as it should: it is tried again.
    #[error("{0}")]
    Store(String),
    /// The store has something else where this should be, or what it has is damaged.
    #[error("{0}")]
    Contradiction(String),
    /// No replica gave what is needed.
    #[error("{0}")]
    Source(#[from] SourceError),
    /// What a replica gave must not be archived.
    #[error("{0}")]
    Refused(String),
}

impl Trouble {
    /// The kind, for metrics.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Store(_) => Kind::Store,
            Self::Contradiction(_) => Kind::Contradiction,
            Self::Source(_) => Kind::Source,
            Self::Refused(_) => Kind::Refused,
        }
    }
}

/// Kinds of troubles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Store,
    Contradiction,
    Source,
    Refused,
}

/// How many kinds there are.
pub(crate) const KINDS: usize = 4;

impl From<WriteError> for Trouble {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Store(error) => error.into(),
            WriteError::Different { .. } => Self::Contradiction(error.to_string()),
            WriteError::Refused(refusal) => Self::Refused(refusal.to_string()),
        }
    }
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Store(error) => error.into(),
            ReadError::Refused(refusal) => Self::Contradiction(refusal.to_string()),
        }
    }
}

impl From<ObjectError> for Trouble {
    fn from(error: ObjectError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<CheckError> for Trouble {
    fn from(error: CheckError) -> Self {
        Self::Refused(error.to_string())
    }
}
