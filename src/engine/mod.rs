//! The one loop that owns the state machines.
//!
//! Doors hand in what they heard; the registry, the command lanes, the report filter and the batch decide (all pure, in
//! `logic`); the loop carries their effects to the store, the spool, the lines and local subscribers. Nothing else
//! changes the state of a device or of a command.
//!
//! Order is policy, written once in [`Engine::run`]: stop, then status, replies and commands, then what the store has
//! committed, then timers, then telemetry. A turn gives each of them a bounded share, so that nobody starves.
//! Absent on purpose: wire formats, SQL, waiting for anything but the doors and a full queue to the store.

mod alarms;
mod analytics;
mod cards;
mod commands;
mod doors;
mod duties;
mod figures;
mod guests;
mod handle;
pub mod history;
mod late;
mod latest;
mod letters;
mod links;
mod own;
mod pushed;
mod refresh;
mod relays;
mod rules;
mod schedules;
mod setup;
mod status;
mod stop;
mod telemetry;
#[cfg(test)]
mod tests;
mod trace;
mod unstored;
mod upkeep;
mod urgent;

pub use alarms::AlarmError;
pub use figures::Figures;
pub use handle::{Handle, PhaseNote, Shown, Snapshot};
pub use own::Wish;
pub use rules::{RuleError, Switch, watched};
pub use schedules::{ScheduleError, ScheduleView};
pub use setup::{commands as command_rules, company, linger, unsealed};
pub use upkeep::{Maintain, MaintainError};

use crate::{
    config::Config,
    limits,
    logic::{
        analytics::{Analytics, Made},
        batch::{Batch, Full},
        commands::Commands,
        counter::Counters,
        links::Link,
        refresh::Refreshes,
        registry::Registry,
        relays::Relays,
        report::Filter,
        rules::Rules,
    },
    model::{
        Boot, Bulk, DeviceCard, DeviceId, DeviceStatus, Epoch, LineId, LocalPort, OrderPort, PointCard, RecallPort, UplinkFigures,
        UplinkId, Urgent,
    },
    store::{Restored, Store, samples::Samples},
    system::{bursts::Bursts, clock::Clock, steps::Steps, trust::Trust},
};
use alarms::Alarms;
use cards::Listing;
use commands::Landed;
use doors::{Door, Pace};
use duties::Duties;
use guests::Guests;
use handle::Ask;
use late::Late;
use latest::Latest;
use letters::Letters;
use schedules::Planner;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use unstored::Unstored;
use upkeep::Upkeep;

/// Readings taken in one turn, so that a wake-up is shared by many of them and an urgent message waits below a millisecond.
const BULK_TURN: usize = 128;
/// A turn comes at least this often, also when nothing happens: the watchdog counts turns, and a suspended process is
/// known by a turn that came too late.
const TICK: Duration = Duration::from_secs(1);
/// The engine shares its thread with lines, uplinks and surfaces. Whoever never waits is given a hundred turns in a row by the
/// runtime, so with much to do the engine steps back this often.
const ALONE: Duration = Duration::from_millis(5);
/// To see what is at hand takes less. More: it waited, and others had their turn.
const AT_HAND: Duration = Duration::from_micros(100);

/// Everything the engine is made of.
pub struct Parts {
    pub config: Arc<Config>,
    pub restored: Restored,
    pub store: Store,
    pub clock: Clock,
    pub urgent: mpsc::Receiver<Urgent>,
    pub bulk: mpsc::Receiver<Bulk>,
    pub bursts: Arc<Bursts>,
    pub ports: BTreeMap<LineId, OrderPort>,
    pub mqtt: Option<(OrderPort, LocalPort)>,
    /// For devices that fetch their orders by HTTP.
    pub push: Option<OrderPort>,
    /// Takes back what they have not fetched.
    pub recall: Option<RecallPort>,
    /// `None`: nothing is kept here.
    pub samples: Option<Samples>,
    pub cards: watch::Sender<Arc<Vec<DeviceCard>>>,
    /// What only the whole program can do.
    pub wishes: mpsc::Sender<Wish>,
    pub stop: CancellationToken,
}

pub struct Engine {
    config: Arc<Config>,
    restored: Option<Restored>,
    store: Store,
    clock: Clock,
    urgent: Door<Urgent>,
    bulk: Door<Bulk>,
    bursts: Arc<Bursts>,
    ports: BTreeMap<LineId, OrderPort>,
    order_mqtt: Option<OrderPort>,
    order_push: Option<OrderPort>,
    recall: Option<RecallPort>,
    wishes: mpsc::Sender<Wish>,
    began: Boot,
    samples: Option<Samples>,
    /// `None`: nobody is to be told locally.
    tell_mqtt: Option<LocalPort>,
    /// Where silent devices are asked; also where our own status would come back as theirs.
    ping_mqtt: Option<LocalPort>,
    cards: watch::Sender<Arc<Vec<DeviceCard>>>,
    stop: CancellationToken,
    asks: mpsc::Receiver<Ask>,
    landed: mpsc::Receiver<Landed>,
    land: mpsc::Sender<Landed>,
    /// Commands at the store that have not landed yet; never more than `landed` can hold.
    in_store: usize,

    registry: Registry,
    commands: Commands,
    counters: Counters,
    refreshes: Refreshes,
    relays: Relays,
    switches: relays::Switches,
    uplinks: Vec<(UplinkId, watch::Receiver<UplinkFigures>)>,
    /// Of each uplink, what of its changes was told.
    links: Vec<Link>,
    filter: Filter,
    analytics: Analytics,
    rules: Rules,
    batch: Batch,
    guests: Guests,
    latest: Latest,
    /// Points of devices that said themselves what they have.
    discovered: BTreeMap<DeviceId, Arc<[PointCard]>>,
    /// Of points that are computed here.
    computed: BTreeMap<DeviceId, Vec<PointCard>>,
    /// What is shown of the points of each configured device, in the order of the configuration.
    shown: Vec<Arc<[PointCard]>>,
    letters: Letters,
    upkeep: Upkeep,
    planner: Planner,
    alarms: Alarms,
    duties: Duties,
    late: Late,
    listing: Option<Listing>,
    epoch: Epoch,

    /// Effects of the message in hand, empty between messages.
    moves: Vec<crate::logic::registry::Effect>,
    orders: VecDeque<crate::logic::commands::Effect>,
    fired: Vec<crate::logic::rules::Effect>,
    made: Vec<Made>,
    full: Vec<Full>,

    last_turn: Boot,
    /// When telemetry is looked at.
    pace: Pace,
    /// Since when the telemetry door was found full: whoever feeds it could not hand in what it heard.
    throttled: Option<Boot>,
    turns: Arc<AtomicU64>,
    store_failing: Arc<AtomicBool>,
    unstored: Unstored,
    samples_in: u64,
    readings_in: u64,
    /// When the last message came in.
    heard: Option<Boot>,
    phases: broadcast::Sender<PhaseNote>,
    /// Each move of a device, for surfaces that follow them.
    live: broadcast::Sender<DeviceStatus>,
}

/// What woke the engine.
enum Woke {
    Stop,
    Urgent(Urgent),
    Landed(Landed),
    ClockSet,
    Timer,
    Asked(Ask),
    Bulk(Bulk),
}

impl Engine {
    pub fn new(parts: Parts) -> (Engine, Handle) {
        let Parts { config, restored, store, clock, urgent, bulk, bursts, ports, mqtt, push, recall, samples, cards, wishes, stop } = parts;
        let (ask, asks) = mpsc::channel(handle::ASKS);
        let (land, landed) = mpsc::channel(limits::STORE_CHANGES);
        let turns = Arc::new(AtomicU64::new(0));
        let (phases, _) = broadcast::channel(limits::COMMAND_PHASES);
        // Its places are made at once: none where nobody can listen.
        let (live, _) = broadcast::channel(if config.api.is_some() { limits::API_UPDATES } else { 1 });
        let handle = Handle::new(ask, Arc::clone(&turns), phases.clone(), live.clone());
        let now = clock.now();
        let mut trust = Trust::new(config.gateway.trust_rtc);
        let (before, at) = store.clock();
        trust.resume(before, at);
        store.hold_telemetry(config.gateway.clock_hold);
        let (order_mqtt, tell_mqtt) = mqtt.unzip();
        let engine = Engine {
            registry: Registry::new(setup::rules(&config)),
            commands: setup::commands(&config),
            counters: setup::counters(&config),
            refreshes: refresh::refreshes(&config),
            relays: Relays::default(),
            switches: relays::switches(&config),
            uplinks: Vec::new(),
            links: Vec::new(),
            filter: setup::filter(&config),
            analytics: Analytics::new(&config.analytics),
            rules: rules::rules(&config),
            batch: Batch::new(setup::linger(&config)).answering_within(config.buffer.ack_within),
            guests: Guests::default(),
            latest: Latest::default(),
            discovered: BTreeMap::new(),
            computed: analytics::cards(&config),
            shown: setup::by_kind(&config, cards::shown),
            letters: Letters::default(),
            upkeep: Upkeep::default(),
            planner: Planner::default(),
            alarms: Alarms::default(),
            epoch: restored.epoch,
            duties: Duties::new(now, trust),
            late: Late::default(),
            listing: None,
            restored: Some(restored),
            store,
            clock,
            urgent: Door::new(urgent),
            bulk: Door::new(bulk),
            bursts,
            ports,
            order_mqtt,
            order_push: push,
            recall,
            wishes,
            began: now,
            samples,
            ping_mqtt: tell_mqtt.clone(),
            tell_mqtt: tell_mqtt.filter(|_| !setup::would_hear_itself(&config)),
            cards,
            stop,
            asks,
            landed,
            land,
            in_store: 0,
            moves: vec![],
            orders: VecDeque::new(),
            fired: vec![],
            made: vec![],
            full: vec![],
            last_turn: now,
            pace: Pace::default(),
            throttled: None,
            turns,
            store_failing: Arc::default(),
            unstored: Unstored::default(),
            samples_in: 0,
            heard: None,
            readings_in: 0,
            phases,
            live,
            config,
        };
        (engine, handle)
    }

    /// Runs until it is told to stop, then empties the doors, seals what there is and returns.
    pub async fn run(mut self) {
        self.begin().await;
        let mut steps = Steps::of(&self.clock);
        let mut alone = self.clock.now();
        loop {
            let rests = self.pace.rests();
            let due = rests.into_iter().fold(self.next_due(), Boot::min);
            let mut now = self.clock.now();
            // Something that was due when this turn began is left over: others on this thread come between.
            if due <= self.last_turn || now.since(alone) >= ALONE {
                tokio::task::yield_now().await;
                now = self.clock.now();
                alone = now;
            }
            // To set a timer costs as much as to be woken: not for a moment that does not come before the next turn.
            let is_timed = due <= now || rests.is_some() || self.bulk.waiting() == 0;
            // Order is policy: stop, then status, replies and commands, then commits, timers, questions, telemetry.
            let woke = tokio::select! {
                biased;
                () = self.stop.cancelled() => Woke::Stop,
                Some(message) = self.urgent.next() => Woke::Urgent(message),
                Some(landed) = self.landed.recv() => Woke::Landed(landed),
                () = steps.next() => Woke::ClockSet,
                () = self.clock.sleep_until(due), if is_timed => Woke::Timer,
                () = self.bursts.ended(), if rests.is_some() => Woke::Timer,
                Some(ask) = self.asks.recv() => Woke::Asked(ask),
                Some(message) = self.bulk.next(), if rests.is_none() => Woke::Bulk(message),
            };
            self.look_at_the_clock();
            if self.last_turn.since(now) >= AT_HAND {
                alone = self.last_turn;
            }
            match woke {
                Woke::Stop => break,
                Woke::Urgent(message) => self.on_urgent(message).await,
                Woke::Landed(landed) => self.on_landed(landed).await,
                Woke::ClockSet => self.duties.clock_was_set(),
                Woke::Timer => {}
                Woke::Asked(ask) => self.answer(ask).await,
                Woke::Bulk(message) => self.on_bulk(message).await,
            }
            self.turn().await;
        }
        self.wind_down().await;
    }

    /// One round over everything that is ready, each with a bound.
    async fn turn(&mut self) {
        self.carry_rules().await;
        for _ in 1..limits::URGENT_TURN {
            let Some(message) = self.urgent.try_next() else { break };
            self.on_urgent(message).await;
        }
        self.carry_rules().await;
        for _ in 0..limits::STORE_CHANGES {
            let Ok(landed) = self.landed.try_recv() else { break };
            self.on_landed(landed).await;
        }
        self.run_timers().await;
        for _ in 0..handle::ASKS {
            let Ok(ask) = self.asks.try_recv() else { break };
            self.answer(ask).await;
        }
        for _ in 1..BULK_TURN {
            let Some(message) = self.bulk.try_next() else { break };
            self.on_bulk(message).await;
        }
        let (more, next) = (self.bulk.waiting() > 0, self.bursts.next());
        self.pace.looked(self.last_turn, self.bulk.taken(), more, next);
        if !more && next > self.last_turn {
            self.batch.complete();
            self.seal_if_due(self.last_turn);
        }
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// A turn that comes far too late, or a door that stood full, means that nobody was looking: no silence counts.
    fn look_at_the_clock(&mut self) {
        let now = self.clock.now();
        let gap = now.since(self.last_turn);
        self.last_turn = now;
        if gap > limits::TURN_GAP {
            tracing::warn!(gap_s = gap.as_secs_f64(), "the process stood still; silence of devices in that time is not counted");
            self.registry.blind(gap, now);
        }
        if self.bulk.is_full() {
            self.throttled.get_or_insert(now);
        } else if let Some(since) = self.throttled.take() {
            self.registry.blind(now.since(since), now);
        }
    }
}
