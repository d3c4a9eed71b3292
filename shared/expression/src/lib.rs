//! DynamoDB expressions: condition, filter, key condition, projection and update. Owns their syntax (lexer, parser, reserved words,
//! limits), the resolution of `#names` and `:values`, and their evaluation against an item. Never touches storage or the network.
//!
//! The flow: the router calls the `parse_*` functions with the request's placeholders, which gives *resolved* expressions (no
//! placeholders left, all static checks done); these travel to the storage leader in MessagePack and are evaluated there.
//! Resolved conditions and updates are flat programs, not trees, so that neither decoding nor evaluating one can exhaust the stack.

pub mod condition;
pub mod key_condition;
pub mod legacy;
mod lexer;
mod operand;
mod parser;
pub mod partiql;
pub mod path;
pub mod placeholders;
pub mod projection;
mod reserved;
mod resolver;
mod texts;
pub mod update;

pub use condition::{Condition, ConditionKind, parse_condition};
pub use key_condition::{
    IndexCondition, KeyCondition, KeyTerms, SortCondition, parse_key_condition, parse_key_terms,
};
pub use path::{Path, Step};
pub use placeholders::Placeholders;
pub use projection::{Projection, parse_projection};
pub use update::{Update, Updated, parse_update};
