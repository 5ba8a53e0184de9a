//! Whether the devices and points that a condition or an action names are there.

use super::Desk;
use crate::{
    config::{Config, keys::Placed, nearest, problem::Code},
    model::{Analysis, Condition, DeviceId, PointId},
};
use std::collections::BTreeSet;

/// The points of a configured device that have a value. `None`: it is not configured, or says itself what it has.
pub fn points(config: &Config, device: &DeviceId) -> Option<BTreeSet<PointId>> {
    if let Ok(n) = config.devices.binary_search_by(|d| d.id.cmp(device)) {
        let device = &config.devices[n];
        let all = device.points.iter().filter(|p| p.read).flat_map(|p| [Some(p.id.clone()), p.delta_id()]).flatten();
        return device.sunspec.is_none().then(|| all.collect());
    }
    let n = config.framed.binary_search_by(|d| d.id.cmp(device)).ok()?;
    Some(config.framed[n].points.iter().map(|p| p.id.clone()).collect())
}

/// Whether a device is or may come to be known here.
pub fn device(config: &Config, device: &DeviceId, at: crate::config::source::Place, key: &str, desk: &mut Desk<'_>) -> bool {
    let ids = || config.devices.iter().map(|d| &d.id).chain(config.framed.iter().map(|d| &d.id));
    if config.line_of(device).is_some() || guests(config) {
        return true;
    }
    let near = nearest(device.as_str(), ids().map(DeviceId::as_str));
    let because = near.map_or("no device has this name, and nothing here registers any".to_owned(), |n| format!("did you mean `{n}`?"));
    let p = desk.out.error(Code::UnknownDevice, at, key, format!("there is no device `{device}`")).because(because);
    match near {
        Some(n) => p.want(n.to_owned()),
        None => p.want(format!("[device.{device}]")),
    };
    false
}

/// Devices may register by messages.
fn guests(config: &Config) -> bool {
    config.mqtt.is_some() || config.api.is_some()
}

/// A point that has a value, read or computed.
pub fn point(
    config: &Config,
    analyses: &[Analysis],
    of: &crate::model::PointRef,
    at: crate::config::source::Place,
    key: &str,
    desk: &mut Desk<'_>,
) -> bool {
    if !device(config, &of.device, at, key, desk) {
        return false;
    }
    let Some(mut known) = points(config, &of.device) else { return true };
    known.extend(analyses.iter().filter(|a| a.of.device == of.device).flat_map(Analysis::made));
    if known.contains(&of.point) {
        return true;
    }
    let near = nearest(of.point.as_str(), known.iter().map(PointId::as_str));
    let because = near.map_or_else(|| format!("{} has no such point that is read", of.device), |n| format!("did you mean `{n}`?"));
    let p = desk.out.error(Code::UnknownPoint, at, key, format!("there is no point `{of}`")).because(because);
    match near {
        Some(n) => p.want(format!("{}.{n}", of.device)),
        None => p.want(format!("[device.{}.point.{}]", of.device, of.point)),
    };
    false
}

pub fn check(condition: &Condition, text: &Placed<&str>, key: &str, config: &Config, analyses: &[Analysis], desk: &mut Desk<'_>) {
    for test in &condition.tests {
        let points_known = test.points().all(|p| point(config, analyses, p, text.at, key, desk));
        if points_known {
            test.devices().all(|d| device(config, d, text.at, key, desk));
        }
    }
}
