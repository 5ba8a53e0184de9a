//! What a backend engineer tries from the cloud beside a write to one device: several at once, cancelling, and the gateway itself.

use crate::{
    broker::Mosquitto,
    cloud::Cloud,
    field::Faults,
    gateway::{Gateway, uplink},
    mqtt,
    process::host,
    wait::{secs, wall_ms},
};
use rustix::process::Signal;
use serde_json::{Value as Json, json};

struct Plant {
    gateway: Gateway,
    cloud: Cloud,
    broker: Mosquitto,
    faults: Faults,
}

/// Devices `boiler` and `pump`, each with a set-point on a connection of its own.
fn plant(id: &str) -> Plant {
    let faults = Faults::start(2, 0, 1000);
    let broker = Mosquitto::start();
    let cloud = Cloud::watch(broker.port, id);
    let devices: String = [("boiler", "tcp0"), ("pump", "tcp1")].map(|(name, port)| device(name, faults.port(port))).concat();
    let gateway = Gateway::started(id, &(uplink(broker.port) + &devices));
    cloud.wait_online();
    let spoke = |name: &str, seen: &crate::cloud::Seen| seen.rows.iter().any(|r| r.device == name);
    cloud.wait("first values", secs(10), |s| (spoke("boiler", s) && spoke("pump", s)).then_some(()));
    Plant { gateway, cloud, broker, faults }
}

fn device(name: &str, port: u16) -> String {
    format!(
        "[device.{name}]\ntcp = \"{}:{port}\"\nunit = 1\ntimeout = \"2s\"\npoll = \"500ms\"\n\
         [device.{name}.point.setpoint]\nregister = \"holding:101\"\ntype = \"u16\"\nwrite = {{ min = 20, max = 80 }}\n",
        host()
    )
}

impl Plant {
    fn send(&self, bodies: &[Json]) {
        mqtt::command(self.broker.port, &self.gateway.id, bodies);
    }

    /// The one terminal event of a command.
    #[track_caller]
    fn result(&self, id: &str) -> Json {
        self.cloud.wait(&format!("a result of {id}"), secs(20), |s| s.events_of("command").into_iter().find(|e| e["id"] == id).cloned())
    }

    #[track_caller]
    fn run(&self, id: &str, run: &Json) -> Json {
        self.send(&[json!({"id": id, "run": run})]);
        self.result(id)
    }

    fn told(&self, id: &str) -> usize {
        self.cloud.seen().events_of("command").iter().filter(|e| e["id"].as_str().is_some_and(|i| i.starts_with(id))).count()
    }
}

#[test]
fn one_of_two_devices_is_dead_and_one_result_says_so() {
    let mut plant = plant("fan-out");
    plant.faults.mode("tcp1", "mute");
    let body = json!({"id": "f-1", "devices": ["boiler", "pump"], "write": {"setpoint": 42}, "issued_at": wall_ms()});
    plant.send(std::slice::from_ref(&body));
    let result = plant.result("f-1");
    assert_eq!((&result["phase"], &result["reason"]), (&"unknown".into(), &"1 confirmed, 1 unknown".into()), "{result}");
    assert_eq!((&result["device"], &result["results"]["boiler"]["phase"]), (&Json::Null, &"confirmed".into()));
    assert_eq!(result["results"]["boiler"]["values"]["setpoint"], 42, "the read-back: {result}");
    assert_eq!(result["results"]["pump"]["phase"], "unknown");
    plant.faults.mode("tcp1", "ok");
    // Again under the same id: the first result, and no second write.
    plant.send(&[body, json!({"id": "f-2", "devices": ["pump", "nobody"], "write": {"setpoint": 95}})]);
    let refused = plant.result("f-2");
    assert_eq!((&refused["phase"], &refused["reason"]), (&"rejected".into(), &"2 rejected".into()), "{refused}");
    assert_eq!(plant.told("f-1@"), 0, "parts are told with the whole");
    assert_eq!((plant.faults.counted("tcp0").writes, plant.faults.counted("tcp1").writes), (1, 1));
    plant.cloud.seen().assert_sound();
}

#[test]
fn a_command_that_waits_is_cancelled_and_never_written() {
    let mut plant = plant("cancel");
    plant.faults.mode("tcp0", "slow 600");
    let write = |id: &str, value: u16| json!({"id": id, "device": "boiler", "write": {"setpoint": value}, "issued_at": wall_ms()});
    plant.send(&[write("c-1", 42), write("c-2", 43), json!({"id": "x-1", "cancel": "c-2"}), json!({"id": "x-2", "cancel": "c-1"})]);
    let cancelled = plant.result("c-2");
    assert_eq!((&cancelled["phase"], &cancelled["reason"]), (&"rejected".into(), &"cancelled by uplink cloud; nothing was sent".into()));
    assert_eq!((&plant.result("x-1")["phase"], &plant.result("x-1")["values"]["cancelled"]), (&"confirmed".into(), &1.into()));
    let late = plant.result("x-2");
    assert_eq!((&late["phase"], &late["reason"]), (&"rejected".into(), &"it was sent already, and nothing takes it back".into()));
    assert_eq!(plant.result("c-1")["phase"], "confirmed");
    assert_eq!(plant.faults.counted("tcp0").writes, 1);
    assert_eq!(plant.told("c-2"), 1);
}

#[test]
fn the_gateway_answers_for_itself() {
    let plant = plant("itself");
    let pong = plant.run("p-1", &json!("ping"));
    assert_eq!((&pong["phase"], &pong["values"]["gateway"], &pong["device"]), (&"confirmed".into(), &"itself".into(), &Json::Null));
    assert!(pong["values"]["time_ms"].as_i64().is_some_and(|at| (at - wall_ms()).abs() < 10_000), "{pong}");
    let status = plant.run("p-2", &json!("status"))["values"].clone();
    assert_eq!((&status["devices.all"], &status["devices.online"], &status["uplinks.down"]), (&2.into(), &2.into(), &0.into()), "{status}");
    let devices = plant.run("p-3", &json!("devices"))["values"].clone();
    assert_eq!(devices, json!({"boiler": "online", "pump": "online"}));
    let found = plant.run("p-4", &json!("diagnostics"))["values"].clone();
    assert_eq!((&found["store.state.db"], &found["uplink.cloud"]), (&"ok".into(), &"up".into()), "{found}");
    let on = plant.run("p-5", &json!({"maintenance.on": {"device": "pump", "for_s": 600, "reason": "new bearing"}}));
    assert_eq!(on["phase"], "confirmed");
    plant.cloud.wait("the maintenance", secs(5), |s| {
        s.events_of("maintenance").iter().any(|e| e["device"] == "pump" && e["on"] == true && e["by"] == "uplink cloud").then_some(())
    });
    assert_eq!(plant.run("p-6", &json!("devices"))["values"]["pump"], "unknown, maintenance");
    plant.run("p-7", &json!({"attributes.set": {"device": "boiler", "values": {"room": "B12"}}}));
    plant.cloud.wait("the attribute", secs(5), |s| s.events_of("changed").iter().any(|e| e["attributes"]["room"] == "B12").then_some(()));
    assert_eq!(plant.run("p-8", &json!("rebirth"))["phase"], "confirmed");
    let listed = plant.gateway.command(&["commands", "--json"]);
    let listed: Json = serde_json::from_slice(&listed.stdout).expect("one document");
    let ping = listed["commands"].as_array().into_iter().flatten().find(|c| c["id"] == "p-1").expect("the audit has it");
    assert_eq!((&ping["device"], &ping["run"], &ping["from"]), (&Json::Null, &"ping".into(), &"uplink cloud".into()));
    plant.cloud.seen().assert_sound();
}

#[test]
fn a_restart_comes_back_with_its_result_and_happens_once() {
    let mut plant = plant("restart");
    assert_eq!(plant.cloud.seen().epochs().len(), 1);
    let ended = plant.run("r-1", &json!("restart"));
    assert_eq!(ended["phase"], "confirmed");
    plant.cloud.wait("the next epoch", secs(20), |s| (s.epochs().len() == 2).then_some(()));
    plant.send(&[json!({"id": "r-1", "run": "restart"}), json!({"id": "p-1", "run": "ping", "issued_at": wall_ms()})]);
    assert_eq!(plant.result("p-1")["phase"], "confirmed");
    assert_eq!(plant.cloud.seen().epochs().len(), 2, "the same id restarts nothing again");
    plant.gateway.assert_runs();
    let (_, code) = plant.gateway.stop();
    assert_eq!(code, Some(0));
    plant.cloud.seen().assert_sound();
}

#[test]
fn a_reload_takes_what_checks_and_keeps_what_runs_otherwise() {
    let mut plant = plant("reload");
    let same = plant.run("l-1", &json!("reload"));
    assert_eq!((&same["phase"], &same["values"]["changed"]), (&"confirmed".into(), &false.into()), "{same}");
    let before = std::fs::read_to_string(plant.gateway.config()).expect("it was written");
    plant.gateway.configure("[device.tank]\npol = \"1s\"\n");
    let refused = plant.run("l-2", &json!("reload"));
    let reason = refused["reason"].as_str().unwrap_or_default();
    assert!(refused["phase"] == "rejected" && reason.contains("does not check") && reason.contains("fieldgate.toml:"), "{refused}");
    plant.gateway.signal(Signal::HUP);
    assert_eq!(plant.run("p-1", &json!("ping"))["phase"], "confirmed", "the running one stays");
    assert_eq!(plant.cloud.seen().epochs().len(), 1);
    std::fs::write(plant.gateway.config(), before).expect("the temporary directory takes a file");
    plant.gateway.configure("[device.boiler.point.flow]\nregister = \"holding:100\"\ntype = \"u16\"\n");
    let taken = plant.run("l-3", &json!("reload"));
    assert_eq!((&taken["phase"], &taken["values"]["changed"]), (&"confirmed".into(), &true.into()));
    plant.cloud.wait("values of the new point", secs(20), |s| s.rows.iter().any(|r| r.values.contains_key("flow")).then_some(()));
    plant.gateway.configure("[device.pump.point.flow]\nregister = \"holding:100\"\ntype = \"u16\"\n");
    plant.gateway.signal(Signal::HUP);
    plant.cloud.wait("the epoch after SIGHUP", secs(20), |s| (s.epochs().len() == 3).then_some(()));
    plant.gateway.assert_runs();
    plant.gateway.stop();
    plant.cloud.seen().assert_sound();
}

#[test]
fn several_devices_are_written_from_the_command_line() {
    let plant = plant("cli-fan");
    let out = plant.gateway.command(&["write", "boiler,pump", "setpoint=44", "--yes"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(0) && text.contains("boiler  confirmed  setpoint = 44"), "{text}");
    let out = plant.gateway.command(&["write", "boiler,nobody", "setpoint=95", "--yes", "--json"]);
    assert_eq!(out.status.code(), Some(5), "refused");
    let answer: Json = serde_json::from_slice(&out.stdout).expect("one document");
    assert_eq!(answer["results"]["boiler"]["phase"], "rejected", "{answer}");
    assert_eq!(plant.gateway.command(&["commands", "cancel", "nothing"]).status.code(), Some(5));
}
