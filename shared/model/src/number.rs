//! DynamoDB numbers: up to 38 significant decimal digits, magnitude 1E-130 to 9.9999999999999999999999999999999999999E+125.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// A decimal number of at most 38 significant digits. Value semantics: `1`, `1.0` and `1e0` are equal.
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
    pub const ZERO: Self = Self { high: 0, low: 0, exponent: 0, negative: false };
    /// Parses a decimal text (`-12.5e3`); bounded work whatever the exponent says.
    pub fn parse(_text: &str) -> Result<Self, NumberError> {
        todo!()
    }
    /// Sum, exact.
    pub fn add(&self, _other: &Self) -> Result<Self, NumberError> {
        todo!()
    }
    /// Difference, exact.
    pub fn sub(&self, _other: &Self) -> Result<Self, NumberError> {
        todo!()
    }
    /// The number of significant digits; 0 for zero.
    pub fn significant_digits(&self) -> u32 {
        todo!()
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
        todo!()
    }
    /// The value, if it is a whole number that fits.
    pub fn to_i64(&self) -> Option<i64> {
        todo!()
    }
    /// Appends the order-preserving, self-delimiting binary form: 2 to 21 bytes.
    pub fn encode_into(&self, _out: &mut Vec<u8>) {
        todo!()
    }
    /// Appends the text that `Display` gives.
    pub fn write_text(&self, _out: &mut Vec<u8>) {
        todo!()
    }
}
impl From<u64> for Number {
    fn from(_value: u64) -> Self {
        todo!()
    }
}
impl From<i64> for Number {
    fn from(_value: i64) -> Self {
        todo!()
    }
}
impl Ord for Number {
    fn cmp(&self, _other: &Self) -> Ordering {
        todo!()
    }
}
impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
/// DynamoDB's normalised text (`100`, `0.001`): never an exponent.
impl std::fmt::Display for Number {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let _ = self.exponent;
        todo!()
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
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(|e| serde::de::Error::custom(format!("{e:?}")))
    }
}
