//! Answers, written straight as bytes: encoded items become JSON without being decoded.

use model::{ApiError, codec, json};

use crate::texts;

/// A JSON object in the making.
pub(crate) struct Answer {
    out: Vec<u8>,
    empty: bool,
}

impl Answer {
    /// An empty object with room for about `bytes`.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let mut out = Vec::with_capacity(bytes);
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Begins a member: what is written to the result next is its value.
    pub(crate) fn member(&mut self, name: &str) -> &mut Vec<u8> {
        comma(&mut self.out, &mut self.empty);
        json::write_string(name, &mut self.out);
        self.out.push(b':');
        &mut self.out
    }

    /// A member that is an encoded item.
    pub(crate) fn item(&mut self, name: &str, encoded: &[u8]) -> Result<(), ApiError> {
        write_item(encoded, self.member(name))
    }

    /// A member that is a whole number.
    pub(crate) fn number(&mut self, name: &str, value: u64) {
        let out = self.member(name);
        out.extend_from_slice(value.to_string().as_bytes());
    }

    /// The finished object.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.out.push(b'}');
        self.out
    }
}

/// Appends a comma, except before the first element.
pub(crate) fn comma(out: &mut Vec<u8>, first: &mut bool) {
    if *first {
        *first = false;
    } else {
        out.push(b',');
    }
}

/// Appends an encoded item as JSON.
pub(crate) fn write_item(encoded: &[u8], out: &mut Vec<u8>) -> Result<(), ApiError> {
    codec::write_json(encoded, out).map_err(texts::internal)
}

/// Appends encoded items as a JSON list.
pub(crate) fn write_items<'a>(
    items: impl IntoIterator<Item = &'a [u8]>,
    out: &mut Vec<u8>,
) -> Result<(), ApiError> {
    out.push(b'[');
    let mut first = true;
    for item in items {
        comma(out, &mut first);
        write_item(item, out)?;
    }
    out.push(b']');
    Ok(())
}
