//! Carries what is computed of points to where readings go: the last values, rules, and upstream.

use super::Engine;
use crate::{
    config::Config,
    logic::analytics::Made,
    model::{Analysis, Boot, DeviceId, Figure, PointCard, Reading},
};
use std::{collections::BTreeMap, time::Duration};

/// A sample that is on its way when its window ends has so long.
const FLIGHT: Duration = Duration::from_millis(20);

/// The points that are computed, of each device that the configuration names.
pub(super) fn cards(config: &Config) -> BTreeMap<DeviceId, Vec<PointCard>> {
    let mut all: BTreeMap<DeviceId, Vec<PointCard>> = BTreeMap::new();
    for a in &config.analytics {
        let unit = unit(config, a);
        let made = a.names().filter_map(|name| {
            let has_unit = !matches!(name, "z_score" | "stuck" | "above" | "below") && name != Figure::Count.word();
            let unit = if has_unit { unit.clone() } else { String::new() };
            Some(PointCard { id: a.point(name)?, unit, kind: "", writable: false })
        });
        all.entry(a.of.device.clone()).or_default().extend(made);
    }
    all
}

fn unit(config: &Config, a: &Analysis) -> String {
    let device = config.devices.iter().filter(|d| d.id == a.of.device).flat_map(|d| d.points.iter());
    let modbus = device.filter(|p| p.id == a.of.point || p.delta_id().as_ref() == Some(&a.of.point)).map(|p| &p.unit);
    let framed = config.framed.iter().filter(|d| d.id == a.of.device).flat_map(|d| &d.points);
    modbus.chain(framed.filter(|p| p.id == a.of.point).map(|p| &p.unit)).next().cloned().unwrap_or_default()
}

impl Engine {
    /// What follows from a reading: figures of it, and what rules make of both.
    pub(super) fn follow(&mut self, reading: &Reading) {
        self.analytics.reading(reading, &mut self.made);
        self.rules.reading(reading, &mut self.fired);
        if !self.made.is_empty() {
            self.carry_made();
        }
    }

    fn carry_made(&mut self) {
        for Made { reading, told } in std::mem::take(&mut self.made) {
            let seat = self.registry.seat(&reading.device);
            if seat.is_some_and(|seat| self.latest.put(seat, &reading)) {
                self.cards_changed();
            }
            self.rules.reading(&reading, &mut self.fired);
            if told {
                self.batch.push(self.last_turn, reading, &mut self.full);
                self.append_full();
            }
        }
    }

    /// Windows that are over. What waits in a door was read before, and is not overtaken.
    pub(super) fn expire_windows(&mut self, now: Boot) {
        let mut upto = now.saturating_sub(FLIGHT);
        if self.analytics.next_due().is_none_or(|at| at > upto) {
            return;
        }
        upto = self.bulk.oldest().map_or(upto, |waiting| upto.min(waiting));
        self.analytics.expire(upto, &mut self.made);
        self.carry_made();
    }

    pub(super) fn windows_due(&self) -> Option<Boot> {
        self.analytics.next_due().map(|at| at + FLIGHT)
    }

    /// The stop: windows that are open end here.
    pub(super) fn end_windows(&mut self) {
        self.analytics.flush(self.clock.now(), &mut self.made);
        self.carry_made();
    }
}
