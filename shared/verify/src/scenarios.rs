//! The models: small worlds that each bound different things.

use crate::invariant::Sight;
use crate::scenario::{Before, Bounds, Scenario, Target, log, storage};
use paxos::Member;

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
        late: false,
        sync_at_once: false,
        slow_disks: Vec::new(),
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
    vec![
        disks(),
        ballots(),
        crashes(),
        grow(),
        shrink(),
        changes(),
        rejoin(),
        recovery(),
        copies(),
        leases(),
        terms(),
        successions(),
        restarts(),
        transfers(),
        releases(),
    ]
}

/// The model of this name.
pub fn named(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}

fn target(members: &[Member], learners: &[Member]) -> Target {
    Target {
        members: members.to_vec(),
        learners: learners.to_vec(),
    }
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
            "a leader and a successor; syncs are events, a crash comes anywhere between them and may tear a write",
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
            "three ballots; a log replica that alone holds what is committed",
        )
    }
}

fn crashes() -> Scenario {
    Scenario {
        sync_at_once: true,
        bounds: Bounds {
            campaigns: 2,
            crashes: 1,
            ..Bounds::default()
        },
        expects: vec![Sight::Committed, Sight::Truncated],
        ..plain(
            "crashes",
            "from an empty group on: two candidates, who may take equal rounds, and a crash",
        )
    }
}

/// A log replica makes room for a storage replica that has caught up as a learner.
fn grow() -> Scenario {
    Scenario {
        joining: vec![storage(4)],
        targets: vec![
            target(&[storage(1), storage(2), log(3)], &[storage(4)]),
            target(&[storage(1), storage(2), storage(4)], &[]),
        ],
        before: vec![Before::Elect(1), Before::Change(1, 0)],
        sync_at_once: true,
        campaigners: vec![2],
        bounds: Bounds {
            campaigns: 1,
            changes: 1,
            ..Bounds::default()
        },
        expects: vec![Sight::Changed, Sight::ChangeCompletedByAnother],
        ..plain(
            "grow",
            "{S1 S2 L3} learning S4 becomes {S1 S2 S4}, while another leader takes over",
        )
    }
}

/// A silent storage replica becomes a learner, a log replica takes its vote.
fn shrink() -> Scenario {
    Scenario {
        members: vec![storage(1), storage(2), storage(3)],
        joining: vec![log(4)],
        targets: vec![target(&[storage(1), storage(2), log(4)], &[storage(3)])],
        before: vec![Before::Elect(1)],
        sync_at_once: true,
        campaigners: vec![2, 3],
        bounds: Bounds {
            campaigns: 1,
            changes: 1,
            ..Bounds::default()
        },
        expects: vec![Sight::Changed, Sight::ChangeCompletedByAnother],
        ..plain(
            "shrink",
            "{S1 S2 S3} becomes {S1 S2 L4} learning S3, while another leader takes over",
        )
    }
}

fn changes() -> Scenario {
    Scenario {
        joining: vec![log(4), log(5)],
        targets: vec![
            target(&[storage(1), log(4), log(5)], &[]),
            target(&[storage(1), storage(2), log(4)], &[]),
        ],
        before: vec![Before::Elect(1)],
        sync_at_once: true,
        campaigners: vec![2],
        bounds: Bounds {
            campaigns: 1,
            changes: 1,
            ..Bounds::default()
        },
        expects: vec![Sight::Changed, Sight::Retired],
        ..plain(
            "changes",
            "two of three members are replaced at once, by a leader that another one outbids",
        )
    }
}

/// A log replica is replaced while leaders change and one member crashes.
fn recovery() -> Scenario {
    Scenario {
        joining: vec![log(4)],
        targets: vec![target(&[storage(1), storage(2), log(4)], &[])],
        before: vec![Before::Elect(1)],
        campaigners: vec![2],
        crashers: vec![3],
        slow_disks: vec![3],
        bounds: Bounds {
            campaigns: 2,
            changes: 1,
            crashes: 1,
            ..Bounds::default()
        },
        expects: vec![Sight::Changed, Sight::ThreeBallots],
        ..plain(
            "recovery",
            "{S1 S2 L3} becomes {S1 S2 L4}, another leader takes over, twice, and the log replica crashes between syncs",
        )
    }
}

fn rejoin() -> Scenario {
    let again = Member {
        incarnation: 301,
        ..log(3)
    };
    Scenario {
        spare: vec![again],
        targets: vec![target(&[storage(1), storage(2), again], &[])],
        before: vec![Before::Elect(1)],
        sync_at_once: true,
        campaigners: vec![2],
        bounds: Bounds {
            campaigns: 1,
            proposals: 1,
            changes: 1,
            losses: 1,
            ..Bounds::default()
        },
        expects: vec![Sight::Committed, Sight::Changed],
        ..plain(
            "rejoin",
            "a log replica's disk is lost, another one on its node takes its place; old messages keep arriving",
        )
    }
}

fn copies() -> Scenario {
    Scenario {
        before: vec![
            Before::Elect(1),
            Before::Deaf(2),
            Before::Propose(1),
            Before::Propose(1),
        ],
        sync_at_once: true,
        truncate: true,
        notices: true,
        bounds: Bounds {
            campaigns: 1,
            crashes: 1,
            copies: 1,
            ..Bounds::default()
        },
        expects: vec![Sight::Copied],
        ..plain(
            "copies",
            "logs are truncated as early as possible; one that lags needs a copy",
        )
    }
}

/// A slow clock where the lease is believed in, fast ones where it is promised.
const DRIFT: [u64; 3] = [19, 21, 21];

fn leases() -> Scenario {
    Scenario {
        before: vec![Before::Elect(1)],
        clocks: Some(DRIFT.to_vec()),
        sync_at_once: true,
        campaigners: vec![2],
        bounds: Bounds {
            campaigns: 1,
            ticks: 3,
            ..Bounds::default()
        },
        expects: vec![Sight::SecondServes],
        ..plain(
            "leases",
            "the leader's clock is slow, the others' are fast; another one takes over",
        )
    }
}

fn terms() -> Scenario {
    Scenario {
        before: vec![
            Before::Elect(1),
            Before::Deaf(2),
            Before::Tick,
            Before::Wake(1),
            Before::Hears(2),
        ],
        clocks: Some(DRIFT.to_vec()),
        sync_at_once: true,
        campaigners: vec![2],
        bounds: Bounds {
            campaigns: 2,
            ticks: 3,
            ..Bounds::default()
        },
        expects: vec![Sight::SecondServes],
        ..plain(
            "terms",
            "only the log replica renewed the leader's lease; another one takes over, twice",
        )
    }
}

/// Who granted the first leader's lease leaves the group while it runs.
fn successions() -> Scenario {
    Scenario {
        joining: vec![log(4)],
        targets: vec![target(&[storage(2), log(4)], &[])],
        before: vec![
            Before::Elect(1),
            Before::Deaf(2),
            Before::Tick,
            Before::Tick,
            Before::Wake(1),
            Before::Hears(2),
            Before::Deaf(1),
            Before::Elect(2),
            Before::Hears(1),
            Before::Tick,
        ],
        clocks: Some(DRIFT.to_vec()),
        sync_at_once: true,
        campaigners: vec![2],
        bounds: Bounds {
            campaigns: 1,
            changes: 1,
            ticks: 5,
            ..Bounds::default()
        },
        expects: vec![Sight::SecondServes],
        ..plain(
            "successions",
            "only the log replica renewed the lease; another one leads, changes the members, and is elected again by the new ones",
        )
    }
}

fn restarts() -> Scenario {
    Scenario {
        before: vec![
            Before::Elect(1),
            Before::Deaf(2),
            Before::Tick,
            Before::Wake(1),
            Before::Hears(2),
        ],
        crashers: vec![3],
        clocks: Some(DRIFT.to_vec()),
        sync_at_once: true,
        campaigners: vec![2],
        bounds: Bounds {
            campaigns: 1,
            crashes: 1,
            ticks: 3,
            ..Bounds::default()
        },
        expects: vec![Sight::SecondServes],
        ..plain(
            "restarts",
            "only the log replica renewed the lease, and may forget that it did; another one takes over",
        )
    }
}

fn transfers() -> Scenario {
    Scenario {
        // What the successor's own promise says of leases: one of unknown holder may run.
        before: vec![Before::Elect(1), Before::Restart(2)],
        clocks: Some(DRIFT.to_vec()),
        sync_at_once: true,
        campaigners: vec![3],
        bounds: Bounds {
            transfers: 1,
            ticks: 2,
            ..Bounds::default()
        },
        expects: vec![Sight::SecondServes, Sight::ServedByTransfer],
        ..plain(
            "transfers",
            "leadership is handed over to a member that has just restarted: the lease ends before the successor serves",
        )
    }
}

/// Node 1 outbids the ballot in which node 3 led, and node 2 a ballot of node 1.
fn releases() -> Scenario {
    Scenario {
        members: vec![storage(1), storage(2), storage(3)],
        before: vec![Before::Elect(3)],
        crashers: vec![3],
        clocks: Some(DRIFT.to_vec()),
        sync_at_once: true,
        campaigners: vec![1],
        bounds: Bounds {
            campaigns: 1,
            transfers: 1,
            crashes: 1,
            ..Bounds::default()
        },
        expects: vec![Sight::SecondServes],
        ..plain(
            "releases",
            "leadership is handed over while another one takes it, and who granted that one's lease forgets it",
        )
    }
}
