//! `[history]`. Devices and points that it names may register later, so they are not asked for here.

use super::Desk;
use crate::{
    config::{History, history::Exceptions, keys::Keys, problem::Code},
    model::{DeviceId, PointId},
};
use std::{ops::RangeInclusive, time::Duration};

const DAY: Duration = Duration::from_secs(86_400);
const KEEP: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(10 * 365 * 86_400);

pub fn check(root: &Keys<'_>, desk: &mut Desk<'_>) -> Option<History> {
    let (table, at) = root.sub("history", "[history]", &mut desk.out)?;
    let trail = root.trail.then("history");
    let known = ["keep", "minutes", "quarters", "disk_max", "commit_every", "points"];
    let keys = Keys::open(table, at, &trail, "[history]", &known, &mut desk.out);
    let mut time = |key, default: u32| keys.duration(key, KEEP, &mut desk.out).unwrap_or(DAY * default);
    let (keep, minutes, quarters) = (time("keep", 7), time("minutes", 30), time("quarters", 365));
    let disk_max = keys.size("disk_max", 1 << 20..=1 << 40, &mut desk.out).unwrap_or(64 << 20);
    let commit_every = keys.duration("commit_every", Duration::from_secs(1)..=Duration::from_secs(3600), &mut desk.out);
    let points = exceptions(&keys, desk);
    Some(History { keep, minutes, quarters, disk_max, commit_every: commit_every.unwrap_or(Duration::from_secs(300)), points })
}

fn exceptions(up: &Keys<'_>, desk: &mut Desk<'_>) -> Exceptions {
    let mut found = Exceptions::default();
    let Some((table, at)) = up.sub("points", "[history.points]\n\"boiler.flow_temp\" = \"30d\"", &mut desk.out) else { return found };
    let trail = up.trail.then("points");
    let names: Vec<&str> = table.iter().map(|(name, _)| name).collect();
    let keys = Keys::open(table, at, &trail, "[history.points]", &names, &mut desk.out);
    for name in names {
        let Some(keep) = keys.duration(name, KEEP, &mut desk.out) else { continue };
        let (device, point) = name.split_once('.').map_or((name, None), |(device, point)| (device, Some(point)));
        match (DeviceId::parse(device), point.map(PointId::parse)) {
            (Ok(device), None) => drop(found.devices.insert(device, keep)),
            (Ok(device), Some(Ok(point))) => drop(found.points.entry(device).or_default().insert(point, keep)),
            _ => {
                desk.out
                    .error(Code::BadId, keys.key_at(name), keys.key(name), format!("`{name}` is neither a device nor DEVICE.POINT"))
                    .want("\"boiler\" = \"30d\", or \"boiler.flow_temp\" = \"30d\"");
            }
        }
    }
    found
}
