//! Deliberate bugs, for the simulator to catch. Compiled to nothing without the feature `mutations`, which no service is
//! built with.

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// A leader goes on serving after it has proposed `CommitSplit`.
    ServeWhileCommitting,
    /// A split is committed once a majority of the replicas is ready.
    CommitByQuorum,
    /// A replica that applied `CommitSplit` goes on serving the parent.
    ServeAfterCommit,
    /// A child's cursor is moved in a transaction of its own, after the chunk.
    CursorApart,
    /// The parent's B-tree is flushed before the children's.
    ParentFirst,
    /// A replica notes that the children are installed before they are.
    NoteBeforeInstall,
    /// A child begins before the parent's B-tree notes that it is installed.
    BeginBeforeNote,
    /// The children's B-trees are kept while the parent's is replaced by a full copy.
    KeepAcrossCopy,
    /// One replica leaves some writes out.
    SkipWrite,
    /// The flush at a marker takes what came behind it, too.
    FlushPastMarker,
}

/// All of them.
pub const MUTATIONS: [Mutation; 10] = [
    Mutation::ServeWhileCommitting,
    Mutation::CommitByQuorum,
    Mutation::ServeAfterCommit,
    Mutation::CursorApart,
    Mutation::ParentFirst,
    Mutation::NoteBeforeInstall,
    Mutation::BeginBeforeNote,
    Mutation::KeepAcrossCopy,
    Mutation::SkipWrite,
    Mutation::FlushPastMarker,
];
