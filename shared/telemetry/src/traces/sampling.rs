//! Which traces are kept. Pure: told the time, draws nothing.

use super::settings::TraceSettings;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As asked, or refused for what the client sent.
    Done,
    /// Refused for want of capacity.
    Throttled,
    /// By our fault.
    Failed,
}

/// Why a trace is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// By the ratio, or because the client keeps it too.
    Sampled,
    /// The request took long.
    Slow,
    /// The request was throttled.
    Throttled,
    /// The request failed.
    Failed,
}

impl Reason {
    /// As the span's attribute `evenkeel.kept` says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sampled => "sampled",
            Self::Slow => "slow",
            Self::Throttled => "throttled",
            Self::Failed => "failed",
        }
    }
}

/// Tokens of traces: fills with `per_second`, holds a second's worth.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    per_second: u64,
    /// Billionths of a trace.
    saved: u64,
    at_ns: u64,
}

const TRACE: u64 = 1_000_000_000;

impl Allowance {
    fn new(per_second: u32) -> Self {
        let per_second = u64::from(per_second);
        Self {
            per_second,
            saved: per_second * TRACE,
            at_ns: 0,
        }
    }

    fn take(&mut self, now_ns: u64) -> bool {
        // The clock may have been put back.
        let passed = now_ns.saturating_sub(self.at_ns).min(TRACE);
        self.at_ns = now_ns;
        let full = self.per_second * TRACE;
        self.saved = full.min(self.saved + passed * self.per_second);
        let granted = self.saved >= TRACE;
        if granted {
            self.saved -= TRACE;
        }
        granted
    }
}

/// Decides what a router keeps.
#[derive(Clone, Debug)]
pub(crate) struct Sampler {
    /// Trace ids whose lower half is below are sampled.
    below: u128,
    slow_ns: u64,
    sampled: Allowance,
    all: Allowance,
}

impl Sampler {
    pub(crate) fn new(settings: &TraceSettings) -> Self {
        Self {
            below: (settings.ratio() * 2_f64.powi(64)) as u128,
            slow_ns: settings.slow_ms.saturating_mul(1_000_000),
            sampled: Allowance::new(settings.sampled_per_second_max),
            all: Allowance::new(settings.kept_per_second_max),
        }
    }

    /// At the request's head: whether it is sampled. A client that said so decides for itself.
    pub(crate) fn head(&self, trace_id: u128, client: Option<bool>) -> bool {
        client == Some(true) || trace_id & u128::from(u64::MAX) < self.below
    }

    /// Whether `keep` has anything to decide: almost all requests end here.
    pub(crate) fn is_plain(&self, sampled: bool, took_ns: u64, outcome: Outcome) -> bool {
        !sampled && outcome == Outcome::Done && took_ns < self.slow_ns
    }

    /// At its end: why its trace is kept, if it is. `Err`: it would be, but too many are.
    pub(crate) fn keep(
        &mut self,
        now_ns: u64,
        sampled: bool,
        took_ns: u64,
        outcome: Outcome,
    ) -> Result<Option<Reason>, Reason> {
        let reason = match outcome {
            Outcome::Failed => Reason::Failed,
            Outcome::Throttled => Reason::Throttled,
            Outcome::Done if took_ns >= self.slow_ns => Reason::Slow,
            Outcome::Done if sampled => Reason::Sampled,
            Outcome::Done => return Ok(None),
        };
        let within =
            (reason != Reason::Sampled || self.sampled.take(now_ns)) && self.all.take(now_ns);
        if within {
            Ok(Some(reason))
        } else {
            Err(reason)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn sampler(ratio: f64) -> Sampler {
        Sampler::new(&TraceSettings {
            sample_ratio: Some(ratio),
            slow_ms: 100,
            sampled_per_second_max: 2,
            kept_per_second_max: 4,
            ..TraceSettings::default()
        })
    }

    #[test]
    fn the_ratio_is_kept_by_trace_id_and_a_client_that_samples_is_followed() {
        let sampler = sampler(0.25);
        let sampled = (0..4_000_u128)
            .map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
            .filter(|id| sampler.head(*id, None));
        let count = sampled.count();
        assert!((800..1_200).contains(&count), "{count} of 4000");
        assert!(!sampler.head(u128::MAX, None));
        assert!(sampler.head(u128::MAX, Some(true)));
        // That a client does not sample says nothing about what is of use here.
        assert!(sampler.head(1, Some(false)));
        assert!(self::sampler(1.0).head(u128::MAX, None));
        assert!(!self::sampler(0.0).head(0, None));
    }

    #[test]
    fn slow_failed_and_throttled_ones_are_kept_whatever_the_ratio() {
        let mut sampler = sampler(0.0);
        let (quick, slow) = (99_999_999, 100_000_000);
        for (sampled, took, outcome, kept) in [
            (false, quick, Outcome::Done, None),
            (false, slow, Outcome::Done, Some(Reason::Slow)),
            (false, quick, Outcome::Throttled, Some(Reason::Throttled)),
            (true, slow, Outcome::Failed, Some(Reason::Failed)),
            (true, quick, Outcome::Done, Some(Reason::Sampled)),
        ] {
            assert_eq!(sampler.is_plain(sampled, took, outcome), kept.is_none());
            assert_eq!(sampler.keep(SECOND, sampled, took, outcome), Ok(kept));
        }
    }

    #[test]
    fn sampled_ones_are_bounded_first_and_leave_room_for_the_others() {
        let mut sampler = sampler(1.0);
        let mut keep = |now, outcome| sampler.keep(now, true, 0, outcome).is_ok();
        assert!(keep(SECOND, Outcome::Done) && keep(SECOND, Outcome::Done));
        assert!(!keep(SECOND, Outcome::Done), "two a second");
        assert!(keep(SECOND, Outcome::Failed) && keep(SECOND, Outcome::Throttled));
        assert!(!keep(SECOND, Outcome::Failed), "four a second in all");
        // Half a second later there is room for one and two; a clock that goes back gives nothing.
        assert!(keep(SECOND * 3 / 2, Outcome::Done));
        assert!(!keep(SECOND, Outcome::Done));
        assert!(keep(SECOND, Outcome::Failed));
    }
}
