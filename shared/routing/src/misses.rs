//! Misses under way: of the requests that lack a route of the same table at the same time, one *leads* and asks two memds nodes; the others ask
//! one each, and take what the leader learned if that comes first. So every request sends its one lookup, hit or miss, and losing all
//! caches at once costs one more lookup a partition, not one more a request. Owns who leads; never asks anyone.

use std::collections::HashMap;
use std::sync::Arc;

use model::TableId;
use parking_lot::Mutex;
use protocol::directory::TableRef;
use tokio::sync::Notify;

/// What is missing: a table by its name, or partitions of a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Missing {
    Name(String),
    PartitionOf(TableId),
}

/// All misses of a client. At most as many entries as there are requests under way.
#[derive(Debug, Default)]
pub(crate) struct Misses {
    leading: Mutex<HashMap<Missing, Arc<Notify>>>,
}

/// The part that a miss plays.
pub(crate) enum Part {
    /// It asks two nodes, and tells the others when it is dropped.
    Lead(Leading),
    /// It asks one, and hears when the leader is done.
    Follow(Arc<Notify>),
}

/// Leads until dropped.
pub(crate) struct Leading {
    misses: Arc<Misses>,
    missing: Missing,
}

impl Misses {
    /// The part of a miss of this table.
    pub(crate) fn part(self: &Arc<Self>, table: &TableRef) -> Part {
        let missing = match table {
            TableRef::Name(name) => Missing::Name(name.clone()),
            TableRef::Id(id) => Missing::PartitionOf(*id),
        };
        let mut leading = self.leading.lock();
        if let Some(done) = leading.get(&missing) {
            return Part::Follow(done.clone());
        }
        leading.insert(missing.clone(), Arc::default());
        Part::Lead(Leading {
            misses: self.clone(),
            missing,
        })
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        if let Some(done) = self.misses.leading.lock().remove(&self.missing) {
            done.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_leads_a_table_and_the_next_one_after_it() {
        let misses = Arc::new(Misses::default());
        let films = TableRef::Name("films".into());
        let first = misses.part(&films);
        assert!(matches!(first, Part::Lead(_)));
        assert!(matches!(misses.part(&films), Part::Follow(_)));
        assert!(matches!(
            misses.part(&TableRef::Name("music".into())),
            Part::Lead(_)
        ));
        assert!(matches!(
            misses.part(&TableRef::Id(TableId(3))),
            Part::Lead(_)
        ));
        drop(first);
        assert!(matches!(misses.part(&films), Part::Lead(_)));
        assert!(
            misses.leading.lock().is_empty(),
            "whoever is gone leads nothing"
        );
    }
}
