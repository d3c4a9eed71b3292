//! The network between the nodes: what becomes of a message. Owns cuts and chances; carries nothing.

use std::collections::BTreeSet;

use paxos::NodeId;

use crate::rng::Rng;
use crate::scenario::Scenario;

/// State of the network.
#[derive(Debug)]
pub struct Network {
    /// Directed links that lose everything.
    cut: BTreeSet<(NodeId, NodeId)>,
    loss: u64,
    duplication: u64,
    straggling: u64,
    delay_us: (u64, u64),
}

impl Network {
    /// The scenario's network, uncut.
    pub fn new(scenario: &Scenario) -> Network {
        Network {
            cut: BTreeSet::new(),
            loss: scenario.loss,
            duplication: scenario.duplication,
            straggling: scenario.straggling,
            delay_us: scenario.delay_us,
        }
    }

    /// Delays, in microseconds, after which copies of a message arrive: none, one or two.
    pub fn fate(&self, rng: &mut Rng, from: NodeId, to: NodeId) -> (Option<u64>, Option<u64>) {
        if self.is_cut(from, to) || rng.chance(self.loss) {
            return (None, None);
        }
        let twice = rng.chance(self.duplication);
        (Some(self.delay(rng)), twice.then(|| self.delay(rng)))
    }

    /// One delay.
    pub fn delay(&self, rng: &mut Rng) -> u64 {
        if rng.chance(self.straggling) {
            return rng.between(10_000, 4_000_000);
        }
        rng.between(self.delay_us.0, self.delay_us.1)
    }

    /// Whether nothing gets from one node to the other.
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.contains(&(from, to))
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    /// Cuts all links between two sides.
    pub fn split(&mut self, side: &[NodeId], other: &[NodeId]) {
        for a in side {
            for b in other.iter().filter(|b| *b != a) {
                self.cut(*a, *b);
                self.cut(*b, *a);
            }
        }
    }

    /// Ends all cuts.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// From now on nothing is lost, doubled or late.
    pub fn behave(&mut self) {
        self.heal();
        self.loss = 0;
        self.duplication = 0;
        self.straggling = 0;
    }
}
