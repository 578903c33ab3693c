//! Time: points in time, and calculations with them. The functions get the current time as an argument.

/// The seconds of a day. Unix time has no leap seconds.
const DAY: u64 = 86_400;

/// A clock.
pub trait Clock {
    /// Returns the current time.
    fn now(&self) -> Time;
}

/// A point in time, in nanoseconds since 1970-01-01 00:00 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(pub u64);

/// A UTC day, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Day(pub u32);

// === impl Time ===

impl Time {
    /// Returns the whole seconds since 1970.
    pub fn seconds(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// Returns the UTC day that contains this time.
    pub fn day(self) -> Day {
        Day(u32::try_from(self.seconds() / DAY).unwrap_or(u32::MAX))
    }

    /// Returns the seconds until the next 00:00 UTC, rounded up; never 0.
    pub fn seconds_to_midnight(self) -> u64 {
        let whole_day = DAY * 1_000_000_000;
        (whole_day - self.0 % whole_day).div_ceil(1_000_000_000)
    }

    /// Returns the nanoseconds since `earlier`; 0 if that is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Formats a duration in seconds as Go does: `6m0s`, `23h59m59s`.
pub fn go_duration(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Formats a time in seconds since 1970 as RFC 3339 defines: `2026-11-23T00:00:00Z`.
pub fn rfc3339(seconds: u64) -> String {
    let (year, month, day) = civil(seconds / DAY);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Parses the output of [`rfc3339`], also with another offset and with fractions of a second, which are dropped. Returns `None` for
/// anything else, and for times before 1970.
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't'])?;
    let (time, rest) = rest.split_at_checked(8)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let fits = hour < 24 && minute < 60 && second < 60;
    let days = if fits { days_before(year, month, day)? } else { return None };
    let offset = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => rest,
    };
    (days * DAY + hour * 3600 + minute * 60 + second).checked_add_signed(-offset_seconds(offset)?)
}

fn offset_seconds(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let (sign, text) = match text.split_at_checked(1)? {
        ("+", text) => (1, text),
        ("-", text) => (-1, text),
        _ => return None,
    };
    let [hours, minutes] = numbers(text, ':', [2, 2])?;
    let seconds = (hours < 24 && minutes < 60).then_some(hours * 3600 + minutes * 60)?;
    Some(sign * i64::try_from(seconds).ok()?)
}

/// Parses numbers with exactly these counts of digits, separated by `separator`.
fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[u64; N]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; N];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == digits && part.bytes().all(|b| b.is_ascii_digit()))?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

/// Returns the days from 1970 to a date; `None` if the date does not exist.
pub fn days_before(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) {
        return None;
    }
    let years: u64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
    let lengths = months(year);
    let length = *lengths.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    let months: u64 = lengths.iter().take(usize::try_from(month - 1).ok()?).sum();
    (1..=length).contains(&day).then(|| years + months + day - 1)
}

/// Returns year, month and day of the Gregorian calendar for a number of days since 1970.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let mut month = 1;
    for length in months(year) {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

fn months(year: u64) -> [u64; 12] {
    let february = if leap(year) { 29 } else { 28 };
    [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

fn leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn midnight_is_never_now() {
        for (nanos, seconds) in
            [(0, 86_400), (1, 86_400), (1_000_000_000, 86_399), (86_399_999_999_999, 1), (86_400_000_000_000, 86_400)]
        {
            assert_eq!(Time(nanos).seconds_to_midnight(), seconds, "{nanos}");
        }
        assert_eq!(Time(86_399_999_999_999).day(), Day(0));
        assert_eq!(Time(86_400_000_000_000).day(), Day(1));
    }

    #[test]
    fn durations_and_times_are_formatted() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (360, "6m0s"), (3600, "1h0m0s"), (86_399, "23h59m59s")] {
            assert_eq!(go_duration(seconds), text);
        }
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_795_392_000, "2026-11-23T00:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
            assert_eq!(parse_rfc3339(text), Some(seconds));
        }
    }

    #[test]
    fn times_are_parsed_strictly() {
        for (text, seconds) in [
            ("2000-02-29T12:34:56+00:00", 951_827_696),
            ("2000-02-29t13:34:56.789+01:00", 951_827_696),
            ("2000-02-28T23:34:56-13:00", 951_827_696),
            ("1970-01-01T00:00:00z", 0),
        ] {
            assert_eq!(parse_rfc3339(text), Some(seconds), "{text}");
        }
        for text in [
            "",
            "2027",
            "2027-01-01",
            "2027-01-01T00:00:00",
            "2027-01-01 00:00:00Z",
            "2027-13-01T00:00:00Z",
            "2027-00-01T00:00:00Z",
            "2027-02-29T00:00:00Z",
            "2027-01-00T00:00:00Z",
            "2027-01-01T24:00:00Z",
            "2027-01-01T00:60:00Z",
            "2027-01-01T00:00:60Z",
            "2027-01-01T00:00:00ZZ",
            "2027-01-01T00:00:00+1:00",
            "2027-01-01T00:00:00+24:00",
            "+027-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "２027-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }
}
