//! One run of the process: the real engine, store, uplink pump and line cores, until it is killed or stopped.

use crate::{
    brain,
    bus::{Bus, SETPOINT, TIMEOUT},
    cloud::Cloud,
    line::Owner,
    plan::Plan,
    world::World,
};
use fieldgate::{
    config::{
        self, Buffer, Config, DataType, Device, Dialect, Gateway as Identity, Line, LocalMqtt, Mode, Parity, Point, Register, Report,
        Route, RouteKind, Serial, Table, Transport, Uplink, WriteRule,
    },
    drivers::Doors,
    engine::{self, Engine, Handle, Parts},
    limits,
    model::{DeviceId, GatewayId, LineId, OrderPort, PointId, RouteId, UplinkFigures, UplinkId, UplinkIndex},
    store::{Backing, Holder, Options, Store},
    uplink,
};
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

pub const LINES: [&str; 2] = ["meters", "plc"];

pub struct Gateway {
    pub store: Store,
    pub handle: Handle,
    pub doors: Doors,
    field: Vec<JoinHandle<()>>,
    engine: JoinHandle<()>,
    uplink: JoinHandle<()>,
    optional: Option<JoinHandle<()>>,
    writer: JoinHandle<()>,
    stops: [CancellationToken; 3],
}

pub struct Surroundings<'a> {
    pub world: &'a Arc<World>,
    pub plan: &'a Plan,
    pub dir: &'a Path,
    pub buses: &'a [Arc<Bus>; 2],
    pub cloud: &'a Cloud,
}

impl Gateway {
    pub async fn start(s: &Surroundings<'_>) -> Gateway {
        let world = s.world;
        let config = Arc::new(config(s.plan, s.dir));
        let clock = world.clock;
        let life = world.log().life;
        let options = || Options {
            data_dir: s.dir.to_owned(),
            buffer: config.buffer.clone(),
            clock,
            backing: Backing::Inline,
            linger: engine::linger(&config),
            uplinks: Holder::all(&config.uplinks),
            epoch_seed: Some(s.plan.seed),
        };
        let (store, restored) = Store::open(options()).expect("a killed process has let go of its files");
        world.note(format!("life {life}: epoch {} before {:?}", restored.epoch, restored.before));
        world.log().epochs.push(restored.epoch.to_string());
        world.log().begins.push(world.now());
        if !restored.quarantined.is_empty() {
            world.violation(format!("quarantined {:?}", restored.quarantined));
        }
        let epoch = restored.epoch;
        let (urgent, urgent_in) = mpsc::channel(limits::URGENT);
        let (bulk, bulk_in) = mpsc::channel(limits::BULK);
        let doors = Doors::new(urgent.clone(), bulk);
        let stops = [(); 3].map(|()| CancellationToken::new());
        let [field_stop, engine_stop, uplink_stop] = &stops;
        let mut ports = BTreeMap::new();
        let mut field = Vec::new();
        for (line, bus) in config.lines.iter().zip(s.buses) {
            let devices: Vec<Device> = config.devices.iter().filter(|d| d.line == line.id).cloned().collect();
            let (port, orders) = port(world);
            ports.insert(line.id.clone(), port);
            let owner = Owner::new(line, devices, bus.clone(), world.clone(), doors.clone(), orders, life);
            field.push(tokio::spawn(owner.run(field_stop.clone())));
        }
        let (cards, cards_in) = watch::channel(Arc::default());
        let (engine, handle) = Engine::new(Parts {
            config: config.clone(),
            restored,
            store: store.clone(),
            clock,
            urgent: urgent_in,
            bulk: bulk_in,
            bursts: doors.bursts.clone(),
            ports,
            mqtt: None,
            push: None,
            recall: None,
            wishes: mpsc::channel(1).0,
            samples: None,
            cards,
            stop: engine_stop.clone(),
        });
        let engine = tokio::spawn(engine.run());
        let parts = |index: u8| uplink::Parts {
            config: config.uplinks[usize::from(index)].clone(),
            index: UplinkIndex(index),
            gateway: config.gateway.id.clone(),
            version: "0",
            epoch,
            store: store.clone(),
            urgent: urgent.clone(),
            cards: cards_in.clone(),
            rebirth: watch::channel(0).1,
            figures: watch::channel(UplinkFigures::default()).0,
            clock,
            stop: uplink_stop.clone(),
        };
        let uplink = tokio::spawn(uplink::run_with(parts(0), s.cloud.clone()));
        let optional = (config.uplinks.len() > 1).then(|| tokio::spawn(uplink::run_with(parts(1), s.cloud.optional.clone())));
        drop(urgent);
        let writer = tokio::spawn(write_for_ever(store.clone(), world.clone()));
        Gateway { store, handle, doors, field, engine, uplink, optional, writer, stops }
    }

    /// As `kill -9`: everything is dropped where it stands, between two transactions.
    pub async fn kill(self, world: &World) {
        let Gateway { store, field, engine, uplink, optional, writer, .. } = self;
        let tasks: Vec<_> = field.into_iter().chain([engine, uplink, writer]).chain(optional).collect();
        tasks.iter().for_each(JoinHandle::abort);
        for task in tasks {
            if let Err(e) = task.await
                && e.is_panic()
            {
                world.violation(format!("panic: {e}"));
            }
        }
        drop(store);
        // A command's dead letter has a task of its own, which ends by itself.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }

    /// The ordered stop, as `app` does it. Whether nothing waits, the highest numbers, and the samples that were sealed.
    pub async fn stop(self) -> (bool, [u64; 2], u64) {
        let Gateway { store, field, engine, uplink, optional, writer, stops: [field_stop, engine_stop, uplink_stop], doors, .. } = self;
        drop(doors);
        field_stop.cancel();
        for line in field {
            line.await.expect("a line does not panic");
        }
        engine_stop.cancel();
        engine.await.expect("the engine does not panic");
        uplink_stop.cancel();
        uplink.await.expect("the uplink does not panic");
        if let Some(optional) = optional {
            optional.await.expect("the optional uplink does not panic");
        }
        writer.abort();
        let _ = writer.await;
        let drained = is_drained(&store);
        let last = |alive: Vec<fieldgate::model::event::Alive>| alive.last().map_or(0, |a| a.highest);
        let highest = [last(store.spool().alive()), last(store.events().alive())];
        let sealed = store.spool().figures(fieldgate::model::Boot(0)).sealed_samples;
        store.close().await;
        drop(store);
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        (drained, highest, sealed)
    }

    /// Whatever panicked.
    pub fn has_died(&self) -> bool {
        self.engine.is_finished()
            || self.uplink.is_finished()
            || self.optional.as_ref().is_some_and(JoinHandle::is_finished)
            || self.writer.is_finished()
            || self.field.iter().any(JoinHandle::is_finished)
    }

    pub fn is_drained(&self) -> bool {
        is_drained(&self.store)
    }
}

fn is_drained(store: &Store) -> bool {
    let all = store.spool().alive().into_iter().chain(store.events().alive());
    all.into_iter().all(|a| a.lowest > a.highest)
}

/// What the writer's thread does in the daemon.
async fn write_for_ever(store: Store, world: Arc<World>) {
    loop {
        let now = world.now();
        let due = store.poll(now).map_or(Duration::from_millis(20), |at| at - now);
        tokio::time::sleep(due.clamp(Duration::from_millis(1), Duration::from_millis(20))).await;
    }
}

/// The way of orders to a line, with a note of each.
fn port(world: &Arc<World>) -> (OrderPort, mpsc::Receiver<fieldgate::model::Order>) {
    let (give, orders) = mpsc::channel(limits::LINE_ORDERS);
    let world = world.clone();
    let port = Arc::new(move |order: fieldgate::model::Order| {
        world.note(format!("order {} until {:?}", order.id, order.deadline));
        let now = world.now();
        let is_asked = world.log().commands.get_mut(order.id.as_str()).map(|asked| asked.orders.push(order.deadline)).is_some();
        if !is_asked {
            brain::handed(&world, &order, now);
        }
        give.try_send(order).map_err(mpsc::error::TrySendError::into_inner)
    });
    (port, orders)
}

fn config(plan: &Plan, dir: &Path) -> Config {
    let transports = [
        Transport::Serial(Serial { path: "/dev/null".into(), baud: 9600, parity: Parity::None, bits: 8, stop: 1 }),
        Transport::Tcp { host: "plc".into(), port: 502 },
    ];
    let lines = LINES.iter().zip(transports).map(|(id, transport)| Line {
        timeout: TIMEOUT,
        retries: u8::try_from(plan.seed % 2).expect("small"),
        connect_delay: Duration::from_millis(plan.seed % 3 * 20),
        ..Line::new(LineId::parse(id).expect("fits"), transport)
    });
    Config {
        gateway: Identity {
            id: GatewayId::parse("sim").expect("fits"),
            data_dir: dir.into(),
            run_dir: dir.into(),
            clock_hold: Duration::from_secs(60),
            trust_rtc: false,
        },
        lines: lines.collect(),
        devices: devices(plan),
        framed: vec![],
        history: None,
        mqtt: Some(LocalMqtt {
            mode: Mode::Listen { at: "127.0.0.1:1883".parse().expect("an address"), users: vec![] },
            routes: vec![Route {
                id: RouteId::parse("plugs").expect("fits"),
                topic: "tele/{device}".into(),
                kind: RouteKind::Telemetry { values: BTreeMap::new(), time: None, shape: config::Shape::default() },
                unknown: config::mqtt::Unknown::Register,
                offline_after: Some(Duration::from_secs(10)),
                alarm_after: None,
                ping: None,
                preset: None,
            }],
        }),
        api: None,
        uplinks: uplinks(plan),
        buffer: Buffer {
            window: plan.window,
            ack_within: plan.ack_within,
            disk_max: plan.disk_max,
            thin_window: plan.thin_window,
            card_endurance: 1 << 42,
        },
        watch: brain::watching(plan),
        schedules: brain::schedules(plan),
        webhooks: vec![],
        rules: brain::rules(plan),
        analytics: vec![],
    }
}

/// By id, as the configuration's check gives them.
pub fn devices(plan: &Plan) -> Vec<Device> {
    let units = (0..2).flat_map(|line| (1..=plan.units[line]).map(move |unit| (line, unit)));
    let devices = units.zip(&plan.polls_ms).enumerate().map(|(n, ((line, unit), poll))| {
        let poll = Duration::from_millis(*poll);
        let (id, line) = (DeviceId::parse(&format!("d{n}")).expect("fits"), LineId::parse(LINES[line]).expect("fits"));
        Device {
            poll,
            offline_after: (poll * 3).max(Duration::from_secs(2)),
            points: [0, 4, 100, SETPOINT].into_iter().chain(brain::registers(plan, n)).map(|address| point(address, n)).collect(),
            ..Device::new(id, line, unit)
        }
    });
    devices.collect()
}

fn point(address: u16, device: usize) -> Point {
    // What the brain watches and writes goes upstream with every reading.
    let setpoint = address == SETPOINT;
    let word = address >= SETPOINT;
    let write = Box::new(WriteRule { verify: device.is_multiple_of(2), ..WriteRule::default() });
    let kind = if word { DataType::U16 } else { DataType::U64 };
    Point {
        report: Report { on_change: setpoint && device.is_multiple_of(3), ..Report::default() },
        write: (setpoint || brain::is_written(address)).then_some(write),
        ..Point::new(PointId::parse(&format!("r{address}")).expect("fits"), Register { table: Table::Holding, address }, kind)
    }
}

/// Every third seed has an optional uplink beside the required one.
fn uplinks(plan: &Plan) -> Vec<Uplink> {
    let uplink = |id: &str, required| Uplink {
        id: UplinkId::parse(id).expect("fits"),
        required,
        host: "simulated".into(),
        port: 1883,
        tls: None,
        fallback: vec![],
        username: None,
        password: None,
        client_id: "sim".into(),
        dialect: Dialect::Native,
        version: config::Mqtt::V311,
        topic_prefix: "fieldgate/sim".into(),
        linger: plan.linger,
        reconnect_max: Duration::from_secs(8),
        keep_alive: Duration::from_secs(30),
        replay_share: 50,
        replay_rate: None,
    };
    let optional = plan.seed.is_multiple_of(3).then(|| uplink("optional", false));
    std::iter::once(uplink("cloud", true)).chain(optional).collect()
}
