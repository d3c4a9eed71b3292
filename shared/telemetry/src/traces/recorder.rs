//! The shell: one recorder for each participant of the bus, its ring, and the two tasks behind it (keeping and exporting). Owns the process's
//! settings of traces and its counters.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mesh::{Mesh, SenderId, Subscription};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::export::{self, Who};
use super::filter::Filter;
use super::keeping::{Found, Keep, KeptTrace, WAIT_NS, Wanted};
use super::now_ns;
use super::record::{Record, Ring};
use super::sampling::{Outcome, Reason, Sampler};
use super::settings::TraceSettings;
use super::span::Span;

/// Where services tell each other what is kept.
const SUBJECT: &str = "traces.keep";
/// What was traced up to the end of a process is exported within this time, or dropped.
const OUT_WITHIN: Duration = Duration::from_secs(1);
/// Traces and messages that wait for the keeping task; above it they are dropped.
const KEEPS_QUEUED_MAX: usize = 1_024;
/// How long they gather: one message and one look through the ring serve all of them.
const GATHER: Duration = Duration::from_millis(50);
/// How often what was not found at once is looked for again.
const AGAIN: Duration = Duration::from_millis(250);
/// A trace's spans follow each other through at most so many services.
const HANDS_MAX: usize = 4;

/// Counts of the process.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    kept: [AtomicU64; 4],
    not_kept: AtomicU64,
    pub(crate) flows: AtomicU64,
    pub(crate) flows_left_out: AtomicU64,
    pub(crate) exported: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) failed: AtomicU64,
}

pub(crate) static COUNTS: Counts = Counts {
    kept: [const { AtomicU64::new(0) }; 4],
    not_kept: AtomicU64::new(0),
    flows: AtomicU64::new(0),
    flows_left_out: AtomicU64::new(0),
    exported: AtomicU64::new(0),
    dropped: AtomicU64::new(0),
    failed: AtomicU64::new(0),
};

impl Counts {
    fn values(&self) -> crate::Values {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        vec![
            ("kept_sampled_total", load(&self.kept[0])),
            ("kept_slow_total", load(&self.kept[1])),
            ("kept_throttled_total", load(&self.kept[2])),
            ("kept_failed_total", load(&self.kept[3])),
            ("not_kept_total", load(&self.not_kept)),
            ("flows_kept_total", load(&self.flows)),
            ("flows_not_kept_total", load(&self.flows_left_out)),
            ("spans_exported_total", load(&self.exported)),
            ("spans_dropped_total", load(&self.dropped)),
            ("exports_failed_total", load(&self.failed)),
        ]
    }
}

static SETTINGS: OnceLock<TraceSettings> = OnceLock::new();

/// The recorders of this process, by service and instance.
type Recorders = Mutex<HashMap<(String, u64), Recorder>>;

fn recorders() -> &'static Recorders {
    static RECORDERS: OnceLock<Recorders> = OnceLock::new();
    RECORDERS.get_or_init(Recorders::default)
}

/// Says how this process traces, once, before its services start. Without it, or without an endpoint, nothing is traced.
pub fn init(settings: &TraceSettings) {
    // Where nothing is traced as well: what an alert rule asks for is there, and zero.
    crate::export("evenkeel_traces", super::words::WORDS, || COUNTS.values());
    if !settings.endpoint.is_empty() {
        // The first word counts.
        let _ = SETTINGS.set(settings.clone());
    }
}

/// Notes what a service does. Cheap to clone; clones are the same.
#[derive(Clone, Default)]
pub struct Recorder {
    inner: Option<Arc<Inner>>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder")
            .field("on", &self.is_on())
            .finish()
    }
}

struct Inner {
    ring: Mutex<Ring>,
    /// What is kept, by this service's own word.
    keeps: mpsc::Sender<KeptTrace>,
    spans: mpsc::Sender<Span>,
    plain: Sampler,
    sampler: Mutex<Sampler>,
}

/// The recorder of a participant; made with its tasks at the first call. Within a runtime that lives as long as the participant.
///
/// # Errors
/// When the settings make no sense, or the bus fails.
pub async fn join(mesh: &Mesh) -> anyhow::Result<Recorder> {
    let Some(settings) = SETTINGS.get() else {
        return Ok(Recorder::default());
    };
    let identity = mesh.identity();
    let name = (identity.service.clone(), identity.instance);
    if let Some(recorder) = recorders().lock().get(&name) {
        return Ok(recorder.clone());
    }
    let who = Who {
        service: identity.service.clone(),
        instance: identity.instance,
    };
    let exporter = export::exporter(settings, &who)?;
    let spans = export::start(exporter, settings);
    let (keeps, kept) = mpsc::channel(KEEPS_QUEUED_MAX);
    let sampler = Sampler::new(settings);
    let inner = Arc::new(Inner {
        ring: Mutex::new(Ring::new(settings.records_max)),
        keeps,
        spans,
        plain: sampler.clone(),
        sampler: Mutex::new(sampler),
    });
    let (heard, hearing) = mpsc::channel(KEEPS_QUEUED_MAX);
    let me = SenderId {
        instance: identity.instance,
        incarnation: identity.incarnation,
    };
    let listening = mesh
        .serve(SUBJECT, None, move |delivery| {
            // What it said itself it knows.
            if delivery.sender != me
                && let Ok(keep) = delivery.decode::<Keep>()
                && heard.try_send(keep).is_err()
            {
                COUNTS.dropped.fetch_add(1, Ordering::Relaxed);
            }
        })
        .await?;
    let recorder = Recorder {
        inner: Some(inner.clone()),
    };
    let keeper = Keeper {
        inner,
        mesh: mesh.clone(),
        _listening: listening,
    };
    tokio::spawn(keeper.run(kept, hearing));
    recorders().lock().insert(name, recorder.clone());
    Ok(recorder)
}

/// The recorder of a participant that has joined; one that notes nothing otherwise.
pub fn of(mesh: &Mesh) -> Recorder {
    let identity = mesh.identity();
    let name = (identity.service.clone(), identity.instance);
    recorders().lock().get(&name).cloned().unwrap_or_default()
}

/// The way out for a participant's spans and how many of its flows are kept a minute: its recorder's way if it has joined, or one of its own. None:
/// nothing is traced. Within a runtime.
pub(super) fn way_out(mesh: &Mesh) -> Option<(mpsc::Sender<Span>, u32)> {
    let settings = SETTINGS.get()?;
    let per_minute = settings.flows_per_minute_max;
    if let Some(inner) = of(mesh).inner {
        return Some((inner.spans.clone(), per_minute));
    }
    let identity = mesh.identity();
    let who = Who {
        service: identity.service.clone(),
        instance: identity.instance,
    };
    match export::exporter(settings, &who) {
        Ok(exporter) => Some((export::start(exporter, settings), per_minute)),
        Err(error) => {
            tracing::warn!("background flows are not traced: {error:#}");
            None
        }
    }
}

impl Recorder {
    /// Whether anything is traced at all.
    pub fn is_on(&self) -> bool {
        self.inner.is_some()
    }

    /// The time, if anything is traced; 0 otherwise.
    pub fn now_ns(&self) -> u64 {
        if self.is_on() { now_ns() } else { 0 }
    }

    /// Notes something that was done.
    pub fn note(&self, record: Record) {
        if let Some(inner) = &self.inner {
            inner.ring.lock().push(record);
        }
    }

    /// Whether a request that begins is sampled; `client` says whether its client does, if it has a trace.
    pub fn head(&self, trace_id: u128, client: Option<bool>) -> bool {
        self.inner
            .as_ref()
            .is_some_and(|inner| inner.plain.head(trace_id, client))
    }

    /// Why the trace of a request that ends is kept, if it is.
    pub fn decide(&self, sampled: bool, took_ns: u64, outcome: Outcome) -> Option<Reason> {
        let inner = self.inner.as_ref()?;
        if inner.plain.is_plain(sampled, took_ns, outcome) {
            return None;
        }
        match inner
            .sampler
            .lock()
            .keep(now_ns(), sampled, took_ns, outcome)
        {
            Ok(Some(reason)) => {
                COUNTS.kept[reason as usize].fetch_add(1, Ordering::Relaxed);
                Some(reason)
            }
            Ok(None) => None,
            Err(_) => {
                COUNTS.not_kept.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// Keeps a trace that began then: these spans, and whatever any service has noted of it.
    pub fn keep(&self, trace_id: u128, since_ns: u64, spans: impl IntoIterator<Item = Span>) {
        let Some(inner) = &self.inner else { return };
        let trace = trace_id.into();
        if inner.keeps.try_send(KeptTrace { trace, since_ns }).is_err() {
            COUNTS.dropped.fetch_add(1, Ordering::Relaxed);
        }
        spans.into_iter().for_each(|span| self.export(span));
    }

    /// Exports a span.
    pub fn export(&self, span: Span) {
        if let Some(inner) = &self.inner
            && inner.spans.try_send(span).is_err()
        {
            COUNTS.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// For the end of a process: what was traced until now is exported within a second, or dropped.
pub async fn shut_down() {
    export::end_all(OUT_WITHIN).await;
}

struct Keeper {
    inner: Arc<Inner>,
    mesh: Mesh,
    _listening: Subscription,
}

impl Keeper {
    /// Until the bus and the recorder are gone. Sleeps while nothing is kept.
    async fn run(self, mut kept: mpsc::Receiver<KeptTrace>, mut heard: mpsc::Receiver<Keep>) {
        // What was asked for lately, and a while ago.
        let (mut young, mut old) = (Wanted::default(), Wanted::default());
        let (mut aged_ns, mut looked) = (now_ns(), 0);
        loop {
            let (mut own, mut others) = (Keep::default(), Vec::new());
            let waits = !young.is_empty() || !old.is_empty();
            tokio::select! {
                trace = kept.recv() => match trace {
                    Some(trace) => own.traces.push(trace),
                    None => return,
                },
                keep = heard.recv() => match keep {
                    Some(keep) => others.push(keep),
                    None => return,
                },
                () = tokio::time::sleep(AGAIN), if waits => {}
            }
            if own.len() + others.len() > 0 {
                tokio::time::sleep(GATHER).await;
            }
            while let Ok(trace) = kept.try_recv() {
                own.traces.push(trace);
            }
            while let Ok(keep) = heard.try_recv() {
                others.push(keep);
            }
            let mut told = own.clone();
            others.push(own);
            // What was asked for before: only what was noted since.
            let until = self.inner.ring.lock().pushed();
            let further = self.look(&[&young, &old], looked, until);
            told.append(&further);
            others.push(further);
            looked = until;
            let now = now_ns();
            if now.saturating_sub(aged_ns) >= WAIT_NS {
                old = std::mem::take(&mut young);
                aged_ns = now;
            }
            // What is new: everything that the ring holds of that time, and where that leads.
            for _ in 0..HANDS_MAX {
                let mut fresh = Wanted::default();
                for mut keep in others.drain(..).filter(|keep| keep.len() > 0) {
                    let known = keep.pass_over_known(&young, &mut old);
                    if !young.add(&known) || !young.add(&keep) || !fresh.add(&keep) {
                        COUNTS.dropped.fetch_add(1, Ordering::Relaxed);
                    }
                }
                if fresh.is_empty() {
                    break;
                }
                let further = self.look(&[&fresh], 0, until);
                told.append(&further);
                others.push(further);
            }
            self.tell(&told);
        }
    }

    /// Exports what is wanted of the records behind the first `behind` and up to the `until`th. Gives what led further.
    fn look(&self, wanted: &[&Wanted], behind: u64, until: u64) -> Keep {
        let wanted = wanted.iter().filter(|wanted| !wanted.is_empty());
        let since_ns = wanted.clone().map(|wanted| wanted.since_ns()).min();
        let Some(since_ns) = since_ns.filter(|_| behind < until) else {
            return Keep::default();
        };
        let part = self.inner.ring.lock().part(behind, until, since_ns);
        let mut found = Found::default();
        let may_be_in = |names: &Filter| wanted.clone().any(|wanted| wanted.may_be_in(names));
        for record in part.records(may_be_in) {
            (wanted.clone()).for_each(|wanted| wanted.look(record, &mut found));
        }
        for span in found.spans {
            if self.inner.spans.try_send(span).is_err() {
                COUNTS.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        found.further
    }

    fn tell(&self, keep: &Keep) {
        // Lost with the bus: the trace lacks what others did.
        if keep.len() > 0 && self.mesh.cast(SUBJECT, keep).is_err() {
            COUNTS.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
