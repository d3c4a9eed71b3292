//! How a leader counts what local indexes hold: in rounds over its items, at a bounded rate. Owns when; `partition` says what. Nothing of it is
//! replicated: a new leader counts anew.

use model::EncodedKey;
use partition::PartitionError;
use paxos::{Index, Millis};
use protocol::directory::IndexCount;

use super::Group;
use crate::env::Env;

/// Rounds take at most one part in so many of the time.
const PAUSE_FACTOR: u64 = 9;

/// Where a leader is in its round, and what the last one found.
#[derive(Default)]
pub(super) struct IndexCounts {
    /// When it goes on.
    at: Millis,
    /// When the round began, and at which position of the log.
    began: (Millis, Index),
    /// The last key that was looked at in this round; none: a round begins.
    cursor: Option<EncodedKey>,
    counts: Vec<IndexCount>,
    /// What the last whole round found.
    pub(super) found: Option<Vec<IndexCount>>,
}

impl Group {
    /// Looks at the next items, if that is due.
    pub(super) fn tick_index_counts(&mut self, env: &mut Env) -> Result<(), PartitionError> {
        let leads = self.leads();
        let settings = &env.node.settings.index_counts;
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        let state = store.partition.state();
        let round = &mut store.index_counts;
        if round.at > env.now || !leads || !state.table.has_local_indexes() {
            return Ok(());
        }
        let applied = state.applied;
        if round.cursor.is_none() {
            if round.found.is_some() && round.began.1 == applied {
                round.at = env.now.plus(settings.round_every_ms);
                return Ok(());
            }
            round.began = (env.now, applied);
            round.counts.clear();
        }
        let after = round.cursor.take();
        round.cursor = store.partition.count_indexes(
            &*store.tree,
            after,
            settings.items_per_turn,
            &mut round.counts,
        )?;
        let pause = match &round.cursor {
            Some(_) => settings.turn_every_ms,
            None => {
                round.found = Some(std::mem::take(&mut round.counts));
                let took_ms = env.now.since(round.began.0);
                settings.round_every_ms.max(took_ms * PAUSE_FACTOR)
            }
        };
        round.at = env.now.plus(pause);
        Ok(())
    }
}
