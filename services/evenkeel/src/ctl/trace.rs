//! `evenkeel ctl trace`: one request's trace as a text waterfall, from the query API of Jaeger (or of `evenkeel dev`). Owns the layout.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use super::desk::{print, said};
use super::options::Output;

/// Characters of the bars.
const BAR: usize = 40;
/// A trace's spans come within so long after its request, the exporters' batches included.
const AGAIN: Duration = Duration::from_millis(250);

/// As Jaeger answers; microseconds.
#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    data: Option<Vec<Trace>>,
}

#[derive(Deserialize)]
struct Trace {
    #[serde(default)]
    spans: Vec<Span>,
    #[serde(default)]
    processes: BTreeMap<String, Process>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    #[serde(rename = "spanID")]
    id: String,
    operation_name: String,
    #[serde(default)]
    references: Option<Vec<Reference>>,
    start_time: u64,
    duration: u64,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(rename = "processID")]
    process: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    ref_type: String,
    #[serde(rename = "spanID")]
    id: String,
}

#[derive(Deserialize)]
struct Tag {
    key: String,
    value: serde_json::Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    service_name: String,
    #[serde(default)]
    tags: Vec<Tag>,
}

/// One line of the waterfall.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    depth: usize,
    service: String,
    name: String,
    start_us: u64,
    duration_us: u64,
    error: bool,
    tags: BTreeMap<String, String>,
}

/// What is printed.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Waterfall {
    trace_id: String,
    spans: Vec<Line>,
}

/// Prints the trace of a request, waiting for it for a while. `url`: of Jaeger's query API.
pub async fn show(
    url: &str,
    request_id: &str,
    patience: Duration,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let Some(trace_id) = telemetry::traces::trace_of_request_id(request_id) else {
        let why = format!(
            "'{request_id}' is not a request id: 52 characters, from the header x-amzn-RequestId"
        );
        said(output, false, &why)?;
        return Ok(ExitCode::from(super::USAGE));
    };
    let trace_id = format!("{trace_id:032x}");
    let until = Instant::now() + patience;
    loop {
        if let Some(waterfall) = fetch(url, &trace_id).await? {
            print(output, &waterfall, || text(&waterfall))?;
            return Ok(ExitCode::SUCCESS);
        }
        if Instant::now() >= until {
            let why = format!("no trace {trace_id} at {url}: it was not kept, or is gone");
            said(output, false, &why)?;
            return Ok(ExitCode::from(super::REFUSED));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn fetch(url: &str, trace_id: &str) -> anyhow::Result<Option<Waterfall>> {
    // The first one in the process stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let address = format!("{}/api/traces/{trace_id}", url.trim_end_matches('/'));
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        .build()?;
    let response = client
        .get(&address)
        .send()
        .await
        .with_context(|| format!("no answer from {url}; is it Jaeger's address (--traces)?"))?;
    if response.status() == reqwest::StatusCode::NOT_FOUND {
        return Ok(None);
    }
    if !response.status().is_success() {
        bail!("{address} answered {}", response.status());
    }
    let body = response.bytes().await?;
    let reply: Reply = serde_json::from_slice(&body)
        .with_context(|| format!("{address} did not answer as Jaeger does"))?;
    let trace = reply.data.into_iter().flatten().next();
    Ok(trace
        .filter(|trace| !trace.spans.is_empty())
        .map(|trace| lay_out(trace_id, &trace)))
}

/// Parents before children, children by time.
fn lay_out(trace_id: &str, trace: &Trace) -> Waterfall {
    let ids: Vec<&str> = trace.spans.iter().map(|span| span.id.as_str()).collect();
    let parent = |span: &Span| {
        let mut references = span.references.iter().flatten();
        let parent = references.find(|reference| reference.ref_type == "CHILD_OF")?;
        ids.iter().position(|id| *id == parent.id)
    };
    let mut children: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
    for (at, span) in trace.spans.iter().enumerate() {
        children.entry(parent(span)).or_default().push(at);
    }
    for siblings in children.values_mut() {
        siblings.sort_by_key(|at| trace.spans[*at].start_time);
    }
    let zero = trace.spans.iter().map(|span| span.start_time).min();
    let mut spans = Vec::new();
    let mut open: Vec<(usize, usize)> = Vec::new();
    let push = |open: &mut Vec<(usize, usize)>, of: Option<usize>, depth: usize| {
        let below = children.get(&of).into_iter().flatten();
        open.extend(below.rev().map(|at| (*at, depth)));
    };
    push(&mut open, None, 0);
    while let Some((at, depth)) = open.pop() {
        let span = &trace.spans[at];
        spans.push(line(trace, span, depth, zero.unwrap_or_default()));
        push(&mut open, Some(at), depth + 1);
    }
    Waterfall {
        trace_id: trace_id.to_owned(),
        spans,
    }
}

fn line(trace: &Trace, span: &Span, depth: usize, zero: u64) -> Line {
    let text = |tag: &Tag| match &tag.value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let process = trace.processes.get(&span.process);
    let instance = process.and_then(|process| {
        let mut tags = process.tags.iter();
        tags.find(|tag| tag.key == "service.instance.id").map(text)
    });
    let tags: BTreeMap<String, String> = (span.tags.iter())
        .map(|tag| (tag.key.clone(), text(tag)))
        .collect();
    Line {
        depth,
        service: instance
            .or_else(|| process.map(|process| process.service_name.clone()))
            .unwrap_or_default(),
        name: span.operation_name.clone(),
        start_us: span.start_time - zero,
        duration_us: span.duration,
        error: tags.get("error").is_some_and(|error| error == "true")
            || tags
                .get("otel.status_code")
                .is_some_and(|code| code == "ERROR"),
        tags,
    }
}

fn text(waterfall: &Waterfall) -> String {
    let ends = waterfall
        .spans
        .iter()
        .map(|line| line.start_us + line.duration_us);
    let whole = ends.max().unwrap_or_default().max(1);
    let label = |line: &Line| format!("{}{}", "  ".repeat(line.depth), line.name);
    let widest = |width: fn(&Line) -> usize| waterfall.spans.iter().map(width).max().unwrap_or(0);
    let names = widest(|line| 2 * line.depth + line.name.chars().count());
    let services = widest(|line| line.service.len());
    let mut out = format!("trace {}, {}\n", waterfall.trace_id, duration(whole));
    for line in &waterfall.spans {
        let at = |us: u64| (us * BAR as u64 / whole) as usize;
        let from = at(line.start_us).min(BAR - 1);
        let length =
            (at(line.start_us + line.duration_us).saturating_sub(from)).clamp(1, BAR - from);
        let bar = format!("{}{}", " ".repeat(from), "█".repeat(length));
        let mark = if line.error { " !" } else { "" };
        let _ = writeln!(
            out,
            "{:services$}  {:names$}  {:>9}  |{bar:BAR$}|{mark}",
            line.service,
            label(line),
            duration(line.duration_us),
        );
    }
    out.truncate(out.trim_end().len());
    out
}

fn duration(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.2} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"data": [{"traceID": "ab", "spans": [
        {"traceID": "ab", "spanID": "3", "operationName": "evaluate", "startTime": 1300, "duration": 100, "processID": "s",
         "references": [{"refType": "CHILD_OF", "traceID": "ab", "spanID": "2"}], "tags": [{"key": "n", "type": "int64", "value": 4}]},
        {"traceID": "ab", "spanID": "2", "operationName": "process node.2.item", "startTime": 1200, "duration": 400, "processID": "s",
         "references": [{"refType": "CHILD_OF", "traceID": "ab", "spanID": "1"}]},
        {"traceID": "ab", "spanID": "1", "operationName": "DynamoDB.PutItem", "startTime": 1000, "duration": 1000, "processID": "r",
         "references": null,
         "tags": [{"key": "error", "type": "bool", "value": true}]}],
        "processes": {"r": {"serviceName": "router", "tags": [{"key": "service.instance.id", "type": "string", "value": "router-1"}]},
                      "s": {"serviceName": "storage"}}}]}"#;

    #[test]
    fn a_trace_is_laid_out_as_a_waterfall() {
        let reply: Reply = serde_json::from_str(ANSWER).unwrap();
        let waterfall = lay_out("ab", &reply.data.unwrap()[0]);
        let order: Vec<_> = (waterfall.spans.iter())
            .map(|line| {
                (
                    line.depth,
                    line.service.as_str(),
                    line.name.as_str(),
                    line.start_us,
                )
            })
            .collect();
        assert_eq!(
            order,
            [
                (0, "router-1", "DynamoDB.PutItem", 0),
                (1, "storage", "process node.2.item", 200),
                (2, "storage", "evaluate", 300)
            ]
        );
        let text = text(&waterfall);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "trace ab, 1.00 ms");
        assert!(
            lines[1].ends_with(&format!("|{}| !", "█".repeat(BAR))),
            "{text}"
        );
        let bar = format!(
            "  400 µs  |{}{}{}|",
            " ".repeat(8),
            "█".repeat(16),
            " ".repeat(16)
        );
        assert!(lines[2].ends_with(&bar), "{text}");
    }
}
