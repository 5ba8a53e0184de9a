//! Switched points: which they are, and what is stored of their changes.

use super::{
    Engine,
    setup::{self, Way},
};
use crate::{
    config::{Config, DataType, Route, RouteKind, Table},
    limits,
    logic::relays::on,
    model::{Boot, Command, CommandId, DeviceId, Outcome, PointId, Reading, Receipt, Relay, Value},
    store::Change,
};
use std::{collections::BTreeMap, sync::Arc};

/// The switched points of configured devices, in order of name: coils, and what is one bit and may be written.
pub(super) type Switches = BTreeMap<DeviceId, Arc<[PointId]>>;

pub(super) fn switches(config: &Config) -> Switches {
    let of: Vec<Arc<[PointId]>> = setup::by_kind(config, |points| {
        let is_bit = |kind: DataType| kind == DataType::Bool || matches!(kind, DataType::Bits(bits) if bits.count <= 1);
        let switched = points.iter().filter(|p| is_bit(p.kind) && (p.register.table == Table::Coil || p.write.is_some()));
        let mut ids: Vec<PointId> = switched.map(|p| p.id.clone()).collect();
        ids.sort();
        Arc::from(ids)
    });
    let all = config.devices.iter().zip(of).map(|(device, points)| (device.id.clone(), points));
    all.filter(|(_, points)| !points.is_empty()).collect()
}

impl Engine {
    /// Stores what a reading says of switches. `via`: the route it came by; `None`: a line.
    pub(super) async fn see_switches(&mut self, reading: &Reading, via: Option<&str>) {
        let mut seen = Vec::new();
        match via {
            None => {
                let Some(points) = self.switches.get(&reading.device) else { return };
                for (point, value) in reading.points.iter().zip(&reading.values) {
                    if let Some(on) = on(value).filter(|_| points.binary_search(point).is_ok()) {
                        seen.extend(self.relays.seen(&reading.device, point, on, reading.at));
                    }
                }
            }
            Some(via) => {
                let Some(Way::Route(Route { kind: RouteKind::Telemetry { shape, .. }, .. })) = Way::find(&self.config, via) else { return };
                if shape.switches.is_empty() || self.guests.is_quarantined(&reading.device) {
                    return;
                }
                for (point, value) in reading.points.iter().zip(&reading.values) {
                    // The route has made true and false of its words.
                    if let Some(on) = on(value).filter(|_| matches!(value, Value::Bool(_)) && shape.switches(point.as_str())) {
                        seen.extend(self.relays.seen(&reading.device, point, on, reading.at));
                    }
                }
            }
        }
        self.store_relays(seen).await;
    }

    pub(super) fn note_switching(&mut self, command: &Command) {
        let mut relays = std::mem::take(&mut self.relays);
        relays.commanded(&command.id, &command.device, &command.action, &command.from, |point| self.is_switch(&command.device, point));
        self.relays = relays;
    }

    /// What a command that has ended switched.
    pub(super) fn switched_by(&mut self, id: &CommandId, outcome: &Outcome, at: Boot) -> impl Iterator<Item = Change> + use<> {
        let mut out = Vec::new();
        self.relays.ended(id, outcome, at, &mut out);
        out.into_iter().map(Change::Relay)
    }

    pub(super) async fn write_relays(&mut self, now: Boot) {
        let overdue = self.relays.overdue(now, limits::STORE_GROUP);
        self.store_relays(overdue).await;
    }

    async fn store_relays(&mut self, relays: Vec<Relay>) {
        if !relays.is_empty() {
            self.submit(relays.into_iter().map(Change::Relay).collect(), Receipt::none()).await;
        }
    }

    /// Whether a command to this point switches something: for a registered device whatever is true or false.
    pub(super) fn is_switch(&self, device: &DeviceId, point: &PointId) -> bool {
        match self.switches.get(device) {
            Some(points) => points.binary_search(point).is_ok(),
            None => self.guests.contains(device) && self.is_switched_by_route(point),
        }
    }

    fn is_switched_by_route(&self, point: &PointId) -> bool {
        let routes = self.config.mqtt.iter().flat_map(|mqtt| &mqtt.routes);
        routes.into_iter().any(|route| matches!(&route.kind, RouteKind::Telemetry { shape, .. } if shape.switches(point.as_str())))
    }
}
