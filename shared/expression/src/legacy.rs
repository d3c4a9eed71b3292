//! The legacy parameters, from before there were expressions: `Expected`, `QueryFilter`, `ScanFilter`, `KeyConditions`,
//! `AttributeUpdates` and `ConditionalOperator`. Owns their static checks (API reference, "Legacy Conditional Parameters") and their
//! translation into the resolved forms that expressions have; never evaluates anything.

mod condition;
mod update;

pub use condition::{Comparison, ComparisonOperator, Expected, Joint};
pub use condition::{expected_condition, filter_condition, key_terms};
pub use update::{AttributeUpdate, UpdateAction, legacy_update};
