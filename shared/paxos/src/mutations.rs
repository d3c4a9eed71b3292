//! Deliberate bugs, for tests of the tests: the simulator must catch each. Compiled to nothing without the feature
//! `mutations`.

/// A bug that can be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    /// A follower acknowledges entries that are not durable yet (ZooKeeper 4646).
    AckBeforeFsync,
    /// A promise leaves before it is durable.
    PromiseBeforeFsync,
    /// A leader commits an entry of an older ballot by counting copies (LogCabin 44).
    CountOldBallot,
    /// A new leader serves before the old leader's lease ran out.
    ServeBeforeLease,
    /// A leader that handed over goes on serving reads under its old lease (openraft 1749).
    LeaseOutlivesTransfer,
    /// A follower accepts entries below its promise (EPaxos: promised and accepted share a variable).
    AcceptBelowPromise,
    /// A candidate leads with its own log, without adopting the best one.
    SkipAdoption,
    /// A candidate that adopts a log with another configuration does not ask that one's members (its own find).
    SkipAdoptedQuorum,
    /// A message from or to another disk than the member's is taken (raft-rs 571).
    TrustStaleIncarnation,
    /// A restarted member forgets that it may have promised a lease.
    ForgetLeaseOnRestart,
}

/// Every mutation.
pub const MUTATIONS: [Mutation; 10] = [
    Mutation::AckBeforeFsync,
    Mutation::PromiseBeforeFsync,
    Mutation::CountOldBallot,
    Mutation::ServeBeforeLease,
    Mutation::LeaseOutlivesTransfer,
    Mutation::AcceptBelowPromise,
    Mutation::SkipAdoption,
    Mutation::SkipAdoptedQuorum,
    Mutation::TrustStaleIncarnation,
    Mutation::ForgetLeaseOnRestart,
];
