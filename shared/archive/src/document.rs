//! JSON documents that protect themselves. Owns their form: a first line with kind, format version and the SHA-256 of the rest, then the
//! body as one line of JSON. So a flipped bit anywhere is noticed, also where JSON would not care, and an SRE reads them as they are.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Digest, Fault};

/// Longest first line.
const HEAD_BYTES_MAX: usize = 256;

#[derive(serde::Deserialize)]
struct Head {
    kind: String,
    format: u32,
}

fn head_of(kind: &str, format: u32, body: &[u8]) -> String {
    let digest = Digest::of(body);
    format!("{{\"kind\":\"{kind}\",\"format\":{format},\"sha256\":\"{digest}\"}}\n")
}

/// Writes a document. The same content gives the same bytes.
pub(crate) fn seal(kind: &str, format: u32, content: &impl Serialize) -> Result<Bytes, Fault> {
    let body = serde_json::to_vec(content);
    let mut body = body.map_err(|error| Fault::contradicts(format!("no JSON: {error}")))?;
    body.push(b'\n');
    let mut document = head_of(kind, format, &body).into_bytes();
    document.append(&mut body);
    Ok(document.into())
}

/// Reads a document of this kind and version.
///
/// # Errors
/// `UnknownFormat` for other kinds and versions, `Damaged` when any byte is not what was written.
pub(crate) fn open<T: DeserializeOwned>(
    kind: &str,
    format: u32,
    document: &[u8],
) -> Result<T, Fault> {
    let end = document
        .iter()
        .take(HEAD_BYTES_MAX)
        .position(|b| *b == b'\n');
    let end = end.ok_or_else(|| Fault::damaged("it has no first line"))?;
    let (head, body) = document.split_at(end + 1);
    if head != head_of(kind, format, body).as_bytes() {
        // Whether it is another version, or damage, its own digest tells.
        let said: Option<Head> = serde_json::from_slice(head).ok();
        return Err(match said {
            Some(said) if head == head_of(&said.kind, said.format, body).as_bytes() => {
                Fault::UnknownFormat(format!("{} version {}", said.kind, said.format))
            }
            _ => Fault::damaged("its SHA-256 is not the one in its first line"),
        });
    }
    serde_json::from_slice(body).map_err(|error| Fault::contradicts(error.to_string()))
}
