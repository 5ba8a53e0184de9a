//! One simulation: the plan is carried out, then everything heals, the backlog drains, the process stops in order.

use crate::{
    brain,
    bus::{Bus, SETPOINT},
    check,
    cloud::Cloud,
    disk,
    gateway::{Gateway, LINES, Surroundings, devices},
    plan::{Action, Plan},
    publisher::{self, Endpoint},
    world::{Arrival, Asked, End, World},
};
use fieldgate::{
    limits,
    model::{Boot, State},
    uplink::simulated::{Faults, Simulated},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tempfile::TempDir;

pub struct Outcome {
    pub plan: Plan,
    pub violations: Vec<String>,
    pub trace: Vec<String>,
    pub hash: u64,
    pub figures: check::Figures,
    pub arrivals: Vec<Arrival>,
}

pub fn carry_out(plan: Plan) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(simulate(plan))
}

/// What ends a fault.
enum Heal {
    Unit(usize, u8),
    Plug(usize),
    Broker(fn(&mut Faults)),
    Spool,
    State,
}

struct Driver {
    world: Arc<World>,
    plan: Plan,
    dir: TempDir,
    buses: [Arc<Bus>; 2],
    cloud: Cloud,
    endpoint: Endpoint,
    gateway: Option<Gateway>,
    heals: BTreeMap<(u64, u64), Heal>,
    heal_number: u64,
    down_ms: u64,
    started: Boot,
    spool_full: Option<Boot>,
    /// Since when it takes writes again. The next try may come up to `limits::WRITE_RETRY_MAX` after that.
    spool_healed: Option<(Boot, Boot)>,
    commands: u64,
    sent: usize,
}

async fn simulate(plan: Plan) -> Outcome {
    let world = Arc::new(World::new());
    if let Some((0, Action::ClockStep { days, synchronised })) = plan.actions.first() {
        world.step_clock(*days, *synchronised);
    }
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a place for files");
    let buses = [0, 1].map(|n| Arc::new(Bus::new(LINES[n], n == 1, plan.units[n], plan.seed, world.clone())));
    let broker = Simulated::default();
    broker.faults(|f| *f = calm());
    let optional = Simulated::default();
    // Away until everything heals, or there all the time.
    optional.faults(|f| f.refuse = plan.seed.is_multiple_of(2));
    let cloud = Cloud { broker, optional, world: world.clone() };
    let endpoint = Endpoint::default();
    let every = Duration::from_millis(plan.publish_every_ms);
    let publishers: Vec<_> = (0..plan.publishers)
        .map(|n| tokio::spawn(publisher::run(n, every + Duration::from_millis(7 * n), endpoint.clone(), world.clone())))
        .collect();
    let mut driver = Driver {
        world: world.clone(),
        plan: plan.clone(),
        dir,
        buses,
        cloud,
        endpoint,
        gateway: None,
        heals: BTreeMap::new(),
        heal_number: 0,
        down_ms: 0,
        started: Boot(0),
        spool_full: None,
        spool_healed: None,
        commands: 0,
        sent: 0,
    };
    driver.start().await;
    for (at, action) in &plan.actions {
        driver.until(*at).await;
        driver.act(action).await;
    }
    driver.until(plan.ends_ms).await;
    driver.heal_everything();
    driver.settle().await;
    publishers.iter().for_each(tokio::task::JoinHandle::abort);
    for publisher in publishers {
        assert!(publisher.await.is_err_and(|e| e.is_cancelled()), "a publisher runs for ever");
    }
    driver.stop().await;
    driver.cloud.collect();
    let mut log = world.log();
    let figures = check::all(&plan, &mut log);
    Outcome {
        plan,
        violations: std::mem::take(&mut log.violations),
        trace: std::mem::take(&mut log.lines),
        hash: log.hash(),
        figures,
        arrivals: std::mem::take(&mut log.arrivals),
    }
}

/// As the real client does, a link on which nothing is acknowledged is given up.
fn calm() -> Faults {
    Faults { patience: Some(Duration::from_secs(3)), ..Faults::default() }
}

impl Driver {
    fn spool_full_since(&self, now: Boot) -> Option<Boot> {
        let healed = self.spool_healed.filter(|(_, at)| now - *at <= limits::WRITE_RETRY_MAX + Duration::from_millis(100));
        self.spool_full.or(healed.map(|(since, _)| since))
    }

    /// It may not have been written since the last time.
    fn spool_fills(&mut self) {
        let now = self.world.now();
        self.spool_full = Some(self.spool_full_since(now).unwrap_or(now));
    }

    async fn start(&mut self) {
        let surroundings =
            Surroundings { world: &self.world, plan: &self.plan, dir: self.dir.path(), buses: &self.buses, cloud: &self.cloud };
        let gateway = Gateway::start(&surroundings).await;
        let life = self.world.log().life;
        self.started = self.world.now();
        self.endpoint.set(Some((life, gateway.doors.clone())));
        self.gateway = Some(gateway);
    }

    /// Lets time pass, with the heals and the kills that fall into it.
    async fn until(&mut self, ms: u64) {
        loop {
            let next = self.heals.first_key_value().map_or(ms, |((at, _), _)| (*at).min(ms));
            let world = self.world.clone();
            let left = Duration::from_millis(next.saturating_sub(world.ms()));
            tokio::select! {
                biased;
                () = world.kill.notified() => {
                    world.note("kill: now");
                    self.restart(false, self.down_ms).await;
                }
                () = tokio::time::sleep(left) => {}
            }
            self.look_for_the_dead();
            while self.heals.first_key_value().is_some_and(|((at, _), _)| *at <= self.world.ms()) {
                let heal = self.heals.pop_first().map(|(_, heal)| heal);
                heal.into_iter().for_each(|h| self.heal(&h));
            }
            if self.world.ms() >= ms {
                return;
            }
        }
    }

    fn look_for_the_dead(&self) {
        if self.gateway.as_ref().is_some_and(Gateway::has_died) {
            self.world.violation("a task of the gateway has ended by itself");
        }
    }

    /// Ends this run of the process and starts the next one.
    async fn restart(&mut self, clean: bool, down_ms: u64) {
        self.endpoint.set(None);
        let at = self.world.now();
        let Some(gateway) = self.gateway.take() else { return };
        if clean {
            gateway.stop().await;
        } else {
            gateway.kill(&self.world).await;
        }
        self.cloud.collect();
        self.cloud.optional.take_received();
        let end = End { at: if clean { self.world.now() } else { at }, clean, spool_full_since: self.spool_full_since(at) };
        self.spool_healed = None;
        {
            let mut log = self.world.log();
            log.ends.push(end);
            log.life += 1;
            log.kill_at_write = false;
            log.kill_at_publish = None;
        }
        self.world.note(format!("the process is down for {down_ms} ms"));
        tokio::time::sleep(Duration::from_millis(down_ms)).await;
        self.heal(&Heal::Spool);
        self.heal(&Heal::State);
        self.spool_healed = None;
        self.start().await;
    }

    fn later(&mut self, for_ms: u64, heal: Heal) {
        self.heal_number += 1;
        self.heals.insert((self.world.ms() + for_ms, self.heal_number), heal);
    }

    fn broker(&mut self, change: impl FnOnce(&mut Faults), for_ms: u64, back: fn(&mut Faults)) {
        self.cloud.broker.faults(change);
        self.later(for_ms, Heal::Broker(back));
    }

    async fn act(&mut self, action: &Action) {
        self.world.note(format!("* {action:?}"));
        match *action {
            Action::Ill { line, unit, ill, chance, for_ms } => {
                self.buses[line].set_ill(unit, Some((ill, chance)));
                self.later(for_ms, Heal::Unit(line, unit));
            }
            Action::Unplug { line, for_ms } => {
                self.buses[line].plug(false);
                self.later(for_ms, Heal::Plug(line));
            }
            Action::BrokerDown { for_ms } => {
                self.broker(|f| f.refuse = true, for_ms, |f| f.refuse = false);
                self.cloud.broker.cut();
            }
            Action::LinkCut => self.cloud.broker.cut(),
            Action::AckLost { every, for_ms } => self.broker(|f| f.lose_answer_every = Some(every), for_ms, |f| f.lose_answer_every = None),
            Action::CutAfter { messages, for_ms } => self.broker(|f| f.cut_after = Some(messages), for_ms, |f| f.cut_after = None),
            Action::SlowBroker { answer_ms, reverse, for_ms } => {
                let change = |f: &mut Faults| (f.answer_after, f.reverse) = (Duration::from_millis(answer_ms), reverse);
                self.broker(change, for_ms, |f| (f.answer_after, f.reverse) = (Duration::ZERO, false));
            }
            Action::SpoolFull { for_ms } => {
                disk::fill(self.dir.path(), disk::SPOOL, true);
                self.spool_fills();
                self.later(for_ms, Heal::Spool);
            }
            // A disk that is full at the start lets no store open; that is not this fault.
            Action::StateFull { .. } if self.world.now() - self.started < Duration::from_secs(1) => {}
            Action::StateFull { for_ms } => {
                disk::fill(self.dir.path(), disk::STATE, true);
                let life = self.world.log().life;
                self.world.log().state_full.insert(life);
                self.later(for_ms, Heal::State);
                if self.plan.disk_max < 1 << 20 {
                    // At its limit the spool makes room only after the gap is written in the state's file.
                    self.spool_fills();
                    self.later(for_ms, Heal::Spool);
                }
            }
            Action::Kill { down_ms } => self.restart(false, down_ms).await,
            Action::KillAtWrite { down_ms } => {
                self.down_ms = down_ms;
                self.world.log().kill_at_write = true;
            }
            Action::KillAtPublish { after, down_ms } => {
                self.down_ms = down_ms;
                self.world.log().kill_at_publish = Some(after);
            }
            Action::CleanRestart { down_ms } => self.restart(true, down_ms).await,
            Action::ClockStep { days, synchronised } => self.world.step_clock(days, synchronised),
            Action::ClockShift { seconds } => self.world.shift_clock(seconds, true),
            Action::Level { value } => {
                self.buses[0].set_word(1, brain::LEVEL, value);
                brain::is_done(&self.buses[0]);
            }
            Action::Command { device, times, expires_ms, dated, read } => self.command(device, times, expires_ms, dated, read),
            Action::Repeat => self.repeat(),
        }
    }

    fn command(&mut self, device: usize, times: u64, expires_ms: u64, dated: bool, read: bool) {
        self.commands += 1;
        let id = format!("c{}", self.commands);
        let value = u16::try_from(1000 + self.commands).expect("few commands");
        let what = if read { r#""read":[]"#.into() } else { format!(r#""write":{{"r{SETPOINT}":{value}}}"#) };
        let issued = if dated { format!(r#","issued_at":{}"#, self.world.true_wall_ms()) } else { String::new() };
        let seconds = Duration::from_millis(expires_ms).as_secs_f64();
        let body = format!(r#"{{"id":"{id}","device":"d{device}",{what}{issued},"expires_in_s":{seconds}}}"#);
        {
            let mut log = self.world.log();
            if !read {
                log.writers.insert(value, id.clone());
            }
            let asked = Asked {
                body: body.clone(),
                value: (!read).then_some(value),
                issued: self.world.now().ms(),
                expires_ms,
                dated,
                ..Asked::default()
            };
            log.commands.insert(id, asked);
        }
        for _ in 0..times {
            self.cloud.broker.command(body.clone());
            self.sent += 1;
        }
    }

    /// One of the commands so far, chosen by the count of messages, which is the same in each run.
    fn repeat(&mut self) {
        let bodies: Vec<String> = self.world.log().commands.values().map(|c| c.body.clone()).collect();
        if let Some(body) = bodies.get(self.sent * 7 % bodies.len().max(1)) {
            self.cloud.broker.command(body.clone());
            self.sent += 1;
        }
    }

    fn heal(&mut self, heal: &Heal) {
        match heal {
            Heal::Unit(line, unit) => self.buses[*line].set_ill(*unit, None),
            Heal::Plug(line) => self.buses[*line].plug(true),
            Heal::Broker(back) => self.cloud.broker.faults(back),
            Heal::Spool => {
                if let Some(since) = self.spool_full.take() {
                    self.spool_healed = Some((since, self.world.now()));
                    disk::fill(self.dir.path(), disk::SPOOL, false);
                }
            }
            Heal::State => disk::fill(self.dir.path(), disk::STATE, false),
        }
    }

    fn heal_everything(&mut self) {
        self.world.note("* everything heals");
        while let Some((_, heal)) = self.heals.pop_first() {
            self.heal(&heal);
        }
        self.cloud.broker.faults(|f| *f = calm());
        self.cloud.optional.faults(|f| f.refuse = false);
        let mut log = self.world.log();
        log.kill_at_write = false;
        log.kill_at_publish = None;
    }

    /// Until everything is delivered, answered and online; probes of a dead unit come once a minute.
    async fn settle(&mut self) {
        let begun = self.world.ms();
        let mut missing = String::new();
        while self.world.ms() < begun + 600_000 {
            let now = self.world.ms();
            self.until(now + 200).await;
            if self.sent != self.cloud.broker.acknowledged_commands().len() && (now - begun) % 30_000 < 200 {
                // A command that could not be kept is brought on the next link only.
                self.cloud.broker.cut();
            }
            missing = self.missing().await;
            // The link may be waiting for its next attempt, and a batch for company.
            if missing.is_empty() && now >= begun + 15_000 {
                return;
            }
        }
        self.world.violation(format!("ten minutes after everything healed: {missing}"));
    }

    async fn missing(&self) -> String {
        let Some(gateway) = &self.gateway else { return "the gateway".into() };
        let acknowledged = self.cloud.broker.acknowledged_commands().len();
        if acknowledged < self.sent {
            return format!("{acknowledged} of {} command messages are acknowledged", self.sent);
        }
        let Some(snapshot) = gateway.handle.snapshot().await else { return "the engine".into() };
        if snapshot.commands_open > 0 {
            return format!("{} commands are open", snapshot.commands_open);
        }
        for device in devices(&self.plan) {
            let status = snapshot.devices.iter().find(|d| d.device == device.id);
            if status.is_none_or(|s| s.state != State::Online) {
                return format!("{:?}", status);
            }
        }
        if gateway.is_drained() {
            String::new()
        } else {
            format!("{:?} {:?}", gateway.store.spool().alive(), gateway.store.events().alive())
        }
    }

    async fn stop(&mut self) {
        self.endpoint.set(None);
        let Some(gateway) = self.gateway.take() else { return };
        let moves = gateway.store.moves(u32::MAX).expect("what was stored is read");
        self.world.log().moves = moves.into_iter().rev().map(|(device, row)| (device, row.state, row.cause, row.at)).collect();
        let (drained, highest, sealed) = gateway.stop().await;
        if !drained {
            self.world.violation("a stop in calm weather leaves something unsent");
        }
        let end = End { at: self.world.now(), clean: true, spool_full_since: None };
        let mut log = self.world.log();
        log.ends.push(end);
        log.highest = highest;
        log.sealed = sealed;
    }
}
