//! The stored form of items: one compact, deterministic binary encoding that is used in the WAL, in LMDB and between
//! services, and that can be turned into DynamoDB JSON without building an `Item`.
//!
//! Format 1: the version byte, then the item as the content of a map. Numbers are in `Number`'s binary form, lengths and
//! counts are variable-length integers (7 bits a byte, low first, shortest form), in brackets what a value has behind its
//! tag byte:
//! S, B [length, bytes] · N [number] · FALSE, TRUE, NULL [] · SS, NS, BS, M, L [bytes of content (4, little endian), content];
//! content = count, then elements: of sets, ascending; of maps, (name length, name, value) with names ascending.
//! The length in front of containers lets a reader step over what it does not want.
//!
//! Readers accept exactly what `encode_item` writes (the shortest forms, in order, valid UTF-8), so one item has one
//! encoding and digests of stored bytes can be compared. Any bytes are safe input.

mod json;
mod read;
mod size;
mod write;

use bytes::Bytes;

use crate::{AttributeValue, Item};
use json::{map_json, value_json};
use read::{Reader, skip_value, take_map, take_name, take_value};
use size::map_size;
use write::{put_bytes, put_length, put_map};

/// Deepest nesting that a reader follows: above what the API lets in (32), low enough for any stack.
pub const DEPTH_MAX: usize = 64;

const VERSION: u8 = 1;

/// First byte of every value.
mod tag {
    pub const STRING: u8 = 1;
    pub const NUMBER: u8 = 2;
    pub const BINARY: u8 = 3;
    pub const FALSE: u8 = 4;
    pub const TRUE: u8 = 5;
    pub const NULL: u8 = 6;
    pub const STRING_SET: u8 = 7;
    pub const NUMBER_SET: u8 = 8;
    pub const BINARY_SET: u8 = 9;
    pub const MAP: u8 = 10;
    pub const LIST: u8 = 11;
}

/// The bytes are not an encoded item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an encoded item: {0}")]
pub struct CodecError(pub &'static str);

/// What reading an encoded item gives.
pub type Result<T> = std::result::Result<T, CodecError>;

const CUT: CodecError = CodecError("it ends too early");
const UNORDERED: CodecError = CodecError("names or set elements are not in order");
const TOO_DEEP: CodecError = CodecError("nested too deeply");
const TRAILING: CodecError = CodecError("bytes follow it");
const NOT_NUMBER: CodecError = CodecError("a number is malformed");
const EMPTY_SET: CodecError = CodecError("a set is empty");
const UNKNOWN_TAG: CodecError = CodecError("unknown type of value");

/// Encodes an item; equal items give equal bytes.
pub fn encode_item(item: &Item) -> Bytes {
    // Most items are a few hundred bytes: one allocation.
    let mut out = Vec::with_capacity(512);
    encode_item_into(item, &mut out);
    Bytes::from(out)
}

/// Appends the encoded item to `out`.
pub fn encode_item_into(item: &Item, out: &mut Vec<u8>) {
    out.push(VERSION);
    put_map(item, out);
}

/// Decodes an item.
pub fn decode_item(bytes: &[u8]) -> Result<Item> {
    let mut reader = Reader::open(bytes)?;
    let item = take_map(&mut reader, 0)?;
    reader.end()?;
    Ok(item)
}

/// Appends the item as DynamoDB JSON (`{"a":{"S":"x"},…}`) without decoding it into an `Item`. On an error `out` is as
/// it was.
pub fn write_json(bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    // Quotes, braces and type letters come on top of the content.
    out.reserve(bytes.len() + bytes.len() / 4 + 32);
    let written = Reader::open(bytes).and_then(|mut reader| {
        map_json(&mut reader, out, 0)?;
        reader.end()
    });
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// Size in bytes as DynamoDB counts it (see `crate::size`), computed from the encoded form.
pub fn encoded_item_size(bytes: &[u8]) -> Result<u64> {
    let mut reader = Reader::open(bytes)?;
    let size = map_size(&mut reader, 0)?;
    reader.end()?;
    Ok(size)
}

/// One top-level attribute, without decoding the others.
pub fn get_attribute(bytes: &[u8], name: &str) -> Result<Option<AttributeValue>> {
    for attribute in attributes(bytes)? {
        let attribute = attribute?;
        // Names ascend: behind the wanted one there is nothing to be found.
        match attribute.name.cmp(name) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => return attribute.decode().map(Some),
            std::cmp::Ordering::Greater => return Ok(None),
        }
    }
    Ok(None)
}

/// The encoded item that has only these top-level attributes of the encoded item `bytes`; names that it lacks are left out.
pub fn pick_attributes(bytes: &[u8], names: &[&str]) -> Result<Bytes> {
    let mut content = Vec::with_capacity(64);
    let mut count = 0;
    for attribute in attributes(bytes)? {
        let attribute = attribute?;
        if names.contains(&attribute.name) {
            count += 1;
            put_bytes(attribute.name.as_bytes(), &mut content);
            content.extend_from_slice(attribute.value);
        }
    }
    let mut out = Vec::with_capacity(content.len() + 4);
    out.push(VERSION);
    put_length(count, &mut out);
    out.extend_from_slice(&content);
    Ok(Bytes::from(out))
}

/// The top-level attributes of an encoded item, in the order of their names; values are stepped over, not decoded.
pub fn attributes(bytes: &[u8]) -> Result<Attributes<'_>> {
    let mut reader = Reader::open(bytes)?;
    let left = reader.length()?;
    Ok(Attributes {
        reader,
        left,
        last_name: None,
    })
}

/// See `attributes`. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    reader: Reader<'a>,
    left: usize,
    last_name: Option<&'a str>,
}

/// A top-level attribute whose value is still encoded.
#[derive(Clone, Copy, Debug)]
pub struct EncodedAttribute<'a> {
    /// Attribute name.
    pub name: &'a str,
    value: &'a [u8],
}

impl EncodedAttribute<'_> {
    /// Decodes the value.
    pub fn decode(&self) -> Result<AttributeValue> {
        let mut reader = Reader { bytes: self.value };
        let value = take_value(&mut reader, 0)?;
        reader.end()?;
        Ok(value)
    }

    /// Appends the value as DynamoDB JSON.
    pub fn write_json(&self, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        let mut reader = Reader { bytes: self.value };
        let written = value_json(&mut reader, out, 0).and_then(|()| reader.end());
        if written.is_err() {
            out.truncate(start);
        }
        written
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<EncodedAttribute<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            // Trailing bytes are an error, told once.
            let trailing = !std::mem::take(&mut self.reader.bytes).is_empty();
            return trailing.then_some(Err(TRAILING));
        }
        self.left -= 1;
        let mut read = || {
            let name = take_name(&mut self.reader, &mut self.last_name)?;
            let from = self.reader.bytes;
            skip_value(&mut self.reader)?;
            let value = &from[..from.len() - self.reader.bytes.len()];
            Ok(EncodedAttribute { name, value })
        };
        let attribute = read();
        if attribute.is_err() {
            *self = Self {
                reader: Reader { bytes: &[] },
                left: 0,
                last_name: None,
            };
        }
        Some(attribute)
    }
}
