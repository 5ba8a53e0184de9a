//! Which preset a device was heard by, so that a command takes the way of its firmware: on a broker nobody can see who
//! listens, and the topics of several presets could take the same command.
//!
//! Kept only where several presets take commands. Lost at a restart: until the device is heard again, the first route
//! whose points fit is taken.

use crate::{
    config::{Route, RouteKind},
    limits,
    model::DeviceId,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

#[derive(Debug, Default)]
pub struct Families {
    /// `None`: there is nothing to tell apart.
    known: Option<Mutex<BTreeMap<DeviceId, &'static str>>>,
}

impl Families {
    pub fn of(routes: &[Route]) -> Families {
        let commands = routes.iter().filter(|route| matches!(route.kind, RouteKind::Command { .. }));
        let presets: BTreeSet<Option<&str>> = commands.map(|route| route.preset).collect();
        Families { known: (presets.len() > 1).then(Mutex::default) }
    }

    pub fn heard(&self, device: &DeviceId, preset: Option<&'static str>) {
        let (Some(known), Some(preset)) = (&self.known, preset) else { return };
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = known.get_mut(device) {
            *last = preset;
        } else if known.len() < limits::REGISTERED_DEVICES {
            known.insert(device.clone(), preset);
        }
    }

    /// Whether a command for the device may go by a route of this preset.
    pub fn may_take(&self, device: &DeviceId, preset: Option<&'static str>) -> bool {
        let (Some(known), Some(preset)) = (&self.known, preset) else { return true };
        known.lock().unwrap_or_else(PoisonError::into_inner).get(device).is_none_or(|last| *last == preset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_takes_the_way_of_the_firmware_that_was_heard() {
        let (plug, other) = (DeviceId::parse("plug-1").unwrap(), DeviceId::parse("other").unwrap());
        let families = Families { known: Some(Mutex::default()) };
        families.heard(&plug, Some("shelly"));
        families.heard(&plug, None);
        assert!(families.may_take(&plug, Some("shelly")) && families.may_take(&plug, None) && families.may_take(&other, Some("homie")));
        assert!(!families.may_take(&plug, Some("homie")));
        assert!(Families::default().may_take(&plug, Some("homie")));
    }
}
