//! What happened in a run, line by line: kept as text if asked for, always as a digest. Equal seeds give equal bytes.

use std::fmt::Write;

/// The record of a run.
#[derive(Debug)]
pub struct Trace {
    keep: bool,
    text: String,
    line: String,
    digest: u64,
    lines: u64,
}

impl Trace {
    /// An empty record; `keep`: with its text.
    pub fn new(keep: bool) -> Trace {
        Trace {
            keep,
            text: String::new(),
            line: String::new(),
            digest: 0xcbf2_9ce4_8422_2325,
            lines: 0,
        }
    }

    /// Adds a line.
    pub fn note(&mut self, now_us: u64, what: std::fmt::Arguments<'_>) {
        self.line.clear();
        // Writing to a string cannot fail.
        let _ = writeln!(self.line, "{now_us:>12} {what}");
        for byte in self.line.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.lines += 1;
        if self.keep {
            self.text.push_str(&self.line);
        }
    }

    /// The text, empty unless kept.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Digest (FNV-1a) of all lines.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// How many lines there were.
    pub fn lines(&self) -> u64 {
        self.lines
    }
}
