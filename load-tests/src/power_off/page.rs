//! The report as one page: no other files, no network, readable without scripts. Owns what is drawn where; numbers come from `report`.

use std::fmt::Write as _;

use super::plan::Fault;
use super::report::{Effect, Report, Tally};
use crate::page::chart::{Axis, Bar, LOOKS, Line, Lines, Timeline};
use crate::page::{self, date, escape, thousands};

// Colours of the style sheet; lines differ in their dashes as well.
const WRITES: &str = "vermilion";
const STRONG: &str = "blue";
const EVENTUAL: &str = "green";

/// The whole page.
pub fn render(report: &Report) -> String {
    let mut page = String::with_capacity(256 * 1024);
    let verdict = if report.passed { "passed" } else { "failed" };
    header(&mut page, report);
    cards(&mut page, report);
    timeline(&mut page, report);
    checks(&mut page, report);
    faults(&mut page, report);
    calls(&mut page, report);
    footer(&mut page, report);
    let title = format!("Power-off test, seed {}: {verdict}", report.run.seed);
    page::document(
        &title,
        &page,
        &tips(report),
        report.run.lasted_ms as f64 / 1e3,
    )
}

/// What is shown for each second under the pointer.
fn tips(report: &Report) -> Vec<Vec<String>> {
    let second = |(at, second): (usize, &super::report::Second)| {
        let mut lines = Vec::new();
        let (from, to) = (at as u64 * 1_000, at as u64 * 1_000 + 1_000);
        let struck = report.faults.iter().map(|fault| &fault.struck);
        lines.extend(
            struck
                .filter(|struck| struck.from_ms <= to && struck.to_ms >= from)
                .map(|struck| struck.label.clone()),
        );
        for (name, tally) in [
            ("writes", &second.write),
            ("strong reads", &second.strong),
            ("eventual reads", &second.eventual),
        ] {
            let percent = tally
                .percent()
                .map_or("–".to_owned(), |p| format!("{p:.2}"));
            lines.push(format!(
                "{name}: {percent} % of {}, p50 {:.1} ms, p99 {:.1} ms, {} failed",
                tally.calls, tally.p50_ms, tally.p99_ms, tally.failed
            ));
        }
        let sample = report.samples.iter().rfind(|sample| sample.at_ms <= to);
        if let Some(sample) = sample {
            let leaders: Vec<String> = sample
                .leading
                .iter()
                .map(|(zone, n)| format!("{zone} {n}"))
                .collect();
            lines.push(format!("leaders: {}", leaders.join(", ")));
        }
        lines
    };
    report.seconds.iter().enumerate().map(second).collect()
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
    let zones = &report.run.zones;
    let names: Vec<&str> = zones.iter().map(String::as_str).chain(["links"]).collect();
    let bars: Vec<Bar> = report
        .faults
        .iter()
        .map(|fault| bar(zones, fault))
        .collect();
    timeline.lanes(&names, &bars, &LEGEND);
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
        .zip(LOOKS)
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
        timeline.finish("Timeline of faults, availability, latency and leaders")
    );
}

/// Looks of faults.
const LEGEND: [(&str, &str); 4] = [
    ("dead", "killed or without power"),
    ("paused", "paused (SIGSTOP)"),
    ("restarted", "restarted gracefully"),
    ("network", "network"),
];

/// A fault in the lanes of its zones; one between zones has a lane of its own, the last.
fn bar(zones: &[String], fault: &Effect) -> Bar {
    let struck = &fault.struck;
    let own: Vec<usize> = (struck.zones.iter())
        .filter_map(|zone| zones.iter().position(|known| known == zone))
        .collect();
    Bar {
        from_s: struck.from_ms as f64 / 1e3,
        to_s: struck.to_ms as f64 / 1e3,
        label: struck.label.clone(),
        class: class(&struck.fault),
        lanes: if own.is_empty() {
            vec![zones.len()]
        } else {
            own
        },
        inside: false,
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
