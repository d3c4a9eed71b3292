//! The timeline picture: lanes of faults and panels of lines over one time axis, as SVG. Knows pixels only.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::super::plan::Fault;
use super::super::report::Effect;
use super::escape;

/// Pixels left of the plots, for the axes' words.
pub const LEFT: f64 = 64.0;
/// Pixels of the plots.
pub const WIDTH: f64 = 1_100.0;
const RIGHT: f64 = 16.0;
const LANE: f64 = 22.0;
const PANEL: f64 = 150.0;
/// Above the lanes, for slanted words.
const WORDS: f64 = 118.0;
/// Between two slanted words at least.
const WORDS_APART: f64 = 16.0;

/// How a panel's values are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// 0 to 100.
    Percent,
    /// Logarithmic, 0.5 ms to 20 s.
    Milliseconds,
    /// From 0 to the greatest.
    Count,
}

/// From a value to its height, 0 to 1.
type Place = Box<dyn Fn(f64) -> f64>;

/// A line.
pub struct Line {
    name: String,
    colour: &'static str,
    dashes: &'static str,
    /// Seconds, value.
    points: Vec<(f64, f64)>,
}

impl Line {
    /// A line of points in order of time.
    pub fn new(
        name: &str,
        colour: &'static str,
        dashes: &'static str,
        points: Vec<(f64, f64)>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            colour,
            dashes,
            points,
        }
    }
}

/// A panel.
pub struct Lines<'a> {
    /// Its heading.
    pub title: &'a str,
    /// Its values.
    pub axis: Axis,
    /// Its lines.
    pub lines: Vec<Line>,
    /// Times at which something failed, seconds.
    pub marks: Vec<f64>,
}

/// The picture in the making.
pub struct Timeline {
    seconds: f64,
    y: f64,
    body: String,
    bands: String,
    first_panel: f64,
}

impl Timeline {
    /// An empty picture of so many seconds.
    pub fn new(seconds: f64) -> Self {
        Self {
            seconds: seconds.max(1.0),
            y: 0.0,
            body: String::new(),
            bands: String::new(),
            first_panel: 0.0,
        }
    }

    fn x(&self, seconds: f64) -> f64 {
        LEFT + WIDTH * (seconds / self.seconds).clamp(0.0, 1.0)
    }

    /// Lanes: one a zone, one for what is between them.
    pub fn faults(&mut self, zones: &[String], faults: &[Effect]) {
        self.y = WORDS;
        let lanes: BTreeMap<&str, usize> = zones
            .iter()
            .enumerate()
            .map(|(at, zone)| (zone.as_str(), at))
            .collect();
        for (at, name) in zones
            .iter()
            .map(String::as_str)
            .chain(["links"])
            .enumerate()
        {
            let y = self.y + LANE * at as f64;
            let _ = write!(
                self.body,
                "<rect class=\"lane\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{WIDTH}\" height=\"{:.1}\"/><text class=\"axis end\" x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
                LANE - 3.0,
                LEFT - 8.0,
                y + 14.0
            );
        }
        let mut last_word = f64::MIN;
        for effect in faults {
            let struck = &effect.struck;
            let (from, to) = (
                self.x(struck.from_ms as f64 / 1e3),
                self.x(struck.to_ms as f64 / 1e3),
            );
            let width = (to - from).max(3.0);
            let class = class(&struck.fault);
            let _ = write!(
                self.bands,
                "<rect class=\"band\" x=\"{from:.1}\" width=\"{width:.1}\" y=\"TOP\" height=\"HEIGHT\"/>"
            );
            let between = [zones.len()];
            let own: Vec<usize> = struck
                .zones
                .iter()
                .filter_map(|zone| lanes.get(zone.as_str()).copied())
                .collect();
            for lane in if own.is_empty() {
                &between[..]
            } else {
                &own[..]
            } {
                let y = self.y + LANE * *lane as f64;
                let _ = write!(
                    self.body,
                    "<rect class=\"fault {class}\" x=\"{from:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\"><title>{}, {:.1} s to {:.1} s</title></rect>",
                    LANE - 3.0,
                    escape(&struck.label),
                    struck.from_ms as f64 / 1e3,
                    struck.to_ms as f64 / 1e3
                );
            }
            let x = (from + width.min(12.0) / 2.0).max(last_word + WORDS_APART);
            last_word = x;
            let y = self.y - 6.0;
            let _ = write!(
                self.body,
                "<text class=\"word\" transform=\"translate({x:.1},{y:.1}) rotate(-48)\">{}</text>",
                escape(&struck.label)
            );
        }
        self.y += LANE * (zones.len() + 1) as f64;
        self.legend_of_faults();
        self.first_panel = self.y;
    }

    fn legend_of_faults(&mut self) {
        let mut x = LEFT;
        let y = self.y + 6.0;
        for (class, name) in [
            ("dead", "killed or without power"),
            ("paused", "paused (SIGSTOP)"),
            ("restarted", "restarted gracefully"),
            ("network", "network"),
        ] {
            let _ = write!(
                self.body,
                "<rect class=\"fault {class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"16\" height=\"10\"/><text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
                x + 21.0,
                y + 9.0
            );
            x += 40.0 + 6.6 * name.len() as f64;
        }
        self.y += 24.0;
    }

    /// A panel below the last one.
    pub fn panel(&mut self, panel: &Lines) {
        let top = self.y + 34.0;
        let values = panel
            .lines
            .iter()
            .flat_map(|line| line.points.iter().map(|(_, value)| *value));
        let greatest = values.fold(1.0, f64::max);
        let (ticks, place): (Vec<(f64, String)>, Place) = match panel.axis {
            Axis::Percent => {
                let ticks = [0.0, 25.0, 50.0, 75.0, 100.0]
                    .map(|v| (v, format!("{v} %")))
                    .to_vec();
                (ticks, Box::new(|v| v / 100.0))
            }
            Axis::Milliseconds => {
                let ticks = [
                    (1.0, "1 ms"),
                    (10.0, "10 ms"),
                    (100.0, "100 ms"),
                    (1_000.0, "1 s"),
                    (10_000.0, "10 s"),
                ];
                let span = (20_000.0_f64 / 0.5).ln();
                (
                    ticks.map(|(v, name)| (v, name.to_owned())).to_vec(),
                    Box::new(move |v| (v.max(0.5) / 0.5).ln() / span),
                )
            }
            Axis::Count => {
                let step = nice(greatest / 4.0).max(1.0);
                let count = (greatest / step).ceil() as usize;
                let ticks =
                    (0..=count).map(|at| (at as f64 * step, format!("{}", at as f64 * step)));
                let top = (count as f64 * step).max(1.0);
                (ticks.collect(), Box::new(move |v| v / top))
            }
        };
        let y = |value: f64| top + PANEL * (1.0 - place(value).clamp(0.0, 1.0));
        let _ = write!(
            self.body,
            "<text class=\"title\" x=\"{LEFT}\" y=\"{:.1}\">{}</text>",
            self.y + 12.0,
            panel.title
        );
        self.legend(&panel.lines);
        for (value, name) in &ticks {
            let at = y(*value);
            let _ = write!(
                self.body,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"axis end\" x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
                LEFT + WIDTH,
                LEFT - 8.0,
                at + 4.0
            );
        }
        for line in &panel.lines {
            let mut path = String::new();
            let mut last = f64::MIN;
            for (at, value) in &line.points {
                // A gap in the data is a gap in the line.
                let verb = if at - last > 1.9 { 'M' } else { 'L' };
                let _ = write!(path, "{verb}{:.1} {:.1}", self.x(*at), y(*value));
                last = *at;
            }
            let _ = write!(
                self.body,
                "<path d=\"{path}\" stroke=\"{}\" stroke-dasharray=\"{}\"/>",
                line.colour, line.dashes
            );
        }
        for at in &panel.marks {
            let x = self.x(*at);
            let _ = write!(
                self.body,
                "<path class=\"mark\" d=\"M{x:.1} {:.1}l-4 -7h8z\"><title>a call failed for good</title></path>",
                top + PANEL
            );
        }
        self.y = top + PANEL + 4.0;
        self.time_axis();
    }

    fn legend(&mut self, lines: &[Line]) {
        let y = self.y + 26.0;
        let mut x = LEFT;
        for line in lines {
            let _ = write!(
                self.body,
                "<path d=\"M{x:.1} {:.1}h26\" stroke=\"{}\" stroke-dasharray=\"{}\"/><text class=\"axis\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
                y - 4.0,
                line.colour,
                line.dashes,
                x + 31.0,
                line.name
            );
            x += 52.0 + 6.6 * line.name.len() as f64;
        }
    }

    fn time_axis(&mut self) {
        let step = nice_time(self.seconds / 10.0);
        let mut at = 0.0;
        while at <= self.seconds {
            let x = self.x(at);
            let name = if step < 60.0 && self.seconds < 180.0 {
                format!("{at} s")
            } else {
                format!("{}:{:02}", at as u64 / 60, at as u64 % 60)
            };
            let _ = write!(
                self.body,
                "<line class=\"tick\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/><text class=\"axis mid\" x=\"{x:.1}\" y=\"{:.1}\">{name}</text>",
                self.y - 4.0,
                self.y + 2.0,
                self.y + 14.0
            );
            at += step;
        }
        self.y += 28.0;
    }

    /// The SVG.
    pub fn finish(self) -> String {
        let (width, height) = (LEFT + WIDTH + RIGHT, self.y);
        let bands = self
            .bands
            .replace("TOP", &format!("{WORDS}"))
            .replace("HEIGHT", &format!("{:.1}", height - WORDS - 28.0));
        format!(
            "<svg viewBox=\"0 0 {width} {height:.0}\" role=\"img\" aria-label=\"Timeline of faults, availability, latency and leaders\">\
             <defs><pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" \
             fill=\"#f3dfae\"/><line y2=\"6\" stroke=\"#9a6a00\" stroke-width=\"3\"/></pattern><pattern id=\"dots\" width=\"6\" height=\"6\" \
             patternUnits=\"userSpaceOnUse\"><rect width=\"6\" height=\"6\" fill=\"#e8cfe0\"/><circle cx=\"3\" cy=\"3\" r=\"1.7\" fill=\"#8a3f6c\"/></pattern></defs>\
             {bands}{}<line id=\"cursor\" y1=\"{WORDS}\" y2=\"{:.1}\" x1=\"-9\" x2=\"-9\"/></svg>",
            self.body,
            height - 28.0
        )
    }
}

fn class(fault: &Fault) -> &'static str {
    match fault {
        Fault::Kill { .. } | Fault::Wipe { .. } | Fault::ZoneDown { .. } | Fault::Blackout => {
            "dead"
        }
        Fault::Pause { .. } | Fault::ZonePause { .. } => "paused",
        Fault::Restart { .. } => "restarted",
        Fault::Cut { .. }
        | Fault::OneWay { .. }
        | Fault::Isolate { .. }
        | Fault::SlowLink { .. } => "network",
    }
}

/// The next of 1, 2, 5, 10, 20, 50 …
fn nice(value: f64) -> f64 {
    let magnitude = 10_f64.powf(value.max(1e-9).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * magnitude);
    steps
        .into_iter()
        .find(|step| *step >= value)
        .unwrap_or(magnitude * 10.0)
}

/// The next step of a clock, seconds.
fn nice_time(value: f64) -> f64 {
    let steps = [
        1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0,
    ];
    steps
        .into_iter()
        .find(|step| *step >= value)
        .unwrap_or(3_600.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_axes() {
        assert_eq!([0.7, 1.0, 3.0, 42.0].map(nice), [1.0, 1.0, 5.0, 50.0]);
        assert_eq!([0.2, 5.8, 61.0].map(nice_time), [1.0, 10.0, 120.0]);
    }

    #[test]
    fn a_gap_in_the_data_is_a_gap_in_the_line() {
        let mut timeline = Timeline::new(10.0);
        timeline.panel(&Lines {
            title: "t",
            axis: Axis::Count,
            lines: vec![Line::new(
                "a",
                "#000",
                "",
                vec![(0.0, 1.0), (1.0, 2.0), (5.0, 1.0)],
            )],
            marks: Vec::new(),
        });
        let picture = timeline.finish();
        let path = picture.split("<path d=\"M64.0").nth(2).unwrap_or_default();
        assert_eq!(
            path.split('"')
                .next()
                .unwrap_or_default()
                .matches('M')
                .count(),
            1,
            "one more start: {path}"
        );
    }
}
