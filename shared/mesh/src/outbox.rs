//! What waits to be sent, a queue a subject. Owns batching, chunking and the bounds on queued bytes; never touches a
//! connection: the link's writer takes finished messages out.
//!
//! Natural batching: frames that arrive for a subject before the writer comes round share one bus message. There is no
//! timer: an idle connection sends at once, a busy one sends more at a time.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::calls::Route;
use crate::chunk::{CHUNK_ABOVE_BYTES, CHUNK_BYTES};
use crate::envelope::{Envelope, Kind, encode_raw_frame};
use crate::stats::{Counter, Stats};

/// A bus message takes no further frame beyond this, bytes.
const MESSAGE_BYTES_MAX: usize = 256 << 10;
/// Queued bytes for one subject: room for one largest frame and some more.
const SUBJECT_BYTES_MAX: usize = 24 << 20;
/// Queued bytes of one connection.
const LINK_BYTES_MAX: u64 = 64 << 20;
/// Subjects with a queue, at most.
const OUTBOXES_MAX: usize = 16_384;
/// Beyond so many, queues without work are forgotten.
const OUTBOXES_KEPT: usize = 1_024;
/// What waited longer than this (no connection) is not sent any more.
pub(crate) const STALE_AFTER: Duration = Duration::from_secs(10);

/// A frame was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotQueued {
    /// A bound was reached.
    Full,
    /// The connection was closed for good.
    Closed,
}

/// A bus message, ready to be sent.
pub(crate) struct Ready {
    pub(crate) payload: Bytes,
    pub(crate) frames: u64,
    /// Set if calls are inside.
    pub(crate) route: Option<Route>,
    pub(crate) queued_at: Instant,
}

struct OpenMessage {
    number: u64,
    calls: bool,
    frames: u64,
    buffer: Vec<u8>,
    queued_at: Instant,
}

#[derive(Default)]
struct State {
    messages: VecDeque<OpenMessage>,
    bytes: usize,
    scheduled: bool,
    next_number: u64,
}

/// Queue of one subject.
pub(crate) struct Outbox {
    pub(crate) subject: async_nats::Subject,
    number: u64,
    state: Mutex<State>,
    outgoing: Arc<Outgoing>,
}

/// All queues of one connection.
pub(crate) struct Outgoing {
    head: Bytes,
    outboxes: RwLock<HashMap<Box<str>, Arc<Outbox>>>,
    scheduled: Mutex<VecDeque<Arc<Outbox>>>,
    next_number: AtomicU64,
    next_chunked: AtomicU64,
    queued_bytes: Counter,
    closed: AtomicBool,
    stats: Arc<Stats>,
    /// Told when there is work for the writer.
    pub(crate) work: Notify,
    /// Told when nothing is queued any more.
    pub(crate) emptied: Notify,
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Lend a buffer of this thread, so that encoding a frame allocates nothing once warm.
pub(crate) fn with_scratch<R>(run: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    // taken, not borrowed: a `Serialize` that sends something itself gets a fresh buffer instead of a panic
    let mut buffer = SCRATCH.with(RefCell::take);
    buffer.clear();
    let result = run(&mut buffer);
    if buffer.capacity() <= MESSAGE_BYTES_MAX {
        SCRATCH.with(|scratch| scratch.replace(buffer));
    }
    result
}

impl Outgoing {
    /// No queues yet; `head` comes before the frames of every message.
    pub(crate) fn new(head: Bytes, stats: Arc<Stats>) -> Arc<Self> {
        Arc::new(Self {
            head,
            outboxes: RwLock::default(),
            scheduled: Mutex::default(),
            next_number: AtomicU64::new(1),
            next_chunked: AtomicU64::new(1),
            queued_bytes: Counter::default(),
            closed: AtomicBool::new(false),
            stats,
            work: Notify::new(),
            emptied: Notify::new(),
        })
    }

    /// The queue of a subject (checked by the caller to be one).
    pub(crate) fn outbox(self: &Arc<Self>, subject: &str) -> Result<Arc<Outbox>, NotQueued> {
        if let Some(outbox) = self.outboxes.read().get(subject) {
            return Ok(outbox.clone());
        }
        let mut outboxes = self.outboxes.write();
        if let Some(outbox) = outboxes.get(subject) {
            return Ok(outbox.clone());
        }
        if outboxes.len() >= OUTBOXES_KEPT && outboxes.len().is_power_of_two() {
            // held by nobody else and empty: nothing can be queued in it behind our back
            outboxes.retain(|_, outbox| {
                Arc::strong_count(outbox) > 1 || !outbox.state.lock().messages.is_empty()
            });
        }
        if outboxes.len() >= OUTBOXES_MAX {
            return Err(NotQueued::Full);
        }
        let outbox = Arc::new(Outbox {
            subject: async_nats::Subject::from(subject.to_owned()),
            number: self.next_number.fetch_add(1, Ordering::Relaxed),
            state: Mutex::default(),
            outgoing: self.clone(),
        });
        outboxes.insert(subject.into(), outbox.clone());
        Ok(outbox)
    }

    /// A queue with work, each in its turn.
    pub(crate) fn next_scheduled(&self) -> Option<Arc<Outbox>> {
        self.scheduled.lock().pop_front()
    }

    /// Bytes that wait or are being sent.
    pub(crate) fn queued_bytes(&self) -> u64 {
        self.queued_bytes.get()
    }

    /// The writer is done with a message of so many bytes, sent or not.
    pub(crate) fn done_with(&self, bytes: usize) {
        self.queued_bytes.sub(bytes as u64);
        self.stats.bytes_queued.sub(bytes as u64);
        if self.queued_bytes.get() == 0 {
            self.emptied.notify_waiters();
        }
    }

    /// Refuse everything from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // queues point back to us
        self.outboxes.write().clear();
        self.work.notify_one();
    }

    pub(crate) fn closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn claim(&self, bytes: usize) -> bool {
        let claimed = self.queued_bytes.try_add(bytes as u64, LINK_BYTES_MAX);
        if claimed {
            self.stats.bytes_queued.add(bytes as u64);
        }
        claimed
    }
}

impl Outbox {
    /// Queue an encoded frame. For a call, `expect` is told the message that will carry it before that can be sent.
    pub(crate) fn push(
        self: &Arc<Self>,
        frame: &[u8],
        deadline_unix_ms: u64,
        expect: Option<&mut dyn FnMut(Route)>,
    ) -> Result<(), NotQueued> {
        if self.outgoing.closed() {
            return Err(NotQueued::Closed);
        }
        let mut state = self.state.lock();
        if state.bytes + frame.len() > SUBJECT_BYTES_MAX {
            return Err(NotQueued::Full);
        }
        let is_call = expect.is_some();
        if frame.len() > CHUNK_ABOVE_BYTES {
            self.push_chunks(&mut state, frame, deadline_unix_ms, expect)?;
        } else {
            let number = self.push_frame(&mut state, frame, is_call)?;
            if let Some(expect) = expect {
                expect((self.number, number));
            }
        }
        let wake = !std::mem::replace(&mut state.scheduled, true);
        drop(state);
        self.outgoing.stats.frames_sent.one();
        if wake {
            self.schedule();
        }
        Ok(())
    }

    fn schedule(self: &Arc<Self>) {
        self.outgoing.scheduled.lock().push_back(self.clone());
        self.outgoing.work.notify_one();
    }

    /// Put the frame into the last message if it has room, else into a new one; gives the message's number.
    fn push_frame(&self, state: &mut State, frame: &[u8], is_call: bool) -> Result<u64, NotQueued> {
        if let Some(open) = state.messages.back_mut()
            && open.buffer.len() + frame.len() <= MESSAGE_BYTES_MAX
        {
            if !self.outgoing.claim(frame.len()) {
                return Err(NotQueued::Full);
            }
            open.buffer.extend_from_slice(frame);
            open.frames += 1;
            open.calls |= is_call;
            state.bytes += frame.len();
            return Ok(open.number);
        }
        let head = &self.outgoing.head;
        let bytes = head.len() + frame.len();
        if !self.outgoing.claim(bytes) {
            return Err(NotQueued::Full);
        }
        let mut buffer = Vec::with_capacity(bytes.max(2048));
        buffer.extend_from_slice(head);
        buffer.extend_from_slice(frame);
        state.bytes += bytes;
        let number = state.next_number;
        state.next_number += 1;
        let queued_at = Instant::now();
        state.messages.push_back(OpenMessage {
            number,
            calls: is_call,
            frames: 1,
            buffer,
            queued_at,
        });
        Ok(number)
    }

    /// Chunks go one a message. A call counts as carried by the first: without that it is never executed.
    fn push_chunks(
        &self,
        state: &mut State,
        frame: &[u8],
        deadline_unix_ms: u64,
        mut expect: Option<&mut dyn FnMut(Route)>,
    ) -> Result<(), NotQueued> {
        let is_call = expect.is_some();
        let correlation = self.outgoing.next_chunked.fetch_add(1, Ordering::Relaxed);
        let parts = frame.len().div_ceil(CHUNK_BYTES);
        let kept = state.messages.len();
        for (part, chunk) in frame.chunks(CHUNK_BYTES).enumerate() {
            let envelope = Envelope {
                kind: Kind::Chunk.code(),
                correlation,
                deadline_unix_ms,
                part: Some((part as u32, parts as u32, frame.len() as u64)),
                ..Envelope::default()
            };
            let mut encoded = Vec::with_capacity(chunk.len() + 64);
            encode_raw_frame(&mut encoded, &envelope, chunk).map_err(|_| NotQueued::Full)?;
            let number = self
                .push_frame(state, &encoded, is_call)
                .inspect_err(|_| self.take_back(state, kept))?;
            if let Some(expect) = expect.take() {
                expect((self.number, number));
            }
        }
        Ok(())
    }

    /// A part of a frame is of no use: drop the messages behind the first `kept`.
    fn take_back(&self, state: &mut State, kept: usize) {
        for message in state.messages.drain(kept..) {
            state.bytes -= message.buffer.len();
            self.outgoing.done_with(message.buffer.len());
        }
    }

    /// Take the oldest message; the queue is scheduled again if there are more.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Ready> {
        let mut state = self.state.lock();
        let message = state.messages.pop_front();
        if let Some(message) = &message {
            state.bytes -= message.buffer.len();
        }
        state.scheduled = !state.messages.is_empty();
        let more = state.scheduled;
        drop(state);
        if more {
            self.outgoing.scheduled.lock().push_back(self.clone());
        }
        message.map(|message| Ready {
            payload: message.buffer.into(),
            frames: message.frames,
            route: message.calls.then_some((self.number, message.number)),
            queued_at: message.queued_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Frames, decode_envelope, split_message};

    fn outgoing() -> Arc<Outgoing> {
        Outgoing::new(Bytes::from_static(&[0, 0]), Arc::new(Stats::default()))
    }

    fn frame(bytes: usize) -> Vec<u8> {
        let mut frame = Vec::new();
        encode_raw_frame(&mut frame, &Envelope::default(), &vec![7; bytes]).expect("encodes");
        frame
    }

    fn count(mut frames: Frames) -> usize {
        std::iter::from_fn(|| frames.next())
            .filter(Result::is_ok)
            .count()
    }

    #[test]
    fn frames_that_wait_together_share_a_message_up_to_the_cap() {
        let outgoing = outgoing();
        let outbox = outgoing.outbox("a").expect("room");
        let frame = frame(1_000);
        for _ in 0..300 {
            outbox.push(&frame, 0, None).expect("room");
        }
        let mut sizes = Vec::new();
        while let Some(outbox) = outgoing.next_scheduled() {
            let ready = outbox.take().expect("scheduled only with work");
            assert!(ready.payload.len() <= MESSAGE_BYTES_MAX);
            assert_eq!(ready.route, None);
            let bytes = ready.payload.len();
            sizes.push(count(split_message(ready.payload).expect("well formed").1));
            outgoing.done_with(bytes);
        }
        assert_eq!((sizes.len(), sizes.iter().sum::<usize>()), (2, 300));
        assert_eq!(outgoing.queued_bytes(), 0);
    }

    #[test]
    fn a_call_knows_the_message_that_carries_it() {
        let outgoing = outgoing();
        let outbox = outgoing.outbox("a").expect("room");
        let mut routes = Vec::new();
        for bytes in [10, 300_000, 10, 700_000] {
            let mut expect = |route| routes.push(route);
            outbox
                .push(&frame(bytes), 0, Some(&mut expect))
                .expect("room");
        }
        let mut sent = Vec::new();
        while let Some(outbox) = outgoing.next_scheduled() {
            sent.extend(outbox.take().expect("work").route);
        }
        routes.dedup();
        // the chunked call's second chunk travels in one more message
        assert_eq!(sent[..routes.len()], routes[..]);
        assert_eq!(sent.len(), routes.len() + 1);
    }

    #[test]
    fn large_frames_are_cut_and_can_be_put_together_again() {
        let outgoing = outgoing();
        let outbox = outgoing.outbox("a").expect("room");
        let large = frame(2_000_000);
        outbox.push(&large, 0, None).expect("room");
        let mut whole = Vec::new();
        while let Some(outbox) = outgoing.next_scheduled() {
            let payload = outbox.take().expect("work").payload;
            assert!(payload.len() < 1 << 20);
            let (_, mut frames) = split_message(payload).expect("well formed");
            let (envelope, body) = frames.next().expect("one").expect("well formed");
            assert_eq!(
                decode_envelope(&envelope, &body).expect("one").kind,
                Kind::Chunk.code()
            );
            whole.extend_from_slice(&body);
        }
        assert_eq!(whole, large);
    }

    #[test]
    fn what_is_queued_is_bounded_a_subject_and_a_connection() {
        let outgoing = outgoing();
        let frame = frame(200_000);
        let mut accepted = 0;
        for subject in ["a", "b", "c", "d"] {
            let outbox = outgoing.outbox(subject).expect("room");
            let before = accepted;
            while outbox.push(&frame, 0, None).is_ok() {
                accepted += frame.len();
            }
            assert!(accepted - before <= SUBJECT_BYTES_MAX);
        }
        assert!(accepted as u64 <= LINK_BYTES_MAX);
        assert!(accepted as u64 > LINK_BYTES_MAX - 400_000);
    }

    #[test]
    fn queues_of_subjects_that_came_and_went_are_forgotten() {
        let outgoing = outgoing();
        for number in 0..5_000 {
            assert!(outgoing.outbox(&format!("s{number}")).is_ok());
        }
        assert!(outgoing.outboxes.read().len() <= OUTBOXES_KEPT * 2);
    }
}
