//! Why an object of the archive is refused. Owns the words for it; who refuses names the object.

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It was written by a version that is newer than this one, or it is no such object.
    #[error("its format is not known: {0}")]
    UnknownFormat(String),
    /// Its bytes are not those that were written.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It is whole, and belongs to another partition or another place.
    #[error("it does not belong here: {0}")]
    Foreign(String),
    /// It is whole, and what it says cannot be, or contradicts another object.
    #[error("it contradicts: {0}")]
    Contradicts(String),
}

/// An object is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("archived object {key} is refused: {fault}")]
pub struct Refusal {
    /// Key of the object, below the archive's prefix.
    pub key: String,
    /// Why.
    pub fault: Fault,
}

impl Fault {
    /// As the refusal of the object with this key.
    pub fn at(self, key: impl Into<String>) -> Refusal {
        Refusal {
            key: key.into(),
            fault: self,
        }
    }

    pub(crate) fn damaged(what: impl Into<String>) -> Fault {
        Fault::Damaged(what.into())
    }

    pub(crate) fn foreign(what: impl Into<String>) -> Fault {
        Fault::Foreign(what.into())
    }

    pub(crate) fn contradicts(what: impl Into<String>) -> Fault {
        Fault::Contradicts(what.into())
    }
}
