//! Times as signatures carry them: ISO 8601 basic format, in UTC.

use std::time::UNIX_EPOCH;

use actix_web::http::header::HttpDate;

/// `20150830T123600Z` → seconds since the epoch.
pub(super) fn parse_basic(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = &bytes[from..to];
        digits.iter().all(u8::is_ascii_digit).then(|| {
            digits
                .iter()
                .fold(0, |number, digit| number * 10 + i64::from(digit - b'0'))
        })
    };
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    let valid = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    valid.then(|| days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Same, or an HTTP date (`Date` header).
pub(super) fn parse_any(text: &str) -> Option<i64> {
    parse_basic(text).or_else(|| {
        let date: HttpDate = text.parse().ok()?;
        let since = std::time::SystemTime::from(date)
            .duration_since(UNIX_EPOCH)
            .ok()?;
        i64::try_from(since.as_secs()).ok()
    })
}

/// Seconds since the epoch → `20150830T123600Z`.
pub(super) fn format_basic(unix_s: i64) -> String {
    let (year, month, day) = civil(unix_s.div_euclid(86_400));
    let second = unix_s.rem_euclid(86_400);
    format!(
        "{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Days from the epoch to a date of the Gregorian calendar (years counted from March, in eras of 400 years).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of `days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_survive_the_round_trip() {
        assert_eq!(parse_basic("19700101T000000Z"), Some(0));
        assert_eq!(parse_basic("20150830T123600Z"), Some(1_440_938_160));
        for unix_s in [0, 951_782_399, 951_782_400, 1_709_164_800, 4_102_444_799] {
            assert_eq!(parse_basic(&format_basic(unix_s)), Some(unix_s));
        }
        assert_eq!(
            parse_any("Sun, 30 Aug 2015 12:36:00 GMT"),
            Some(1_440_938_160)
        );
        for bad in [
            "",
            "201",
            "20150830T1236Z00",
            "20151330T123600Z",
            "2015-08-30T12:36",
        ] {
            assert_eq!(parse_any(bad), None, "{bad}");
        }
    }
}
