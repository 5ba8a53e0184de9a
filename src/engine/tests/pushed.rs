//! What devices report by HTTP.

use super::*;
use crate::model::{EvidenceKind, PUSHED, Pushed};
use std::sync::OnceLock;

impl House {
    /// A heartbeat with a field or without; its receipts are `n` of the state and `n + 1` of the field.
    async fn heartbeat(&self, from: &str, field: Option<f64>, n: u64) -> Arc<OnceLock<String>> {
        let (at, refusal) = (self.clock.now(), Arc::new(OnceLock::new()));
        let reading =
            |value| Reading { device: device(from), at, points: points(&["free"]), values: vec![Value::Float(value)], quality: None };
        let pushed = Pushed {
            device: device(from),
            at,
            evidence: EvidenceKind::Heartbeat,
            readings: field.map(reading).into_iter().collect(),
            state: self.receipt(n),
            values: self.receipt(n + 1),
            refusal: Arc::clone(&refusal),
        };
        self.urgent.send(Urgent::Heartbeat(pushed)).await.unwrap();
        refusal
    }
}

/// A device that registered by HTTP in a run before.
fn remembered(name: &str, boot: crate::model::BootIndex) -> RestoredDevice {
    let status =
        DeviceStatus { device: device(name), line: None, state: State::Online, cause: None, since: BASE, evidence: None, missed: 0 };
    RestoredDevice { status, boot, via: Some(PUSHED.into()), offline_after: Some(Duration::from_secs(60)), quarantined: false }
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_registers_and_then_is_evidence_without_a_commit() {
    let house = House::start();
    house.events().await;
    house.heartbeat("pump", None, 1).await;
    let said = house.events().await;
    assert_eq!(said, ["pump registered", "pump online"]);
    assert_eq!(house.kept(), [1, 2]);
    let syncs = house.store.wear().syncs;
    for n in 0..50 {
        house.heartbeat("pump", None, 10 + 2 * n).await;
        house.wait(1000).await;
    }
    assert_eq!(house.store.wear().syncs, syncs, "evidence alone is not written");
    assert_eq!(house.kept().len(), 102);
    assert_eq!(house.state("pump").await, (State::Online, None));
    house.wait(61_000).await;
    assert_eq!(house.state("pump").await, (State::Offline, Some(Cause::Silent)));
}

#[tokio::test(start_paused = true)]
async fn a_field_is_kept_when_it_is_durable_and_goes_upstream() {
    let house = House::start();
    house.heartbeat("pump", Some(812.0), 1).await;
    let frames = house.frames().await;
    assert_eq!(frames.iter().map(|f| f.device.as_str()).collect::<Vec<_>>(), ["pump"]);
    assert!(house.kept().contains(&2));
    let shown = house.handle.device(&device("pump")).await.unwrap();
    assert_eq!(shown.values.iter().map(|(p, _, v)| (p.as_str(), v.clone())).collect::<Vec<_>>(), [("free", Value::Float(812.0))]);
    assert!(!shown.quarantined);
}

#[tokio::test(start_paused = true)]
async fn one_device_too_many_is_refused_in_words_and_nothing_is_acknowledged() {
    let house = House::start_after(|r| {
        for n in 0..limits::REGISTERED_DEVICES {
            r.devices.push(remembered(&format!("d{n}"), r.boot));
        }
    });
    let refusal = house.heartbeat("late", Some(1.0), 1_000_000).await;
    house.wait(300).await;
    assert!(refusal.get().is_some_and(|why| why.contains("one too many")), "{refusal:?}");
    assert!(!house.kept().contains(&1_000_000));
    assert!(house.handle.device(&device("late")).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_device_that_was_heard_by_http_is_known_after_a_restart_and_its_end_of_an_order_is_durable() {
    let house = House::start_after(|r| r.devices.push(remembered("pump", r.boot)));
    assert_eq!(house.state("pump").await.0, State::Unknown);
    // The local broker is another's: its end says nothing of this device.
    let (line, reason, at) = (LineId::parse("mqtt").unwrap(), "gone".to_owned(), house.clock.now());
    house.urgent.send(Urgent::Line { line, state: LineState::Down, reason, at }).await.unwrap();
    house.heartbeat("pump", None, 1).await;
    assert_eq!(house.state("pump").await, (State::Online, None));
    let command = Command {
        id: CommandId::parse("7f9c").unwrap(),
        device: device("pump"),
        action: Action::Write(BTreeMap::from([(PointId::parse("relay").unwrap(), Value::Bool(true))])),
        from: "api otto".into(),
        received: house.clock.now(),
        issued_at: None,
        expires_in: Duration::from_secs(60),
        from_stored_session: false,
    };
    house.urgent.send(Urgent::Command { command, receipt: Receipt::none() }).await.unwrap();
    house.wait(50).await;
    assert_eq!(house.orders.lock().unwrap().len(), 1);
    let outcome = Outcome::new(Phase::Confirmed, "");
    let done = WriteDone { id: CommandId::parse("7f9c").unwrap(), device: device("pump"), outcome, at: house.clock.now() };
    for receipt in [90, 91] {
        let receipt = house.receipt(receipt);
        house.urgent.send(Urgent::Acknowledged { done: done.clone(), receipt }).await.unwrap();
    }
    assert!(house.events().await.contains(&"7f9c confirmed".to_owned()));
    assert!(house.kept().ends_with(&[90, 91]), "{:?}", house.kept());
}
