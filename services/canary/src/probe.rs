//! The canary's own requests: real ones, signed, each over a connection of its own. Owns how an answer is judged; never counts.

use std::time::{Duration, Instant};

use availability::{Class, Outcome};
use serde_json::{Value, json};
use signature::{CONTENT_TYPE, Headers, Signer};

use crate::settings::CanarySettings;

/// Keys that a canary writes through one endpoint: enough to fall into all partitions of its table, few enough to weigh nothing.
const KEYS: u64 = 32;
/// Bytes of an answer that are looked at.
const ANSWER_MAX: usize = 64 * 1024;

/// What became of a request.
#[derive(Debug)]
pub(crate) struct Probed {
    pub(crate) class: Class,
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
    /// Why it was not good, in words.
    pub(crate) why: String,
    /// The table is not there: nothing is known of availability.
    pub(crate) no_table: bool,
}

/// A customer at one endpoint.
pub(crate) struct Prober {
    client: reqwest::Client,
    signer: Signer,
    url: String,
    host: String,
    table: String,
    /// What the keys begin with.
    name: String,
    round: u64,
}

/// An answer: status, and what it says.
struct Answer {
    status: u16,
    body: Value,
}

enum Trouble {
    Unreachable(String),
    Failed(String),
}

/// `host:port` as it stands in the URL, which is what is signed.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// The short name of an error type, as in `com.amazonaws.dynamodb.v20120810#ThrottlingException`.
fn error_type(body: &Value) -> &str {
    let full = body["__type"].as_str().unwrap_or_default();
    full.rsplit('#').next().unwrap_or(full)
}

fn is_throttling(kind: &str) -> bool {
    matches!(
        kind,
        "ProvisionedThroughputExceededException" | "ThrottlingException" | "RequestLimitExceeded"
    )
}

impl Prober {
    pub(crate) fn new(settings: &CanarySettings, url: &str) -> anyhow::Result<Self> {
        // Another part of the process may have chosen one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_millis(settings.connect_ms_max))
            .timeout(Duration::from_millis(settings.request_ms_max))
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self {
            client,
            signer: Signer::in_region(&settings.access_key, &settings.secret.0, &settings.region),
            url: url.trim_end_matches('/').to_owned(),
            host: host_of(url).to_owned(),
            table: settings.table.clone(),
            name: format!("{}-{}-{url}", settings.zone, settings.instance),
            round: 0,
        })
    }

    async fn call(&mut self, operation: &str, body: &Value) -> Result<Answer, Trouble> {
        let body = body.to_string();
        let Headers {
            date,
            target,
            authorization,
        } = self.signer.headers(&self.host, operation, body.as_bytes());
        let request = self
            .client
            .post(format!("{}/", self.url))
            .header("host", &self.host)
            .header("content-type", CONTENT_TYPE)
            .header("x-amz-date", date)
            .header("x-amz-target", target)
            .header("authorization", authorization)
            .body(body);
        let words = |error: reqwest::Error| {
            let mut words = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                words = format!("{words}: {error}");
                cause = error.source();
            }
            match error.is_connect() {
                true => Trouble::Unreachable(words),
                false => Trouble::Failed(words),
            }
        };
        let response = request.send().await.map_err(words)?;
        let status = response.status().as_u16();
        if response.content_length().unwrap_or(0) > ANSWER_MAX as u64 {
            return Err(Trouble::Failed("the answer is too long".to_owned()));
        }
        let bytes = response.bytes().await.map_err(words)?;
        Ok(Answer {
            status,
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
        })
    }

    /// A write, and the same item read in both ways.
    pub(crate) async fn round(&mut self) -> Vec<Probed> {
        self.round += 1;
        let key = json!({"S": format!("{}-{}", self.name, self.round % KEYS)});
        let value = self.round.to_string();
        let (table, item) = (self.table.clone(), json!({"pk": key, "n": {"N": value}}));
        let put = json!({"TableName": table, "Item": item});
        let mut probed = vec![self.probe(Class::Write, "PutItem", &put, None).await];
        let written = matches!(probed[0].outcome, Outcome::Good);
        for strong in [true, false] {
            let get = json!({"TableName": table, "Key": {"pk": key}, "ConsistentRead": strong});
            let class = match strong {
                true => Class::StrongRead,
                false => Class::EventualRead,
            };
            // Nobody else writes this key: a strong read sees what was just written.
            let expected = (strong && written).then_some(value.as_str());
            probed.push(self.probe(class, "GetItem", &get, expected).await);
        }
        probed
    }

    async fn probe(
        &mut self,
        class: Class,
        operation: &str,
        body: &Value,
        expected: Option<&str>,
    ) -> Probed {
        let began = Instant::now();
        let answer = self.call(operation, body).await;
        let took = began.elapsed();
        let mut no_table = false;
        let (outcome, why) = match answer {
            Err(Trouble::Unreachable(why)) => (Outcome::Unreachable, why),
            Err(Trouble::Failed(why)) => (Outcome::Failed, why),
            Ok(answer) if answer.status == 200 => {
                let found = answer.body["Item"]["n"]["N"].as_str();
                match expected {
                    Some(expected) if found != Some(expected) => {
                        let why =
                            format!("a strong read gave {found:?} after {expected} was written");
                        (Outcome::Failed, why)
                    }
                    _ => (Outcome::Good, String::new()),
                }
            }
            Ok(answer) => {
                let kind = error_type(&answer.body);
                no_table = kind == "ResourceNotFoundException";
                let why = format!("{} {kind}: {}", answer.status, message(&answer.body));
                match is_throttling(kind) {
                    true => (Outcome::Throttled, why),
                    false => (Outcome::Failed, why),
                }
            }
        };
        Probed {
            class,
            outcome,
            took,
            why,
            no_table,
        }
    }

    /// Whether the table can be used; makes it if it is not there.
    ///
    /// # Errors
    /// In words, when neither is so.
    pub(crate) async fn table_is_there(&mut self) -> Result<bool, String> {
        let words = |trouble| match trouble {
            Trouble::Unreachable(why) | Trouble::Failed(why) => why,
        };
        let table = self.table.clone();
        let describe = json!({"TableName": table});
        let answer = self.call("DescribeTable", &describe).await.map_err(words)?;
        if answer.status == 200 {
            let status = &answer.body["Table"]["TableStatus"];
            return Ok(matches!(status.as_str(), Some("ACTIVE" | "UPDATING")));
        }
        if error_type(&answer.body) != "ResourceNotFoundException" {
            return Err(format!("{}: {}", answer.status, message(&answer.body)));
        }
        let create = json!({
            "TableName": table,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
        });
        let answer = self.call("CreateTable", &create).await.map_err(words)?;
        match error_type(&answer.body) {
            // Made by this or another canary; it is looked at again.
            _ if answer.status == 200 => Ok(false),
            "ResourceInUseException" => Ok(false),
            _ => Err(format!("{}: {}", answer.status, message(&answer.body))),
        }
    }
}

fn message(body: &Value) -> &str {
    let message = body["message"].as_str().or(body["Message"].as_str());
    message.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_signed_as_they_are_written() {
        assert_eq!(host_of("http://127.0.0.1:8000/"), "127.0.0.1:8000");
        assert_eq!(host_of("https://db.example"), "db.example");
    }

    #[test]
    fn throttling_is_told_from_faults() {
        let body = json!({"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException"});
        assert!(is_throttling(error_type(&body)));
        assert!(!is_throttling(error_type(&json!({}))));
    }

    #[tokio::test]
    async fn an_endpoint_that_is_not_there_is_unreachable() {
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .unwrap()
            .port();
        let url = format!("http://127.0.0.1:{port}");
        let mut prober = Prober::new(&CanarySettings::default(), &url).unwrap();
        let probed = prober.round().await;
        assert_eq!(probed.len(), 3);
        for probe in probed {
            assert_eq!(probe.outcome, Outcome::Unreachable, "{probe:?}");
        }
        assert!(prober.table_is_there().await.is_err());
    }
}
