//! The five fields of cron: minute, hour, day of the month, month, weekday, with the usual names.
//!
//! As `man 5 crontab` has it: where both day fields say something, either of them suffices; where one begins with `*`, both
//! must hold. Absent on purpose: seconds and years, `L`, `W` and `#`, and what a change of the clock does to it (`logic`).

use super::calendar;
use std::{fmt, ops::RangeInclusive};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    /// A bit for each value that is meant.
    pub minutes: u64,
    pub hours: u64,
    pub days: u64,
    pub months: u64,
    /// Sunday is 0.
    pub weekdays: u64,
    any_day: bool,
    any_weekday: bool,
}

/// Why it is none, and what is possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadCron(pub String);

struct Field {
    name: &'static str,
    range: RangeInclusive<u32>,
    words: &'static [&'static str],
}

pub const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
pub const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const FIELDS: [Field; 5] = [
    Field { name: "minute", range: 0..=59, words: &[] },
    Field { name: "hour", range: 0..=23, words: &[] },
    Field { name: "day of the month", range: 1..=31, words: &[] },
    Field { name: "month", range: 1..=12, words: &MONTHS },
    // 7 is Sunday too.
    Field { name: "weekday", range: 0..=7, words: &WEEKDAYS },
];

const SHORT: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
const ALL_HOURS: u64 = (1 << 24) - 1;
/// Longer is no line of a table but a mistake.
const LENGTH_MAX: usize = 200;

impl Cron {
    /// `0 22 * * mon-fri`, or a word such as `@daily`.
    pub fn parse(text: &str) -> Result<Cron, BadCron> {
        let text = text.trim();
        if text.len() > LENGTH_MAX {
            return Err(BadCron(format!("it is longer than {LENGTH_MAX} characters")));
        }
        if text.starts_with('@') {
            let Some((_, long)) = SHORT.iter().find(|(short, _)| *short == text) else {
                return Err(BadCron("the words are @hourly, @daily, @weekly, @monthly and @yearly".into()));
            };
            return Ok(Cron { text: text.to_owned(), ..Cron::parse(long)? });
        }
        let parts: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = parts.as_slice() else {
            return Err(BadCron(format!("five fields are meant (minute, hour, day, month, weekday), and it has {}", parts.len())));
        };
        let [minutes, hours, days, months, weekdays] = [
            bits(minute, &FIELDS[0])?,
            bits(hour, &FIELDS[1])?,
            bits(day, &FIELDS[2])?,
            bits(month, &FIELDS[3])?,
            bits(weekday, &FIELDS[4])?,
        ];
        let cron = Cron {
            text: parts.join(" "),
            minutes,
            hours,
            days,
            months,
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            any_day: day.starts_with(['*', '?']),
            any_weekday: weekday.starts_with(['*', '?']),
        };
        // A weekday comes in every month; a 31st does not.
        let comes = |month: u32| cron.days & ((2 << longest(month)) - 1) != 0;
        let by_day = (1..=12).filter(|m| cron.months & 1 << m != 0).any(comes);
        if !by_day && (cron.any_day || cron.any_weekday) {
            return Err(BadCron("such a day never comes".into()));
        }
        Ok(cron)
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is meant on this day, counted from 1970.
    pub fn is_on(&self, days: i64) -> bool {
        let (_, month, day) = calendar::date(days);
        let day_fits = self.days & 1 << day != 0;
        // The first of 1970 was a Thursday.
        let weekday_fits = self.weekdays & 1 << (days + 4).rem_euclid(7) != 0;
        let fits = if self.any_day || self.any_weekday { day_fits && weekday_fits } else { day_fits || weekday_fits };
        fits && self.months & 1 << month != 0
    }

    /// It names no hour: it follows time itself and not what a clock on the wall shows.
    pub fn is_every_hour(&self) -> bool {
        self.hours == ALL_HOURS
    }

    /// Seconds of the day, ascending.
    pub fn times(&self) -> impl Iterator<Item = i64> + '_ {
        let hours = (0..24).filter(|h| self.hours & 1 << h != 0);
        hours.flat_map(|h| (0..60).filter(|m| self.minutes & 1 << m != 0).map(move |m| h * 3600 + m * 60))
    }

    /// Whether the day of the month, and whether the weekday, are left open.
    pub fn open_days(&self) -> (bool, bool) {
        (self.any_day, self.any_weekday)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

const fn longest(month: u32) -> u32 {
    match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// `*`, `7`, `1-5`, `mon-fri`, `*/15`, `8-18/2`, and lists of these.
fn bits(text: &str, field: &Field) -> Result<u64, BadCron> {
    let (least, most) = (*field.range.start(), *field.range.end());
    let bad = |part: &str, why: &str| BadCron(format!("`{part}` is no {}: {why}", field.name));
    let mut all = 0u64;
    for part in text.split(',') {
        let (span, step) = match part.split_once('/') {
            None => (part, None),
            Some((span, step)) => (
                span,
                Some(step.parse::<u32>().ok().filter(|s| (1..=most).contains(s)).ok_or_else(|| bad(part, "a step is a number from 1 on"))?),
            ),
        };
        let number = |text: &str| {
            let word = field.words.iter().position(|w| w.eq_ignore_ascii_case(text));
            let named = word.and_then(|n| u32::try_from(n).ok()).map(|n| n + least);
            let digits = text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit());
            let numbered = if digits { text.parse::<u32>().ok() } else { None };
            named.or(numbered).filter(|n| field.range.contains(n)).ok_or_else(|| bad(part, &format!("{least} to {most} are possible")))
        };
        let (from, to) = match span.split_once('-') {
            _ if span == "*" || span == "?" => (least, if field.name == "weekday" { 6 } else { most }),
            Some((from, to)) => (number(from)?, number(to)?),
            None if step.is_some() => (number(span)?, most),
            None => (number(span)?, number(span)?),
        };
        if from > to {
            return Err(bad(part, "the first is after the second"));
        }
        let step = usize::try_from(step.unwrap_or(1)).unwrap_or(1);
        (from..=to).step_by(step).for_each(|n| all |= 1 << n);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn days(text: &str, from: (i64, i64, i64), want: &[i64]) {
        let cron = Cron::parse(text).unwrap();
        let first = calendar::days_since_1970(from.0, from.1, from.2);
        let got: Vec<i64> = (first..first + 31).filter(|d| cron.is_on(*d)).map(|d| calendar::date(d).2).collect();
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn days_are_chosen_as_the_manual_of_cron_says() {
        // 2026-11-01 is a Sunday; the 31st of these days is December's first.
        days("0 0 * * mon", (2026, 11, 1), &[2, 9, 16, 23, 30]);
        days("0 0 * * 7", (2026, 11, 1), &[1, 8, 15, 22, 29]);
        days("0 0 * * SUN", (2026, 11, 1), &[1, 8, 15, 22, 29]);
        days("0 0 13 * fri", (2026, 11, 1), &[6, 13, 20, 27]);
        days("0 0 13 * 1", (2026, 11, 1), &[2, 9, 13, 16, 23, 30]);
        days("0 0 */10 * sun", (2026, 11, 1), &[1]);
        days("0 0 1 dec *", (2026, 11, 1), &[1]);
        days("@monthly", (2026, 11, 1), &[1, 1]);
        days("0 0 28-31 2 *", (2028, 2, 1), &[28, 29]);
        days("0 0 * * mon-fri", (2026, 11, 1), &[2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 16, 17, 18, 19, 20, 23, 24, 25, 26, 27, 30, 1]);
    }

    #[test]
    fn times_of_a_day() {
        let times = |text: &str| Cron::parse(text).unwrap().times().map(|s| s / 60).collect::<Vec<_>>();
        assert_eq!(times("0 22 * * *"), [22 * 60]);
        assert_eq!(times("*/30 6-8/2 * * *"), [360, 390, 480, 510]);
        assert_eq!(times("50/5 0 * * *"), [50, 55]);
        assert_eq!(times("@hourly").len(), 24);
        assert!(Cron::parse("5 * * * *").unwrap().is_every_hour());
        assert!(!Cron::parse("5 */2 * * *").unwrap().is_every_hour());
    }

    #[track_caller]
    fn refuse(text: &str, want: &str) {
        assert_eq!(Cron::parse(text).unwrap_err().0, want, "{text}");
    }

    #[test]
    fn what_is_none_is_said() {
        refuse("0 22 * *", "five fields are meant (minute, hour, day, month, weekday), and it has 4");
        refuse("0 0 22 * * *", "five fields are meant (minute, hour, day, month, weekday), and it has 6");
        refuse("60 22 * * *", "`60` is no minute: 0 to 59 are possible");
        refuse("0 22 * * mo", "`mo` is no weekday: 0 to 7 are possible");
        refuse("0 22 0 * *", "`0` is no day of the month: 1 to 31 are possible");
        refuse("0 18-6 * * *", "`18-6` is no hour: the first is after the second");
        refuse("*/0 * * * *", "`*/0` is no minute: a step is a number from 1 on");
        refuse("+5 * * * *", "`+5` is no minute: 0 to 59 are possible");
        refuse("0 0 30 feb *", "such a day never comes");
        refuse("0 0 31 4,6 *", "such a day never comes");
        refuse("@often", "the words are @hourly, @daily, @weekly, @monthly and @yearly");
        assert!(Cron::parse("0 0 30 feb mon").is_ok(), "Mondays come");
        assert!(Cron::parse(&"1,".repeat(200)).is_err());
        assert!(Cron::parse("é * * * *").is_err());
    }
}
