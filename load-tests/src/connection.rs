//! One keep-alive HTTP/1.1 connection that sends signed DynamoDB requests, one at a time. As thin as can be: the driver shares the
//! machine with what it measures.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use signature::Signer;

/// An answer is awaited for so long.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// An open connection.
pub struct Connection {
    stream: TcpStream,
    host: String,
    signer: Signer,
    buffer: Vec<u8>,
    request: Vec<u8>,
}

impl Connection {
    /// Connects to `host` (`127.0.0.1:8000`).
    pub async fn open(host: &str, signer: Signer) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(host)
            .await
            .with_context(|| format!("no connection to {host}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            host: host.to_owned(),
            signer,
            buffer: Vec::with_capacity(8 * 1024),
            request: Vec::with_capacity(4 * 1024),
        })
    }

    /// Sends one operation and reads its answer: status and body.
    pub async fn call(&mut self, operation: &str, body: &[u8]) -> anyhow::Result<(u16, &[u8])> {
        self.request.clear();
        self.signer
            .write_request(&mut self.request, &self.host, operation, body);
        match tokio::time::timeout(ANSWER_MAX, self.exchange()).await {
            Ok(Ok((status, start))) => Ok((status, &self.buffer[start..])),
            Ok(Err(error)) => Err(error),
            Err(_) => bail!("no answer within {} s", ANSWER_MAX.as_secs()),
        }
    }

    async fn exchange(&mut self) -> anyhow::Result<(u16, usize)> {
        self.stream.write_all(&self.request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the connection was closed");
            }
            if let Some((status, start, length)) = head(&self.buffer)? {
                while self.buffer.len() < start + length {
                    if self.stream.read_buf(&mut self.buffer).await? == 0 {
                        bail!("the connection was closed within an answer");
                    }
                }
                return Ok((status, start));
            }
        }
    }
}

/// Status, start of the body, length of the body; none while the head is not complete.
fn head(bytes: &[u8]) -> anyhow::Result<Option<(u16, usize, usize)>> {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..end])?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|status| status.parse().ok())
        .context("not an HTTP answer")?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .context("an answer without a content length")?;
    Ok(Some((status, end + 4, length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_heads() {
        assert_eq!(head(b"HTTP/1.1 200 OK\r\nConte").unwrap(), None);
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(head(whole).unwrap(), Some((200, 38, 2)));
        assert!(head(b"nonsense\r\n\r\n").is_err());
    }
}
