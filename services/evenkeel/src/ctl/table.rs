//! Columns for people. Owns alignment only.

/// A column's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// Lines with aligned columns, two spaces apart, without trailing spaces.
pub fn table(columns: &[(&str, Side)], rows: &[Vec<String>]) -> String {
    let width = |column: usize, title: &str| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let longest = cells.map(|cell| cell.chars().count()).max();
        longest.unwrap_or(0).max(title.chars().count())
    };
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(column, (title, _))| width(column, title))
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(columns.iter().zip(&widths));
        let padded = padded.map(|(cell, ((_, side), &width))| match side {
            Side::Left => format!("{cell:<width$}"),
            Side::Right => format!("{cell:>width$}"),
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let head = line(&mut columns.iter().map(|(title, _)| *title));
    let rows = rows
        .iter()
        .map(|row| line(&mut row.iter().map(String::as_str)));
    std::iter::once(head)
        .chain(rows)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Bytes in a unit that people read.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"].iter();
    let mut unit = units.next().unwrap_or(&"B");
    while value >= 1_024.0
        && let Some(next) = units.next()
    {
        (value, unit) = (value / 1_024.0, next);
    }
    match *unit {
        "B" => format!("{bytes} B"),
        unit => format!("{value:.1} {unit}"),
    }
}

/// Milliseconds in a unit that people read.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["1".into(), "az1".into()],
            vec!["200".into(), "é".into()],
        ];
        let text = table(&[("NODE", Side::Right), ("ZONE", Side::Left)], &rows);
        assert_eq!(text, "NODE  ZONE\n   1  az1\n 200  é");
        assert_eq!(table(&[("A", Side::Left)], &[]), "A");
    }

    #[test]
    fn numbers_have_units() {
        assert_eq!(bytes(1_023), "1023 B");
        assert_eq!(bytes(1_536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
        assert_eq!(duration(999), "999 ms");
        assert_eq!(duration(119_999), "119 s");
        assert_eq!(duration(7_199_999), "119 min");
        assert_eq!(duration(86_400_000), "24 h");
    }
}
