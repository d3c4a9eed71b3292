//! Capacity units (developer guide, "Read/write capacity"): an RCU is a strong read of up to 4 KB, half of one an eventual
//! read; a WCU is a write of up to 1 KB; transactional doubles both.

/// Units that a read of `bytes` costs.
pub fn read_units(bytes: u64, strong: bool) -> f64 {
    let blocks = bytes.div_ceil(4096).max(1) as f64;
    if strong { blocks } else { blocks / 2.0 }
}
/// Units that a write costs; `bytes` is the larger of the item's size before and after.
pub fn write_units(bytes: u64) -> f64 {
    bytes.div_ceil(1024).max(1) as f64
}
