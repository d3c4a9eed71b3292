//! What the router counts. Registered once a process in the default registry; label lookups are done at the start, not a request.

use std::sync::OnceLock;
use std::time::Duration;

use model::{ApiError, ErrorKind};
use prometheus::{
    Histogram, IntCounter, IntCounterVec, IntGauge, register_histogram_vec,
    register_int_counter_vec, register_int_gauge,
};

use crate::operation::Operation;

/// How a request ended, as a label.
const OUTCOMES: [&str; 4] = ["ok", "client_error", "throttled", "server_error"];

/// The reason of what the router sheds, as a label.
const BUSY: &str = "RouterBusy";

/// All metrics of the router.
pub(crate) struct Metrics {
    operations: Vec<OperationMetrics>,
    /// Requests that named no known operation, or were shed before that was looked at.
    other: [IntCounter; 4],
    /// Requests being worked on.
    in_flight: IntGauge,
    /// Refused requests by what refused them.
    throttled: IntCounterVec,
}

/// Counts a request as being worked on until dropped (also when its client hangs up).
pub(crate) struct InFlight(&'static IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

struct OperationMetrics {
    outcomes: [IntCounter; 4],
    seconds: Histogram,
}

impl Metrics {
    /// The process's metrics.
    pub(crate) fn get() -> &'static Self {
        static METRICS: OnceLock<Metrics> = OnceLock::new();
        METRICS.get_or_init(Self::register)
    }

    // The names are constants of this function, registered once: that can only fail if another part of the program took them.
    #[allow(clippy::expect_used)]
    fn register() -> Self {
        let requests = register_int_counter_vec!(
            "evenkeel_router_requests_total",
            "Requests by operation and outcome",
            &["operation", "outcome"]
        )
        .expect("metric names are unique");
        let seconds = register_histogram_vec!(
            "evenkeel_router_request_seconds",
            "Time from the request's head to its answer",
            &["operation"],
            vec![
                0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256,
                0.512, 1.0, 2.5, 5.0, 10.0
            ]
        )
        .expect("metric names are unique");
        let in_flight = register_int_gauge!(
            "evenkeel_router_requests_in_flight",
            "Requests being worked on"
        )
        .expect("metric names are unique");
        let throttled = register_int_counter_vec!(
            "evenkeel_router_throttled_total",
            "Requests refused for lack of throughput, by the API's reason; RouterBusy: shed by the router",
            &["reason"]
        )
        .expect("metric names are unique");
        // All are there from the start: a rate over what has just appeared lacks its first request.
        throttled.with_label_values(&[BUSY]);
        for reason in model::error::throttling_reasons() {
            throttled.with_label_values(&[reason.as_str()]);
        }
        let counters =
            |name: &str| OUTCOMES.map(|outcome| requests.with_label_values(&[name, outcome]));
        let operations = Operation::all()
            .map(|operation| OperationMetrics {
                outcomes: counters(operation.name()),
                seconds: seconds.with_label_values(&[operation.name()]),
            })
            .collect();
        Self {
            operations,
            other: counters("unknown"),
            in_flight,
            throttled,
        }
    }

    /// Counts a request that begins.
    pub(crate) fn begin(&'static self) -> InFlight {
        self.in_flight.inc();
        InFlight(&self.in_flight)
    }

    /// Counts a finished request.
    pub(crate) fn count(
        &self,
        operation: Option<Operation>,
        error: Option<&ApiError>,
        took: Duration,
    ) {
        let outcome = outcome(error);
        if let Some(error) = error.filter(|error| error.is_throttling()) {
            // The reasons are words of the API, of which there are a dozen.
            let reason = error.throttling_reasons.first();
            let reason = reason.map_or(BUSY, |reason| reason.reason.as_str());
            self.throttled.with_label_values(&[reason]).inc();
        }
        match operation.and_then(|operation| self.operations.get(operation.index())) {
            Some(metrics) => {
                metrics.outcomes[outcome].inc();
                metrics.seconds.observe(took.as_secs_f64());
            }
            None => self.other[outcome].inc(),
        }
    }
}

/// Index into `OUTCOMES`.
fn outcome(error: Option<&ApiError>) -> usize {
    let Some(error) = error else { return 0 };
    match error.kind {
        _ if error.is_throttling() => 2,
        ErrorKind::InternalServerError | ErrorKind::ServiceUnavailable => 3,
        _ => 1,
    }
}
