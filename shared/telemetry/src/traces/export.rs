//! Sending spans over OTLP. Owns the queue's far end, batching and time-outs; never retries: spans that can't be sent are dropped and counted.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter as _;
use tokio::sync::mpsc;

use super::recorder::COUNTS;
use super::settings::{Protocol, TraceSettings};
use super::span::Span;

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

/// Sends what comes until nobody can send any more.
pub(crate) async fn run(
    exporter: SpanExporter,
    settings: TraceSettings,
    mut spans: mpsc::Receiver<Span>,
) {
    let scope = InstrumentationScope::builder("evenkeel").build();
    let time = Duration::from_millis(settings.export_ms_max.max(1));
    let gather = Duration::from_millis(settings.batch_ms);
    let batch_max = settings.batch_spans_max.max(1);
    let mut failing = false;
    while let Some(first) = spans.recv().await {
        let mut batch = vec![first.into_data(&scope)];
        let until = tokio::time::Instant::now() + gather;
        while batch.len() < batch_max {
            match tokio::time::timeout_at(until, spans.recv()).await {
                Ok(Some(span)) => batch.push(span.into_data(&scope)),
                Ok(None) | Err(_) => break,
            }
        }
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
