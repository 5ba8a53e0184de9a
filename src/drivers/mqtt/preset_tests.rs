//! Real payloads of each preset's firmware, as its documentation shows them, through the intake: the points, states and
//! dead letters that a user of that firmware expects. The transcripts are in tests/data/presets.
//!
//! ```text
//! > TOPIC PAYLOAD      a message; r> is one from a broker's memory, w> a will
//! = DEVICE point=value what it measures or has switched, or `is name="text"` for what it says of itself
//! * DEVICE state cause a change of its state, as the cloud hears it
//! ! reason             a dead letter
//! ```

use super::{
    intake::{Heard, Intake},
    routes::Routes,
};
use crate::{
    config::{self, LocalMqtt, Secrets, Surroundings, mqtt::payload_key},
    drivers::Doors,
    logic::registry::{Effect, Registry, Rules, Saying, Watch},
    model::{Boot, Bulk, DeviceId, EvidenceKind, Receipt, Urgent, Value},
    system::clock::Clock,
};
use std::{fmt::Write, path::Path, time::Duration};
use tokio::sync::mpsc;

fn configured(preset: &str) -> LocalMqtt {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fieldgate.toml");
    let toml = format!(
        "[gateway]\nid = \"g\"\n[mqtt]\nlisten = \"127.0.0.1\"\n[mqtt.preset.{preset}]\n[uplink.cloud]\nurl = \"mqtt://127.0.0.1\"\n"
    );
    std::fs::write(&path, toml).unwrap();
    let loaded = config::load_with(&path, &Surroundings::real(Secrets::Unread));
    assert_eq!(loaded.problems, []);
    loaded.config.unwrap().mqtt.unwrap()
}

/// The door and what is behind it, as far as states go.
struct Bench {
    intake: Intake,
    urgent: mpsc::Receiver<Urgent>,
    bulk: mpsc::Receiver<Bulk>,
    registry: Registry,
    /// One second for each message.
    now: Boot,
}

impl Bench {
    fn new(preset: &str) -> Bench {
        let ((to_urgent, urgent), (to_bulk, bulk)) = (mpsc::channel(64), mpsc::channel(64));
        let doors = Doors::new(to_urgent, to_bulk);
        let intake = Intake::new(Routes::new(&configured(preset).routes), doors, Clock::Real);
        Bench { intake, urgent, bulk, registry: Registry::new(Rules::default()), now: Boot(0) }
    }

    /// What a line of the transcript brings about.
    fn take(&mut self, how: &str, topic: &str, payload: &str) -> String {
        let (retained, will) = (how == "r", how == "w");
        let heard = Heard {
            topic,
            payload: payload.as_bytes(),
            retained,
            will,
            session: None,
            from: "transcript",
            refused: None,
            receipt: Receipt::none(),
        };
        assert!(self.intake.take(heard).is_none(), "the doors are wide enough");
        self.now = self.now + Duration::from_secs(1);
        let (mut out, mut moves, at) = (String::new(), Vec::new(), self.now);
        // As the engine takes them: what is urgent first.
        while let Ok(message) = self.urgent.try_recv() {
            match message {
                Urgent::Said(said) => {
                    self.meet(&said.device);
                    let saying = Saying { online: said.online, will, retained, session: said.session, at };
                    self.registry.said(&said.device, saying, &mut moves);
                }
                Urgent::Attributes { device, values, .. } => {
                    let values = values.iter().map(|(name, value)| format!(" {name}={value:?}").replace("Some(", "").replace("\")", "\""));
                    let _ = writeln!(out, "= {device} is{}", values.collect::<String>());
                }
                Urgent::DeadLetter(letter) => drop(writeln!(out, "! {}", letter.reason)),
                other => panic!("{other:?}"),
            }
        }
        while let Ok(message) = self.bulk.try_recv() {
            let Bulk::Message { device, readings, .. } = message else { panic!() };
            self.meet(&device);
            if !retained {
                self.registry.heard(&device, EvidenceKind::Message, at, &mut moves);
            }
            for reading in readings {
                let values = reading.points.iter().zip(&reading.values).map(|(point, value)| format!(" {point}={}", text(value)));
                let _ = writeln!(out, "= {device}{}", values.collect::<String>());
            }
        }
        for effect in moves {
            let Effect::Device { status, announce: true } = effect else { panic!("{effect:?}") };
            let cause = status.cause.map_or(String::new(), |cause| format!(" {}", cause.word()));
            let _ = writeln!(out, "* {} {}{cause}", status.device, status.state.word());
        }
        out
    }

    fn meet(&mut self, device: &DeviceId) {
        if !self.registry.contains(device) {
            self.registry.watch(self.now, device, Watch::default(), None);
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("{text:?}"),
        other => payload_key(other),
    }
}

#[track_caller]
fn check(preset: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/presets/{preset}.txt"));
    let want = std::fs::read_to_string(&path).unwrap();
    let (mut bench, mut got, mut messages) = (Bench::new(preset), String::new(), 0);
    for line in want.lines().filter(|line| !line.starts_with(['=', '*', '!'])) {
        got.push_str(line);
        got.push('\n');
        if let Some((how, message)) = line.split_once("> ").filter(|(how, _)| ["", "r", "w"].contains(how)) {
            let (topic, payload) = message.split_once(' ').unwrap_or((message, ""));
            got.push_str(&bench.take(how, topic, payload));
            messages += 1;
        }
    }
    assert!(messages > 3, "{} is no transcript", path.display());
    assert!(got == want, "{} says otherwise. What comes of it:\n{got}", path.display());
}

#[test]
fn devices() {
    check("devices");
}

#[test]
fn feeds() {
    check("feeds");
}

#[test]
fn autocore() {
    check("autocore");
}

#[test]
fn tasmota() {
    check("tasmota");
}

#[test]
fn shelly() {
    check("shelly");
}

#[test]
fn zigbee2mqtt() {
    check("zigbee2mqtt");
}

#[test]
fn homie() {
    check("homie");
}
