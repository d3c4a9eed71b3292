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
    /// CRC32C of the encoded head before the four bytes of this number, with which it ends. Only written: it is read by its place.
    #[serde(
        rename = "x",
        skip_deserializing,
        skip_serializing_if = "Option::is_none"
    )]
    pub checksum: Option<u32>,
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
    /// CRC32C of the encoded envelope before the four bytes of this number, with which it ends, and of the body. Only written: it is read by its
    /// place.
    #[serde(
        rename = "x",
        skip_deserializing,
        skip_serializing_if = "Option::is_none"
    )]
    pub checksum: Option<u32>,
}

/// Keeps the place of a checksum: the largest number, which takes all five bytes of the encoding.
const PLACE: Option<u32> = Some(u32::MAX);
/// What precedes a checksum: its name, and that it is a number of four bytes.
const CHECKSUM_NAME: [u8; 3] = [0xa1, b'x', 0xce];
/// Bytes of a checksum.
const CHECKSUM_BYTES: usize = 4;

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
    let envelope = Envelope {
        checksum: PLACE,
        ..*envelope
    };
    rmp_serde::encode::write_named(out, &envelope).map_err(|error| error.to_string())?;
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
    let place = envelope_end - CHECKSUM_BYTES;
    let checksum = checksum(&out[start + PREFIX_BYTES..place], &out[envelope_end..]);
    out[place..envelope_end].copy_from_slice(&checksum.to_be_bytes());
    Ok(())
}

fn checksum(before: &[u8], behind: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(before), behind)
}

/// Whether what was encoded, and the body behind it, is what its sender encoded, as far as that can be told. The checksum is found by its place, without
/// going by anything that it covers.
fn is_intact(encoded: &[u8], body: &[u8]) -> bool {
    let Some((before, wanted)) = encoded.split_last_chunk::<CHECKSUM_BYTES>() else {
        return true;
    };
    !before.ends_with(&CHECKSUM_NAME) || checksum(before, body) == u32::from_be_bytes(*wanted)
}

/// A head, ready to be put before the frames of every message of one sender.
pub(crate) fn encode_head(head: &Head<'_>) -> Result<Bytes, String> {
    let head = Head {
        checksum: PLACE,
        ..*head
    };
    let mut encoded = rmp_serde::to_vec_named(&head).map_err(|error| error.to_string())?;
    let place = encoded.len() - CHECKSUM_BYTES;
    let sum = checksum(&encoded[..place], &[]);
    encoded[place..].copy_from_slice(&sum.to_be_bytes());
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

/// Why a head or a frame is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is not laid out as it has to be.
    Malformed,
    /// It was changed on its way.
    Corrupt,
}

/// Decode a head.
pub(crate) fn decode_head(encoded: &[u8]) -> Result<Head<'_>, Unreadable> {
    read(encoded, &[])
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

/// Decode the envelope of a body.
pub(crate) fn decode_envelope<'a>(
    encoded: &'a [u8],
    body: &[u8],
) -> Result<Envelope<'a>, Unreadable> {
    read(encoded, body)
}

fn read<'a, T: Deserialize<'a>>(encoded: &'a [u8], body: &[u8]) -> Result<T, Unreadable> {
    match is_intact(encoded, body) {
        true => rmp_serde::from_slice(encoded).map_err(|_| Unreadable::Malformed),
        false => Err(Unreadable::Corrupt),
    }
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
            ..Head::default()
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
        let sealed = |encoded: &Bytes, body: &Bytes| {
            let envelope = decode_envelope(encoded, body).expect("intact");
            assert!(encoded[..encoded.len() - CHECKSUM_BYTES].ends_with(&CHECKSUM_NAME));
            (
                envelope.kind,
                envelope.correlation,
                envelope.deadline_unix_ms,
            )
        };
        assert_eq!(sealed(&envelope, &body), (first.kind, 77, 123_456));
        let decoded: (String, u8) = rmp_serde::from_slice(&body).expect("a body");
        assert_eq!(decoded, ("hello".to_owned(), 5));
        let (envelope, body) = frames.next().expect("two").expect("well formed");
        assert_eq!(sealed(&envelope, &body), (second.kind, 0, 0));
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
        // Nor has it a checksum: it is of an older version.
        let envelope = decode_envelope(&encoded, b"body").expect("readable");
        assert_eq!(
            (
                envelope.kind,
                envelope.correlation,
                envelope.deadline_unix_ms
            ),
            (1, 3, 0)
        );
    }

    /// Version, sender, reply subject, and of each frame kind, correlation and body: what a receiver goes by.
    type Read = (u16, u64, u64, Option<String>, Vec<(u8, u64, Vec<u8>)>);

    /// What is made of a message; none: some of it is refused.
    fn understand(message: Bytes) -> Option<Read> {
        let (head, mut frames) = split_message(message).ok()?;
        let head = decode_head(&head).ok()?;
        let mut all = Vec::new();
        while let Some(frame) = frames.next() {
            let (envelope, body) = frame.ok()?;
            let envelope = decode_envelope(&envelope, &body).ok()?;
            all.push((envelope.kind, envelope.correlation, body.to_vec()));
        }
        let reply = head.reply.map(str::to_owned);
        Some((head.version, head.instance, head.incarnation, reply, all))
    }

    #[test]
    fn no_flipped_bit_changes_what_is_read() {
        let mut frames = Vec::new();
        let envelope = Envelope {
            kind: Kind::Call.code(),
            correlation: 77,
            deadline_unix_ms: 123_456,
            ..Envelope::default()
        };
        encode_frame(&mut frames, &envelope, &("an item", 5_u8)).expect("encodes");
        encode_frame(&mut frames, &Envelope::default(), &"another").expect("encodes");
        let whole = message(1, &frames);
        let sent = understand(whole.clone()).expect("intact");
        let mut refused = 0;
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match understand(flipped.into()) {
                None => refused += 1,
                // The name of a checksum: it takes that for none, and nothing else is changed.
                Some(read) => assert_eq!(read, sent, "bit {bit}"),
            }
        }
        // The names of three checksums.
        let named = 3 * CHECKSUM_NAME.len() * 8;
        assert!(refused >= whole.len() * 8 - named, "{refused}");
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
