//! Background flows as traces of their own: elections, splits, rebuilt replicas, archiving, scrubs, jobs. They are rare, so their spans are made at
//! once, when they end, and all are kept, up to a number a minute of each name. Owns that bound; knows none of the flows.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use mesh::{Mesh, TraceContext};
use opentelemetry::Value;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::ids::{new_trace_id, random_u64};
use super::now_ns;
use super::recorder::{COUNTS, way_out};
use super::span::{Span, SpanKind};

const MINUTE_NS: u64 = 60_000_000_000;

/// One background flow, from its beginning on: a trace, with a span for the whole and one for each step.
#[derive(Clone, Debug)]
pub struct Flow {
    name: &'static str,
    whole: Span,
    steps: Vec<Span>,
}

impl Flow {
    /// One that begins now.
    pub fn begin(name: &'static str) -> Self {
        Self::since(name, now_ns())
    }

    /// One that began then, Unix nanoseconds. It has a trace of its own.
    pub fn since(name: &'static str, start_ns: u64) -> Self {
        let context = TraceContext {
            trace_id: new_trace_id(),
            span_id: random_u64(),
            sampled: true,
        };
        Self::known_as(context, name, start_ns)
    }

    /// One that began then, Unix nanoseconds, and has this context, which others know.
    pub fn known_as(context: TraceContext, name: &'static str, start_ns: u64) -> Self {
        let times = (start_ns, start_ns);
        let mut whole = Span::new(context.within(0), name, SpanKind::Internal, times);
        whole.span_id = context.span_id;
        Self {
            name,
            whole,
            steps: Vec::new(),
        }
    }

    /// With an attribute of the whole.
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.whole = self.whole.with(key, value);
        self
    }

    /// With what it is about: attribute `evenkeel.partition`.
    pub fn of_partition(self, partition: u64) -> Self {
        let partition = i64::try_from(partition).unwrap_or(i64::MAX);
        self.with("evenkeel.partition", partition)
    }

    /// It came about because of this: the two traces are linked. Nothing if that is none.
    pub fn caused_by(mut self, cause: TraceContext) -> Self {
        if cause.is_some() {
            self.whole.links.push(cause);
        }
        self
    }

    /// With a step of it, Unix nanoseconds from and to.
    pub fn step(mut self, name: &'static str, times: (u64, u64)) -> Self {
        let within = self.whole.context();
        (self.steps).push(Span::new(within, name, SpanKind::Internal, times));
        self
    }

    /// For what comes about because of it.
    pub fn context(&self) -> TraceContext {
        self.whole.context()
    }

    /// Its spans, now that it has ended; `error` says why it failed.
    fn spans(mut self, end_ns: u64, error: Option<String>) -> impl Iterator<Item = Span> {
        self.whole.end_ns = end_ns;
        self.whole.error = error.map(Cow::Owned);
        std::iter::once(self.whole).chain(self.steps)
    }
}

/// How many flows of a name may still be kept: as many as there are in a minute, which come back one by one. Failed ones have an allowance of their own.
#[derive(Debug)]
struct Budget {
    per_minute: u64,
    /// What is spent, in nanoseconds of a minute, and when that was.
    spent: BTreeMap<(&'static str, bool), (u64, u64)>,
}

impl Budget {
    fn new(per_minute: u32) -> Self {
        Self {
            per_minute: u64::from(per_minute),
            spent: BTreeMap::new(),
        }
    }

    /// Whether this one is kept.
    fn take(&mut self, now_ns: u64, name: &'static str, failed: bool) -> bool {
        let Some(price_ns) = MINUTE_NS.checked_div(self.per_minute) else {
            return false;
        };
        let entry = self.spent.entry((name, failed));
        let (spent_ns, at_ns) = entry.or_insert((0, now_ns));
        // The clock may have been put back.
        *spent_ns = spent_ns.saturating_sub(now_ns.saturating_sub(*at_ns));
        *at_ns = now_ns;
        let kept = *spent_ns + price_ns <= MINUTE_NS;
        if kept {
            *spent_ns += price_ns;
        }
        kept
    }
}

struct Inner {
    budget: Mutex<Budget>,
    spans: mpsc::Sender<Span>,
}

/// Takes the background flows of a participant of the bus. Cheap to clone; clones are the same.
#[derive(Clone, Default)]
pub struct Flows {
    inner: Option<Arc<Inner>>,
}

impl std::fmt::Debug for Flows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let on = self.inner.is_some();
        f.debug_struct("Flows").field("on", &on).finish()
    }
}

/// Those of a participant; made, with its exporter, at the first call. Within a runtime that lives as long as the participant. Where nothing is traced
/// it takes nothing.
pub fn flows(mesh: &Mesh) -> Flows {
    static ALL: OnceLock<Mutex<HashMap<(String, u64), Flows>>> = OnceLock::new();
    let identity = mesh.identity();
    let name = (identity.service.clone(), identity.instance);
    let mut all = ALL.get_or_init(Mutex::default).lock();
    if let Some(flows) = all.get(&name) {
        return flows.clone();
    }
    let Some((spans, per_minute)) = way_out(mesh) else {
        return Flows::default();
    };
    let flows = Flows {
        inner: Some(Arc::new(Inner {
            budget: Mutex::new(Budget::new(per_minute)),
            spans,
        })),
    };
    all.insert(name, flows.clone());
    flows
}

impl Flows {
    /// A flow has ended as it should, or why not. Never blocks.
    pub fn end(&self, flow: Flow, result: Result<(), String>) {
        let Some(inner) = &self.inner else { return };
        let (now_ns, error) = (now_ns(), result.err());
        let failed = error.is_some();
        if !(inner.budget.lock()).take(now_ns, flow.name, failed) {
            COUNTS.flows_left_out.fetch_add(1, Relaxed);
            return;
        }
        COUNTS.flows.fetch_add(1, Relaxed);
        for span in flow.spans(now_ns, error) {
            if inner.spans.try_send(span).is_err() {
                COUNTS.dropped.fetch_add(1, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_a_trace_of_its_own_with_its_steps_and_its_cause() {
        let cause = Flow::since("cause", 1).context();
        let flow = Flow::since("scrub", 1_000)
            .of_partition(7)
            .with("evenkeel.table", "music")
            .caused_by(cause)
            .caused_by(TraceContext::default())
            .step("digest", (1_000, 1_500));
        let context = flow.context();
        assert!(context.is_some() && context.sampled && context.trace_id != cause.trace_id);
        let spans: Vec<Span> = flow.spans(2_000, Some("differs".to_owned())).collect();
        let [whole, step] = &spans[..] else {
            panic!("{spans:?}");
        };
        assert_eq!(
            (whole.trace_id, whole.span_id),
            (context.trace_id, context.span_id)
        );
        assert_eq!(
            (whole.parent, whole.start_ns, whole.end_ns),
            (0, 1_000, 2_000)
        );
        assert_eq!(whole.error.as_deref(), Some("differs"));
        assert_eq!(whole.links, [cause]);
        let keys = whole.attributes.iter().map(|pair| pair.key.as_str());
        assert_eq!(
            keys.collect::<Vec<_>>(),
            ["evenkeel.partition", "evenkeel.table"]
        );
        assert_eq!(
            (step.trace_id, step.parent),
            (context.trace_id, context.span_id)
        );
        assert_eq!((step.name.as_ref(), step.end_ns), ("digest", 1_500));
        assert_eq!((&step.error, step.links.len()), (&None, 0));
    }

    #[test]
    fn so_many_of_a_name_are_kept_a_minute_and_failed_ones_beside_them() {
        let mut budget = Budget::new(3);
        let (election, scrub) = ("election", "scrub");
        let mut take = |now_s: u64, name, failed| budget.take(now_s * 1_000_000_000, name, failed);
        assert!((0..3).all(|_| take(100, election, false)));
        assert!(!take(100, election, false));
        // What else there is has its own.
        assert!(take(100, scrub, false) && take(100, election, true));
        // One comes back every twenty seconds; a clock that is put back gives nothing and takes nothing.
        assert!(!take(119, election, false));
        assert!(take(120, election, false));
        assert!(!take(90, election, false));
        assert!(!take(109, election, false));
        assert!(take(110, election, false));
        assert!((0..3).all(|_| take(1_000, election, false)));
        assert!(!take(1_000, election, false));
        assert!(!Budget::new(0).take(1, election, false));
    }
}
