//! One direction of a table at the GAC instance that looks after it: the table's own bucket, and how its rate is shared among the
//! routers.
//!
//! The bucket is charged with what routers say they consumed, so whatever a router was granted and did not spend stays in it. Shares follow demand: all
//! routers together never hold more than the table's rate, and a router without traffic next to nothing. What the bucket holds beyond is granted as
//! extra units; while it owes, all go slower until that is paid.

use std::collections::BTreeMap;

use admission::TokenBucket;
use model::Units;
use protocol::tokens::DirectionUse;

/// Part of the rate that is shared evenly whatever the demand, so that a router whose traffic begins need not wait: one in so many.
const EVEN_PART: u64 = 50;
/// A debt is paid back within about so many seconds of the rate.
const PAY_S: u64 = 5;
/// More than so many seconds of the rate are never owed: a router that comes back after an hour without contact must not stop the table.
const DEBT_S_MAX: u64 = 20;
/// For how long ahead extra units are granted, milliseconds: two refills.
const AHEAD_MS: u64 = 2_000;
/// Reports that follow each other faster say nothing of the demand, milliseconds.
const DEMAND_MS_MIN: u64 = 50;

/// Times of a pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolSettings {
    /// A router that was silent for so long has its share taken over, milliseconds.
    pub(crate) silent_ms: u64,
    /// Its counts are kept for so long, so that what it consumed meanwhile is charged when it comes back, milliseconds.
    pub(crate) forget_ms: u64,
}

/// One direction of a table.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    settings: PoolSettings,
    bucket: TokenBucket,
    routers: BTreeMap<u64, Router>,
}

#[derive(Clone, Debug)]
struct Router {
    incarnation: u64,
    heard_ms: u64,
    consumed_total: Units,
    refused_total: Units,
    /// Units a second that it would consume.
    demand: Units,
    /// The greater of what it said it holds and what it was granted: an answer may not have arrived.
    share: Units,
    extra: Units,
}

/// What one router gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) share: Units,
    pub(crate) pace: Units,
    pub(crate) extra: Units,
}

impl Pool {
    /// An empty bucket with this rate, `burst_s` seconds deep.
    pub(crate) fn new(settings: PoolSettings, rate: Units, burst_s: u64, now_ms: u64) -> Self {
        Self {
            settings,
            bucket: TokenBucket::new(rate, depth(rate, burst_s), Units::ZERO, now_ms),
            routers: BTreeMap::new(),
        }
    }

    /// Units a second.
    pub(crate) fn rate(&self) -> Units {
        self.bucket.rate()
    }

    /// What the bucket holds and what it owes.
    pub(crate) fn level(&mut self, now_ms: u64) -> (Units, Units) {
        (self.bucket.available(now_ms), self.bucket.debt())
    }

    /// Units a second that all routers together would consume.
    pub(crate) fn demand(&self, now_ms: u64) -> Units {
        self.present(now_ms).map(|(_, router)| router.demand).sum()
    }

    /// Units a second that all routers together hold.
    pub(crate) fn shares(&self, now_ms: u64) -> Units {
        self.present(now_ms).map(|(_, router)| router.share).sum()
    }

    /// Routers that were heard lately.
    pub(crate) fn router_count(&self, now_ms: u64) -> usize {
        self.present(now_ms).count()
    }

    /// Another rate from now on.
    pub(crate) fn resize(&mut self, rate: Units, burst_s: u64, now_ms: u64) {
        let depth = depth(rate, burst_s);
        if (rate, depth) != (self.bucket.rate(), self.bucket.depth()) {
            self.bucket.resize(rate, depth, now_ms);
        }
    }

    /// Takes what the bucket holds: it must not count what was saved before all routers were heard.
    pub(crate) fn drain(&mut self, now_ms: u64) {
        let held = self.bucket.available(now_ms);
        self.bucket.charge(held);
    }

    /// Takes in a router's report; gives what it consumed since the last one.
    pub(crate) fn report(
        &mut self,
        now_ms: u64,
        router: u64,
        incarnation: u64,
        report: &DirectionUse,
    ) -> Units {
        let forget_ms = self.settings.forget_ms;
        self.routers
            .retain(|_, known| now_ms.saturating_sub(known.heard_ms) < forget_ms);
        let before = self.routers.get(&router);
        let before = before.filter(|known| known.incarnation == incarnation);
        let since = |now: Units, then: fn(&Router) -> Units| {
            before.map_or(Units::ZERO, |known| now.saturating_sub(then(known)))
        };
        let consumed = since(report.consumed_total, |known| known.consumed_total);
        let refused = since(report.refused_total, |known| known.refused_total);
        let demand = match before {
            // The first report of a router: what it wants is not known yet, that it wants something is likely.
            None => report.share,
            Some(known) => {
                let elapsed_ms = now_ms.saturating_sub(known.heard_ms);
                if elapsed_ms < DEMAND_MS_MIN {
                    known.demand
                } else {
                    let asked = consumed.saturating_add(refused).share(1000, elapsed_ms);
                    // Up at once, down in halves.
                    asked.max(asked.saturating_add(known.demand).share(1, 2))
                }
            }
        };
        self.routers.insert(
            router,
            Router {
                incarnation,
                heard_ms: now_ms,
                consumed_total: report.consumed_total,
                refused_total: report.refused_total,
                demand,
                share: report.share,
                extra: report.extra,
            },
        );
        self.charge(now_ms, consumed);
        consumed
    }

    fn charge(&mut self, now_ms: u64, consumed: Units) {
        // Fill first: what was saved pays for what was consumed meanwhile.
        let _ = self.bucket.available(now_ms);
        self.bucket.charge(consumed);
        let most = self.bucket.rate().saturating_mul(DEBT_S_MAX);
        let excess = self.bucket.debt().saturating_sub(most);
        self.bucket.give(excess);
    }

    /// What a router that just reported gets. `frozen`: not all routers may have been heard yet, so none gets more than it has.
    pub(crate) fn part(&mut self, now_ms: u64, router: u64, frozen: bool) -> Part {
        let Some(me) = self.routers.get(&router).cloned() else {
            return Part::default();
        };
        let rate = self.bucket.rate();
        let (held, debt) = self.level(now_ms);
        let others: Vec<&Router> = self
            .present(now_ms)
            .filter(|(number, _)| **number != router)
            .map(|(_, router)| router)
            .collect();
        let count = others.len() as u64 + 1;
        let demand = others
            .iter()
            .map(|router| router.demand)
            .sum::<Units>()
            .saturating_add(me.demand);
        let others_share: Units = others.iter().map(|router| router.share).sum();
        let others_extra: Units = others.iter().map(|router| router.extra).sum();

        let target = if frozen {
            me.share.min(rate)
        } else {
            target(rate, me.demand, demand, count)
        };
        // Down at once; up only to what the others have left, so that all together never hold more than the rate.
        let room = rate.saturating_sub(others_share);
        let share = target.min(room.max(me.share));

        let extra = if frozen {
            Units::ZERO
        } else {
            let even = rate.share(1, EVEN_PART);
            let weight = me.demand.saturating_add(even);
            let weights = demand.saturating_add(even.saturating_mul(count));
            let free = held.saturating_sub(others_extra);
            let mine = free.share(weight.thousandths(), weights.thousandths());
            // A fifth more than was asked for: demand that grows is not stopped by its own past.
            let beyond = me.demand.share(6, 5).saturating_sub(share);
            let wanted = beyond.share(AHEAD_MS, 1000).max(share);
            wanted.min(mine)
        };
        let pace = pace(share, debt, rate);
        if let Some(me) = self.routers.get_mut(&router) {
            me.share = me.share.max(share);
            me.extra = me.extra.max(extra);
        }
        Part { share, pace, extra }
    }

    fn present(&self, now_ms: u64) -> impl Iterator<Item = (&u64, &Router)> {
        let silent_ms = self.settings.silent_ms;
        self.routers
            .iter()
            .filter(move |(_, router)| now_ms.saturating_sub(router.heard_ms) < silent_ms)
    }
}

/// The share that a router's demand calls for.
fn target(rate: Units, mine: Units, all: Units, routers: u64) -> Units {
    if all <= rate {
        // Enough for all: what nobody asks for is spread evenly, so that demand can begin anywhere.
        let left = rate.saturating_sub(all);
        return mine.saturating_add(left.share(1, routers));
    }
    // Proportional to demand: wherever a request goes, it has the same chance.
    let even = rate.share(1, EVEN_PART);
    let proportional = rate
        .saturating_sub(even)
        .share(mine.thousandths(), all.thousandths());
    proportional.saturating_add(even.share(1, routers))
}

/// The share, slowed down by at most half while the table owes.
fn pace(share: Units, debt: Units, rate: Units) -> Units {
    let most = rate.saturating_mul(PAY_S);
    let slower = share.share(debt.min(most).thousandths(), most.thousandths().max(1));
    share.saturating_sub(slower.min(share.share(1, 2)))
}

fn depth(rate: Units, burst_s: u64) -> Units {
    rate.saturating_mul(burst_s)
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
