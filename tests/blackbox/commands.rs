//! Promise 8: a command runs at most once and ends in one result, however often it is delivered and whoever dies.

use crate::{
    broker::Mosquitto,
    cloud::{Cloud, Seen},
    field::Faults,
    gateway::{Gateway, uplink},
    mqtt,
    process::host,
    wait::{pause, secs, wall_ms},
};
use serde_json::{Value as Json, json};
use std::{collections::BTreeSet, time::Duration};

struct Plant {
    gateway: Gateway,
    cloud: Cloud,
    broker: Mosquitto,
    faults: Faults,
}

fn plant(id: &str) -> Plant {
    let faults = Faults::start(1, 0, 1000);
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, id);
    let port = faults.port("tcp0");
    let device = format!(
        "[device.boiler]\ntcp = \"{}:{port}\"\nunit = 1\npoll = \"500ms\"\n\
         [device.boiler.point.setpoint]\nregister = \"holding:101\"\ntype = \"u16\"\nwrite = {{ min = 20, max = 80 }}\n\
         [device.boiler.point.flow]\nregister = \"holding:100\"\ntype = \"u16\"\n",
        host()
    );
    let gateway = Gateway::started(id, &(uplink(broker.port) + &device));
    cloud.wait_online();
    cloud.wait("a first value", secs(10), |s| (!s.rows.is_empty()).then_some(()));
    Plant { gateway, cloud, broker, faults }
}

impl Plant {
    fn command(&self, id: &str, point: &str, value: i64) {
        let body = json!({"id": id, "device": "boiler", "write": {point: value}, "issued_at": wall_ms(), "expires_in_s": 60});
        self.send(&body);
    }

    fn send(&self, body: &Json) {
        mqtt::command(self.broker.port, &self.gateway.id, std::slice::from_ref(body));
    }

    #[track_caller]
    fn result(&self, id: &str) -> Json {
        self.cloud.wait(&format!("a result of {id}"), secs(20), |s| results(s, id).into_iter().next())
    }
}

/// The different terminal results that the cloud heard of a command: phase, reason and values.
fn results(seen: &Seen, id: &str) -> Vec<Json> {
    let terminal = |e: &&&Json| e["id"] == id && !matches!(e["phase"].as_str(), Some("accepted" | "sent"));
    let events = seen.events_of("command");
    let distinct: BTreeSet<String> =
        events.iter().filter(terminal).map(|e| json!([e["phase"], e["reason"], e["values"]]).to_string()).collect();
    distinct.into_iter().map(|t| serde_json::from_str(&t).expect("it was JSON")).collect()
}

#[test]
fn the_same_command_three_times_is_one_write_and_one_result() {
    let mut plant = plant("thrice");
    plant.command("c-1", "setpoint", 42);
    let first = plant.result("c-1");
    assert_eq!(first[0], "confirmed", "{first}");
    assert_eq!(first[2]["setpoint"], 42, "the read-back: {first}");
    plant.command("c-1", "setpoint", 42);
    // Same id, other value: the id decides.
    plant.command("c-1", "setpoint", 43);
    plant.command("c-2", "setpoint", 44);
    plant.result("c-2");
    let seen = plant.cloud.seen();
    assert_eq!(results(&seen, "c-1"), [first]);
    seen.assert_sound();
    drop(seen);
    assert_eq!(plant.faults.counted("tcp0").writes, 2, "one write per id");
}

#[test]
fn a_kill_between_deliveries_does_not_write_again() {
    let mut plant = plant("kill-after");
    plant.command("c-1", "setpoint", 42);
    let first = plant.result("c-1");
    plant.gateway.kill();
    plant.command("c-1", "setpoint", 42);
    plant.gateway.start();
    plant.command("c-1", "setpoint", 42);
    plant.command("c-2", "setpoint", 44);
    plant.result("c-2");
    assert_eq!(results(&plant.cloud.seen(), "c-1"), [first]);
    assert_eq!(plant.faults.counted("tcp0").writes, 2);
    plant.cloud.seen().assert_sound();
}

#[test]
fn a_kill_between_write_and_answer_ends_as_unknown_and_writes_once() {
    let mut plant = plant("kill-during");
    plant.faults.mode("tcp0", "slow 600");
    plant.command("c-1", "setpoint", 42);
    crate::wait::until("the write is on the wire", secs(10), || (plant.faults.counted("tcp0").writes == 1).then_some(()));
    plant.gateway.kill();
    plant.faults.mode("tcp0", "ok");
    plant.gateway.start();
    plant.command("c-1", "setpoint", 42);
    let first = plant.result("c-1");
    assert!(first[0] == "unknown" || first[0] == "confirmed", "only a read-back may turn unknown into confirmed: {first}");
    plant.command("c-1", "setpoint", 42);
    plant.command("c-2", "setpoint", 44);
    plant.result("c-2");
    assert_eq!(results(&plant.cloud.seen(), "c-1"), [first]);
    assert_eq!(plant.faults.counted("tcp0").writes, 2, "the killed write was not repeated");
}

#[test]
fn what_must_not_be_written_is_rejected_and_what_is_late_expires() {
    let mut plant = plant("refused");
    plant.command("too-high", "setpoint", 95);
    plant.command("read-only", "flow", 30);
    let stale = json!({"id": "stale", "device": "boiler", "write": {"setpoint": 30}, "issued_at": wall_ms() - 120_000, "expires_in_s": 60});
    plant.send(&stale);
    assert_eq!(plant.result("too-high")[0], "rejected");
    assert_eq!(plant.result("read-only")[0], "rejected");
    let late = plant.result("stale");
    // On a clock that is not synchronised the sender's time is not trusted, so the command may run.
    assert!(late[0] == "expired" || late[0] == "rejected" || late[0] == "confirmed", "{late}");
    let writes = plant.faults.counted("tcp0").writes;
    assert_eq!(writes, u64::from(late[0] == "confirmed"));
}

#[test]
fn a_write_without_an_answer_is_unknown_and_not_repeated() {
    let mut plant = plant("mute");
    plant.faults.mode("tcp0", "mute");
    plant.command("c-1", "setpoint", 42);
    let result = plant.result("c-1");
    assert_eq!(result[0], "unknown", "{result}");
    pause(Duration::from_millis(1500));
    assert_eq!(plant.faults.counted("tcp0").writes, 1);
}
