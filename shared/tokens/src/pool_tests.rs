use super::*;

const SETTINGS: PoolSettings = PoolSettings {
    silent_ms: 10_000,
    forget_ms: 600_000,
};

fn pool(rate: u64) -> Pool {
    Pool::new(SETTINGS, Units::new(rate), 300, 0)
}

/// A router that reports once a second what it consumed and was refused.
struct Reporter {
    number: u64,
    report: DirectionUse,
}

impl Reporter {
    fn new(number: u64, share: u64) -> Self {
        let report = DirectionUse {
            share: Units::new(share),
            ..DirectionUse::default()
        };
        Self { number, report }
    }

    fn consume(&mut self, consumed: u64, refused: u64) {
        let report = &mut self.report;
        report.consumed_total = report.consumed_total.saturating_add(Units::new(consumed));
        report.refused_total = report.refused_total.saturating_add(Units::new(refused));
    }

    fn ask(&mut self, pool: &mut Pool, now_ms: u64) -> Part {
        pool.report(now_ms, self.number, 1, &self.report);
        let part = pool.part(now_ms, self.number, false);
        (self.report.share, self.report.extra) = (part.share, part.extra);
        part
    }
}

#[test]
fn shares_never_exceed_the_rate_and_follow_the_demand() {
    let mut pool = pool(1_000);
    let mut routers: Vec<Reporter> = (1..=4).map(|n| Reporter::new(n, 250)).collect();
    for router in &routers {
        pool.report(0, router.number, 1, &router.report);
    }
    for second in 1..=20 {
        // All the demand is at the first for ten seconds, then at the last.
        let busy = usize::from(second > 10) * 3;
        for (n, router) in routers.iter_mut().enumerate() {
            if n == busy {
                let units = router.report.share.thousandths() / 1000;
                router.consume(units, 1_500_u64.saturating_sub(units));
            }
            router.ask(&mut pool, second * 1_000 + n as u64 * 200);
        }
        let now_ms = second * 1_000 + 900;
        assert!(pool.shares(now_ms) <= Units::new(1_000), "{second}");
        if second % 10 == 9 {
            let share = routers[busy].report.share;
            assert!(share >= Units::new(970), "{second}: {share}");
        }
    }
}

#[test]
fn more_routers_than_expected_end_at_the_rate() {
    let mut pool = pool(1_000);
    let mut routers: Vec<Reporter> = (1..=8).map(|n| Reporter::new(n, 500)).collect();
    for second in 1..=5 {
        for (n, router) in routers.iter_mut().enumerate() {
            router.consume(300, 300);
            let part = router.ask(&mut pool, second * 1_000 + n as u64 * 100);
            assert!(!part.share.is_zero(), "nobody starves meanwhile");
        }
    }
    let sum: Units = routers.iter().map(|router| router.report.share).sum();
    assert!(sum <= Units::new(1_000) && sum > Units::new(980), "{sum}");
}

#[test]
fn what_was_not_used_is_granted_as_extra_and_no_more() {
    let mut pool = pool(150);
    let mut router = Reporter::new(1, 150);
    router.ask(&mut pool, 0);
    router.ask(&mut pool, 300_000);
    assert_eq!(pool.level(300_000).0, Units::new(45_000));
    // 200 a second for 900 s, as the published example has it; then 150.
    let (mut now_ms, mut seconds) = (300_000, 0);
    loop {
        now_ms += 1_000;
        let granted = router.report.share.saturating_add(router.report.extra);
        let consumed = granted.min(Units::new(200));
        router.consume(
            consumed.thousandths() / 1000,
            200 - consumed.thousandths() / 1000,
        );
        router.ask(&mut pool, now_ms);
        if consumed < Units::new(200) {
            break;
        }
        seconds += 1;
    }
    assert!((880..=905).contains(&seconds), "{seconds}");
}

#[test]
fn a_debt_slows_all_down_until_it_is_paid() {
    let mut pool = pool(100);
    let mut router = Reporter::new(1, 100);
    router.ask(&mut pool, 0);
    router.consume(300, 100);
    let part = router.ask(&mut pool, 1_000);
    assert_eq!(part.share, Units::new(100));
    assert!(
        part.pace < Units::new(65) && part.pace >= Units::new(50),
        "{}",
        part.pace
    );
    assert!(part.extra.is_zero());
    // A count out of reach is owed for a while, not for ever.
    router.consume(1_000_000_000, 0);
    router.ask(&mut pool, 2_000);
    assert_eq!(pool.level(2_000).1, Units::new(2_000));
}

#[test]
fn a_silent_router_keeps_its_share_for_a_while_and_its_consumption_is_charged_later() {
    let mut pool = pool(100);
    let (mut a, mut b) = (Reporter::new(1, 50), Reporter::new(2, 50));
    pool.report(0, 1, 1, &a.report);
    b.ask(&mut pool, 0);
    for second in 1..=9 {
        a.consume(50, 200);
        let share = a.ask(&mut pool, second * 1_000).share;
        assert!(share <= Units::new(50), "{share}");
    }
    a.consume(50, 200);
    assert_eq!(a.ask(&mut pool, 10_500).share, Units::new(100));
    // It was only cut off, and went on at its share.
    b.consume(500, 0);
    let charged = pool.report(10_600, 2, 1, &b.report);
    assert_eq!(charged, Units::new(500));
}

#[test]
fn a_restarted_router_starts_at_zero_and_nothing_is_charged_twice() {
    let mut pool = pool(100);
    let mut router = Reporter::new(1, 100);
    router.consume(50, 0);
    router.ask(&mut pool, 1_000);
    router.consume(50, 0);
    assert_eq!(pool.report(2_000, 1, 1, &router.report), Units::new(50));
    assert_eq!(pool.report(2_001, 1, 1, &router.report), Units::ZERO);
    let reborn = DirectionUse {
        share: Units::new(50),
        ..DirectionUse::default()
    };
    assert_eq!(pool.report(2_100, 1, 2, &reborn), Units::ZERO);
    assert_eq!(pool.router_count(2_100), 1);
}

#[test]
fn while_frozen_nobody_gets_more_than_it_has() {
    let mut pool = pool(100);
    let mut report = DirectionUse {
        share: Units::new(20),
        refused_total: Units::new(500),
        ..DirectionUse::default()
    };
    pool.report(0, 1, 1, &report);
    assert_eq!(pool.part(0, 1, true).share, Units::new(20));
    report.share = Units::new(1_000_000);
    pool.report(1_000, 1, 1, &report);
    let part = pool.part(1_000, 1, true);
    assert_eq!((part.share, part.extra), (Units::new(100), Units::ZERO));
}
