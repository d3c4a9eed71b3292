//! Digits in pairs: what the binary form is made of and what texts are laid out from.

use super::{LEADING_MAX, LEADING_MIN, PAIRS_MAX, TEXT_BYTES_MAX, ZERO_HEADER};

/// Writes the last `pairs.len()` pairs of decimal digits of `value`.
pub(super) fn fill_pairs(mut value: u128, pairs: &mut [u8]) {
    const CHUNK: u128 = 10u128.pow(18);
    let mut end = pairs.len();
    while value > u128::from(u64::MAX) {
        let mut chunk = (value % CHUNK) as u64;
        value /= CHUNK;
        for _ in 0..9 {
            end -= 1;
            pairs[end] = (chunk % 100) as u8;
            chunk /= 100;
        }
    }
    let mut rest = value as u64;
    while end > 0 {
        end -= 1;
        pairs[end] = (rest % 100) as u8;
        rest /= 100;
    }
}

/// Puts digits, zeros and the decimal point where they belong; gives the length.
pub(super) fn lay_out(
    negative: bool,
    pairs: &[u8],
    digits: usize,
    leading: i32,
    buffer: &mut [u8; TEXT_BYTES_MAX],
) -> usize {
    if digits == 0 {
        buffer[0] = b'0';
        return 1;
    }
    let mut text = [b'0'; PAIRS_MAX * 2];
    for (pair, out) in pairs.iter().zip(text.chunks_exact_mut(2)) {
        out[0] = b'0' + pair / 10;
        out[1] = b'0' + pair % 10;
    }
    let text = &text[..digits];
    let mut at = 0;
    let mut put = |part: &[u8]| {
        buffer[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    };
    const ZEROS: [u8; 130] = [b'0'; 130];
    if negative {
        put(b"-");
    }
    if leading < 0 {
        put(b"0.");
        put(&ZEROS[..(-leading - 1) as usize]);
        put(text);
    } else {
        let whole = leading as usize + 1;
        if whole >= digits {
            put(text);
            put(&ZEROS[..whole - digits]);
        } else {
            put(&text[..whole]);
            put(b".");
            put(&text[whole..]);
        }
    }
    at
}

/// Bytes that a number counts in an item's size: one, and one for two digits on each side of the decimal point
/// (zeros at either end do not count), and one for a minus sign. As the public suite nubo-db/dynamodb-conformance measured it; the developer guide's
/// "one byte for two significant digits" is an approximation.
pub(super) fn size_bytes(negative: bool, digits: u32, leading: i32) -> u64 {
    let whole = (leading + 1).max(0) as u32;
    let halves = if whole == 0 || whole >= digits {
        digits.div_ceil(2)
    } else {
        whole.div_ceil(2) + (digits - whole).div_ceil(2)
    };
    1 + u64::from(halves) + u64::from(negative)
}

/// The binary form taken apart: what its text and its size need, without making a `Number`.
pub(crate) struct Encoded {
    pub(super) negative: bool,
    pub(super) leading: i32,
    pub(super) digits: u32,
    count: usize,
    pairs: [u8; PAIRS_MAX],
}

impl Encoded {
    /// Reads from the start of `bytes`; None if that is not what `Number::encode_into` writes.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<2>()?;
        let header = u16::from_be_bytes(*header);
        if header == ZERO_HEADER {
            let pairs = [0; PAIRS_MAX];
            return Some(Self {
                negative: false,
                leading: 0,
                digits: 0,
                count: 0,
                pairs,
            });
        }
        let negative = header < ZERO_HEADER;
        let leading = LEADING_MIN + i32::from(header.abs_diff(ZERO_HEADER)) - 1;
        if leading > LEADING_MAX {
            return None;
        }
        let mask = if negative { 0xff } else { 0 };
        let mut pairs = [0; PAIRS_MAX];
        let mut count = 0;
        loop {
            let byte = rest.get(count)? ^ mask;
            let pair = byte / 2;
            if pair > 99 {
                return None;
            }
            *pairs.get_mut(count)? = pair;
            count += 1;
            if byte % 2 == 0 {
                break;
            }
        }
        let last = pairs[count - 1];
        // The first digit is never zero, and neither is the last pair: the form is unique.
        if pairs[0] < 10 || last == 0 {
            return None;
        }
        let digits = count as u32 * 2 - u32::from(last.is_multiple_of(10));
        Some(Self {
            negative,
            leading,
            digits,
            count,
            pairs,
        })
    }

    pub(super) fn pairs(&self) -> &[u8] {
        &self.pairs[..self.count]
    }

    /// Length of the binary form.
    pub(crate) fn len(&self) -> usize {
        2 + self.count
    }

    /// As `Number::write_text`.
    pub(crate) fn write_text(&self, out: &mut Vec<u8>) {
        let mut buffer = [0; TEXT_BYTES_MAX];
        let digits = self.digits as usize;
        let length = lay_out(
            self.negative,
            self.pairs(),
            digits,
            self.leading,
            &mut buffer,
        );
        out.extend_from_slice(&buffer[..length]);
    }

    /// As `Number::size_bytes`.
    pub(crate) fn size_bytes(&self) -> u64 {
        size_bytes(self.negative, self.digits, self.leading)
    }
}
