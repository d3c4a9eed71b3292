//! The router: the HTTP front door of the mesh. Checks signatures, validates requests, resolves expressions, finds the
//! partition and asks its storage node; passes control-plane calls on to the admin. Holds caches only, never data; never
//! evaluates an expression (storage leaders do).

mod access;
mod admission;
mod answer;
mod auth;
mod backend;
mod constraints;
mod consumed;
mod http;
mod legacy;
mod marks;
mod metrics;
mod operation;
mod operations;
mod outcomes;
mod parameters;
mod request_id;
mod requests;
mod server;
mod settings;
mod streams;
mod supervisor;
mod texts;
mod tokens;
mod transact;

#[cfg(test)]
mod fake;

pub use server::{Running, start};
pub use settings::{AccessKey, RouterSettings, Secret, TokenSettings};
