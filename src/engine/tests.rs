//! The whole engine with its store inline, under paused time: what comes in at the doors, what goes out everywhere.

use super::*;
use crate::{
    config::{
        self, Buffer, DataType, Device, Gateway, LocalMqtt, Mode, Point, Register, Report, Route, RouteKind, Table, WordOrder, WriteRule,
    },
    model::{
        Action, Cause, Command, CommandId, DeviceId, DeviceStatus, EventKind, Frame, GatewayId, Heard, LineState, LocalMessage, Order,
        Outcome, Phase, PointId, Reading, Receipt, RouteId, Said, Settled, State, Value, WriteDone,
    },
    store::{Backing, Options, RestoredDevice},
};
use std::sync::Mutex;

const BASE: Boot = Boot(1_000_000_000);

fn device(name: &str) -> DeviceId {
    DeviceId::parse(name).unwrap()
}

fn line() -> LineId {
    LineId::parse("bus").unwrap()
}

fn points(names: &[&str]) -> Arc<[PointId]> {
    names.iter().map(|n| PointId::parse(n).unwrap()).collect()
}

fn point(name: &str, report: Report, write: Option<WriteRule>) -> Point {
    Point {
        id: PointId::parse(name).unwrap(),
        register: Register { table: Table::Holding, address: 1 },
        kind: DataType::U16,
        order: WordOrder::Abcd,
        scale: 1.0,
        offset: 0.0,
        unit: "V".into(),
        na: vec![],
        report,
        write,
        read_alone: false,
    }
}

/// A meter on a bus, polled each second and silent for five at most, with a point `u` that may be written and a point `k`
/// that is reported on change; MQTT routes that register, quarantine and refuse.
fn config() -> Config {
    let write = WriteRule { min: Some(10.0), max: Some(90.0), verify: true, min_interval: Duration::ZERO, function: None };
    let on_change = Report { on_change: true, ..Report::default() };
    let meter = Device {
        id: device("meter"),
        line: line(),
        unit: 1,
        poll: Duration::from_secs(1),
        offline_after: Duration::from_secs(5),
        max_words: 125,
        max_bits: 2000,
        max_gap: 0,
        timeout: None,
        retries: None,
        min_gap: None,
        profile: Some("p".into()),
        points: vec![point("u", Report::default(), Some(write)), point("k", on_change, None)],
    };
    let route = |id: &str, unknown| Route {
        id: RouteId::parse(id).unwrap(),
        topic: format!("{id}/{{device}}"),
        kind: RouteKind::Telemetry { values: BTreeMap::new(), time: None },
        unknown,
        offline_after: Some(Duration::from_secs(60)),
    };
    use config::mqtt::Unknown::{Quarantine, Refuse, Register};
    Config {
        gateway: Gateway { id: GatewayId::parse("g").unwrap(), data_dir: "/nowhere".into(), run_dir: "/nowhere".into() },
        lines: vec![],
        devices: vec![meter],
        mqtt: Some(LocalMqtt {
            mode: Mode::Listen { at: "127.0.0.1:1883".parse().unwrap(), users: vec![] },
            routes: vec![route("open", Register), route("quiet", Quarantine), route("closed", Refuse)],
        }),
        uplink: None,
        buffer: Buffer { window: Duration::from_secs(1), ack_within: Duration::from_millis(100), disk_max: 1 << 29 },
    }
}

/// The engine in its task, and everything around it.
struct House {
    urgent: mpsc::Sender<Urgent>,
    bulk: mpsc::Sender<Bulk>,
    store: Store,
    clock: Clock,
    handle: Handle,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    cards: watch::Receiver<Arc<Vec<DeviceCard>>>,
    orders: Arc<Mutex<Vec<Order>>>,
    local: Arc<Mutex<Vec<LocalMessage>>>,
    /// What receipts were told.
    kept: Arc<Mutex<Vec<(u64, Settled)>>>,
    port_full: Arc<AtomicBool>,
    _dir: tempfile::TempDir,
}

impl House {
    fn start() -> House {
        House::start_after(|_| {})
    }

    /// With something to be remembered.
    fn start_after(past: impl FnOnce(&mut Restored)) -> House {
        let clock = Clock::Paused { start: tokio::time::Instant::now(), base: BASE, offset_ms: 1_700_000_000_000 };
        let dir = tempfile::tempdir().unwrap();
        let config = Arc::new(config());
        let options =
            Options { data_dir: dir.path().into(), buffer: config.buffer.clone(), clock, backing: Backing::Inline, epoch_seed: Some(7) };
        let (store, mut restored) = Store::open(options).unwrap();
        past(&mut restored);
        let (urgent, urgent_in) = mpsc::channel(limits::URGENT);
        let (bulk, bulk_in) = mpsc::channel(limits::BULK);
        let (cards_out, cards) = watch::channel(Arc::default());
        let orders: Arc<Mutex<Vec<Order>>> = Arc::default();
        let local: Arc<Mutex<Vec<LocalMessage>>> = Arc::default();
        let port_full: Arc<AtomicBool> = Arc::default();
        let port: OrderPort = {
            let (orders, full) = (Arc::clone(&orders), Arc::clone(&port_full));
            Arc::new(move |order| {
                if full.load(Ordering::Relaxed) {
                    return Err(order);
                }
                orders.lock().unwrap().push(order);
                Ok(())
            })
        };
        let local_port: LocalPort = {
            let local = Arc::clone(&local);
            Arc::new(move |m| {
                local.lock().unwrap().push(m);
                true
            })
        };
        let stop = CancellationToken::new();
        let (engine, handle) = Engine::new(Parts {
            config,
            restored,
            store: store.clone(),
            clock,
            urgent: urgent_in,
            bulk: bulk_in,
            ports: BTreeMap::from([(line(), Arc::clone(&port))]),
            mqtt: Some((port, local_port)),
            cards: cards_out,
            stop: stop.clone(),
        });
        let task = tokio::spawn(engine.run());
        let writer = store.clone();
        tokio::spawn(async move {
            loop {
                writer.poll(clock.now());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let kept = Arc::default();
        House { urgent, bulk, store, clock, handle, stop, task, cards, orders, local, kept, port_full, _dir: dir }
    }

    async fn wait(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    fn receipt(&self, id: u64) -> Receipt {
        let kept = Arc::clone(&self.kept);
        Receipt::new(id, Arc::new(move |id, how| kept.lock().unwrap().push((id, how))))
    }

    fn kept(&self) -> Vec<u64> {
        self.kept.lock().unwrap().iter().filter(|(_, how)| *how == Settled::Kept).map(|(id, _)| *id).collect()
    }

    async fn reading(&self, of: &Arc<[PointId]>, values: &[u64]) {
        let values = values.iter().map(|v| Value::Uint(*v)).collect();
        let reading = Reading { device: device("meter"), at: self.clock.now(), points: Arc::clone(of), values, quality: None };
        self.bulk.send(Bulk::Reading(reading)).await.unwrap();
    }

    async fn message(&self, from: &str, via: &str, retained: bool, receipt: u64) {
        let at = self.clock.now();
        let reading = Reading { device: device(from), at, points: points(&["power"]), values: vec![Value::Float(1.5)], quality: None };
        let (device, via, receipt) = (device(from), via.to_owned(), self.receipt(receipt));
        self.bulk.send(Bulk::Message { device, via, readings: vec![reading], at, retained, receipt }).await.unwrap();
    }

    async fn poll(&self, heard: Heard) {
        self.urgent.send(Urgent::Poll { device: device("meter"), heard, at: self.clock.now() }).await.unwrap();
    }

    async fn line(&self, state: LineState) {
        let (line, reason, at) = (line(), "unplugged".to_owned(), self.clock.now());
        self.urgent.send(Urgent::Line { line, state, reason, at }).await.unwrap();
    }

    async fn command(&self, id: &str, value: f64, receipt: u64) {
        let command = Command {
            id: CommandId::parse(id).unwrap(),
            device: device("meter"),
            action: Action::Write(BTreeMap::from([(PointId::parse("u").unwrap(), Value::Float(value))])),
            from: "uplink cloud".into(),
            received: self.clock.now(),
            issued_at: None,
            expires_in: Duration::from_secs(60),
            from_stored_session: false,
        };
        self.urgent.send(Urgent::Command { command, receipt: self.receipt(receipt) }).await.unwrap();
    }

    async fn done(&self, id: &str, phase: Phase) {
        let outcome = Outcome { phase, reason: String::new(), values: BTreeMap::new() };
        let done = WriteDone { id: CommandId::parse(id).unwrap(), device: device("meter"), outcome, at: self.clock.now() };
        self.urgent.send(Urgent::Done(done)).await.unwrap();
    }

    /// Events since the last call, in short.
    async fn events(&self) -> Vec<String> {
        self.wait(250).await;
        let mut out = vec![];
        while let Some(message) = self.store.events().next() {
            self.store.events().acknowledged(message.key);
            out.extend(message.events.iter().map(|e| words(&e.kind)));
        }
        out
    }

    /// Telemetry since the last call, acknowledged by the cloud.
    async fn frames(&self) -> Vec<Frame> {
        self.wait(100).await;
        let mut out = vec![];
        while let Some(outgoing) = self.store.spool().next_live() {
            self.store.spool().acknowledged(outgoing.sealed.key, self.clock.now());
            out.extend(outgoing.sealed.frames.iter().cloned());
        }
        out
    }

    async fn state(&self, of: &str) -> (State, Option<Cause>) {
        let snapshot = self.handle.snapshot().await.unwrap();
        let status = snapshot.devices.iter().find(|d| d.device.as_str() == of).unwrap();
        (status.state, status.cause)
    }
}

fn words(kind: &EventKind) -> String {
    match kind {
        EventKind::Status { device, state, cause, .. } => {
            format!("{device} {} {}", state.word(), cause.map_or("", Cause::word)).trim().into()
        }
        EventKind::Line { line, state, .. } => format!("{line} {}", state.word()),
        EventKind::Registered { device, .. } => format!("{device} registered"),
        EventKind::Command { id, phase, reason, .. } => format!("{id} {} {reason}", phase.word()).trim().into(),
        EventKind::Epoch { .. } => "epoch".into(),
        EventKind::Progress { alive } => format!("progress {}", alive.len()),
        EventKind::DeadLetter { count, .. } => format!("dead letters {count}"),
        other => format!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_reading_makes_its_device_online_and_reaches_the_spool() {
    let house = House::start();
    let both = points(&["u", "k"]);
    house.reading(&both, &[230, 1]).await;
    house.wait(1).await;
    house.reading(&both, &[231, 1]).await;
    house.reading(&both, &[232, 2]).await;
    assert_eq!(house.events().await, ["epoch", "meter online"]);
    let frames = house.frames().await;
    assert_eq!(frames.iter().map(|f| (f.points.len(), f.rows.len())).collect::<Vec<_>>(), [(2, 2), (1, 1)], "k is reported on change");
    assert!(Arc::ptr_eq(&frames[0].points, &both));
    let told: Vec<_> = house.local.lock().unwrap().iter().map(|m| (m.topic.clone(), m.body.clone(), m.retain)).collect();
    assert_eq!(told, [("devices/status/meter".into(), b"0".to_vec(), true), ("devices/status/meter".into(), b"1".to_vec(), true)]);
    let card = house.cards.borrow().first().cloned().unwrap();
    assert_eq!((card.status.state, card.profile.as_deref(), card.points.len()), (State::Online, Some("p"), 2));
    let snapshot = house.handle.snapshot().await.unwrap();
    assert_eq!((snapshot.readings_in, snapshot.samples_in), (3, 6));
}

#[tokio::test(start_paused = true)]
async fn silence_is_offline_only_with_missed_polls_and_one_answer_brings_it_back() {
    let house = House::start();
    let both = points(&["u", "k"]);
    house.reading(&both, &[230, 1]).await;
    house.wait(30_000).await;
    assert_eq!(house.events().await, ["epoch", "meter online", "meter suspect silent"]);
    for _ in 0..2 {
        house.poll(Heard::Silent { after: Duration::from_millis(300) }).await;
        house.wait(1000).await;
    }
    assert_eq!(house.events().await, ["meter offline silent"]);
    house.poll(Heard::Refused(2)).await;
    assert_eq!(house.events().await, ["meter online"]);
    house.frames().await;
    house.reading(&both, &[230, 1]).await;
    assert_eq!(house.frames().await[0].points.len(), 2, "after a return everything is news");
}

#[tokio::test(start_paused = true)]
async fn a_line_that_goes_down_is_one_event() {
    let house = House::start();
    house.line(LineState::Up).await;
    house.reading(&points(&["u"]), &[230]).await;
    house.wait(10).await;
    house.line(LineState::Down).await;
    house.wait(60_000).await;
    assert_eq!(house.events().await, ["epoch", "bus up", "meter online", "bus down", "progress 2"]);
    assert_eq!(house.state("meter").await, (State::Unknown, Some(Cause::LineDown)));
    assert_eq!(house.local.lock().unwrap().last().unwrap().body, b"0");
    house.line(LineState::Up).await;
    house.wait(10).await;
    house.reading(&points(&["u"]), &[230]).await;
    assert_eq!(house.events().await, ["bus up"]);
    assert_eq!(house.state("meter").await, (State::Online, None));
    assert_eq!(house.local.lock().unwrap().last().unwrap().body, b"1");
}

#[tokio::test(start_paused = true)]
async fn unknown_devices_are_registered_quarantined_or_refused_by_their_route() {
    let house = House::start();
    house.message("plug", "open", false, 1).await;
    house.message("odd", "quiet", false, 2).await;
    house.message("bad", "closed", false, 3).await;
    house.message("lost", "nowhere", false, 4).await;
    let want = ["epoch", "plug registered", "plug online", "odd registered", "dead letters 1"];
    assert_eq!(house.events().await, want);
    assert_eq!(house.kept(), [2, 3, 4], "what goes nowhere is acknowledged, what goes upstream waits");
    let frames = house.frames().await;
    assert_eq!(frames.iter().map(|f| f.device.as_str()).collect::<Vec<_>>(), ["plug"]);
    assert_eq!(house.kept(), [2, 3, 4, 1], "the cloud has it");
    let snapshot = house.handle.snapshot().await.unwrap();
    assert_eq!(snapshot.quarantined, [device("odd")]);
    assert!(house.cards.borrow().iter().all(|c| c.status.device != device("odd")));
    house.wait(10_000).await;
    assert_eq!(house.events().await, ["dead letters 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_retained_message_is_data_but_no_proof_of_life() {
    let house = House::start();
    house.message("plug", "open", true, 1).await;
    assert_eq!(house.events().await, ["epoch", "plug registered"]);
    assert_eq!(house.frames().await.len(), 1);
    assert_eq!(house.state("plug").await, (State::Unknown, Some(Cause::Restored)));
    let said = |online, retained, id| Said {
        device: device("plug"),
        via: "open".into(),
        online,
        will: false,
        retained,
        session: None,
        at: house.clock.now(),
        offline_after: None,
        receipt: house.receipt(id),
    };
    house.urgent.send(Urgent::Said(said(true, true, 2))).await.unwrap();
    assert_eq!(house.events().await, [""; 0]);
    house.urgent.send(Urgent::Said(said(true, false, 3))).await.unwrap();
    house.urgent.send(Urgent::Said(said(false, false, 4))).await.unwrap();
    assert_eq!(house.events().await, ["plug online", "plug offline said"]);
    assert_eq!(house.kept(), [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_command_is_executed_once_and_every_asker_hears_its_end() {
    let house = House::start();
    house.command("c1", 50.0, 1).await;
    house.command("c1", 50.0, 2).await;
    house.command("c2", 95.0, 3).await;
    assert_eq!(house.events().await, ["epoch", "c2 rejected 95 is above the most for u, 90"]);
    assert_eq!(house.kept(), [1, 2, 3]);
    {
        let orders = house.orders.lock().unwrap();
        assert_eq!(orders.len(), 1);
        assert_eq!(orders[0].verify, *points(&["u"]));
    }
    house.done("c1", Phase::Confirmed).await;
    house.done("c1", Phase::Failed).await;
    assert_eq!(house.events().await, ["c1 confirmed"]);
    house.command("c1", 50.0, 4).await;
    house.command("c2", 50.0, 5).await;
    assert_eq!(house.events().await, ["c1 confirmed", "c2 rejected 95 is above the most for u, 90"]);
    assert_eq!(house.orders.lock().unwrap().len(), 1);
    house.port_full.store(true, Ordering::Relaxed);
    house.command("c3", 50.0, 6).await;
    assert!(house.events().await[0].starts_with("c3 rejected busy"));
    assert_eq!(house.handle.snapshot().await.unwrap().commands_open, 0);
}

#[tokio::test(start_paused = true)]
async fn a_paused_process_calls_nobody_offline() {
    let house = House::start();
    house.message("plug", "open", false, 1).await;
    house.wait(50_000).await;
    house.events().await;
    tokio::time::advance(Duration::from_secs(600)).await;
    house.wait(3_000).await;
    assert!(house.events().await.iter().all(|e| !e.starts_with("plug")), "the observer was blind");
    house.wait(60_000).await;
    assert!(house.events().await.contains(&"plug offline silent".to_owned()), "but not for ever");
}

#[tokio::test(start_paused = true)]
async fn evidence_that_waits_in_its_door_is_not_overtaken_by_its_timer() {
    let house = House::start();
    let both = points(&["u", "k"]);
    house.reading(&both, &[230, 1]).await;
    house.wait(2000).await;
    // The engine gets all of this at once, much too late, but each with its time of arrival.
    let at = house.clock.now();
    for n in 1..=100u64 {
        let at = at + Duration::from_millis(n * 20);
        let values = vec![Value::Uint(n), Value::Uint(1)];
        let reading = Reading { device: device("meter"), at, points: Arc::clone(&both), values, quality: None };
        house.bulk.try_send(Bulk::Reading(reading)).unwrap();
        if n % 10 == 0 {
            let heard = Heard::Silent { after: Duration::from_millis(5) };
            house.urgent.try_send(Urgent::Poll { device: device("meter"), heard, at: at + Duration::from_millis(1) }).unwrap();
        }
    }
    house.wait(1000).await;
    assert_eq!(house.events().await, ["epoch", "meter online"]);
}

#[tokio::test(start_paused = true)]
async fn stopping_empties_the_doors_and_seals_what_there_is() {
    let house = House::start();
    house.wait(100).await;
    house.stop.cancel();
    for n in 0..500 {
        house.reading(&points(&["u"]), &[n]).await;
    }
    let begun = house.clock.now();
    let House { task, store, clock, urgent, bulk, .. } = house;
    task.await.unwrap();
    assert!(clock.now() - begun <= Duration::from_millis(1_100), "{:?}", clock.now() - begun);
    drop((urgent, bulk));
    let rows: usize = std::iter::from_fn(|| store.spool().next_live()).flat_map(|o| o.sealed.frames.clone()).map(|f| f.rows.len()).sum();
    assert_eq!(rows, 500);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_devices_have_a_grace_and_open_commands_an_end() {
    let write = |id: &str| Command {
        id: CommandId::parse(id).unwrap(),
        device: device("meter"),
        action: Action::Write(BTreeMap::from([(PointId::parse("u").unwrap(), Value::Uint(50))])),
        from: "uplink cloud".into(),
        received: BASE.saturating_sub(Duration::from_secs(10)),
        issued_at: None,
        expires_in: Duration::from_secs(60),
        from_stored_session: false,
    };
    let row = |name: &str, via: Option<&str>, quarantined| RestoredDevice {
        status: DeviceStatus {
            device: device(name),
            line: None,
            state: State::Online,
            cause: None,
            since: BASE,
            evidence: None,
            missed: 0,
        },
        boot: crate::model::BootIndex(1),
        via: via.map(str::to_owned),
        offline_after: Some(Duration::from_secs(9)),
        quarantined,
    };
    let house = House::start_after(|restored| {
        restored.open_commands = vec![(write("c1"), Phase::Sent), (write("c2"), Phase::Accepted)];
        restored.devices =
            vec![row("meter", None, false), row("plug", Some("open"), false), row("odd", Some("gone"), true), row("old", None, false)];
    });
    let want = [
        "epoch",
        "c1 unknown the gateway restarted between sending and the answer",
        "c2 rejected the gateway restarted before it was sent; send it again under a new id",
    ];
    assert_eq!(house.events().await, want);
    assert!(house.orders.lock().unwrap().is_empty(), "nothing is executed again");
    for name in ["meter", "plug", "odd"] {
        assert_eq!(house.state(name).await, (State::Unknown, Some(Cause::Restored)), "{name}");
    }
    assert!(house.handle.snapshot().await.unwrap().devices.iter().all(|d| d.device != device("old")), "no longer configured");
    house.wait(59_000).await;
    assert_eq!(house.state("odd").await.0, State::Offline, "what was stored with it counts where its route is gone");
    assert_eq!(house.state("plug").await.0, State::Unknown, "the route of today allows 60 s");
    house.wait(2_000).await;
    assert_eq!(house.events().await, ["progress 2", "plug offline silent"], "quarantine is nothing to the cloud");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_status_does_not_starve_telemetry() {
    let house = House::start();
    house.wait(10).await;
    let urgent = house.urgent.clone();
    let flood = tokio::spawn(async move {
        loop {
            let said = Urgent::Poll { device: device("meter"), heard: Heard::Answered, at: BASE };
            if urgent.send(said).await.is_err() {
                return;
            }
        }
    });
    for n in 0..1000 {
        house.reading(&points(&["u"]), &[n]).await;
    }
    // The flood never pauses, so time stands still: only a turn that is shared lets the readings through.
    while house.handle.snapshot().await.unwrap().readings_in < 1000 {
        tokio::task::yield_now().await;
    }
    flood.abort();
}

#[tokio::test(start_paused = true)]
async fn the_watchdog_sees_turns_also_when_nothing_happens() {
    let house = House::start();
    house.wait(10).await;
    let before = house.handle.turns();
    house.wait(10_000).await;
    assert!(house.handle.turns() >= before + 9);
}

/// The cost of a reading of 100 points, from its door to the spool. Run it optimised:
/// `CARGO_PROFILE_TEST_OPT_LEVEL=3 cargo test --lib cost_of_a_reading -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement, not a check"]
async fn cost_of_a_reading() {
    const READINGS: u32 = 20_000;
    let house = House::start();
    let names: Vec<String> = (0..100).map(|n| format!("point-{n}")).collect();
    let points = points(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let ready: Vec<Reading> = (0..READINGS)
        .map(|n| {
            let values = vec![Value::Float(f64::from(n)); 100];
            Reading {
                device: device("meter"),
                at: BASE + Duration::from_micros(n.into()),
                points: Arc::clone(&points),
                values,
                quality: None,
            }
        })
        .collect();
    let begun = tokio::time::Instant::now();
    for reading in ready {
        house.bulk.send(Bulk::Reading(reading)).await.unwrap();
        if house.store.spool().has_live() {
            while let Some(o) = house.store.spool().next_live() {
                house.store.spool().acknowledged(o.sealed.key, BASE);
            }
        }
    }
    println!("{:?} a reading", begun.elapsed() / READINGS);
}
