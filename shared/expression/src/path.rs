//! Document paths.

use serde::{Deserialize, Serialize};

/// A document path: an attribute name, then `.name` and `[index]` steps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Path(pub Vec<Step>);

/// One step of a path; the first is always a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Step {
    /// Attribute or map entry.
    Name(String),
    /// List element.
    Index(u32),
}
