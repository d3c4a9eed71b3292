//! AWS Signature Version 4 for DynamoDB requests (AWS documentation, "Create a signed AWS API request"): the client's side, for the canary and the
//! load driver. Owns no connection; the router checks signatures on its own.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// The headers that are signed, in the order of the canonical request.
const SIGNED: &str = "content-type;host;x-amz-date;x-amz-target";
/// The content type of all requests.
pub const CONTENT_TYPE: &str = "application/x-amz-json-1.0";

/// Signs requests with one access key.
#[derive(Clone)]
pub struct Signer {
    key: String,
    secret: String,
    region: String,
    day: String,
    signing_key: [u8; 32],
}

fn mac(key: &[u8], data: &[u8]) -> [u8; 32] {
    // An HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return [0; 32];
    };
    mac.update(data);
    mac.finalize().into_bytes().into()
}

/// The headers that a signature consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// `X-Amz-Date`.
    pub date: String,
    /// `X-Amz-Target`.
    pub target: String,
    /// `Authorization`.
    pub authorization: String,
}

impl Signer {
    /// A signer for this access key, in `us-east-1`.
    pub fn new(key: &str, secret: &str) -> Self {
        Self::in_region(key, secret, "us-east-1")
    }

    /// A signer for this access key.
    pub fn in_region(key: &str, secret: &str, region: &str) -> Self {
        Self {
            key: key.to_owned(),
            secret: secret.to_owned(),
            region: region.to_owned(),
            day: String::new(),
            signing_key: [0; 32],
        }
    }

    /// The headers for a POST of `body` to `/` at `host`, as of now.
    pub fn headers(&mut self, host: &str, operation: &str, body: &[u8]) -> Headers {
        let (day, date) = now();
        let region = &self.region;
        if day != self.day {
            let by_date = mac(format!("AWS4{}", self.secret).as_bytes(), day.as_bytes());
            let service = mac(&mac(&by_date, region.as_bytes()), b"dynamodb");
            self.signing_key = mac(&service, b"aws4_request");
            self.day = day;
        }
        let payload = hex::encode(Sha256::digest(body));
        let target = format!("DynamoDB_20120810.{operation}");
        let canonical = format!(
            "POST\n/\n\ncontent-type:{CONTENT_TYPE}\nhost:{host}\nx-amz-date:{date}\n\
             x-amz-target:{target}\n\n{SIGNED}\n{payload}"
        );
        let scope = format!("{}/{region}/dynamodb/aws4_request", self.day);
        let to_sign = format!(
            "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
            hex::encode(Sha256::digest(canonical.as_bytes()))
        );
        let signature = hex::encode(mac(&self.signing_key, to_sign.as_bytes()));
        Headers {
            authorization: format!(
                "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={SIGNED}, Signature={signature}",
                self.key
            ),
            date,
            target,
        }
    }

    /// Appends the whole HTTP request.
    pub fn write_request(&mut self, out: &mut Vec<u8>, host: &str, operation: &str, body: &[u8]) {
        let Headers {
            date,
            target,
            authorization,
        } = self.headers(host, operation, body);
        // Writing into a Vec can't fail.
        let _ = write!(
            out,
            "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Type: {CONTENT_TYPE}\r\n\
             X-Amz-Date: {date}\r\nX-Amz-Target: {target}\r\n\
             Authorization: {authorization}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        out.extend_from_slice(body);
    }
}

/// `20260101`, `20260101T000000Z`.
fn now() -> (String, String) {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    stamp(seconds)
}

/// `20260101`, `20260101T000000Z` of a time in seconds since 1970: civil date from days since the epoch (proleptic Gregorian calendar).
pub fn stamp(seconds: u64) -> (String, String) {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let date = format!("{year:04}{month:02}{day:02}");
    let time = format!(
        "{date}T{:02}{:02}{:02}Z",
        rest / 3_600,
        rest / 60 % 60,
        rest % 60
    );
    (date, time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(stamp(0).1, "19700101T000000Z");
        assert_eq!(stamp(951_782_400).1, "20000229T000000Z");
        assert_eq!(stamp(1_794_009_599).1, "20261106T235959Z");
    }

    #[test]
    fn the_documented_signing_key() {
        // AWS documentation, "Derive a signing key": example of the HMAC chain.
        let date = mac(b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", b"20120215");
        let key = mac(&mac(&mac(&date, b"us-east-1"), b"iam"), b"aws4_request");
        assert_eq!(
            hex::encode(key),
            "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d"
        );
    }
}
