//! RFC 3339 to milliseconds, for `issued_at`. The only place that reads a calendar, so no calendar crate is needed.

use crate::model::WallMs;

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

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Counts from March, so that the leap day is the last of its year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719_468
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

    #[track_caller]
    fn check(text: &str, want: Option<i64>) {
        assert_eq!(parse_rfc3339(text).map(|ms| ms.0), want, "{text}");
    }
}
