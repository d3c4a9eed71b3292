//! PartiQL for DynamoDB: SELECT, INSERT, UPDATE and DELETE statements (developer guide, "PartiQL for DynamoDB reference"). Owns their
//! syntax and their translation into what expressions resolve to: key conditions, filters, projections and updates. Never executes one.
//!
//! A statement is parsed with its parameters in place: what comes out holds values only. Nesting is bounded while parsing, so that no
//! text can exhaust the stack.

mod clause;
mod lexer;
mod literal;
mod parser;
mod statement;
mod texts;

pub use parser::parse;
pub use statement::{
    Access, Delete, Exists, Insert, KeyedWrite, Select, Statement, Target, Update, WriteReturn,
};
