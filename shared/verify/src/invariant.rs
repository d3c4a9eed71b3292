//! What must hold in every state, by name.

/// An invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Invariant {
    /// In one ballot one node leads, once.
    OneLeaderABallot,
    /// A promise only rises, also across restarts, and is durable before anybody hears of it.
    Promises,
    /// Acknowledged is only the promised ballot's, and only what is durable.
    Acknowledgements,
    /// Two logs that hold the same ballot at an index are equal up to there.
    LogsMatch,
    /// What is committed at an index is so for ever.
    CommittedNeverChanges,
    /// Who starts to lead has, durably, all that lower ballots committed.
    LeaderCompleteness,
    /// What is committed is durable on a quorum of every active configuration.
    CommittedIsDurable,
    /// Applied is at most what is known to be committed and durable.
    AppliedIsDurable,
    /// Log replicas and learners never lead or serve.
    OnlyStorageMembersLead,
    /// At most one replica believes that it may answer strong reads.
    OneServes,
    /// No log holds two configurations that are not committed.
    OneChangeAtATime,
    /// Messages to another incarnation change and cause nothing.
    StaleMovesNothing,
    /// A replica goes only if the committed configuration does not name it.
    RetiredIfRemoved,
    /// No replica sees a message that breaks the protocol, or asks the disk for nonsense.
    NoFaults,
}

/// All of them.
pub const INVARIANTS: [Invariant; 14] = [
    Invariant::OneLeaderABallot,
    Invariant::Promises,
    Invariant::Acknowledgements,
    Invariant::LogsMatch,
    Invariant::CommittedNeverChanges,
    Invariant::LeaderCompleteness,
    Invariant::CommittedIsDurable,
    Invariant::AppliedIsDurable,
    Invariant::OnlyStorageMembersLead,
    Invariant::OneServes,
    Invariant::OneChangeAtATime,
    Invariant::StaleMovesNothing,
    Invariant::RetiredIfRemoved,
    Invariant::NoFaults,
];

impl Invariant {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Invariant::OneLeaderABallot => "one leader a ballot",
            Invariant::Promises => "promises are monotone, durable before they are made",
            Invariant::Acknowledgements => {
                "accept only at the promised ballot, acknowledge only what is durable"
            }
            Invariant::LogsMatch => "logs match",
            Invariant::CommittedNeverChanges => "a committed index never changes",
            Invariant::LeaderCompleteness => "a new leader holds every committed entry",
            Invariant::CommittedIsDurable => {
                "committed means durable on a quorum of every active configuration"
            }
            Invariant::AppliedIsDurable => {
                "applied is at most what is known to be committed and durable"
            }
            Invariant::OnlyStorageMembersLead => "log replicas and learners never lead or serve",
            Invariant::OneServes => "at most one lease holder",
            Invariant::OneChangeAtATime => "at most one uncommitted configuration",
            Invariant::StaleMovesNothing => "stale incarnations move nothing",
            Invariant::RetiredIfRemoved => "only removed replicas retire",
            Invariant::NoFaults => "nobody breaks the protocol",
        }
    }
}

/// A broken invariant, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// How.
    pub detail: String,
}

/// Result of a check.
pub type Check = Result<(), Violation>;

/// A check's bad result.
pub fn broken(invariant: Invariant, detail: String) -> Check {
    Err(Violation { invariant, detail })
}

/// Something that must be reachable, or the model shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sight {
    /// An entry is committed.
    Committed,
    /// A third ballot has a leader.
    ThreeBallots,
    /// A lagging storage replica leads with a committed suffix that it had to fetch from the log replica.
    AdoptedFromLogReplica,
    /// Entries are cut off a log.
    Truncated,
    /// A change is completed by another leader than the one that began it.
    ChangeCompletedByAnother,
    /// A change is complete.
    Changed,
    /// A second leader serves, after the first.
    SecondServes,
    /// A transfer gave a new leader the right to serve before the old lease was over.
    ServedByTransfer,
    /// A replica was told to go.
    Retired,
    /// A full copy was installed.
    Copied,
}

/// All of them.
pub const SIGHTS: [Sight; 10] = [
    Sight::Committed,
    Sight::ThreeBallots,
    Sight::AdoptedFromLogReplica,
    Sight::Truncated,
    Sight::ChangeCompletedByAnother,
    Sight::Changed,
    Sight::SecondServes,
    Sight::ServedByTransfer,
    Sight::Retired,
    Sight::Copied,
];

impl Sight {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Sight::Committed => "an entry is committed",
            Sight::ThreeBallots => "three ballots have had a leader",
            Sight::AdoptedFromLogReplica => {
                "a lagging storage replica leads with a committed suffix that only the log replica held"
            }
            Sight::Truncated => "a log is cut where the leader's differs",
            Sight::ChangeCompletedByAnother => "a change is completed by another leader",
            Sight::Changed => "a change is complete",
            Sight::SecondServes => "a second leader serves",
            Sight::ServedByTransfer => "a successor serves before the old lease would have run out",
            Sight::Retired => "a removed replica retires",
            Sight::Copied => "a full copy is installed",
        }
    }

    /// Its bit in `State::seen`.
    pub fn bit(self) -> u16 {
        1 << self as u16
    }
}
