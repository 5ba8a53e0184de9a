//! `fieldgate consume` as a backend runs it: killed with everything else, and still every message once and none missing.

use crate::{
    broker::Mosquitto,
    field::{Devices, Read},
    gateway::{Gateway, PROGRAM, counting_device, uplink},
    mqtt::{Client, Login, Packet},
    process::{Process, host},
    wait::{pause, secs, until, wall_ms},
};
use rustix::process::Signal;
use serde_json::Value as Json;
use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::{Command, Output},
};
use tempfile::TempDir;

/// One consumer with a file of its own.
pub struct Consumer {
    dir: TempDir,
    name: String,
    broker: String,
    process: Option<Process>,
}

impl Consumer {
    pub fn new(port: u16, name: &str) -> Consumer {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Consumer { dir, name: name.to_owned(), broker: format!("{}:{port}", host()), process: None }
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join(&self.name)
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["consume", "--broker", &self.broker, "--client-id", &self.name, "--to"]).arg(self.file()).args(more);
        command
    }

    /// Starts it and waits until it is subscribed.
    pub fn start(&mut self) {
        let process = Process::start("consume", &mut self.command(&[]));
        until("the consumer reads", secs(20), || process.said().contains("reading fieldgate/+/#").then_some(()));
        self.process = Some(process);
    }

    pub fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.signal(Signal::KILL);
        process.wait_end(secs(5));
    }

    /// Until nothing is missing.
    fn finish(&self) -> Output {
        self.command(&["--until-complete", "--for", "30s", "--json"]).output().expect("the program runs")
    }

    pub fn report(&self) -> (Json, Option<i32>) {
        let output = Command::new(PROGRAM).args(["consume", "report", "--json"]).arg(self.file()).output().expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr);
        (serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}")), output.status.code())
    }
}

/// What the device `d0` counted, as it is in the database: each value, and how often.
fn counted(consumer: &Consumer) -> Vec<u64> {
    let db = rusqlite::Connection::open(consumer.file()).expect("it is a database");
    let mut asked = db.prepare("SELECT value FROM samples WHERE device = 'd0' AND point = 'c' ORDER BY value").expect("the view is there");
    asked.query_map([], |r| r.get::<_, i64>(0)).expect("it can be asked").map(|v| v.expect("a number").cast_unsigned()).collect()
}

#[test]
fn kills_of_gateway_consumer_and_broker_lose_nothing_beyond_the_window() {
    let devices = Devices::start(1);
    let mut broker = Mosquitto::start();
    let mut consumers = [Consumer::new(broker.port, "plant.db"), Consumer::new(broker.port, "plant.jsonl")];
    consumers.iter_mut().for_each(Consumer::start);
    let mut gateway = Gateway::started("consumed", &(uplink(broker.port) + &counting_device("d0", devices.ports[0], 20, "100ms")));
    pause(secs(2));
    consumers.iter_mut().for_each(Consumer::kill);
    pause(secs(1));
    let killed = wall_ms();
    gateway.kill();
    gateway.start();
    let restarted = wall_ms();
    consumers.iter_mut().for_each(Consumer::start);
    pause(secs(1));
    broker.kill();
    // What the broker acknowledged in its last moment is in nobody's file but the consumers', who get to read it.
    pause(secs(1));
    consumers.iter_mut().for_each(Consumer::kill);
    pause(secs(1));
    broker.restart();
    consumers.iter_mut().for_each(Consumer::start);
    pause(secs(2));
    let end = wall_ms();
    gateway.stop();
    consumers.iter_mut().for_each(Consumer::kill);
    for consumer in &consumers {
        let output = consumer.finish();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{}: {said}", consumer.name);
        let (report, code) = consumer.report();
        assert_eq!(code, Some(0), "{report}");
        for figure in ["missing", "lost", "late", "conflicting", "rejected"] {
            assert_eq!(report[figure], 0, "{}: {figure} of {report}", consumer.name);
        }
        assert_eq!(report["epochs"].as_array().map(Vec::len), Some(2), "{report}");
        assert!((1..=1_500).contains(&report["may_have_lost_ms"].as_u64().unwrap_or(0)), "{report}");
        assert!(report["samples"].as_u64() > Some(500), "{report}");
    }
    let (of_db, of_lines) = (consumers[0].report().0, consumers[1].report().0);
    assert_eq!((&of_db["messages"], &of_db["samples"]), (&of_lines["messages"], &of_lines["samples"]), "both have read everything");
    let counted = counted(&consumers[0]);
    let once: BTreeSet<u64> = counted.iter().copied().collect();
    assert_eq!(once.len(), counted.len(), "a read came under two keys");
    let due = |r: &Read| r.at_ms < end - 500 && !(killed - 1_050..restarted).contains(&r.at_ms);
    let missing: Vec<u64> = devices.reads().iter().filter(|r| due(r) && !once.contains(&r.counter)).map(|r| r.counter).collect();
    assert_eq!(missing, [0u64; 0], "reads that are in no message");
}

fn message(seq: u64) -> String {
    format!(
        "{{\"v\":1,\"gateway\":\"hand\",\"epoch\":\"00000000000000aa\",\"stream\":\"telemetry\",\"seq\":{seq},\"backlog\":false,\
         \"clock\":{{\"offset_ms\":0,\"quality\":\"synchronised\",\"boot\":1}},\"devices\":{{\"d\":[{{\"at\":{seq},\"dt\":[0],\"v\":{{\"c\":[{seq}]}}}}]}}}}"
    )
}

fn publish(port: u16, topic: &str, bodies: &[String]) {
    let mut client = Client::connect(port, &Login { id: "sender", ..Login::default() }).expect("mosquitto accepts");
    for body in bodies {
        let id = client.publish(topic, body.as_bytes()).expect("mosquitto reads");
        while client.next(secs(5)).expect("mosquitto answers") != Some(Packet::PubAck(id)) {}
    }
}

#[test]
fn two_readers_of_one_group_write_one_database_among_strangers() {
    let broker = Mosquitto::start();
    let one = Consumer::new(broker.port, "shared.db");
    let mut readers: Vec<Process> = ["one", "two"]
        .iter()
        .map(|id| {
            let mut command = Command::new(PROGRAM);
            command.args(["consume", "--broker", &one.broker, "--client-id", id, "--share", "backend", "--to"]).arg(one.file());
            let reader = Process::start("consume", &mut command);
            until("a reader is subscribed", secs(20), || reader.said().contains("reading $share/backend/fieldgate/+/#").then_some(()));
            reader
        })
        .collect();
    let bodies: Vec<String> = (1..=300).map(message).collect();
    publish(broker.port, "fieldgate/hand/telemetry", &bodies);
    publish(broker.port, "fieldgate/hand/telemetry", &[bodies[7].clone(), "not JSON".into(), message(0), String::new()]);
    publish(broker.port, "fieldgate/hand/nonsense", &["\u{1}".into()]);
    let report = until("all of it is in the file", secs(20), || {
        let report = one.report().0;
        (report["messages"] == 300 && report["resent"] == 1 && report["rejected"] == 4).then_some(report)
    });
    assert_eq!((&report["verdict"], &report["samples"], &report["conflicting"]), (&"complete".into(), &300.into(), &0.into()), "{report}");
    // Each of them tells the whole when it is asked.
    for reader in &mut readers {
        reader.signal(Signal::USR1);
        assert!(reader.line(0, secs(5)).contains("complete: 300 messages, 300 samples, 0 missing"));
    }
    publish(broker.port, "fieldgate/hand/telemetry", &[message(12).replace("[12]", "[13]"), message(302)]);
    let (report, code) =
        until("a conflict and a hole", secs(20), || Some(one.report()).filter(|(r, _)| r["messages"] == 301 && r["conflicting"] == 1));
    assert_eq!((&report["verdict"], &report["late"], code), (&"incomplete".into(), &1.into(), Some(1)), "{report}");
}
