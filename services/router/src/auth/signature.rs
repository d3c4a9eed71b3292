//! The arithmetic of Signature Version 4: what is signed, with which key.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::{Signed, canonical};

/// The only algorithm.
pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What a request claims about its signature.
pub(super) struct Claim {
    pub(super) algorithm: String,
    pub(super) credential: String,
    pub(super) signed_headers: String,
    /// Hexadecimal.
    pub(super) signature: String,
    /// ISO 8601 basic format …
    pub(super) date: String,
    /// … and the same in seconds since the epoch.
    pub(super) unix_s: i64,
    /// Presigned requests: how long they are valid, seconds.
    pub(super) expires_s: Option<i64>,
    /// Whether a session token came with it.
    pub(super) token: bool,
}

/// A credential: an access key and what the signature is valid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scope<'a> {
    pub(super) key_id: &'a str,
    pub(super) day: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    pub(super) terminator: &'a str,
}

impl<'a> Scope<'a> {
    /// `keyid/date/region/service/term`.
    pub(super) fn parse(credential: &'a str) -> Option<Self> {
        let mut parts = credential.trim_end_matches('/').split('/');
        let scope = Self {
            key_id: parts.next()?,
            day: parts.next()?,
            region: parts.next()?,
            service: parts.next()?,
            terminator: parts.next()?,
        };
        parts.next().is_none().then_some(scope)
    }
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    // HMAC takes keys of any length
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return [0; 32];
    };
    mac.update(text);
    mac.finalize().into_bytes().into()
}

/// The key that signs requests of this scope.
pub(super) fn signing_key(secret: &str, scope: &Scope<'_>) -> [u8; 32] {
    let day = hmac(format!("AWS4{secret}").as_bytes(), scope.day.as_bytes());
    let region = hmac(&day, scope.region.as_bytes());
    let service = hmac(&region, scope.service.as_bytes());
    hmac(&service, scope.terminator.as_bytes())
}

fn write_hex(hash: &[u8], out: &mut String) {
    let mut text = [0_u8; 64];
    // a SHA-256 has 32 bytes; hexadecimal digits are UTF-8
    if hex::encode_to_slice(hash, &mut text).is_ok()
        && let Ok(text) = std::str::from_utf8(&text)
    {
        out.push_str(text);
    }
}

/// What is signed.
pub(super) fn string_to_sign(claim: &Claim, scope: &Scope<'_>, request: &Signed<'_>) -> String {
    let mut canonical = String::with_capacity(512);
    canonical::write(
        request.method,
        request.path,
        request.query,
        request.headers,
        &claim.signed_headers,
        &mut canonical,
    );
    write_hex(&Sha256::digest(request.body), &mut canonical);
    let mut string = String::with_capacity(192);
    let Scope {
        day,
        region,
        service,
        terminator,
        ..
    } = scope;
    let _ = write!(
        string,
        "{ALGORITHM}\n{}\n{day}/{region}/{service}/{terminator}\n",
        claim.date
    );
    write_hex(&Sha256::digest(canonical.as_bytes()), &mut string);
    string
}

/// Whether the signature is right; takes the same time whatever is wrong with it.
pub(super) fn matches(signing_key: &[u8; 32], string: &str, signature: &str) -> bool {
    let mut given = [0_u8; 32];
    if hex::decode_to_slice(signature, &mut given).is_err() {
        return false;
    }
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(signing_key) else {
        return false;
    };
    mac.update(string.as_bytes());
    mac.verify_slice(&given).is_ok()
}
