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
