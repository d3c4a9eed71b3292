//! Availability as clients see it: counts of outcomes in five-minute windows, burn rates of the error budget, and the alarms that follow from
//! them. Pure: what happened and when are inputs, alarms that begin and end are the output. Never sends anything, never looks at a clock.

mod alarms;
mod board;
mod counts;
mod series;

pub use alarms::{Alarm, Change, Kind, Rules, Severity};
pub use board::{Board, Scope, Strip};
pub use counts::{BOUNDS_MS, BUCKETS, Class, Counts, Outcome};
pub use series::{Bar, SLOT_MS, Series, WINDOW_MS, WINDOWS_KEPT};
