//! Imported files as records: lines of DynamoDB JSON, or of a CSV file. Owns what is a record and what is wrong with it; what cannot be read is an
//! error of that record, and the next one is read.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use model::codec::encode_item;
use model::error::texts;
use model::json::JsonItem;
use model::key::key_from_item;
use model::size::{ITEM_BYTES_MAX, item_size};
use model::table::{KeyAttribute, ScalarType};
use model::{AttributeValue, EncodedKey, Item, Number, TableDefinition};
use protocol::jobs::Format;
use serde::Deserialize;

/// A longer line is no item: an item has 400 KB at most, and its JSON a few times as many.
const LINE_BYTES_MAX: usize = 8 << 20;

/// A record: an item with its key, or what is wrong with it.
pub(crate) type Record = Result<(EncodedKey, Bytes), String>;

/// Reads the records of a file. An error ends it: what comes behind cannot be read.
pub(crate) enum Records<'a, R: Read> {
    Json {
        table: &'a TableDefinition,
        lines: BufReader<R>,
    },
    Csv {
        table: &'a TableDefinition,
        header: Vec<String>,
        rows: Box<csv::Reader<R>>,
    },
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "Item")]
    item: JsonItem,
}

impl<'a, R: Read> Records<'a, R> {
    /// The records of a file of this form.
    pub(crate) fn open(
        file: R,
        format: &Format,
        table: &'a TableDefinition,
    ) -> Result<Self, String> {
        let (delimiter, header) = match format {
            Format::DynamoDbJson => {
                let lines = BufReader::new(file);
                return Ok(Self::Json { table, lines });
            }
            Format::Csv { delimiter, header } => (delimiter, header),
        };
        let delimiter = u8::try_from(*delimiter).map_err(|error| error.to_string())?;
        let mut rows = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(header.is_none())
            .flexible(true)
            .from_reader(file);
        let header = match header {
            Some(header) => header.clone(),
            None => {
                let header = rows.headers().map_err(|error| error.to_string())?;
                header.iter().map(str::to_owned).collect()
            }
        };
        check_header(&header, table)?;
        Ok(Self::Csv {
            table,
            header,
            rows: Box::new(rows),
        })
    }

    /// The next record; none: the file ends.
    pub(crate) fn next(&mut self) -> Result<Option<Record>, String> {
        match self {
            Self::Json { table, lines } => loop {
                let Some(line) = next_line(lines)? else {
                    return Ok(None);
                };
                match line {
                    Ok(line) if line.trim_ascii().is_empty() => {}
                    Ok(line) => return Ok(Some(of_line(&line, table))),
                    Err(why) => return Ok(Some(Err(why))),
                }
            },
            Self::Csv {
                table,
                header,
                rows,
            } => {
                let mut row = csv::StringRecord::new();
                match rows.read_record(&mut row) {
                    Ok(false) => Ok(None),
                    Ok(true) => Ok(Some(of_row(&row, header, table))),
                    // Text that is no UTF-8: the reader is behind the row.
                    Err(error) if matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) => {
                        Ok(Some(Err(error.to_string())))
                    }
                    Err(error) => Err(error.to_string()),
                }
            }
        }
    }
}

/// One line without its end; the inner error: it is too long, and was passed over.
fn next_line(lines: &mut impl BufRead) -> Result<Option<Result<Vec<u8>, String>>, String> {
    let mut line = Vec::new();
    let failed = |error: std::io::Error| error.to_string();
    let read = lines
        .by_ref()
        .take(LINE_BYTES_MAX as u64)
        .read_until(b'\n', &mut line);
    if read.map_err(failed)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') || line.len() < LINE_BYTES_MAX {
        return Ok(Some(Ok(line)));
    }
    // The rest of it, piece by piece.
    loop {
        let buffered = lines.fill_buf().map_err(failed)?;
        let end = buffered.iter().position(|&byte| byte == b'\n');
        let length = end.map_or(buffered.len(), |end| end + 1);
        let is_over = end.is_some() || buffered.is_empty();
        lines.consume(length);
        if is_over {
            return Ok(Some(Err(format!(
                "a line is longer than {LINE_BYTES_MAX} bytes"
            ))));
        }
    }
}

fn of_line(line: &[u8], table: &TableDefinition) -> Record {
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let JsonItem(item) = line.item;
    checked(item.map_err(|error| error.message)?, table)
}

fn checked(item: Item, table: &TableDefinition) -> Record {
    let key = key_from_item(table, &item).map_err(|error| error.message)?;
    if item_size(&item) > ITEM_BYTES_MAX {
        return Err(texts::ITEM_SIZE.to_owned());
    }
    Ok((key, encode_item(&item)))
}

fn keys(table: &TableDefinition) -> impl Iterator<Item = &KeyAttribute> {
    std::iter::once(&table.keys.partition).chain(&table.keys.sort)
}

fn check_header(header: &[String], table: &TableDefinition) -> Result<(), String> {
    let names: BTreeSet<&str> = header.iter().map(String::as_str).collect();
    if names.len() != header.len() || names.contains("") {
        return Err("the header has a name twice, or an empty one".to_owned());
    }
    match keys(table).find(|key| !names.contains(key.name.as_str())) {
        Some(key) => Err(format!("the header lacks the key attribute {}", key.name)),
        None => Ok(()),
    }
}

/// Key attributes have the types of the table; all others are strings, and what is empty is left out.
fn of_row(row: &csv::StringRecord, header: &[String], table: &TableDefinition) -> Record {
    if row.len() != header.len() {
        return Err(format!(
            "{} values, the header has {}",
            row.len(),
            header.len()
        ));
    }
    let mut item = Item::new();
    for (name, value) in header.iter().zip(row) {
        let kind = keys(table)
            .find(|key| key.name == *name)
            .map(|key| key.kind);
        let value = match kind {
            None if value.is_empty() => continue,
            None | Some(ScalarType::S) => AttributeValue::S(value.to_owned()),
            Some(ScalarType::N) => {
                let number = Number::parse(value).map_err(|error| error.to_string());
                AttributeValue::N(number.map_err(|why| format!("{name}: {why}"))?)
            }
            Some(ScalarType::B) => {
                let bytes = STANDARD
                    .decode(value)
                    .map_err(|error| format!("{name}: {error}"));
                AttributeValue::B(bytes?.into())
            }
        };
        item.insert(name.clone(), value);
    }
    checked(item, table)
}

#[cfg(test)]
#[path = "lines_tests.rs"]
pub(crate) mod tests;
