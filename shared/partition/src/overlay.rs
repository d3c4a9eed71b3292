//! The overlay: applied writes that are not in the B-tree yet. Two layers: the active one, which takes writes, and the
//! sealed one, which is being flushed and is dropped once the B-tree holds it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use model::KeyRange;
use paxos::Index;

/// Item by key; none = removed.
pub(crate) type Layer = BTreeMap<Bytes, Option<Bytes>>;

/// What an entry costs beside its key and item: the tree's node, two `Bytes` handles, and the command's head.
const ENTRY_OVERHEAD_BYTES: usize = 128;

#[derive(Debug, Default)]
pub(crate) struct Overlay {
    active: Layer,
    active_bytes: usize,
    sealed: Option<Sealed>,
}

#[derive(Debug)]
struct Sealed {
    items: Arc<Layer>,
    bytes: usize,
    /// Applied position that the layer leads to.
    position: Index,
}

fn weight(key: &Bytes, item: &Option<Bytes>) -> usize {
    ENTRY_OVERHEAD_BYTES + key.len() + item.as_ref().map_or(0, Bytes::len)
}

impl Overlay {
    /// The newest item under `key`; the outer option says whether the overlay knows it at all.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        self.active
            .get(key)
            .or_else(|| self.sealed.as_ref()?.items.get(key))
    }

    pub(crate) fn put(&mut self, key: Bytes, item: Option<Bytes>) {
        self.active_bytes += weight(&key, &item);
        // The old key is taken out first: it pins the old command's buffer.
        if let Some((old_key, old_item)) = self.active.remove_entry(&key) {
            self.active_bytes -= weight(&old_key, &old_item);
        }
        self.active.insert(key, item);
    }

    /// Bytes held by both layers.
    pub(crate) fn bytes(&self) -> usize {
        self.active_bytes + self.sealed.as_ref().map_or(0, |sealed| sealed.bytes)
    }

    /// Bytes held by the active layer.
    pub(crate) fn active_bytes(&self) -> usize {
        self.active_bytes
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// Turns the active layer, which leads to `position`, into the sealed one. There must be no sealed layer.
    pub(crate) fn seal(&mut self, position: Index) -> Arc<Layer> {
        let items = Arc::new(std::mem::take(&mut self.active));
        let bytes = std::mem::take(&mut self.active_bytes);
        self.sealed = Some(Sealed {
            items: items.clone(),
            bytes,
            position,
        });
        items
    }

    /// Makes the sealed layer a part of the active one again.
    pub(crate) fn unseal(&mut self) {
        let Some(sealed) = self.sealed.take() else {
            return;
        };
        for (key, item) in sealed.items.iter() {
            if !self.active.contains_key(key) {
                self.active_bytes += weight(key, item);
                self.active.insert(key.clone(), item.clone());
            }
        }
    }

    /// Drops the sealed layer if the B-tree now holds it.
    pub(crate) fn drop_sealed(&mut self, position: Index) -> bool {
        let held = self
            .sealed
            .as_ref()
            .is_some_and(|sealed| sealed.position <= position);
        if held {
            self.sealed = None;
        }
        held
    }

    /// Both layers' entries within `range` (which must not be empty), ascending or descending, the active layer hiding the sealed.
    pub(crate) fn range<'a>(
        &'a self,
        range: &KeyRange,
        reverse: bool,
    ) -> impl Iterator<Item = (&'a Bytes, &'a Option<Bytes>)> + use<'a> {
        let mut active = layer_range(&self.active, range, reverse).peekable();
        let sealed = self
            .sealed
            .as_ref()
            .map(|sealed| layer_range(&sealed.items, range, reverse));
        let mut sealed = sealed.into_iter().flatten().peekable();
        std::iter::from_fn(move || {
            let order = match (active.peek(), sealed.peek()) {
                (Some((a, _)), Some((b, _))) if reverse => b.cmp(a),
                (Some((a, _)), Some((b, _))) => a.cmp(b),
                (_, None) => return active.next(),
                (None, _) => return sealed.next(),
            };
            if order.is_eq() {
                sealed.next();
            }
            if order.is_le() {
                active.next()
            } else {
                sealed.next()
            }
        })
    }
}

fn layer_range<'a>(
    layer: &'a Layer,
    range: &KeyRange,
    reverse: bool,
) -> impl Iterator<Item = (&'a Bytes, &'a Option<Bytes>)> + use<'a> {
    let end = if range.end.is_empty() {
        Bound::Unbounded
    } else {
        Bound::Excluded(&range.end[..])
    };
    let mut entries = layer.range::<[u8], _>((Bound::Included(&range.start[..]), end));
    std::iter::from_fn(move || {
        if reverse {
            entries.next_back()
        } else {
            entries.next()
        }
    })
}
