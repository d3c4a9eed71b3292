//! What a run found out.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Result of one run. Latencies are in microseconds, of successful requests.
#[derive(Debug, Serialize)]
pub struct Report {
    operation: String,
    connections: u64,
    seconds: f64,
    requests: u64,
    requests_per_second: f64,
    p50_us: u64,
    p90_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
    errors: BTreeMap<String, u64>,
}

impl Report {
    /// Sums up.
    pub fn new(
        operation: &str,
        connections: u64,
        took: Duration,
        latencies_us: &Histogram<u64>,
        errors: BTreeMap<String, u64>,
    ) -> Self {
        Self {
            operation: operation.to_lowercase(),
            connections,
            seconds: took.as_secs_f64(),
            requests: latencies_us.len(),
            requests_per_second: latencies_us.len() as f64 / took.as_secs_f64(),
            p50_us: latencies_us.value_at_quantile(0.5),
            p90_us: latencies_us.value_at_quantile(0.9),
            p99_us: latencies_us.value_at_quantile(0.99),
            p999_us: latencies_us.value_at_quantile(0.999),
            max_us: latencies_us.max(),
            errors,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |us: u64| us as f64 / 1000.0;
        writeln!(
            f,
            "{}: {} requests in {:.1} s on {} connections: {:.0}/s",
            self.operation, self.requests, self.seconds, self.connections, self.requests_per_second
        )?;
        writeln!(
            f,
            "latency ms: p50 {:.2}  p90 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2}",
            ms(self.p50_us),
            ms(self.p90_us),
            ms(self.p99_us),
            ms(self.p999_us),
            ms(self.max_us)
        )?;
        for (error, count) in &self.errors {
            writeln!(f, "{count} × {error}")?;
        }
        Ok(())
    }
}
