//! Sizes of stored items, by the rules of `crate::size`, without decoding them.

use super::read::{Reader, deeper, read_set, take_name};
use super::{Result, UNKNOWN_TAG, tag};
use crate::size;

pub(super) fn map_size(reader: &mut Reader<'_>, depth: usize) -> Result<u64> {
    let count = reader.length()?;
    let mut last = None;
    let mut size = 0;
    for _ in 0..count {
        size += take_name(reader, &mut last)?.len() as u64;
        size += encoded_value_size(reader, depth)?;
    }
    Ok(size)
}

pub(super) fn encoded_value_size(reader: &mut Reader<'_>, depth: usize) -> Result<u64> {
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
