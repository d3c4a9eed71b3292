//! The table line: what a table may consume through this router, asked before a request is routed and settled with its real cost afterwards
//! (ADR 0005). Everything is decided by `tokens::Shares`; here are its lock, its clock (`line`), and its messages (`exchange`). No request
//! ever waits for global admission control.

mod backend;
mod exchange;
mod line;

pub(crate) use backend::Limited;
pub(crate) use exchange::Exchange;
pub(crate) use line::{TableLine, WORDS};
