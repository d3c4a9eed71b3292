//! What the mesh says of itself, once a second: leaders on each storage node. Owns no judgement.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::topology::{Kind, Topology};

/// An answer must be here within this time: the next second waits.
const ANSWER_MAX: Duration = Duration::from_millis(700);
/// Answers are read up to this size.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// One second's sample.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sample {
    /// Since the start, milliseconds.
    pub at_ms: u64,
    /// Groups led and served, a zone; a zone none of whose nodes answers is absent.
    pub leading: BTreeMap<String, u64>,
    /// Groups led and served, a node; silent nodes are absent.
    pub nodes: BTreeMap<String, u64>,
    /// Pages read since the start of the process, a node.
    #[serde(skip)]
    pub pages: BTreeMap<String, u64>,
}

/// GET over a connection of its own: status and body; none when there is no answer in time.
pub async fn get(address: &str, path: &str, patience: Duration) -> Option<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream
            .take(ANSWER_BYTES_MAX)
            .read_to_end(&mut answer)
            .await
            .ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    };
    tokio::time::timeout(patience, exchange).await.ok()?
}

/// Sum of a metric's samples; none if it is not there.
pub fn metric(text: &str, name: &str) -> Option<u64> {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with([' ', '{']).then_some(())?;
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    });
    samples.reduce(|a, b| a + b).map(|sum| sum as u64)
}

/// Asks all storage nodes.
pub async fn take(topology: &Topology, at_ms: u64) -> Sample {
    let nodes = topology
        .processes
        .iter()
        .filter(|process| process.kind == Kind::Storage);
    let answers = join_all(nodes.map(async |node| {
        let answer = get(&node.health, "/metrics", ANSWER_MAX).await;
        (node, answer.map(|(_, text)| text))
    }));
    let mut sample = Sample {
        at_ms,
        ..Sample::default()
    };
    for (node, text) in answers.await {
        let Some(text) = text else { continue };
        if let Some(leading) = metric(&text, "evenkeel_storage_leading") {
            *sample.leading.entry(node.zone.clone()).or_default() += leading;
            sample.nodes.insert(node.name.clone(), leading);
        }
        if let Some(pages) = metric(&text, "evenkeel_storage_pages_total") {
            sample.pages.insert(node.name.clone(), pages);
        }
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_their_labels() {
        let text = "# HELP a b\na{node=\"1\"} 3\na{node=\"2\"} 4\na_total 9\nb 1\n";
        assert_eq!(metric(text, "a"), Some(7));
        assert_eq!(metric(text, "a_total"), Some(9));
        assert_eq!(metric(text, "c"), None);
    }
}
