//! The HTTP side of the front door.

mod body;
mod front;
mod response;
mod traced;

pub(crate) use front::{App, handle};

#[cfg(test)]
mod tests;
