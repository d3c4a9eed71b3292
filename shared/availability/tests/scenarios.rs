//! What happens to a mesh, second by second, as a canary and the routers count it, and which alarms that gives: the right ones, and no others.

use availability::{Board, Change, Class, Counts, Kind, Outcome, Rules, Scope, Severity};

const START_MS: u64 = 1_800_000_000_000;
const ZONES: [&str; 3] = ["az1", "az2", "az3"];

/// One second of a canary that sends each class of request through each zone's endpoint, and of customers with a table each.
struct Second {
    /// From the start.
    s: u64,
}

struct World {
    board: Board,
    changes: Vec<(u64, Change)>,
}

/// What becomes of a probe: by zone of the endpoint, class and number of the partition that it falls into.
type Probe<'a> = &'a dyn Fn(&Second, &str, Class, u64) -> (Outcome, u64);
/// What becomes of a second's requests of a customer's table.
type Customer<'a> = &'a dyn Fn(&Second, &str) -> Counts;

fn fine(_: &Second, _: &str, class: Class, _: u64) -> (Outcome, u64) {
    (Outcome::Good, if class == Class::Write { 8 } else { 2 })
}

fn served(requests: u64) -> Counts {
    let mut counts = Counts::default();
    for _ in 0..requests {
        counts.add(&Counts::one(Outcome::Good, 3));
    }
    counts
}

fn quiet(_: &Second, table: &str) -> Counts {
    served(if table == "music" { 50 } else { 5 })
}

impl World {
    fn new() -> Self {
        Self::of(Rules::default())
    }

    fn of(rules: Rules) -> Self {
        Self {
            board: Board::new(rules),
            changes: Vec::new(),
        }
    }

    fn run(&mut self, from_s: u64, to_s: u64, probe: Probe, customer: Customer) {
        for s in from_s..to_s {
            let (second, now_ms) = (Second { s }, START_MS + s * 1_000);
            for zone in ZONES {
                for (n, class) in Class::ALL.into_iter().enumerate() {
                    // Partitions take turns.
                    let partition = (s + n as u64) % 3;
                    let (outcome, took_ms) = probe(&second, zone, class, partition);
                    let counts = Counts::one(outcome, took_ms);
                    let endpoint = Scope::Endpoint {
                        zone: zone.to_owned(),
                        url: format!("http://{zone}:8000"),
                    };
                    self.board.add(now_ms, endpoint, class, &counts);
                    self.board
                        .add(now_ms, Scope::Canary("canary".to_owned()), class, &counts);
                }
            }
            for table in ["music", "orders"] {
                let counts = customer(&second, table);
                self.board.add(
                    now_ms,
                    Scope::Table(table.to_owned()),
                    Class::Write,
                    &counts,
                );
                self.board
                    .add(now_ms, Scope::Service, Class::Write, &counts);
            }
            if s % 5 == 0 {
                let changes = self.board.evaluate(now_ms);
                self.changes.extend(changes.into_iter().map(|c| (s, c)));
            }
        }
    }

    fn began(&self) -> Vec<(Kind, String)> {
        let began = self.changes.iter().filter_map(|(_, change)| match change {
            Change::Began(alarm) => Some((alarm.kind, alarm.subject.clone())),
            Change::Ended(_) => None,
        });
        began.collect()
    }
}

#[test]
fn a_quiet_day_gives_no_alarm() {
    let mut world = World::new();
    world.run(0, 3 * 3_600, &fine, &quiet);
    assert!(world.changes.is_empty(), "{:?}", world.changes);
    assert!(world.board.standing().is_empty());
}

#[test]
fn the_loss_of_a_zone_is_told_of_that_zone() {
    let mut world = World::new();
    world.run(0, 600, &fine, &quiet);
    // Its endpoint is gone; a third of the leaders are, for three seconds.
    let lost: Probe = &|second, zone, class, partition| match zone {
        "az2" => (Outcome::Unreachable, 1_000),
        _ if second.s < 603 && partition == 1 && class != Class::EventualRead => {
            (Outcome::Good, 2_400)
        }
        _ => fine(second, zone, class, partition),
    };
    world.run(600, 720, lost, &quiet);
    assert_eq!(
        world.began(),
        [(Kind::ZoneUnreachable, "az2".to_owned())],
        "{:?}",
        world.changes
    );
    let (began_s, _) = world.changes[0];
    assert!(began_s <= 625, "{began_s}");
    let [standing] = &world.board.standing()[..] else {
        panic!("{:?}", world.board.standing());
    };
    assert_eq!(standing.severity, Severity::Critical);
    let endpoints = world.board.endpoints(START_MS + 719_000);
    let up: Vec<bool> = endpoints.into_values().collect();
    assert_eq!(up, [true, false, true]);
    // It returns: the alarm ends, once.
    world.run(720, 900, &fine, &quiet);
    assert!(world.board.standing().is_empty());
    assert_eq!(world.changes.len(), 2, "{:?}", world.changes);
    assert_eq!(world.board.ended().count(), 1);
    // The strip keeps it.
    let strips = world.board.strips(START_MS + 900_000, 12, 100);
    let canary = strips
        .iter()
        .find(|s| s.scope == Scope::Canary("canary".to_owned()) && s.class == Class::Write);
    let bars = &canary.unwrap().bars;
    assert_eq!(bars.iter().map(|bar| bar.bad).sum::<u64>(), 120);
    assert!(bars.iter().any(|bar| bar.bad == 0));
}

#[test]
fn a_zone_whose_requests_fail_for_all_is_an_alarm_of_the_table() {
    let mut world = World::new();
    world.run(0, 600, &fine, &quiet);
    // A partition has lost two of its three copies: a third of the strong reads and writes fail, eventual reads go on.
    let broken: Probe = &|second, zone, class, partition| match class {
        Class::EventualRead => fine(second, zone, class, partition),
        _ if partition == 0 => (Outcome::Failed, 10_000),
        _ => fine(second, zone, class, partition),
    };
    world.run(600, 660, broken, &quiet);
    let mut began = world.board.standing();
    began.sort_by_key(|alarm| alarm.class);
    let told: Vec<_> = began
        .iter()
        .map(|a| (a.kind, a.class, a.severity))
        .collect();
    assert_eq!(
        told,
        [
            (
                Kind::Availability,
                Some(Class::StrongRead),
                Severity::Critical
            ),
            (Kind::Availability, Some(Class::Write), Severity::Critical),
        ]
    );
}

#[test]
fn a_throttled_table_is_told_as_such_and_only_that_one() {
    let mut world = World::new();
    world.run(0, 600, &fine, &quiet);
    let hot: Customer = &|second, table| {
        let mut counts = quiet(second, table);
        if table == "orders" {
            counts.throttled = 3;
        }
        counts
    };
    world.run(600, 700, &fine, hot);
    assert_eq!(world.began(), [(Kind::Throttled, "orders".to_owned())]);
    world.run(700, 900, &fine, &quiet);
    assert!(world.board.standing().is_empty());
}

#[test]
fn a_slow_node_is_told_as_slowness_not_as_failure() {
    let mut world = World::new();
    world.run(0, 600, &fine, &quiet);
    // It leads a third of the partitions, and each of its syncs takes most of a second.
    let slow: Probe = &|second, zone, class, partition| match class {
        Class::Write if partition == 2 => (Outcome::Good, 800),
        _ => fine(second, zone, class, partition),
    };
    world.run(600, 720, slow, &quiet);
    assert_eq!(world.began(), [(Kind::Slow, "canary".to_owned())]);
    let [alarm] = &world.board.standing()[..] else {
        panic!("{:?}", world.board.standing());
    };
    assert_eq!(alarm.class, Some(Class::Write));
    assert!(alarm.summary.contains("500 ms"), "{}", alarm.summary);
}

#[test]
fn a_planned_drain_gives_none() {
    let mut world = World::new();
    world.run(0, 600, &fine, &quiet);
    // Each hand-over holds requests of one partition up for a moment; copies slow the rest down a little; one request is lost on the way.
    let draining: Probe = &|second, zone, class, partition| match second.s % 20 {
        0 if partition == 1 && class != Class::EventualRead => (Outcome::Good, 300),
        _ if second.s == 611 && zone == "az1" && class == Class::Write => (Outcome::Failed, 400),
        _ => (Outcome::Good, if class == Class::Write { 40 } else { 9 }),
    };
    world.run(600, 1_200, draining, &quiet);
    assert!(world.changes.is_empty(), "{:?}", world.changes);
}

#[test]
fn an_endpoint_that_starts_or_is_away_for_seconds_is_not_told_and_one_that_never_comes_is() {
    // With a limit as long as a slot, too.
    for limit_s in [10, 20] {
        let away = |from: u64, to: u64| {
            move |second: &Second, zone: &str, class, partition| match zone {
                "az2" if (from..to).contains(&second.s) => (Outcome::Unreachable, 1_000),
                _ => fine(second, zone, class, partition),
            }
        };
        let world = || {
            World::of(Rules {
                unreachable_ms: limit_s * 1_000,
                ..Rules::default()
            })
        };
        let mut starts = world();
        starts.run(0, 300, &away(0, limit_s - 1), &quiet);
        assert!(starts.changes.is_empty(), "{:?}", starts.changes);
        for from in 600..610 {
            let mut blinks = world();
            blinks.run(570, 640, &away(from, from + limit_s - 1), &quiet);
            assert!(blinks.changes.is_empty(), "{from}: {:?}", blinks.changes);
        }
        let mut never = world();
        never.run(0, 120, &away(0, 120), &quiet);
        assert_eq!(never.began(), [(Kind::ZoneUnreachable, "az2".to_owned())]);
        let (began_s, _) = never.changes[0];
        assert!((limit_s..=limit_s + 20).contains(&began_s), "{began_s}");
    }
    // However long the limit is: within five minutes.
    let mut patient = World::of(Rules {
        unreachable_ms: 3_600_000,
        ..Rules::default()
    });
    let away: Probe = &|_, _, _, _| (Outcome::Unreachable, 1_000);
    patient.run(0, 320, away, &|_, _| Counts::default());
    assert_eq!(patient.began(), [(Kind::MeshUnreachable, "*".to_owned())]);
}

#[test]
fn a_mesh_that_nobody_reaches_is_one_alarm() {
    let mut world = World::new();
    world.run(0, 60, &fine, &quiet);
    world.run(
        60,
        120,
        &|_, _, _, _| (Outcome::Unreachable, 1_000),
        &|_, _| Counts::default(),
    );
    assert_eq!(world.began(), [(Kind::MeshUnreachable, "*".to_owned())]);
}

#[test]
fn failures_that_go_on_for_hours_are_told_even_if_they_are_few() {
    let mut world = World::new();
    // One of a thousand: ten times the budget, far below what a burst would need.
    let trickle: Customer = &|second, table| {
        let mut counts = quiet(second, table);
        if table == "music" && second.s % 20 == 0 {
            counts.good -= 1;
            counts.failed = 1;
        }
        counts
    };
    world.run(0, 3_600, &fine, trickle);
    let standing = world.board.standing();
    assert!(
        standing.iter().any(|a| a.subject == "music"
            && a.kind == Kind::Availability
            && a.severity == Severity::Warning),
        "{standing:?}"
    );
}
