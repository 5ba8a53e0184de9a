//! `[watch]`, and `alarm_after` wherever a device may have it.

use super::Desk;
use crate::config::{Watching, keys::Keys};
use std::{ops::RangeInclusive, time::Duration};

const DAY: Duration = Duration::from_secs(86_400);
const ALARM_AFTER: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(365 * 86_400);

pub fn check(root: &Keys<'_>, desk: &mut Desk<'_>) -> Watching {
    let default = Watching::default();
    let Some((table, at)) = root.sub("watch", "[watch]", &mut desk.out) else { return default };
    let trail = root.trail.then("watch");
    let keys = Keys::open(table, at, &trail, "[watch]", &["flaps", "flap_window", "stable_for", "alarm_after"], &mut desk.out);
    let out = &mut desk.out;
    let flaps = keys.integer("flaps", 0..=1000, out).and_then(|n| u32::try_from(n).ok());
    let flap_window = keys.duration("flap_window", Duration::from_secs(10)..=DAY, out);
    let stable_for = keys.duration("stable_for", Duration::from_secs(1)..=DAY, out);
    Watching {
        flaps: flaps.unwrap_or(default.flaps),
        flap_window: flap_window.unwrap_or(default.flap_window),
        stable_for: stable_for.unwrap_or(default.stable_for),
        alarm_after: alarm_after(&keys, desk),
    }
}

pub fn alarm_after(keys: &Keys<'_>, desk: &mut Desk<'_>) -> Option<Duration> {
    keys.duration("alarm_after", ALARM_AFTER, &mut desk.out)
}
