//! What one direction of a table may spend at one router: a bucket that fills at the router's share, and extra units that GAC granted from what
//! the table did not use. Counts what is consumed and refused.

use admission::TokenBucket;
use model::Units;
use model::error::ThroughputLimit;
use protocol::tokens::{DirectionUse, Grant};

/// For how long the share accrues while nothing is spent, milliseconds: what a router can spend at once.
const DEPTH_MS: u64 = 1_000;

/// What the table's definition allows in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// Units a second of the whole table.
    pub(crate) rate: Units,
    /// Maximum of an on-demand table.
    pub(crate) maximum: Option<Units>,
    /// The limit that refuses.
    pub(crate) limit: ThroughputLimit,
}

impl Allowed {
    fn effective(&self) -> Units {
        self.maximum
            .map_or(self.rate, |maximum| self.rate.min(maximum))
    }
}

/// One direction of a table at one router.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    allowed: Allowed,
    /// Units a second without news from GAC.
    share: Units,
    /// Fills at the pace of the last grant while that is fresh, at the share afterwards.
    bucket: TokenBucket,
    fresh_until_ms: u64,
    extra: Units,
    extra_spent_total: Units,
    limit: ThroughputLimit,
    granted: bool,
    consumed_total: Units,
    refused_total: Units,
}

/// Where a request's sure cost was taken from; goes back to `settle`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reserved {
    units: Units,
}

impl Share {
    /// The share of a router that nobody granted one: an even part of `routers_expected`. Its bucket is full.
    pub(crate) fn new(allowed: Allowed, routers_expected: u64, now_ms: u64) -> Self {
        let share = allowed.effective().share(1, routers_expected.max(1));
        Self {
            allowed,
            share,
            bucket: TokenBucket::full(share, depth(share), now_ms),
            fresh_until_ms: 0,
            extra: Units::ZERO,
            extra_spent_total: Units::ZERO,
            limit: allowed.limit,
            granted: false,
            consumed_total: Units::ZERO,
            refused_total: Units::ZERO,
        }
    }

    /// The table's definition changed: the share changes with it at once.
    pub(crate) fn redefine(&mut self, allowed: Allowed, routers_expected: u64, now_ms: u64) {
        if allowed == self.allowed {
            return;
        }
        let (before, after) = (self.allowed.effective(), allowed.effective());
        self.share = if self.granted && !before.is_zero() {
            self.share.share(after.thousandths(), before.thousandths())
        } else {
            after.share(1, routers_expected.max(1))
        };
        self.allowed = allowed;
        self.limit = allowed.limit;
        self.bucket.resize(self.share, depth(self.share), now_ms);
        self.extra = Units::ZERO;
        self.fresh_until_ms = 0;
    }

    /// Nothing was asked of it for long, and GAC has given its share to others: back to what a router without a grant has.
    pub(crate) fn retire(&mut self, routers_expected: u64, now_ms: u64) {
        let fresh = Self::new(self.allowed, routers_expected, now_ms);
        // Its bucket keeps what it owes.
        let mut bucket = self.bucket.clone();
        bucket.resize(fresh.share, fresh.bucket.depth(), now_ms);
        *self = Self {
            bucket,
            consumed_total: self.consumed_total,
            refused_total: self.refused_total,
            extra_spent_total: self.extra_spent_total,
            ..fresh
        };
    }

    /// Admits a request that surely costs `sure`, or says which limit refuses it.
    pub(crate) fn admit(&mut self, now_ms: u64, sure: Units) -> Result<Reserved, ThroughputLimit> {
        self.age(now_ms);
        if self.bucket.take(now_ms, sure) {
            return Ok(Reserved { units: sure });
        }
        let available = self.bucket.available(now_ms);
        let missing = sure.saturating_sub(available);
        // A debt is paid before anything extra is spent on new requests.
        if self.bucket.debt().is_zero() && !missing.is_zero() && self.extra >= missing {
            self.spend_extra(missing);
            self.bucket.charge(sure.saturating_sub(missing));
            return Ok(Reserved { units: sure });
        }
        self.refused_total = self.refused_total.saturating_add(sure);
        Err(self.limit)
    }

    /// Corrects what was taken for a request to what it cost: nothing, if it was not executed.
    pub(crate) fn settle(&mut self, now_ms: u64, reserved: Reserved, cost: Units) {
        self.age(now_ms);
        self.consumed_total = self.consumed_total.saturating_add(cost);
        let more = cost.saturating_sub(reserved.units);
        let beyond = more.saturating_sub(self.bucket.available(now_ms));
        let from_extra = beyond.min(self.extra);
        self.spend_extra(from_extra);
        self.bucket
            .settle(reserved.units, cost.saturating_sub(from_extra));
    }

    /// What GAC is told.
    pub(crate) fn report(&mut self, now_ms: u64) -> DirectionUse {
        self.age(now_ms);
        DirectionUse {
            limit: self.allowed.rate,
            maximum: self.allowed.maximum,
            consumed_total: self.consumed_total,
            refused_total: self.refused_total,
            share: self.share,
            extra: self.extra,
        }
    }

    /// Extra units spent so far; noted when a request is sent and given back with its answer.
    pub(crate) fn extra_spent_total(&self) -> Units {
        self.extra_spent_total
    }

    /// Units refused so far.
    pub(crate) fn refused_total(&self) -> Units {
        self.refused_total
    }

    /// Units consumed so far.
    pub(crate) fn consumed_total(&self) -> Units {
        self.consumed_total
    }

    /// Takes the answer to a request that was sent at `sent_ms`, when `extra_spent_total` was `spent`.
    pub(crate) fn grant(&mut self, now_ms: u64, grant: &Grant, sent_ms: u64, spent: Units) {
        self.age(now_ms);
        self.granted = true;
        // Whatever an instance says: a fixed rate is not exceeded. That of an on-demand table grows, and only GAC knows how far.
        self.share = match self.allowed.limit {
            ThroughputLimit::KeyRange | ThroughputLimit::Account => grant.share,
            ThroughputLimit::Provisioned | ThroughputLimit::MaxOnDemand => {
                grant.share.min(self.allowed.effective())
            }
        };
        self.limit = grant.limit;
        self.fresh_until_ms = sent_ms.saturating_add(grant.fresh_ms);
        let since = self.extra_spent_total.saturating_sub(spent);
        self.extra = grant.extra.saturating_sub(since);
        self.bucket
            .resize(grant.pace.min(self.share), depth(self.share), now_ms);
        self.age(now_ms);
    }

    fn spend_extra(&mut self, units: Units) {
        self.extra = self.extra.saturating_sub(units);
        self.extra_spent_total = self.extra_spent_total.saturating_add(units);
    }

    /// What is no longer fresh ends: on with the share, nothing extra.
    fn age(&mut self, now_ms: u64) {
        if now_ms >= self.fresh_until_ms && self.granted {
            self.extra = Units::ZERO;
            if self.bucket.rate() != self.share {
                self.bucket.resize(self.share, depth(self.share), now_ms);
            }
        }
    }
}

fn depth(share: Units) -> Units {
    share.share(DEPTH_MS, 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: Allowed = Allowed {
        rate: Units::new(100),
        maximum: None,
        limit: ThroughputLimit::Provisioned,
    };

    fn grant(share: u64, extra: u64) -> Grant {
        Grant {
            share: Units::new(share),
            pace: Units::new(share),
            extra: Units::new(extra),
            fresh_ms: 3_000,
            limit: ThroughputLimit::Provisioned,
        }
    }

    /// Single units that it admits at `now_ms`, at most 10,000.
    fn admitted(share: &mut Share, now_ms: u64) -> u64 {
        let mut units = 0;
        while units < 10_000 {
            match share.admit(now_ms, Units::ONE) {
                Ok(reserved) => share.settle(now_ms, reserved, Units::ONE),
                Err(_) => break,
            }
            units += 1;
        }
        units
    }

    #[test]
    fn without_a_grant_it_is_an_even_part() {
        let mut share = Share::new(ALLOWED, 4, 0);
        assert_eq!(admitted(&mut share, 0), 25);
        assert_eq!(admitted(&mut share, 1_000), 25);
        assert_eq!(admitted(&mut share, 1_000_000), 25, "one second deep");
        assert_eq!(share.report(1_000_000).consumed_total, Units::new(75));
        assert!(share.report(1_000_000).refused_total >= Units::new(3));
    }

    #[test]
    fn a_grant_counts_from_when_it_was_asked_for() {
        let mut share = Share::new(ALLOWED, 4, 0);
        assert_eq!(admitted(&mut share, 0), 25);
        share.grant(500, &grant(10, 50), 0, Units::ZERO);
        // Half a second at 25 a second is cut to the new depth of 10.
        assert_eq!(admitted(&mut share, 500), 60);
        // A second answer to a request from before those 50 were spent gives nothing again.
        share.grant(600, &grant(10, 50), 400, Units::ZERO);
        assert_eq!(admitted(&mut share, 600), 1);
        share.grant(700, &grant(10, 50), 650, share.extra_spent_total());
        assert_eq!(share.report(3_649).extra, Units::new(50));
        assert_eq!(share.report(3_650).extra, Units::ZERO, "no longer fresh");
    }

    #[test]
    fn while_the_table_owes_the_pace_is_slower_and_then_the_share_again() {
        let mut share = Share::new(ALLOWED, 1, 0);
        admitted(&mut share, 0);
        let slow = Grant {
            pace: Units::new(50),
            ..grant(100, 0)
        };
        share.grant(0, &slow, 0, Units::ZERO);
        assert_eq!(admitted(&mut share, 1_000), 50);
        assert_eq!(admitted(&mut share, 2_000), 50);
        assert_eq!(admitted(&mut share, 3_000), 50);
        assert_eq!(admitted(&mut share, 4_000), 100);
    }

    #[test]
    fn what_a_request_really_cost_is_charged_and_owed() {
        let mut share = Share::new(ALLOWED, 1, 0);
        let reserved = share.admit(0, Units::HALF).unwrap();
        share.settle(0, reserved, Units::new(300));
        assert!(share.admit(1_999, Units::HALF).is_err());
        assert!(share.admit(2_010, Units::HALF).is_ok());
        assert_eq!(share.report(2_010).consumed_total, Units::new(300));
        // What was not executed costs nothing.
        let mut share = Share::new(ALLOWED, 1, 0);
        let reserved = share.admit(0, Units::new(100)).unwrap();
        assert!(share.admit(0, Units::ONE).is_err());
        share.settle(0, reserved, Units::ZERO);
        assert_eq!(admitted(&mut share, 0), 100);
    }

    #[test]
    fn a_new_definition_scales_the_share_at_once() {
        let mut share = Share::new(ALLOWED, 4, 0);
        share.grant(0, &grant(60, 0), 0, Units::ZERO);
        let double = Allowed {
            rate: Units::new(200),
            ..ALLOWED
        };
        share.redefine(double, 4, 10);
        assert_eq!(share.report(10).share, Units::new(120));
        share.retire(4, 20);
        assert_eq!(share.report(20).share, Units::new(50));
        assert_eq!(share.report(20).limit, Units::new(200));
    }

    #[test]
    fn no_grant_exceeds_a_fixed_rate() {
        let mut share = Share::new(ALLOWED, 2, 0);
        share.grant(0, &grant(1_000_000, 0), 0, Units::ZERO);
        assert_eq!(share.report(0).share, Units::new(100));
        let growing = Allowed {
            limit: ThroughputLimit::KeyRange,
            ..ALLOWED
        };
        let mut share = Share::new(growing, 2, 0);
        share.grant(0, &grant(150, 0), 0, Units::ZERO);
        assert_eq!(share.report(0).share, Units::new(150));
    }

    #[test]
    fn an_on_demand_maximum_bounds_the_share_without_a_grant() {
        let allowed = Allowed {
            maximum: Some(Units::new(8)),
            limit: ThroughputLimit::MaxOnDemand,
            ..ALLOWED
        };
        let mut share = Share::new(allowed, 2, 0);
        assert_eq!(admitted(&mut share, 0), 4);
        assert_eq!(
            share.admit(0, Units::ONE),
            Err(ThroughputLimit::MaxOnDemand)
        );
    }
}
