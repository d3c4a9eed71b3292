//! Request ids: 52 characters, as DynamoDB's. Unique, not secret.

use std::cell::Cell;

use actix_web::http::header::HeaderValue;

/// Length of an id.
const LENGTH: usize = 52;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHIJKLMNOPQRSTUV";

thread_local! {
    /// State of a splitmix64 sequence, seeded at random once a thread.
    static STATE: Cell<u64> = Cell::new(uuid::Uuid::new_v4().as_u64_pair().0);
}

fn next() -> u64 {
    STATE.with(|state| {
        let value = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(value);
        let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    })
}

/// A new request id.
pub(crate) fn new() -> HeaderValue {
    let mut id = [0_u8; LENGTH];
    // a word gives 12 characters of five bits
    for chunk in id.chunks_mut(12) {
        let mut bits = next();
        for character in chunk {
            *character = ALPHABET[(bits & 31) as usize];
            bits >>= 5;
        }
    }
    HeaderValue::from_bytes(&id).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_52_upper_case_characters_and_differ() {
        let (one, two) = (super::new(), super::new());
        assert_ne!(one, two);
        for id in [one, two] {
            assert_eq!(id.len(), 52);
            assert!(
                id.as_bytes()
                    .iter()
                    .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
            );
        }
    }
}
