//! From bus messages to handlers and waiting calls. Owns what is dropped and refused on the way; never reads a socket.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::bus_settings::SenderId;
use crate::calls::Calls;
use crate::chunk::{Assembled, Assembler};
use crate::deadline::{Deadline, now_unix_ms};
use crate::delivery::{Delivery, Handler, ReplyTo, Responder, refused, run_handler};
use crate::envelope::{
    Envelope, Frames, Head, Kind, PROTOCOL_VERSION, Unreadable, decode_envelope, decode_head,
    refusal, split_message,
};
use crate::outbox::{Outbox, Outgoing};
use crate::stats::Stats;
use crate::trace_context::TraceContext;

/// All reply subjects start with it; nothing else is ever answered to.
pub(crate) const INBOX_PREFIX: &str = "_mesh.";

/// Receiving side of one connection.
pub(crate) struct Inbound {
    pub(crate) calls: Arc<Calls>,
    pub(crate) outgoing: Arc<Outgoing>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) assembler: Mutex<Assembler>,
}

/// What the frames of one message share.
struct Context<'a> {
    head: Head<'a>,
    sender: SenderId,
    now_unix_ms: u64,
    /// Looked up at the first call.
    reply: Option<Arc<Outbox>>,
    handler: Option<&'a Handler>,
}

impl Inbound {
    /// Take a bus message: calls and casts go to `handler`, answers to whoever waits for them. Without
    /// a handler, calls are refused.
    pub(crate) fn receive(&self, message: Bytes, handler: Option<&Handler>) {
        self.stats.messages_received.one();
        self.stats.bytes_received.add(message.len() as u64);
        let Ok((head, mut frames)) = split_message(message) else {
            self.stats.malformed_dropped.one();
            return;
        };
        let head = match decode_head(&head) {
            Ok(head) => head,
            Err(why) => return self.drop_unread(why, None),
        };
        if head.version > PROTOCOL_VERSION {
            self.stats.incompatible_refused.one();
        }
        let sender = SenderId {
            instance: head.instance,
            incarnation: head.incarnation,
        };
        let mut context = Context {
            head,
            sender,
            now_unix_ms: now_unix_ms(),
            reply: None,
            handler,
        };
        while let Some(frame) = frames.next() {
            self.stats.frames_received.one();
            match frame {
                Ok((envelope, body)) => self.receive_frame(&mut context, &envelope, body, true),
                Err(_) => self.stats.malformed_dropped.one(),
            }
        }
    }

    fn receive_frame(
        &self,
        context: &mut Context<'_>,
        encoded: &[u8],
        body: Bytes,
        may_be_chunk: bool,
    ) {
        let envelope = match decode_envelope(encoded, &body) {
            Ok(envelope) => envelope,
            Err(why) => return self.drop_unread(why, Some(context.sender)),
        };
        if envelope.deadline_unix_ms != 0 && envelope.deadline_unix_ms <= context.now_unix_ms {
            self.stats.expired_dropped.one();
            return;
        }
        let kind = Kind::from_code(envelope.kind);
        if context.head.version > PROTOCOL_VERSION {
            if kind == Some(Kind::Call) {
                self.responder(context, &envelope)
                    .refuse(refusal::INCOMPATIBLE);
            }
            return;
        }
        match kind {
            Some(Kind::Reply) => self.calls.complete(envelope.correlation, Ok(body)),
            Some(Kind::Refusal) => {
                self.calls
                    .complete(envelope.correlation, Err(refused(envelope.reason)));
            }
            Some(Kind::Call | Kind::Cast) => self.deliver(context, &envelope, body),
            Some(Kind::Chunk) if may_be_chunk => self.assemble(context, &envelope, body),
            Some(Kind::Chunk) | None => self.stats.malformed_dropped.one(),
        }
    }

    /// Counts what is dropped. Nobody is answered: whose it was can't be told. It is lost, and sent again as what is lost is.
    fn drop_unread(&self, why: Unreadable, sender: Option<SenderId>) {
        if why == Unreadable::Malformed {
            return self.stats.malformed_dropped.one();
        }
        self.stats.corrupt_dropped.one();
        let so_far = self.stats.corrupt_dropped.get();
        // A line that breaks must not fill the log.
        if so_far.is_power_of_two() {
            let instance = sender.map(|sender| sender.instance);
            tracing::error!(
                so_far,
                instance,
                "a message was changed on its way: dropped (its checksum does not hold)"
            );
        }
    }

    fn deliver(&self, context: &mut Context<'_>, envelope: &Envelope<'_>, body: Bytes) {
        let Some(handler) = context.handler else {
            // the subscription ended while this was on its way: say so, or the caller waits until its deadline
            self.stats.unserved_dropped.one();
            self.responder(context, envelope)
                .refuse(refusal::NOT_SERVED);
            return;
        };
        let responder = self.responder(context, envelope);
        let delivery = Delivery {
            sender: context.sender,
            deadline: responder.deadline,
            trace: envelope
                .traceparent
                .map(TraceContext::new)
                .unwrap_or_default(),
            body,
            responder,
        };
        run_handler(handler, delivery, &self.stats);
    }

    fn responder(&self, context: &mut Context<'_>, envelope: &Envelope<'_>) -> Responder {
        let deadline = (envelope.deadline_unix_ms != 0)
            .then(|| Deadline::at_unix_ms(envelope.deadline_unix_ms));
        let to = if Kind::from_code(envelope.kind) == Some(Kind::Call) {
            self.reply_outbox(context)
                .map_or(ReplyTo::Nobody, |outbox| {
                    ReplyTo::Outbox(outbox, envelope.correlation)
                })
        } else {
            ReplyTo::Nobody
        };
        Responder {
            to,
            deadline,
            stats: self.stats.clone(),
        }
    }

    fn reply_outbox(&self, context: &mut Context<'_>) -> Option<Arc<Outbox>> {
        if context.reply.is_none() {
            let subject = context.head.reply?;
            if !subject.starts_with(INBOX_PREFIX) || !is_subject(subject) {
                self.stats.malformed_dropped.one();
                return None;
            }
            context.reply = self.outgoing.outbox(subject).ok();
        }
        context.reply.clone()
    }

    fn assemble(&self, context: &mut Context<'_>, envelope: &Envelope<'_>, chunk: Bytes) {
        let Some(part) = envelope.part else {
            self.stats.malformed_dropped.one();
            return;
        };
        let (assembled, given_up) = self.assembler.lock().add(
            Instant::now(),
            context.sender,
            envelope.correlation,
            part,
            chunk,
        );
        self.stats.reassembly_dropped.add(given_up);
        match assembled {
            Assembled::Waiting => {}
            Assembled::Refused => self.stats.reassembly_dropped.one(),
            Assembled::Frame(frame) => match Frames::of(frame).next() {
                Some(Ok((envelope, body))) => self.receive_frame(context, &envelope, body, false),
                _ => self.stats.malformed_dropped.one(),
            },
        }
    }
}

/// Whether this is a subject that both transports take: no wildcards, no white space, no empty parts, no surprises.
pub(crate) fn is_subject(subject: &str) -> bool {
    !subject.is_empty()
        && subject.len() <= 255
        && subject.split('.').all(|token| {
            !token.is_empty()
                && token
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && byte != b'*' && byte != b'>')
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{encode_frame, encode_head};

    #[tokio::test]
    async fn a_message_with_a_flipped_bit_is_dropped_and_counted_and_the_next_one_is_delivered() {
        let stats = Arc::new(Stats::default());
        let inbound = Inbound {
            calls: Calls::start(stats.clone()),
            outgoing: Outgoing::new(Bytes::from_static(&[0, 0]), stats.clone()),
            stats: stats.clone(),
            assembler: Mutex::new(Assembler::default()),
        };
        let mut message = encode_head(&Head::default()).expect("a head").to_vec();
        let head_bytes = message.len();
        let cast = Envelope {
            kind: Kind::Cast.code(),
            ..Envelope::default()
        };
        encode_frame(&mut message, &cast, &"an entry of a log").expect("encodes");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = heard.clone();
        let handler: Handler = Arc::new(move |delivery: Delivery| {
            hears.lock().push(delivery.decode::<String>().ok());
        });
        // In the head's version, and in the body.
        for at in [5, message.len() - 4] {
            let mut flipped = message.clone();
            flipped[at] ^= 1;
            inbound.receive(flipped.into(), Some(&handler));
            assert!(heard.lock().is_empty(), "{at} of {head_bytes}");
        }
        assert_eq!(stats.corrupt_dropped.get(), 2);
        inbound.receive(message.into(), Some(&handler));
        let all = [Some("an entry of a log".to_owned())];
        assert_eq!(heard.lock()[..], all);
        assert_eq!(stats.malformed_dropped.get(), 0);
    }
}
