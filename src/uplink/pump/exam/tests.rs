//! A pump, the real store and a broker that dislikes some of it, in virtual time: only the guilty samples are put aside.

use crate::{
    model::{DeviceId, Frame, PointId, Row, UplinkState, Value, event::Alive},
    uplink::{
        broker::{Refusal, Welcome},
        pump::testing::Rig,
        simulated::{Dislike, Poison},
    },
};
use proptest::prelude::*;
use serde_json::Value as Json;
use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

fn virtual_time<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(test)
}

/// A batch of these values: a device per frame, so many points each.
fn seal(rig: &Rig, values: &[i64], points: usize) {
    let now = rig.clock.now();
    let frame = |(n, values): (usize, &[i64])| Frame {
        device: DeviceId::parse(&format!("meter-{n}")).unwrap(),
        points: (0..values.len()).map(|p| PointId::parse(&format!("p{p}")).unwrap()).collect(),
        rows: vec![Row { at: now, values: values.iter().map(|v| Value::Int(*v)).collect(), quality: None }],
        thin: None,
    };
    rig.store.spool().append(values.chunks(points).enumerate().map(frame).collect(), vec![], now);
}

/// Every sample of a telemetry message.
fn values(body: &[u8]) -> Vec<i64> {
    let message: Json = serde_json::from_slice(body).unwrap();
    let mut all = Vec::new();
    for frames in message["devices"].as_object().into_iter().flat_map(|d| d.values()) {
        for points in frames.as_array().unwrap().iter().map(|f| f["v"].as_object().unwrap()) {
            all.extend(points.values().flat_map(|rows| rows.as_array().unwrap()).map(|v| v.as_i64().unwrap()));
        }
    }
    all
}

/// A broker that dislikes telemetry with these values.
fn dislike(rig: &Rig, how: Dislike, is_bad: impl Fn(i64) -> bool + Send + Sync + 'static) {
    let is_bad = move |topic: &str, body: &[u8]| topic.ends_with("/telemetry") && values(body).into_iter().any(&is_bad);
    rig.broker.faults(|f| {
        f.poison = Some((Poison(Arc::new(is_bad)), how));
        f.answer_after = Duration::from_millis(5);
        f.patience = Some(Duration::from_secs(45));
    });
}

fn delivered(rig: &Rig) -> BTreeMap<i64, usize> {
    let mut all = BTreeMap::new();
    for message in rig.broker.received().iter().filter(|r| r.topic.ends_with("/telemetry") && r.acknowledged) {
        values(&message.body).into_iter().for_each(|v| *all.entry(v).or_default() += 1);
    }
    all
}

fn put_aside(rig: &Rig) -> Vec<i64> {
    let letters = rig.store.dead_letters(10_000).unwrap();
    assert!(letters.iter().all(|l| l.source == "uplink cloud" && l.topic == "fieldgate/plant-7/telemetry"), "{letters:?}");
    let mut all: Vec<i64> = letters
        .iter()
        .flat_map(|l| {
            let one = values(&l.body);
            assert_eq!(one.len(), 1, "a letter holds one sample");
            one
        })
        .collect();
    all.sort_unstable();
    all
}

fn is_telemetry_drained(rig: &Rig) -> bool {
    rig.store.spool().alive().iter().all(|Alive { lowest, highest, .. }| lowest > highest)
}

/// Gap events of batches that come in parts.
fn partings(rig: &Rig) -> usize {
    let events = rig.broker.received().into_iter().filter(|r| r.topic.ends_with("/event") && r.acknowledged);
    let messages = events.map(|r| serde_json::from_slice::<Json>(&r.body).unwrap());
    messages.flat_map(|m| m["events"].as_array().cloned().unwrap()).filter(|e| e["replaced_by"].is_object()).count()
}

/// Batches with some bad samples; good ones keep coming. In the end all is either delivered or put aside. Gives the
/// partings, and the connections.
async fn play(how: Dislike, batches: &[Vec<bool>], points: usize) -> (usize, u64) {
    let rig = Rig::start();
    let (mut n, mut bad, mut good) = (0, Vec::new(), Vec::new());
    dislike(&rig, how, |v| v < 0);
    for batch in batches {
        let mut of = Vec::new();
        for is_bad in batch {
            n += 1;
            of.push(if *is_bad { -n } else { n });
            if *is_bad { bad.push(-n) } else { good.push(n) }
        }
        seal(&rig, &of, points);
        rig.pass(Duration::from_millis(20)).await;
    }
    bad.sort_unstable();
    let mut fresh = 1_000_000;
    for _ in 0..40_000 {
        if put_aside(&rig).len() >= bad.len() && is_telemetry_drained(&rig) {
            break;
        }
        fresh += 1;
        good.push(fresh);
        seal(&rig, &[fresh], 1);
        rig.pass(Duration::from_millis(500)).await;
    }
    rig.broker.faults(|f| f.poison = None);
    rig.drain(Duration::from_secs(600)).await;
    assert_eq!(put_aside(&rig), bad, "{how:?}: only the guilty");
    let all = delivered(&rig);
    assert!(good.iter().all(|v| all.contains_key(v)), "{how:?}: every other sample arrives");
    assert!(bad.iter().all(|v| !all.contains_key(v)), "{how:?}: and no guilty one");
    if how != Dislike::Close && how != Dislike::NeverAcknowledge {
        assert!(all.values().all(|times| *times == 1), "{how:?}: {all:?}");
        assert_eq!(rig.broker.connects().1, 1, "a refusal costs no connection");
    }
    assert_eq!(rig.store.spool().figures(rig.clock.now()).dropped_samples, bad.len() as u64);
    (partings(&rig), rig.broker.connects().1)
}

#[test]
fn one_bad_sample_of_a_large_batch_is_found() {
    for how in [
        Dislike::Refuse(Refusal::Payload),
        Dislike::Refuse(Refusal::NotAuthorised),
        Dislike::Refuse(Refusal::Unspecified),
        Dislike::Close,
        Dislike::NeverAcknowledge,
    ] {
        let mut batches = vec![vec![false; 200]; 3];
        batches[1][137] = true;
        let (partings, connections) = virtual_time(play(how, &batches, 10));
        println!("{how:?}: {partings} partings, {connections} connections");
        // 200 samples are 7.6 halvings; frames and points round up.
        assert!(partings <= 10, "{how:?}: {partings}");
        assert!(connections <= 3 * 10 + 5, "{how:?}: {connections}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn any_bad_samples_in_any_batches_are_put_aside_and_all_others_arrive(
        batches in proptest::collection::vec(proptest::collection::vec(proptest::bool::weighted(0.2), 1..12), 1..5),
        points in 1usize..5,
        how in proptest::sample::select(vec![
            Dislike::Refuse(Refusal::Payload), Dislike::Refuse(Refusal::Topic), Dislike::Refuse(Refusal::Implementation), Dislike::Close,
        ]),
    ) {
        let _ = virtual_time(play(how, &batches, points));
    }
}

#[test]
fn a_broker_that_refuses_the_topic_gets_everything_later_and_nothing_is_put_aside() {
    for how in [Dislike::Refuse(Refusal::NotAuthorised), Dislike::Refuse(Refusal::Payload), Dislike::Close] {
        virtual_time(async {
            let rig = Rig::start();
            dislike(&rig, how, |_| true);
            for n in 0..120 {
                seal(&rig, &[2 * n, 2 * n + 1], 2);
                rig.pass(Duration::from_secs(5)).await;
            }
            assert_eq!(put_aside(&rig), [0; 0], "{how:?}");
            // Between two attempts, where they close.
            let mut figures = rig.figures.clone();
            let said = figures.wait_for(|f| f.reason.contains("fieldgate/plant-7/telemetry"));
            let said = tokio::time::timeout(Duration::from_secs(300), said).await.map(|f| f.unwrap().clone());
            let shown = said.unwrap_or_else(|_| panic!("{how:?}: {:?}", rig.figures.borrow()));
            if how != Dislike::Close {
                assert_ne!(shown.state, UplinkState::Down);
                assert!(shown.messages_sent < 400, "{how:?}: no endless loop: {}", shown.messages_sent);
            }
            // Ten minutes with reconnect_max 60 s.
            assert!(rig.broker.connects().0 < 60, "{:?}", rig.broker.connects());
            rig.broker.faults(|f| f.poison = None);
            rig.drain(Duration::from_secs(600)).await;
            assert_eq!(delivered(&rig).len(), 240, "{how:?}");
            assert_eq!(rig.figures.borrow().reason, "");
        });
    }
}

#[test]
fn a_quota_slows_down_and_loses_nothing() {
    virtual_time(async {
        let rig = Rig::start();
        dislike(&rig, Dislike::Refuse(Refusal::Quota), |_| true);
        for n in 0..50 {
            seal(&rig, &[n], 1);
            rig.pass(Duration::from_secs(2)).await;
        }
        let shown = rig.figures.borrow().clone();
        assert!(shown.reason.contains("quota") && shown.messages_sent < 30, "{shown:?}");
        rig.broker.faults(|f| f.poison = None);
        rig.drain(Duration::from_secs(120)).await;
        assert_eq!(delivered(&rig).len(), 50);
        assert!(put_aside(&rig).is_empty());
    });
}

#[test]
fn a_broker_that_acknowledges_nothing_is_said_and_not_hammered() {
    virtual_time(async {
        let rig = Rig::start();
        rig.broker.faults(|f| {
            f.lose_answer_every = Some(1);
            f.patience = Some(Duration::from_secs(45));
        });
        for n in 0..100 {
            seal(&rig, &[n], 1);
            rig.pass(Duration::from_secs(30)).await;
        }
        let shown = rig.figures.borrow().clone();
        assert!(rig.broker.connects().1 < 70, "50 minutes: {:?}", rig.broker.connects());
        assert!(shown.messages_sent < 3_000, "{shown:?}");
        assert!(put_aside(&rig).is_empty());
        let mut figures = rig.figures.clone();
        let said = figures.wait_for(|f| f.reason.starts_with("the broker acknowledges nothing"));
        assert!(tokio::time::timeout(Duration::from_secs(200), said).await.is_ok());
        rig.broker.cut();
        rig.pass(Duration::from_millis(1)).await;
        rig.broker.faults(|f| f.lose_answer_every = None);
        rig.drain(Duration::from_secs(600)).await;
        assert_eq!(delivered(&rig).len(), 100);
    });
}

#[test]
fn a_broker_that_says_how_much_it_takes_gets_no_more() {
    virtual_time(async {
        let rig = Rig::start();
        rig.broker.faults(|f| {
            f.refuse = true;
            f.answer_after = Duration::from_millis(50);
            f.welcome = Welcome { receive_max: Some(3), max_packet: Some(4096), resumed: false };
        });
        let all: Vec<i64> = (0..3000).collect();
        seal(&rig, &all, 100);
        rig.broker.faults(|f| f.refuse = false);
        rig.drain(Duration::from_secs(60)).await;
        assert_eq!(delivered(&rig), all.iter().map(|v| (*v, 1)).collect());
        let largest = rig.broker.received().iter().map(|r| r.topic.len() + r.body.len() + 10).max().unwrap();
        assert!(largest <= 4096 && put_aside(&rig).is_empty(), "{largest}");
    });
}

#[test]
fn an_event_that_the_broker_does_not_take_is_put_aside_whole_and_announced() {
    virtual_time(async {
        let rig = Rig::start();
        let is_bad =
            |topic: &str, body: &[u8]| topic.ends_with("/event") && String::from_utf8_lossy(body).contains("\"reason\":\"bad one\"");
        rig.broker.faults(|f| f.poison = Some((Poison(Arc::new(is_bad)), Dislike::Refuse(Refusal::Payload))));
        for reason in ["good one", "bad one", "good again"] {
            rig.event(reason).await;
        }
        rig.pass(Duration::from_secs(3)).await;
        rig.event("later").await;
        rig.drain(Duration::from_secs(60)).await;
        let letters = rig.store.dead_letters(10).unwrap();
        assert_eq!(letters.len(), 1);
        assert!(letters[0].topic.ends_with("/event") && letters[0].reason.contains("0x99"), "{letters:?}");
        let events: Vec<Json> = rig
            .broker
            .received()
            .iter()
            .filter(|r| r.topic.ends_with("/event"))
            .map(|r| serde_json::from_slice(&r.body).unwrap())
            .collect();
        let seq = |text: &str| events.iter().find(|m| m.to_string().contains(text)).map(|m| m["seq"].as_u64().unwrap());
        assert!(seq("good one").is_some() && seq("good again").is_some() && seq("later").is_some());
        let gap =
            events.iter().flat_map(|m| m["events"].as_array().unwrap()).find(|e| e["type"] == "gap").expect("its number is announced");
        assert_eq!((gap["stream"].as_str(), gap["from"].as_u64()), (Some("event"), seq("good one").map(|n| n + 1)));
    });
}
