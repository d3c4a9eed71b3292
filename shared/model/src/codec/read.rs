//! Reads the stored form: the cursor that all readers share, values, and stepping over values. Checks everything that it
//! passes; never goes deeper than `DEPTH_MAX`.

use bytes::Bytes;

use super::{
    CUT, CodecError, DEPTH_MAX, EMPTY_SET, NOT_NUMBER, Result, TOO_DEEP, TRAILING, UNKNOWN_TAG,
    UNORDERED, VERSION, tag,
};
use crate::number::Encoded;
use crate::{AttributeValue, Item, Number};

/// What is left to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self> {
        match bytes.split_first() {
            Some((&VERSION, bytes)) => Ok(Self { bytes }),
            Some(_) => Err(CodecError("unknown format version")),
            None => Err(CUT),
        }
    }

    pub(super) fn end(&self) -> Result<()> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(TRAILING)
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        let (first, rest) = self.bytes.split_first().ok_or(CUT)?;
        self.bytes = rest;
        Ok(*first)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(CUT)?;
        self.bytes = rest;
        Ok(taken)
    }

    /// A variable-length integer in its shortest form, at most 2^28 - 1.
    pub(super) fn length(&mut self) -> Result<usize> {
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

    pub(super) fn slice(&mut self) -> Result<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.slice()?).map_err(|_| CodecError("a text is not UTF-8"))
    }

    pub(super) fn number(&mut self) -> Result<Number> {
        let (number, length) = Number::decode(self.bytes).ok_or(NOT_NUMBER)?;
        self.take(length)?;
        Ok(number)
    }

    pub(super) fn encoded_number(&mut self) -> Result<(Encoded, &'a [u8])> {
        let encoded = Encoded::read(self.bytes).ok_or(NOT_NUMBER)?;
        let bytes = self.take(encoded.len())?;
        Ok((encoded, bytes))
    }

    /// The content of a container.
    pub(super) fn content(&mut self) -> Result<Self> {
        let (length, rest) = self.bytes.split_first_chunk::<4>().ok_or(CUT)?;
        self.bytes = rest;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| CUT)?;
        Ok(Self {
            bytes: self.take(length)?,
        })
    }
}

pub(super) fn deeper(depth: usize) -> Result<usize> {
    if depth < DEPTH_MAX {
        Ok(depth + 1)
    } else {
        Err(TOO_DEEP)
    }
}

/// The next name of a map; names ascend.
pub(super) fn take_name<'a>(
    reader: &mut Reader<'a>,
    last: &mut Option<&'a str>,
) -> Result<&'a str> {
    let name = reader.text()?;
    if last.is_some_and(|last| last >= name) {
        return Err(UNORDERED);
    }
    *last = Some(name);
    Ok(name)
}

/// Calls `each` for every element of a set, which must be ascending by `key`.
pub(super) fn read_set<'a, T, K: PartialOrd>(
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

pub(super) fn take_set<'a, T: Clone + PartialOrd>(
    reader: &mut Reader<'a>,
    take: impl Fn(&mut Reader<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut set = Vec::new();
    read_set(reader, take, T::clone, |element| set.push(element))?;
    Ok(set)
}

pub(super) fn take_map(reader: &mut Reader<'_>, depth: usize) -> Result<Item> {
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

pub(super) fn take_value(reader: &mut Reader<'_>, depth: usize) -> Result<AttributeValue> {
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

pub(super) fn skip_value(reader: &mut Reader<'_>) -> Result<()> {
    match reader.byte()? {
        tag::STRING | tag::BINARY => reader.slice().map(drop),
        tag::NUMBER => reader.encoded_number().map(drop),
        tag::FALSE | tag::TRUE | tag::NULL => Ok(()),
        tag::STRING_SET..=tag::LIST => reader.content().map(drop),
        _ => Err(UNKNOWN_TAG),
    }
}
