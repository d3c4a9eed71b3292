//! Walks over what a partition holds, overlay and B-tree merged, in key order; and finds what is expired. Never changes anything.

use std::ops::ControlFlow;

use bytes::Bytes;
use model::codec::{CodecError, decode_item, pick_attributes};
use model::{EncodedKey, KeyRange};

use crate::partition::Partition;
use crate::{BTree, PartitionError};

/// So many bytes are looked at in one piece, whatever is in them: nothing else runs meanwhile.
const PIECE_BYTES: usize = 1 << 20;

/// Key, value, and the value for keeps.
type Visit<'a> = dyn FnMut(&[u8], &[u8], &dyn Fn() -> Bytes) -> ControlFlow<()> + 'a;

impl<C> Partition<C> {
    /// Shows everything in `range` (not empty) to `visit`, in key order or its reverse, until it breaks.
    pub(crate) fn walk(
        &self,
        base: &impl BTree,
        range: &KeyRange,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), PartitionError> {
        let mut upper = self.overlay.range(range, reverse).peekable();
        let mut stopped = false;
        base.scan(range, reverse, &mut |key, value| {
            // What the overlay has before this pair, then what hides it.
            while let Some((upper_key, upper_value)) = upper.peek() {
                let order = upper_key[..].cmp(key);
                let order = if reverse { order.reverse() } else { order };
                if order.is_gt() {
                    break;
                }
                if let Some(value) = upper_value
                    && visit(upper_key, value, &|| value.clone()).is_break()
                {
                    stopped = true;
                    return ControlFlow::Break(());
                }
                upper.next();
                if order.is_eq() {
                    return ControlFlow::Continue(());
                }
            }
            let flow = visit(key, value, &|| Bytes::copy_from_slice(value));
            stopped = flow.is_break();
            flow
        })?;
        for (key, value) in upper {
            if stopped {
                break;
            }
            if let Some(value) = value {
                stopped = visit(key, value, &|| value.clone()).is_break();
            }
        }
        Ok(())
    }

    /// The partition's keys behind this one; may be empty.
    fn rest_behind(&self, after: Option<EncodedKey>) -> KeyRange {
        let mut range = self.state.range.clone();
        if let Some(after) = after.filter(|after| *after >= range.start) {
            range.start = [&after[..], &[0]].concat().into();
        }
        range
    }

    /// Shows what comes behind `after` to `visit`, items or not, as long as that wants more, and a MiB at most. Where to go on; none: that were
    /// the last.
    pub(crate) fn walk_piece(
        &self,
        base: &impl BTree,
        after: Option<EncodedKey>,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, CodecError>,
    ) -> Result<Option<EncodedKey>, PartitionError> {
        let range = self.rest_behind(after);
        if range.is_empty() {
            return Ok(None);
        }
        let (mut bytes, mut last, mut failed) = (0, None, None);
        self.walk(base, &range, false, &mut |key, value, _| {
            bytes += key.len() + value.len();
            match visit(key, value) {
                Ok(true) if bytes < PIECE_BYTES => return ControlFlow::Continue(()),
                Ok(_) => last = Some(Bytes::copy_from_slice(key)),
                Err(error) => failed = Some(error),
            }
            ControlFlow::Break(())
        })?;
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(last),
        }
    }

    /// Keys of items behind `after` whose time to live is over at `now_s` (seconds since the epoch) by this attribute, among the next
    /// `looks` items, at most `most` (and of a MiB at most); and where to go on, none: that were the last.
    pub fn expired(
        &self,
        base: &impl BTree,
        after: Option<EncodedKey>,
        (attribute, now_s): (&str, u64),
        (looks, most): (usize, usize),
    ) -> Result<(Vec<EncodedKey>, Option<EncodedKey>), PartitionError> {
        let (mut expired, mut looked) = (Vec::new(), 0);
        let last = self.walk_piece(base, after, |key, value| {
            looked += 1;
            if !self.state.table.is_entry(key) {
                let item = decode_item(&pick_attributes(value, &[attribute])?)?;
                if model::ttl::is_expired(&item, attribute, now_s) {
                    expired.push(Bytes::copy_from_slice(key));
                }
            }
            Ok(looked < looks && expired.len() < most)
        })?;
        Ok((expired, last))
    }
}
