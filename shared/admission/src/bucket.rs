//! One token bucket.

use model::Units;

/// Millionths of a unit: a rate in thousandths a second times milliseconds is exact in them.
const MILLIONTHS: i128 = 1000;

/// A bucket that fills at `rate` a second up to `depth`, and may owe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    rate: Units,
    depth: Units,
    /// Millionths of a unit; negative: it owes.
    balance: i128,
    /// When it was filled last; never moves back.
    at_ms: u64,
}

impl TokenBucket {
    /// A bucket that holds `balance` (at most `depth`) at `now_ms`.
    pub fn new(rate: Units, depth: Units, balance: Units, now_ms: u64) -> Self {
        Self {
            rate,
            depth,
            balance: millionths(balance.min(depth)),
            at_ms: now_ms,
        }
    }

    /// A full bucket.
    pub fn full(rate: Units, depth: Units, now_ms: u64) -> Self {
        Self::new(rate, depth, depth, now_ms)
    }

    /// Units a second.
    pub fn rate(&self) -> Units {
        self.rate
    }

    /// The most that it holds.
    pub fn depth(&self) -> Units {
        self.depth
    }

    /// Changes rate and depth from `now_ms` on; what it holds or owes stays, up to the new depth.
    pub fn resize(&mut self, rate: Units, depth: Units, now_ms: u64) {
        self.fill(now_ms);
        (self.rate, self.depth) = (rate, depth);
        self.balance = self.balance.min(millionths(depth));
    }

    /// Whether it would admit a request that surely costs `sure`. A full bucket admits whatever it is asked for: else what
    /// costs more than its depth would be refused for ever.
    pub fn admits(&mut self, now_ms: u64, sure: Units) -> bool {
        self.fill(now_ms);
        self.covers(sure)
    }

    /// Admits a request and charges its sure cost, or refuses it and charges nothing.
    pub fn take(&mut self, now_ms: u64, sure: Units) -> bool {
        let admitted = self.admits(now_ms, sure);
        if admitted {
            self.charge(sure);
        }
        admitted
    }

    /// Takes as much of `wanted` as it holds, and says how much that is.
    pub fn take_up_to(&mut self, now_ms: u64, wanted: Units) -> Units {
        let taken = self.available(now_ms).min(wanted);
        self.charge(taken);
        taken
    }

    /// Charges `cost`, whether it is there or not.
    pub fn charge(&mut self, cost: Units) {
        self.balance = self.balance.saturating_sub(millionths(cost));
    }

    /// Corrects a charge of `sure` to what it really cost.
    pub fn settle(&mut self, sure: Units, cost: Units) {
        self.charge(cost.saturating_sub(sure));
        self.give(sure.saturating_sub(cost));
    }

    /// Puts `units` in, as far as they fit.
    pub fn give(&mut self, units: Units) {
        self.give_millionths(millionths(units));
    }

    /// What it holds; nothing when it owes.
    pub fn available(&mut self, now_ms: u64) -> Units {
        self.fill(now_ms);
        thousandths(self.balance)
    }

    /// What it owes, as of when it was filled last.
    pub fn debt(&self) -> Units {
        thousandths(self.balance.saturating_neg())
    }

    /// Fills it for the time that has passed. What did not fit, millionths.
    pub(crate) fn fill(&mut self, now_ms: u64) -> i128 {
        let elapsed_ms = now_ms.saturating_sub(self.at_ms);
        if elapsed_ms == 0 {
            return 0;
        }
        self.at_ms = now_ms;
        self.give_millionths(
            i128::from(self.rate.thousandths()).saturating_mul(i128::from(elapsed_ms)),
        )
    }

    /// Puts in what fits; the rest is the answer.
    pub(crate) fn give_millionths(&mut self, amount: i128) -> i128 {
        let free = millionths(self.depth).saturating_sub(self.balance).max(0);
        let fits = amount.min(free);
        self.balance += fits;
        amount - fits
    }

    /// Whether the balance, as of when it was filled last, covers `sure`.
    pub(crate) fn covers(&self, sure: Units) -> bool {
        self.balance > 0 && self.balance >= millionths(sure.min(self.depth))
    }
}

fn millionths(units: Units) -> i128 {
    i128::from(units.thousandths()) * MILLIONTHS
}

fn thousandths(millionths: i128) -> Units {
    let thousandths = u64::try_from(millionths.max(0) / MILLIONTHS);
    Units::from_thousandths(thousandths.unwrap_or(u64::MAX))
}
