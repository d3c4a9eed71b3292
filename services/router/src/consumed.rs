//! `ConsumedCapacity`: what a request cost, in the detail that it asked for.

pub(crate) use model::capacity::Direction;
use model::{Units, json};

use crate::answer::{Answer, comma};

/// `ReturnConsumedCapacity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    None,
    Total,
    Indexes,
}

/// What a request cost in an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexCost<'a> {
    pub(crate) name: &'a str,
    pub(crate) is_local: bool,
    pub(crate) units: Units,
}

impl Detail {
    /// From the parameter (validated before).
    pub(crate) fn of(parameter: Option<&str>) -> Self {
        match parameter {
            Some("TOTAL") => Self::Total,
            Some("INDEXES") => Self::Indexes,
            _ => Self::None,
        }
    }

    /// Adds `ConsumedCapacity` of one table, if it was asked for.
    pub(crate) fn add(self, answer: &mut Answer, table: &str, units: Units) {
        if self != Self::None {
            self.write(answer.member("ConsumedCapacity"), table, units);
        }
    }

    /// Same, with what indexes cost beside the table.
    pub(crate) fn add_indexed(
        self,
        answer: &mut Answer,
        table: &str,
        units: Units,
        indexes: &[IndexCost<'_>],
    ) {
        if self != Self::None {
            self.write_indexed(answer.member("ConsumedCapacity"), table, units, indexes);
        }
    }

    /// Writes one element.
    pub(crate) fn write_indexed(
        self,
        out: &mut Vec<u8>,
        table: &str,
        units: Units,
        indexes: &[IndexCost<'_>],
    ) {
        let sum: Units = indexes.iter().map(|index| index.units).sum();
        out.extend_from_slice(b"{\"TableName\":");
        json::write_string(table, out);
        let total = units.saturating_add(sum);
        out.extend_from_slice(format!(",\"CapacityUnits\":{total}").as_bytes());
        if self == Self::Indexes {
            out.extend_from_slice(format!(",\"Table\":{{\"CapacityUnits\":{units}}}").as_bytes());
            for (member, local) in [
                ("LocalSecondaryIndexes", true),
                ("GlobalSecondaryIndexes", false),
            ] {
                let mut of_kind = indexes.iter().filter(|i| i.is_local == local).peekable();
                if of_kind.peek().is_none() {
                    continue;
                }
                out.extend_from_slice(format!(",\"{member}\":{{").as_bytes());
                let mut first = true;
                for index in of_kind {
                    comma(out, &mut first);
                    json::write_string(index.name, out);
                    out.extend_from_slice(
                        format!(":{{\"CapacityUnits\":{}}}", index.units).as_bytes(),
                    );
                }
                out.push(b'}');
            }
        }
        out.push(b'}');
    }

    /// Adds the list of a batch.
    pub(crate) fn add_list<'a>(
        self,
        answer: &mut Answer,
        tables: impl IntoIterator<Item = (&'a str, Units)>,
    ) {
        if self == Self::None {
            return;
        }
        let out = answer.member("ConsumedCapacity");
        out.push(b'[');
        let mut first = true;
        for (table, units) in tables {
            comma(out, &mut first);
            self.write(out, table, units);
        }
        out.push(b']');
    }

    /// Adds the list of a transaction, which also says in which direction the units went.
    pub(crate) fn add_directed(
        self,
        answer: &mut Answer,
        direction: Direction,
        tables: &[(&str, Units)],
    ) {
        if self == Self::None {
            return;
        }
        let member = match direction {
            Direction::Read => "ReadCapacityUnits",
            Direction::Write => "WriteCapacityUnits",
        };
        let out = answer.member("ConsumedCapacity");
        out.push(b'[');
        let mut first = true;
        for (table, units) in tables {
            comma(out, &mut first);
            out.extend_from_slice(b"{\"TableName\":");
            json::write_string(table, out);
            let amount = format!("\"CapacityUnits\":{units},\"{member}\":{units}");
            out.extend_from_slice(format!(",{amount}").as_bytes());
            if self == Self::Indexes {
                out.extend_from_slice(format!(",\"Table\":{{{amount}}}").as_bytes());
            }
            out.push(b'}');
        }
        out.push(b']');
    }

    fn write(self, out: &mut Vec<u8>, table: &str, units: Units) {
        out.extend_from_slice(b"{\"TableName\":");
        json::write_string(table, out);
        out.extend_from_slice(format!(",\"CapacityUnits\":{units}").as_bytes());
        if self == Self::Indexes {
            out.extend_from_slice(format!(",\"Table\":{{\"CapacityUnits\":{units}}}").as_bytes());
        }
        out.push(b'}');
    }
}
