//! Alarms for an Alertmanager: the payload of its `POST /api/v2/alerts` (Alertmanager documentation, "Alerts API"), and how it is sent. What stands is
//! told again and again, so nothing that is lost on the way stays lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use availability::Alarm;
use serde_json::{Value, json};
use tracing::warn;

use crate::settings::CanarySettings;

/// An alarm that ended is told of for so long, milliseconds.
const ENDED_TOLD_MS: u64 = 300_000;
/// Alarms in one message.
const ALARMS_MAX: usize = 500;
/// Time for one try.
const TRY_MAX: Duration = Duration::from_secs(5);
/// Before the second try; doubled with each.
const AGAIN: Duration = Duration::from_secs(1);

/// `2026-11-06T23:59:59Z`.
fn rfc3339(ms: u64) -> String {
    let (_, stamp) = signature::stamp(ms / 1_000);
    let part = |from: usize, to: usize| stamp.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(9, 11),
        part(11, 13),
        part(13, 15)
    )
}

/// The message: what stands is good until it is to be told of again (and some more), what ended has ended. Canaries that see the same say the
/// same, so that Alertmanager sees one alert.
pub(crate) fn payload(
    standing: &[Alarm],
    ended: &[Alarm],
    now_ms: u64,
    every_ms: u64,
    runbooks: &str,
) -> Value {
    let lately = ended.iter().filter(|alarm| {
        alarm
            .ended_ms
            .is_some_and(|at| now_ms.saturating_sub(at) < ENDED_TOLD_MS)
    });
    let alert = |alarm: &Alarm| {
        let ends_ms = alarm.ended_ms.unwrap_or(now_ms + 4 * every_ms);
        let mut labels = json!({
            "alertname": format!("evenkeel_{}", alarm.kind.name()),
            "severity": alarm.severity.name(),
            "subject": alarm.subject,
        });
        if let Some(class) = alarm.class {
            labels["class"] = class.name().into();
        }
        json!({
            "labels": labels,
            "annotations": {
                "summary": alarm.summary,
                "runbook_url": format!("{runbooks}#{}", alarm.kind.name().replace('_', "-")),
            },
            "startsAt": rfc3339(alarm.since_ms),
            "endsAt": rfc3339(ends_ms),
        })
    };
    let alerts = standing.iter().chain(lately).take(ALARMS_MAX);
    Value::Array(alerts.map(alert).collect())
}

/// What the sender counts.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) posts: AtomicU64,
    pub(crate) failures: AtomicU64,
}

/// Sends messages.
pub(crate) struct Webhook {
    client: reqwest::Client,
    url: String,
    tries: u32,
    sent: Arc<Sent>,
}

impl Webhook {
    pub(crate) fn new(settings: &CanarySettings, sent: Arc<Sent>) -> anyhow::Result<Self> {
        // Another part of the process may have chosen one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().timeout(TRY_MAX).build()?;
        Ok(Self {
            client,
            url: format!("{}/api/v2/alerts", settings.webhook.trim_end_matches('/')),
            tries: settings.webhook_tries.clamp(1, 10),
            sent,
        })
    }

    /// Sends one message, with so many tries as are allowed; the next one says the same and more.
    pub(crate) async fn send(&self, alerts: &Value) {
        let mut pause = AGAIN;
        let mut why = String::new();
        for number in 0..self.tries {
            if number > 0 {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            let request = self.client.post(&self.url);
            let request = request.header("content-type", "application/json");
            match request.body(alerts.to_string()).send().await {
                Ok(response) if response.status().is_success() => {
                    self.sent.posts.fetch_add(1, Relaxed);
                    return;
                }
                Ok(response) => why = format!("it answers {}", response.status()),
                Err(error) => why = error.to_string(),
            }
            self.sent.failures.fetch_add(1, Relaxed);
        }
        warn!(url = self.url, why, "alarms can't be told to the webhook");
    }
}

#[cfg(test)]
mod tests {
    use availability::{Class, Kind, Severity};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn alarm(ended_ms: Option<u64>) -> Alarm {
        Alarm {
            kind: Kind::ZoneUnreachable,
            subject: "az2".to_owned(),
            class: None,
            severity: Severity::Critical,
            summary: "no endpoint of zone az2 answers".to_owned(),
            since_ms: 1_794_009_599_123,
            ended_ms,
        }
    }

    #[test]
    fn the_payload_is_alertmanagers() {
        let now_ms = 1_794_009_660_000;
        let standing = [alarm(None)];
        let slow = Alarm {
            kind: Kind::Slow,
            class: Some(Class::Write),
            subject: "music".to_owned(),
            ..alarm(Some(now_ms - 1_000))
        };
        let long_ago = alarm(Some(now_ms - ENDED_TOLD_MS));
        let alerts = payload(
            &standing,
            &[slow, long_ago],
            now_ms,
            60_000,
            "https://r/b.md",
        );
        assert_eq!(
            alerts,
            json!([
                {
                    "labels": {"alertname": "evenkeel_zone_unreachable", "severity": "critical", "subject": "az2"},
                    "annotations": {
                        "summary": "no endpoint of zone az2 answers",
                        "runbook_url": "https://r/b.md#zone-unreachable",
                    },
                    "startsAt": "2026-11-06T23:59:59Z",
                    "endsAt": "2026-11-07T00:05:00Z",
                },
                {
                    "labels": {"alertname": "evenkeel_slow", "severity": "critical", "subject": "music", "class": "write"},
                    "annotations": {
                        "summary": "no endpoint of zone az2 answers",
                        "runbook_url": "https://r/b.md#slow",
                    },
                    "startsAt": "2026-11-06T23:59:59Z",
                    "endsAt": "2026-11-07T00:00:59Z",
                },
            ])
        );
    }

    #[tokio::test]
    async fn a_message_is_tried_again_and_no_more_often_than_allowed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = CanarySettings {
            webhook: format!("http://{}", listener.local_addr().unwrap()),
            webhook_tries: 2,
            ..CanarySettings::default()
        };
        let server = tokio::spawn(async move {
            let mut heads = Vec::new();
            for answer in ["503 Unavailable", "200 OK"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut text = Vec::new();
                while !text.ends_with(b"[]") {
                    assert_ne!(stream.read_buf(&mut text).await.unwrap(), 0);
                }
                heads.push(String::from_utf8(text).unwrap());
                let answer =
                    format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            heads
        });
        let sent = Arc::new(Sent::default());
        let webhook = Webhook::new(&settings, sent.clone()).unwrap();
        webhook.send(&json!([])).await;
        let heads = server.await.unwrap();
        assert!(
            heads[1].starts_with("POST /api/v2/alerts HTTP/1.1\r\n"),
            "{heads:?}"
        );
        assert_eq!(
            (sent.posts.load(Relaxed), sent.failures.load(Relaxed)),
            (1, 1)
        );
        // Nobody listens any more.
        webhook.send(&json!([])).await;
        assert_eq!(
            (sent.posts.load(Relaxed), sent.failures.load(Relaxed)),
            (1, 3)
        );
    }
}
