//! Receiving request bodies: bounded in size, time and in what all of them hold together, also after inflation.

use std::io::Read;
use std::time::Duration;

use actix_web::web::{self, Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use futures::StreamExt;

use crate::admission::Admitted;

/// Bounds of one body.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimits {
    /// Bytes, as sent and inflated.
    pub(super) bytes_max: usize,
    /// Time to send it.
    pub(super) time_max: Duration,
}

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// More than the bound.
    TooLarge,
    /// The client is too slow.
    TooSlow,
    /// The connection broke, or the framing is wrong.
    Broken,
    /// No room for it at the moment.
    NoRoom,
    /// Not gzip, though it says so.
    NotGzip,
}

/// First allocation for a body that comes in pieces; it grows with what really arrives, not with what was announced.
const FIRST_BYTES: usize = 64 * 1024;
/// Piece in which bodies are inflated.
const INFLATE_BYTES: usize = 64 * 1024;

/// Receives a body.
pub(super) async fn receive(
    payload: web::Payload,
    admitted: &mut Admitted,
    limits: BodyLimits,
) -> Result<Bytes, BodyError> {
    // a timer is only set up when the body is not there yet
    tokio::time::timeout(
        limits.time_max,
        receive_all(payload, admitted, limits.bytes_max),
    )
    .await
    .unwrap_or(Err(BodyError::TooSlow))
}

async fn receive_all(
    mut payload: web::Payload,
    admitted: &mut Admitted,
    bytes_max: usize,
) -> Result<Bytes, BodyError> {
    let mut next = async |held: usize| -> Result<Option<Bytes>, BodyError> {
        let Some(chunk) = payload.next().await else {
            return Ok(None);
        };
        let chunk = chunk.map_err(|_| BodyError::Broken)?;
        if held + chunk.len() > bytes_max {
            return Err(BodyError::TooLarge);
        }
        if !admitted.hold(chunk.len()) {
            return Err(BodyError::NoRoom);
        }
        Ok(Some(chunk))
    };
    // most bodies come in one piece, which is not copied
    let Some(first) = next(0).await? else {
        return Ok(Bytes::new());
    };
    let Some(second) = next(first.len()).await? else {
        return Ok(first);
    };
    let mut body = BytesMut::with_capacity(FIRST_BYTES.max(first.len() + second.len()));
    body.extend_from_slice(&first);
    body.extend_from_slice(&second);
    while let Some(chunk) = next(body.len()).await? {
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Inflates a gzip body, never beyond the bound.
pub(super) fn inflate(
    body: &[u8],
    admitted: &mut Admitted,
    bytes_max: usize,
) -> Result<Bytes, BodyError> {
    let mut decoder = MultiGzDecoder::new(body);
    let mut inflated = Vec::new();
    let mut piece = vec![0; INFLATE_BYTES];
    loop {
        let read = decoder.read(&mut piece).map_err(|_| BodyError::NotGzip)?;
        if read == 0 {
            return Ok(Bytes::from(inflated));
        }
        if inflated.len() + read > bytes_max {
            return Err(BodyError::TooLarge);
        }
        if !admitted.hold(read) {
            return Err(BodyError::NoRoom);
        }
        inflated.extend_from_slice(&piece[..read]);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;
    use crate::admission::Admission;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_small_bomb_is_stopped_at_the_bound() {
        let bomb = gzip(&vec![b' '; 4 << 20]);
        assert!(bomb.len() < 8192);
        let mut admitted = Admission::new(1, usize::MAX).enter().unwrap();
        assert_eq!(
            inflate(&bomb, &mut admitted, 1 << 20),
            Err(BodyError::TooLarge)
        );
        assert_eq!(
            inflate(&bomb, &mut admitted, 4 << 20).map(|body| body.len()),
            Ok(4 << 20)
        );
    }

    #[test]
    fn inflated_bytes_count_against_what_all_bodies_may_hold() {
        let mut admitted = Admission::new(1, 1 << 20).enter().unwrap();
        let body = gzip(&vec![b' '; 2 << 20]);
        assert_eq!(
            inflate(&body, &mut admitted, 16 << 20),
            Err(BodyError::NoRoom)
        );
    }

    #[test]
    fn what_is_no_gzip_is_refused() {
        let mut admitted = Admission::new(1, usize::MAX).enter().unwrap();
        assert_eq!(inflate(b"{}", &mut admitted, 100), Err(BodyError::NotGzip));
        let mut cut = gzip(b"hello");
        cut.truncate(cut.len() - 4);
        assert_eq!(inflate(&cut, &mut admitted, 100), Err(BodyError::NotGzip));
    }
}
