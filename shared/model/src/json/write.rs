//! Writers of DynamoDB JSON: straight into a byte buffer, or as serde values inside of larger answers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::{AttributeValue, Item};

/// Serialises a value as DynamoDB JSON inside of a larger answer.
#[derive(Clone, Copy, Debug)]
pub struct ValueJson<'a>(pub &'a AttributeValue);

/// Serialises an item as DynamoDB JSON inside of a larger answer.
#[derive(Clone, Copy, Debug)]
pub struct ItemJson<'a>(pub &'a Item);

impl Serialize for ValueJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        let kind = self.0.type_name();
        match self.0 {
            AttributeValue::S(text) => map.serialize_entry(kind, text)?,
            AttributeValue::N(number) => map.serialize_entry(kind, number)?,
            AttributeValue::B(bytes) => map.serialize_entry(kind, &STANDARD.encode(bytes))?,
            AttributeValue::Bool(value) => map.serialize_entry(kind, value)?,
            AttributeValue::Null => map.serialize_entry(kind, &true)?,
            AttributeValue::StringSet(set) => map.serialize_entry(kind, set)?,
            AttributeValue::NumberSet(set) => map.serialize_entry(kind, set)?,
            AttributeValue::BinarySet(set) => {
                let set: Vec<String> = set.iter().map(|bytes| STANDARD.encode(bytes)).collect();
                map.serialize_entry(kind, &set)?;
            }
            AttributeValue::M(item) => map.serialize_entry(kind, &ItemJson(item))?,
            AttributeValue::L(list) => {
                let list: Vec<ValueJson<'_>> = list.iter().map(ValueJson).collect();
                map.serialize_entry(kind, &list)?;
            }
        }
        map.end()
    }
}

impl Serialize for ItemJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, ValueJson(value))))
    }
}

/// Appends a value as DynamoDB JSON (`{"S":"x"}`).
pub fn write_value(value: &AttributeValue, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(value.type_name().as_bytes());
    out.extend_from_slice(b"\":");
    match value {
        AttributeValue::S(text) => write_string(text, out),
        AttributeValue::N(number) => write_number(number, out),
        AttributeValue::B(bytes) => write_base64(bytes, out),
        AttributeValue::Bool(false) => out.extend_from_slice(b"false"),
        AttributeValue::Bool(true) | AttributeValue::Null => out.extend_from_slice(b"true"),
        AttributeValue::StringSet(set) => write_list(set, out, |text, out| write_string(text, out)),
        AttributeValue::NumberSet(set) => write_list(set, out, write_number),
        AttributeValue::BinarySet(set) => {
            write_list(set, out, |bytes, out| write_base64(bytes, out));
        }
        AttributeValue::M(item) => write_item(item, out),
        AttributeValue::L(list) => write_list(list, out, write_value),
    }
    out.push(b'}');
}

/// Appends an item as DynamoDB JSON.
pub fn write_item(item: &Item, out: &mut Vec<u8>) {
    out.push(b'{');
    for (index, (name, value)) in item.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_string(name, out);
        out.push(b':');
        write_value(value, out);
    }
    out.push(b'}');
}

fn write_list<T>(list: &[T], out: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (index, element) in list.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(element, out);
    }
    out.push(b']');
}

fn write_number(number: &crate::Number, out: &mut Vec<u8>) {
    out.push(b'"');
    number.write_text(out);
    out.push(b'"');
}

/// Appends bytes as a JSON string in base64.
pub fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, b'=');
    // The room is exact, so this cannot fail; were it to, what is left is padding, not another's bytes.
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}

/// Appends a JSON string, quoted and escaped.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.push(b'"');
    let (mut copied, mut at) = (0, 0);
    loop {
        at = next_to_escape(bytes, at);
        out.extend_from_slice(&bytes[copied..at]);
        let Some(&byte) = bytes.get(at) else { break };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
        at += 1;
        copied = at;
    }
    out.push(b'"');
}

fn must_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// First place from `at` on whose byte must be escaped; looks at eight bytes at a time.
fn next_to_escape(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    // Some byte of the word is below `limit`. Borrows reach only bytes above a true hit, so the answer is exact.
    let any_below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let any_equal = |word: u64, byte: u8| any_below(word ^ (ONES * u64::from(byte)), 1);
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_ne_bytes(*chunk);
        if any_below(word, 0x20) | any_equal(word, b'"') | any_equal(word, b'\\') != 0 {
            break;
        }
        at += 8;
    }
    bytes[at..]
        .iter()
        .position(|byte| must_escape(*byte))
        .map_or(bytes.len(), |found| at + found)
}
