//! Tests of the drain: on a long link it is fast and what is live stays young; limits of the operator and of the broker.

use super::testing::{Rig, WALL, uplink};
use crate::{
    config::Uplink,
    limits,
    model::UplinkIndex,
    uplink::{brokers::Brokers, simulated::Simulated},
};
use serde_json::Value as Json;
use std::{future::Future, time::Duration};
use tokio::time::Instant;

fn virtual_time(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(test);
}

/// A rig with so many batches of one sample in its backlog, and a link that has just come back.
async fn backlog(config: Uplink, batches: i64, round_trip: Duration) -> Rig {
    let rig = Rig::start_with(config);
    rig.broker.faults(|f| f.refuse = true);
    for n in 0..batches {
        rig.sample(n);
        if n % 20 == 0 {
            rig.pass(Duration::from_millis(50)).await;
        }
    }
    rig.pass(Duration::from_secs(3)).await;
    rig.broker.faults(|f| {
        f.refuse = false;
        f.answer_after = round_trip;
    });
    while rig.broker.connects().1 == 0 {
        rig.pass(Duration::from_millis(10)).await;
    }
    rig
}

#[test]
fn a_long_link_drains_fast_and_live_values_stay_young() {
    virtual_time(async {
        const BACKLOG: i64 = 10_000;
        let rig = backlog(uplink(), BACKLOG, Duration::from_millis(200)).await;
        let began = Instant::now();
        let (mut oldest, mut lives, mut late, mut n) = (0, 0, 0, 0);
        // As if polled ten times a second.
        while late < BACKLOG {
            assert!(began.elapsed() < Duration::from_secs(30), "{late} of {BACKLOG} after 30 s: {:?}", rig.figures.borrow());
            rig.sample(n);
            n += 1;
            for _ in 0..10 {
                rig.pass(Duration::from_millis(10)).await;
                let now = WALL - 1_000_000 + i64::try_from(rig.clock.now().ms()).unwrap();
                for r in rig.broker.take_received().iter().filter(|r| r.topic.ends_with("/telemetry")) {
                    let body: Json = serde_json::from_slice(&r.body).unwrap();
                    if body["backlog"] == true {
                        late += 1;
                    } else {
                        lives += 1;
                        oldest = oldest.max(now - body["devices"]["meter-1"][0]["at"].as_i64().unwrap());
                    }
                }
            }
        }
        let took = began.elapsed();
        let figures = rig.figures.borrow().clone();
        let spool = rig.store.spool().figures_of(UplinkIndex::FIRST, rig.clock.now());
        println!("{BACKLOG} batches in {took:?}, {lives} live ones at most {oldest} ms old, window {}, {spool:?}", figures.window);
        // One at a time would be 5 in a second, the first window 160.
        assert!(took < Duration::from_secs(8), "{took:?}");
        assert!(oldest <= 1000, "{oldest} ms");
        assert!(figures.window > 4 * limits::UPLINK_IN_FLIGHT_START, "{figures:?}");
        assert!(spool.drain_rate > 500, "{spool:?}");
    });
}

#[test]
fn what_waited_for_its_link_is_not_sent_as_live() {
    virtual_time(async {
        // Nothing new is sealed after the outage: the last second before it is old all the same.
        let rig = backlog(uplink(), 100, Duration::ZERO).await;
        rig.drain(Duration::from_secs(5)).await;
        let received = rig.broker.received();
        let flags = |flag: &str| received.iter().filter(|r| String::from_utf8_lossy(&r.body).contains(flag)).count();
        assert_eq!((flags("\"backlog\":true"), flags("\"backlog\":false")), (100, 0));
    });
}

#[test]
fn the_operators_rate_holds_the_backlog_back_and_nothing_else() {
    virtual_time(async {
        let rig = backlog(Uplink { replay_rate: Some(100), ..uplink() }, 500, Duration::from_millis(20)).await;
        rig.pass(Duration::from_secs(2)).await;
        let late =
            |rig: &Rig| rig.broker.received().iter().filter(|r| String::from_utf8_lossy(&r.body).contains("\"backlog\":true")).count();
        let after_two = late(&rig);
        assert!((150..=260).contains(&after_two), "{after_two}");
        rig.sample(-1);
        rig.pass(Duration::from_millis(100)).await;
        assert!(rig.broker.received().iter().any(|r| String::from_utf8_lossy(&r.body).contains("\"backlog\":false")));
        rig.drain(Duration::from_secs(5)).await;
        assert_eq!(late(&rig), 500);
    });
}

#[test]
fn no_more_is_in_flight_than_the_broker_takes() {
    virtual_time(async {
        let rig = Rig::start();
        rig.broker.faults(|f| {
            f.welcome.receive_max = Some(3);
            f.answer_after = Duration::from_millis(100);
        });
        rig.broker.cut();
        rig.pass(Duration::from_secs(3)).await;
        for n in 0..100 {
            rig.sample(n);
        }
        for _ in 0..100 {
            rig.pass(Duration::from_millis(10)).await;
            let figures = rig.figures.borrow().clone();
            assert!(figures.window == 3 && figures.in_flight <= 3, "{figures:?}");
        }
        rig.drain(Duration::from_secs(10)).await;
    });
}

#[test]
fn after_a_while_the_preferred_broker_is_used_again() {
    virtual_time(async {
        let [preferred, other] = [(); 2].map(|()| Simulated::default());
        preferred.faults(|f| f.refuse = true);
        let brokers = Brokers::new(("a:1883".into(), preferred.clone()), [("b:1883".into(), other.clone())]);
        let rig = Rig::with(uplink(), brokers, other.clone(), Rig::clock());
        rig.sample(1);
        rig.pass(Duration::from_secs(2)).await;
        assert_eq!((&*rig.figures.borrow().broker, other.connects().1), ("b:1883", 1));
        preferred.faults(|f| f.refuse = false);
        rig.pass(limits::BROKER_RETURN).await;
        rig.pass(Duration::from_secs(5)).await;
        rig.sample(2);
        rig.drain(Duration::from_secs(5)).await;
        assert_eq!((&*rig.figures.borrow().broker, preferred.connects().1, other.goodbyes()), ("a:1883", 1, 1));
    });
}
