//! Rules, alarms and what is computed, through the engine and the store.

use super::*;
use crate::{
    engine::{AlarmError, RuleError, Switch, watched},
    model::{
        Alarm, AlarmKind, AlarmName, Analysis, Compare, Condition, Expr, Figure, Pace, PointRef, Quality, RuleAction, RuleId, RuleMemory,
        Test, Urgency,
    },
    store::{RestoredAlarm, RestoredRule},
};

fn id(name: &str) -> RuleId {
    RuleId::parse(name).unwrap()
}

fn of(device_name: &str, point: &str) -> PointRef {
    PointRef { device: device(device_name), point: PointId::parse(point).unwrap() }
}

fn above(point: &str, limit: i64) -> Condition {
    let test = Test::Value(of("meter", point), Compare::More, Value::Int(limit));
    Condition { text: test.to_string(), tests: vec![test], expr: Expr::Test(0) }
}

fn write(value: i64) -> RuleAction {
    RuleAction::Write { device: device("meter"), point: PointId::parse("u").unwrap(), value: Value::Int(value) }
}

fn alarm() -> RuleAction {
    RuleAction::Alarm { severity: Urgency::Critical, text: "too much".into() }
}

fn rule(name: &str, when: Condition, actions: Vec<RuleAction>) -> config::Rule {
    config::Rule { id: id(name), when, unless: None, pace: Pace::default(), actions }
}

fn house(rules: Vec<config::Rule>, analytics: Vec<Analysis>, past: impl FnOnce(&mut Restored)) -> House {
    let clock = Clock::Paused { start: tokio::time::Instant::now(), base: BASE, offset_ms: 1_700_000_000_000 };
    House::of(Config { rules, analytics, ..config() }, clock, Backing::Inline, past)
}

impl House {
    async fn reads(&self, value: u64) {
        self.reading(&points(&["u", "k"]), &[20, value]).await;
        self.wait(5).await;
    }

    async fn news(&self) -> Vec<String> {
        let mut told = self.events().await;
        told.retain(|e| !e.starts_with("progress") && e != "epoch" && e != "meter online");
        told
    }

    fn ordered(&self) -> Vec<String> {
        let orders = self.orders.lock().unwrap();
        orders.iter().map(|o| format!("{} {:?}", o.id, o.action)).collect()
    }

    fn alarms(&self) -> Vec<String> {
        let rows = self.store.alarms(None, false, 10).unwrap();
        let state = |a: &crate::store::AlarmRow| match (&a.cleared, &a.seen) {
            (Some(_), _) => "cleared".to_owned(),
            (_, Some((by, _))) => format!("seen by {by}"),
            _ => "raised".to_owned(),
        };
        rows.iter().map(|a| format!("{} {} {} {}", a.kind.word(), a.rule.as_deref().unwrap_or("-"), a.severity.word(), state(a))).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_rule_writes_raises_and_publishes_once_and_clears_when_it_is_over() {
    let publish = RuleAction::Publish { topic: "site/hot".into(), payload: "1".into(), retain: true };
    let house =
        house(vec![rule("hot", above("k", 5), vec![write(50), alarm(), publish, RuleAction::Webhook("ops".into())])], vec![], |_| {});
    house.reads(5).await;
    assert!(house.ordered().is_empty());
    house.reads(6).await;
    house.reads(7).await;
    let orders = house.ordered();
    assert_eq!(orders.len(), 1, "once for one cause: {orders:?}");
    assert!(orders[0].starts_with("rule:hot:") && orders[0].ends_with(":1.0 Write({u: Int(50)})"), "{orders:?}");
    let rows = house.store.commands(10).unwrap();
    assert_eq!((rows[0].source.as_str(), rows[0].phase), ("rule:hot", Phase::Sent));
    assert!(house.local.lock().unwrap().contains(&LocalMessage { topic: "site/hot".into(), body: b"1".to_vec(), retain: true }));
    assert_eq!(house.news().await, ["meter rule raised", "hot tells ops: meter.k > 5: 6"]);
    assert_eq!(house.alarms(), ["rule hot critical raised"]);
    let row = &house.store.alarms(None, true, 1).unwrap()[0];
    assert_eq!((row.point.as_deref(), row.reason.as_str()), (Some("k"), "too much (meter.k > 5: 6)"));
    house.reads(5).await;
    assert_eq!(house.news().await, ["meter rule cleared"]);
    assert_eq!(house.alarms(), ["rule hot critical cleared"]);
    assert_eq!(house.handle.snapshot().await.unwrap().alarms_unseen, 0);
}

/// Telemetry is handed in by somebody who rests between two bursts.
#[tokio::test(start_paused = true)]
async fn a_rule_acts_at_the_end_of_a_burst_or_at_once_for_what_it_watches() {
    let publish = RuleAction::Publish { topic: "site/hot".into(), payload: "1".into(), retain: false };
    let house = house(vec![rule("hot", above("k", 5), vec![publish])], vec![], |_| {});
    let fired = || house.local.lock().unwrap().iter().filter(|m| m.topic == "site/hot").count();
    let next = || house.clock.now() + Duration::from_millis(500);
    house.bursts.over(next());
    house.reads(1).await;
    house.reads(6).await;
    house.wait(100).await;
    assert_eq!(fired(), 0, "the burst may not be over");
    house.bursts.over(next());
    house.wait(10).await;
    assert_eq!(fired(), 1, "it is");
    for (value, times) in [(5, 1), (7, 2)] {
        house.reads(value).await;
        house.bursts.hurry();
        house.wait(10).await;
        assert_eq!(fired(), times, "a line does not rest");
    }
    house.reads(5).await;
    house.reads(8).await;
    assert_eq!(fired(), 2);
    house.wait(520).await;
    assert_eq!(fired(), 3, "a burst whose end nobody tells");
    house.reads(5).await;
    house.reads(9).await;
    assert_eq!(fired(), 4, "nobody rests any more");
}

#[tokio::test(start_paused = true)]
async fn what_a_rule_writes_beyond_its_limits_is_refused_as_any_command() {
    let house = house(vec![rule("hot", above("k", 5), vec![write(500)])], vec![], |_| {});
    house.reads(6).await;
    let told = house.news().await;
    assert!(told.len() == 1 && told[0].ends_with("rejected 500 is above the most for u, 90"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hold_ends_by_itself_and_not_for_a_device_that_went_silent() {
    let held =
        |s| config::Rule { pace: Pace { hold: Duration::from_secs(s), ..Pace::default() }, ..rule("hot", above("k", 5), vec![alarm()]) };
    let short = house(vec![held(3)], vec![], |_| {});
    short.reads(6).await;
    short.wait(2_900).await;
    assert_eq!(short.alarms(), [""; 0]);
    short.wait(200).await;
    assert_eq!(short.alarms(), ["rule hot critical raised"]);
    let house = house(vec![held(30)], vec![], |_| {});
    house.reads(6).await;
    for _ in 0..2 {
        house.poll(Heard::Silent { after: Duration::from_millis(100) }).await;
    }
    house.wait(60_000).await;
    assert_eq!(house.state("meter").await.0, State::Offline);
    assert_eq!(house.alarms(), [""; 0], "nobody knows whether it is still true");
    let views = house.handle.rules().await.unwrap();
    assert_eq!((views[0].truth, views[0].tests[0].values[0].0.as_str()), (None, "stale"));
}

#[tokio::test(start_paused = true)]
async fn an_alarm_is_acknowledged_once_and_by_the_cloud_too() {
    let house = house(vec![rule("hot", above("k", 5), vec![alarm()])], vec![], |_| {});
    let name = |rule: &str| AlarmName { device: device("meter"), kind: AlarmKind::Rule, rule: Some(id(rule)) };
    let refused = house.handle.acknowledge(name("hot"), "anna".into()).await;
    assert_eq!(refused, Err(AlarmError::NotRaised("rule:hot".into(), "meter".into())));
    house.reads(6).await;
    assert_eq!(house.news().await, ["meter rule raised"]);
    assert_eq!(house.handle.snapshot().await.unwrap().alarms_unseen, 1);
    let command = |id: &str, alarm| Command {
        id: CommandId::parse(id).unwrap(),
        device: device("meter"),
        action: Action::Acknowledge(Box::new(alarm)),
        from: "uplink cloud".into(),
        received: house.clock.now(),
        issued_at: None,
        expires_in: Duration::from_secs(60),
        from_stored_session: false,
    };
    for (n, alarm) in ["hot", "cold"].into_iter().enumerate() {
        let command = command(&format!("c{n}"), name(alarm));
        house.urgent.send(Urgent::Command { command, receipt: house.receipt(1) }).await.unwrap();
    }
    let told = house.news().await;
    assert_eq!(told[..2], ["meter rule acknowledged by uplink cloud", "c0 confirmed"]);
    assert!(told[2].starts_with("c1 rejected rule:cold of meter is not raised"), "{told:?}");
    assert_eq!(house.handle.acknowledge(name("hot"), "anna".into()).await, Ok(()));
    assert_eq!(house.news().await, [""; 0], "who saw it first stands");
    assert_eq!(house.alarms(), ["rule hot critical seen by uplink cloud"]);
    assert_eq!(house.handle.snapshot().await.unwrap().alarms_unseen, 0);
    assert!(house.ordered().is_empty(), "nothing went to the device");
}

fn remembered(condition: &str, fired: bool) -> RestoredRule {
    let memory = RuleMemory { fired, fired_at: Some(BASE), held: u64::from(fired), off: None, count: 4 };
    RestoredRule { id: id("hot"), condition: condition.into(), memory, boot: crate::model::BootIndex(1) }
}

fn raised(rule: &str) -> RestoredAlarm {
    let is = Alarm { rule: Some(id(rule)), ..Alarm::of_device(device("meter"), AlarmKind::Rule, true, BASE, "too much".into()) };
    RestoredAlarm { is, by: Some("anna".into()) }
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_a_rule_does_not_fire_again_for_the_same_cause() {
    let house = house(vec![rule("hot", above("k", 5), vec![write(50), alarm()])], vec![], |restored| {
        restored.rules = vec![remembered("meter.k > 5", true)];
        restored.alarms = vec![raised("hot")];
    });
    house.reads(6).await;
    assert_eq!((house.ordered(), house.news().await), (vec![], vec![]));
    house.reads(5).await;
    assert_eq!(house.news().await, ["meter rule cleared"]);
    house.reads(6).await;
    assert!(house.ordered()[0].contains(":5.0 "), "{:?}", house.ordered());
    // It was for another condition: what is true now is a new cause, and the old alarm is nobody's.
    let other = self::house(vec![rule("hot", above("k", 5), vec![alarm()])], vec![], |restored| {
        restored.rules = vec![remembered("meter.k > 9", true)];
        restored.alarms = vec![raised("hot"), raised("gone")];
    });
    assert_eq!(other.news().await, ["meter rule cleared", "meter rule cleared"]);
    other.reads(6).await;
    assert_eq!(other.news().await, ["meter rule raised"]);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_feeds_itself_through_the_field_is_paused_with_an_alarm() {
    let house = house(vec![rule("hot", above("k", 5), vec![alarm()])], vec![], |_| {});
    for n in 0..30 {
        house.reads(if n % 2 == 0 { 6 } else { 5 }).await;
    }
    let paused = "paused hot critical raised";
    assert_eq!(house.alarms()[0], paused, "{:?}", house.alarms());
    assert_eq!(house.alarms().len(), 1 + limits::RULE_FIRINGS - 1, "ten at most are listed");
    let switch = |on| house.handle.switch_rule(Switch { rule: id("hot"), on, by: "anna".into() });
    assert_eq!(switch(true).await, Ok(()));
    assert_eq!(house.alarms()[0], "paused hot critical cleared");
    house.reads(6).await;
    assert_eq!(house.alarms()[0], "rule hot critical raised");
    assert_eq!(switch(false).await, Ok(()));
    house.wait(5).await;
    assert_eq!(house.alarms()[0], "rule hot critical cleared");
    house.reads(5).await;
    house.reads(6).await;
    assert_eq!(house.alarms()[0], "rule hot critical cleared", "it is off");
    assert_eq!(house.handle.rules().await.unwrap()[0].memory.off.as_deref(), Some("switched off by anna"));
    let unknown = house.handle.switch_rule(Switch { rule: id("cold"), on: true, by: "anna".into() }).await;
    assert_eq!(unknown, Err(RuleError::Unknown(id("cold"))));
}

fn analysis(point: &str) -> Analysis {
    Analysis {
        id: "a".into(),
        of: of("meter", point),
        window: None,
        figures: vec![Figure::Mean, Figure::Count],
        replace: false,
        moving_mean: None,
        rate: None,
        z_score: None,
        stuck_after: None,
        above: None,
        below: None,
        hysteresis: 0.0,
    }
}

/// Each row as `point=value …`.
fn rows(frames: &[Frame]) -> Vec<String> {
    let one = |f: &Frame, row: &crate::model::Row| {
        let all = f.points.iter().zip(&row.values).map(|(p, v)| format!("{p}={}", v.as_f64().unwrap_or(f64::NAN)));
        all.collect::<Vec<_>>().join(" ")
    };
    frames.iter().flat_map(|f| f.rows.iter().map(move |row| one(f, row))).collect()
}

#[tokio::test(start_paused = true)]
async fn windows_go_upstream_instead_of_samples_and_rules_see_both() {
    let windows = Analysis { window: Some(Duration::from_secs(10)), replace: true, ..analysis("k") };
    let mean = Test::Value(of("meter", "k.mean"), Compare::More, Value::Int(5));
    let when = Condition { text: mean.to_string(), tests: vec![mean], expr: Expr::Test(0) };
    let rules = vec![rule("hot", when, vec![alarm()]), rule("now", above("k", 8), vec![alarm()])];
    assert_eq!(watched(&Config { rules: rules.clone(), analytics: vec![windows.clone()], ..config() })[&device("meter")].len(), 1);
    let house = house(rules, vec![windows], |_| {});
    for value in [4, 9, 8] {
        house.reads(value).await;
    }
    assert_eq!(house.alarms(), ["rule now critical cleared"], "the samples themselves");
    assert_eq!(rows(&house.frames().await), ["u=20", "u=20", "u=20"], "k is not sent");
    house.wait(10_000).await;
    let told = rows(&house.frames().await);
    assert_eq!(told, ["k.mean=7 k.count=3"]);
    assert_eq!(house.alarms(), ["rule hot critical raised", "rule now critical cleared"]);
    let values = house.handle.values(&device("meter")).await.unwrap();
    assert!(values.contains(&(PointId::parse("k.mean").unwrap(), Value::Float(7.0))), "{values:?}");
    house.reads(2).await;
    house.stop.cancel();
    house.wait(1_000).await;
    let last = rows(&house.frames().await);
    assert!(last.contains(&"k.mean=2 k.count=1".to_owned()), "the open window is told at the stop: {last:?}");
}

#[tokio::test(start_paused = true)]
async fn figures_that_move_are_seen_by_rules_at_once() {
    let moving = Analysis { above: Some(8.0), rate: Some(Duration::from_secs(60)), ..analysis("k") };
    let test = Test::Value(of("meter", "k.above"), Compare::Equal, Value::Bool(true));
    let when = Condition { text: test.to_string(), tests: vec![test], expr: Expr::Test(0) };
    let house = house(vec![rule("hot", when, vec![alarm()])], vec![moving], |_| {});
    house.reads(8).await;
    assert_eq!(house.alarms(), [""; 0]);
    house.reads(9).await;
    assert_eq!(house.alarms(), ["rule hot critical raised"]);
    let frames = house.frames().await;
    let made = frames.iter().find(|f| f.points.iter().any(|p| p.as_str() == "k.rate")).unwrap();
    assert_eq!(*made.points, *points(&["k.rate", "k.above"]));
    assert_eq!(made.rows[0].quality.as_deref(), Some(&[Quality::NotAvailable, Quality::Good][..]));
}
