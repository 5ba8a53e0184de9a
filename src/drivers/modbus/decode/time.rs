//! Packed times of day and dates, to and from ISO 8601: `08:05`, `2026-11-21T14:07:00Z`, without the Z for a device's
//! local clock. A date that does not exist is none.

use crate::config::device::{Layout, Time, TimeForm};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moment {
    year: u32,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
}

/// The pattern as text. `None`: no such time.
pub fn read(time: Time, raw: u64) -> Option<String> {
    let byte = |n: u8| two(time.bcd, u8::try_from(raw >> (u32::from(n) * 8) & 0xff).unwrap_or(0));
    let moment = match time.form {
        TimeForm::HourMinute => {
            let (hour, minute) = (byte(1)?, byte(0)?);
            return (hour < 24 && minute < 60).then(|| format!("{hour:02}:{minute:02}"));
        }
        TimeForm::Unix => of_seconds(u32::try_from(raw).ok()?),
        TimeForm::Iec870 => iec870(raw)?,
        TimeForm::Bytes(layout) => {
            let at = |field: usize| byte((layout.registers * 2).checked_sub(1 + layout.at[field])?);
            let year = if layout.wide_year { wide(time, layout, raw)? } else { full_year(at(0)?) };
            Moment { year, month: at(1)?, day: at(2)?, hour: at(3)?, minute: at(4)?, second: at(5)? }
        }
    };
    let Moment { year, month, day, hour, minute, second } = moment.real()?;
    let z = if time.local { "" } else { "Z" };
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{z}"))
}

/// A byte as a number, or as two decimal digits.
fn two(bcd: bool, byte: u8) -> Option<u32> {
    let (high, low) = (u32::from(byte >> 4), u32::from(byte & 0xf));
    match bcd {
        false => Some(u32::from(byte)),
        true => (high <= 9 && low <= 9).then(|| high * 10 + low),
    }
}

/// Some count the years from 1900 instead of 2000 (Schneider PM800: 126 is 2026).
const fn full_year(year: u32) -> u32 {
    if year >= 100 { 1900 + year } else { 2000 + year }
}

fn wide(time: Time, layout: Layout, raw: u64) -> Option<u32> {
    let shift = (layout.registers * 2).checked_sub(2 + layout.at[0])?;
    let [high, low] = u16::try_from(raw >> (u32::from(shift) * 8) & 0xffff).ok()?.to_be_bytes();
    let year = match time.bcd {
        true => two(true, high)? * 100 + two(true, low)?,
        false => u32::from(u16::from_be_bytes([high, low])),
    };
    Some(if year < 200 { full_year(year) } else { year })
}

/// Schneider's DATETIME (EM3000 user manual, unit table): the day's weekday, the summer-time bit and the reserved bits are
/// not needed; iV says that the clock is wrong.
fn iec870(raw: u64) -> Option<Moment> {
    let field = |shift: u32, bits: u32| u32::try_from(raw >> shift & ((1 << bits) - 1)).unwrap_or(0);
    let invalid = field(23, 1) == 1;
    let (hour, minute) = (field(24, 5), field(16, 6));
    let moment = Moment { year: 2000 + field(48, 7), month: field(40, 4), day: field(32, 5), hour, minute, second: field(0, 16) / 1000 };
    (!invalid).then_some(moment)
}

impl Moment {
    fn real(self) -> Option<Moment> {
        let leap = self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        let days = match self.month {
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            1..=12 => 31,
            _ => 0,
        };
        let there = (1..=days).contains(&self.day) && self.hour < 24 && self.minute < 60 && self.second < 60;
        (there && (1900..=9999).contains(&self.year)).then_some(self)
    }

    /// Days since 1970-01-01, counting years from March so that the leap day comes last.
    fn days(self) -> i64 {
        let (year, month) = (i64::from(self.year) - i64::from(self.month <= 2), i64::from(self.month));
        let of_era = year - year.div_euclid(400) * 400;
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + i64::from(self.day) - 1;
        year.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
    }
}

fn of_seconds(seconds: u32) -> Moment {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // As above, backwards.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u32::from(month <= 2);
    Moment { year, month, day, hour: rest / 3600, minute: rest / 60 % 60, second: rest % 60 }
}

/// The pattern of a text as [`read`] writes it. `None`: no such time, or not one that the form can hold.
pub fn write(time: Time, text: &str) -> Option<u64> {
    let number = |t: &str| t.parse::<u32>().ok().filter(|_| t.bytes().all(|b| b.is_ascii_digit()));
    let byte = |n: u32| if time.bcd { u64::from(n / 10 * 16 + n % 10) } else { u64::from(n) };
    if time.form == TimeForm::HourMinute {
        let (hour, minute) = text.split_once(':').filter(|(h, m)| h.len() == 2 && m.len() == 2)?;
        let (hour, minute) = (number(hour)?, number(minute)?);
        return (hour < 24 && minute < 60).then(|| byte(hour) << 8 | byte(minute));
    }
    let bare = if time.local { text } else { text.strip_suffix('Z')? };
    if bare.len() != 19 || !bare.is_ascii() {
        return None;
    }
    let part = |from: usize, to: usize| number(&bare[from..to]);
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|(n, mark)| bare.as_bytes()[*n] != *mark) {
        return None;
    }
    let moment = Moment {
        year: part(0, 4)?,
        month: part(5, 7)?,
        day: part(8, 10)?,
        hour: part(11, 13)?,
        minute: part(14, 16)?,
        second: part(17, 19)?,
    };
    let Moment { year, month, day, hour, minute, second } = moment.real()?;
    match time.form {
        TimeForm::HourMinute => None,
        TimeForm::Unix => {
            let seconds = moment.days() * 86_400 + i64::from(hour * 3600 + minute * 60 + second);
            u32::try_from(seconds).ok().map(u64::from)
        }
        TimeForm::Iec870 => {
            let year = year.checked_sub(2000).filter(|y| *y < 128)?;
            let date = u64::from(year) << 48 | u64::from(month) << 40 | u64::from(day) << 32;
            Some(date | u64::from(hour) << 24 | u64::from(minute) << 16 | u64::from(second * 1000))
        }
        TimeForm::Bytes(layout) => {
            let last = layout.registers * 2 - 1;
            let put = |field: usize, n: u32| byte(n) << (u32::from(last.saturating_sub(layout.at[field])) * 8);
            let year = if layout.wide_year {
                let bytes = if time.bcd { byte(year / 100) << 8 | byte(year % 100) } else { u64::from(year) };
                bytes << (u32::from(last.saturating_sub(layout.at[0] + 1)) * 8)
            } else {
                put(0, year.checked_sub(2000).filter(|y| *y < 100)?)
            };
            Some(year | put(1, month) | put(2, day) | put(3, hour) | put(4, minute) | put(5, second))
        }
    }
}
