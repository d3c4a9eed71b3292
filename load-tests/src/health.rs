//! The health endpoints of services: GET over plain HTTP, and numbers out of Prometheus text. Owns no judgement.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Answers are read up to this size.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

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

/// Sum of a metric's samples whose labels contain `labels`; none if there is no such sample.
pub fn metric(text: &str, name: &str, labels: &str) -> Option<f64> {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let wanted = rest.starts_with([' ', '{']) && rest.contains(labels);
        wanted.then_some(())?;
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    });
    samples.reduce(|a, b| a + b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_their_labels() {
        let text = "# HELP a b\na{node=\"1\"} 3\na{node=\"2\"} 4\na_total 9\nb 1\n";
        assert_eq!(metric(text, "a", ""), Some(7.0));
        assert_eq!(metric(text, "a", "node=\"2\""), Some(4.0));
        assert_eq!(metric(text, "a_total", ""), Some(9.0));
        assert_eq!(metric(text, "c", ""), None);
    }
}
