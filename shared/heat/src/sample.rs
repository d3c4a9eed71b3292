//! The sample. One key is kept for every `stride` of consumption, on average, so that memory follows the heat: a partition that is
//! hardly used keeps next to nothing.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::advice::{Advice, advise};

/// Ages, in half-lives, at which a sample is forgotten: it counts for a sixteenth by then.
const HALF_LIVES_MAX: u64 = 4;
/// What one note counts for at most, so that no sum overflows: no request consumes so much.
const WEIGHT_MAX: u64 = 1 << 40;

/// How consumption is sampled and judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Consumption for which one key is sampled, in millionths of what the partition may consume in one second. At 125,000, a
    /// partition at its cap gives eight samples a second.
    pub stride: u64,
    /// A sample counts for half after so long, milliseconds: long enough for a few hundred samples of a hot partition, short enough that
    /// the point follows the traffic within the minutes in which a split is decided.
    pub half_life_ms: u64,
    /// Samples kept at most; with keys of 100 bytes about 70 KB.
    pub samples_max: usize,
    /// No advice from fewer.
    pub samples_min: usize,
    /// What each side of a point must have of the whole consumption, thousandths. Less would leave the hot side nearly as hot as before.
    pub fair_share: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stride: 125_000,
            half_life_ms: 30_000,
            samples_max: 512,
            samples_min: 64,
            fair_share: 200,
        }
    }
}

/// One key that stands for some consumption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) at_ms: u64,
    pub(crate) key: Bytes,
    pub(crate) weight: u64,
}

/// The consumption of one partition, as far as it is remembered.
#[derive(Clone, Debug)]
pub struct Heat {
    settings: Settings,
    samples: VecDeque<Sample>,
    /// How many of the last samples nobody else has heard of.
    fresh: usize,
    /// Consumption since the last sample, and where the next one is due.
    carried: u64,
    due: u64,
    random: u64,
}

impl Heat {
    /// Nothing was consumed yet. `seed` makes samples of different partitions fall at different requests.
    pub fn new(settings: Settings, seed: u64) -> Self {
        let mut heat = Self {
            settings,
            samples: VecDeque::new(),
            fresh: 0,
            carried: 0,
            due: 0,
            random: seed,
        };
        heat.due = heat.draw_due();
        heat
    }

    /// Something was consumed at `key`: `weight` millionths of what the partition may consume in a second. Times don't go backwards.
    pub fn note(&mut self, now_ms: u64, key: &[u8], weight: u64) {
        let weight = weight.min(WEIGHT_MAX);
        self.carried = self.carried.saturating_add(weight);
        if self.carried < self.due {
            return;
        }
        let weight = weight.max(self.due.min(WEIGHT_MAX));
        self.carried = 0;
        self.due = self.draw_due();
        self.keep(now_ms, key, weight);
        self.fresh += 1;
    }

    /// Samples of the same partition that another replica made: its [`Heat::hand_on`].
    pub fn take_in(&mut self, now_ms: u64, samples: &[(Bytes, u64)]) {
        for (key, weight) in samples.iter().take(self.settings.samples_max) {
            self.keep(now_ms, key, (*weight).min(WEIGHT_MAX));
        }
        // Told again they would count twice.
        self.fresh = 0;
    }

    /// What was sampled here since the last call: keys, and what each stands for.
    pub fn hand_on(&mut self) -> Vec<(Bytes, u64)> {
        let fresh = std::mem::take(&mut self.fresh).min(self.samples.len());
        let samples = self.samples.iter().skip(self.samples.len() - fresh);
        samples.map(|s| (s.key.clone(), s.weight)).collect()
    }

    fn keep(&mut self, now_ms: u64, key: &[u8], weight: u64) {
        self.forget_old(now_ms);
        if self.samples.len() >= self.settings.samples_max.max(1) {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample {
            at_ms: now_ms,
            // A copy, so that no message's buffer is kept for one key of it.
            key: Bytes::copy_from_slice(key),
            weight,
        });
    }

    /// Where a split would halve the consumption of the last minutes, or why no split would. `whole_collections`: item collections must
    /// stay whole.
    pub fn advise(&self, now_ms: u64, whole_collections: bool) -> Advice {
        let known = self.samples.iter();
        let fresh: Vec<&Sample> = known.filter(|s| !self.old(s, now_ms)).collect();
        advise(&fresh, &self.settings, now_ms, whole_collections)
    }

    /// Samples that are remembered.
    pub fn samples(&self) -> usize {
        self.samples.len()
    }

    fn forget_old(&mut self, now_ms: u64) {
        while self.samples.front().is_some_and(|s| self.old(s, now_ms)) {
            self.samples.pop_front();
        }
    }

    fn old(&self, sample: &Sample, now_ms: u64) -> bool {
        let memory_ms = self.settings.half_life_ms.saturating_mul(HALF_LIVES_MAX);
        now_ms.saturating_sub(sample.at_ms) > memory_ms
    }

    /// Half to one and a half strides, so that traffic with a rhythm does not meet the same key every time.
    fn draw_due(&mut self) -> u64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let stride = self.settings.stride.max(1);
        stride / 2 + mixed % (stride + 1)
    }
}

impl Sample {
    /// What it counts for now, in 256ths of its weight.
    pub(crate) fn worth(&self, settings: &Settings, now_ms: u64) -> u64 {
        let age = now_ms.saturating_sub(self.at_ms) / settings.half_life_ms.max(1);
        (self.weight.saturating_mul(256)) >> age.min(63)
    }
}
