//! A pump with a real store (inline) and whatever broker a test brings.

use super::{Parts, run_with};
use crate::{
    config::{Buffer, Dialect, Uplink},
    model::{
        Boot, DeviceCard, DeviceId, Event, EventKind, Frame, GatewayId, LineId, LineState, PointId, Row, UplinkFigures, UplinkId,
        UplinkIndex, Urgent, Value,
    },
    store::{Backing, Change, Options, Store},
    system::clock::{Clock, Wall},
    uplink::{broker::Broker, client::Client, simulated::Simulated},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

pub struct Rig {
    pub broker: Simulated,
    pub store: Store,
    pub clock: Clock,
    pub urgent: mpsc::Receiver<Urgent>,
    pub cards: watch::Sender<Arc<Vec<DeviceCard>>>,
    pub reborn: watch::Sender<u64>,
    pub figures: watch::Receiver<UplinkFigures>,
    pub stop: CancellationToken,
    pub task: tokio::task::JoinHandle<()>,
    pub dir: tempfile::TempDir,
}

pub const WALL: i64 = 1_795_255_200_000;

pub fn uplink() -> Uplink {
    Uplink {
        id: UplinkId::parse("cloud").unwrap(),
        required: true,
        host: "simulated".into(),
        port: 1883,
        tls: None,
        fallback: vec![],
        username: None,
        password: None,
        client_id: "fieldgate-plant-7".into(),
        dialect: Dialect::Native,
        version: crate::config::Mqtt::V311,
        topic_prefix: "fieldgate/plant-7".into(),
        linger: Duration::from_millis(50),
        reconnect_max: Duration::from_secs(60),
        keep_alive: Duration::from_secs(30),
        replay_share: 50,
        replay_rate: None,
    }
}

impl Rig {
    /// In virtual time, with a simulated broker.
    pub fn start() -> Rig {
        Rig::start_with(uplink())
    }

    pub fn start_with(config: Uplink) -> Rig {
        let broker = Simulated::default();
        Rig::with(config, broker.clone(), broker, Rig::clock())
    }

    pub fn clock() -> Clock {
        Clock::Paused { start: Instant::now(), base: Boot::from_ms(1_000_000), offset_ms: WALL - 1_000_000 }
    }

    /// In real time, with the real client.
    pub fn real(config: Uplink) -> Rig {
        Rig::real_at(config, Clock::Real)
    }

    pub fn real_at(config: Uplink, clock: Clock) -> Rig {
        let client = Client::new(&config);
        Rig::with(config, client, Simulated::default(), clock)
    }

    /// In virtual time, with a wall clock that can be stepped and a boot that is this old.
    pub fn stepped(wall: &'static Wall, base: Boot) -> Rig {
        let broker = Simulated::default();
        Rig::with(uplink(), broker.clone(), broker, Clock::Stepped { start: Instant::now(), base, wall })
    }

    pub fn with<B: Broker + 'static>(config: Uplink, link: B, broker: Simulated, clock: Clock) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let buffer = Buffer {
            window: Duration::from_secs(1),
            ack_within: Duration::from_millis(100),
            disk_max: 64 << 20,
            thin_window: Duration::ZERO,
            card_endurance: 1 << 42,
        };
        let options = Options {
            data_dir: dir.path().into(),
            buffer,
            clock,
            backing: Backing::Inline,
            linger: Duration::ZERO,
            uplinks: vec![],
            epoch_seed: Some(7),
        };
        let (store, restored) = Store::open(options).unwrap();
        store.set_clock(clock.reading());
        let (urgent_to, urgent) = mpsc::channel(4);
        let (cards, cards_from) = watch::channel(Arc::default());
        let (figures_to, figures) = watch::channel(UplinkFigures::default());
        let (reborn, rebirth) = watch::channel(0);
        let stop = CancellationToken::new();
        let parts = Parts {
            config,
            index: UplinkIndex::FIRST,
            gateway: GatewayId::parse("plant-7").unwrap(),
            version: "0.1.0",
            epoch: restored.epoch,
            store: store.clone(),
            urgent: urgent_to,
            cards: cards_from,
            rebirth,
            figures: figures_to,
            clock,
            stop: stop.clone(),
        };
        let task = tokio::spawn(run_with(parts, link));
        Rig { broker, store, clock, urgent, cards, reborn, figures, stop, task, dir }
    }

    pub fn sample(&self, value: i64) -> u64 {
        let now = self.clock.now();
        let frame = Frame {
            device: DeviceId::parse("meter-1").unwrap(),
            points: Arc::from([PointId::parse("power").unwrap()]),
            rows: vec![Row { at: now, values: vec![Value::Int(value)], quality: None }],
            thin: None,
        };
        self.store.spool().append(vec![frame], vec![], now)
    }

    pub async fn event(&self, reason: &str) {
        let kind = EventKind::Line { line: LineId::parse("meters").unwrap(), state: LineState::Down, reason: reason.into() };
        self.store.submit(vec![Change::Event(Event { at: self.clock.now(), kind })], |result| result.unwrap()).await;
    }

    /// Advances virtual time; the store's commits run when they fall due.
    pub async fn pass(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.store.poll(self.clock.now());
            sleep((end - Instant::now()).min(Duration::from_millis(50))).await;
        }
        self.store.poll(self.clock.now());
    }

    /// All that was sealed has been acknowledged.
    pub fn is_drained(&self) -> bool {
        let done = |alive: Vec<crate::model::event::Alive>| alive.iter().all(|a| a.lowest > a.highest);
        done(self.store.spool().alive()) && done(self.store.events().alive())
    }

    pub async fn drain(&self, within: Duration) {
        let end = Instant::now() + within;
        while !self.is_drained() {
            assert!(
                Instant::now() < end,
                "not drained, {:?} connects: {:?} {:?}",
                self.broker.connects(),
                self.store.spool().alive(),
                self.store.events().alive()
            );
            self.pass(Duration::from_millis(100)).await;
        }
    }
}
