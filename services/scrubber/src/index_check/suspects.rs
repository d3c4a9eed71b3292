//! What may differ between an index and its table, until it is known. Pure: looks come in, times are numbers. Changes reach an index a moment after their table,
//! so a difference counts only if both sides were seen as they are, twice, with the time between in which an index catches up.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::{EncodedKey, Item};

/// A difference that looks like another one so often is an item that is written all the time: nothing can be said of it.
const CHANGES_MAX: u32 = 10;

/// An item, and the entry that brought it up, if it was one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Suspect {
    /// Its key attributes.
    pub(crate) item: Item,
    /// Its key.
    pub(crate) key: EncodedKey,
    /// Key of the entry that was found; none: the item was.
    pub(crate) entry: Option<EncodedKey>,
}

/// What was seen of an item and its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// The index holds what it must.
    Agrees,
    /// It does not; a digest of both sides.
    Differs(u64),
}

/// Compares what an index holds under a key with what it must hold of an item, there and anywhere (`wanted`).
pub(crate) fn judge(
    held: Option<(&EncodedKey, &Bytes)>,
    wanted: Option<(&EncodedKey, &Bytes)>,
) -> Look {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    if held == wanted {
        return Look::Agrees;
    }
    let mut digest = DefaultHasher::new();
    (held, wanted).hash(&mut digest);
    Look::Differs(digest.finish())
}

struct Watched {
    suspect: Suspect,
    seen: u64,
    since_ms: u64,
    looked_ms: u64,
    changes: u32,
}

/// By key of the item and of the entry.
type Name = (EncodedKey, Option<EncodedKey>);

/// All that are under suspicion, and those that are no longer.
pub(crate) struct Suspects {
    settle_ms: u64,
    waiting: BTreeMap<Name, Watched>,
    /// Items that differ, with their key attributes.
    settled: BTreeMap<EncodedKey, Item>,
    moving: u64,
}

impl Suspects {
    /// Differences count if nothing about them changes for so long.
    pub(crate) fn new(settle_ms: u64) -> Self {
        Self {
            settle_ms,
            waiting: BTreeMap::new(),
            settled: BTreeMap::new(),
            moving: 0,
        }
    }

    /// What a first look found.
    pub(crate) fn first(&mut self, now_ms: u64, suspect: Suspect, look: Look) {
        let Look::Differs(seen) = look else { return };
        let name = (suspect.key.clone(), suspect.entry.clone());
        let watched = Watched {
            suspect,
            seen,
            since_ms: now_ms,
            looked_ms: now_ms,
            changes: 0,
        };
        self.waiting.insert(name, watched);
    }

    /// Those that are to be looked at again.
    pub(crate) fn due(&self, now_ms: u64) -> Vec<Suspect> {
        let due = |w: &&Watched| now_ms.saturating_sub(w.looked_ms) >= self.settle_ms;
        let waiting = self.waiting.values().filter(due);
        waiting.map(|watched| watched.suspect.clone()).collect()
    }

    /// What another look found.
    pub(crate) fn again(&mut self, now_ms: u64, suspect: &Suspect, look: Look) {
        let name = (suspect.key.clone(), suspect.entry.clone());
        let Some(watched) = self.waiting.get_mut(&name) else {
            return;
        };
        watched.looked_ms = now_ms;
        match look {
            Look::Agrees => drop(self.waiting.remove(&name)),
            Look::Differs(seen) if seen == watched.seen => {
                if now_ms.saturating_sub(watched.since_ms) >= self.settle_ms {
                    self.waiting.remove(&name);
                    self.settled
                        .insert(suspect.key.clone(), suspect.item.clone());
                }
            }
            Look::Differs(seen) => {
                (watched.seen, watched.since_ms) = (seen, now_ms);
                watched.changes += 1;
                if watched.changes >= CHANGES_MAX {
                    self.waiting.remove(&name);
                    self.moving += 1;
                }
            }
        }
    }

    /// Under suspicion.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Items that differ, with their key attributes.
    pub(crate) fn settled(&self) -> &BTreeMap<EncodedKey, Item> {
        &self.settled
    }

    /// Items of which nothing could be said: they are written all the time.
    pub(crate) fn moving(&self) -> u64 {
        self.moving
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE_MS: u64 = 1_000;

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn suspect(key: &'static str, entry: Option<&'static str>) -> Suspect {
        Suspect {
            item: Item::default(),
            key: bytes(key),
            entry: entry.map(bytes),
        }
    }

    fn differs(seen: u64) -> Look {
        Look::Differs(seen)
    }

    #[test]
    fn what_agrees_is_no_suspect_and_two_sights_are_told_apart() {
        let (key, other) = (bytes("k"), bytes("l"));
        let (one, two) = (bytes("1"), bytes("2"));
        assert_eq!(judge(None, None), Look::Agrees);
        assert_eq!(judge(Some((&key, &one)), Some((&key, &one))), Look::Agrees);
        let looks = [
            judge(Some((&key, &one)), None),
            judge(None, Some((&key, &one))),
            judge(Some((&key, &one)), Some((&key, &two))),
            judge(Some((&key, &one)), Some((&other, &one))),
        ];
        for (at, look) in looks.iter().enumerate() {
            assert_ne!(*look, Look::Agrees);
            assert!(!looks[..at].contains(look), "{at}");
        }
        assert_eq!(judge(None, Some((&key, &one))), looks[1]);
        let mut suspects = Suspects::new(SETTLE_MS);
        suspects.first(0, suspect("a", None), Look::Agrees);
        assert_eq!(suspects.waiting(), 0);
    }

    #[test]
    fn a_difference_counts_once_it_has_stood_still() {
        let mut suspects = Suspects::new(SETTLE_MS);
        let it = suspect("a", None);
        suspects.first(0, it.clone(), differs(1));
        assert_eq!(suspects.due(SETTLE_MS - 1), []);
        assert_eq!(suspects.due(SETTLE_MS), vec![it.clone()]);
        suspects.again(SETTLE_MS, &it, differs(1));
        assert_eq!((suspects.waiting(), suspects.settled().len()), (0, 1));
        // The same item's stale entry is no second one.
        let entry = suspect("a", Some("e"));
        suspects.first(2_000, entry.clone(), differs(3));
        suspects.again(3_000, &entry, differs(3));
        assert_eq!((suspects.waiting(), suspects.settled().len()), (0, 1));
    }

    #[test]
    fn what_catches_up_or_goes_on_moving_is_no_difference() {
        let mut suspects = Suspects::new(SETTLE_MS);
        let (late, hot) = (suspect("late", None), suspect("hot", None));
        suspects.first(0, late.clone(), differs(1));
        suspects.first(0, hot.clone(), differs(0));
        // It differs still, but otherwise: the index is at work.
        suspects.again(1_000, &late, differs(2));
        assert_eq!(suspects.settled().len(), 0);
        suspects.again(2_000, &late, Look::Agrees);
        for look in 1..=u64::from(CHANGES_MAX) {
            assert_eq!((suspects.waiting(), suspects.moving()), (1, 0), "{look}");
            suspects.again(look * 1_000, &hot, differs(look));
        }
        assert_eq!((suspects.waiting(), suspects.moving()), (0, 1));
        assert_eq!(suspects.settled().len(), 0);
    }
}
