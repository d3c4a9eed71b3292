//! Versions are compared byte by byte. Owns a short encoding of counters with that order: small numbers take one byte, and
//! the order of several counters written one behind the other is that of the tuple.

/// Largest number that takes one byte.
const ONE_BYTE_MAX: u64 = 0xF6;

/// Appends `number`: one byte up to 246, else its length in bytes and its bytes, most significant first.
pub fn put(number: u64, out: &mut Vec<u8>) {
    if number <= ONE_BYTE_MAX {
        out.push(number as u8);
        return;
    }
    let bytes = number.to_be_bytes();
    let length = 8 - number.leading_zeros() as usize / 8;
    out.push(ONE_BYTE_MAX as u8 + length as u8);
    out.extend_from_slice(&bytes[8 - length..]);
}

/// Takes a number off the front. None: there is none.
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    if u64::from(first) <= ONE_BYTE_MAX {
        *bytes = rest;
        return Some(u64::from(first));
    }
    let length = usize::from(first) - ONE_BYTE_MAX as usize;
    let (number, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some(number.iter().fold(0, |sum, &b| sum << 8 | u64::from(b)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = u64> {
        (any::<u64>(), 0..64u32).prop_map(|(n, shift)| n >> shift)
    }

    fn encoded(numbers: &[u64]) -> Vec<u8> {
        let mut out = Vec::new();
        numbers.iter().for_each(|&n| put(n, &mut out));
        out
    }

    proptest! {
        #[test]
        fn bytes_have_the_order_of_the_numbers(a in prop::collection::vec(number(), 3), b in prop::collection::vec(number(), 3)) {
            prop_assert_eq!(encoded(&a).cmp(&encoded(&b)), a.cmp(&b));
        }

        #[test]
        fn numbers_come_back(numbers in prop::collection::vec(number(), 0..5)) {
            let bytes = encoded(&numbers);
            let mut rest = &bytes[..];
            let back: Vec<u64> = std::iter::from_fn(|| take(&mut rest)).collect();
            prop_assert_eq!(back, numbers);
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut rest = &bytes[..];
            while take(&mut rest).is_some() {}
        }
    }

    #[test]
    fn small_numbers_are_short() {
        assert_eq!(encoded(&[0]).len(), 1);
        assert_eq!(encoded(&[246]).len(), 1);
        assert_eq!(encoded(&[247]).len(), 2);
        assert_eq!(encoded(&[u64::MAX]).len(), 9);
        assert_eq!(take(&mut &encoded(&[300])[..1]), None, "cut short");
    }
}
