//! The whole engine with its store inline, under paused time: what comes in at the doors, what goes out everywhere.

use super::*;
use crate::{
    config::{
        self, Api, Buffer, DataType, Device, Gateway, LocalMqtt, Mode, Point, Register, Report, Route, RouteKind, Table, Watching,
        WriteRule,
    },
    model::{
        Action, Cause, Command, CommandId, DeviceId, DeviceStatus, EventKind, Frame, GatewayId, Heard, LineState, LocalMessage, Order,
        Outcome, Phase, PointId, Reading, Receipt, RouteId, Said, Settled, State, Value, WriteDone,
    },
    store::{Backing, Options, RestoredDevice},
};
use std::sync::Mutex;

const U: crate::model::UplinkIndex = crate::model::UplinkIndex::FIRST;

mod commands;
mod field;
mod own;
mod pushed;
mod relays;
mod rules;
mod schedules;
mod silence;
mod upkeep;

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
    let register = Register { table: Table::Holding, address: 1 };
    Point { unit: "V".into(), report, write: write.map(Box::new), ..Point::new(PointId::parse(name).unwrap(), register, DataType::U16) }
}

/// A meter on a bus, polled each second and silent for five at most, with a point `u` that may be written and a point `k`
/// that is reported on change; MQTT routes that register, quarantine and refuse.
fn config() -> Config {
    let write = WriteRule { min: Some(10.0), max: Some(90.0), ..WriteRule::default() };
    let on_change = Report { on_change: true, ..Report::default() };
    let meter = Device {
        poll: Duration::from_secs(1),
        offline_after: Duration::from_secs(5),
        profile: Some("p".into()),
        points: [point("u", Report::default(), Some(write)), point("k", on_change, None)].into(),
        ..Device::new(device("meter"), line(), 1)
    };
    let route = |id: &str, unknown| Route {
        id: RouteId::parse(id).unwrap(),
        topic: format!("{id}/{{device}}"),
        kind: RouteKind::Telemetry { values: BTreeMap::new(), time: None, shape: config::Shape::default() },
        unknown,
        offline_after: Some(Duration::from_secs(60)),
        alarm_after: None,
        ping: (id == "open").then(|| config::mqtt::Ping { topic: "ask/{device}/get".into(), payload: String::new() }),
        preset: None,
    };
    use config::mqtt::Unknown::{Quarantine, Refuse, Register};
    Config {
        gateway: Gateway {
            id: GatewayId::parse("g").unwrap(),
            data_dir: "/nowhere".into(),
            run_dir: "/nowhere".into(),
            clock_hold: Duration::ZERO,
            trust_rtc: false,
        },
        lines: vec![],
        devices: vec![meter],
        framed: Vec::new(),
        history: None,
        mqtt: Some(LocalMqtt {
            mode: Mode::Listen { at: "127.0.0.1:1883".parse().unwrap(), users: vec![] },
            routes: vec![route("open", Register), route("quiet", Quarantine), route("closed", Refuse)],
        }),
        api: Some(Api { listen: vec![], unknown: Register, offline_after: Duration::from_secs(60), tokens: vec![] }),
        uplinks: vec![],
        buffer: Buffer {
            window: Duration::from_secs(1),
            ack_within: Duration::from_millis(100),
            disk_max: 1 << 29,
            thin_window: Duration::ZERO,
            card_endurance: 1 << 42,
        },
        watch: Watching { flaps: 4, flap_window: Duration::from_secs(60), stable_for: Duration::from_secs(20), alarm_after: None },
        schedules: vec![],
        webhooks: vec![],
        rules: vec![],
        analytics: vec![],
    }
}

/// The engine in its task, and everything around it.
struct House {
    urgent: mpsc::Sender<Urgent>,
    bulk: mpsc::Sender<Bulk>,
    bursts: Arc<Bursts>,
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
    wishes: Mutex<mpsc::Receiver<Wish>>,
    _dir: tempfile::TempDir,
}

impl House {
    fn start() -> House {
        House::start_after(|_| {})
    }

    /// With something to be remembered.
    fn start_after(past: impl FnOnce(&mut Restored)) -> House {
        let clock = Clock::Paused { start: tokio::time::Instant::now(), base: BASE, offset_ms: 1_700_000_000_000 };
        House::build(clock, Backing::Inline, past)
    }

    fn build(clock: Clock, backing: Backing, past: impl FnOnce(&mut Restored)) -> House {
        House::of(config(), clock, backing, past)
    }

    fn of(config: Config, clock: Clock, backing: Backing, past: impl FnOnce(&mut Restored)) -> House {
        let dir = tempfile::tempdir().unwrap();
        let config = Arc::new(config);
        let options = Options {
            data_dir: dir.path().into(),
            buffer: config.buffer.clone(),
            clock,
            backing,
            linger: std::time::Duration::ZERO,
            uplinks: vec![],
            epoch_seed: Some(7),
        };
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
        let (wish, wishes) = mpsc::channel(4);
        let bursts = Arc::<Bursts>::default();
        let stop = CancellationToken::new();
        let (engine, handle) = Engine::new(Parts {
            config,
            restored,
            store: store.clone(),
            clock,
            urgent: urgent_in,
            bulk: bulk_in,
            bursts: Arc::clone(&bursts),
            ports: BTreeMap::from([(line(), Arc::clone(&port))]),
            mqtt: Some((Arc::clone(&port), local_port)),
            push: Some(port),
            recall: Some(Arc::new(|_, _| false)),
            wishes: wish,
            samples: None,
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
        House {
            urgent,
            bulk,
            bursts,
            store,
            clock,
            handle,
            stop,
            task,
            cards,
            orders,
            local,
            kept,
            port_full,
            wishes: Mutex::new(wishes),
            _dir: dir,
        }
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
        let (device, via, receipt) = (device(from), via.into(), self.receipt(receipt));
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

    /// What the gateway itself or several devices are to do.
    async fn ask(&self, id: &str, action: Action) {
        let command = Command {
            id: CommandId::parse(id).unwrap(),
            device: DeviceId::gateway(),
            action,
            from: "uplink cloud".into(),
            received: self.clock.now(),
            issued_at: None,
            expires_in: Duration::from_secs(60),
            from_stored_session: false,
        };
        self.urgent.send(Urgent::Command { command, receipt: Receipt::none() }).await.unwrap();
    }

    async fn done(&self, id: &str, phase: Phase) {
        let outcome = Outcome::new(phase, "");
        let done = WriteDone { id: CommandId::parse(id).unwrap(), device: device("meter"), outcome, at: self.clock.now() };
        self.urgent.send(Urgent::Done(done)).await.unwrap();
    }

    /// Events since the last call, in short.
    async fn events(&self) -> Vec<String> {
        self.wait(250).await;
        let mut out = vec![];
        while let Some(message) = self.store.events().next(U) {
            self.store.events().acknowledged(U, message.key);
            out.extend(message.events.iter().map(|e| words(&e.kind)));
        }
        out
    }

    /// Telemetry since the last call, acknowledged by the cloud.
    async fn frames(&self) -> Vec<Frame> {
        self.wait(100).await;
        let mut out = vec![];
        while let Some(outgoing) = self.store.spool().next_live(U) {
            self.store.spool().acknowledged(U, outgoing.sealed.key, self.clock.now());
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
        EventKind::Alarm { device, alarm, by: Some(by), .. } => format!("{device} {} acknowledged by {by}", alarm.word()),
        EventKind::Alarm { device, alarm, raised, .. } => {
            format!("{device} {} {}", alarm.word(), if *raised { "raised" } else { "cleared" })
        }
        EventKind::Maintenance { device, on, .. } => format!("{device} maintenance {}", if *on { "on" } else { "off" }),
        EventKind::Changed { device, attributes } => {
            let values = attributes.iter().map(|(name, value)| format!(" {name}={}", value.as_deref().unwrap_or("-")));
            format!("{device}{}", values.collect::<String>())
        }
        EventKind::Schedule { schedule, news, missed, ran, .. } => match missed {
            0 => format!("{schedule} {}", news.word()),
            _ => format!("{schedule} missed {missed}, ran {ran}"),
        },
        EventKind::Rule { rule, webhook, reason } => format!("{rule} tells {webhook}: {reason}"),
        EventKind::Uplink { uplink, state, changes, .. } => format!("{uplink} {} {changes}", state.word()),
        EventKind::Epoch { .. } => "epoch".into(),
        EventKind::Progress { alive } => format!("progress {}", alive.len()),
        EventKind::DeadLetter { count, .. } => format!("dead letters {count}"),
        EventKind::Store { file, state, .. } => format!("{file} {}", state.word()),
        other => format!("{other:?}"),
    }
}
