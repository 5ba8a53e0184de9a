//! Alarms, maintenance, attributes and when somebody looked, over a restart.

use super::*;
use crate::model::{
    Alarm, AlarmKind, AlarmName, BootIndex, CommandId, DeviceStatus, Maintenance, Relay, RelayBy, RuleId, RuleMemory, State, Urgency,
    WallMs,
};
use std::collections::BTreeMap;

fn open(dir: &Path) -> (Store, Restored) {
    Store::open(options(dir, Backing::Inline)).unwrap()
}

fn alarm(n: usize, raised: bool, at: u64) -> Change {
    Change::Alarm(Alarm::of_device(device(n), AlarmKind::Offline, raised, Boot(at), "offline for 9 s".into()))
}

#[tokio::test]
async fn what_is_kept_of_devices_is_there_after_a_restart() {
    let dir = dir();
    let (store, restored) = open(dir.path());
    assert!(restored.alarms.is_empty() && restored.maintenance.is_empty() && restored.attributes.is_empty());
    let is = |n, until| Maintenance { device: device(n), by: "anna".into(), reason: "cable".into(), since: Boot(3), until };
    let name = |name: &str| PointId::parse(name).unwrap();
    let said = |values: &[(&str, Option<&str>)]| Change::Attributes {
        device: device(1),
        values: values.iter().map(|(n, v)| (name(n), v.map(str::to_owned))).collect::<BTreeMap<_, _>>(),
        at: Boot(4),
    };
    let changes = vec![
        alarm(1, true, 5),
        alarm(1, true, 6),
        alarm(2, true, 7),
        alarm(2, false, 8),
        Change::Maintenance { device: device(1), is: Some(is(1, None)) },
        Change::Maintenance { device: device(2), is: Some(is(2, Some(Boot(9)))) },
        Change::Maintenance { device: device(1), is: None },
        said(&[("fw", Some("1.2")), ("ip", Some("x"))]),
        said(&[("fw", Some("1.3")), ("ip", None)]),
    ];
    submit(&store, changes).await.unwrap();
    assert_eq!(store.alarms(None, false, 10).unwrap().len(), 2, "raised twice is raised once");
    store.close().await;
    drop(store);
    let (store, restored) = open(dir.path());
    let open: Vec<_> = restored.alarms.iter().map(|a| (a.is.device.clone(), a.is.kind, a.by.as_deref())).collect();
    assert_eq!(open, [(device(1), AlarmKind::Offline, None)]);
    assert_eq!(restored.maintenance.iter().map(|m| m.is.clone()).collect::<Vec<_>>(), [is(2, Some(Boot(9)))]);
    let attributes = |of: &[RestoredAttribute]| of.iter().map(|a| format!("{}={}", a.name, a.value)).collect::<Vec<_>>();
    assert_eq!(attributes(&restored.attributes), ["fw=1.3"]);
    assert_eq!(attributes(&store.attributes(&device(1)).unwrap()), ["fw=1.3"]);
    let cleared = store.alarms(Some(&device(2)), false, 10).unwrap();
    assert_eq!(cleared.iter().map(|a| (a.at, a.cleared.map(|c| c.1))).collect::<Vec<_>>(), [(Boot(7), Some(Boot(8)))]);
}

#[tokio::test]
async fn a_run_says_from_when_to_when_it_looked() {
    let dir = dir();
    let begun = Clock::Real.now();
    let (store, _) = open(dir.path());
    tokio::time::sleep(Duration::from_millis(20)).await;
    store.close().await;
    drop(store);
    let ended = Clock::Real.now();
    // Killed: it looked until its last event.
    let (store, _) = open(dir.path());
    let at = Clock::Real.now() + Duration::from_secs(5);
    submit(&store, vec![Change::Event(Event { at, ..event(0) })]).await.unwrap();
    drop(store);
    let (store, _) = open(dir.path());
    let runs = store.runs().unwrap();
    assert_eq!(runs.len(), 3);
    assert!(begun <= runs[0].began && runs[0].seen <= ended && runs[0].seen - runs[0].began >= Duration::from_millis(20), "{runs:?}");
    assert_eq!(runs[1].seen, at);
}

#[tokio::test]
async fn one_device_that_flaps_leaves_the_others_their_past() {
    let dir = dir();
    let (store, _) = open(dir.path());
    let status = |n: usize, state, at: u64| {
        let (cause, since) = ((state != State::Online).then_some(crate::model::Cause::Said), Boot(at));
        Change::Status(DeviceStatus { device: device(n), line: None, state, cause, since, evidence: None, missed: 0 })
    };
    submit(&store, vec![status(2, State::Online, 1)]).await.unwrap();
    let most = u64::from(crate::limits::STATUS_HISTORY_OF_ONE);
    for group in (0..most + 600).collect::<Vec<_>>().chunks(2000) {
        let changes = group.iter().map(|n| status(1, if n % 2 == 0 { State::Online } else { State::Offline }, n + 10)).collect();
        submit(&store, changes).await.unwrap();
    }
    let kept = store.history(&device(1), u32::MAX).unwrap().len() as u64;
    assert!((most..=most + 256).contains(&kept), "{kept}");
    assert_eq!(store.history_since(&device(2), WallMs(i64::MAX)).unwrap().len(), 1);
    assert_eq!(store.history_since(&device(2), WallMs(i64::MIN)).unwrap()[0].boot, BootIndex(1));
    assert_eq!(store.history_since(&device(3), WallMs(0)).unwrap(), []);
}

#[tokio::test]
async fn switched_points_and_what_switched_them_are_there_after_a_restart() {
    let dir = dir();
    let (store, restored) = open(dir.path());
    assert!(restored.relays.is_empty());
    let by = RelayBy { command: CommandId::parse("c1").unwrap(), source: "uplink cloud".into() };
    let relay = |point: &str, on, at, by: Option<&RelayBy>| {
        let (device, point) = (device(1), PointId::parse(point).unwrap());
        Change::Relay(Relay { device, point, on, at: Boot(at), by: by.cloned(), changes: 1 })
    };
    submit(&store, vec![relay("b", true, 5, None), relay("a", true, 6, None), relay("b", false, 7, Some(&by))]).await.unwrap();
    store.close().await;
    drop(store);
    let (store, restored) = open(dir.path());
    let point = |name: &str| PointId::parse(name).unwrap();
    assert_eq!(restored.relays, [(device(1), point("a"), true), (device(1), point("b"), false)]);
    let rows = store.relays(&device(1)).unwrap();
    let show = |of: &[crate::store::RelayRow]| -> Vec<String> {
        let by =
            |row: &crate::store::RelayRow| row.by.as_ref().map_or("-".to_owned(), |(command, source)| format!("{command} of {source}"));
        of.iter().map(|row| format!("{} {} {} {}", row.point, row.on, row.at.0, by(row))).collect()
    };
    assert_eq!(show(&rows), ["a true 6 -", "b false 7 c1 of uplink cloud"]);
    assert_eq!(show(&store.relay_history(&device(1), 10).unwrap()), ["b false 7 c1 of uplink cloud", "a true 6 -", "b true 5 -"]);
    assert!(store.relays(&device(2)).unwrap().is_empty());
}

#[tokio::test]
async fn a_relay_that_never_rests_leaves_the_others_their_past() {
    let dir = dir();
    let (store, _) = open(dir.path());
    let relay = |n: usize, on, at| {
        Change::Relay(Relay { device: device(n), point: PointId::parse("r").unwrap(), on, at: Boot(at), by: None, changes: 1 })
    };
    submit(&store, vec![relay(2, true, 1)]).await.unwrap();
    let most = u64::from(crate::limits::RELAY_HISTORY_OF_ONE);
    for group in (0..most + 600).collect::<Vec<_>>().chunks(2000) {
        submit(&store, group.iter().map(|n| relay(1, n % 2 == 0, n + 10)).collect()).await.unwrap();
    }
    let kept = store.relay_history(&device(1), u32::MAX).unwrap().len() as u64;
    assert!((most..=most + 256).contains(&kept), "{kept}");
    assert_eq!(store.relay_history(&device(2), 10).unwrap().len(), 1);
}

#[tokio::test]
async fn an_alarm_of_a_rule_has_a_row_of_its_own_and_who_saw_it_outlives_a_restart() {
    let dir = dir();
    let (store, _) = open(dir.path());
    let rule = RuleId::parse("hot").unwrap();
    let of_rule = |raised, at| Alarm {
        device: device(1),
        kind: AlarmKind::Rule,
        rule: Some(rule.clone()),
        point: PointId::parse("flow").ok(),
        severity: Urgency::Critical,
        raised,
        at: Boot(at),
        reason: "too hot".into(),
    };
    let seen = |by: &str, at| Change::AlarmSeen { alarm: of_rule(true, 0).name(), by: by.into(), at: Boot(at) };
    let other = AlarmName { rule: RuleId::parse("cold").ok(), ..of_rule(true, 0).name() };
    let changes = vec![
        alarm(1, true, 5),
        Change::Alarm(of_rule(true, 6)),
        seen("anna", 7),
        seen("bert", 8),
        Change::AlarmSeen { alarm: other, by: "anna".into(), at: Boot(8) },
        alarm(1, false, 9),
    ];
    submit(&store, changes).await.unwrap();
    store.close().await;
    drop(store);
    let (store, restored) = open(dir.path());
    let [open] = &restored.alarms[..] else { panic!("one is raised: {:?}", restored.alarms) };
    assert_eq!((&open.is, open.by.as_deref()), (&of_rule(true, 6), Some("anna")));
    let rows = store.alarms(None, true, 10).unwrap();
    assert_eq!(
        (rows[0].rule.as_deref(), rows[0].severity, rows[0].seen.as_ref().unwrap().0.as_str()),
        (Some("hot"), Urgency::Critical, "anna")
    );
    submit(&store, vec![Change::Alarm(of_rule(false, 10))]).await.unwrap();
    assert!(store.alarms(None, true, 10).unwrap().is_empty());
}

#[tokio::test]
async fn what_a_rule_must_remember_is_there_after_a_restart() {
    let dir = dir();
    let (store, restored) = open(dir.path());
    assert!(restored.rules.is_empty());
    let id = |name: &str| RuleId::parse(name).unwrap();
    let memory = RuleMemory { fired: true, fired_at: Some(Boot(7)), held: u64::MAX, off: Some("loop".into()), count: 3 };
    let put = |name: &str, memory: &RuleMemory| Change::Rule { id: id(name), condition: "a.b < 5".into(), memory: memory.clone() };
    let changes = vec![put("frost", &RuleMemory::default()), put("gone", &memory), put("frost", &memory), Change::RuleGone(id("gone"))];
    submit(&store, changes).await.unwrap();
    store.close().await;
    drop(store);
    let (_, restored) = open(dir.path());
    let [row] = &restored.rules[..] else { panic!("one row: {:?}", restored.rules) };
    assert_eq!((&row.id, row.condition.as_str(), &row.memory), (&id("frost"), "a.b < 5", &memory));
}
