use super::*;

const TABLE: TableId = TableId(100);

fn settings() -> InstanceSettings {
    InstanceSettings {
        peak_window_ms: 60_000,
        ..InstanceSettings::default()
    }
}

/// A router with one on-demand table that consumes writes.
struct Router {
    sequence: u64,
    table: TableUse,
}

impl Router {
    fn new(limit: u64) -> Self {
        let side = DirectionUse {
            limit: Units::new(limit),
            share: Units::new(limit),
            ..DirectionUse::default()
        };
        let table = TableUse {
            table: TABLE,
            version: 1,
            on_demand: true,
            read: side,
            write: side,
        };
        Self { sequence: 0, table }
    }

    fn consume(&mut self, instance: &mut Instance, now_ms: u64, units: u64) -> Grant {
        let write = &mut self.table.write;
        write.consumed_total = write.consumed_total.saturating_add(Units::new(units));
        self.sequence += 1;
        let request = TokenRequest {
            router: 1,
            incarnation: 1,
            sequence: self.sequence,
            nonce: self.sequence,
            tables: vec![self.table.clone()],
        };
        let reply = instance.answer(now_ms, &request).unwrap();
        reply.tables[0].write
    }
}

/// Consumes so much a second for so many seconds.
fn run(instance: &mut Instance, router: &mut Router, from_s: u64, to_s: u64, units: u64) -> Grant {
    let mut last = None;
    for second in from_s..to_s {
        last = Some(router.consume(instance, second * 1_000, units));
    }
    last.unwrap()
}

#[test]
fn an_on_demand_table_grows_to_twice_its_peak_and_to_the_quota() {
    let mut instance = Instance::new(settings(), 0);
    let mut router = Router::new(4_000);
    let grant = run(&mut instance, &mut router, 1, 60, 3_900);
    assert_eq!(
        (grant.share, grant.limit),
        (Units::new(4_000), ThroughputLimit::KeyRange)
    );
    assert!(instance.grown(59_000).is_empty());
    let grant = run(&mut instance, &mut router, 60, 130, 3_900);
    let units = grant.share.thousandths() / 1000;
    assert!((7_600..=7_800).contains(&units), "{units}");
    let grown = instance.grown(130_000);
    assert_eq!(grown.len(), 1);
    assert!((7_600..=7_800).contains(&grown[0].write_units), "{grown:?}");
    assert_eq!(grown[0].read_units, 4_000, "it was only written to");
    // Once its definition says so, there is nothing more to tell.
    router.table.version = 2;
    router.table.write.limit = Units::new(grown[0].write_units);
    run(&mut instance, &mut router, 130, 131, 3_900);
    assert!(instance.grown(131_000).is_empty());
    // Up to the account's quota for one table, and no further.
    let grant = run(&mut instance, &mut router, 131, 400, 39_000);
    assert_eq!(
        (grant.share, grant.limit),
        (Units::new(40_000), ThroughputLimit::Account)
    );
    assert_eq!(instance.grown(400_000)[0].write_units, 40_000);
}

#[test]
fn its_owners_maximum_holds_whatever_it_grew_to() {
    let mut instance = Instance::new(settings(), 0);
    let mut router = Router::new(4_000);
    run(&mut instance, &mut router, 1, 130, 3_900);
    router.table.version = 2;
    router.table.write.maximum = Some(Units::new(50));
    let grant = run(&mut instance, &mut router, 130, 131, 10);
    assert_eq!(
        (grant.share, grant.limit),
        (Units::new(50), ThroughputLimit::MaxOnDemand)
    );
    // A router that has not heard of the new definition changes nothing.
    router.table.version = 1;
    router.table.write.maximum = None;
    let grant = run(&mut instance, &mut router, 131, 132, 10);
    assert_eq!(grant.share, Units::new(50));
}

#[test]
fn old_and_repeated_requests_are_not_answered_and_tables_are_bounded() {
    let bounded = InstanceSettings {
        tables_max: 10,
        ..settings()
    };
    let mut instance = Instance::new(bounded, 0);
    let request = |sequence, table| {
        let mut use_ = Router::new(10).table;
        use_.table = TableId(table);
        TokenRequest {
            router: 1,
            incarnation: 1,
            sequence,
            nonce: 5,
            tables: vec![use_],
        }
    };
    for number in 1..=50 {
        assert!(instance.answer(number, &request(number, number)).is_some());
        assert!(instance.answer(number, &request(number, number)).is_none());
        assert!(
            instance
                .answer(number, &request(number - 1, number))
                .is_none()
        );
        assert!(instance.tables(number).len() <= 10);
    }
    assert!(
        instance
            .tables(50)
            .iter()
            .any(|view| view.table == TableId(50))
    );
    let mut reborn = request(0, 50);
    reborn.incarnation = 2;
    assert!(instance.answer(51, &reborn).is_some());
}
