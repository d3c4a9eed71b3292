//! Finds the key that halves the bytes of an ordered run of items in one pass and bounded memory. Owns nothing else.

use bytes::Bytes;

/// Candidates that are kept; the answer is off by at most about one part in half of it.
const CANDIDATES_MAX: usize = 2_048;

/// Sees all items in key order, then knows a key before which about half of the bytes lie.
#[derive(Debug, Default)]
pub struct Middle {
    /// Keys, and the bytes before each, ascending.
    candidates: Vec<(Bytes, u64)>,
    bytes: u64,
    /// A key becomes a candidate once so many bytes lie behind the last one.
    step_bytes: u64,
}

impl Middle {
    /// The next item.
    pub fn visit(&mut self, key: &Bytes, item_bytes: u64) {
        let last = self.candidates.last().map(|(_, before)| *before);
        if last.is_none_or(|last| self.bytes - last >= self.step_bytes.max(1)) {
            self.candidates.push((key.clone(), self.bytes));
        }
        self.bytes += key.len() as u64 + item_bytes;
        if self.candidates.len() > CANDIDATES_MAX {
            let mut number = 0;
            self.candidates.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            self.step_bytes = 2 * self.bytes / CANDIDATES_MAX as u64;
        }
    }

    /// The key; none if no key leaves something on either side.
    pub fn key(self) -> Option<Bytes> {
        let half = self.bytes / 2;
        let inner = self
            .candidates
            .into_iter()
            .filter(|(_, before)| *before > 0);
        inner
            .min_by_key(|(_, before)| before.abs_diff(half))
            .map(|(key, _)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn middle(sizes: impl Iterator<Item = u64>) -> Option<u64> {
        let mut middle = Middle::default();
        for (number, bytes) in sizes.enumerate() {
            middle.visit(&Bytes::from((number as u64).to_be_bytes().to_vec()), bytes);
        }
        let key = middle.key()?;
        Some(u64::from_be_bytes(key[..].try_into().expect("eight bytes")))
    }

    #[test]
    fn equal_items_are_halved() {
        assert_eq!(middle([].into_iter()), None);
        assert_eq!(middle([10].into_iter()), None);
        assert_eq!(middle([10, 10].into_iter()), Some(1));
        for count in [100, 5_000, 300_000] {
            let found = middle(std::iter::repeat_n(100, count)).expect("a key");
            let off = found.abs_diff(count as u64 / 2);
            assert!(off <= 1 + count as u64 / 500, "{found} of {count}");
        }
    }

    #[test]
    fn a_large_item_stays_on_one_side() {
        assert_eq!(middle([1_000_000, 1, 1, 1].into_iter()), Some(1));
        assert_eq!(middle([1, 1, 1, 1_000_000].into_iter()), Some(3));
    }

    #[test]
    fn growing_items_are_halved_by_bytes_not_by_count() {
        let count = 200_000;
        let found = middle(0..count).expect("a key") as f64;
        let expected = count as f64 / 2_f64.sqrt();
        assert!((found - expected).abs() < count as f64 / 500.0, "{found}");
    }
}
