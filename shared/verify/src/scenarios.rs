//! The models: small worlds that each bound different things.

use crate::invariant::Sight;
use crate::scenario::{Before, Bounds, Scenario, Target, log, storage};

/// A scenario with nothing in it but its members.
fn plain(name: &'static str, about: &'static str) -> Scenario {
    Scenario {
        name,
        about,
        members: vec![storage(1), storage(2), log(3)],
        joining: Vec::new(),
        spare: Vec::new(),
        targets: Vec::new(),
        before: Vec::new(),
        campaigners: Vec::new(),
        crashers: Vec::new(),
        clocks: None,
        sync_at_once: false,
        torn: false,
        truncate: false,
        notices: false,
        bounds: Bounds::default(),
        expects: Vec::new(),
        mutations: Vec::new(),
    }
}

/// All models, in the order in which they are run.
pub fn all() -> Vec<Scenario> {
    vec![disks(), ballots()]
}

/// The model of this name.
pub fn named(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}

fn disks() -> Scenario {
    Scenario {
        before: vec![Before::Elect(1)],
        torn: true,
        bounds: Bounds {
            campaigns: 1,
            proposals: 1,
            crashes: 1,
            ..Bounds::default()
        },
        expects: vec![Sight::Committed],
        ..plain(
            "disks",
            "a leader, a successor, a crash anywhere between writes and syncs",
        )
    }
}

fn ballots() -> Scenario {
    Scenario {
        before: vec![Before::Elect(1)],
        sync_at_once: true,
        bounds: Bounds {
            campaigns: 2,
            proposals: 1,
            ..Bounds::default()
        },
        expects: vec![
            Sight::Committed,
            Sight::ThreeBallots,
            Sight::AdoptedFromLogReplica,
            Sight::Truncated,
        ],
        ..plain(
            "ballots",
            "three ballots, three entries, a log replica that alone holds what is committed",
        )
    }
}
