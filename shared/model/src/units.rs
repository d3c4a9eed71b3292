//! Amounts of capacity units: fixed point, exact to a thousandth. Owns their arithmetic, which never wraps; what an operation
//! costs is `capacity`'s business.

use std::fmt;
use std::iter::Sum;

use serde::{Deserialize, Serialize};

const THOUSAND: u64 = 1000;

/// Capacity units in thousandths; also units a second. Never negative. On the wire a whole number (of thousandths).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Units(u64);

impl Units {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// Half a unit: the smallest read.
    pub const HALF: Self = Self(THOUSAND / 2);
    /// One unit.
    pub const ONE: Self = Self(THOUSAND);
    /// The largest amount; what exceeds it is cut to it.
    pub const MAX: Self = Self(u64::MAX);

    /// So many whole units.
    pub const fn new(units: u64) -> Self {
        Self(units.saturating_mul(THOUSAND))
    }

    /// So many thousandths of a unit.
    pub const fn from_thousandths(thousandths: u64) -> Self {
        Self(thousandths)
    }

    /// In thousandths of a unit.
    pub const fn thousandths(self) -> u64 {
        self.0
    }

    /// As a float, for answers and metrics only: exact below 2^43 units.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / THOUSAND as f64
    }

    /// Whether this is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum; none if it cannot be told.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The difference; none if it is negative.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Some(Self(difference)),
            None => None,
        }
    }

    /// The sum, at most `MAX`.
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, at least nothing.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// So many times as much, at most `MAX`.
    pub const fn saturating_mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }

    /// The share `numerator / denominator` of it, rounded down, at most `MAX`; nothing if the denominator is 0.
    pub const fn share(self, numerator: u64, denominator: u64) -> Self {
        if denominator == 0 {
            return Self::ZERO;
        }
        let share = self.0 as u128 * numerator as u128 / denominator as u128;
        if share > u64::MAX as u128 {
            Self::MAX
        } else {
            Self(share as u64)
        }
    }
}

impl Sum for Units {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::saturating_add)
    }
}

/// As the API writes it: at least one digit behind the point (`1.0`, `0.5`, `2.125`).
impl fmt::Display for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / THOUSAND, self.0 % THOUSAND);
        if rest.is_multiple_of(100) {
            write!(f, "{whole}.{}", rest / 100)
        } else if rest.is_multiple_of(10) {
            write!(f, "{whole}.{:02}", rest / 10)
        } else {
            write!(f, "{whole}.{rest:03}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_as_the_api_writes_them() {
        for (thousandths, text) in [
            (0, "0.0"),
            (500, "0.5"),
            (1000, "1.0"),
            (1250, "1.25"),
            (2125, "2.125"),
            (1005, "1.005"),
            (40_000_000, "40000.0"),
        ] {
            assert_eq!(Units::from_thousandths(thousandths).to_string(), text);
        }
        assert_eq!(Units::from_thousandths(1250).as_f64(), 1.25);
    }

    #[test]
    fn arithmetic_never_wraps() {
        assert_eq!(Units::new(u64::MAX), Units::MAX);
        assert_eq!(Units::MAX.saturating_add(Units::ONE), Units::MAX);
        assert_eq!(Units::MAX.saturating_mul(2), Units::MAX);
        assert_eq!(Units::MAX.share(3, 2), Units::MAX);
        assert_eq!(Units::ONE.share(1, 0), Units::ZERO);
        assert_eq!(Units::ONE.saturating_sub(Units::new(2)), Units::ZERO);
        assert_eq!(Units::MAX.checked_add(Units::from_thousandths(1)), None);
        assert_eq!(Units::HALF.checked_sub(Units::ONE), None);
        assert_eq!(Units::HALF.checked_add(Units::HALF), Some(Units::ONE));
        assert_eq!(Units::new(1000).share(11, 10), Units::new(1100));
        assert_eq!(Units::new(1).share(1, 3), Units::from_thousandths(333));
        let many = [Units::MAX, Units::ONE];
        assert_eq!(many.into_iter().sum::<Units>(), Units::MAX);
    }

    #[test]
    fn on_the_wire_it_is_a_whole_number() {
        let text = serde_json::to_string(&Units::from_thousandths(1500)).unwrap();
        assert_eq!(text, "1500");
        assert_eq!(
            serde_json::from_str::<Units>(&text).unwrap(),
            Units::from_thousandths(1500)
        );
        assert!(serde_json::from_str::<Units>("-1").is_err());
    }
}
