//! A schedule as a person says it: `every weekday at 06:00 (Europe/Berlin)`.

use super::{Schedule, Timing, When};
use crate::model::{Cron, Zone, calendar, cron::WEEKDAYS};
use std::time::Duration;

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const WEEKDAYS_ONLY: u64 = 0b011_1110;
const WEEKEND: u64 = 0b100_0001;
/// More times of a day than these are no sentence.
const TIMES_SAID: usize = 4;

impl Schedule {
    pub fn sentence(&self) -> String {
        let zone = if self.zone == Zone::UTC { String::new() } else { format!(" ({})", self.zone) };
        match &self.timing {
            Timing::Every { every, .. } => format!("every {}", time(*every)),
            Timing::At(When::Utc(at)) => format!("once on {}Z", calendar::text(*at).replace('T', " at ")),
            Timing::At(When::Local(at)) => format!("once on {}{zone}", calendar::text(*at).replace('T', " at ")),
            Timing::Cron(cron) => said(cron).unwrap_or_else(|| format!("cron {cron}")) + &zone,
        }
    }
}

fn time(d: Duration) -> String {
    let s = d.as_secs();
    let of = |n: u64, unit: &str| if n == 1 { unit.to_owned() } else { format!("{n} {unit}s") };
    match s {
        _ if s.is_multiple_of(86_400) => of(s / 86_400, "day"),
        _ if s.is_multiple_of(3600) => of(s / 3600, "hour"),
        _ if s.is_multiple_of(60) => of(s / 60, "minute"),
        _ => of(s, "second"),
    }
}

fn members(bits: u64, upto: usize) -> Vec<usize> {
    (0..upto).filter(|n| bits & 1 << n != 0).collect()
}

fn and(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// `None`: it is no shorter in words.
fn said(cron: &Cron) -> Option<String> {
    let (any_day, any_weekday) = cron.open_days();
    let days = members(cron.days, 32);
    let is_all = |bits: u64, from: usize, upto: usize| members(bits, upto).len() == upto - from;
    let every_day = is_all(cron.days, 1, 32);
    let every_weekday = is_all(cron.weekdays, 0, WEEKDAYS.len());
    let day = match (every_day && any_day, every_weekday && any_weekday) {
        (true, true) => None,
        (true, false) => Some(match cron.weekdays {
            WEEKDAYS_ONLY => "every weekday".to_owned(),
            WEEKEND => "every Saturday and Sunday".to_owned(),
            // A week begins on Monday.
            _ => {
                let named = [1, 2, 3, 4, 5, 6, 0].into_iter().filter(|n| cron.weekdays & 1 << n != 0);
                format!("every {}", and(&named.map(|n| DAYS[n].to_owned()).collect::<Vec<_>>()))
            }
        }),
        (false, true) if !any_day && days.len() <= TIMES_SAID => {
            Some(format!("on the {} of the month", and(&days.iter().map(|n| ordinal(*n)).collect::<Vec<_>>())))
        }
        _ => return None,
    };
    let months = if is_all(cron.months, 1, 13) {
        String::new()
    } else {
        format!(" in {}", and(&members(cron.months, 13).into_iter().map(|n| MONTHS[n - 1].to_owned()).collect::<Vec<_>>()))
    };
    let minutes = members(cron.minutes, 60);
    if cron.is_every_hour() {
        let every = match minutes.as_slice() {
            [0] => "every hour".to_owned(),
            [minute] => format!("every hour at minute {minute}"),
            all if all.len() == 60 => "every minute".to_owned(),
            all => {
                let step = all[1] - all[0];
                let even = 60 % step == 0 && all.len() == 60 / step && all[0] == 0 && all.windows(2).all(|w| w[1] - w[0] == step);
                if !even {
                    return None;
                }
                format!("every {step} minutes")
            }
        };
        return Some(day.map_or_else(|| every.clone(), |day| format!("{every}, {day}")) + &months);
    }
    let times: Vec<String> = cron.times().map(|s| format!("{:02}:{:02}", s / 3600, s % 3600 / 60)).take(TIMES_SAID + 1).collect();
    (times.len() <= TIMES_SAID).then(|| format!("{}{months} at {}", day.unwrap_or_else(|| "every day".into()), and(&times)))
}

fn ordinal(n: usize) -> String {
    let ending = match (n % 10, n % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{n}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(when: serde_json::Value, want: &str) {
        let mut body = when.clone();
        body["write"] = json!({"device": "d", "point": "p", "value": 1});
        assert_eq!(Schedule::read(&body).unwrap().sentence(), want, "{when}");
    }

    #[test]
    fn schedules_are_sentences() {
        let cron = |text: &str| json!({"cron": text});
        check(json!({"cron": "0 6 * * 1-5", "zone": "Europe/Berlin"}), "every weekday at 06:00 (Europe/Berlin)");
        check(cron("0 22 * * *"), "every day at 22:00");
        check(cron("@daily"), "every day at 00:00");
        check(cron("0 6,18 * * *"), "every day at 06:00 and 18:00");
        check(cron("30 7 * * mon,thu,sun"), "every Monday, Thursday and Sunday at 07:30");
        check(cron("0 9 * * sat,sun"), "every Saturday and Sunday at 09:00");
        check(cron("0 9 1,15 * *"), "on the 1st and 15th of the month at 09:00");
        check(cron("0 9 * jul-sep *"), "every day in July, August and September at 09:00");
        check(cron("*/15 * * * *"), "every 15 minutes");
        check(cron("* * * * *"), "every minute");
        check(cron("@hourly"), "every hour");
        check(cron("5 * * * 1-5"), "every hour at minute 5, every weekday");
        check(cron("0 9 13 * fri"), "cron 0 9 13 * fri");
        check(cron("7,9,20 * * * *"), "cron 7,9,20 * * * *");
        check(cron("*/10 8-18 * * *"), "cron */10 8-18 * * *");
        check(json!({"every_s": 1}), "every second");
        check(json!({"every_s": 5400}), "every 90 minutes");
        check(json!({"every_s": 86_400}), "every day");
        check(json!({"at": "2026-12-24T18:00", "zone": "Europe/Berlin"}), "once on 2026-12-24 at 18:00:00 (Europe/Berlin)");
        check(json!({"at": "2026-12-24T18:00:00+01:00"}), "once on 2026-12-24 at 17:00:00Z");
    }
}
