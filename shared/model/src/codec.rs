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

use bytes::Bytes;

use crate::json;
use crate::number::Encoded;
use crate::size;
use crate::{AttributeValue, Item, Number};

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

type Result<T> = std::result::Result<T, CodecError>;

const CUT: CodecError = CodecError("it ends too early");
const UNORDERED: CodecError = CodecError("names or set elements are not in order");
const TOO_DEEP: CodecError = CodecError("nested too deeply");

// Writing

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

fn put_map(map: &Item, out: &mut Vec<u8>) {
    put_length(map.len(), out);
    for (name, value) in map {
        put_bytes(name.as_bytes(), out);
        put_value(value, out);
    }
}

fn put_value(value: &AttributeValue, out: &mut Vec<u8>) {
    match value {
        AttributeValue::S(text) => {
            out.push(tag::STRING);
            put_bytes(text.as_bytes(), out);
        }
        AttributeValue::N(number) => {
            out.push(tag::NUMBER);
            number.encode_into(out);
        }
        AttributeValue::B(bytes) => {
            out.push(tag::BINARY);
            put_bytes(bytes, out);
        }
        AttributeValue::Bool(false) => out.push(tag::FALSE),
        AttributeValue::Bool(true) => out.push(tag::TRUE),
        AttributeValue::Null => out.push(tag::NULL),
        AttributeValue::StringSet(set) => put_container(tag::STRING_SET, out, |out| {
            put_set(set, out, |text, out| put_bytes(text.as_bytes(), out));
        }),
        AttributeValue::NumberSet(set) => put_container(tag::NUMBER_SET, out, |out| {
            put_set(set, out, Number::encode_into);
        }),
        AttributeValue::BinarySet(set) => put_container(tag::BINARY_SET, out, |out| {
            put_set(set, out, |bytes, out| put_bytes(bytes, out));
        }),
        AttributeValue::M(map) => put_container(tag::MAP, out, |out| put_map(map, out)),
        AttributeValue::L(list) => put_container(tag::LIST, out, |out| {
            put_length(list.len(), out);
            for value in list {
                put_value(value, out);
            }
        }),
    }
}

/// Writes the tag, room for the length, the content, and then the length.
fn put_container(tag: u8, out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    content(out);
    // Items are at most 400 KB, so the length fits; a longer one would be unreadable rather than wrong.
    let length = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

/// Sets are kept sorted and free of duplicates by contract; one that is not is put in order here, because the bytes of
/// equal items must be equal and unreadable bytes must never be stored.
fn put_set<T: Ord>(set: &[T], out: &mut Vec<u8>, put: impl Fn(&T, &mut Vec<u8>)) {
    if set.is_sorted_by(|a, b| a < b) {
        put_length(set.len(), out);
        set.iter().for_each(|element| put(element, out));
    } else {
        let mut sorted: Vec<&T> = set.iter().collect();
        sorted.sort();
        sorted.dedup();
        put_length(sorted.len(), out);
        sorted.into_iter().for_each(|element| put(element, out));
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn put_length(mut length: usize, out: &mut Vec<u8>) {
    while length > 0x7f {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

// Reading

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

const TRAILING: CodecError = CodecError("bytes follow it");

/// What is left to be read.
#[derive(Clone, Copy, Debug)]
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self> {
        match bytes.split_first() {
            Some((&VERSION, bytes)) => Ok(Self { bytes }),
            Some(_) => Err(CodecError("unknown format version")),
            None => Err(CUT),
        }
    }

    fn end(&self) -> Result<()> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(TRAILING)
        }
    }

    fn byte(&mut self) -> Result<u8> {
        let (first, rest) = self.bytes.split_first().ok_or(CUT)?;
        self.bytes = rest;
        Ok(*first)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(CUT)?;
        self.bytes = rest;
        Ok(taken)
    }

    /// A variable-length integer in its shortest form, at most 2^28 - 1.
    fn length(&mut self) -> Result<usize> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return match byte {
                    0 if shift > 0 => Err(CodecError("a length is not in its shortest form")),
                    _ => Ok(value),
                };
            }
        }
        Err(CodecError("a length is too large"))
    }

    fn slice(&mut self) -> Result<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.slice()?).map_err(|_| CodecError("a text is not UTF-8"))
    }

    fn number(&mut self) -> Result<Number> {
        let (number, length) = Number::decode(self.bytes).ok_or(NOT_NUMBER)?;
        self.take(length)?;
        Ok(number)
    }

    fn encoded_number(&mut self) -> Result<(Encoded, &'a [u8])> {
        let encoded = Encoded::read(self.bytes).ok_or(NOT_NUMBER)?;
        let bytes = self.take(encoded.len())?;
        Ok((encoded, bytes))
    }

    /// The content of a container.
    fn content(&mut self) -> Result<Self> {
        let (length, rest) = self.bytes.split_first_chunk::<4>().ok_or(CUT)?;
        self.bytes = rest;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| CUT)?;
        Ok(Self {
            bytes: self.take(length)?,
        })
    }
}

const NOT_NUMBER: CodecError = CodecError("a number is malformed");
const EMPTY_SET: CodecError = CodecError("a set is empty");
const UNKNOWN_TAG: CodecError = CodecError("unknown type of value");

fn deeper(depth: usize) -> Result<usize> {
    if depth < DEPTH_MAX {
        Ok(depth + 1)
    } else {
        Err(TOO_DEEP)
    }
}

/// The next name of a map; names ascend.
fn take_name<'a>(reader: &mut Reader<'a>, last: &mut Option<&'a str>) -> Result<&'a str> {
    let name = reader.text()?;
    if last.is_some_and(|last| last >= name) {
        return Err(UNORDERED);
    }
    *last = Some(name);
    Ok(name)
}

/// Calls `each` for every element of a set, which must be ascending by `key`.
fn read_set<'a, T, K: PartialOrd>(
    reader: &mut Reader<'a>,
    take: impl Fn(&mut Reader<'a>) -> Result<T>,
    key: impl Fn(&T) -> K,
    mut each: impl FnMut(T),
) -> Result<()> {
    let mut content = reader.content()?;
    let count = content.length()?;
    if count == 0 {
        return Err(EMPTY_SET);
    }
    let mut last = None;
    for _ in 0..count {
        let element = take(&mut content)?;
        let key = key(&element);
        if last.is_some_and(|last| last >= key) {
            return Err(UNORDERED);
        }
        last = Some(key);
        each(element);
    }
    content.end()
}

fn take_set<'a, T: Clone + PartialOrd>(
    reader: &mut Reader<'a>,
    take: impl Fn(&mut Reader<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut set = Vec::new();
    read_set(reader, take, T::clone, |element| set.push(element))?;
    Ok(set)
}

fn take_map(reader: &mut Reader<'_>, depth: usize) -> Result<Item> {
    let count = reader.length()?;
    let mut last = None;
    // Names ascend, so the map is built in one go, without a search for each of them.
    (0..count)
        .map(|_| {
            let name = take_name(reader, &mut last)?.to_owned();
            Ok((name, take_value(reader, depth)?))
        })
        .collect()
}

fn take_value(reader: &mut Reader<'_>, depth: usize) -> Result<AttributeValue> {
    Ok(match reader.byte()? {
        tag::STRING => AttributeValue::S(reader.text()?.to_owned()),
        tag::NUMBER => AttributeValue::N(reader.number()?),
        tag::BINARY => AttributeValue::B(Bytes::copy_from_slice(reader.slice()?)),
        tag::FALSE => AttributeValue::Bool(false),
        tag::TRUE => AttributeValue::Bool(true),
        tag::NULL => AttributeValue::Null,
        tag::STRING_SET => {
            let set = take_set(reader, Reader::text)?;
            AttributeValue::StringSet(set.into_iter().map(str::to_owned).collect())
        }
        tag::NUMBER_SET => AttributeValue::NumberSet(take_set(reader, Reader::number)?),
        tag::BINARY_SET => {
            let set = take_set(reader, Reader::slice)?;
            AttributeValue::BinarySet(set.into_iter().map(Bytes::copy_from_slice).collect())
        }
        tag::MAP => {
            let mut content = reader.content()?;
            let map = take_map(&mut content, deeper(depth)?)?;
            content.end()?;
            AttributeValue::M(map)
        }
        tag::LIST => {
            let mut content = reader.content()?;
            let depth = deeper(depth)?;
            let count = content.length()?;
            // Every element has a byte at least, so a lying count allocates no more than the input warrants.
            let mut list = Vec::with_capacity(count.min(content.bytes.len()));
            for _ in 0..count {
                list.push(take_value(&mut content, depth)?);
            }
            content.end()?;
            AttributeValue::L(list)
        }
        _ => return Err(UNKNOWN_TAG),
    })
}

fn skip_value(reader: &mut Reader<'_>) -> Result<()> {
    match reader.byte()? {
        tag::STRING | tag::BINARY => reader.slice().map(drop),
        tag::NUMBER => reader.encoded_number().map(drop),
        tag::FALSE | tag::TRUE | tag::NULL => Ok(()),
        tag::STRING_SET..=tag::LIST => reader.content().map(drop),
        _ => Err(UNKNOWN_TAG),
    }
}

// DynamoDB JSON

fn map_json(reader: &mut Reader<'_>, out: &mut Vec<u8>, depth: usize) -> Result<()> {
    let count = reader.length()?;
    let mut last = None;
    out.push(b'{');
    for index in 0..count {
        if index > 0 {
            out.push(b',');
        }
        let name = take_name(reader, &mut last)?;
        json::write_string(name, out);
        out.push(b':');
        value_json(reader, out, depth)?;
    }
    out.push(b'}');
    Ok(())
}

fn value_json(reader: &mut Reader<'_>, out: &mut Vec<u8>, depth: usize) -> Result<()> {
    match reader.byte()? {
        tag::STRING => {
            out.extend_from_slice(b"{\"S\":");
            json::write_string(reader.text()?, out);
        }
        tag::NUMBER => {
            out.extend_from_slice(b"{\"N\":");
            number_json(&reader.encoded_number()?.0, out);
        }
        tag::BINARY => {
            out.extend_from_slice(b"{\"B\":");
            json::write_base64(reader.slice()?, out);
        }
        tag::FALSE => out.extend_from_slice(b"{\"BOOL\":false"),
        tag::TRUE => out.extend_from_slice(b"{\"BOOL\":true"),
        tag::NULL => out.extend_from_slice(b"{\"NULL\":true"),
        tag::STRING_SET => set_json(
            b"{\"SS\":",
            reader,
            out,
            Reader::text,
            |text| *text,
            |text, out| {
                json::write_string(text, out);
            },
        )?,
        tag::NUMBER_SET => {
            set_json(
                b"{\"NS\":",
                reader,
                out,
                Reader::encoded_number,
                |n| n.1,
                |n, out| {
                    number_json(&n.0, out);
                },
            )?;
        }
        tag::BINARY_SET => {
            set_json(
                b"{\"BS\":",
                reader,
                out,
                Reader::slice,
                |bytes| *bytes,
                |bytes, out| {
                    json::write_base64(bytes, out);
                },
            )?;
        }
        tag::MAP => {
            out.extend_from_slice(b"{\"M\":");
            let mut content = reader.content()?;
            map_json(&mut content, out, deeper(depth)?)?;
            content.end()?;
        }
        tag::LIST => {
            out.extend_from_slice(b"{\"L\":[");
            let depth = deeper(depth)?;
            let mut content = reader.content()?;
            for index in 0..content.length()? {
                if index > 0 {
                    out.push(b',');
                }
                value_json(&mut content, out, depth)?;
            }
            content.end()?;
            out.push(b']');
        }
        _ => return Err(UNKNOWN_TAG),
    }
    out.push(b'}');
    Ok(())
}

fn number_json(number: &Encoded, out: &mut Vec<u8>) {
    out.push(b'"');
    number.write_text(out);
    out.push(b'"');
}

fn set_json<'a, T, K: PartialOrd>(
    opening: &[u8],
    reader: &mut Reader<'a>,
    out: &mut Vec<u8>,
    take: impl Fn(&mut Reader<'a>) -> Result<T>,
    key: impl Fn(&T) -> K,
    write: impl Fn(&T, &mut Vec<u8>),
) -> Result<()> {
    out.extend_from_slice(opening);
    let mut separator = b'[';
    read_set(reader, take, key, |element| {
        out.push(separator);
        separator = b',';
        write(&element, out);
    })?;
    out.push(b']');
    Ok(())
}

// Sizes

fn map_size(reader: &mut Reader<'_>, depth: usize) -> Result<u64> {
    let count = reader.length()?;
    let mut last = None;
    let mut size = 0;
    for _ in 0..count {
        size += take_name(reader, &mut last)?.len() as u64;
        size += encoded_value_size(reader, depth)?;
    }
    Ok(size)
}

fn encoded_value_size(reader: &mut Reader<'_>, depth: usize) -> Result<u64> {
    let mut size = 0;
    match reader.byte()? {
        tag::STRING | tag::BINARY => size = reader.slice()?.len() as u64,
        tag::NUMBER => size = reader.encoded_number()?.0.size_bytes(),
        tag::FALSE | tag::TRUE | tag::NULL => size = size::FLAG_BYTES,
        tag::STRING_SET | tag::BINARY_SET => {
            read_set(
                reader,
                Reader::slice,
                |bytes| *bytes,
                |bytes| size += bytes.len() as u64,
            )?;
        }
        tag::NUMBER_SET => {
            read_set(
                reader,
                Reader::encoded_number,
                |n| n.1,
                |n| size += n.0.size_bytes(),
            )?;
        }
        tag::MAP => {
            let mut content = reader.content()?;
            let mut ahead = content;
            size = size::CONTAINER_BYTES + ahead.length()? as u64 * size::ELEMENT_BYTES;
            size += map_size(&mut content, deeper(depth)?)?;
            content.end()?;
        }
        tag::LIST => {
            let mut content = reader.content()?;
            let depth = deeper(depth)?;
            size = size::CONTAINER_BYTES;
            for _ in 0..content.length()? {
                size += size::ELEMENT_BYTES + encoded_value_size(&mut content, depth)?;
            }
            content.end()?;
        }
        _ => return Err(UNKNOWN_TAG),
    }
    Ok(size)
}
