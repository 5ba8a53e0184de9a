//! The Gregorian calendar: RFC 3339 to milliseconds and back, days to dates. Small enough that no crate is needed for it.

use super::WallMs;

/// `2026-11-21T10:00:00.250+01:00`; `T` may be a blank or lower case, the zone is required.
pub fn parse_rfc3339(text: &str) -> Option<WallMs> {
    let b = text.as_bytes();
    let seps = b.len() >= 20 && b[4] == b'-' && b[7] == b'-' && matches!(b[10], b'T' | b't' | b' ') && b[13] == b':' && b[16] == b':';
    if !seps {
        return None;
    }
    let (year, month, day) = (digits(&b[0..4])?, digits(&b[5..7])?, digits(&b[8..10])?);
    let (hour, minute, second) = (digits(&b[11..13])?, digits(&b[14..16])?, digits(&b[17..19])?);
    let fits = year >= 1970 && (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    // 60 is a leap second; it counts as the first second of the next minute.
    if !fits || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (millis, zone) = fraction(&b[19..])?;
    let days = days_since_1970(year, month, day);
    Some(WallMs((((days * 24 + hour) * 60 + minute - offset_minutes(zone)?) * 60 + second) * 1000 + millis))
}

/// Cuts off `.123…` and gives its milliseconds.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.', tail)) = rest.split_first() else { return Some((0, rest)) };
    let len = tail.iter().take_while(|b| b.is_ascii_digit()).count();
    let mut millis = 0;
    for n in 0..3 {
        millis = millis * 10 + tail.get(n).filter(|_| n < len).map_or(0, |b| i64::from(b - b'0'));
    }
    (len > 0).then_some((millis, &tail[len..]))
}

fn offset_minutes(zone: &[u8]) -> Option<i64> {
    match zone {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            let total = hours * 60 + minutes;
            (hours < 24 && minutes < 60).then_some(if *sign == b'+' { total } else { -total })
        }
        _ => None,
    }
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

/// Of that month.
pub fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Counts from March, so that the leap day is the last of its year.
pub fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719_468
}

/// Days since 1970 to year, month and day: years counted from March, in eras of 400.
pub fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// `2026-11-21T10:00:00`, of seconds on whatever clock; who writes a moment of UTC adds the Z.
pub fn text(seconds: i64) -> String {
    let (days, s) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", s / 3600, s % 3600 / 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339() {
        // The right-hand sides come from `date -d TEXT +%s%3N`.
        check("1970-01-01T00:00:00Z", Some(0));
        check("2026-11-21T10:00:00Z", Some(1_795_255_200_000));
        check("2026-11-21T11:00:00.250+01:00", Some(1_795_255_200_250));
        check("2026-11-21 04:30:00.5-05:30", Some(1_795_255_200_500));
        check("2024-02-29T23:59:59.999999Z", Some(1_709_251_199_999));
        check("2000-03-01T00:00:00z", Some(951_868_800_000));
        check("2100-01-01T00:00:00Z", Some(4_102_444_800_000));
        check("2023-02-29T00:00:00Z", None);
        check("2026-11-21T10:00:00", None);
        check("2026-11-21", None);
        check("2026-13-21T10:00:00Z", None);
        check("2026-11-21T10:00:00.Z", None);
        check("2026-11-21T10:00:00+1:00", None);
        check("2026-11-21T1é:00:00Z", None);
        check("", None);
    }

    #[test]
    fn days_are_dates_and_back() {
        for days in (-200_000..200_000).step_by(17) {
            let (year, month, day) = date(days);
            assert_eq!(days_since_1970(year, month, day), days, "{year}-{month}-{day}");
        }
        assert_eq!(text(1_709_251_199), "2024-02-29T23:59:59");
        assert_eq!(text(-1), "1969-12-31T23:59:59");
    }

    #[track_caller]
    fn check(text: &str, want: Option<i64>) {
        assert_eq!(parse_rfc3339(text).map(|ms| ms.0), want, "{text}");
    }
}
