//! Puts chunked frames together again. Bounded in bytes, in number and in time; never parses what it put together.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::bus_settings::SenderId;
use crate::envelope::FRAME_BYTES_MAX;

/// Frames beyond this size travel in chunks, bytes.
pub(crate) const CHUNK_ABOVE_BYTES: usize = 512 << 10;
/// Bytes of the frame in one chunk; with head and envelope it stays below NATS' `max_payload` of 1 MiB.
pub(crate) const CHUNK_BYTES: usize = 480 << 10;
/// Unfinished frames may claim so many bytes together …
const CLAIMED_BYTES_MAX: usize = 64 << 20;
/// … be so many …
const UNFINISHED_MAX: usize = 256;
/// … and so old.
const AGE_MAX: Duration = Duration::from_secs(10);

struct Unfinished {
    received: Vec<Option<Bytes>>,
    missing: usize,
    bytes: usize,
    since: Instant,
}

/// Unfinished frames of all senders.
#[derive(Default)]
pub(crate) struct Assembler {
    unfinished: HashMap<(SenderId, u64), Unfinished>,
    claimed_bytes: usize,
}

/// What became of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Assembled {
    /// More chunks are needed.
    Waiting,
    /// The whole frame.
    Frame(Bytes),
    /// Dropped: contradictory, or beyond a bound.
    Refused,
}

impl Assembler {
    /// Take one chunk: `part` = (number from 0, how many, bytes of the whole frame). Also gives the number of
    /// unfinished frames that were given up to make room or for age.
    pub(crate) fn add(
        &mut self,
        now: Instant,
        sender: SenderId,
        frame: u64,
        part: (u32, u32, u64),
        chunk: Bytes,
    ) -> (Assembled, u64) {
        let given_up = self.drop_old(now);
        (self.add_chunk(now, sender, frame, part, chunk), given_up)
    }

    fn add_chunk(
        &mut self,
        now: Instant,
        sender: SenderId,
        frame: u64,
        (number, parts, bytes): (u32, u32, u64),
        chunk: Bytes,
    ) -> Assembled {
        let (number, parts) = (number as usize, parts as usize);
        let Ok(bytes) = usize::try_from(bytes) else {
            return Assembled::Refused;
        };
        let fits = bytes <= FRAME_BYTES_MAX && parts == bytes.div_ceil(CHUNK_BYTES);
        let expected = CHUNK_BYTES.min(bytes.saturating_sub(number * CHUNK_BYTES));
        if !fits || number >= parts || chunk.len() != expected {
            return Assembled::Refused;
        }
        let room = self.unfinished.len() < UNFINISHED_MAX
            && self.claimed_bytes + bytes <= CLAIMED_BYTES_MAX;
        let unfinished = match self.unfinished.entry((sender, frame)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(_) if !room => return Assembled::Refused,
            Entry::Vacant(entry) => {
                self.claimed_bytes += bytes;
                entry.insert(Unfinished {
                    received: vec![None; parts],
                    missing: parts,
                    bytes,
                    since: now,
                })
            }
        };
        if unfinished.bytes != bytes {
            return Assembled::Refused;
        }
        if unfinished.received[number].is_none() {
            unfinished.received[number] = Some(chunk);
            unfinished.missing -= 1;
        }
        if unfinished.missing > 0 {
            return Assembled::Waiting;
        }
        let Some(finished) = self.unfinished.remove(&(sender, frame)) else {
            return Assembled::Refused;
        };
        self.claimed_bytes -= finished.bytes;
        let mut whole = BytesMut::with_capacity(finished.bytes);
        for chunk in finished.received.into_iter().flatten() {
            whole.extend_from_slice(&chunk);
        }
        Assembled::Frame(whole.freeze())
    }

    fn drop_old(&mut self, now: Instant) -> u64 {
        let before = self.unfinished.len();
        let claimed = &mut self.claimed_bytes;
        self.unfinished.retain(|_, unfinished| {
            let keep = now.saturating_duration_since(unfinished.since) < AGE_MAX;
            if !keep {
                *claimed -= unfinished.bytes;
            }
            keep
        });
        (before - self.unfinished.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: SenderId = SenderId {
        instance: 1,
        incarnation: 1,
    };

    fn chunks(frame: &Bytes) -> Vec<((u32, u32, u64), Bytes)> {
        let parts = frame.len().div_ceil(CHUNK_BYTES);
        (0..parts)
            .map(|number| {
                let end = frame.len().min((number + 1) * CHUNK_BYTES);
                let part = (number as u32, parts as u32, frame.len() as u64);
                (part, frame.slice(number * CHUNK_BYTES..end))
            })
            .collect()
    }

    #[test]
    fn chunks_in_any_order_and_twice_give_the_frame_once() {
        let frame: Bytes = (0..1_300_000_u32)
            .map(|n| n as u8)
            .collect::<Vec<_>>()
            .into();
        let mut assembler = Assembler::default();
        let now = Instant::now();
        let parts = chunks(&frame);
        for index in [2, 0, 2, 0] {
            let (part, chunk) = parts[index].clone();
            assert_eq!(
                assembler.add(now, SENDER, 5, part, chunk).0,
                Assembled::Waiting
            );
        }
        let (part, chunk) = parts[1].clone();
        assert_eq!(
            assembler.add(now, SENDER, 5, part, chunk).0,
            Assembled::Frame(frame)
        );
        assert_eq!(
            (assembler.claimed_bytes, assembler.unfinished.len()),
            (0, 0)
        );
    }

    #[test]
    fn contradictions_are_refused() {
        let mut assembler = Assembler::default();
        let now = Instant::now();
        let chunk = Bytes::from(vec![0; CHUNK_BYTES]);
        let two = 2 * CHUNK_BYTES as u64;
        let bad = [
            (2, 2, two),
            (0, 3, two),
            (0, 1, two),
            (0, 2, u64::MAX),
            (1, 2, two - 1),
        ];
        for part in bad {
            let (result, _) = assembler.add(now, SENDER, 1, part, chunk.clone());
            assert_eq!(result, Assembled::Refused, "{part:?}");
        }
        assert_eq!(assembler.claimed_bytes, 0);
    }

    #[test]
    fn memory_is_bounded_and_given_back_in_time() {
        let mut assembler = Assembler::default();
        let start = Instant::now();
        let bytes = FRAME_BYTES_MAX as u64;
        let parts = FRAME_BYTES_MAX.div_ceil(CHUNK_BYTES) as u32;
        let chunk = Bytes::from(vec![0; CHUNK_BYTES]);
        let mut results = Vec::new();
        for frame in 0..5 {
            let part = (0, parts, bytes);
            results.push(assembler.add(start, SENDER, frame, part, chunk.clone()).0);
        }
        assert!(
            results[..4]
                .iter()
                .all(|result| *result == Assembled::Waiting)
        );
        assert_eq!(results[4], Assembled::Refused);
        let (result, given_up) =
            assembler.add(start + AGE_MAX, SENDER, 9, (0, parts, bytes), chunk);
        assert_eq!((result, given_up), (Assembled::Waiting, 4));
    }
}
