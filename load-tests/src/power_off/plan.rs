//! The schedule of faults, drawn from a seed. Pure: knows names only, never a process or a clock.
//!
//! The rule of a survivable plan: all that is broken at one time stands in one zone, or is the link between two zones; and the next strike
//! comes only after the last one is over and its processes are ready. A mesh that heals must also take a node that stays away for
//! long, an empty disk, and a second node lost after the first was made up for.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde::Serialize;

/// Names that faults may strike.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// Zones.
    pub zones: Vec<String>,
    /// Storage nodes with their zones.
    pub storage: Vec<(String, String)>,
    /// Servers of the bus with their zones.
    pub nats: Vec<(String, String)>,
    /// Everything else with its zone.
    pub others: Vec<(String, String)>,
}

/// What is possible and asked for.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Length of the plan, milliseconds.
    pub length_ms: u64,
    /// The short form: shorter faults, main kinds only.
    pub quick: bool,
    /// Links between zones can be cut.
    pub cuts: bool,
    /// Links between zones can be made slow.
    pub slow_links: bool,
    /// Total losses of power are asked for.
    pub beyond: bool,
    /// The mesh makes up for lost nodes.
    pub healing: bool,
    /// Kinds to draw from; empty: all.
    pub only: Vec<String>,
}

/// Something that breaks and is mended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Fault {
    /// `kill -9`, later started again.
    Kill {
        /// Process.
        process: String,
    },
    /// `kill -9`, and the disk is empty when it is started again.
    Wipe {
        /// Process.
        process: String,
    },
    /// SIGTERM, and started again.
    Restart {
        /// Process.
        process: String,
    },
    /// SIGSTOP, later SIGCONT.
    Pause {
        /// Process.
        process: String,
    },
    /// The zone's power and network are gone at once: no farewell packets.
    ZoneDown {
        /// Zone.
        zone: String,
    },
    /// All processes of a zone are stopped, later continued.
    ZonePause {
        /// Zone.
        zone: String,
    },
    /// Nothing passes between two zones.
    Cut {
        /// One zone.
        a: String,
        /// The other.
        b: String,
    },
    /// Nothing passes from one zone to another; the way back is open.
    OneWay {
        /// What it sends is lost.
        from: String,
        /// What does not receive.
        to: String,
    },
    /// Nothing passes between this zone and the other two. Clients still reach its router.
    Isolate {
        /// Zone.
        zone: String,
    },
    /// The link between two zones is slow and loses packets.
    SlowLink {
        /// One zone.
        a: String,
        /// The other.
        b: String,
    },
    /// `kill -9` of everything in all zones.
    Blackout,
}

/// A fault with its time within a strike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timed {
    /// After the begin of the strike, milliseconds.
    pub offset_ms: u64,
    /// Until it is mended, milliseconds.
    pub lasts_ms: u64,
    /// What.
    pub fault: Fault,
}

/// Faults that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strike {
    /// Quiet time before it, counted from when everything was ready again, milliseconds.
    pub quiet_ms: u64,
    /// Sorted by offset; never empty.
    pub faults: Vec<Timed>,
}

impl Strike {
    /// From begin to the last mending, milliseconds.
    pub fn lasts_ms(&self) -> u64 {
        let ends = self
            .faults
            .iter()
            .map(|timed| timed.offset_ms + timed.lasts_ms);
        ends.max().unwrap_or(0)
    }
}

/// A kind of strike: name, weight, whether the short form has it, whether it can be done at all.
type Kind = (&'static str, usize, bool, fn(&Terms) -> bool);

const KINDS: [Kind; 17] = [
    ("kill-storage", 3, true, |_| true),
    ("pause-storage", 2, true, |_| true),
    ("restart-storage", 1, false, |_| true),
    ("kill-nats", 1, true, |_| true),
    ("pause-nats", 1, false, |_| true),
    ("kill-service", 1, false, |_| true),
    ("pause-service", 1, false, |_| true),
    ("zone-down", 2, true, |_| true),
    ("zone-pause", 1, false, |_| true),
    ("cut", 1, true, |terms| terms.cuts),
    ("one-way", 1, false, |terms| terms.cuts),
    ("isolate", 1, false, |terms| terms.cuts),
    ("slow-link", 1, false, |terms| terms.slow_links),
    ("wipe-storage", 1, false, |terms| terms.healing),
    ("long-dead", 1, false, |terms| terms.healing),
    ("two-in-turn", 1, false, |terms| terms.healing),
    ("blackout", 1, false, |terms| terms.beyond),
];

/// Names of all kinds.
pub fn kinds() -> Vec<&'static str> {
    KINDS.iter().map(|kind| kind.0).collect()
}

/// Draws a plan. Kinds come from a deck that is shuffled anew when it is used up, so that a long plan has them all.
pub fn draw(seed: u64, targets: &Targets, terms: &Terms) -> Vec<Strike> {
    let mut random = SmallRng::seed_from_u64(seed);
    let possible = KINDS.iter().filter(|(name, _, quick, possible)| {
        possible(terms)
            && (terms.only.is_empty() || terms.only.iter().any(|only| only == name))
            && (*quick || !terms.quick || !terms.only.is_empty())
    });
    let full_deck: Vec<&str> = possible
        .flat_map(|(name, weight, ..)| {
            std::iter::repeat_n(*name, if terms.quick { 1 } else { *weight })
        })
        .collect();
    let (mut deck, mut plan, mut length_ms) = (Vec::new(), Vec::new(), 0);
    let mut passed_over = 0;
    while passed_over < full_deck.len() {
        if deck.is_empty() {
            deck.clone_from(&full_deck);
            deck.shuffle(&mut random);
        }
        let Some(kind) = deck.pop() else { break };
        let Some(strike) = strike(kind, targets, terms, &mut random) else {
            passed_over += 1;
            continue;
        };
        let needs_ms = strike.quiet_ms + strike.lasts_ms();
        if length_ms + needs_ms + LAST_QUIET_MS > terms.length_ms {
            // Perhaps a shorter one fits.
            passed_over += 1;
            continue;
        }
        passed_over = 0;
        length_ms += needs_ms;
        plan.push(strike);
    }
    plan
}

/// Traffic goes on for so long after the last strike.
pub const LAST_QUIET_MS: u64 = 6_000;

fn strike(kind: &str, targets: &Targets, terms: &Terms, random: &mut SmallRng) -> Option<Strike> {
    let quick = terms.quick;
    let mut lasts = |long: std::ops::RangeInclusive<u64>| {
        if quick {
            (*long.start()).max(2_000)
        } else {
            random.random_range(long)
        }
    };
    let lasts_ms = match kind {
        "kill-storage" => lasts(4_000..=15_000),
        "pause-storage" => lasts(3_000..=9_000),
        "restart-storage" => 0,
        "kill-nats" => lasts(3_000..=10_000),
        "pause-nats" => lasts(3_000..=10_000),
        "kill-service" => lasts(4_000..=15_000),
        "pause-service" => lasts(2_000..=8_000),
        "zone-down" => lasts(6_000..=20_000),
        "zone-pause" => lasts(3_000..=10_000),
        "cut" | "one-way" | "isolate" => lasts(5_000..=15_000),
        "slow-link" => lasts(8_000..=20_000),
        "wipe-storage" => lasts(3_000..=15_000),
        "long-dead" => lasts(40_000..=70_000),
        "two-in-turn" => 25_000,
        _ => lasts(3_000..=8_000),
    };
    let mut pick = |from: &[(String, String)]| from.choose(random).cloned();
    let mut also = None;
    let (fault, zone) = match kind {
        "kill-storage" | "long-dead" => {
            let (process, zone) = pick(&targets.storage)?;
            (Fault::Kill { process }, Some(zone))
        }
        "two-in-turn" => {
            let (process, zone) = pick(&targets.storage)?;
            let elsewhere: Vec<_> = targets
                .storage
                .iter()
                .filter(|(_, z)| *z != zone)
                .cloned()
                .collect();
            also = Some(Fault::Kill {
                process: pick(&elsewhere)?.0,
            });
            (Fault::Kill { process }, None)
        }
        "pause-storage" => {
            let (process, zone) = pick(&targets.storage)?;
            (Fault::Pause { process }, Some(zone))
        }
        "restart-storage" => (
            Fault::Restart {
                process: pick(&targets.storage)?.0,
            },
            None,
        ),
        "wipe-storage" => (
            Fault::Wipe {
                process: pick(&targets.storage)?.0,
            },
            None,
        ),
        "kill-nats" => {
            let (process, zone) = pick(&targets.nats)?;
            (Fault::Kill { process }, Some(zone))
        }
        "pause-nats" => (
            Fault::Pause {
                process: pick(&targets.nats)?.0,
            },
            None,
        ),
        "kill-service" => {
            let (process, zone) = pick(&targets.others)?;
            (Fault::Kill { process }, Some(zone))
        }
        "pause-service" => (
            Fault::Pause {
                process: pick(&targets.others)?.0,
            },
            None,
        ),
        "zone-down" => (
            Fault::ZoneDown {
                zone: targets.zones.choose(random)?.clone(),
            },
            None,
        ),
        "zone-pause" => (
            Fault::ZonePause {
                zone: targets.zones.choose(random)?.clone(),
            },
            None,
        ),
        "isolate" => (
            Fault::Isolate {
                zone: targets.zones.choose(random)?.clone(),
            },
            None,
        ),
        "cut" | "one-way" | "slow-link" => {
            let mut two = targets.zones.clone();
            two.shuffle(random);
            let (a, b) = (two.pop()?, two.pop()?);
            let fault = match kind {
                "cut" => Fault::Cut { a, b },
                "one-way" => Fault::OneWay { from: a, to: b },
                _ => Fault::SlowLink { a, b },
            };
            (fault, None)
        }
        _ => (Fault::Blackout, None),
    };
    let mut faults = vec![Timed {
        offset_ms: 0,
        lasts_ms,
        fault,
    }];
    if let Some(fault) = also {
        // Once the first is made up for by log replicas, and while it is still away.
        faults.push(Timed {
            offset_ms: 12_000,
            lasts_ms: 20_000,
            fault,
        });
    }
    // Sometimes something else of the same zone goes as well.
    if let Some(zone) = zone
        && !quick
        && random.random_bool(0.25)
    {
        let first = faults[0].fault.clone();
        let all = targets
            .storage
            .iter()
            .chain(&targets.nats)
            .chain(&targets.others);
        let beside: Vec<&String> = all
            .filter(|(process, its)| {
                *its == zone
                    && first
                        != Fault::Kill {
                            process: process.clone(),
                        }
                    && first
                        != Fault::Pause {
                            process: process.clone(),
                        }
            })
            .map(|(process, _)| process)
            .collect();
        if let Some(process) = beside.choose(random) {
            let offset_ms = random.random_range(0..=lasts_ms / 2);
            let fault = Fault::Kill {
                process: (*process).clone(),
            };
            faults.push(Timed {
                offset_ms,
                lasts_ms: (lasts_ms - offset_ms).min(10_000),
                fault,
            });
        }
    }
    let quiet_ms = if quick {
        3_000
    } else {
        random.random_range(3_000..=8_000)
    };
    Some(Strike { quiet_ms, faults })
}

impl Fault {
    /// For people.
    pub fn label(&self) -> String {
        match self {
            Fault::Kill { process } => format!("kill {process}"),
            Fault::Wipe { process } => format!("kill {process}, empty disk"),
            Fault::Restart { process } => format!("restart {process}"),
            Fault::Pause { process } => format!("pause {process}"),
            Fault::ZoneDown { zone } => format!("{zone} down"),
            Fault::ZonePause { zone } => format!("pause {zone}"),
            Fault::Cut { a, b } => format!("cut {a} ✕ {b}"),
            Fault::OneWay { from, to } => format!("cut {from} → {to} only"),
            Fault::Isolate { zone } => format!("isolate {zone}"),
            Fault::SlowLink { a, b } => format!("slow {a} – {b}"),
            Fault::Blackout => "all power lost".to_owned(),
        }
    }

    /// Whether the mesh is not expected to serve meanwhile.
    pub fn takes_all(&self) -> bool {
        matches!(self, Fault::Blackout)
    }

    /// The process, if it is about one.
    pub fn process(&self) -> Option<&str> {
        match self {
            Fault::Kill { process }
            | Fault::Wipe { process }
            | Fault::Restart { process }
            | Fault::Pause { process } => Some(process),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn targets() -> Targets {
        let named = |prefix: &str, count: usize| -> Vec<(String, String)> {
            (0..count)
                .map(|n| (format!("{prefix}-{}", n + 1), format!("az{}", n % 3 + 1)))
                .collect()
        };
        Targets {
            zones: (1..=3).map(|n| format!("az{n}")).collect(),
            storage: named("storage", 6),
            nats: named("nats", 3),
            others: named("router", 3),
        }
    }

    fn terms(minutes: u64) -> Terms {
        Terms {
            length_ms: minutes * 60_000,
            cuts: true,
            slow_links: true,
            ..Terms::default()
        }
    }

    fn zones_of(strike: &Strike, targets: &Targets) -> BTreeSet<String> {
        let all = [&targets.storage[..], &targets.nats, &targets.others].concat();
        let faults = strike
            .faults
            .iter()
            .filter_map(|timed| timed.fault.process());
        faults
            .filter_map(|name| all.iter().find(|(process, _)| process == name))
            .map(|(_, zone)| zone.clone())
            .collect()
    }

    #[test]
    fn a_seed_gives_the_same_plan() {
        let plan = draw(7, &targets(), &terms(10));
        assert_eq!(plan, draw(7, &targets(), &terms(10)));
        assert_ne!(plan, draw(8, &targets(), &terms(10)));
    }

    #[test]
    fn a_survivable_plan_breaks_one_zone_at_a_time() {
        for seed in 0..300 {
            let plan = draw(seed, &targets(), &terms(20));
            assert!(plan.len() > 30, "seed {seed}: {}", plan.len());
            for strike in &plan {
                assert!(
                    zones_of(strike, &targets()).len() <= 1,
                    "seed {seed}: {strike:?}"
                );
                assert!(strike.quiet_ms >= 3_000);
                assert!(strike.faults.iter().all(|timed| !timed.fault.takes_all()));
                assert!(strike.faults.is_sorted_by_key(|timed| timed.offset_ms));
                let link = |fault: &Fault| fault.process().is_none();
                assert!(strike.faults.len() == 1 || !strike.faults.iter().any(|t| link(&t.fault)));
            }
        }
    }

    #[test]
    fn a_long_plan_has_every_possible_kind_and_fits() {
        let mut terms = terms(40);
        (terms.beyond, terms.healing) = (true, true);
        let plan = draw(3, &targets(), &terms);
        let kinds: BTreeSet<String> = plan
            .iter()
            .flat_map(|strike| &strike.faults)
            .map(|timed| format!("{:?}", std::mem::discriminant(&timed.fault)))
            .collect();
        assert_eq!(kinds.len(), 11);
        let length: u64 = plan
            .iter()
            .map(|strike| strike.quiet_ms + strike.lasts_ms())
            .sum();
        assert!(length <= terms.length_ms);
    }

    #[test]
    fn what_cannot_be_done_is_not_planned() {
        let mut terms = terms(30);
        (terms.cuts, terms.slow_links) = (false, false);
        for strike in draw(1, &targets(), &terms) {
            for timed in strike.faults {
                assert!(!matches!(
                    timed.fault,
                    Fault::Cut { .. }
                        | Fault::OneWay { .. }
                        | Fault::Isolate { .. }
                        | Fault::SlowLink { .. }
                        | Fault::Wipe { .. }
                ));
            }
        }
    }

    #[test]
    fn the_short_form_fits_its_time_with_all_main_kinds() {
        let mut terms = terms(1);
        (terms.quick, terms.length_ms) = (true, 55_000);
        for seed in 0..100 {
            let plan = draw(seed, &targets(), &terms);
            assert!((5..9).contains(&plan.len()), "seed {seed}: {}", plan.len());
            let first = plan[..5].iter().flat_map(|strike| &strike.faults);
            let kinds: BTreeSet<String> = first
                .map(|timed| format!("{:?}", std::mem::discriminant(&timed.fault)))
                .collect();
            // Nodes and servers of the bus are killed alike.
            assert_eq!(kinds.len(), 4, "seed {seed}");
        }
    }
}
