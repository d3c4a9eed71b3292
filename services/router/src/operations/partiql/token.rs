//! NextToken of ExecuteStatement: where reading goes on. It is good for the same statement with the same parameters only.

use model::{ApiError, AttributeValue, EncodedKey, json};
use sha2::{Digest, Sha256};

use crate::texts;

/// First byte of a token.
const VERSION: u8 = 1;
/// Bytes of a fingerprint.
const FINGERPRINT_BYTES: usize = 16;

/// Tells statements apart.
pub(super) type Fingerprint = [u8; FINGERPRINT_BYTES];

/// Of a statement with its parameters.
pub(super) fn fingerprint(statement: &str, parameters: &[AttributeValue]) -> Fingerprint {
    let mut hash = Sha256::new();
    hash.update((statement.len() as u64).to_be_bytes());
    hash.update(statement);
    for parameter in parameters {
        let mut text = Vec::new();
        json::write_value(parameter, &mut text);
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(&text);
    }
    let hash = hash.finalize();
    let mut fingerprint = Fingerprint::default();
    for (byte, hashed) in fingerprint.iter_mut().zip(hash) {
        *byte = hashed;
    }
    fingerprint
}

/// Where reading goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Number of the item collection; 0 for a scan.
    pub(super) collection: u32,
    /// The key that was read last; none: at the collection's start.
    pub(super) after: Option<EncodedKey>,
}

impl Position {
    pub(super) fn to_token(&self, fingerprint: &Fingerprint) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(fingerprint);
        bytes.extend_from_slice(&self.collection.to_be_bytes());
        if let Some(after) = &self.after {
            bytes.extend_from_slice(after);
        }
        hex::encode(bytes)
    }

    pub(super) fn of_token(token: &str, fingerprint: &Fingerprint) -> Result<Self, ApiError> {
        let bytes = hex::decode(token).map_err(|_| texts::bad_next_token())?;
        let rest = bytes
            .strip_prefix(&[VERSION])
            .ok_or_else(texts::bad_next_token)?;
        let rest = rest
            .strip_prefix(fingerprint)
            .ok_or_else(texts::bad_next_token)?;
        let (collection, after) = rest.split_first_chunk().ok_or_else(texts::bad_next_token)?;
        Ok(Self {
            collection: u32::from_be_bytes(*collection),
            after: (!after.is_empty()).then(|| EncodedKey::copy_from_slice(after)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_statement_only() {
        let one = fingerprint("SELECT * FROM a", &[AttributeValue::S("x".to_owned())]);
        let other = fingerprint("SELECT * FROM a", &[AttributeValue::S("y".to_owned())]);
        for after in [None, Some(EncodedKey::from_static(b"key"))] {
            let position = Position {
                collection: 7,
                after,
            };
            let token = position.to_token(&one);
            assert_eq!(Position::of_token(&token, &one), Ok(position));
            assert!(Position::of_token(&token, &other).is_err());
        }
        for bad in ["", "zz", "01", "é"] {
            assert!(Position::of_token(bad, &one).is_err(), "{bad}");
        }
    }
}
