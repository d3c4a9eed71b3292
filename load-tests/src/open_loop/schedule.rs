//! When requests are to be sent: fixed before the first one is, whatever becomes of them (open loop). Pure: a rate over time in, the
//! time of each arrival out, by its number, so that nothing needs to be stored.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

/// A rate that changes evenly from one value to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// Length, seconds.
    pub seconds: f64,
    /// Requests a second at its start.
    pub from: f64,
    /// Requests a second at its end.
    pub to: f64,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    starts_s: f64,
    /// Arrivals before it.
    before: f64,
    segment: Segment,
}

/// All arrivals of a stream.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    pieces: Vec<Piece>,
    total: f64,
    length_s: f64,
}

impl Schedule {
    /// The segments follow each other.
    pub fn new(segments: impl IntoIterator<Item = Segment>) -> Self {
        let mut schedule = Self::default();
        let mut starts_s = 0.0;
        for segment in segments {
            schedule.pieces.push(Piece {
                starts_s,
                before: schedule.total,
                segment,
            });
            schedule.total += segment.seconds * (segment.from + segment.to) / 2.0;
            starts_s += segment.seconds;
        }
        schedule.length_s = starts_s;
        schedule
    }

    /// Length of all segments.
    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.length_s)
    }

    /// Number of arrivals.
    pub fn arrivals(&self) -> u64 {
        self.total.round() as u64
    }

    /// Time of arrival `number` since the start; none behind the last one. Evenly spaced: the first is half a gap after the start.
    pub fn at(&self, number: u64) -> Option<Duration> {
        if number >= self.arrivals() {
            return None;
        }
        let place = (number as f64 + 0.5).min(self.total);
        // The piece in which the place falls: the last one that starts at or before it. Pieces without arrivals are passed over.
        let behind = self.pieces.partition_point(|piece| piece.before <= place);
        let piece = self.pieces[..behind].last()?;
        let within = place - piece.before;
        let Segment { seconds, from, to } = piece.segment;
        let slope = (to - from) / seconds;
        // Solves from·t + slope·t²/2 = within, in the form that stays exact when the slope is nearly nothing.
        let root = (from * from + 2.0 * slope * within).max(0.0).sqrt();
        let after_s = if from + root > 0.0 {
            2.0 * within / (from + root)
        } else {
            0.0
        };
        Some(Duration::from_secs_f64(
            piece.starts_s + after_s.clamp(0.0, seconds),
        ))
    }

    /// Requests a second that are intended at this time; 0 behind the end.
    pub fn rate(&self, at: Duration) -> f64 {
        let at_s = at.as_secs_f64();
        let behind = self.pieces.partition_point(|piece| piece.starts_s <= at_s);
        self.pieces[..behind].last().map_or(0.0, |piece| {
            let Segment { seconds, from, to } = piece.segment;
            let part = (at_s - piece.starts_s) / seconds;
            if part < 1.0 {
                from + (to - from) * part
            } else {
                0.0
            }
        })
    }
}

/// A rate within one phase, as people write it.
#[derive(Clone, Debug, PartialEq)]
pub enum Rate {
    /// `2000`.
    Constant(f64),
    /// `500..4000`: evenly from one to the other.
    Ramp(f64, f64),
    /// `1000,2000,4000`: equally long steps.
    Steps(Vec<f64>),
    /// `1000^5000:10:2`: 1,000, and every 10 s for 2 s 5,000.
    Spikes {
        /// Between the spikes.
        base: f64,
        /// In a spike.
        spike: f64,
        /// From the start of a spike to the start of the next, seconds; the first one starts after the base has run that long without the spike.
        every_s: f64,
        /// Length of a spike, seconds.
        lasts_s: f64,
    },
}

/// Requests a second at most: far above what one machine sends.
const RATE_MAX: f64 = 10_000_000.0;
/// Spikes of a phase at most.
const SPIKES_MAX: f64 = 10_000.0;

impl Rate {
    /// Its segments in a phase of this length.
    pub fn segments(&self, seconds: f64) -> Vec<Segment> {
        let flat = |seconds: f64, rate: f64| Segment {
            seconds,
            from: rate,
            to: rate,
        };
        match self {
            Rate::Constant(rate) => vec![flat(seconds, *rate)],
            Rate::Ramp(from, to) => vec![Segment {
                seconds,
                from: *from,
                to: *to,
            }],
            Rate::Steps(steps) => steps
                .iter()
                .map(|rate| flat(seconds / steps.len() as f64, *rate))
                .collect(),
            Rate::Spikes {
                base,
                spike,
                every_s,
                lasts_s,
            } => {
                let mut segments = Vec::new();
                let mut left = seconds;
                for (length, rate) in [(every_s - lasts_s, *base), (*lasts_s, *spike)]
                    .into_iter()
                    .cycle()
                {
                    if left <= 0.0 {
                        break;
                    }
                    segments.push(flat(length.min(left), rate));
                    left -= length;
                }
                segments
            }
        }
    }
}

fn number(text: &str) -> Result<f64, String> {
    let value: f64 = text
        .trim()
        .parse()
        .map_err(|_| format!("\"{text}\" is not a number"))?;
    if (0.0..=RATE_MAX).contains(&value) {
        Ok(value)
    } else {
        Err(format!("{text} is not between 0 and {RATE_MAX}"))
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((base, rest)) = text.split_once('^') {
            let parts: Vec<f64> = rest.split(':').map(number).collect::<Result<_, _>>()?;
            let [spike, every_s, lasts_s] = parts[..] else {
                return Err("spikes are written BASE^SPIKE:EVERY_SECONDS:FOR_SECONDS".into());
            };
            if lasts_s <= 0.0 || every_s <= lasts_s || every_s < 3_600.0 / SPIKES_MAX {
                return Err("a spike must be shorter than the time to the next one".into());
            }
            return Ok(Rate::Spikes {
                base: number(base)?,
                spike,
                every_s,
                lasts_s,
            });
        }
        if let Some((from, to)) = text.split_once("..") {
            return Ok(Rate::Ramp(number(from)?, number(to)?));
        }
        if text.contains(',') {
            let steps: Vec<f64> = text.split(',').map(number).collect::<Result<_, _>>()?;
            return Ok(Rate::Steps(steps));
        }
        number(text).map(Rate::Constant)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rate::Constant(rate) => write!(f, "{rate}"),
            Rate::Ramp(from, to) => write!(f, "{from}..{to}"),
            Rate::Steps(steps) => {
                let steps: Vec<String> = steps.iter().map(f64::to_string).collect();
                f.write_str(&steps.join(","))
            }
            Rate::Spikes {
                base,
                spike,
                every_s,
                lasts_s,
            } => write!(f, "{base}^{spike}:{every_s}:{lasts_s}"),
        }
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a rate is a number or a text such as \"500..4000\""
        )]
        enum Written {
            Whole(u64),
            Broken(f64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Whole(rate) => rate.to_string(),
            Written::Broken(rate) => rate.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn times(schedule: &Schedule) -> Vec<f64> {
        (0..schedule.arrivals())
            .map(|n| schedule.at(n).unwrap().as_secs_f64())
            .collect()
    }

    #[test]
    fn a_constant_rate_is_evenly_spaced() {
        let schedule = Schedule::new(Rate::Constant(1_000.0).segments(3.0));
        assert_eq!(schedule.arrivals(), 3_000);
        for (number, at) in times(&schedule).into_iter().enumerate() {
            assert!((at - (number as f64 + 0.5) / 1_000.0).abs() < 1e-8);
        }
        assert_eq!(schedule.at(3_000), None);
        assert_eq!(schedule.rate(Duration::from_secs(1)), 1_000.0);
        assert_eq!(schedule.rate(Duration::from_secs(3)), 0.0);
    }

    #[test]
    fn a_ramp_has_the_area_under_its_line() {
        let schedule = Schedule::new(Rate::Ramp(0.0, 1_000.0).segments(10.0));
        assert_eq!(schedule.arrivals(), 5_000);
        let times = times(&schedule);
        // In the first t seconds: 50 t² arrivals.
        for seconds in 1..=10 {
            let arrived = times.iter().filter(|at| **at < f64::from(seconds)).count();
            let expected = 50.0 * f64::from(seconds * seconds);
            assert!((arrived as f64 - expected).abs() <= 1.0, "{arrived}");
        }
        let down = Schedule::new(Rate::Ramp(1_000.0, 0.0).segments(10.0));
        assert_eq!(down.arrivals(), 5_000);
        assert!(down.at(4_999).unwrap() <= Duration::from_secs(10));
    }

    #[test]
    fn steps_spikes_and_pauses() {
        let steps: Rate = "100,0,300".parse().unwrap();
        let schedule = Schedule::new(steps.segments(3.0));
        let times = times(&schedule);
        let within = |from: f64, to: f64| times.iter().filter(|t| (from..to).contains(*t)).count();
        assert_eq!(
            [within(0.0, 1.0), within(1.0, 2.0), within(2.0, 3.0)],
            [100, 0, 300]
        );
        let spikes: Rate = "10^100:10:2".parse().unwrap();
        let segments = spikes.segments(25.0);
        let rates: Vec<(f64, f64)> = segments.iter().map(|s| (s.seconds, s.from)).collect();
        let expected = [
            (8.0, 10.0),
            (2.0, 100.0),
            (8.0, 10.0),
            (2.0, 100.0),
            (5.0, 10.0),
        ];
        assert_eq!(rates, expected);
    }

    #[test]
    fn rates_are_read_as_they_are_written() {
        for text in ["2000", "500..4000", "1,2,3.5", "10^100:10:2"] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.to_string(), text);
        }
        for wrong in [
            "", "-1", "NaN", "inf", "1..", "1,,2", "5^6", "5^6:1:2", "1e99", "5^6:0:0",
        ] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn arrivals_are_in_order_within_the_schedule_and_follow_its_rate(
            segments in prop::collection::vec((0.01..5.0, 0.0..2_000.0, 0.0..2_000.0), 1..6)
        ) {
            let segments: Vec<Segment> = segments
                .into_iter()
                .map(|(seconds, from, to)| Segment { seconds, from, to })
                .collect();
            let schedule = Schedule::new(segments.iter().copied());
            let times = times(&schedule);
            prop_assert!(times.is_sorted());
            let end: f64 = segments.iter().map(|s| s.seconds).sum();
            prop_assert!(times.iter().all(|at| (0.0..=end + 1e-6).contains(at)));
            // The number of arrivals up to the end of each segment is the area up to there.
            let (mut area, mut until) = (0.0, 0.0);
            for segment in &segments {
                area += segment.seconds * (segment.from + segment.to) / 2.0;
                until += segment.seconds;
                let arrived = times.iter().filter(|at| **at <= until + 1e-7).count() as f64;
                prop_assert!((arrived - area).abs() <= 1.001, "{} instead of {}", arrived, area);
            }
        }
    }
}
