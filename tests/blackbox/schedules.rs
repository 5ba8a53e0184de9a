//! A schedule of the real process writes to a device that is not ours, and no kill makes it write twice.

use crate::{
    broker::Mosquitto,
    cloud::Cloud,
    field::Devices,
    gateway::{Gateway, uplink},
    process::host,
    wait::{pause, secs, until},
};
use serde_json::Value as Json;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The moments of the runs that ended, each with how.
fn ended(cloud: &Cloud) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in cloud.seen().events_of("command") {
        let word = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        if let Some(moment) = word("id").strip_prefix("schedule:tick@") {
            all.entry(moment.to_owned()).or_default().insert(word("phase"));
        }
    }
    all
}

#[test]
fn a_schedule_of_each_second_survives_kills_and_writes_no_second_twice() {
    let mut devices = Devices::start(1);
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "schedule");
    // The clock of this machine may be set by nobody; it is right all the same.
    let config = format!(
        "[device.plc]\ntcp = \"{}:{}\"\nunit = 1\ntimeout = \"5s\"\npoll = \"500ms\"\n\
         [device.plc.point.c]\nregister = \"holding:2\"\ntype = \"u16\"\n\
         [device.plc.point.w]\nregister = \"holding:100\"\ntype = \"u16\"\nwrite = {{ verify = false }}\n\
         [schedule.tick]\nevery = \"1s\"\nwrite = {{ device = \"plc\", point = \"w\", value = 7 }}\n",
        host(),
        devices.ports[0]
    );
    let trusted = "trust_rtc = true\n";
    let mut gateway = Gateway::new("schedule", &(trusted.to_owned() + &uplink(broker.port) + &config));
    gateway.start();
    cloud.wait_online();
    for life in 0..4usize {
        until("some runs", secs(20), || (ended(&cloud).len() >= life * 4 + 3).then_some(()));
        // Somewhere within a second.
        pause(Duration::from_millis(190 * life as u64));
        gateway.kill();
        pause(Duration::from_millis(700 * life as u64));
        gateway.start();
    }
    until("more runs", secs(20), || (ended(&cloud).len() >= 20).then_some(()));
    gateway.stop();
    let runs = ended(&cloud);
    let written = devices.writes();
    assert!(runs.values().all(|phases| phases.len() == 1), "one end for each: {runs:?}");
    let confirmed = runs.values().filter(|phases| phases.contains("confirmed")).count();
    println!("{} runs, {confirmed} confirmed, {} writes", runs.len(), written.len());
    assert!(written.iter().all(|w| *w == (6, 100, vec![7])), "{written:?}");
    assert!(written.len() >= confirmed && written.len() <= runs.len() + 1, "{} writes for {} runs", written.len(), runs.len());
    let missed: Vec<Json> = cloud.seen().events_of("schedule").into_iter().cloned().collect();
    assert!(!missed.is_empty() && missed.iter().all(|e| e["news"] == "missed" && e["policy"] == "skip" && e["ran"] == 0), "{missed:?}");
}

#[test]
fn schedules_are_managed_from_the_command_line() {
    let devices = Devices::start(1);
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, "manage");
    let config = format!(
        "trust_rtc = true\n{}[device.plc]\ntcp = \"{}:{}\"\nunit = 1\npoll = \"500ms\"\n\
         [device.plc.point.w]\nregister = \"holding:100\"\ntype = \"u16\"\nwrite = {{ max = 100 }}\n\
         [schedule.fixed]\ncron = \"0 22 * * mon-fri\"\nzone = \"Europe/Berlin\"\nwrite = {{ device = \"plc\", point = \"w\", value = 7 }}\n",
        uplink(broker.port),
        host(),
        devices.ports[0]
    );
    let gateway = Gateway::started("manage", &config);
    cloud.wait_online();
    let said = |args: &[&str]| {
        let out = gateway.command(args);
        (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr))
    };
    let (code, text) = said(&["schedules"]);
    assert!(code == Some(0) && text.contains("every weekday at 22:00 (Europe/Berlin)"), "{text}");
    let (code, text) = said(&["schedules", "add", "pump", "--every", "1s", "plc.w=9"]);
    assert!(code == Some(0) && text.contains("pump is set: every second, next"), "{text}");
    cloud.wait("a run", secs(10), |s| {
        let runs = |e: &&&Json| e["id"].as_str().is_some_and(|id| id.starts_with("schedule:pump@")) && e["phase"] == "confirmed";
        s.events_of("command").iter().any(|e| runs(&e)).then_some(())
    });
    let (code, text) = said(&["schedules", "show", "pump"]);
    assert!(code == Some(0) && text.contains("plc.w = 9") && text.contains("confirmed  plc"), "{text}");
    assert_eq!(said(&["schedules", "add", "pump", "--every", "1s", "plc.w=900"]).0, Some(5), "above the limit");
    assert_eq!(said(&["schedules", "remove", "fixed"]).0, Some(5), "it is in the configuration");
    assert_eq!(said(&["schedules", "disable", "fixed"]).0, Some(0));
    assert_eq!(said(&["schedules", "remove", "pump"]).0, Some(0));
    let (_, text) = said(&["schedules", "--json"]);
    let json: Json = serde_json::from_str(&text).expect("one document");
    let all: Vec<_> = json["schedules"].as_array().expect("a list").iter().map(|s| (&s["id"], &s["state"])).collect();
    assert_eq!(all, [(&Json::from("fixed"), &Json::from("disabled"))]);
    let news: Vec<String> = cloud.wait("the news", secs(10), |s| {
        // A machine that is busy for a second misses a run.
        let told = s.events_of("schedule").into_iter().filter(|e| e["news"] != "missed");
        let news: Vec<String> = told.map(|e| format!("{} {}", e["schedule"], e["news"]).replace('"', "")).collect();
        (news.len() >= 3).then_some(news)
    });
    assert_eq!(news, ["pump set", "fixed disabled", "pump removed"]);
}
