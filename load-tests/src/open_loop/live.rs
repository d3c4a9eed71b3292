//! What is seen while a run goes on: a few lines that are drawn anew on a terminal, plain lines anywhere else. Goes to standard error, so
//! that results can be piped. `frame` and `line` are pure.

use std::io::{IsTerminal as _, Write as _};

use super::outcome::Kind;
use super::record::Row;

/// Plain lines come this often, seconds.
const PLAIN_EVERY_S: u64 = 5;
/// Seconds of a trend.
const TREND: usize = 32;
const BAR: usize = 30;

/// One look at a run.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Scenario.
    pub name: String,
    /// Seconds since the start.
    pub now_s: f64,
    /// Seconds of the whole run.
    pub length_s: f64,
    /// Phase, and how far it is.
    pub phase: String,
    /// Start and end of the phase, seconds.
    pub span_s: (f64, f64),
    /// A line a stream.
    pub streams: Vec<StreamLook>,
    /// Name, and value or increase a second, over the last seconds.
    pub metrics: Vec<(String, Vec<f64>)>,
    /// What was done last, and when.
    pub strike: Option<(String, f64)>,
}

/// A stream in the last second whose requests have mostly been answered, and before.
#[derive(Clone, Debug, Default)]
pub struct StreamLook {
    /// Name.
    pub name: String,
    /// Requests a second that are wanted then.
    pub target: f64,
    /// The second.
    pub row: Row,
    /// p99 over the last seconds, milliseconds.
    pub p99_ms: Vec<f64>,
    /// Throttled since the start.
    pub throttled: u64,
    /// Errors since the start.
    pub errors: u64,
}

/// Small bars for values, the largest the highest.
fn trend(values: &[f64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values = &values[values.len().saturating_sub(TREND)..];
    let greatest = values.iter().copied().fold(0.0, f64::max);
    let bar = |value: &f64| match greatest > 0.0 {
        true => BARS[((value / greatest * 7.0).round() as usize).min(7)],
        false => BARS[0],
    };
    values.iter().map(bar).collect()
}

/// The lines of a terminal.
pub fn frame(look: &Look) -> Vec<String> {
    let part = (look.now_s / look.length_s.max(0.001)).clamp(0.0, 1.0);
    let full = (part * BAR as f64) as usize;
    let mut lines = vec![format!(
        "{}  {}{} {:>3.0} %  {} ({:.0} of {:.0} s)",
        look.name,
        "█".repeat(full),
        "░".repeat(BAR - full),
        part * 100.0,
        look.phase,
        (look.now_s - look.span_s.0).max(0.0),
        look.span_s.1 - look.span_s.0
    )];
    let widest = look
        .streams
        .iter()
        .map(|stream| stream.name.len())
        .max()
        .unwrap_or(0)
        .max(8);
    lines.push(format!(
        "{:widest$}  {:>8} {:>8} {:>9} {:>9} {:>9} {:>7}  p99",
        "", "wanted/s", "ok/s", "p50 ms", "p99 ms", "throttled", "errors"
    ));
    for stream in &look.streams {
        lines.push(format!(
            "{:widest$}  {:>8.0} {:>8} {:>9.1} {:>9.1} {:>9} {:>7}  {}",
            stream.name,
            stream.target,
            stream.row.count(Kind::Ok),
            stream.row.p50_ms,
            stream.row.p99_ms,
            stream.throttled,
            stream.errors,
            trend(&stream.p99_ms)
        ));
    }
    for (name, values) in &look.metrics {
        let last = values.last().copied().unwrap_or(f64::NAN);
        lines.push(format!("{name:widest$}  {last:>8.0}  {}", trend(values)));
    }
    if let Some((name, at_s)) = &look.strike {
        lines.push(format!("{:.0} s ago: {name}", (look.now_s - at_s).max(0.0)));
    }
    lines
}

/// The line of a log.
pub fn line(look: &Look) -> String {
    let streams = look
        .streams
        .iter()
        .filter(|stream| stream.target > 0.0 || stream.row.sent() > 0);
    let streams = streams.map(|stream| {
        format!(
            "{}: {} of {:.0} ok/s, p50 {:.1} ms, p99 {:.1} ms, {} throttled, {} errors so far",
            stream.name,
            stream.row.count(Kind::Ok),
            stream.target,
            stream.row.p50_ms,
            stream.row.p99_ms,
            stream.throttled,
            stream.errors
        )
    });
    let streams: Vec<String> = streams.collect();
    format!(
        "{:>4.0} s {} · {}",
        look.now_s,
        look.phase,
        streams.join(" · ")
    )
}

/// Shows looks.
pub struct Live {
    terminal: bool,
    quiet: bool,
    drawn: usize,
    said_s: Option<u64>,
}

impl Live {
    /// On standard error.
    pub fn new(quiet: bool) -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            quiet,
            drawn: 0,
            said_s: None,
        }
    }

    /// Something that stays: it goes above what is drawn anew.
    pub fn say(&mut self, text: &str) {
        if !self.quiet {
            self.wipe();
            eprintln!("{text}");
        }
    }

    /// Draws anew, or says a line when it is time for one.
    pub fn show(&mut self, look: &Look) {
        if self.quiet {
            return;
        }
        if self.terminal {
            let lines = frame(look);
            self.wipe();
            let mut text = lines.join("\n");
            text.push('\n');
            // Standard error that is gone is nobody's loss.
            let _ = std::io::stderr().write_all(text.as_bytes());
            self.drawn = lines.len();
            return;
        }
        let slot = look.now_s as u64 / PLAIN_EVERY_S;
        if self.said_s.is_none_or(|said| said < slot) && slot > 0 {
            self.said_s = Some(slot);
            eprintln!("{}", line(look));
        }
    }

    fn wipe(&mut self) {
        if self.drawn > 0 {
            let _ = write!(std::io::stderr(), "\x1b[{}A\x1b[J", self.drawn);
            self.drawn = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_a_few_lines() {
        let mut counts = [0; Kind::COUNT];
        counts[Kind::Ok as usize] = 99;
        let row = Row {
            counts,
            p50_ms: 1.25,
            p99_ms: 12.0,
            max_ms: 20.0,
        };
        let stream = StreamLook {
            name: "customers".into(),
            target: 100.0,
            row,
            p99_ms: vec![1.0, 2.0, 8.0],
            throttled: 7,
            errors: 0,
        };
        let look = Look {
            name: "constant-work".into(),
            now_s: 15.0,
            length_s: 30.0,
            phase: "flushed".into(),
            span_s: (10.0, 30.0),
            streams: vec![stream],
            metrics: vec![("lookups".into(), vec![200.0, 201.0])],
            strike: Some(("caches flushed".into(), 12.0)),
        };
        let lines = frame(&look);
        assert_eq!(lines.len(), 5);
        assert!(
            lines[0].contains(" 50 %  flushed (5 of 20 s)"),
            "{}",
            lines[0]
        );
        assert!(lines[2].contains("▂▃█"), "{}", lines[2]);
        assert_eq!(lines[4], "3 s ago: caches flushed");
        assert_eq!(
            line(&look),
            "  15 s flushed · customers: 99 of 100 ok/s, p50 1.2 ms, p99 12.0 ms, 7 throttled, 0 errors so far"
        );
        assert_eq!(trend(&[]), "");
        assert_eq!(trend(&[0.0]), "▁");
    }
}
