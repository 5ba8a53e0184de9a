//! When something comes: the moments of a timing in its zone, in seconds since 1970 of UTC.
//!
//! **Changes of the clock.** A schedule that names its hours comes when a clock on the wall there first shows that time or a
//! later one: a time that is left out comes at the moment of the change, once however many were left out together; a time
//! that comes twice counts the first time. One for every hour (`*`) follows time itself: each quarter of an hour that passes
//! is one, also in the hour that comes twice.

use crate::model::{Cron, Timing, When, Zone};

const DAY: i64 = 86_400;
/// A 29th of February on a given weekday comes in 28 years, or in 40 around 2100.
const HORIZON_DAYS: i64 = 41 * 366;

#[derive(Debug, Clone, PartialEq)]
pub struct Timetable {
    timing: Timing,
    zone: Zone,
}

/// What came in a span of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Came {
    pub count: u64,
    pub first: i64,
    /// The last of them, ascending; never empty.
    pub newest: Vec<i64>,
}

impl Timetable {
    pub fn new(timing: Timing, zone: Zone) -> Timetable {
        Timetable { timing, zone }
    }

    /// The first one later than that. `None`: it never comes again.
    pub fn next(&self, after: i64) -> Option<i64> {
        match &self.timing {
            Timing::At(when) => Some(self.moment(*when)).filter(|at| *at > after),
            Timing::Every { every, anchor } => {
                let every = whole(*every);
                Some(anchor + ((after - anchor).div_euclid(every) + 1) * every)
            }
            Timing::Cron(cron) => {
                let today = self.zone.local(after).div_euclid(DAY);
                let mut moments = Vec::new();
                // The day before as well: a clock that was turned back over midnight shows it twice.
                for day in (today - 1..today + HORIZON_DAYS).filter(|day| cron.is_on(*day)) {
                    moments.clear();
                    self.day(cron, day, &mut moments);
                    if let Some(at) = moments.iter().find(|at| **at > after) {
                        return Some(*at);
                    }
                }
                None
            }
        }
    }

    /// Those later than `after` and not later than `upto`; `keep`: how many of them are listed.
    pub fn between(&self, after: i64, upto: i64, keep: usize) -> Option<Came> {
        if upto <= after {
            return None;
        }
        match &self.timing {
            Timing::At(when) => {
                let at = self.moment(*when);
                (at > after && at <= upto).then(|| Came { count: 1, first: at, newest: vec![at] })
            }
            Timing::Every { every, anchor } => {
                let every = whole(*every);
                let (from, to) = ((after - anchor).div_euclid(every), (upto - anchor).div_euclid(every));
                let count = u64::try_from(to - from).ok().filter(|n| *n > 0)?;
                let listed = i64::try_from(keep).unwrap_or(i64::MAX).min(to - from).max(1);
                let newest = (to - listed + 1..=to).map(|n| anchor + n * every).collect();
                Some(Came { count, first: anchor + (from + 1) * every, newest })
            }
            Timing::Cron(cron) => {
                let days = self.zone.local(after).div_euclid(DAY) - 1..=self.zone.local(upto).div_euclid(DAY) + 1;
                let (mut count, mut first, mut all) = (0, None, Vec::new());
                let mut last = after;
                let mut moments = Vec::new();
                for day in days.filter(|day| cron.is_on(*day)) {
                    moments.clear();
                    self.day(cron, day, &mut moments);
                    for at in moments.iter().copied().filter(|at| *at <= upto) {
                        // Two days may give the same moment where a clock leaves a day out.
                        if at > last {
                            last = at;
                            count += 1;
                            first.get_or_insert(at);
                            all.push(at);
                        }
                    }
                    // Not one by one: that would move all of them each time.
                    if all.len() > keep.max(1) * 2 {
                        all.drain(..all.len() - keep.max(1));
                    }
                }
                let listed = all.len().saturating_sub(keep.max(1));
                Some(Came { count, first: first?, newest: all.split_off(listed) })
            }
        }
    }

    fn moment(&self, when: When) -> i64 {
        match when {
            When::Utc(at) => at,
            When::Local(local) => reached(&self.zone, local),
        }
    }

    /// All of one day, ascending.
    fn day(&self, cron: &Cron, day: i64, out: &mut Vec<i64>) {
        let (begin, end) = (reached(&self.zone, day * DAY), reached(&self.zone, (day + 1) * DAY));
        let offset = self.zone.offset(begin);
        if end - begin == DAY && self.zone.offset(end) == offset {
            out.extend(cron.times().map(|s| begin + s));
        } else if cron.is_every_hour() {
            let fits = |at: i64| cron.minutes & 1 << (self.zone.local(at).rem_euclid(3600) / 60) != 0;
            out.extend((begin..end).step_by(60).filter(|at| fits(*at)));
        } else {
            out.extend(cron.times().map(|s| reached(&self.zone, day * DAY + s)));
            out.dedup();
        }
    }
}

fn whole(every: std::time::Duration) -> i64 {
    i64::try_from(every.as_secs()).unwrap_or(i64::MAX).max(1)
}

/// When a clock in the zone first shows this time or, where it is left out, a later one.
fn reached(zone: &Zone, local: i64) -> i64 {
    // A change within a day of it is between these two; two changes that close to each other are not known of.
    let (before, after) = (local - zone.offset(local - DAY), local - zone.offset(local + DAY));
    let (mut early, mut late) = (before.min(after), before.max(after));
    for at in [early, late] {
        if zone.local(at) == local {
            return at;
        }
    }
    // Left out: the change lies between them.
    while late - early > 1 {
        let middle = early + (late - early) / 2;
        if zone.local(middle) >= local {
            late = middle;
        } else {
            early = middle;
        }
    }
    late
}
