//! The pump, the real store (inline) and a simulated broker, in virtual time.

use super::*;
use crate::{
    model::{Boot, ClockReading, DeviceId, DeviceStatus, PointCard, PointId, State, UplinkState},
    system::clock::Wall,
    uplink::{
        pump::testing::{Rig, WALL},
        simulated::{Faults, Received},
    },
};
use serde_json::Value as Json;
use std::{collections::BTreeMap, future::Future, time::Duration};
use tokio::time::Instant;

fn json(received: &Received) -> Json {
    serde_json::from_slice(&received.body).unwrap()
}

/// What a consumer keeps: by key, each content once, the clock's offset taken off.
fn contents(received: &[Received]) -> BTreeMap<(String, u64), Vec<Json>> {
    let mut by_key: BTreeMap<_, Vec<Json>> = BTreeMap::new();
    for message in received.iter().filter(|r| r.topic.ends_with("/telemetry") || r.topic.ends_with("/event")) {
        let mut body = json(message);
        let members = body.as_object_mut().unwrap();
        members.remove("backlog");
        let key = (members["stream"].as_str().unwrap().to_owned(), members["seq"].as_u64().unwrap());
        let seen = by_key.entry(key).or_default();
        if !seen.contains(&body) {
            seen.push(body);
        }
    }
    by_key
}

/// What a broker does wrong.
type Breaks = fn(&mut Faults);

/// A test in paused time on one thread.
fn virtual_time(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(test);
}

#[test]
fn birth_devices_events_telemetry_in_this_order() {
    virtual_time(async {
        let rig = Rig::start();
        rig.broker.faults(|f| f.refuse = true);
        rig.cards.send_replace(Arc::new(vec![card("boiler")]));
        rig.sample(1);
        rig.event("unplugged").await;
        rig.broker.faults(|f| f.refuse = false);
        rig.drain(Duration::from_secs(5)).await;
        let topics: Vec<_> = rig.broker.received().iter().map(|r| r.topic.clone()).collect();
        assert_eq!(
            topics,
            ["fieldgate/plant-7/state", "fieldgate/plant-7/devices", "fieldgate/plant-7/event", "fieldgate/plant-7/telemetry"]
        );
        let birth = json(&rig.broker.received()[0]);
        assert_eq!((birth["state"].as_str(), birth["version"].as_str()), (Some("online"), Some("0.1.0")));
        assert_eq!(rig.figures.borrow().state, UplinkState::Up);
    });
}

#[test]
fn nothing_is_lost_or_changed_whatever_the_broker_does() {
    let all: [(&str, Breaks); 6] = [
        ("late answers", |f| f.answer_after = Duration::from_millis(700)),
        ("reversed answers", |f| {
            f.answer_after = Duration::from_millis(50);
            f.reverse = true;
        }),
        ("lost answers", |f| {
            f.lose_answer_every = Some(7);
            f.patience = Some(Duration::from_secs(5));
        }),
        ("cut after every 11 messages", |f| f.cut_after = Some(11)),
        ("cut, slow and reversed", |f| {
            f.answer_after = Duration::from_millis(20);
            f.reverse = true;
            f.cut_after = Some(40);
        }),
        ("cut before the first answer", |f| {
            f.answer_after = Duration::from_millis(100);
            f.cut_after = Some(5);
        }),
    ];
    for (name, fault) in all {
        virtual_time(async {
            let rig = Rig::start();
            rig.broker.faults(fault);
            for n in 0..300 {
                rig.sample(n);
                if n % 10 == 0 {
                    rig.event(&format!("e{n}")).await;
                }
                rig.pass(Duration::from_millis(20)).await;
            }
            if name == "cut before the first answer" {
                // Nothing can ever be acknowledged so: kept until it heals.
                rig.pass(Duration::from_secs(30)).await;
                assert!(!rig.is_drained());
                rig.broker.faults(|f| *f = Faults::default());
            }
            rig.drain(Duration::from_secs(1200)).await;
            let contents = contents(&rig.broker.received());
            let doubled: Vec<_> = contents.iter().filter(|(_, bodies)| bodies.len() != 1).collect();
            assert!(doubled.is_empty(), "{name}: a key with two contents: {doubled:?}");
            for (stream, count) in [("telemetry", 300), ("event", 30)] {
                let seqs: Vec<u64> = contents.keys().filter(|(s, _)| s == stream).map(|(_, seq)| *seq).collect();
                assert_eq!(seqs, (1..=count).collect::<Vec<u64>>(), "{name}: {stream}");
            }
        });
    }
}

#[test]
fn an_outage_is_told_and_drained_live_first() {
    virtual_time(async {
        let rig = Rig::start();
        rig.broker.faults(|f| f.answer_after = Duration::from_millis(20));
        rig.pass(Duration::from_millis(100)).await;
        // In flight when the link is cut: to be sent again, as backlog.
        rig.sample(-1);
        rig.pass(Duration::from_millis(10)).await;
        rig.broker.faults(|f| f.refuse = true);
        rig.broker.cut();
        rig.pass(Duration::from_secs(1)).await;
        let down = rig.figures.borrow().clone();
        assert_eq!((down.state, down.reason.as_str()), (UplinkState::Down, "simulated: connection refused; nothing listens there"));
        // Ten batches a second for a minute.
        for n in 0..600 {
            rig.sample(n);
            rig.pass(Duration::from_millis(100)).await;
        }
        rig.broker.take_received();
        rig.broker.faults(|f| f.refuse = false);
        let began = rig.broker.connects().1;
        while rig.broker.connects().1 == began {
            rig.pass(Duration::from_millis(10)).await;
        }
        let start = Instant::now();
        for n in 600..620 {
            rig.sample(n);
            rig.pass(Duration::from_millis(100)).await;
        }
        rig.drain(Duration::from_secs(10)).await;
        let took = start.elapsed();
        assert!(took < Duration::from_secs(6), "60 s of backlog took {took:?}");
        let received = rig.broker.received();
        assert_eq!(json(&received[0])["state"], "online");
        let late = received.iter().filter(|r| r.topic.ends_with("/telemetry") && json(r)["backlog"] == true).count();
        assert!(late > 0, "what comes late says so");
        assert_eq!(rig.figures.borrow().state, UplinkState::Up);
        assert_eq!(rig.figures.borrow().answer_ms, Some(20));
    });
}

#[test]
fn telemetry_after_a_boot_waits_for_the_clock_and_events_do_not() {
    virtual_time(async {
        for (synchronised_after, want) in [(Some(20), "synchronised"), (None, "estimated")] {
            let wall: &'static Wall = Box::leak(Box::default());
            let rig = Rig::stepped(wall, Boot::from_ms(10_000));
            rig.store.hold_telemetry(Duration::from_secs(60));
            let telemetry = || rig.broker.received().into_iter().filter(|r| r.topic.ends_with("/telemetry")).collect::<Vec<_>>();
            rig.event("first").await;
            for n in 0..200 {
                rig.sample(n);
                rig.pass(Duration::from_millis(100)).await;
            }
            assert_eq!(telemetry().len(), 0, "held");
            assert!(rig.broker.received().iter().any(|r| r.topic.ends_with("/event")), "events go at once");
            if synchronised_after.is_some() {
                rig.store.set_clock(ClockReading::synchronised(WALL));
            } else {
                rig.pass(Duration::from_millis(29_000)).await;
                assert_eq!(telemetry().len(), 0, "held until the boot is 60 s old");
                rig.pass(Duration::from_millis(2000)).await;
            }
            rig.drain(Duration::from_secs(10)).await;
            let (offset, _) = rig.store.clock();
            assert_eq!(telemetry().len(), 200, "{want}");
            for message in telemetry() {
                let body = json(&message);
                assert_eq!(body["clock"]["quality"], want);
                let at = body["devices"]["meter-1"][0]["at"].as_i64().unwrap();
                assert_eq!(at, offset.offset_ms + 10_000 + 100 * (body["seq"].as_i64().unwrap() - 1), "{body}");
            }
        }
    });
}

#[test]
fn a_stop_does_not_wait_for_telemetry_that_is_held() {
    virtual_time(async {
        let rig = Rig::stepped(Box::leak(Box::default()), Boot::from_ms(10_000));
        rig.store.hold_telemetry(Duration::from_secs(60));
        rig.sample(1);
        rig.pass(Duration::from_millis(300)).await;
        let began = Instant::now();
        rig.stop.cancel();
        rig.task.await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert!(rig.store.spool().has_live(UplinkIndex::FIRST), "it stays in the spool");
    });
}

#[test]
fn connection_attempts_back_off() {
    virtual_time(async {
        let rig = Rig::start();
        rig.broker.faults(|f| f.refuse = true);
        rig.pass(Duration::from_secs(3600)).await;
        let (attempts, links) = rig.broker.connects();
        // An hour at 30 to 60 s each, and the first quick ones.
        assert!(links == 0 && (60..140).contains(&attempts), "{attempts} attempts, {links} links");
    });
}

#[test]
fn the_will_belongs_to_the_birth_and_a_stop_says_goodbye() {
    virtual_time(async {
        let rig = Rig::start();
        rig.pass(Duration::from_millis(50)).await;
        rig.broker.cut();
        rig.pass(Duration::from_secs(2)).await;
        let states: Vec<Json> = rig.broker.received().iter().filter(|r| r.topic.ends_with("/state")).map(json).collect();
        let told: Vec<_> = states.iter().map(|s| (s["state"].as_str().unwrap(), s["session"].as_u64().unwrap())).collect();
        assert_eq!(told, [("online", 1), ("offline", 1), ("online", 2)]);
        assert_eq!(states[1]["reason"], "connection lost");

        rig.broker.faults(|f| f.answer_after = Duration::from_millis(100));
        for n in 0..50 {
            rig.sample(n);
        }
        rig.stop.cancel();
        let began = Instant::now();
        rig.task.await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        let received = rig.broker.received();
        assert_eq!(contents(&received).len(), 50, "what was in RAM was sent");
        let last = json(received.last().unwrap());
        assert_eq!((last["state"].as_str(), last["reason"].as_str()), (Some("offline"), Some("stopped")));
        assert_eq!(rig.broker.goodbyes(), 1, "DISCONNECT, so that the will is not published");
        drop(rig.dir);
    });
}

#[test]
fn a_stop_after_a_quiet_time_still_sends_what_is_in_ram() {
    virtual_time(async {
        let rig = Rig::start();
        rig.pass(Duration::from_secs(20)).await;
        rig.sample(1);
        rig.stop.cancel();
        rig.task.await.unwrap();
        assert_eq!(contents(&rig.broker.received()).len(), 1);
        assert_eq!(rig.broker.goodbyes(), 1);
    });
}

#[test]
fn a_stop_ends_in_time_when_nobody_answers() {
    virtual_time(async {
        let rig = Rig::start();
        rig.pass(Duration::from_millis(50)).await;
        rig.broker.faults(|f| f.answer_after = Duration::from_secs(3600));
        rig.sample(1);
        rig.pass(Duration::from_millis(50)).await;
        rig.stop.cancel();
        let began = Instant::now();
        rig.task.await.unwrap();
        assert!(began.elapsed() <= Duration::from_millis(1_900), "longer than its share of the stop: {:?}", began.elapsed());
        assert_eq!(json(rig.broker.received().last().unwrap())["state"], "offline");
    });
}

#[test]
fn a_command_is_acknowledged_when_it_is_kept_and_comes_again_until_then() {
    virtual_time(async {
        let mut rig = Rig::start();
        rig.pass(Duration::from_millis(50)).await;
        let id = rig.broker.command(r#"{"id":"c1","device":"boiler","write":{"setpoint":60}}"#);
        let Some(Urgent::Command { command, receipt }) = rig.urgent.recv().await else { panic!("no command") };
        assert_eq!((command.id.as_str(), command.from.as_str(), command.from_stored_session), ("c1", "uplink cloud", false));
        rig.pass(Duration::from_secs(1)).await;
        assert_eq!(rig.broker.acknowledged_commands(), [] as [u16; 0], "not kept, not acknowledged");

        rig.broker.cut();
        let Some(Urgent::Command { command, receipt: again }) = rig.urgent.recv().await else { panic!("no command") };
        assert!(command.from_stored_session, "its age is unknown now");
        receipt.keep();
        rig.pass(Duration::from_secs(1)).await;
        assert_eq!(rig.broker.acknowledged_commands(), [] as [u16; 0], "a receipt of the link before acknowledges nothing");
        again.keep();
        rig.pass(Duration::from_millis(10)).await;
        assert_eq!(rig.broker.acknowledged_commands(), [id]);

        rig.pass(Duration::from_secs(3)).await;
        rig.broker.command(r#"{"id":"c2","device":"boiler","read":[]}"#);
        let Some(Urgent::Command { command, .. }) = rig.urgent.recv().await else { panic!("no command") };
        assert!(!command.from_stored_session, "after a pause the stored mail has all been brought");
    });
}

#[test]
fn acknowledgements_of_commands_keep_their_order_and_a_full_engine_loses_none() {
    virtual_time(async {
        let mut rig = Rig::start();
        rig.pass(Duration::from_millis(50)).await;
        // The engine's queue in this rig has four places.
        let ids: Vec<u16> = (0..20).map(|n| rig.broker.command(format!(r#"{{"id":"c{n}","device":"d","read":[]}}"#))).collect();
        rig.pass(Duration::from_millis(50)).await;
        let mut receipts = vec![];
        while receipts.len() < 20 {
            let Some(Urgent::Command { command, receipt }) = rig.urgent.recv().await else { panic!("no command") };
            assert_eq!(command.id.as_str(), format!("c{}", receipts.len()));
            receipts.push(receipt);
        }
        for receipt in receipts.into_iter().rev() {
            receipt.keep();
        }
        rig.pass(Duration::from_millis(50)).await;
        assert_eq!(rig.broker.acknowledged_commands(), ids);
    });
}

#[test]
fn an_unreadable_command_is_put_aside_told_and_acknowledged() {
    virtual_time(async {
        let mut rig = Rig::start();
        rig.pass(Duration::from_millis(50)).await;
        let id = rig.broker.command(r#"{"id":"c1","device":"a","writes":{"k":1}}"#);
        rig.drain(Duration::from_secs(5)).await;
        rig.pass(Duration::from_secs(1)).await;
        assert_eq!(rig.broker.acknowledged_commands(), [id]);
        assert!(rig.urgent.try_recv().is_err());
        let event = rig.broker.received().iter().filter(|r| r.topic.ends_with("/event")).map(json).next().unwrap();
        assert_eq!(event["events"][0]["type"], "dead_letter");
        assert_eq!(
            event["events"][0]["reason"],
            r#"command "c1": the key "writes" is unknown; use id, device or devices, write, read, acknowledge, run or cancel, issued_at, expires_in_s"#
        );
    });
}

#[test]
fn the_device_list_follows_changes_at_most_once_a_second() {
    virtual_time(async {
        let rig = Rig::start();
        rig.cards.send_replace(Arc::new(vec![card("a")]));
        rig.pass(Duration::from_secs(2)).await;
        let lists = |rig: &Rig| rig.broker.received().iter().filter(|r| r.topic.ends_with("/devices")).map(json).collect::<Vec<_>>();
        assert_eq!(lists(&rig).len(), 1);
        // The same content is not sent again; a hundred changes become two lists.
        for n in 0..100 {
            rig.cards.send_replace(Arc::new(vec![card("a")]));
            if n > 50 {
                rig.cards.send_replace(Arc::new(vec![card("a"), card(&format!("b{n}"))]));
            }
            rig.pass(Duration::from_millis(20)).await;
        }
        rig.pass(Duration::from_secs(2)).await;
        let lists = lists(&rig);
        assert!((2..=4).contains(&lists.len()), "{}", lists.len());
        assert!(lists.last().unwrap()["devices"]["b99"].is_object());
    });
}

#[test]
fn an_event_does_not_wait_behind_a_long_device_list() {
    virtual_time(async {
        let rig = Rig::start();
        let list = |kind: &str| Arc::new((0..4_000).map(|n| card(&format!("{kind}-{n}"))).collect());
        rig.cards.send_replace(list("plug"));
        rig.pass(Duration::from_secs(2)).await;
        rig.broker.faults(|f| f.answer_after = Duration::from_millis(50));
        let before = rig.broker.received().len();
        rig.cards.send_replace(list("bulb"));
        rig.pass(Duration::from_millis(10)).await;
        rig.event("unplugged").await;
        rig.pass(Duration::from_secs(2)).await;
        let topics: Vec<_> = rig.broker.received().iter().map(|r| r.topic.replace("fieldgate/plant-7/", "")).collect();
        let (first, after) = topics.split_at(before);
        assert!(first.len() > 3 && first[1..].iter().all(|topic| topic.starts_with("devices")), "{first:?}");
        assert_eq!(after[..2], ["devices", "event"], "one part was on its way: {after:?}");
        assert_eq!(after.len(), first.len(), "and the rest of the list follows");
    });
}

fn card(id: &str) -> DeviceCard {
    let status = DeviceStatus {
        device: DeviceId::parse(id).unwrap(),
        line: None,
        state: State::Online,
        cause: None,
        since: Boot::from_ms(1_000_000),
        evidence: None,
        missed: 0,
    };
    let point = PointCard { id: PointId::parse("power").unwrap(), unit: "W".into(), kind: "u16", writable: false };
    DeviceCard { status, profile: None, points: [point].into() }
}

/// A fault schedule drawn from a seed: whatever comes in whatever order, after it heals everything is there once.
#[test]
fn seeded_faults() {
    for seed in 1..=20 {
        virtual_time(seeded(seed));
    }
}

async fn seeded(seed: u64) {
    let mut state = seed;
    // splitmix64: a few lines, and the same for ever.
    let mut draw = move |below: u64| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    };
    let rig = Rig::start();
    let mut samples = 0;
    let mut events = 0;
    for _ in 0..60 {
        rig.broker.faults(|f| {
            f.refuse = draw(5) == 0;
            f.answer_after = Duration::from_millis(draw(4) * draw(300));
            f.reverse = draw(2) == 0;
            f.lose_answer_every = (draw(4) == 0).then(|| 2 + draw(20));
            f.cut_after = (draw(4) == 0).then(|| 1 + draw(60));
            f.patience = Some(Duration::from_secs(3));
        });
        if draw(5) == 0 {
            rig.broker.cut();
        }
        for _ in 0..draw(60) {
            samples += 1;
            rig.sample(samples);
            if draw(8) == 0 {
                events += 1;
                rig.event("e").await;
            }
            rig.pass(Duration::from_millis(draw(60))).await;
        }
    }
    // Answers lost before the healing stay lost: the link's own watchdog must end it, as the real client's does.
    rig.broker.faults(|f| *f = Faults { patience: Some(Duration::from_secs(3)), ..Faults::default() });
    rig.drain(Duration::from_secs(300)).await;
    let received = rig.broker.received();
    let contents = contents(&received);
    assert!(contents.values().all(|bodies| bodies.len() == 1), "seed {seed}: a key with two contents");
    for (stream, count) in [("telemetry", samples.cast_unsigned()), ("event", events)] {
        let seqs: Vec<u64> = contents.keys().filter(|(s, _)| s == stream).map(|(_, seq)| *seq).collect();
        assert_eq!(seqs, (1..=count).collect::<Vec<u64>>(), "seed {seed}: {stream}");
    }
    // A batch whose acknowledgement arrived is never sent again.
    let mut acknowledged = std::collections::BTreeSet::new();
    for link in 1..=rig.broker.connects().1 {
        for message in received.iter().filter(|r| r.link == link && r.topic.ends_with("/event")) {
            assert!(!acknowledged.contains(&json(message)["seq"].as_u64()), "seed {seed}: sent again after its acknowledgement");
        }
        let done = |r: &&Received| r.link == link && r.topic.ends_with("/event") && r.acknowledged;
        acknowledged.extend(received.iter().filter(done).map(|r| json(r)["seq"].as_u64()));
    }
}

#[test]
fn a_rebirth_sends_birth_and_devices_again_on_the_same_link() {
    virtual_time(async {
        let rig = Rig::start();
        rig.cards.send_replace(Arc::new(vec![card("boiler")]));
        rig.drain(Duration::from_secs(5)).await;
        let before = rig.broker.received().len();
        rig.reborn.send_replace(1);
        rig.pass(Duration::from_secs(3)).await;
        let again: Vec<_> = rig.broker.received()[before..].iter().map(|r| r.topic.clone()).collect();
        assert_eq!(again, ["fieldgate/plant-7/state", "fieldgate/plant-7/devices"]);
        assert_eq!(rig.figures.borrow().connects, 1);
    });
}
