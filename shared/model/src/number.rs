//! DynamoDB numbers: up to 38 significant decimal digits, magnitude 1E-130 to 9.9999999999999999999999999999999999999E+125.
//! Owns parsing, the normalised text, exact addition and the binary form. Never rounds: what does not fit is an error.
//!
//! The binary form is order-preserving (byte order is numeric order) and self-delimiting, so that stored items and keys
//! share it. It is a two-byte header, `0x8000` for zero, above it for positive numbers and below it for negative ones,
//! counting the exponent of the first digit; then two digits a byte, first digit leftmost, as `pair * 2 + more`. Negative
//! numbers have the complement of these bytes. 2 bytes for zero, 3 for a number of one or two digits, 21 at most.

mod digits;
mod parse;

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

pub(crate) use digits::Encoded;
use digits::{fill_pairs, lay_out, size_bytes};

/// Most significant digits that a number can have.
pub const DIGITS_MAX: u32 = 38;
/// Longest text of a number in bytes: sign, `0.`, 129 zeros and 38 digits.
pub const TEXT_BYTES_MAX: usize = 1 + 2 + 129 + DIGITS_MAX as usize;

/// Exponent of the first digit of the largest and of the smallest magnitude.
const LEADING_MAX: i32 = 125;
const LEADING_MIN: i32 = -130;
/// 10^38: coefficients are below it.
const COEFFICIENT_END: u128 = 10u128.pow(DIGITS_MAX);
const ZERO_HEADER: u16 = 0x8000;
const PAIRS_MAX: usize = DIGITS_MAX as usize / 2;

/// A decimal number of at most 38 significant digits. Value semantics: `1`, `1.0` and `1e0` are equal.
///
/// The value is ±coefficient × 10^exponent. The coefficient has no trailing zeros and zero is all zeros, so equal values
/// have equal fields. The coefficient is kept as two halves because a `u128` would align every value to 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Number {
    high: u64,
    low: u64,
    exponent: i16,
    negative: bool,
}

/// Why a text is not a DynamoDB number, or an arithmetic result is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Not a decimal number.
    #[error("not a number")]
    Malformed,
    /// More than 38 significant digits.
    #[error("more than 38 significant digits")]
    TooPrecise,
    /// Magnitude above 9.99…E+125.
    #[error("magnitude too large")]
    Overflow,
    /// Magnitude below 1E-130 and not zero.
    #[error("magnitude too small")]
    Underflow,
}

impl Number {
    /// Zero.
    pub const ZERO: Self = Self {
        high: 0,
        low: 0,
        exponent: 0,
        negative: false,
    };

    /// Parses a decimal text (`-12.5e3`); bounded work whatever the exponent says.
    pub fn parse(text: &str) -> Result<Self, NumberError> {
        let bytes = text.as_bytes();
        match parse::small_integer(bytes) {
            Some(value) => Ok(Self::from(value)),
            None => parse::general(bytes),
        }
    }

    /// The number ±coefficient × 10^exponent, normalised and range-checked.
    fn new(negative: bool, mut coefficient: u128, mut exponent: i32) -> Result<Self, NumberError> {
        if coefficient == 0 {
            return Ok(Self::ZERO);
        }
        while coefficient > u128::from(u64::MAX) && coefficient.is_multiple_of(10) {
            coefficient /= 10;
            exponent += 1;
        }
        if let Ok(mut small) = u64::try_from(coefficient) {
            while small.is_multiple_of(10) {
                small /= 10;
                exponent += 1;
            }
            coefficient = u128::from(small);
        }
        let leading = exponent + coefficient.ilog10() as i32;
        if leading > LEADING_MAX {
            return Err(NumberError::Overflow);
        }
        if leading < LEADING_MIN {
            return Err(NumberError::Underflow);
        }
        if coefficient >= COEFFICIENT_END {
            return Err(NumberError::TooPrecise);
        }
        Ok(Self::from_normal(negative, coefficient, exponent))
    }

    /// Puts the parts together; they are known to be normal and in range, so the exponent is between -167 and 125.
    fn from_normal(negative: bool, coefficient: u128, exponent: i32) -> Self {
        Self {
            high: (coefficient >> 64) as u64,
            low: coefficient as u64,
            exponent: exponent as i16,
            negative,
        }
    }

    fn coefficient(&self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }

    /// Exponent of the first digit; 0 for zero.
    fn leading(&self) -> i32 {
        match self.significant_digits() {
            0 => 0,
            digits => i32::from(self.exponent) + digits as i32 - 1,
        }
    }

    /// Sum, exact.
    pub fn add(&self, other: &Self) -> Result<Self, NumberError> {
        if self.is_zero() {
            return Ok(*other);
        }
        if other.is_zero() {
            return Ok(*self);
        }
        let (coarse, fine) = if self.exponent >= other.exponent {
            (self, other)
        } else {
            (other, self)
        };
        // Where the exponents differ, the fine operand's last digit is the sum's last digit, so a sum of 38 digits is
        // below 10^38 fine units. The fine operand is below that too; then the coarse one is below 2 × 10^38, which
        // fits in 128 bits. So whatever does not fit is too precise.
        let scale = (i32::from(coarse.exponent) - i32::from(fine.exponent)) as u32;
        let scaled = 10u128
            .checked_pow(scale)
            .and_then(|factor| coarse.coefficient().checked_mul(factor))
            .ok_or(NumberError::TooPrecise)?;
        let (negative, coefficient) = if coarse.negative == fine.negative {
            let sum = scaled
                .checked_add(fine.coefficient())
                .ok_or(NumberError::TooPrecise)?;
            (coarse.negative, sum)
        } else if scaled >= fine.coefficient() {
            (coarse.negative, scaled - fine.coefficient())
        } else {
            (fine.negative, fine.coefficient() - scaled)
        };
        Self::new(negative, coefficient, i32::from(fine.exponent))
    }

    /// Difference, exact.
    pub fn sub(&self, other: &Self) -> Result<Self, NumberError> {
        self.add(&other.negated())
    }

    /// The number with the opposite sign.
    pub fn negated(&self) -> Self {
        Self {
            negative: !self.negative && !self.is_zero(),
            ..*self
        }
    }

    /// The number of significant digits; 0 for zero.
    pub fn significant_digits(&self) -> u32 {
        match (self.high, self.low) {
            (0, 0) => 0,
            (0, low) => low.ilog10() + 1,
            _ => self.coefficient().ilog10() + 1,
        }
    }

    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        self.high == 0 && self.low == 0
    }

    /// The value, if it is a whole number that fits.
    pub fn to_u64(&self) -> Option<u64> {
        let value = self.whole_magnitude()?;
        if self.negative { None } else { Some(value) }
    }

    /// The value, if it is a whole number that fits.
    pub fn to_i64(&self) -> Option<i64> {
        let value = i128::from(self.whole_magnitude()?);
        i64::try_from(if self.negative { -value } else { value }).ok()
    }

    fn whole_magnitude(&self) -> Option<u64> {
        let exponent = u32::try_from(self.exponent).ok()?;
        if self.high != 0 {
            return None;
        }
        self.low.checked_mul(10u64.checked_pow(exponent)?)
    }

    /// Bytes that the number counts in an item's size; see `crate::size`.
    pub fn size_bytes(&self) -> u64 {
        size_bytes(self.negative, self.significant_digits(), self.leading())
    }

    /// Appends the binary form: order-preserving, self-delimiting, 2 to 21 bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let digits = self.significant_digits();
        if digits == 0 {
            out.extend_from_slice(&ZERO_HEADER.to_be_bytes());
            return;
        }
        let magnitude = 1 + (self.leading() - LEADING_MIN) as u16;
        let (header, mask) = if self.negative {
            (ZERO_HEADER - magnitude, 0xff)
        } else {
            (ZERO_HEADER + magnitude, 0)
        };
        let mut pairs = [0u8; PAIRS_MAX];
        let count = digits.div_ceil(2) as usize;
        let pairs = &mut pairs[..count];
        // An odd last digit is the tens of its pair. 38 is even, so the coefficient cannot outgrow 38 digits here.
        let factor = if digits % 2 == 1 { 10 } else { 1 };
        fill_pairs(self.coefficient() * factor, pairs);
        out.extend_from_slice(&header.to_be_bytes());
        let last = count - 1;
        out.extend(
            pairs
                .iter()
                .enumerate()
                .map(|(i, pair)| (pair * 2 + u8::from(i < last)) ^ mask),
        );
    }

    /// Reads the binary form from the start of `bytes`; gives the number and the number of bytes that it took.
    /// None if that is not what `encode_into` writes.
    pub fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let encoded = Encoded::read(bytes)?;
        // Nine pairs fit in 64 bits: most numbers need no wide arithmetic.
        let (head, tail) = encoded.pairs().split_at(encoded.pairs().len().min(9));
        let head = head
            .iter()
            .fold(0u64, |value, pair| value * 100 + u64::from(*pair));
        let mut coefficient = tail.iter().fold(u128::from(head), |value, pair| {
            value * 100 + u128::from(*pair)
        });
        if encoded.digits % 2 == 1 {
            coefficient /= 10;
        }
        let exponent = match encoded.digits {
            0 => 0,
            digits => encoded.leading - (digits as i32 - 1),
        };
        Some((
            Self::from_normal(encoded.negative, coefficient, exponent),
            encoded.len(),
        ))
    }

    /// Appends the text that `Display` gives.
    pub fn write_text(&self, out: &mut Vec<u8>) {
        let mut buffer = [0; TEXT_BYTES_MAX];
        let length = self.text_into(&mut buffer);
        out.extend_from_slice(&buffer[..length]);
    }

    fn text_into(&self, buffer: &mut [u8; TEXT_BYTES_MAX]) -> usize {
        let digits = self.significant_digits();
        let mut pairs = [0u8; PAIRS_MAX];
        let pairs = &mut pairs[..digits.div_ceil(2) as usize];
        let factor = if digits % 2 == 1 { 10 } else { 1 };
        fill_pairs(self.coefficient() * factor, pairs);
        lay_out(
            self.negative,
            pairs,
            digits as usize,
            self.leading(),
            buffer,
        )
    }
}

impl From<u64> for Number {
    fn from(mut value: u64) -> Self {
        if value == 0 {
            return Self::ZERO;
        }
        let mut exponent = 0;
        while value.is_multiple_of(10) {
            value /= 10;
            exponent += 1;
        }
        Self {
            high: 0,
            low: value,
            exponent,
            negative: false,
        }
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self {
            negative: value < 0,
            ..Self::from(value.unsigned_abs())
        }
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign =
            |number: &Self| i32::from(!number.is_zero()) * if number.negative { -1 } else { 1 };
        match sign(self).cmp(&sign(other)) {
            Ordering::Equal => {}
            unequal => return unequal,
        }
        let magnitude = self.leading().cmp(&other.leading()).then_with(|| {
            // Same first digit's place: the shorter coefficient is scaled to the longer one's 38 digits at most.
            let scale = |number: &Self, finest: i16| {
                number.coefficient() * 10u128.pow(u32::from(number.exponent.abs_diff(finest)))
            };
            let finest = self.exponent.min(other.exponent);
            scale(self, finest).cmp(&scale(other, finest))
        });
        if self.negative {
            magnitude.reverse()
        } else {
            magnitude
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// DynamoDB's normalised text: all digits written out (`100`, `0.001`), never an exponent, no needless zeros.
impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut buffer = [0; TEXT_BYTES_MAX];
        let length = self.text_into(&mut buffer);
        f.pad(std::str::from_utf8(&buffer[..length]).map_err(|_| std::fmt::Error)?)
    }
}

impl std::str::FromStr for Number {
    type Err = NumberError;
    fn from_str(text: &str) -> Result<Self, NumberError> {
        Self::parse(text)
    }
}

impl Serialize for Number {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut buffer = [0; TEXT_BYTES_MAX];
        let length = self.text_into(&mut buffer);
        let text = std::str::from_utf8(&buffer[..length]).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(text)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Number;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the text of a number")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Number, E> {
                Number::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}
