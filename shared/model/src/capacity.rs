//! What operations cost in capacity units (developer guide, "Read and write capacity", "Capacity unit consumption"): the one
//! place for the rules, used for `ConsumedCapacity` and for admission. Never throttles.
//!
//! An RCU is a strong read of up to 4 KB, half of one an eventual read; a WCU is a write of up to 1 KB; transactional
//! doubles both. Sizes are rounded up per item; a Query or Scan is rounded once a page, over the items that were read
//! before the filter. A failed condition costs what the write would have.

use serde::{Deserialize, Serialize};

use crate::Units;

/// Bytes that one read unit reads.
pub const READ_UNIT_BYTES: u64 = 4096;
/// Bytes that one write unit writes.
pub const WRITE_UNIT_BYTES: u64 = 1024;

/// Which of a table's two throughputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Direction {
    Read,
    Write,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Read, Self::Write];

    /// `Read`, `Write`: as in the reasons of throttling.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "Read",
            Self::Write => "Write",
        }
    }
}

/// What a read costs. `bytes`: of an item, or of all items that a page has read; 0 (absent, nothing found) costs as much as
/// the smallest.
pub const fn read_units(bytes: u64, strong: bool) -> Units {
    let blocks = blocks(bytes, READ_UNIT_BYTES);
    if strong {
        Units::new(blocks)
    } else {
        Units::HALF.saturating_mul(blocks)
    }
}

/// What a write costs. `bytes`: the larger of the item's size before and after; 0 (a delete of nothing) costs as much as the
/// smallest.
pub const fn write_units(bytes: u64) -> Units {
    Units::new(blocks(bytes, WRITE_UNIT_BYTES))
}

/// What the same costs within a transaction: it is prepared and committed. Reads in transactions are strong.
pub const fn transactional(units: Units) -> Units {
    units.saturating_mul(2)
}

const fn blocks(bytes: u64, block: u64) -> u64 {
    let blocks = bytes.div_ceil(block);
    if blocks == 0 { 1 } else { blocks }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_up_at_both_sides_of_each_edge() {
        for (bytes, strong, thousandths) in [
            (0, true, 1000),
            (0, false, 500),
            (1, false, 500),
            (4095, true, 1000),
            (4096, true, 1000),
            (4097, true, 2000),
            (4096, false, 500),
            (4097, false, 1000),
            (8192, false, 1000),
            (8193, false, 1500),
            (409_600, true, 100_000),
            (1 << 20, true, 256_000),
            ((1 << 20) + 1, false, 128_500),
        ] {
            let units = Units::from_thousandths(thousandths);
            assert_eq!(read_units(bytes, strong), units, "{bytes} {strong}");
        }
        for (bytes, units) in [
            (0, 1),
            (1, 1),
            (1023, 1),
            (1024, 1),
            (1025, 2),
            (2048, 2),
            (2049, 3),
            (409_600, 400),
        ] {
            assert_eq!(write_units(bytes), Units::new(units), "{bytes}");
        }
    }

    #[test]
    fn transactions_cost_twice() {
        assert_eq!(transactional(write_units(1025)), Units::new(4));
        assert_eq!(transactional(read_units(4097, true)), Units::new(4));
        assert_eq!(transactional(Units::MAX), Units::MAX);
    }
}
