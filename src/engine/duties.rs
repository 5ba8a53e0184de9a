//! What is done by the clock, and what is done first of all.

use super::{
    Engine, TICK,
    setup::{self, Way},
};
use crate::{
    limits,
    logic::commands::{after_restart, together, used},
    model::{Boot, ClockChange, ClockReading, Command, CommandId, DeviceId, Event, EventKind, Outcome, PUSHED, Receipt},
    store::{Change, Restored, RestoredDevice},
    system::trust::Trust,
};
use std::{collections::BTreeMap, time::Duration};

/// When devices that report by HTTP were heard last is stored so often.
pub(super) const SEEN_EVERY: Duration = Duration::from_secs(300);
const CLOCK_EVERY: Duration = Duration::from_secs(5);
/// A program that sets the wall clock again and again makes no more events than this.
const CLOCK_AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// What a door stamped may need so long to get into its queue: silence is judged as of a moment earlier than now.
const FLIGHT: Duration = Duration::from_millis(20);
/// Too many judgements wait for the writer: how soon it is looked again.
const WRITER_AGAIN: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Duties {
    /// The device list is to be told.
    pub cards: Option<Boot>,
    progress: Boot,
    clock: Boot,
    looked: Boot,
    links: Boot,
    seen: Boot,
    trust: Trust,
    /// Not before this moment is stored again what was refused.
    pub again: Boot,
    /// Not before this moment is silence judged: the writer has not taken what was judged long before.
    expire: Boot,
}

impl Duties {
    pub fn new(now: Boot, trust: Trust) -> Duties {
        Duties {
            cards: None,
            progress: now + limits::PROGRESS_EVERY,
            clock: now + CLOCK_EVERY,
            looked: now,
            links: now + TICK,
            seen: now + SEEN_EVERY,
            trust,
            again: now,
            expire: now,
        }
    }

    /// The wall clock was set: to be looked at in this turn, unless somebody sets it all the time.
    pub fn clock_was_set(&mut self) {
        self.clock = self.clock.min(self.looked + CLOCK_AT_MOST_EVERY);
    }
}

impl Engine {
    /// The first events of an epoch, and what is remembered of devices and commands.
    pub(super) async fn begin(&mut self) {
        let Some(restored) = self.restored.take() else { return };
        let now = self.clock.now();
        let changes = self.look_at_wall_clock(now);
        self.submit(vec![epoch_event(&restored, now)], Receipt::none()).await;
        self.tell_clock(now, &changes).await;
        self.restore_devices(&restored, now);
        let upkeep = self.restore_upkeep(&restored, now);
        restored.relays.iter().for_each(|(device, point, on)| self.relays.restore(device.clone(), point.clone(), *on));
        let rows: Vec<Change> = self.registry.statuses().map(Change::Status).collect();
        self.registry.statuses().for_each(|s| self.tell_local(&s));
        for group in rows.chunks(limits::STORE_GROUP) {
            self.submit(group.to_vec(), Receipt::none()).await;
        }
        if !upkeep.is_empty() {
            self.submit(upkeep, Receipt::none()).await;
        }
        self.end_open_commands(&restored, now).await;
        self.begin_schedules(&restored, now).await;
        self.publish_cards();
        self.last_turn = self.clock.now();
    }

    /// None is executed again. Those to several devices end with what is known of each.
    async fn end_open_commands(&mut self, restored: &Restored, now: Boot) {
        let mut parts: BTreeMap<CommandId, Option<Outcome>> = BTreeMap::new();
        let mut wholes = Vec::new();
        for (command, phase) in &restored.open_commands {
            let of = command.parts();
            if !of.is_empty() {
                // Its parts come behind it: what stands before it under such an id is another command.
                parts.extend(of.iter().map(|part| (part.id.clone(), restored.ended_parts.get(&part.id).cloned())));
                wholes.push((command.id.clone(), of));
                continue;
            }
            let outcome = after_restart(now, command.received <= now, command, *phase);
            tracing::warn!(id = %command.id, phase = outcome.phase.word(), reason = %outcome.reason, "command ended by the restart");
            let (id, device) = (command.id.clone(), command.device.clone());
            let mut changes = vec![Change::CommandDone { id: id.clone(), device: device.clone(), outcome: outcome.clone(), at: now }];
            match parts.get_mut(&id) {
                Some(end) => *end = Some(outcome),
                None => changes.push(self.end_event(id, device, outcome)),
            }
            self.submit(changes, Receipt::none()).await;
        }
        for (id, of) in wholes {
            let end = |part: Command| (part.device, parts.get(&part.id).cloned().flatten().unwrap_or_else(|| used(&part.id)));
            let outcome = together(of.into_iter().map(end).collect());
            tracing::warn!(%id, phase = outcome.phase.word(), reason = %outcome.reason, "command ended by the restart");
            let changes = self.end_told(id, DeviceId::gateway(), outcome).to_vec();
            self.submit(changes, Receipt::none()).await;
        }
    }

    fn restore_devices(&mut self, restored: &Restored, now: Boot) {
        // Evidence of another boot has another clock: it says nothing here.
        let evidence = |d: &RestoredDevice| d.status.evidence.filter(|_| d.boot == restored.boot);
        let config = std::sync::Arc::clone(&self.config);
        for device in config.devices.iter().filter(|d| !d.broadcast) {
            let before = restored.devices.iter().find(|d| d.status.device == device.id);
            self.registry.watch(now, &device.id, setup::watch(device, &config.watch), before.and_then(evidence));
        }
        for device in &config.framed {
            let before = restored.devices.iter().find(|d| d.status.device == device.id);
            self.registry.watch(now, &device.id, setup::watch_framed(device, &config.watch), before.and_then(evidence));
        }
        let way = |via: &str| if via == PUSHED { config.api.is_some() } else { config.mqtt.is_some() };
        let guests = restored.devices.iter().filter(|d| d.via.as_deref().is_some_and(way));
        for guest in guests.take(limits::REGISTERED_DEVICES) {
            let id = &guest.status.device;
            if self.registry.contains(id) {
                continue;
            }
            // The configuration of today counts, not that of the day on which the device registered.
            let way = guest.via.as_deref().and_then(|via| Way::find(&config, via));
            let allowed = way.map_or(guest.offline_after, Way::offline_after);
            self.guests.add(id, guest.quarantined, way);
            self.registry.watch(now, id, setup::guest_watch(allowed, way, &config.watch), evidence(guest));
        }
    }

    /// The earliest moment at which something is to be done by the clock.
    pub(super) fn next_due(&self) -> Boot {
        let d = &self.duties;
        let registry = self.registry.next_due().map(|at| (at + FLIGHT).max(d.expire));
        let seen = self.config.api.as_ref().map(|_| d.seen);
        let commands = self.commands.next_due().map(|at| at + Duration::from_micros(1));
        [
            registry,
            commands,
            self.refreshes.next_due(),
            self.rules.next_due(),
            self.windows_due(),
            // The rest of a burst comes along.
            self.batch.due().map(|at| self.pace.rests().map_or(at, |until| at.max(until))),
            self.letters.due(),
            self.upkeep.due(),
            self.planner.due(),
            self.relays.due(),
            d.cards,
            self.listing.as_ref().map(|_| self.last_turn),
            self.late.due(self.last_turn),
            Some(d.progress),
            Some(d.clock),
            seen,
        ]
        .into_iter()
        .flatten()
        .fold(self.last_turn + TICK, Boot::min)
    }

    pub(super) async fn run_timers(&mut self) {
        let now = self.clock.now();
        self.seal_if_due(now);
        self.hand_in_late().await;
        self.expire_silence(now).await;
        if self.commands.next_due().is_some_and(|at| at < now) {
            let mut out = vec![];
            self.commands.expire(now, &mut out);
            self.carry_orders(out).await;
        }
        self.refresh().await;
        self.expire_windows(now);
        self.expire_rules(now);
        self.carry_rules().await;
        if self.letters.due().is_some_and(|at| at <= now) {
            self.tell_dead_letters(now).await;
        }
        if self.upkeep.due().is_some_and(|at| at <= now) {
            self.write_attributes(now).await;
        }
        if self.planner.due().is_some_and(|at| at <= now) {
            self.run_schedules(now).await;
        }
        if self.relays.due().is_some_and(|at| at <= now) {
            self.write_relays(now).await;
        }
        if self.duties.links <= now {
            self.duties.links = now + TICK;
            self.look_at_links(now).await;
        }
        self.store_again(now).await;
        if self.listing.is_some() || self.duties.cards.is_some_and(|at| at <= now) {
            self.list_cards();
        }
        if self.duties.clock <= now {
            self.duties.clock = now + CLOCK_EVERY;
            self.watch_clock(now).await;
        }
        if self.duties.seen <= now {
            self.duties.seen = now + SEEN_EVERY;
            self.store_last_seen(now).await;
        }
        if self.duties.progress <= now {
            self.duties.progress = now + limits::PROGRESS_EVERY;
            let mut alive = self.store.spool().alive();
            alive.append(&mut self.store.events().alive());
            self.submit(vec![Change::Event(Event { at: now, kind: EventKind::Progress { alive } })], Receipt::none()).await;
        }
    }

    /// Evidence that waits in a door is not overtaken by its own timer.
    async fn expire_silence(&mut self, now: Boot) {
        let mut upto = now.saturating_sub(FLIGHT);
        if self.registry.next_due().is_none_or(|at| at > upto) {
            return;
        }
        for waiting in [self.urgent.oldest(), self.bulk.oldest()].into_iter().flatten() {
            upto = upto.min(waiting);
        }
        // Each is an event and a row.
        let most = (self.late.room() / 2).min(limits::EXPIRE_TURN);
        if most == 0 {
            self.duties.expire = now + WRITER_AGAIN;
            return;
        }
        self.registry.expire(upto, most, &mut self.moves);
        if !self.moves.is_empty() {
            self.carry_moves(vec![], Receipt::none()).await;
        }
    }

    async fn watch_clock(&mut self, now: Boot) {
        let changes = self.look_at_wall_clock(now);
        self.tell_clock(now, &changes).await;
    }

    fn look_at_wall_clock(&mut self, now: Boot) -> Vec<ClockChange> {
        self.duties.looked = now;
        let believed = self.duties.trust.see(now, self.clock.observe());
        self.store.set_clock(believed)
    }

    /// The first look at a boot corrects nothing that was sent.
    async fn tell_clock(&mut self, now: Boot, changes: &[ClockChange]) {
        let mut events = Vec::new();
        for change in changes {
            let ClockReading { offset_ms, quality, error_ms, source } = change.after;
            let (quality, source) = (quality.word(), source.word());
            tracing::info!(boot = change.boot.0, offset_ms, quality, source, error_ms, "wall clock");
            if change.before.is_some() {
                events.push(Change::Event(Event { at: now, kind: EventKind::clock(change) }));
            }
        }
        if !events.is_empty() {
            self.submit(events, Receipt::none()).await;
        }
        if !changes.is_empty() {
            self.planner.wake(now);
        }
        if changes.iter().any(|c| c.before.is_some_and(|b| b.offset_ms != c.after.offset_ms)) {
            self.settle_maintenance(now);
        }
    }
}

fn epoch_event(restored: &Restored, at: Boot) -> Change {
    let before = restored.before;
    let kind = EventKind::Epoch {
        epoch: restored.epoch,
        before: before.map(|b| b.epoch),
        telemetry: before.map_or(0, |b| b.telemetry),
        event: before.map_or(0, |b| b.event),
        may_have_lost_ms: before.map_or(0, |b| b.may_have_lost_ms),
    };
    Change::Event(Event { at, kind })
}
