//! The report as one page: no other files, no network, readable without scripts. Owns what is drawn where; numbers come from `report`.

mod chart;

use std::fmt::Write as _;

use super::report::{Effect, Report, Tally};
use chart::{Axis, Line, Lines, Timeline};

const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

// Okabe and Ito's colours, which colour-blind people tell apart; lines differ in their dashes as well.
const WRITES: &str = "#d55e00";
const STRONG: &str = "#0072b2";
const EVENTUAL: &str = "#009e73";
const ZONES: [(&str, &str); 4] = [
    ("#0072b2", ""),
    ("#e69f00", "7 3"),
    ("#009e73", "2 2"),
    ("#cc79a7", "8 2 2 2"),
];

/// The whole page.
pub fn render(report: &Report) -> String {
    let mut page = String::with_capacity(256 * 1024);
    let run = &report.run;
    let verdict = if report.passed { "passed" } else { "failed" };
    // Writing into a String can't fail.
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Power-off test, seed {}: {verdict}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body><main>\n",
        run.seed
    );
    header(&mut page, report);
    cards(&mut page, report);
    timeline(&mut page, report);
    checks(&mut page, report);
    faults(&mut page, report);
    calls(&mut page, report);
    footer(&mut page, report);
    let data = serde_json::json!({
        "seconds": report.seconds.iter().map(|second| [&second.write, &second.strong, &second.eventual].map(|t| {
            serde_json::json!([t.calls, t.percent().map(|p| (p * 100.0).round() / 100.0), t.failed, t.p50_ms, t.p99_ms])
        })).collect::<Vec<_>>(),
        "faults": report.faults.iter().map(|f| serde_json::json!([f.struck.from_ms, f.struck.to_ms, f.struck.label])).collect::<Vec<_>>(),
        "leading": report.samples.iter().map(|s| serde_json::json!([s.at_ms, s.leading])).collect::<Vec<_>>(),
        "left": chart::LEFT, "width": chart::WIDTH, "lasts_ms": run.lasted_ms,
    });
    // Labels are ours; still nothing may end the script early.
    let data = data.to_string().replace("</", "<\\/");
    let _ = write!(
        page,
        "</main><script>const data={data};\n{SCRIPT}</script></body></html>\n"
    );
    page
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn header(page: &mut String, report: &Report) {
    let run = &report.run;
    let (class, word) = if report.passed {
        ("good", "✓ all held")
    } else {
        ("bad", "✕ something did not hold")
    };
    let mode = match (run.quick, run.beyond) {
        (true, _) => "short form",
        (_, true) => "with total losses of power",
        _ => "one zone or link broken at a time",
    };
    let _ = write!(
        page,
        "<header><h1>Power-off test <span class=\"badge {class}\">{word}</span></h1><p>Seed {} · {} · {:.1} minutes · {} processes in {} zones · \
         {} partitions · {} calls a second, open loop · {mode}</p>",
        run.seed,
        date(run.started),
        run.lasted_ms as f64 / 60_000.0,
        run.processes.len(),
        run.zones.len(),
        run.partitions,
        run.rate
    );
    if !run.no_namespaces.is_empty() {
        let _ = write!(
            page,
            "<p class=\"warning\">⚠ Faults of the network were <b>not</b> tested: zones are addresses on loopback, not network namespaces ({}).</p>",
            escape(&run.no_namespaces)
        );
    }
    page.push_str("</header>\n");
}

fn cards(page: &mut String, report: &Report) {
    page.push_str("<section class=\"cards\">");
    let mut card = |title: &str, value: String, note: String, good: bool| {
        let class = if good { "" } else { " bad" };
        let _ = write!(
            page,
            "<div class=\"card{class}\"><h3>{title}</h3><b>{value}</b><span>{note}</span></div>"
        );
    };
    let run = &report.run;
    card(
        "Acknowledged writes",
        thousands(run.acknowledged_writes),
        data_note(report).0,
        data_note(report).1,
    );
    for (name, tally) in [
        ("Writes", &report.total.write),
        ("Strong reads", &report.total.strong),
        ("Eventual reads", &report.total.eventual),
    ] {
        let percent = tally
            .percent()
            .map_or("–".to_owned(), |percent| format!("{percent:.2} %"));
        let note = format!(
            "within 1 s, of {}; {} failed",
            thousands(tally.calls),
            tally.failed
        );
        card(name, percent, note, tally.failed == 0 || run.beyond);
    }
    let longest = report
        .faults
        .iter()
        .filter(|fault| !fault.struck.takes_all)
        .map(|fault| fault.write.max_ms);
    let longest = longest.fold(0.0, f64::max);
    card(
        "Longest wait of a write",
        format!("{:.2} s", longest / 1e3),
        "retries and time-outs included".to_owned(),
        true,
    );
    let calm = &report.calm.write;
    card(
        "Write latency when calm",
        format!("{:.1} ms", calm.p50_ms),
        format!("p50; p99 {:.1} ms", calm.p99_ms),
        true,
    );
    let struck: std::collections::BTreeSet<usize> = report
        .faults
        .iter()
        .map(|fault| fault.struck.number)
        .collect();
    card(
        "Faults",
        report.faults.len().to_string(),
        format!("in {} strikes", struck.len()),
        true,
    );
    page.push_str("</section>\n");
}

/// Of the checks that are about data, not availability.
fn data_note(report: &Report) -> (String, bool) {
    let broken = report
        .checks
        .iter()
        .skip(1)
        .filter(|check| !check.passed)
        .count();
    match broken {
        0 => ("none lost; linearizable; replicas equal".to_owned(), true),
        broken => (format!("{broken} checks failed: see below"), false),
    }
}

fn timeline(page: &mut String, report: &Report) {
    let series = |pick: fn(&super::report::Second) -> Option<f64>| -> Vec<(f64, f64)> {
        let all = report.seconds.iter().enumerate();
        all.filter_map(|(at, second)| Some((at as f64 + 0.5, pick(second)?)))
            .collect()
    };
    let seconds = report.run.lasted_ms as f64 / 1e3;
    let mut timeline = Timeline::new(seconds);
    timeline.faults(&report.run.zones, &report.faults);
    timeline.panel(&Lines {
        title: "Availability: calls answered without error within 1 s, retries included, by second of the call",
        axis: Axis::Percent,
        lines: vec![
            Line::new("eventual reads", EVENTUAL, "2 2", series(|s| s.eventual.percent())),
            Line::new("strong reads", STRONG, "7 3", series(|s| s.strong.percent())),
            Line::new("writes", WRITES, "", series(|s| s.write.percent())),
        ],
        marks: report
            .seconds
            .iter()
            .enumerate()
            .filter(|(_, s)| s.write.failed + s.strong.failed + s.eventual.failed > 0)
            .map(|(at, _)| at as f64 + 0.5)
            .collect(),
    });
    let shown = |tally: &Tally, value: f64| (tally.calls > tally.failed).then_some(value);
    let latency = |tally_of: fn(&super::report::Second) -> &Tally,
                   of: fn(&Tally) -> f64|
     -> Vec<(f64, f64)> {
        let all = report.seconds.iter().enumerate();
        all.filter_map(|(at, second)| {
            Some((
                at as f64 + 0.5,
                shown(tally_of(second), of(tally_of(second)))?,
            ))
        })
        .collect()
    };
    timeline.panel(&Lines {
        title: "Latency of successful calls, milliseconds (logarithmic)",
        axis: Axis::Milliseconds,
        lines: vec![
            Line::new(
                "strong reads p50",
                STRONG,
                "2 2",
                latency(|s| &s.strong, |t| t.p50_ms),
            ),
            Line::new(
                "strong reads p99",
                STRONG,
                "7 3",
                latency(|s| &s.strong, |t| t.p99_ms),
            ),
            Line::new(
                "writes p50",
                WRITES,
                "2 2",
                latency(|s| &s.write, |t| t.p50_ms),
            ),
            Line::new(
                "writes p99",
                WRITES,
                "",
                latency(|s| &s.write, |t| t.p99_ms),
            ),
        ],
        marks: Vec::new(),
    });
    let leading = report
        .run
        .zones
        .iter()
        .zip(ZONES)
        .map(|(zone, (colour, dashes))| {
            let points = report.samples.iter().filter_map(|sample| {
                Some((sample.at_ms as f64 / 1e3, *sample.leading.get(zone)? as f64))
            });
            Line::new(
                zone,
                colour,
                dashes,
                points.filter(|(at, _)| *at <= seconds).collect(),
            )
        });
    timeline.panel(&Lines {
        title: "Partitions led in each zone (a gap: nobody there answers)",
        axis: Axis::Count,
        lines: leading.collect(),
        marks: Vec::new(),
    });
    let _ = writeln!(
        page,
        "<section><h2>Timeline</h2><div id=\"timeline\">{}<div id=\"tip\" hidden></div></div></section>",
        timeline.finish()
    );
}

fn checks(page: &mut String, report: &Report) {
    page.push_str("<section><h2>What must hold</h2><table class=\"checks\"><tbody>");
    for check in &report.checks {
        let (class, mark) = if check.passed {
            ("good", "✓ held")
        } else {
            ("bad", "✕ failed")
        };
        let _ = write!(
            page,
            "<tr><td class=\"{class}\">{mark}</td><td><b>{}</b><br>{}",
            check.name,
            escape(&check.detail)
        );
        for evidence in &check.evidence {
            let _ = write!(page, "<pre>{}</pre>", escape(evidence));
        }
        page.push_str("</td></tr>");
    }
    page.push_str("</tbody></table></section>\n");
}

fn faults(page: &mut String, report: &Report) {
    page.push_str(
        "<section><h2>Faults and their effect</h2><p>Calls count from the fault until all processes were ready again. Waits include time-outs and retries.</p>\
         <table><thead><tr><th>#</th><th>fault</th><th class=\"n\">at</th><th class=\"n\">for</th><th class=\"n\">ready after</th>\
         <th class=\"n\">writes within 1 s</th><th class=\"n\">longest write</th><th class=\"n\">strong reads within 1 s</th><th class=\"n\">longest read</th>\
         <th class=\"n\">leaders moved</th><th class=\"n\">failed</th></tr></thead><tbody>",
    );
    for Effect {
        struck,
        strong,
        eventual,
        write,
        leaders_moved,
    } in &report.faults
    {
        let percent = |tally: &Tally| {
            tally
                .percent()
                .map_or("–".to_owned(), |percent| format!("{percent:.1} %"))
        };
        let failed = strong.failed + eventual.failed + write.failed;
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{:.1} s</td><td class=\"n\">{:.1} s</td><td class=\"n\">{:.1} s</td><td class=\"n\">{}</td>\
             <td class=\"n\">{:.2} s</td><td class=\"n\">{}</td><td class=\"n\">{:.2} s</td><td class=\"n\">{leaders_moved}</td><td class=\"n{}\">{failed}</td></tr>",
            struck.number,
            escape(&struck.label),
            struck.from_ms as f64 / 1e3,
            (struck.to_ms - struck.from_ms) as f64 / 1e3,
            struck.ready_ms.saturating_sub(struck.to_ms) as f64 / 1e3,
            percent(write),
            write.max_ms / 1e3,
            percent(strong),
            strong.max_ms / 1e3,
            if failed > 0 && !struck.takes_all {
                " bad"
            } else {
                ""
            },
        );
    }
    page.push_str("</tbody></table></section>\n");
}

fn calls(page: &mut String, report: &Report) {
    for (title, calls) in [
        ("Calls that failed", &report.failed),
        ("Slowest calls", &report.slowest),
    ] {
        if calls.is_empty() {
            continue;
        }
        let _ = write!(
            page,
            "<section><details><summary>{title} ({} shown)</summary><table><thead><tr><th class=\"n\">at</th><th>class</th><th>client in</th>\
             <th class=\"n\">took</th><th class=\"n\">tries</th><th>in the way</th></tr></thead><tbody>",
            calls.len()
        );
        for call in calls {
            let zone = report.run.zones.get(call.zone).map_or("?", |zone| zone);
            let _ = write!(
                page,
                "<tr><td class=\"n\">{:.2} s</td><td>{:?}</td><td>{zone}</td><td class=\"n\">{:.2} s</td><td class=\"n\">{}</td><td>{}</td></tr>",
                call.at_us as f64 / 1e6,
                call.class,
                call.took_us as f64 / 1e6,
                call.tries,
                escape(&call.errors.join("; "))
            );
        }
        page.push_str("</tbody></table></details></section>\n");
    }
    if !report.errors.is_empty() {
        page.push_str("<section><details><summary>Everything that was in the way of a try</summary><table><tbody>");
        let mut errors: Vec<_> = report.errors.iter().collect();
        errors.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (error, count) in errors.into_iter().take(40) {
            let _ = write!(
                page,
                "<tr><td class=\"n\">{count}</td><td>{}</td></tr>",
                escape(error)
            );
        }
        page.push_str("</tbody></table></details></section>\n");
    }
}

fn footer(page: &mut String, report: &Report) {
    let run = &report.run;
    let slow = run.slow_link.as_deref().map_or(String::new(), |slow| {
        format!(" Slow links: {}.", escape(slow))
    });
    let mut options = format!("--seed {}", run.seed);
    if run.quick {
        options += " --quick";
    } else {
        let _ = write!(options, " --minutes {:.1}", run.lasted_ms as f64 / 60_000.0);
    }
    for (on, option) in [
        (run.beyond, " --beyond"),
        (!run.no_namespaces.is_empty(), " --loopback"),
    ] {
        if on {
            options += option;
        }
    }
    let _ = write!(
        page,
        "<footer><p>Repeat the same schedule of faults: <code>infra/power-off {options}</code>. Processes: {}.{slow}</p></footer>",
        run.processes.join(", ")
    );
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn date(seconds: u64) -> String {
    let (_, stamp) = crate::signature::stamp(seconds);
    // 20260101T000000Z
    format!(
        "{}-{}-{} {}:{} UTC",
        &stamp[0..4],
        &stamp[4..6],
        &stamp[6..8],
        &stamp[9..11],
        &stamp[11..13]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_dates_for_people() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(date(1_794_009_599), "2026-11-06 23:59 UTC");
        assert_eq!(escape("<a & \"b\">"), "&lt;a &amp; &quot;b&quot;&gt;");
    }
}
