//! From the stored form straight to DynamoDB JSON: the last step of every read.

use super::read::{Reader, deeper, read_set, take_name};
use super::{Result, UNKNOWN_TAG, tag};
use crate::json;
use crate::number::Encoded;

pub(super) fn map_json(reader: &mut Reader<'_>, out: &mut Vec<u8>, depth: usize) -> Result<()> {
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

pub(super) fn value_json(reader: &mut Reader<'_>, out: &mut Vec<u8>, depth: usize) -> Result<()> {
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

pub(super) fn number_json(number: &Encoded, out: &mut Vec<u8>) {
    out.push(b'"');
    number.write_text(out);
    out.push(b'"');
}

pub(super) fn set_json<'a, T, K: PartialOrd>(
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
