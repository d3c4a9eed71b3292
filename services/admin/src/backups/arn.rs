//! Numbers and Amazon Resource Names of backups, exports and imports. Pure.

use model::table::table_arn;

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Backup,
    Export,
    Import,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Export => "export",
            Self::Import => "import",
        }
    }
}

/// A number as Amazon makes them: the time in 14 digits, so that they sort by it, and eight hexadecimal digits that are drawn.
pub(crate) fn number(now_ms: u64, drawn: u32) -> String {
    format!("{now_ms:014}-{drawn:08x}")
}

/// When a number was drawn, milliseconds since the epoch.
pub(crate) fn time_of(number: &str) -> u64 {
    let time = number.split('-').next();
    time.and_then(|time| time.parse().ok()).unwrap_or(0)
}

/// The Amazon Resource Name of a table's backup, export or import.
pub(crate) fn arn(region: &str, table: &str, kind: Kind, number: &str) -> String {
    format!("{}/{}/{number}", table_arn(region, table), kind.word())
}

/// Table and number of such a name; none if it has another form.
pub(crate) fn parse(arn: &str, kind: Kind) -> Option<(&str, &str)> {
    let (start, rest) = arn.split_once(":table/")?;
    let (table, rest) = rest.split_once('/')?;
    let number = rest.strip_prefix(kind.word())?.strip_prefix('/')?;
    let right = |c: char| c.is_ascii_hexdigit() || c == '-';
    let named = start.starts_with("arn:") && !table.is_empty();
    (named && !number.is_empty() && number.chars().all(right)).then_some((table, number))
}

/// The table of a table's own Amazon Resource Name; none if it has another form.
pub(crate) fn table_of_arn(arn: &str) -> Option<&str> {
    let (start, table) = arn.split_once(":table/")?;
    (start.starts_with("arn:") && !table.is_empty() && !table.contains('/')).then_some(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_number() {
        let number = number(1_489_602_797_149, 0x73d8_d5bc);
        assert_eq!(number, "01489602797149-73d8d5bc");
        assert_eq!(time_of(&number), 1_489_602_797_149);
        let name = arn("eu-1", "music", Kind::Backup, &number);
        assert_eq!(
            name,
            "arn:aws:dynamodb:eu-1:000000000000:table/music/backup/01489602797149-73d8d5bc"
        );
        assert_eq!(parse(&name, Kind::Backup), Some(("music", number.as_str())));
        assert_eq!(parse(&name, Kind::Export), None);
        for wrong in [
            "",
            "arn:aws:dynamodb:eu-1:0:table/music",
            "arn:aws:dynamodb:eu-1:0:table/music/backup/",
            "arn:aws:dynamodb:eu-1:0:table//backup/01",
            "arn:aws:dynamodb:eu-1:0:table/music/backup/0#1",
            "table/music/backup/01489602797149-73d8d5bc",
        ] {
            assert_eq!(parse(wrong, Kind::Backup), None, "{wrong}");
        }
    }

    #[test]
    fn a_tables_name_is_no_backups_name() {
        assert_eq!(
            table_of_arn("arn:aws:dynamodb:eu-1:0:table/music"),
            Some("music")
        );
        assert_eq!(
            table_of_arn("arn:aws:dynamodb:eu-1:0:table/music/backup/01"),
            None
        );
        assert_eq!(table_of_arn("music"), None);
    }
}
