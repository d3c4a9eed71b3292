//! DynamoDB numbers: up to 38 significant decimal digits, magnitude 1E-130 to 9.9999999999999999999999999999999999999E+125.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// A decimal number of at most 38 significant digits. Value semantics: `1`, `1.0` and `1e0` are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    negative: bool,
    // TODO(owner): representation is the owner's choice
    text: String,
}

/// Why a text is not a DynamoDB number, or an arithmetic result is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberError {
    /// Not a decimal number.
    Malformed,
    /// More than 38 significant digits.
    TooPrecise,
    /// Magnitude above 9.99…E+125.
    Overflow,
    /// Magnitude below 1E-130 and not zero.
    Underflow,
}

impl Number {
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
}
impl From<u64> for Number {
    fn from(_value: u64) -> Self {
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
/// DynamoDB's normalised text (`100`, `0.001`, no exponent for ordinary magnitudes).
impl std::fmt::Display for Number {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let _ = (self.negative, &self.text);
        todo!()
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
