//! Moments as they are shown: `15:23:08.104Z` to a person, RFC 3339 in `--json`. In UTC, as the Z says: a reader's zone would
//! need a library that reads time zone files.

/// `2026-11-21T15:23:08.104Z`.
pub fn rfc3339(wall_ms: i64) -> String {
    let (days, ms) = (wall_ms.div_euclid(86_400_000), wall_ms.rem_euclid(86_400_000));
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02}T{}Z", of_day(ms))
}

/// `15:23:08.104Z`.
pub fn time(wall_ms: i64) -> String {
    of_day(wall_ms.rem_euclid(86_400_000)) + "Z"
}

fn of_day(ms: i64) -> String {
    let s = ms / 1000;
    format!("{:02}:{:02}:{:02}.{:03}", s / 3600, s % 3600 / 60, s % 60, ms % 1000)
}

/// Days since 1970 to a date: years of the Gregorian calendar counted from March.
fn date(days: i64) -> (i64, i64, i64) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_the_standard_says() {
        for (ms, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_274_588_104, "2026-11-21T15:23:08.104Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(ms), want);
        }
        assert_eq!(time(1_795_274_588_104), "15:23:08.104Z");
    }
}
