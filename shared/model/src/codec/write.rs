//! Writes values in the stored form. Never fails.

use super::tag;
use crate::{AttributeValue, Item, Number};

pub(super) fn put_map(map: &Item, out: &mut Vec<u8>) {
    put_length(map.len(), out);
    for (name, value) in map {
        put_bytes(name.as_bytes(), out);
        put_value(value, out);
    }
}

pub(super) fn put_value(value: &AttributeValue, out: &mut Vec<u8>) {
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
pub(super) fn put_container(tag: u8, out: &mut Vec<u8>, content: impl FnOnce(&mut Vec<u8>)) {
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
pub(super) fn put_set<T: Ord>(set: &[T], out: &mut Vec<u8>, put: impl Fn(&T, &mut Vec<u8>)) {
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

pub(super) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

pub(super) fn put_length(mut length: usize, out: &mut Vec<u8>) {
    while length > 0x7f {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}
