//! The timeline picture: lanes of bars (faults, phases) and panels of lines over one axis, as SVG. Knows pixels only.

use std::fmt::Write as _;

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
/// Above the lanes when there are none.
const WORDS_NONE: f64 = 8.0;
/// Between two slanted words at least.
const WORDS_APART: f64 = 16.0;
/// From a bar to its slanted word at most.
const WORD_STRAYS_MAX: f64 = 120.0;

/// How a panel's values are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// 0 to 100.
    Percent,
    /// Logarithmic, in whole decades.
    Milliseconds,
    /// From 0 to the greatest.
    Count,
}

/// From a value to its height, 0 to 1.
type Place = Box<dyn Fn(f64) -> f64>;

/// A bar in lanes.
pub struct Bar {
    /// From when, seconds.
    pub from_s: f64,
    /// To when, seconds.
    pub to_s: f64,
    /// What it is.
    pub label: String,
    /// Class of its looks in the style sheet.
    pub class: &'static str,
    /// Its lanes, by number.
    pub lanes: Vec<usize>,
    /// The label stands in the bar, instead of slanted above all lanes with a shade over all panels.
    pub inside: bool,
}

/// The looks of lines, in the order in which they are taken: Okabe and Ito's colours (classes of the style sheet), which colour-blind people
/// tell apart, and dashes.
pub const LOOKS: [(&str, &str); 6] = [
    ("blue", ""),
    ("vermilion", "7 3"),
    ("green", "2 2"),
    ("orange", "8 2 2 2"),
    ("pink", "12 3"),
    ("sky", "4 4"),
];

/// A line.
pub struct Line {
    name: String,
    /// Class of its colour in the style sheet.
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
    top: f64,
}

impl Timeline {
    /// An empty picture of so many seconds.
    pub fn new(seconds: f64) -> Self {
        Self {
            seconds: seconds.max(1.0),
            y: 0.0,
            body: String::new(),
            bands: String::new(),
            top: 0.0,
        }
    }

    fn x(&self, seconds: f64) -> f64 {
        LEFT + WIDTH * (seconds / self.seconds).clamp(0.0, 1.0)
    }

    /// Lanes of bars, and below them what their looks mean: class and words.
    pub fn lanes(&mut self, names: &[&str], bars: &[Bar], legend: &[(&str, &str)]) {
        let slanted = bars.iter().any(|bar| !bar.inside);
        self.y = if slanted { WORDS } else { WORDS_NONE };
        self.top = self.y;
        for (at, name) in names.iter().enumerate() {
            let y = self.y + LANE * at as f64;
            let _ = write!(
                self.body,
                "<rect class=\"lane\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{WIDTH}\" height=\"{:.1}\"/><text class=\"axis end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                LANE - 3.0,
                LEFT - 8.0,
                y + 14.0,
                escape(name)
            );
        }
        let mut last_word = f64::MIN;
        let mut last_label = "";
        for bar in bars {
            let (from, to) = (self.x(bar.from_s), self.x(bar.to_s));
            let width = (to - from).max(3.0);
            let label = escape(&bar.label);
            for lane in &bar.lanes {
                let y = self.y + LANE * *lane as f64;
                let _ = write!(
                    self.body,
                    "<rect class=\"fault {}\" x=\"{from:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\"><title>{label}, {:.1} s to {:.1} s</title></rect>",
                    bar.class,
                    LANE - 3.0,
                    bar.from_s,
                    bar.to_s
                );
                // Where there is no room for it, the title still has it.
                if bar.inside && width > 7.0 * bar.label.len() as f64 {
                    let _ = write!(
                        self.body,
                        "<text class=\"word mid\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                        from + width / 2.0,
                        y + 13.5
                    );
                }
            }
            if bar.inside {
                let _ = write!(
                    self.bands,
                    "<line class=\"border\" x1=\"{from:.1}\" x2=\"{from:.1}\" y1=\"TOP\" y2=\"BOTTOM\"/>"
                );
                continue;
            }
            let _ = write!(
                self.bands,
                "<rect class=\"band\" x=\"{from:.1}\" width=\"{width:.1}\" y=\"TOP\" height=\"HEIGHT\"/>"
            );
            let x = (from + width.min(12.0) / 2.0).max(last_word + WORDS_APART);
            // Words that would end up far from their bars say nothing; the bar's title has them.
            // What is done again and again is named once.
            if x - from > WORD_STRAYS_MAX || x > LEFT + WIDTH || bar.label == last_label {
                continue;
            }
            (last_word, last_label) = (x, &bar.label);
            let y = self.y - 6.0;
            let _ = write!(
                self.body,
                "<text class=\"word\" transform=\"translate({x:.1},{y:.1}) rotate(-48)\">{label}</text>"
            );
        }
        self.y += LANE * names.len() as f64;
        self.legend_of_bars(legend);
    }

    fn legend_of_bars(&mut self, legend: &[(&str, &str)]) {
        if legend.is_empty() {
            self.y += 8.0;
            return;
        }
        let mut x = LEFT;
        let y = self.y + 6.0;
        for (class, name) in legend {
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
                let values = (panel.lines.iter())
                    .flat_map(|line| line.points.iter().map(|(_, value)| *value));
                let least = values.filter(|value| *value > 0.0).fold(1.0, f64::min);
                let low = 10_f64.powf(least.log10().floor().max(-2.0));
                let high = 10_f64.powf(greatest.log10().ceil().clamp(1.0, 5.0));
                let mut ticks = Vec::new();
                let mut tick = low;
                while tick <= high * 1.01 {
                    ticks.push((tick, milliseconds(tick)));
                    tick *= 10.0;
                }
                let span = (high / low).ln();
                (ticks, Box::new(move |v| (v.max(low) / low).ln() / span))
            }
            Axis::Count => {
                let step = nice(greatest / 4.0).max(1.0);
                let count = (greatest / step).ceil() as usize;
                let ticks = (0..=count).map(|at| {
                    (
                        at as f64 * step,
                        super::thousands((at as f64 * step) as u64),
                    )
                });
                let top = (count as f64 * step).max(1.0);
                (ticks.collect(), Box::new(move |v| v / top))
            }
        };
        let y = |value: f64| top + PANEL * (1.0 - place(value).clamp(0.0, 1.0));
        let _ = write!(
            self.body,
            "<text class=\"title\" x=\"{LEFT}\" y=\"{:.1}\">{}</text>",
            self.y + 12.0,
            escape(panel.title)
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
                "<path d=\"{path}\" class=\"{}\" stroke-dasharray=\"{}\"/>",
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
                "<path d=\"M{x:.1} {:.1}h26\" class=\"{}\" stroke-dasharray=\"{}\"/><text class=\"axis\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
                y - 4.0,
                line.colour,
                line.dashes,
                x + 31.0,
                escape(&line.name)
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

    /// The SVG; `label` says what it shows to those who don't see it.
    pub fn finish(self, label: &str) -> String {
        let (width, height) = (LEFT + WIDTH + RIGHT, self.y);
        let bottom = height - 28.0;
        let bands = self
            .bands
            .replace("TOP", &format!("{:.1}", self.top))
            .replace("BOTTOM", &format!("{bottom:.1}"))
            .replace("HEIGHT", &format!("{:.1}", bottom - self.top));
        format!(
            "<svg viewBox=\"0 0 {width} {height:.0}\" role=\"img\" tabindex=\"0\" aria-label=\"{}\">\
             <defs><pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" \
             fill=\"#f3dfae\"/><line y2=\"6\" stroke=\"#9a6a00\" stroke-width=\"3\"/></pattern><pattern id=\"dots\" width=\"6\" height=\"6\" \
             patternUnits=\"userSpaceOnUse\"><rect width=\"6\" height=\"6\" fill=\"#e8cfe0\"/><circle cx=\"3\" cy=\"3\" r=\"1.7\" fill=\"#8a3f6c\"/></pattern></defs>\
             {bands}{}<line id=\"cursor\" y1=\"{:.1}\" y2=\"{bottom:.1}\" x1=\"-9\" x2=\"-9\"/></svg>",
            escape(label),
            self.body,
            self.top
        )
    }
}

fn milliseconds(ms: f64) -> String {
    match ms {
        1_000.0.. => format!("{} s", ms / 1e3),
        0.95.. => format!("{ms:.0} ms"),
        _ => format!("{:.0} µs", ms * 1e3),
    }
}

/// A line of [`shares`].
pub struct ShareLine {
    /// What the legend calls it.
    pub name: String,
    /// Colour: `one` or `two`.
    pub class: &'static str,
    /// Of the line; empty = unbroken.
    pub dashes: &'static str,
    /// Share of saturation in percent, and milliseconds.
    pub points: Vec<(f64, f64)>,
}

/// A picture of its own: latencies (logarithmic) over a share of saturation.
pub fn shares(title: &str, lines: &[ShareLine]) -> String {
    const BOTTOM: f64 = 300.0;
    const TOP: f64 = 54.0;
    const ACROSS: f64 = 620.0;
    let points = || lines.iter().flat_map(|line| &line.points);
    let values = || points().map(|(_, ms)| *ms).filter(|ms| *ms > 0.0);
    let low = 10_f64.powf(values().fold(1.0, f64::min).log10().floor().max(-2.0));
    let high = 10_f64.powf(values().fold(low * 10.0, f64::max).log10().ceil());
    let widest = points().map(|(percent, _)| *percent).fold(100.0, f64::max);
    let x = |percent: f64| LEFT + ACROSS * percent / widest;
    let y = |ms: f64| BOTTOM - (BOTTOM - TOP) * ((ms.max(low) / low).ln() / (high / low).ln());
    let mut body = String::new();
    let mut tick = low;
    while tick <= high * 1.01 {
        let _ = write!(
            body,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/><text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT + ACROSS,
            y(tick),
            y(tick),
            LEFT - 8.0,
            y(tick) + 4.0,
            milliseconds(tick)
        );
        tick *= 10.0;
    }
    let mut percent = 0.0;
    while percent <= widest {
        let _ = write!(
            body,
            "<text class=\"mid\" x=\"{:.1}\" y=\"{:.1}\">{percent} %</text>",
            x(percent),
            BOTTOM + 18.0
        );
        percent += 10.0;
    }
    for (at, line) in lines.iter().enumerate() {
        let ShareLine {
            name,
            class,
            dashes,
            points,
        } = line;
        let path: Vec<String> = points
            .iter()
            .map(|(percent, ms)| format!("{:.1} {:.1}", x(*percent), y(*ms)))
            .collect();
        let legend = LEFT + 130.0 * at as f64;
        let _ = write!(
            body,
            "<path class=\"{class}\" stroke-dasharray=\"{dashes}\" d=\"M{}\"/><path class=\"{class}\" stroke-dasharray=\"{dashes}\" d=\"M{legend:.1} 38h30\"/>\
             <text x=\"{:.1}\" y=\"42\">{}</text>",
            path.join("L"),
            legend + 36.0,
            escape(name)
        );
        for (percent, ms) in points {
            let _ = write!(
                body,
                "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\"><title>{percent} %: {} {ms:.2} ms</title></circle>",
                x(*percent),
                y(*ms),
                escape(name)
            );
        }
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {:.0}\" role=\"img\" aria-label=\"{title}\"><style>\
         svg {{ font: 12px system-ui, 'DejaVu Sans', sans-serif; background: #fff; }} text {{ fill: #1c2024; }} .title {{ font-weight: 600; }} .end {{ text-anchor: end; }} \
         .mid {{ text-anchor: middle; }} .grid {{ stroke: #dde2e7; }} path {{ fill: none; stroke-width: 2; }} path.one {{ stroke: #0072b2; }} path.two {{ stroke: #d55e00; }} \
         circle.one {{ fill: #0072b2; }} circle.two {{ fill: #d55e00; }}</style><text class=\"title\" x=\"{LEFT}\" y=\"20\">{title}</text>{body}\
         <text class=\"mid\" x=\"{:.1}\" y=\"{:.1}\">offered load, share of saturation</text></svg>\n",
        LEFT + ACROSS + 24.0,
        BOTTOM + 48.0,
        LEFT + ACROSS / 2.0,
        BOTTOM + 38.0,
        title = escape(title),
    )
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
    fn shares_are_a_picture_of_their_own() {
        let line = |name: &str, points: &[(f64, f64)]| ShareLine {
            name: name.into(),
            class: "one",
            dashes: "",
            points: points.into(),
        };
        let lines = [
            line("p50", &[(10.0, 0.4), (90.0, 0.8)]),
            line("p99", &[(10.0, 1.2), (90.0, 30.0)]),
        ];
        let picture = shares("a < b", &lines);
        assert!(picture.starts_with("<svg xmlns=") && picture.ends_with("</svg>\n"));
        assert!(
            picture.contains("a &lt; b") && picture.contains("<title>90 %: p99 30.00 ms</title>")
        );
        assert_eq!(picture.matches("<circle").count(), 4);
    }

    #[test]
    fn bars_have_their_words_in_them_or_above() {
        let bar = |from_s, label: &str, inside| Bar {
            from_s,
            to_s: from_s + 4.0,
            label: label.into(),
            class: "dead",
            lanes: vec![usize::from(inside)],
            inside,
        };
        let mut timeline = Timeline::new(10.0);
        timeline.lanes(
            &["faults", "phases"],
            &[bar(1.0, "<node> dies", false), bar(2.0, "calm", true)],
            &[("dead", "killed")],
        );
        let picture = timeline.finish("what & when");
        assert!(picture.contains("rotate(-48)\">&lt;node&gt; dies</text>"));
        assert!(
            picture.contains(">calm</text>") && picture.contains("aria-label=\"what &amp; when\"")
        );
        assert!(
            !picture.contains("TOP") && !picture.contains("BOTTOM") && !picture.contains("HEIGHT")
        );
    }

    #[test]
    fn latencies_are_shown_in_whole_decades() {
        assert_eq!(
            [0.01, 0.1, 1.0, 100.0, 10_000.0].map(milliseconds),
            ["10 µs", "100 µs", "1 ms", "100 ms", "10 s"]
        );
    }

    #[test]
    fn a_gap_in_the_data_is_a_gap_in_the_line() {
        let mut timeline = Timeline::new(10.0);
        timeline.panel(&Lines {
            title: "t",
            axis: Axis::Count,
            lines: vec![Line::new(
                "a",
                "blue",
                "",
                vec![(0.0, 1.0), (1.0, 2.0), (5.0, 1.0)],
            )],
            marks: Vec::new(),
        });
        let picture = timeline.finish("t");
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
