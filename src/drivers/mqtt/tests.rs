//! The driver as a whole, in real time: routes, doors, receipts and commands, on our own endpoint and behind a real
//! mosquitto.

use super::{
    MqttHandle,
    codec::{Packet, QoS},
    server::raw::{HELLO, Hello, Raw},
    start,
};
use crate::{
    config::{
        LocalMqtt, Mode, Route, RouteKind, User,
        mqtt::{Reply, Unknown},
        uplink::Secret,
    },
    drivers::Doors,
    model::{Action, Boot, Bulk, CommandId, DeviceId, LineState, LocalMessage, Order, Outcome, Phase, PointId, RouteId, Urgent, Value},
    system::clock::Clock,
};
use std::{
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(15);
const SHORT: Duration = Duration::from_millis(200);

fn route(id: &str, topic: &str, kind: RouteKind) -> Route {
    let unknown = Unknown::Register;
    Route {
        id: RouteId::parse(id).unwrap(),
        topic: topic.into(),
        kind,
        unknown,
        offline_after: None,
        alarm_after: None,
        ping: None,
        preset: None,
    }
}

fn switch(reply: bool, within_ms: u64) -> RouteKind {
    let payload = [("true", "ON"), ("false", "OFF")].map(|(from, to)| (from.to_owned(), to.to_owned())).into();
    let within = Duration::from_millis(within_ms);
    let reply = reply.then(|| Reply { topic: "stat/{device}/RESULT".into(), value: Some("/{point}".into()), within });
    RouteKind::Command { payload, reply, qos: 1, name: None }
}

fn routes(reply: bool, within_ms: u64) -> Vec<Route> {
    vec![
        route("own", "devices/status/{device}", RouteKind::Status { online: vec![], offline: vec![] }),
        route("sensor", "tele/{device}/SENSOR", RouteKind::Telemetry { values: Default::default(), time: None, shape: Default::default() }),
        route("status", "tele/{device}/LWT", RouteKind::Status { online: vec![], offline: vec![] }),
        route("switch", "cmnd/{device}/{point}", switch(reply, within_ms)),
    ]
}

struct Bench {
    handle: MqttHandle,
    urgent: mpsc::Receiver<Urgent>,
    bulk: mpsc::Receiver<Bulk>,
    stop: CancellationToken,
}

impl Bench {
    fn start(mode: Mode, routes: Vec<Route>, door: usize) -> Bench {
        let ((to_urgent, urgent), (to_bulk, bulk)) = (mpsc::channel(door), mpsc::channel(door));
        let stop = CancellationToken::new();
        let doors = Doors::new(to_urgent, to_bulk);
        let handle = start(&LocalMqtt { mode, routes }, doors, Clock::Real, stop.clone()).unwrap();
        Bench { handle, urgent, bulk, stop }
    }

    async fn listen(routes: Vec<Route>) -> Bench {
        let mut bench = Bench::start(Mode::Listen { at: "127.0.0.1:0".parse().unwrap(), users: Vec::new() }, routes, 64);
        assert!(matches!(bench.urgent().await, Urgent::Line { state: LineState::Up, .. }));
        bench
    }

    fn at(&self) -> SocketAddr {
        self.handle.local_addr().unwrap()
    }

    async fn urgent(&mut self) -> Urgent {
        tokio::time::timeout(PATIENCE, self.urgent.recv()).await.expect("something urgent").unwrap()
    }

    async fn bulk(&mut self) -> Bulk {
        tokio::time::timeout(PATIENCE, self.bulk.recv()).await.expect("telemetry").unwrap()
    }

    async fn done(&mut self) -> Outcome {
        loop {
            match self.urgent().await {
                Urgent::Done(done) => return done.outcome,
                Urgent::Line { .. } => {}
                other => panic!("not the end of an order: {other:?}"),
            }
        }
    }

    fn order(&self, within_ms: u64) {
        let write = [(PointId::parse("POWER").unwrap(), Value::Bool(true))].into();
        (self.handle.orders)(order(Action::Write(write), Clock::Real.now() + Duration::from_millis(within_ms))).unwrap();
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn order(action: Action, deadline: Boot) -> Order {
    let (id, device) = (CommandId::parse("c1").unwrap(), DeviceId::parse("plug-1").unwrap());
    Order { id, device, action, deadline, verify: Vec::new() }
}

/// Blocking clients run beside the test's runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// A device on our endpoint that takes one command and answers, or not.
async fn device(at: SocketAddr, qos: QoS, answer: Option<&'static str>) -> tokio::task::JoinHandle<(String, Raw)> {
    let mut raw = Raw::join(at, &Hello { id: "plug-1", ..HELLO }).0;
    raw.subscribe("cmnd/plug-1/#", qos);
    tokio::task::spawn_blocking(move || {
        let Some(Packet::Publish(publish)) = raw.receive() else { panic!("no command") };
        if publish.pkid > 0 {
            raw.send(&Packet::PubAck(rumqttc::PubAck::new(publish.pkid)));
        }
        answer.into_iter().for_each(|answer| raw.publish("stat/plug-1/RESULT", answer.as_bytes(), 0));
        (String::from_utf8(publish.payload.to_vec()).unwrap(), raw)
    })
}

#[tokio::test]
async fn telemetry_is_acknowledged_when_its_receipt_is_kept() {
    let mut bench = Bench::listen(routes(true, 500)).await;
    let mut raw = Raw::new(bench.at(), "plug-1");
    raw.publish("tele/plug-1/SENSOR", br#"{"ENERGY":{"Power":42}}"#, 1);
    let Bulk::Message { device, via, readings, retained, receipt, .. } = bench.bulk().await else { panic!() };
    assert_eq!((device.as_str(), &*via, retained), ("plug-1", "sensor", false));
    assert_eq!((readings[0].points[0].as_str(), &readings[0].values[0]), ("ENERGY.Power", &Value::Int(42)));
    let mut raw = blocking(move || (raw.soon(SHORT), raw)).await;
    assert_eq!(raw.0, None);
    receipt.keep();
    assert_eq!(blocking(move || raw.1.acknowledged(1)).await, [1]);
    assert_eq!((bench.handle.figures().messages, bench.handle.figures().held), (1, 0));
}

#[tokio::test]
async fn status_wills_and_unreadable_messages_come_by_the_urgent_door() {
    let mut bench = Bench::listen(routes(true, 500)).await;
    let mut raw = Raw::join(bench.at(), &Hello { id: "plug-1", will: Some(("tele/plug-1/LWT", "Offline", true)), ..HELLO }).0;
    raw.publish_as("tele/plug-1/LWT", b"Online", 1, true);
    let Urgent::Said(said) = bench.urgent().await else { panic!() };
    assert!(said.online && !said.will && !said.retained && said.receipt.is_awaited());
    let session = said.session.unwrap();
    raw.publish("tele/plug-1/SENSOR", b"{\"cut", 2);
    let Urgent::DeadLetterHeld { letter, receipt } = bench.urgent().await else { panic!() };
    assert_eq!(
        (letter.source.as_str(), letter.topic.as_str(), letter.body.as_slice()),
        ("mqtt plug-1", "tele/plug-1/SENSOR", &b"{\"cut"[..])
    );
    assert!(letter.reason.starts_with("route sensor: not JSON"), "{}", letter.reason);
    said.receipt.keep();
    receipt.keep();
    raw.publish("tele/plug-1/SENSOR", b"\xff", 0);
    assert!(matches!(bench.urgent().await, Urgent::DeadLetter(_)));
    raw.publish("not/ours", b"x", 3);
    let raw = blocking(move || (raw.acknowledged(3), raw)).await;
    assert_eq!(raw.0, [1, 2, 3]);
    drop(raw);
    let Urgent::Said(will) = bench.urgent().await else { panic!() };
    assert!(will.will && !will.online && will.session == Some(session));
    assert_eq!(bench.handle.figures().dead_letters, 2);
}

#[tokio::test]
async fn a_full_door_loses_nothing_and_keeps_the_order() {
    let mut bench = Bench::start(Mode::Listen { at: "127.0.0.1:0".parse().unwrap(), users: Vec::new() }, routes(true, 500), 1);
    bench.urgent().await;
    let mut raw = Raw::new(bench.at(), "plug-1");
    (1..=50u16).for_each(|n| raw.publish("tele/plug-1/SENSOR", n.to_string().as_bytes(), n));
    tokio::time::sleep(SHORT).await;
    for n in 1..=50 {
        let Bulk::Message { readings, receipt, .. } = bench.bulk().await else { panic!() };
        assert_eq!(readings[0].values, [Value::Int(n)]);
        receipt.keep();
    }
    assert_eq!(blocking(move || raw.acknowledged(50)).await, (1..=50).collect::<Vec<u16>>());
}

#[tokio::test]
async fn a_command_is_confirmed_by_its_reply() {
    let mut bench = Bench::listen(routes(true, 2_000)).await;
    let device = device(bench.at(), QoS::AtMostOnce, Some(r#"{"POWER":"ON"}"#)).await;
    bench.order(5_000);
    let outcome = bench.done().await;
    assert_eq!((outcome.phase, outcome.reason.as_str()), (Phase::Confirmed, ""));
    assert_eq!(outcome.values, [(PointId::parse("POWER").unwrap(), Value::Bool(true))].into());
    assert_eq!(device.await.unwrap().0, "ON");
}

#[tokio::test]
async fn another_reply_is_a_failure_and_none_is_unknown() {
    let mut bench = Bench::listen(routes(true, 1_500)).await;
    let first = device(bench.at(), QoS::AtMostOnce, Some(r#"{"POWER":"OFF"}"#)).await;
    bench.order(5_000);
    let outcome = bench.done().await;
    assert_eq!((outcome.phase, outcome.reason.as_str()), (Phase::Failed, "POWER was answered as OFF"));
    drop(first.await);
    let second = device(bench.at(), QoS::AtMostOnce, None).await;
    bench.order(5_000);
    let outcome = bench.done().await;
    assert_eq!((outcome.phase, outcome.reason.as_str()), (Phase::Unknown, "no reply on stat/plug-1/RESULT within 1500 ms"));
    drop(second.await);
}

#[tokio::test]
async fn without_a_reply_the_acknowledgement_of_a_subscriber_confirms() {
    let mut bench = Bench::listen(routes(false, 0)).await;
    bench.order(5_000);
    let outcome = bench.done().await;
    assert_eq!((outcome.phase, outcome.reason.as_str()), (Phase::Failed, "nobody listens on cmnd/plug-1/POWER"));
    let first = device(bench.at(), QoS::AtLeastOnce, None).await;
    bench.order(5_000);
    assert_eq!(bench.done().await.phase, Phase::Confirmed);
    drop(first.await);
    let second = device(bench.at(), QoS::AtMostOnce, None).await;
    bench.order(5_000);
    let outcome = bench.done().await;
    assert_eq!(outcome.phase, Phase::Unknown);
    assert!(outcome.reason.contains("QoS 1"), "{}", outcome.reason);
    drop(second.await);
}

#[tokio::test]
async fn a_sleeping_device_gets_its_command_before_the_deadline_or_never() {
    let mut bench = Bench::listen(routes(false, 0)).await;
    let hello = || Hello { id: "sleeper", clean: false, ..HELLO };
    let mut raw = Raw::join(bench.at(), &hello()).0;
    raw.subscribe("cmnd/plug-1/#", QoS::AtLeastOnce);
    raw.send(&Packet::Disconnect);
    assert!(raw.is_closed());
    bench.order(300);
    let outcome = bench.done().await;
    assert_eq!(outcome.phase, Phase::Expired, "{}", outcome.reason);
    let mut raw = Raw::join(bench.at(), &hello()).0;
    assert_eq!(raw.soon(SHORT), None);
    raw.send(&Packet::Disconnect);
    assert!(raw.is_closed());
    bench.order(10_000);
    tokio::time::sleep(SHORT).await;
    let mut raw = Raw::join(bench.at(), &hello()).0;
    let Some(Packet::Publish(publish)) = raw.receive() else { panic!() };
    raw.send(&Packet::PubAck(rumqttc::PubAck::new(publish.pkid)));
    assert_eq!(bench.done().await.phase, Phase::Confirmed);
}

#[tokio::test]
async fn what_cannot_be_done_is_said_at_once() {
    let mut bench = Bench::listen(routes(true, 300)).await;
    (bench.handle.orders)(order(Action::Read(Vec::new()), Clock::Real.now() + PATIENCE)).unwrap();
    assert_eq!(bench.done().await.phase, Phase::Rejected);
    let write = [(PointId::parse("POWER").unwrap(), Value::Bool(true))].into();
    (bench.handle.orders)(order(Action::Write(write), Boot(0))).unwrap();
    assert_eq!(bench.done().await.phase, Phase::Expired);
}

#[tokio::test]
async fn users_may_take_their_commands_and_our_status() {
    let user = User { name: "plugs".into(), password: Secret("secret".into()), topics: vec!["tele/#".into()] };
    let mode = Mode::Listen { at: "127.0.0.1:0".parse().unwrap(), users: vec![user] };
    let mut bench = Bench::start(mode, routes(true, 300), 64);
    bench.urgent().await;
    let mut raw = Raw::join(bench.at(), &Hello { user: Some(("plugs", "secret")), ..HELLO }).0;
    raw.subscribe("cmnd/plug-1/+", QoS::AtLeastOnce);
    raw.subscribe("devices/status/+", QoS::AtLeastOnce);
    assert!((bench.handle.local)(LocalMessage { topic: "devices/status/plug-1".into(), body: b"1".to_vec(), retain: true }));
    let Some(Packet::Publish(publish)) = blocking(move || raw.receive()).await else { panic!() };
    assert_eq!(publish.payload.as_ref(), b"1");
    let mut raw = Raw::join(bench.at(), &Hello { user: Some(("plugs", "secret")), ..HELLO }).0;
    raw.publish("devices/status/plug-1", b"0", 1); // no right, and a route asks for it
    let Urgent::DeadLetterHeld { letter, .. } = bench.urgent().await else { panic!() };
    assert_eq!(letter.reason, "plugs may not publish there");
}

/// A mosquitto on a free port of loopback; killed by its own id when dropped.
struct Mosquitto {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Mosquitto {
    const PATH: &str = "/usr/sbin/mosquitto";

    fn start() -> Mosquitto {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let mut mosquitto = Mosquitto { child: Mosquitto::spawn(port, &dir), port, dir };
        mosquitto.await_port();
        mosquitto
    }

    fn spawn(port: u16, dir: &tempfile::TempDir) -> Child {
        let file = dir.path().join("m.conf");
        let lines = [
            format!("listener {port} 127.0.0.1"),
            "allow_anonymous true".into(),
            "persistence true".into(),
            format!("persistence_location {}/", dir.path().display()),
            "max_inflight_messages 0".into(),
            "max_queued_messages 100000".into(),
            "user root".into(),
        ];
        std::fs::write(&file, lines.join("\n") + "\n").unwrap();
        let null = || Stdio::null();
        Command::new(Mosquitto::PATH)
            .arg("-c")
            .arg(file)
            .stdin(null())
            .stdout(null())
            .stderr(null())
            .spawn()
            .expect("mosquitto: apt-get install mosquitto")
    }

    fn at(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn await_port(&mut self) {
        for _ in 0..500 {
            if std::net::TcpStream::connect(self.at()).is_ok() {
                return;
            }
            let (_sender, never) = std::sync::mpsc::channel::<()>();
            let _ = never.recv_timeout(Duration::from_millis(20));
        }
        panic!("mosquitto does not listen on {}", self.port);
    }

    /// SIGTERM, so that it saves its sessions.
    fn end(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }

    fn again(&mut self) {
        self.child = Mosquitto::spawn(self.port, &self.dir);
        self.await_port();
    }

    fn mode(&self) -> Mode {
        let (host, client_id) = ("127.0.0.1".to_owned(), "fieldgate-test".to_owned());
        Mode::Broker { host, port: self.port, tls: false, username: None, password: None, client_id }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn up(bench: &mut Bench) {
    loop {
        if let Urgent::Line { state: LineState::Up, .. } = bench.urgent().await {
            return;
        }
    }
}

#[tokio::test]
async fn behind_a_broker_a_message_is_acknowledged_when_its_receipt_is_kept() {
    let mut mosquitto = Mosquitto::start();
    let mut bench = Bench::start(mosquitto.mode(), routes(true, 2_000), 64);
    up(&mut bench).await;
    let mut raw = Raw::new(mosquitto.at(), "plug-1");
    (1..=3u16).for_each(|n| raw.publish("tele/plug-1/SENSOR", n.to_string().as_bytes(), n));
    let mut kept = Vec::new();
    for n in 1..=3 {
        let Bulk::Message { readings, receipt, retained, .. } = bench.bulk().await else { panic!() };
        assert_eq!((readings[0].values.as_slice(), retained), (&[Value::Int(n)][..], false));
        kept.push(receipt);
    }
    kept.remove(0).keep();
    // Nobody tells that an acknowledgement has reached the broker: nothing answers a PUBACK.
    tokio::time::sleep(SHORT).await;
    // Not kept: the broker sends both again, in order, and not the first.
    drop(kept);
    assert!(matches!(bench.urgent().await, Urgent::Line { state: LineState::Down, .. }));
    for n in 2..=3 {
        let Bulk::Message { readings, receipt, .. } = bench.bulk().await else { panic!() };
        assert_eq!(readings[0].values, [Value::Int(n)]);
        receipt.keep();
    }
    up(&mut bench).await;
    // As above, for the other two.
    tokio::time::sleep(SHORT).await;
    // The broker ends and comes again; the session is kept, so nothing is missed meanwhile.
    let _mosquitto = blocking(move || {
        mosquitto.end();
        mosquitto.again();
        let mut raw = Raw::new(mosquitto.at(), "plug-1");
        raw.publish("tele/plug-1/SENSOR", b"4", 4);
        assert_eq!(raw.acknowledged(1), [4]);
        mosquitto
    })
    .await;
    let Bulk::Message { readings, receipt, .. } = bench.bulk().await else { panic!() };
    assert_eq!(readings[0].values, [Value::Int(4)]);
    receipt.keep();
}

#[tokio::test]
async fn behind_a_broker_our_own_status_is_not_heard_and_retained_ones_are_marked() {
    let mosquitto = Mosquitto::start();
    let mut raw = Raw::new(mosquitto.at(), "plug-1");
    raw.publish_as("tele/plug-1/LWT", b"Online", 1, true);
    assert_eq!(raw.acknowledged(1), [1]);
    let mut bench = Bench::start(mosquitto.mode(), routes(true, 2_000), 64);
    let retained = loop {
        if let Urgent::Said(said) = bench.urgent().await {
            break said;
        }
    };
    assert!(retained.retained && retained.online && retained.session.is_none());
    retained.receipt.keep();
    assert!((bench.handle.local)(LocalMessage { topic: "devices/status/plug-1".into(), body: b"1".to_vec(), retain: true }));
    assert!(tokio::time::timeout(SHORT * 2, bench.urgent.recv()).await.is_err());
    raw.publish("devices/status/plug-1", b"1", 2);
    let Urgent::Said(said) = bench.urgent().await else { panic!() };
    assert!(said.online && !said.retained);
}

#[tokio::test]
async fn behind_a_broker_commands_are_confirmed_by_reply() {
    let mosquitto = Mosquitto::start();
    let mut bench = Bench::start(mosquitto.mode(), routes(true, 2_000), 64);
    up(&mut bench).await;
    let device = device(mosquitto.at(), QoS::AtLeastOnce, Some(r#"{"POWER":"ON"}"#)).await;
    bench.order(5_000);
    assert_eq!(bench.done().await.phase, Phase::Confirmed);
    drop(device.await);
}

#[tokio::test]
async fn a_broker_that_is_away_is_one_line_event_and_a_command_waits_for_it_until_its_deadline() {
    let mut mosquitto = Mosquitto::start();
    mosquitto.end();
    let mut bench = Bench::start(mosquitto.mode(), routes(false, 0), 64);
    let Urgent::Line { state: LineState::Down, reason, .. } = bench.urgent().await else { panic!() };
    assert!(!reason.is_empty());
    assert!(!(bench.handle.local)(LocalMessage { topic: "t".into(), body: vec![1], retain: false }));
    bench.order(300);
    assert_eq!(bench.done().await.phase, Phase::Expired);
    bench.order(10_000);
    tokio::time::sleep(SHORT).await;
    mosquitto.again();
    assert_eq!(bench.done().await.phase, Phase::Confirmed);
}
