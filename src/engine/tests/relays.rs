//! Switched points through the engine and the store: a coil and a relay on local MQTT alike.

use super::*;

/// The house with a coil `pump` on the bus, and a route whose relay is `relay.0`.
fn with_switches() -> Config {
    let mut config = config();
    let coil = Register { table: Table::Coil, address: 3 };
    let pump = Point { write: Some(Box::default()), ..Point::new(PointId::parse("pump").unwrap(), coil, DataType::Bool) };
    config.devices[0].points = config.devices[0].points.iter().cloned().chain([pump]).collect::<Vec<_>>().into();
    let routes = &mut config.mqtt.as_mut().unwrap().routes;
    if let RouteKind::Telemetry { shape, .. } = &mut routes[0].kind {
        shape.switches = vec!["relay.*".into()];
    }
    let command = RouteKind::Command { payload: BTreeMap::new(), reply: None, qos: 1, name: None };
    routes.push(Route { id: RouteId::parse("set").unwrap(), topic: "set/{device}".into(), kind: command, ..routes[0].clone() });
    config
}

fn house() -> House {
    let clock = Clock::Paused { start: tokio::time::Instant::now(), base: BASE, offset_ms: 1_700_000_000_000 };
    House::of(with_switches(), clock, Backing::Inline, |_| {})
}

impl House {
    async fn coil(&self, on: bool) {
        let reading = Reading {
            device: device("meter"),
            at: self.clock.now(),
            points: points(&["pump"]),
            values: vec![Value::Bool(on)],
            quality: None,
        };
        self.bulk.send(Bulk::Reading(reading)).await.unwrap();
        self.wait(20).await;
    }

    async fn plug(&self, on: bool) {
        let at = self.clock.now();
        let reading = Reading { device: device("plug"), at, points: points(&["relay.0"]), values: vec![Value::Bool(on)], quality: None };
        let message = Bulk::Message {
            device: device("plug"),
            via: "open".into(),
            readings: vec![reading],
            at,
            retained: false,
            receipt: Receipt::none(),
        };
        self.bulk.send(message).await.unwrap();
        self.wait(20).await;
    }

    async fn switch(&self, id: &str, of: &str, point: &str, on: bool) {
        let command = Command {
            id: CommandId::parse(id).unwrap(),
            device: device(of),
            action: Action::Write(BTreeMap::from([(PointId::parse(point).unwrap(), Value::Bool(on))])),
            from: "local anna".into(),
            received: self.clock.now(),
            issued_at: None,
            expires_in: Duration::from_secs(60),
            from_stored_session: false,
        };
        self.urgent.send(Urgent::Command { command, receipt: Receipt::none() }).await.unwrap();
        self.wait(50).await;
    }

    async fn ended(&self, id: &str, of: &str, phase: Phase) {
        let outcome = Outcome::new(phase, "");
        let done = WriteDone { id: CommandId::parse(id).unwrap(), device: device(of), outcome, at: self.clock.now() };
        self.urgent.send(Urgent::Done(done)).await.unwrap();
        self.wait(50).await;
    }

    /// Newest first.
    async fn switchings(&self, of: &str) -> Vec<String> {
        self.wait(1_500).await;
        let by = |by: Option<(String, String)>| by.map_or("itself".to_owned(), |(command, source)| format!("{command} of {source}"));
        let rows = self.store.relay_history(&device(of), 10).unwrap();
        rows.into_iter().map(|row| format!("{} {} by {}", row.point, if row.on { "on" } else { "off" }, by(row.by))).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_coil_and_a_plug_keep_what_switched_them() {
    let house = house();
    house.coil(false).await;
    house.plug(true).await;
    house.plug(true).await;
    assert_eq!(house.switchings("meter").await, ["pump off by itself"]);
    assert_eq!(house.switchings("plug").await, ["relay.0 on by itself"]);
    house.switch("c1", "meter", "pump", true).await;
    house.ended("c1", "meter", Phase::Confirmed).await;
    house.coil(true).await;
    assert_eq!(house.switchings("meter").await, ["pump on by c1 of local anna", "pump off by itself"]);
    house.switch("c2", "plug", "relay.0", false).await;
    house.plug(false).await;
    house.ended("c2", "plug", Phase::Confirmed).await;
    assert_eq!(house.switchings("plug").await, ["relay.0 off by c2 of local anna", "relay.0 on by itself"]);
    house.coil(false).await;
    assert_eq!(house.switchings("meter").await[0], "pump off by itself", "somebody turned it by hand");
    let now = house.store.relays(&device("meter")).unwrap();
    assert_eq!(now.iter().map(|row| (row.point.as_str(), row.on)).collect::<Vec<_>>(), [("pump", false)]);
}

#[tokio::test(start_paused = true)]
async fn what_was_stored_of_a_relay_is_no_change_after_a_restart() {
    let clock = Clock::Paused { start: tokio::time::Instant::now(), base: BASE, offset_ms: 1_700_000_000_000 };
    let house = House::of(with_switches(), clock, Backing::Inline, |restored| {
        restored.relays = vec![(device("meter"), PointId::parse("pump").unwrap(), true)];
    });
    house.coil(true).await;
    assert_eq!(house.switchings("meter").await, [""; 0]);
    house.coil(false).await;
    assert_eq!(house.switchings("meter").await, ["pump off by itself"]);
}

/// A status is stored and goes up before telemetry that was in the doors before it.
#[tokio::test(start_paused = true)]
async fn a_status_overtakes_telemetry_that_waits_in_its_door() {
    let house = House::start();
    house.message("plug", "open", false, 1).await;
    house.wait(100).await;
    // All in one go, so that everything is in its door before the engine looks.
    let at = house.clock.now();
    for n in 0..300 {
        let reading = Reading { device: device("plug"), at, points: points(&["power"]), values: vec![Value::Int(n)], quality: None };
        let message = Bulk::Message {
            device: device("plug"),
            via: "open".into(),
            readings: vec![reading],
            at,
            retained: false,
            receipt: Receipt::none(),
        };
        house.bulk.try_send(message).unwrap();
    }
    let (said, receipt) = (device("plug"), house.receipt(2));
    let said = Said {
        device: said,
        via: "open".into(),
        online: false,
        will: true,
        retained: false,
        session: None,
        at,
        offline_after: None,
        receipt,
    };
    house.urgent.try_send(Urgent::Said(said)).unwrap();
    let before = house.handle.snapshot().await.unwrap();
    let state = before.devices.iter().find(|d| d.device == device("plug")).unwrap().state;
    assert_eq!(state, State::Offline);
    assert!(before.readings_in < 200, "{} readings were taken in before it", before.readings_in);
}
