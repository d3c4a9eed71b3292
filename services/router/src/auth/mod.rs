//! Who calls: AWS Signature Version 4, in the header or in the query string. Owns the access keys; never logs a secret.

mod canonical;
mod keys;
mod signature;
mod time;

use actix_web::http::header::HeaderMap;
use model::ApiError;

pub(crate) use keys::Keys;

use crate::texts;
use canonical::{header_text, query_pairs};
use signature::{Claim, Scope};

/// The parts of a request that a signature covers.
#[derive(Clone, Copy)]
pub(crate) struct Signed<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    /// As sent, without the question mark.
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
    /// As sent.
    pub(crate) body: &'a [u8],
}

/// How far the client's clock may be off, seconds.
const SKEW_S: i64 = 15 * 60;

/// Finds out who signed the request; the result is the access key's id.
pub(crate) fn authenticate(
    keys: &Keys,
    request: Signed<'_>,
    now_unix_s: i64,
) -> Result<String, ApiError> {
    let authorization = request.headers.get("authorization");
    let in_query = request.query.contains("X-Amz-Algorithm=");
    match (authorization, in_query) {
        (Some(_), true) => Err(texts::two_authentications()),
        (None, false) => Err(texts::missing_token()),
        (Some(value), false) => {
            let header = header_text(value);
            let header = header.trim();
            if !header.starts_with("AWS4-") {
                return Err(texts::missing_token());
            }
            if keys.accept_any {
                return Ok(claimed_id(header));
            }
            let claim = header_claim(header, &request)?;
            verify(keys, &claim, &request, now_unix_s)
        }
        (None, true) => {
            let pairs = query_pairs(request.query);
            let value = |name: &str| {
                pairs
                    .iter()
                    .find(|(key, _)| key == name)
                    .map(|(_, value)| value.as_str())
            };
            if keys.accept_any {
                let id =
                    value("X-Amz-Credential").and_then(|credential| credential.split('/').next());
                return Ok(id.unwrap_or_default().to_owned());
            }
            let mut missing = String::new();
            for name in [
                "X-Amz-Algorithm",
                "X-Amz-Credential",
                "X-Amz-Signature",
                "X-Amz-SignedHeaders",
                "X-Amz-Date",
            ] {
                if value(name).is_none_or(str::is_empty) {
                    missing.push_str(&texts::query_requires(name));
                }
            }
            if !missing.is_empty() {
                return Err(texts::incomplete(missing + texts::QUERY_ADVICE));
            }
            let text = |name| value(name).unwrap_or_default().to_owned();
            let date = text("X-Amz-Date");
            let claim = Claim {
                algorithm: text("X-Amz-Algorithm"),
                credential: text("X-Amz-Credential"),
                signed_headers: text("X-Amz-SignedHeaders"),
                signature: text("X-Amz-Signature"),
                unix_s: time::parse_basic(&date).ok_or_else(|| texts::bad_date(&date))?,
                date,
                expires_s: value("X-Amz-Expires").and_then(|expires| expires.parse().ok()),
                token: value("X-Amz-Security-Token").is_some(),
            };
            verify(keys, &claim, &request, now_unix_s)
        }
    }
}

/// The access key id that an Authorization header claims, unchecked.
fn claimed_id(header: &str) -> String {
    let credential = header
        .split_once("Credential=")
        .map_or("", |(_, rest)| rest);
    credential
        .split(['/', ',', ' '])
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// What an Authorization header claims.
fn header_claim(header: &str, request: &Signed<'_>) -> Result<Claim, ApiError> {
    let (algorithm, rest) = header.split_once(' ').unwrap_or((header, ""));
    let (mut credential, mut signature, mut signed_headers) = (None, None, None);
    for part in rest
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let Some((name, value)) = part.split_once('=') else {
            return Err(texts::not_key_value(part, header));
        };
        match name {
            "Credential" => credential = Some(value),
            "Signature" => signature = Some(value),
            "SignedHeaders" => signed_headers = Some(value),
            _ => {}
        }
    }
    let date = match request.headers.get("x-amz-date") {
        Some(date) => {
            let date = header_text(date);
            let unix_s = time::parse_basic(&date).ok_or_else(|| texts::bad_date(&date))?;
            Some((date, unix_s))
        }
        None => match request.headers.get("date") {
            Some(date) => {
                let date = header_text(date);
                let unix_s = time::parse_any(&date).ok_or_else(|| texts::bad_date(&date))?;
                Some((time::format_basic(unix_s), unix_s))
            }
            None => None,
        },
    };
    let given = |value: Option<&str>| value.is_some_and(|value| !value.is_empty());
    let mut missing = String::new();
    for (name, value) in [
        ("Credential", credential),
        ("Signature", signature),
        ("SignedHeaders", signed_headers),
    ] {
        if !given(value) {
            missing.push_str(&texts::header_requires(name));
        }
    }
    if date.is_none() {
        missing.push_str(texts::HEADER_REQUIRES_DATE);
    }
    let (Some(credential), Some(signature), Some(signed_headers), Some((date, unix_s)), true) = (
        credential,
        signature,
        signed_headers,
        date,
        missing.is_empty(),
    ) else {
        return Err(texts::incomplete(format!(
            "{missing}Authorization={header}"
        )));
    };
    Ok(Claim {
        algorithm: algorithm.to_owned(),
        credential: credential.to_owned(),
        signed_headers: signed_headers.to_owned(),
        signature: signature.to_owned(),
        unix_s,
        date,
        expires_s: None,
        token: request.headers.contains_key("x-amz-security-token"),
    })
}

/// Checks a claim, in the order in which AWS does.
fn verify(
    keys: &Keys,
    claim: &Claim,
    request: &Signed<'_>,
    now_unix_s: i64,
) -> Result<String, ApiError> {
    check_time(claim, now_unix_s)?;
    check_signed_headers(claim, request)?;
    if claim.algorithm != signature::ALGORITHM {
        return Err(texts::unsupported_algorithm(&claim.algorithm));
    }
    let scope =
        Scope::parse(&claim.credential).ok_or_else(|| texts::bad_credential(&claim.credential))?;
    check_scope(&scope, claim, keys)?;
    let secret = keys
        .secret(scope.key_id)
        .ok_or_else(texts::unknown_client)?;
    let string = signature::string_to_sign(claim, &scope, request);
    let signing_key = keys.signing_key(secret, &scope);
    if !signature::matches(&signing_key, &string, &claim.signature) {
        return Err(texts::wrong_signature());
    }
    // these keys are permanent ones: they come without a session token
    if claim.token {
        return Err(texts::unknown_client());
    }
    keys.remember(&scope, signing_key);
    Ok(scope.key_id.to_owned())
}

fn check_time(claim: &Claim, now_unix_s: i64) -> Result<(), ApiError> {
    let (valid_s, window) = match claim.expires_s {
        Some(expires_s) => (
            expires_s.clamp(1, 7 * 24 * 3600),
            format!("{expires_s} sec"),
        ),
        None => (SKEW_S, "15 min".to_owned()),
    };
    let now = time::format_basic(now_unix_s);
    if claim.unix_s.saturating_add(valid_s) < now_unix_s {
        let limit = time::format_basic(now_unix_s - valid_s);
        return Err(texts::signature_expired(&claim.date, &limit, &now, &window));
    }
    if claim.unix_s > now_unix_s + SKEW_S {
        let limit = time::format_basic(now_unix_s + SKEW_S);
        return Err(texts::signature_not_current(
            &claim.date,
            &limit,
            &now,
            "15 min",
        ));
    }
    Ok(())
}

/// `Host` and all `X-Amz-…` headers must be signed, or they could be changed on the way.
fn check_signed_headers(claim: &Claim, request: &Signed<'_>) -> Result<(), ApiError> {
    let signed = |name: &str| {
        claim
            .signed_headers
            .split(';')
            .any(|signed| signed.eq_ignore_ascii_case(name))
    };
    if !signed("host") {
        return Err(texts::must_be_signed("Host"));
    }
    for name in request.headers.keys() {
        let name = name.as_str();
        if name.starts_with("x-amz-") && !signed(name) {
            return Err(texts::must_be_signed(name));
        }
    }
    Ok(())
}

fn check_scope(scope: &Scope<'_>, claim: &Claim, keys: &Keys) -> Result<(), ApiError> {
    let mut wrong = String::new();
    if scope.region.is_empty()
        || keys
            .region
            .as_deref()
            .is_some_and(|region| region != scope.region)
    {
        wrong.push_str(&texts::scope_region(scope.region));
    }
    if scope.service != "dynamodb" {
        wrong.push_str(texts::SCOPE_SERVICE);
    }
    if scope.terminator != "aws4_request" {
        wrong.push_str(&texts::scope_terminator(scope.terminator));
    }
    let day = claim.date.get(..8).unwrap_or_default();
    if scope.day != day {
        wrong.push_str(&texts::scope_date(scope.day, day, &claim.date));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(texts::bad_scope(&wrong))
    }
}

#[cfg(test)]
mod tests;
