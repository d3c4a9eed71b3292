//! The trace of an election that a replica wins: from when it stands in it until it serves. Pure; decides nothing.

use paxos::Standing;
use telemetry::traces::Flow;

/// What is known of the election under way, Unix nanoseconds; 0 = not yet.
#[derive(Debug, Default)]
pub(super) struct Election {
    stood_ns: u64,
    won_ns: u64,
    tries: i64,
}

impl Election {
    /// The replica's standing is this from now on. Gives the flow of an election that ends with that: it serves.
    pub(super) fn changed(&mut self, standing: Standing, now_ns: u64) -> Option<Flow> {
        match standing {
            Standing::Follower => *self = Self::default(),
            Standing::Candidate => {
                if self.tries == 0 {
                    self.stood_ns = now_ns;
                }
                self.tries += 1;
            }
            Standing::Leader { serving: false } => self.won_ns = now_ns,
            Standing::Leader { serving: true } => {
                let Self {
                    stood_ns,
                    won_ns,
                    tries,
                } = std::mem::take(self);
                // One that never stood took over what it had led before.
                if tries > 0 {
                    let won_ns = if won_ns == 0 { now_ns } else { won_ns };
                    let flow = Flow::since("election", stood_ns)
                        .with("evenkeel.election.tries", tries)
                        .step("stand", (stood_ns, won_ns))
                        .step("wait for leases", (won_ns, now_ns));
                    return Some(flow);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVES: Standing = Standing::Leader { serving: true };

    #[test]
    fn only_an_election_that_was_stood_in_and_won_is_a_flow() {
        let mut election = Election::default();
        assert!(election.changed(SERVES, 1).is_none());
        assert!(election.changed(Standing::Candidate, 2).is_none());
        assert!(election.changed(Standing::Follower, 3).is_none());
        assert!(election.changed(SERVES, 4).is_none());
        assert!(election.changed(Standing::Candidate, 5).is_none());
        assert!(election.changed(Standing::Candidate, 6).is_none());
        let won = Standing::Leader { serving: false };
        assert!(election.changed(won, 7).is_none());
        let flow = format!("{:?}", election.changed(SERVES, 9).unwrap());
        for part in [
            "election",
            "start_ns: 5",
            "stand",
            "end_ns: 7",
            "wait for leases",
        ] {
            assert!(flow.contains(part), "{part} is not in {flow}");
        }
        assert!(election.changed(SERVES, 10).is_none());
    }
}
