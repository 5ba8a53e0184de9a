//! The judge is judged first: a collector that overlooks a broken rule would pass everything.

use crate::{
    broker::Mosquitto,
    cloud::Cloud,
    mqtt::{Client, Login, Packet},
    wait::secs,
};

const TOPIC: &str = "fieldgate/judge/telemetry";

fn message(seq: u64, at: i64, offset: i64, backlog: bool, value: &str) -> String {
    format!(
        "{{\"v\":1,\"gateway\":\"judge\",\"epoch\":\"00000000000000aa\",\"stream\":\"telemetry\",\"seq\":{seq},\"backlog\":{backlog},\
         \"clock\":{{\"offset_ms\":{offset},\"quality\":\"estimated\"}},\"devices\":{{\"d\":[{{\"at\":{at},\"dt\":[0,5],\"v\":{{\"c\":[1,{value}]}}}}]}}}}"
    )
}

fn publish(port: u16, bodies: &[String]) {
    let mut client = Client::connect(port, &Login { id: "sender", ..Login::default() }).expect("mosquitto accepts");
    for body in bodies {
        let id = client.publish(TOPIC, body.as_bytes()).expect("mosquitto reads");
        while client.next(secs(5)).expect("mosquitto answers") != Some(Packet::PubAck(id)) {}
    }
}

#[test]
fn a_resend_is_known_and_a_changed_one_is_a_fault() {
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "judge");
    // The same data, sent again as backlog with a clock that was corrected by 40 ms; then numbers 2 and 3 missing.
    publish(broker.port, &[message(1, 1_000, 500, false, "2"), message(1, 1_040, 540, true, "2"), message(4, 9_000, 540, false, "2")]);
    cloud.wait("three deliveries", secs(5), |s| (s.deliveries == 3).then_some(()));
    let seen = cloud.seen();
    seen.assert_sound();
    assert_eq!((seen.resends, seen.rows.len()), (1, 4));
    assert_eq!(seen.rows[1].at_ms, 1_005);
    assert_eq!(seen.missing().iter().map(|k| k.seq).collect::<Vec<_>>(), [2, 3]);
    drop(seen);
    publish(broker.port, &[message(1, 1_000, 500, false, "3")]);
    cloud.wait("two contents under one key", secs(5), |s| (s.faults.len() == 1).then_some(()));
    publish(broker.port, &[message(5, 1_000, 500, false, "null"), "not JSON".to_owned()]);
    cloud.wait("a null without a quality, and no JSON", secs(5), |s| (s.faults.len() == 3).then_some(()));
}

#[test]
fn a_broker_that_is_killed_loses_nothing_of_the_collector() {
    let mut broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "judge");
    let bodies: Vec<String> = (1..=200).map(|seq| message(seq, 1_000, 0, false, "2")).collect();
    publish(broker.port, &bodies[..100]);
    broker.kill();
    broker.restart();
    publish(broker.port, &bodies[100..]);
    cloud.wait("all two hundred", secs(10), |s| (s.rows.len() == 400).then_some(()));
    let seen = cloud.seen();
    seen.assert_sound();
    assert_eq!(seen.missing(), []);
}
