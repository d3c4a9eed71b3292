//! Times as DynamoDB writes them into messages. Never reads a clock.

const DAY_S: u64 = 86_400;
const WEEKDAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A time in milliseconds since the epoch, e.g. `Friday, October 9, 2026 at 1:21:34 AM Coordinated Universal Time`.
pub(super) fn long_time(ms: u64) -> String {
    let seconds = ms / 1000;
    let days = seconds / DAY_S;
    let (year, month, day) = date(days);
    let of_day = seconds % DAY_S;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let half = if hour < 12 { "AM" } else { "PM" };
    let hour = match hour % 12 {
        0 => 12,
        hour => hour,
    };
    // `% 7` and `date` keep the indices in their arrays.
    let weekday = WEEKDAYS[(days % 7) as usize];
    let month = MONTHS[month as usize];
    format!(
        "{weekday}, {month} {day}, {year} at {hour}:{minute:02}:{second:02} {half} Coordinated Universal Time"
    )
}

/// Year, month (from 0) and day (from 1) of a number of days since the epoch.
fn date(mut days: u64) -> (u64, u64, u64) {
    // Whole cycles of 400 years first, so that the loops below are short whatever the clock says.
    const CYCLE: u64 = 146_097;
    let mut year = 1970 + days / CYCLE * 400;
    days %= CYCLE;
    while days >= year_days(year) {
        days -= year_days(year);
        year += 1;
    }
    let february = year_days(year) - 337;
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

fn year_days(year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    365 + u64::from(leap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_out() {
        for (seconds, text) in [
            (0, "Thursday, January 1, 1970 at 12:00:00 AM"),
            (951_782_400, "Tuesday, February 29, 2000 at 12:00:00 AM"),
            (1_532_524_349, "Wednesday, July 25, 2018 at 1:12:29 PM"),
            (1_791_505_294, "Friday, October 9, 2026 at 12:21:34 AM"),
            (4_107_542_399, "Sunday, February 28, 2100 at 11:59:59 PM"),
            (4_107_542_400, "Monday, March 1, 2100 at 12:00:00 AM"),
        ] {
            let expected = format!("{text} Coordinated Universal Time");
            assert_eq!(long_time(seconds * 1000 + 999), expected);
        }
        // A clock that is entirely wrong makes odd texts, not a hang.
        assert!(long_time(u64::MAX).contains("Coordinated"));
    }
}
