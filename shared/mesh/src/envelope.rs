//! Bytes on the bus. Owns the layout of bus messages, heads and envelopes; never looks into bodies, never sends.
//!
//! ```text
//! bus message = u16 length, head, frame, frame, …        lengths are big endian
//! frame       = u16 length of envelope, u32 length of body, envelope, body
//! ```
//!
//! Head and envelope are MessagePack maps: unknown fields are ignored, missing ones defaulted. The head says what is the
//! same for all frames of a message (protocol version, sender, reply subject), so that batching saves bytes too. The
//! layout above, `v`, `r`, `k` and `c` stay as they are in all protocol versions: so even a frame from the future can be
//! refused in a way that its sender understands.

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize};

/// What this build speaks.
pub(crate) const PROTOCOL_VERSION: u16 = 1;
/// Largest frame that is accepted, bytes; above the largest answer (a page of 1 MB, a directory sync).
pub(crate) const FRAME_BYTES_MAX: usize = 16 << 20;

/// What all frames of a bus message share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head<'a> {
    /// Protocol version.
    #[serde(rename = "v")]
    pub version: u16,
    /// Instance of the sender.
    #[serde(rename = "i", default)]
    pub instance: u64,
    /// Incarnation of the sender.
    #[serde(rename = "n", default)]
    pub incarnation: u64,
    /// Subject for answers.
    #[serde(rename = "r", default, borrow)]
    pub reply: Option<&'a str>,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One way.
    Cast,
    /// Wants an answer.
    Call,
    /// An answer.
    Reply,
    /// "Not executed" or "no answer to be had", with a reason.
    Refusal,
    /// A part of a frame that was too large for one message.
    Chunk,
}

impl Kind {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Cast => 0,
            Self::Call => 1,
            Self::Reply => 2,
            Self::Refusal => 3,
            Self::Chunk => 4,
        }
    }
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Cast,
            1 => Self::Call,
            2 => Self::Reply,
            3 => Self::Refusal,
            4 => Self::Chunk,
            _ => return None,
        })
    }
}

/// Why a call is refused without having reached the one it was meant for.
pub(crate) mod refusal {
    /// The protocol version is newer than what the receiver speaks.
    pub const INCOMPATIBLE: u8 = 1;
    /// The answer could not be encoded or is too large.
    pub const NO_ANSWER: u8 = 2;
    /// The subscription ended while the call was on its way.
    pub const NOT_SERVED: u8 = 3;
}

/// One frame's envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Envelope<'a> {
    /// `Kind::code`.
    #[serde(rename = "k")]
    pub kind: u8,
    /// Correlation number of a call and its answer; of a chunk: number of the chunked frame.
    #[serde(rename = "c", default, skip_serializing_if = "is_zero")]
    pub correlation: u64,
    /// Deadline, Unix milliseconds; 0 = none.
    #[serde(rename = "d", default, skip_serializing_if = "is_zero")]
    pub deadline_unix_ms: u64,
    /// W3C traceparent.
    #[serde(rename = "t", default, borrow, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<&'a str>,
    /// Of a refusal: why.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<u8>,
    /// Of a chunk: which part, of how many, of how many bytes in all.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub part: Option<(u32, u32, u64)>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Bytes before a frame's envelope.
const PREFIX_BYTES: usize = 6;

/// The message is not laid out as it has to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Append a frame to `out`. On error `out` is as it was.
pub(crate) fn encode_frame<T: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    envelope: &Envelope<'_>,
    body: &T,
) -> Result<(), String> {
    let start = out.len();
    encode_frame_parts(out, envelope, |out| {
        rmp_serde::encode::write_named(out, body).map_err(|error| error.to_string())
    })
    .inspect_err(|_| out.truncate(start))
}

/// Append a frame whose body is bytes already.
pub(crate) fn encode_raw_frame(
    out: &mut Vec<u8>,
    envelope: &Envelope<'_>,
    body: &[u8],
) -> Result<(), String> {
    let start = out.len();
    encode_frame_parts(out, envelope, |out| {
        out.extend_from_slice(body);
        Ok(())
    })
    .inspect_err(|_| out.truncate(start))
}

fn encode_frame_parts(
    out: &mut Vec<u8>,
    envelope: &Envelope<'_>,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), String>,
) -> Result<(), String> {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    rmp_serde::encode::write_named(out, envelope).map_err(|error| error.to_string())?;
    let envelope_end = out.len();
    body(out)?;
    if out.len() - start > FRAME_BYTES_MAX {
        return Err(format!(
            "{} bytes are more than a frame may have",
            out.len() - start
        ));
    }
    let envelope_bytes = u16::try_from(envelope_end - start - PREFIX_BYTES)
        .map_err(|_| "the envelope is too large".to_owned())?;
    let body_bytes =
        u32::try_from(out.len() - envelope_end).map_err(|_| "the body is too large".to_owned())?;
    out[start..start + 2].copy_from_slice(&envelope_bytes.to_be_bytes());
    out[start + 2..start + PREFIX_BYTES].copy_from_slice(&body_bytes.to_be_bytes());
    Ok(())
}

/// A head, ready to be put before the frames of every message of one sender.
pub(crate) fn encode_head(head: &Head<'_>) -> Result<Bytes, String> {
    let encoded = rmp_serde::to_vec_named(head).map_err(|error| error.to_string())?;
    let length = u16::try_from(encoded.len()).map_err(|_| "the head is too large".to_owned())?;
    let mut out = Vec::with_capacity(encoded.len() + 2);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&encoded);
    Ok(out.into())
}

/// Cut the head off a bus message: encoded head (decode with [`decode_head`]) and frames.
pub(crate) fn split_message(mut message: Bytes) -> Result<(Bytes, Frames), Malformed> {
    if message.len() < 2 {
        return Err(Malformed);
    }
    let length = usize::from(message.get_u16());
    if message.len() < length {
        return Err(Malformed);
    }
    let head = message.split_to(length);
    Ok((head, Frames { rest: message }))
}

/// Decode a head.
pub(crate) fn decode_head(encoded: &[u8]) -> Result<Head<'_>, Malformed> {
    rmp_serde::from_slice(encoded).map_err(|_| Malformed)
}

/// The frames of a bus message; ends at the first malformed one.
pub(crate) struct Frames {
    rest: Bytes,
}

impl Frames {
    /// A single frame's bytes, as they come out of reassembly.
    pub(crate) fn of(frame: Bytes) -> Self {
        Self { rest: frame }
    }

    /// Next frame: encoded envelope (decode with [`decode_envelope`]) and body, both without copying.
    pub(crate) fn next(&mut self) -> Option<Result<(Bytes, Bytes), Malformed>> {
        if self.rest.is_empty() {
            return None;
        }
        if self.rest.len() < PREFIX_BYTES {
            self.rest.clear();
            return Some(Err(Malformed));
        }
        let envelope_bytes = usize::from(self.rest.get_u16());
        let body_bytes = self.rest.get_u32() as usize;
        if self.rest.len() < envelope_bytes.saturating_add(body_bytes) {
            self.rest.clear();
            return Some(Err(Malformed));
        }
        let envelope = self.rest.split_to(envelope_bytes);
        let body = self.rest.split_to(body_bytes);
        Some(Ok((envelope, body)))
    }
}

/// Decode an envelope.
pub(crate) fn decode_envelope(encoded: &[u8]) -> Result<Envelope<'_>, Malformed> {
    rmp_serde::from_slice(encoded).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(version: u16, frames: &[u8]) -> Bytes {
        let head = Head {
            version,
            instance: 7,
            incarnation: 9,
            reply: Some("_mesh.x.r"),
        };
        let mut out = encode_head(&head).expect("a head").to_vec();
        out.extend_from_slice(frames);
        out.into()
    }

    #[test]
    fn frames_come_back_as_they_went() {
        let mut frames = Vec::new();
        let first = Envelope {
            kind: Kind::Call.code(),
            correlation: 77,
            deadline_unix_ms: 123_456,
            traceparent: Some("00-aa-bb-01"),
            ..Envelope::default()
        };
        encode_frame(&mut frames, &first, &("hello", 5_u8)).expect("encodes");
        let second = Envelope {
            kind: Kind::Cast.code(),
            ..Envelope::default()
        };
        encode_raw_frame(&mut frames, &second, b"raw").expect("encodes");

        let (head, mut frames) = split_message(message(1, &frames)).expect("well formed");
        let head = decode_head(&head).expect("a head");
        assert_eq!(
            (head.instance, head.incarnation, head.reply),
            (7, 9, Some("_mesh.x.r"))
        );
        let (envelope, body) = frames.next().expect("one").expect("well formed");
        assert_eq!(decode_envelope(&envelope), Ok(first));
        let decoded: (String, u8) = rmp_serde::from_slice(&body).expect("a body");
        assert_eq!(decoded, ("hello".to_owned(), 5));
        let (envelope, body) = frames.next().expect("two").expect("well formed");
        assert_eq!(decode_envelope(&envelope), Ok(second));
        assert_eq!(&body[..], b"raw");
        assert!(frames.next().is_none());
    }

    #[test]
    fn unknown_fields_are_ignored_and_missing_ones_defaulted() {
        #[derive(Serialize)]
        struct Future {
            k: u8,
            c: u64,
            zz: &'static str,
        }
        let encoded = rmp_serde::to_vec_named(&Future {
            k: 1,
            c: 3,
            zz: "later",
        })
        .expect("ok");
        let envelope = decode_envelope(&encoded).expect("readable");
        assert_eq!(
            (
                envelope.kind,
                envelope.correlation,
                envelope.deadline_unix_ms
            ),
            (1, 3, 0)
        );
    }

    #[test]
    fn every_cut_of_a_message_is_refused_without_panic() {
        let mut frames = Vec::new();
        let envelope = Envelope {
            kind: 1,
            correlation: 1,
            ..Envelope::default()
        };
        encode_frame(&mut frames, &envelope, &"body").expect("encodes");
        let whole = message(1, &frames);
        for length in 0..whole.len() {
            let cut = whole.slice(..length);
            if let Ok((_, mut frames)) = split_message(cut) {
                // either no frame is left, or the cut one is malformed
                assert!(
                    matches!(frames.next(), None | Some(Err(Malformed))),
                    "length {length}"
                );
            }
        }
    }

    #[test]
    fn a_body_beyond_the_limit_leaves_the_buffer_untouched() {
        let mut out = vec![1, 2, 3];
        let envelope = Envelope::default();
        let body = vec![0_u8; FRAME_BYTES_MAX];
        assert!(encode_raw_frame(&mut out, &envelope, &body).is_err());
        assert_eq!(out, [1, 2, 3]);
    }
}
