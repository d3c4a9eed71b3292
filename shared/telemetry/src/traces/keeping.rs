//! From "this trace is kept" to spans. Pure: what a service was told to keep, matched against what it noted.
//!
//! A trace is followed from hand to hand: the router names the trace; whoever has a record that led to further work in it (a lookup that went off
//! in a shared message, a write that became an entry of a log) names that work, which other services know by its own name only. So neither
//! shared messages nor replication carry trace contexts, and yet what they did for a request is found, in whichever trace asks for it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use mesh::TraceContext;
use serde::{Deserialize, Serialize};

use super::filter::{Filter, Name};
use super::record::{Answered, Appended, Applied, Call, Lookup, Record, Served};
use super::span::{Span, SpanKind};

/// Told for how long after it something that belongs to a kept trace may be noted: a replica applies an entry with the next heartbeat.
pub(crate) const WAIT_NS: u64 = 2_000_000_000;
/// How far clocks of two machines may be apart before records are passed over.
const CLOCKS_APART_NS: u64 = 1_000_000_000;
/// What may be looked for at once; more is dropped.
const WANTED_MAX: usize = 8_192;
/// Of a record of more entries than this none is asked for by its name: looking for all at once is no dearer.
const PROBED_MAX: u64 = 16;
/// Whoever looks for more than this looks at every record: a block has something of it in any case.
const NAMES_MAX: usize = 64;

/// A trace, as it travels: MessagePack knows no numbers of 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TraceNumber(u64, u64);

impl From<u128> for TraceNumber {
    fn from(id: u128) -> Self {
        Self((id >> 64) as u64, id as u64)
    }
}

impl TraceNumber {
    fn id(self) -> u128 {
        u128::from(self.0) << 64 | u128::from(self.1)
    }
}

/// A kept trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptTrace {
    #[serde(rename = "t")]
    pub(crate) trace: TraceNumber,
    /// When it began, Unix nanoseconds.
    #[serde(rename = "s")]
    pub(crate) since_ns: u64,
}

/// Shared work that has a part in a kept trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptWork {
    #[serde(rename = "t")]
    pub(crate) trace: TraceNumber,
    /// The span that it belongs to there.
    #[serde(rename = "p")]
    pub(crate) parent: u64,
    /// A message of lookups, or a replication group.
    #[serde(rename = "n")]
    pub(crate) number: u64,
    /// The entry of the group's log.
    #[serde(rename = "i", default)]
    pub(crate) index: u64,
    #[serde(rename = "s")]
    pub(crate) since_ns: u64,
}

/// What is to be kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keep {
    #[serde(rename = "t", default)]
    pub(crate) traces: Vec<KeptTrace>,
    #[serde(rename = "m", default)]
    pub(crate) messages: Vec<KeptWork>,
    #[serde(rename = "e", default)]
    pub(crate) entries: Vec<KeptWork>,
}

impl Keep {
    pub(crate) fn len(&self) -> usize {
        self.traces.len() + self.messages.len() + self.entries.len()
    }

    /// This, too.
    pub(crate) fn append(&mut self, other: &Keep) {
        self.traces.extend_from_slice(&other.traces);
        self.messages.extend_from_slice(&other.messages);
        self.entries.extend_from_slice(&other.entries);
    }

    /// Takes out the traces that are looked for already: however many requests of a trace are kept, what was found of it once is not looked for
    /// again. Gives those of `old`, which forgets them: they are to be young again.
    pub(crate) fn pass_over_known(&mut self, young: &Wanted, old: &mut Wanted) -> Keep {
        let mut known = Keep::default();
        self.traces.retain(|trace| {
            if young.has_since(trace) {
                return false;
            }
            let was_old = old.has_since(trace);
            if was_old {
                old.forget(trace);
                known.traces.push(*trace);
            }
            !was_old
        });
        known
    }
}

/// What a service looks for.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    traces: BTreeMap<u128, u64>,
    messages: BTreeMap<u64, Vec<KeptWork>>,
    /// By group and index.
    entries: BTreeMap<(u64, u64), Vec<KeptWork>>,
    /// Of all of these: most records are of none of them, and that is to cost next to nothing.
    names: Filter,
    len: usize,
    since_ns: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) spans: Vec<Span>,
    /// What others may know more of.
    pub(crate) further: Keep,
}

impl Wanted {
    /// Looks for this, too. False: there is no room for all of it.
    pub(crate) fn add(&mut self, keep: &Keep) -> bool {
        if self.len + keep.len() > WANTED_MAX {
            return false;
        }
        if self.len == 0 {
            self.since_ns = u64::MAX;
        }
        self.len += keep.len();
        for trace in &keep.traces {
            self.since_ns = self.since_ns.min(trace.since_ns);
            self.names.add(Name::Trace(trace.trace.id()));
            self.traces.insert(trace.trace.id(), trace.since_ns);
        }
        for work in &keep.messages {
            self.since_ns = self.since_ns.min(work.since_ns);
            self.names.add(Name::Message(work.number));
            self.messages.entry(work.number).or_default().push(*work);
        }
        for work in &keep.entries {
            self.since_ns = self.since_ns.min(work.since_ns);
            let entry = (work.number, work.index);
            self.names.add(Name::Entry(entry.0, entry.1));
            self.entries.entry(entry).or_default().push(*work);
        }
        true
    }

    /// Whether it looks for this trace already, from that time on or an earlier one.
    pub(crate) fn has_since(&self, kept: &KeptTrace) -> bool {
        let since = self.traces.get(&kept.trace.id());
        since.is_some_and(|since_ns| *since_ns <= kept.since_ns)
    }

    /// Looks for this trace no more.
    pub(crate) fn forget(&mut self, kept: &KeptTrace) {
        if self.traces.remove(&kept.trace.id()).is_some() {
            self.len = self.len.saturating_sub(1);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Records that were done before are of no interest.
    pub(crate) fn since_ns(&self) -> u64 {
        self.since_ns.saturating_sub(CLOCKS_APART_NS)
    }

    /// False: none of the records with these names is wanted.
    pub(crate) fn may_be_in(&self, names: &Filter) -> bool {
        let trace = |id: &u128| names.may_have(Name::Trace(*id));
        let message = |number: &u64| names.may_have(Name::Message(*number));
        let entry = |(group, index): &(u64, u64)| names.may_have(Name::Entry(*group, *index));
        self.len > NAMES_MAX
            || self.traces.keys().any(trace)
            || self.messages.keys().any(message)
            || self.entries.keys().any(entry)
    }

    /// Looks at one record.
    pub(crate) fn look(&self, record: &Record, found: &mut Found) {
        match record {
            Record::Call(call) if self.has(call.context) => found.spans.push(of_call(call)),
            Record::Lookup(lookup) if self.has(lookup.context) => self.lookup(lookup, found),
            Record::Served(served) if self.has(served.context) => self.served(served, found),
            Record::Answered(answered) => {
                if !self.names.may_have(Name::Message(answered.message)) {
                    return;
                }
                let works = self.messages.get(&answered.message).into_iter().flatten();
                let spans = works.map(|work| of_answered(answered, work));
                found.spans.extend(spans);
            }
            Record::Appended(done) if self.may_have_entries(done.group, done.first, done.last) => {
                for work in self.entries(done.group, done.first, done.last) {
                    of_appended(done, work, &mut found.spans);
                }
            }
            Record::Applied(done) if self.may_have_entries(done.group, done.first, done.last) => {
                let works = self.entries(done.group, done.first, done.last);
                found.spans.extend(works.map(|work| of_applied(done, work)));
            }
            Record::Call(_)
            | Record::Lookup(_)
            | Record::Served(_)
            | Record::Appended(_)
            | Record::Applied(_) => {}
        }
    }

    fn has(&self, context: TraceContext) -> bool {
        self.names.may_have(Name::Trace(context.trace_id))
            && self.traces.contains_key(&context.trace_id)
    }

    fn may_have_entries(&self, group: u64, first: u64, last: u64) -> bool {
        let may_have = |index| self.names.may_have(Name::Entry(group, index));
        last.saturating_sub(first) >= PROBED_MAX || (first..=last).any(may_have)
    }

    fn entries(&self, group: u64, first: u64, last: u64) -> impl Iterator<Item = &KeptWork> {
        let works = self.entries.range((group, first)..=(group, last));
        works.flat_map(|(_, works)| works)
    }

    fn lookup(&self, lookup: &Lookup, found: &mut Found) {
        let span = of_lookup(lookup);
        found.further.messages.push(KeptWork {
            trace: span.trace_id.into(),
            parent: span.span_id,
            number: lookup.message,
            index: 0,
            since_ns: lookup.start_ns,
        });
        found.spans.push(span);
    }

    fn served(&self, served: &Served, found: &mut Found) {
        let subject = format!("node.{}.item", served.node);
        let mut span = process(served.context, subject, (served.received_ns, served.end_ns))
            .with("evenkeel.partition", number(served.partition))
            .with("evenkeel.operation", served.operation);
        span.kind = SpanKind::Server;
        span.error = (served.outcome != "ok").then_some(Cow::Borrowed(served.outcome));
        let within = span.context();
        let internal = |name, from, to| Span::new(within, name, SpanKind::Internal, (from, to));
        found
            .spans
            .push(internal("queue", served.received_ns, served.evaluated_ns));
        if served.index == 0 {
            found
                .spans
                .push(internal("evaluate", served.evaluated_ns, served.end_ns));
        } else {
            let replicate = internal("replicate", served.evaluated_ns, served.committed_ns)
                .with("evenkeel.log.index", number(served.index));
            found.further.entries.push(KeptWork {
                trace: replicate.trace_id.into(),
                parent: replicate.span_id,
                number: served.partition,
                index: served.index,
                since_ns: served.received_ns,
            });
            found.spans.push(replicate);
            found
                .spans
                .push(internal("answer", served.committed_ns, served.end_ns));
        }
        found.spans.push(span);
    }
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The attributes of OpenTelemetry's conventions for messaging.
fn messaging(span: Span, subject: String, operation: &'static str) -> Span {
    span.with("messaging.system", "nats")
        .with("messaging.destination.name", subject)
        .with("messaging.operation.type", operation)
        .with("messaging.operation.name", operation)
}

fn process(context: TraceContext, subject: String, times: (u64, u64)) -> Span {
    let span = Span::new(
        context,
        format!("process {subject}"),
        SpanKind::Consumer,
        times,
    );
    messaging(span, subject, "process")
}

fn of_call(call: &Call) -> Span {
    let to = if call.via == 0 { call.node } else { call.via };
    let subject = format!("node.{to}.item");
    let times = (call.start_ns, call.end_ns);
    let mut span = Span::new(
        call.context,
        format!("send {subject}"),
        SpanKind::Client,
        times,
    )
    .with("evenkeel.node", number(call.node))
    .with("evenkeel.partition", number(call.partition));
    span.span_id = call.span_id;
    span.error = (call.outcome != "ok").then_some(Cow::Borrowed(call.outcome));
    messaging(span, subject, "send")
}

fn of_lookup(lookup: &Lookup) -> Span {
    let subject = format!("memds.{}.lookup", lookup.memds);
    let times = (lookup.start_ns, lookup.end_ns);
    let kind = SpanKind::Producer;
    let mut span = Span::new(lookup.context, format!("send {subject}"), kind, times)
        .with(
            "evenkeel.lookup",
            if lookup.of_partition {
                "partition"
            } else {
                "table"
            },
        )
        .with("evenkeel.lookup.waited", lookup.waited)
        .with(
            "evenkeel.lookup.gathered_us",
            number(lookup.sent_ns.saturating_sub(lookup.start_ns) / 1_000),
        )
        .with("messaging.batch.message_count", i64::from(lookup.shared));
    span.error = (!lookup.answered).then_some(Cow::Borrowed("no answer"));
    messaging(span, subject, "send")
}

/// The context of shared work within a kept trace.
fn context_of(work: &KeptWork) -> TraceContext {
    TraceContext {
        trace_id: work.trace.id(),
        span_id: work.parent,
        sampled: true,
    }
}

fn of_answered(answered: &Answered, work: &KeptWork) -> Span {
    let times = (answered.start_ns, answered.end_ns);
    let subject = "memds.lookup".to_owned();
    let mut span = process(context_of(work), subject, times)
        .with("messaging.batch.message_count", i64::from(answered.lookups));
    // It was done for all that the message carried.
    span.links.push(context_of(work));
    span
}

fn of_appended(done: &Appended, work: &KeptWork, spans: &mut Vec<Span>) {
    let context = context_of(work);
    let times = (done.start_ns, done.end_ns);
    let mut append = match done.leads {
        true => Span::new(context, "append", SpanKind::Internal, times),
        false => {
            let subject = format!("node.{}.repl", done.node);
            let mut span = process(context, subject, times);
            span.name = Cow::Borrowed("append");
            span
        }
    };
    append = append
        .with("evenkeel.partition", number(done.group))
        .with("evenkeel.log.entries", number(done.last + 1 - done.first));
    let within = append.context();
    let sync = |name, from, to| Span::new(within, name, SpanKind::Internal, (from, to));
    spans.push(sync("wal queue", done.handed_ns, done.sync_ns));
    // One sync serves many entries, of many groups: each trace has it as its own, and the number says which are one.
    spans.push(
        sync("wal sync", done.sync_ns, done.synced_ns).with("evenkeel.wal.sync", number(done.sync)),
    );
    spans.push(append);
}

fn of_applied(done: &Applied, work: &KeptWork) -> Span {
    let times = (done.start_ns, done.end_ns);
    Span::new(context_of(work), "apply", SpanKind::Internal, times)
        .with("evenkeel.partition", number(done.group))
        .with("evenkeel.log.entries", number(done.last + 1 - done.first))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: TraceContext = TraceContext {
        trace_id: 5 << 64 | 7,
        span_id: 11,
        sampled: true,
    };

    fn wanted(keep: Keep) -> Wanted {
        let mut wanted = Wanted::default();
        assert!(wanted.add(&keep));
        wanted
    }

    fn trace() -> Keep {
        Keep {
            traces: vec![KeptTrace {
                trace: CONTEXT.trace_id.into(),
                since_ns: 10,
            }],
            ..Keep::default()
        }
    }

    fn served(index: u64) -> Record {
        Record::Served(Served {
            context: CONTEXT,
            received_ns: 10,
            evaluated_ns: 20,
            committed_ns: 90,
            end_ns: 100,
            node: 2,
            partition: 33,
            index,
            operation: "Write",
            outcome: "ok",
        })
    }

    fn appended(first: u64, last: u64, leads: bool) -> Record {
        Record::Appended(Appended {
            group: 33,
            first,
            last,
            node: 3,
            start_ns: 30,
            handed_ns: 40,
            sync_ns: 50,
            synced_ns: 60,
            end_ns: 70,
            sync: 9,
            leads,
        })
    }

    fn find(wanted: &Wanted, record: &Record) -> Found {
        let mut found = Found::default();
        wanted.look(record, &mut found);
        found
    }

    #[test]
    fn a_write_is_followed_to_its_replicas() {
        let found = find(&wanted(trace()), &served(4));
        let names: Vec<&str> = found.spans.iter().map(|span| &*span.name).collect();
        assert_eq!(
            names,
            ["queue", "replicate", "answer", "process node.2.item"]
        );
        let process = found.spans.last().unwrap();
        assert_eq!(process.parent, CONTEXT.span_id);
        assert!(
            found.spans[..3]
                .iter()
                .all(|span| span.parent == process.span_id)
        );
        let further = found.further;
        assert_eq!(further.entries.len(), 1);
        let replicate = &found.spans[1];
        assert_eq!(further.entries[0].parent, replicate.span_id);

        // On the wire and at a replica, which has other entries of the group, too.
        let encoded = serde_json::to_vec(&further).unwrap();
        let wanted = wanted(serde_json::from_slice(&encoded).unwrap());
        assert!(find(&wanted, &appended(5, 6, false)).spans.is_empty());
        let spans = find(&wanted, &appended(2, 4, false)).spans;
        let append = spans.last().unwrap();
        assert_eq!(
            (&*append.name, append.parent),
            ("append", replicate.span_id)
        );
        assert_eq!(append.trace_id, CONTEXT.trace_id);
        assert!(spans[..2].iter().all(|span| span.parent == append.span_id));
        let applied = Record::Applied(Applied {
            group: 33,
            first: 4,
            last: 4,
            node: 3,
            start_ns: 80,
            end_ns: 81,
        });
        assert_eq!(find(&wanted, &applied).spans.len(), 1);
    }

    #[test]
    fn a_lookup_is_followed_through_the_message_that_it_shared() {
        let lookup = Record::Lookup(Lookup {
            context: CONTEXT,
            start_ns: 10,
            sent_ns: 20,
            end_ns: 50,
            memds: 1,
            message: 77,
            shared: 3,
            of_partition: true,
            waited: false,
            answered: true,
        });
        let found = find(&wanted(trace()), &lookup);
        assert_eq!(found.spans[0].name, "send memds.1.lookup");
        let mut further = found.further;
        // Another trace shared the message.
        let mut other = further.messages[0];
        other.trace = 99.into();
        further.messages.push(other);
        let answered = |message| {
            Record::Answered(Answered {
                message,
                start_ns: 30,
                end_ns: 40,
                lookups: 3,
            })
        };
        let wanted = wanted(further);
        assert!(find(&wanted, &answered(76)).spans.is_empty());
        let spans = find(&wanted, &answered(77)).spans;
        let traces: Vec<u128> = spans.iter().map(|span| span.trace_id).collect();
        assert_eq!(traces, [CONTEXT.trace_id, 99]);
        assert_eq!(spans[0].parent, found.spans[0].span_id);
    }

    #[test]
    fn however_many_requests_of_a_trace_are_kept_it_is_looked_for_once() {
        let at = |since_ns: u64| Keep {
            traces: vec![KeptTrace {
                trace: CONTEXT.trace_id.into(),
                since_ns,
            }],
            ..Keep::default()
        };
        let (mut young, mut old) = (wanted(at(10)), Wanted::default());
        // A later request of the same client.
        let mut second = at(20);
        assert_eq!(second.pass_over_known(&young, &mut old), Keep::default());
        assert_eq!(second, Keep::default());
        // One after a while: it is looked for as long again, but not from the beginning.
        old = std::mem::take(&mut young);
        let mut third = at(30);
        let known = third.pass_over_known(&young, &mut old);
        assert_eq!((third, &known), (Keep::default(), &at(30)));
        assert!(old.is_empty());
        assert!(young.add(&known));
        assert_eq!(find(&young, &served(4)).spans.len(), 4);
        // One that began before all of them, and took longer; and another trace.
        let mut earlier = at(5);
        earlier.traces.push(KeptTrace {
            trace: 1.into(),
            since_ns: 40,
        });
        assert_eq!(earlier.pass_over_known(&young, &mut old), Keep::default());
        assert_eq!(earlier.traces.len(), 2);
    }

    #[test]
    fn what_is_not_wanted_is_passed_over_and_what_is_wanted_is_bounded() {
        let other = TraceContext {
            trace_id: 1,
            ..CONTEXT
        };
        let mut record = served(4);
        if let Record::Served(served) = &mut record {
            served.context = other;
        }
        let mut wanted = wanted(trace());
        assert!(find(&wanted, &record).spans.is_empty());
        let many = Keep {
            traces: vec![trace().traces[0]; WANTED_MAX],
            ..Keep::default()
        };
        assert!(!wanted.add(&many));
    }
}
