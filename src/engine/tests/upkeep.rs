//! Alarms, maintenance, attributes and many devices at once, through the engine and the store.

use super::*;
use crate::{
    engine::{Maintain, MaintainError, history},
    model::{Alarm, AlarmKind, BootIndex, Maintenance, WallMs},
    store::{RestoredAlarm, RestoredMaintenance},
};

impl House {
    async fn says(&self, online: bool) {
        let said = Said {
            device: device("plug"),
            via: "open".into(),
            online,
            will: false,
            retained: false,
            session: None,
            at: self.clock.now(),
            offline_after: None,
            receipt: Receipt::none(),
        };
        self.urgent.send(Urgent::Said(said)).await.unwrap();
        self.wait(1).await;
    }

    async fn attributes(&self, values: &[(&str, Option<&str>)]) {
        let values = values.iter().map(|(name, value)| (PointId::parse(name).unwrap(), value.map(str::to_owned)));
        let (device, values, at, receipt) = (device("meter"), values.collect(), self.clock.now(), self.receipt(9));
        self.urgent.send(Urgent::Attributes { device, values, at, receipt }).await.unwrap();
    }

    async fn maintain(&self, of: &str, on: bool, lasts: Option<u64>) -> Result<Option<Maintenance>, MaintainError> {
        let lasts = lasts.map(Duration::from_secs);
        self.handle.maintain(Maintain { device: device(of), on, lasts, by: "anna".into(), reason: "cable".into() }).await
    }

    /// Events without the progress of each minute.
    async fn told(&self) -> Vec<String> {
        let mut told = self.events().await;
        told.retain(|e| !e.starts_with("progress"));
        told
    }

    fn history(&self, of: &str) -> Vec<String> {
        let rows = self.store.history(&device(of), 100).unwrap();
        rows.iter().rev().map(|r| format!("{} {}", r.state.word(), r.cause.map_or("", Cause::word)).trim().to_owned()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_flapping_device_is_told_once_and_every_change_is_kept() {
    let house = House::start();
    for _ in 0..4 {
        house.says(true).await;
        house.says(false).await;
    }
    let begun =
        ["epoch", "plug registered", "plug online", "plug offline said", "plug online", "plug offline said", "plug flapping raised"];
    assert_eq!(house.told().await, begun);
    assert_eq!(house.history("plug"), ["online", "offline said"].repeat(4));
    assert_eq!(house.handle.snapshot().await.unwrap().alarms, [(device("plug"), AlarmKind::Flapping)]);
    assert_eq!(house.store.alarms(None, true, 10).unwrap().len(), 1);
    house.wait(15_000).await;
    house.says(true).await;
    assert_eq!(house.told().await, [""; 0]);
    house.wait(19_000).await;
    assert_eq!(house.told().await, [""; 0]);
    house.wait(1_000).await;
    assert_eq!(house.told().await, ["plug flapping cleared", "plug online"]);
    assert!(house.store.alarms(None, true, 10).unwrap().is_empty());
    let alarms = house.store.alarms(Some(&device("plug")), false, 10).unwrap();
    assert!(alarms.len() == 1 && alarms[0].cleared.is_some(), "{alarms:?}");
}

#[tokio::test(start_paused = true)]
async fn a_device_in_maintenance_is_not_judged_and_its_time_ends_by_itself() {
    let house = House::start();
    house.poll(Heard::Answered).await;
    assert_eq!(house.maintain("nobody", true, None).await, Err(MaintainError::Unknown(device("nobody"))));
    let is = house.maintain("meter", true, Some(60)).await.unwrap().unwrap();
    assert_eq!((is.by.as_str(), is.until.map(|at| at - is.since)), ("anna", Some(Duration::from_secs(60))));
    assert_eq!(house.told().await, ["epoch", "meter online", "meter maintenance on", "meter unknown maintenance"]);
    (0..20).for_each(|_| drop(house.urgent.try_send(Urgent::Poll { device: device("meter"), heard: silent(), at: house.clock.now() })));
    house.wait(50_000).await;
    assert_eq!(house.told().await, [""; 0], "no alarm, not offline");
    assert_eq!(house.handle.snapshot().await.unwrap().maintenance, [is]);
    house.wait(10_000).await;
    assert_eq!(house.told().await[..2], ["meter maintenance off", "meter unknown restored"]);
    assert_eq!(house.maintain("meter", false, None).await, Ok(None));
    assert!(house.maintain("meter", true, None).await.unwrap().unwrap().until.is_none());
    assert_eq!(house.maintain("meter", false, None).await, Ok(None));
    let want = ["unknown restored", "online", "unknown maintenance", "unknown restored", "unknown maintenance", "unknown restored"];
    assert_eq!(house.history("meter"), want);
}

fn silent() -> Heard {
    Heard::Silent { after: Duration::from_millis(100) }
}

#[tokio::test(start_paused = true)]
async fn maintenance_outlives_a_restart_and_what_is_not_configured_any_more_has_no_alarm() {
    let since = BASE.saturating_sub(Duration::from_secs(60));
    let until = Some(BASE + Duration::from_secs(30));
    let is = Maintenance { device: device("meter"), by: "anna".into(), reason: String::new(), since, until };
    let gone = Maintenance { device: device("gone"), ..is.clone() };
    let house = House::start_after(|restored| {
        restored.maintenance = [is, gone].map(|is| RestoredMaintenance { is, boot: restored.boot }).into();
        let raised = |of: &str, kind| RestoredAlarm { is: Alarm::of_device(device(of), kind, true, BASE, String::new()), by: None };
        restored.alarms = vec![raised("gone", AlarmKind::Offline), raised("meter", AlarmKind::Flapping)];
    });
    assert_eq!(house.told().await, ["epoch", "gone offline cleared", "meter flapping cleared"]);
    assert_eq!(house.state("meter").await, (State::Unknown, Some(Cause::Maintenance)));
    house.wait(29_000).await;
    assert_eq!(house.told().await, [""; 0]);
    house.wait(1_000).await;
    assert_eq!(house.told().await, ["meter maintenance off", "meter unknown restored"]);
}

#[tokio::test(start_paused = true)]
async fn maintenance_of_a_boot_that_is_over_ends_when_its_time_is_over() {
    let is = Maintenance { device: device("meter"), by: "anna".into(), reason: String::new(), since: Boot(0), until: Some(Boot(1)) };
    let house = House::start_after(|restored| restored.maintenance = vec![RestoredMaintenance { is, boot: BootIndex(77) }]);
    assert_eq!(house.told().await, ["epoch", "meter maintenance off", "meter unknown restored"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_device_says_of_itself_is_kept_and_told_when_it_changes() {
    let house = House::start();
    house.attributes(&[("fw", Some("1.2")), ("ip", Some("10.0.0.7"))]).await;
    assert_eq!(house.told().await, ["epoch", "meter fw=1.2 ip=10.0.0.7"]);
    house.attributes(&[("fw", Some("1.2"))]).await;
    house.attributes(&[("fw", Some("1.3"))]).await;
    house.attributes(&[("ip", None)]).await;
    assert_eq!(house.told().await, [""; 0], "one that changes with every message wears no card");
    house.wait(60_000).await;
    assert_eq!(house.told().await.iter().filter(|e| e.starts_with("meter")).collect::<Vec<_>>(), ["meter fw=1.3 ip=-"]);
    let kept = house.store.attributes(&device("meter")).unwrap();
    assert_eq!(kept.iter().map(|a| (a.name.as_str(), a.value.as_str())).collect::<Vec<_>>(), [("fw", "1.3")]);
    house.attributes(&[("fw", Some("1.4"))]).await;
    house.attributes(&[("mac", Some("DE:AD:BE:EF:FE:ED"))]).await;
    assert_eq!(house.told().await, ["meter fw=1.4 mac=DE:AD:BE:EF:FE:ED"], "what it never said before waits for nothing");
    house.attributes(&[("mac", None)]).await;
    house.wait(60_000).await;
    let many: Vec<String> = (0..100).map(|n| format!("a{n}")).collect();
    house.attributes(&many.iter().map(|name| (name.as_str(), Some("x"))).collect::<Vec<_>>()).await;
    house.wait(60_000).await;
    assert_eq!(house.store.attributes(&device("meter")).unwrap().len(), limits::ATTRIBUTES);
    assert_eq!(house.kept().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_silent_mains_device_is_asked_before_it_is_suspected() {
    let house = House::start();
    house.says(true).await;
    house.wait(40_000).await;
    let asked = |house: &House| house.local.lock().unwrap().iter().filter(|m| m.topic == "ask/plug/get").count();
    assert_eq!(asked(&house), 1, "half of its 60 s are over");
    house.says(true).await;
    house.wait(29_000).await;
    assert_eq!(asked(&house), 1);
    house.wait(40_000).await;
    assert_eq!(asked(&house), 3);
    assert_eq!(house.told().await[2..], ["plug online", "plug suspect silent", "plug offline silent"]);
}

#[tokio::test(start_paused = true)]
async fn uptime_is_told_of_the_time_that_was_observed() {
    let house = House::start();
    house.wait(10_000).await;
    house.says(true).await;
    house.wait(50_000).await;
    house.says(false).await;
    house.wait(30_000).await;
    let now = house.clock.now();
    let to = house.store.clock().0.wall(now);
    let up = history::uptime_of(&house.store, &device("plug"), WallMs(to.0 - 200_000), to, now).unwrap();
    assert_eq!((up.online_ms / 1000, up.offline_ms / 1000, up.changes), (50, 30, 3), "{up:?}");
    assert_eq!(up.longest_outage.map(|o| o.ms / 1000), Some(30));
    assert_eq!(up.range_ms, 200_000);
    let all = history::transitions(&house.store, &device("plug"), WallMs(to.0 - 200_000), to).unwrap();
    assert_eq!(all.iter().map(|t| t.state.word()).collect::<Vec<_>>(), ["online", "suspect", "offline"]);
}
