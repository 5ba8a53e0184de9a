//! Several clouds: one that is away holds nobody up, and gets everything when it is back.

use crate::{
    broker::Mosquitto,
    cloud::Cloud,
    field::Devices,
    gateway::{Gateway, counting_device, uplink},
    process::host,
    wait::{pause, scaled, secs},
};
use serde_json::Value as Json;
use std::collections::BTreeSet;

fn status(gateway: &Gateway) -> Json {
    serde_json::from_slice(&gateway.command(&["status", "--json"]).stdout).expect("the status is JSON")
}

fn of<'a>(status: &'a Json, id: &str) -> &'a Json {
    status["uplinks"].as_array().and_then(|all| all.iter().find(|u| u["id"] == id)).unwrap_or_else(|| panic!("no {id} in {status}"))
}

#[test]
fn a_second_cloud_that_is_away_holds_nobody_up_and_gets_everything_later() {
    let devices = Devices::start(1);
    let first = Mosquitto::start();
    let mut second = Mosquitto::start();
    let clouds = [Cloud::watch(first.port, "pair"), Cloud::watch(second.port, "pair")];
    let optional = format!("[uplink.archive]\nurl = \"mqtt://{}:{}\"\nrequired = false\nreconnect_max = \"1s\"\n\n", host(), second.port);
    let config = uplink(first.port) + &optional + &counting_device("d0", devices.ports[0], 4, "200ms");
    let gateway = Gateway::started("pair", &config);
    clouds.iter().for_each(Cloud::wait_online);
    for cloud in &clouds {
        cloud.wait("values of d0", secs(20), |s| (s.counters("d0").len() > 5).then_some(()));
    }

    second.kill();
    let before = clouds[0].seen().counters("d0").len();
    pause(secs(scaled(6, 60)));
    clouds[0].wait("the first goes on", secs(20), |s| (s.counters("d0").len() > before + 20).then_some(()));
    let shown = status(&gateway);
    let (cloud, archive) = (of(&shown, "cloud"), of(&shown, "archive"));
    assert_eq!((&cloud["state"], &cloud["required"]), (&"up".into(), &true.into()), "{shown}");
    assert_eq!((&archive["state"], &archive["required"]), (&"down".into(), &false.into()), "{shown}");
    assert!(archive["waiting"].as_u64() > Some(20) && archive["oldest_age_s"].as_u64() >= Some(3), "{archive}");
    assert!(cloud["waiting"].as_u64() < Some(20), "{cloud}");
    assert_eq!(cloud["broker"], format!("{}:{}", host(), first.port));
    let screen = String::from_utf8_lossy(&gateway.command(&["status"]).stdout).into_owned();
    assert!(screen.contains("archive (optional) is down") && screen.contains("cloud "), "{screen}");

    second.restart();
    clouds[1].wait_online();
    let last = clouds[0].seen().counters("d0").into_iter().max();
    for cloud in &clouds {
        cloud.wait("everything up to the return", secs(20), |s| {
            (s.counters("d0").into_iter().max() >= last && s.missing().is_empty()).then_some(())
        });
    }
    let all: BTreeSet<u64> = devices.reads().into_iter().map(|r| r.counter).filter(|c| Some(*c) <= last).collect();
    for (cloud, name) in clouds.iter().zip(["cloud", "archive"]) {
        let seen = cloud.seen();
        seen.assert_sound();
        let got: BTreeSet<u64> = seen.counters("d0").into_iter().collect();
        let missing: Vec<&u64> = all.difference(&got).collect();
        assert!(missing.is_empty(), "{name} lacks {missing:?}");
        assert_eq!(seen.events_of("gap").len(), 0);
    }
}
