//! Sending spans over OTLP. Owns the queue's far end, batching and time-outs; never retries: spans that can't be sent are dropped and counted.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::recorder::COUNTS;
use super::settings::{Protocol, TraceSettings};
use super::span::Span;

/// So often while a batch gathers it is looked whether it is full.
const LOOKS: u32 = 5;

/// Who the spans are of.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) service: String,
    pub(crate) instance: u64,
}

/// Makes the exporter, without connecting yet. Within a runtime.
///
/// # Errors
/// When the endpoint is none.
pub(crate) fn exporter(settings: &TraceSettings, who: &Who) -> anyhow::Result<SpanExporter> {
    // The first one in the process stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let time = Duration::from_millis(settings.export_ms_max.max(1));
    let endpoint = settings.endpoint.as_str();
    let built = match settings.protocol {
        Protocol::Grpc => SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(time)
            .build(),
        Protocol::Http => SpanExporter::builder()
            .with_http()
            .with_endpoint(endpoint)
            .with_timeout(time)
            .build(),
    };
    let mut exporter = built.with_context(|| format!("telemetry.traces.endpoint {endpoint:?}"))?;
    let resource = Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", who.service.clone()),
            KeyValue::new("service.namespace", "evenkeel"),
            KeyValue::new(
                "service.instance.id",
                format!("{}-{}", who.service, who.instance),
            ),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ])
        .build();
    exporter.set_resource(&resource);
    Ok(exporter)
}

/// The exporters of this process: all are told that it ends.
struct Exporters {
    ending: watch::Sender<bool>,
    running: Mutex<Vec<JoinHandle<()>>>,
}

fn exporters() -> &'static Exporters {
    static EXPORTERS: OnceLock<Exporters> = OnceLock::new();
    EXPORTERS.get_or_init(|| Exporters {
        ending: watch::Sender::new(false),
        running: Mutex::default(),
    })
}

/// Exports what is sent from now on, in a task of its own; gives the way to it. Within a runtime.
pub(crate) fn start(exporter: SpanExporter, settings: &TraceSettings) -> mpsc::Sender<Span> {
    let (spans, queued) = mpsc::channel(settings.spans_queued_max.max(1));
    let ending = exporters().ending.subscribe();
    let running = tokio::spawn(run(exporter, settings.clone(), queued, ending));
    exporters().running.lock().push(running);
    spans
}

/// Has all exporters send what they hold and end, within this time.
pub(crate) async fn end_all(within: Duration) {
    exporters().ending.send_replace(true);
    let running = std::mem::take(&mut *exporters().running.lock());
    let until = tokio::time::Instant::now() + within;
    for exporter in running {
        // One that is late is dropped with the process, and so is what it holds.
        let _ = tokio::time::timeout_at(until, exporter).await;
    }
}

/// Waits for spans and gives what came within `gather`, `batch_max` at most; once the process ends, what is left. None: nothing comes any more.
async fn next(
    spans: &mut mpsc::Receiver<Span>,
    ending: &mut watch::Receiver<bool>,
    gather: Duration,
    batch_max: usize,
) -> Option<Vec<Span>> {
    let mut batch = Vec::new();
    if !spans.is_closed() {
        // Asleep while more come: nobody who sends one has to wake it for that.
        let gathered = async {
            if let Some(first) = spans.recv().await {
                batch.push(first);
                for _ in 0..LOOKS {
                    if spans.len() + 1 >= batch_max {
                        break;
                    }
                    tokio::time::sleep(gather / LOOKS).await;
                }
            }
        };
        let ends = tokio::select! {
            () = gathered => false,
            _ = ending.wait_for(|ends| *ends) => true,
        };
        if ends {
            spans.close();
        }
    }
    while batch.len() < batch_max
        && let Ok(span) = spans.try_recv()
    {
        batch.push(span);
    }
    (!batch.is_empty()).then_some(batch)
}

/// Sends what comes until nobody can send any more, or the process ends.
async fn run(
    exporter: SpanExporter,
    settings: TraceSettings,
    mut spans: mpsc::Receiver<Span>,
    mut ending: watch::Receiver<bool>,
) {
    let scope = InstrumentationScope::builder("evenkeel").build();
    let time = Duration::from_millis(settings.export_ms_max.max(1));
    let gather = Duration::from_millis(settings.batch_ms);
    let batch_max = settings.batch_spans_max.max(1);
    let mut failing = false;
    while let Some(batch) = next(&mut spans, &mut ending, gather, batch_max).await {
        let batch: Vec<_> = (batch.into_iter())
            .map(|span| span.into_data(&scope))
            .collect();
        let count = batch.len() as u64;
        let sent = tokio::time::timeout(time, exporter.export(batch)).await;
        let why = match sent {
            Ok(Ok(())) => {
                COUNTS.exported.fetch_add(count, Ordering::Relaxed);
                failing = false;
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        COUNTS.dropped.fetch_add(count, Ordering::Relaxed);
        COUNTS.failed.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut failing, true) {
            tracing::warn!(
                endpoint = settings.endpoint,
                why,
                "spans can't be exported; they are dropped until that works again"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh::TraceContext;

    use super::super::span::SpanKind;
    use super::*;

    #[tokio::test]
    async fn what_is_queued_when_the_process_ends_still_comes_and_then_nothing() {
        let (sender, mut spans) = mpsc::channel(8);
        let (ends, mut ending) = watch::channel(false);
        let span = || Span::new(TraceContext::default(), "put", SpanKind::Internal, (1, 2));
        let fill = || (0..5).for_each(|_| sender.try_send(span()).expect("room"));
        fill();
        // A full batch does not wait.
        let hour = Duration::from_secs(3_600);
        let batch = next(&mut spans, &mut ending, hour, 3).await;
        assert_eq!(batch.expect("a batch").len(), 3);
        // What is left of it waits for more, or for its time.
        let batch = next(&mut spans, &mut ending, Duration::from_millis(5), 3).await;
        assert_eq!(batch.expect("a batch").len(), 2);
        fill();
        ends.send_replace(true);
        for left in [3, 2] {
            let batch = next(&mut spans, &mut ending, hour, 3).await;
            assert_eq!(batch.expect("what was queued").len(), left);
        }
        assert!(next(&mut spans, &mut ending, hour, 3).await.is_none());
        assert!(sender.try_send(span()).is_err(), "nothing more is taken");
    }
}
