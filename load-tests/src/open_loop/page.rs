//! A run's report as one page. Owns what is drawn where; numbers come from `report`.

use std::fmt::Write as _;

use super::outcome::Kind;
use super::report::{Report, StreamReport, Summary};
use crate::page::chart::{Axis, Bar, LOOKS, Line, Lines, Timeline};
use crate::page::{self, date, escape, thousands};

/// Streams with lines of their own: more would be a tangle, and the table has them all.
const STREAMS_DRAWN_MAX: usize = 6;

/// The whole page.
pub fn render(report: &Report) -> String {
    let mut body = String::with_capacity(128 * 1024);
    header(&mut body, report);
    promises(&mut body, report);
    timeline(&mut body, report);
    phases(&mut body, report);
    faults(&mut body, report);
    wrong(&mut body, report);
    footer(&mut body, report);
    let verdict = if report.passed { "held" } else { "broken" };
    let title = format!("{}: {verdict}", report.scenario);
    let end = report.phases.last().map_or(1.0, |phase| phase.to_s);
    page::document(&title, &body, &tips(report), end)
}

fn header(body: &mut String, report: &Report) {
    let (class, word) = match (
        report.passed,
        report.promises.is_empty(),
        report.interrupted,
    ) {
        (_, _, true) => ("bad", "✕ stopped before its end"),
        (true, true, _) => ("good", "done; nothing was promised"),
        (true, ..) => ("good", "✓ every promise held"),
        (false, ..) => ("bad", "✕ a promise was broken"),
    };
    let _ = writeln!(
        body,
        "<header><h1>{} <span class=\"badge {class}\">{word}</span></h1><p>{}</p><p>{} · {:.0} s · open loop: latency counts from the time at which a request was to be sent</p></header>",
        escape(&report.scenario),
        escape(&report.about),
        date(report.started),
        report.lasted_s
    );
}

fn promises(body: &mut String, report: &Report) {
    if report.promises.is_empty() {
        return;
    }
    body.push_str("<section><h2>Promises</h2><table class=\"checks\"><thead><tr><th></th><th>promise</th><th>in numbers</th><th>here</th></tr></thead><tbody>");
    for promise in &report.promises {
        let (class, mark) = match promise.held {
            true => ("good", "✓ held"),
            false => ("bad", "✕ broken"),
        };
        let _ = write!(
            body,
            "<tr><td class=\"{class}\">{mark}</td><td>{}</td><td><code>{}</code></td><td class=\"here\"><b>{}</b></td></tr>",
            escape(&promise.text),
            escape(&promise.holds),
            escape(&promise.numbers)
        );
    }
    body.push_str("</tbody></table></section>\n");
}

/// Streams that are drawn, with their looks.
fn drawn(report: &Report) -> impl Iterator<Item = (&StreamReport, (&'static str, &'static str))> {
    report.streams.iter().take(STREAMS_DRAWN_MAX).zip(LOOKS)
}

fn series(
    stream: &StreamReport,
    value: impl Fn(&super::report::Second) -> Option<f64>,
) -> Vec<(f64, f64)> {
    let seconds = stream.seconds.iter().enumerate();
    seconds
        .filter_map(|(at, second)| Some((at as f64 + 0.5, value(second)?)))
        .collect()
}

fn timeline(body: &mut String, report: &Report) {
    let end = report.phases.last().map_or(1.0, |phase| phase.to_s);
    let mut timeline = Timeline::new(end);
    let phases = report.phases.iter().map(|phase| Bar {
        from_s: phase.from_s,
        to_s: phase.to_s,
        label: phase.name.clone(),
        class: "phase",
        lanes: vec![0],
        inside: true,
    });
    let strikes = report.faults.iter().map(|strike| Bar {
        from_s: strike.from_s,
        to_s: strike.to_s,
        label: strike.name.clone(),
        class: "done",
        lanes: vec![1],
        inside: false,
    });
    let bars: Vec<Bar> = phases.chain(strikes).collect();
    let lanes: &[&str] = if report.faults.is_empty() {
        &["phase"]
    } else {
        &["phase", "done to it"]
    };
    timeline.lanes(lanes, &bars, &[]);
    let several = report.streams.len() > 1;
    let name = |stream: &StreamReport, what: &str| match several {
        true => format!("{} {what}", stream.name),
        false => what.to_owned(),
    };
    let mut lines = Vec::new();
    for (stream, (colour, _)) in drawn(report) {
        let shown = |value: f32| (value > 0.0).then_some(f64::from(value));
        lines.push(Line::new(
            &name(stream, "p50"),
            colour,
            "2 3",
            series(stream, |s| shown(s.row.p50_ms)),
        ));
        lines.push(Line::new(
            &name(stream, "p99"),
            colour,
            "",
            series(stream, |s| shown(s.row.p99_ms)),
        ));
    }
    timeline.panel(&Lines {
        title: "Latency of successful requests, by second of their intended time (logarithmic)",
        axis: Axis::Milliseconds,
        lines,
        marks: Vec::new(),
    });
    let mut lines = Vec::new();
    for (stream, (colour, _)) in drawn(report) {
        lines.push(Line::new(
            &name(stream, "wanted"),
            colour,
            "2 3",
            series(stream, |s| (s.target > 0.0).then_some(s.target)),
        ));
        let ok =
            |s: &super::report::Second| (s.row.sent() > 0).then_some(s.row.count(Kind::Ok) as f64);
        lines.push(Line::new(
            &name(stream, "successful"),
            colour,
            "",
            series(stream, ok),
        ));
    }
    let failed = |at: usize| {
        let seconds = report
            .streams
            .iter()
            .filter_map(|stream| stream.seconds.get(at));
        let bad = seconds.flat_map(|second| Kind::ALL.map(|kind| (kind, second.row.count(kind))));
        bad.filter(|(kind, _)| kind.is_error())
            .map(|(_, count)| count)
            .sum::<u64>()
            > 0
    };
    timeline.panel(&Lines {
        title: "Requests a second (▾ on the axis: a request failed, timed out or was answered wrongly)",
        axis: Axis::Count,
        lines,
        marks: (0..end.ceil() as usize).filter(|at| failed(*at)).map(|at| at as f64 + 0.5).collect(),
    });
    let throttled = |stream: &StreamReport| {
        stream
            .seconds
            .iter()
            .any(|s| s.row.count(Kind::Throttled) > 0)
    };
    if report.streams.iter().any(throttled) {
        let lines = drawn(report).map(|(stream, (colour, dashes))| {
            let points = series(stream, |s| {
                (s.row.sent() > 0).then_some(s.row.count(Kind::Throttled) as f64)
            });
            Line::new(&name(stream, "throttled"), colour, dashes, points)
        });
        timeline.panel(&Lines {
            title: "Throttled requests a second",
            axis: Axis::Count,
            lines: lines.collect(),
            marks: Vec::new(),
        });
    }
    for metric in &report.metrics {
        let what = if metric.spec.gauge { "" } else { ", a second" };
        let title = format!("{}: {}{what}", metric.spec.name, metric.spec.metric);
        let within = metric
            .points
            .iter()
            .filter(|(at, _)| (0.0..=end).contains(at));
        timeline.panel(&Lines {
            title: &title,
            axis: Axis::Count,
            lines: vec![Line::new(
                &metric.spec.name,
                LOOKS[0].0,
                "",
                within.copied().collect(),
            )],
            marks: Vec::new(),
        });
    }
    let left_out = report.streams.len().saturating_sub(STREAMS_DRAWN_MAX);
    let note = match left_out {
        0 => String::new(),
        more => format!("<p>{more} more streams are in the table only.</p>"),
    };
    let _ = writeln!(
        body,
        "<section><h2>Over time</h2><div id=\"timeline\">{}<div id=\"tip\" role=\"status\" hidden></div></div>{note}</section>",
        timeline.finish("Phases, faults, latency and requests over time; arrow keys show the values of each second")
    );
}

fn phases(body: &mut String, report: &Report) {
    body.push_str(
        "<section><h2>By phase</h2><table><thead><tr><th>stream</th><th>phase</th><th></th><th class=\"n\">sent</th><th class=\"n\">ok/s</th>\
         <th class=\"n\">p50</th><th class=\"n\">p90</th><th class=\"n\">p99</th><th class=\"n\">p99.9</th><th class=\"n\">max</th><th>not ok</th></tr></thead><tbody>",
    );
    for stream in &report.streams {
        for summary in &stream.phases {
            row(body, stream, summary);
        }
    }
    body.push_str("</tbody></table></section>\n");
}

fn row(body: &mut String, stream: &StreamReport, summary: &Summary) {
    let ms = |value: Option<f64>| value.map_or("–".to_owned(), |ms| format!("{ms:.1} ms"));
    let ends = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Ok);
    let ends = ends.filter_map(|kind| {
        let count = summary
            .ends
            .get(kind.name())
            .copied()
            .filter(|count| *count > 0)?;
        let class = if kind.is_error() { "bad" } else { "" };
        Some(format!(
            "<span class=\"{class}\">{} {}</span>",
            thousands(count),
            kind.name()
        ))
    });
    let mut not_ok = ends.collect::<Vec<_>>().join(", ");
    for (reason, count) in &summary.reasons {
        let _ = write!(
            not_ok,
            "<br><small>{} × {}</small>",
            thousands(*count),
            escape(reason)
        );
    }
    let _ = write!(
        body,
        "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{:.1}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
         <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{not_ok}</td></tr>",
        escape(&stream.name),
        escape(&summary.phase),
        summary.class,
        thousands(summary.sent),
        summary.ok_rate,
        ms(summary.p50_ms),
        ms(summary.p90_ms),
        ms(summary.p99_ms),
        ms(summary.p999_ms),
        ms(summary.max_ms)
    );
}

fn faults(body: &mut String, report: &Report) {
    if report.faults.is_empty() {
        return;
    }
    body.push_str("<section><h2>Done to the mesh</h2><table><thead><tr><th class=\"n\">at</th><th>what</th><th></th></tr></thead><tbody>");
    for strike in &report.faults {
        let (class, word) = match strike.error.as_str() {
            "" => ("good", "done".to_owned()),
            error => ("bad", escape(error)),
        };
        let _ = write!(
            body,
            "<tr><td class=\"n\">{:.1} s</td><td>{}</td><td class=\"{class}\">{word}</td></tr>",
            strike.from_s,
            escape(&strike.name)
        );
    }
    body.push_str("</tbody></table></section>\n");
}

fn wrong(body: &mut String, report: &Report) {
    for stream in report
        .streams
        .iter()
        .filter(|stream| !stream.wrong.is_empty())
    {
        let _ = writeln!(
            body,
            "<section><h2>Wrong answers to {}</h2><pre>{}</pre></section>",
            escape(&stream.name),
            escape(&stream.wrong.join("\n"))
        );
    }
}

fn footer(body: &mut String, report: &Report) {
    let streams = report.streams.iter().map(|stream| {
        format!(
            "{}: table {}, keys {}, {} connections to {}",
            stream.name,
            stream.table,
            stream.keys,
            stream.connections,
            stream.endpoints.join(", ")
        )
    });
    let streams = escape(&streams.collect::<Vec<_>>().join(" · "));
    let _ = writeln!(body, "<footer><p>{streams}</p></footer>");
}

/// What is shown for each second under the pointer.
fn tips(report: &Report) -> Vec<Vec<String>> {
    let seconds = report
        .streams
        .iter()
        .map(|stream| stream.seconds.len())
        .max()
        .unwrap_or(0);
    let lines = |at: usize| {
        let (from, to) = (at as f64, at as f64 + 1.0);
        let phase = report.phases.iter().find(|phase| phase.to_s > from);
        let mut lines: Vec<String> = phase.map(|phase| phase.name.clone()).into_iter().collect();
        let strikes = report
            .faults
            .iter()
            .filter(|strike| strike.from_s < to && strike.to_s >= from);
        lines.extend(strikes.map(|strike| strike.name.clone()));
        for stream in &report.streams {
            let Some(second) = stream
                .seconds
                .get(at)
                .filter(|second| second.row.sent() > 0)
            else {
                continue;
            };
            let row = &second.row;
            let ends = Kind::ALL.into_iter().filter(|kind| row.count(*kind) > 0);
            let ends: Vec<String> = ends
                .map(|kind| format!("{} {}", row.count(kind), kind.name()))
                .collect();
            lines.push(format!(
                "{}: {}; p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
                stream.name,
                ends.join(", "),
                row.p50_ms,
                row.p99_ms,
                row.max_ms
            ));
        }
        lines
    };
    (0..seconds).map(lines).collect()
}
