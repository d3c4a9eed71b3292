//! The overlay: applied writes that are not in the B-tree yet. Up to three layers: the active one, which takes writes; the cut one,
//! which ends at a marker and waits for its flush; and the sealed one, which is being flushed and is dropped once the B-tree holds it.

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
    /// With its bytes.
    cut: Option<(Layer, usize)>,
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
            .or_else(|| self.cut.as_ref()?.0.get(key))
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

    /// Bytes held by all layers.
    pub(crate) fn bytes(&self) -> usize {
        self.unsealed_bytes() + self.sealed.as_ref().map_or(0, |sealed| sealed.bytes)
    }

    /// Bytes that no flush has taken.
    pub(crate) fn unsealed_bytes(&self) -> usize {
        self.active_bytes + self.cut.as_ref().map_or(0, |(_, bytes)| *bytes)
    }

    /// Ends the active layer here: the next flush takes what is in it by now. There must be no cut layer.
    pub(crate) fn cut(&mut self) {
        let items = std::mem::take(&mut self.active);
        self.cut = Some((items, std::mem::take(&mut self.active_bytes)));
    }

    /// Makes the cut layer a part of the active one again.
    pub(crate) fn uncut(&mut self) {
        if let Some((layer, _)) = self.cut.take() {
            self.put_under(layer);
        }
    }

    /// Older changes than those of the active layer.
    fn put_under(&mut self, layer: impl IntoIterator<Item = (Bytes, Option<Bytes>)>) {
        for (key, item) in layer {
            if !self.active.contains_key(&key) {
                self.active_bytes += weight(&key, &item);
                self.active.insert(key, item);
            }
        }
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }

    /// Turns the cut layer, or else the active one, which leads to `position`, into the sealed one. There must be no sealed layer.
    pub(crate) fn seal(&mut self, position: Index) -> Arc<Layer> {
        if self.cut.is_none() {
            self.cut();
        }
        let (items, bytes) = self.cut.take().unwrap_or_default();
        let items = Arc::new(items);
        self.sealed = Some(Sealed {
            items: items.clone(),
            bytes,
            position,
        });
        items
    }

    /// Makes the sealed layer a part of the active one again. There must be no cut layer.
    pub(crate) fn unseal(&mut self) {
        if let Some(sealed) = self.sealed.take() {
            let items = sealed.items.iter();
            self.put_under(items.map(|(key, item)| (key.clone(), item.clone())));
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

    /// All layers' entries within `range` (which must not be empty), ascending or descending, newer layers hiding older ones.
    pub(crate) fn range<'a>(
        &'a self,
        range: &KeyRange,
        reverse: bool,
    ) -> impl Iterator<Item = (&'a Bytes, &'a Option<Bytes>)> + use<'a> {
        let active = layer_range(&self.active, range, reverse);
        let cut = self.cut.as_ref();
        let cut = cut.map(|(layer, _)| layer_range(layer, range, reverse));
        let sealed = self
            .sealed
            .as_ref()
            .map(|sealed| layer_range(&sealed.items, range, reverse));
        let newer = merged(active, cut.into_iter().flatten(), reverse);
        merged(newer, sealed.into_iter().flatten(), reverse)
    }
}

type Change<'a> = (&'a Bytes, &'a Option<Bytes>);

/// Two layers as one, the newer hiding the older.
fn merged<'a>(
    newer: impl Iterator<Item = Change<'a>>,
    older: impl Iterator<Item = Change<'a>>,
    reverse: bool,
) -> impl Iterator<Item = Change<'a>> {
    let (mut newer, mut older) = (newer.peekable(), older.peekable());
    std::iter::from_fn(move || {
        let order = match (newer.peek(), older.peek()) {
            (Some((a, _)), Some((b, _))) if reverse => b.cmp(a),
            (Some((a, _)), Some((b, _))) => a.cmp(b),
            (_, None) => return newer.next(),
            (None, _) => return older.next(),
        };
        if order.is_eq() {
            older.next();
        }
        if order.is_le() {
            newer.next()
        } else {
            older.next()
        }
    })
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
