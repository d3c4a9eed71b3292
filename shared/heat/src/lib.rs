//! Where a partition's consumption falls: a weighted sample of keys, decayed, and the point at which a split would halve it. Owns
//! the sample and the advice (docs/adr/0006-splits.md); whether and when to split is decided elsewhere. Pure: time is an input, memory is
//! bounded, the only chance in it is a sequence drawn from a seed.

mod advice;
mod sample;

pub use advice::{Advice, Obstacle};
pub use sample::{Heat, Settings};
