//! The HTTP side of the front door.

mod body;
mod front;
mod response;

pub(crate) use front::{App, handle};

#[cfg(test)]
mod tests;
