//! One link's loop: fill the window, take what arrives, wait.

use super::{
    Pump,
    devices::Devices,
    downlink::TooMany,
    exam::Exam,
    window::{Sent, Window},
};
use crate::{
    logic::replay::{Choice, Replay, Waiting},
    model::{Boot, Stream, WallMs},
    system::tap::TAP,
    uplink::broker::{Arrived, Broker, Link, Lost, Refusal, UNSENT_MAX, Welcome},
};
use std::time::Duration;

/// What sending the rest may take after a stop…
const DRAIN: Duration = Duration::from_millis(1500);
/// …and the goodbye after that. Together below the uplink's share of the stop (`app`, 2 s), or the will would speak.
const GOODBYE: Duration = Duration::from_millis(300);

/// How a link ended.
#[derive(Debug)]
pub enum End {
    Stopped,
    Lost(Lost),
    TooManyCommands,
    /// One could not be stored; on a new link it comes again.
    CommandNotKept,
}

impl From<Lost> for End {
    fn from(lost: Lost) -> End {
        End::Lost(lost)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    /// Stopping: what is in RAM, no backlog.
    Draining {
        until: Boot,
    },
    /// The last `state` is out.
    Goodbye {
        until: Boot,
    },
}

pub struct Session<'a, B: Broker> {
    pub(super) pump: &'a mut Pump<B>,
    pub(super) link: B::Link,
    pub(super) window: Window,
    pub(super) exam: Exam,
    pub(super) began: Boot,
    replay: Replay,
    devices: Devices,
    stage: Stage,
    /// The message being written. Kept for its memory.
    pub(super) body: Vec<u8>,
    topics: Topics,
    /// Anything of the spool was acknowledged on this link.
    useful: bool,
}

struct Topics {
    state: String,
    telemetry: String,
    event: String,
}

impl<'a, B: Broker> Session<'a, B> {
    pub fn new(pump: &'a mut Pump<B>, link: B::Link, welcome: Welcome, began: Boot) -> Session<'a, B> {
        let topic = |last| pump.native.topic(last);
        let topics = Topics { state: topic("state"), telemetry: topic("telemetry"), event: topic("event") };
        Session {
            link,
            window: Window::new(welcome.receive_max, pump.clock.now()),
            exam: Exam::new(welcome.max_packet),
            began,
            replay: Replay::new(pump.config.replay_share, pump.config.replay_rate),
            devices: Devices::default(),
            stage: Stage::Serving,
            body: Vec::new(),
            topics,
            useful: false,
            pump,
        }
    }

    /// Until the link is lost or everything is said. The second: whether anything was acknowledged.
    pub async fn run(mut self, since: WallMs) -> (End, bool) {
        self.greet(since);
        let served = self.serve(since).await;
        if let Err(end) = &served {
            self.ended(end, self.pump.clock.now());
        }
        let end = match served {
            Ok(()) => {
                self.link.close().await;
                End::Stopped
            }
            Err(End::CommandNotKept) => {
                self.link.close().await;
                End::CommandNotKept
            }
            Err(end) => end,
        };
        (end, self.useful)
    }

    /// Birth first, so that a will of the session before is answered; then what there is.
    fn greet(&mut self, since: WallMs) {
        self.pump.rebirth.mark_unchanged();
        self.send_state(true, since, None);
        self.link.subscribe(self.pump.downlink.topic());
        self.devices.connected();
        // An empty list before the engine's first turn would say that there are no devices.
        if !self.pump.cards.borrow_and_update().is_empty() {
            self.devices.changed(self.pump.clock.now());
        }
    }

    async fn serve(&mut self, since: WallMs) -> Result<(), End> {
        let stop = self.pump.stop.clone();
        loop {
            let now = self.pump.clock.now();
            for id in self.pump.downlink.settled(now) {
                self.link.acknowledge(id);
            }
            if self.pump.downlink.asks_again(now) {
                return Err(End::CommandNotKept);
            }
            // From another broker back to the preferred one, in order.
            if self.stage == Stage::Serving && self.pump.leave_at.is_some_and(|at| at <= now) {
                self.stage = Stage::Draining { until: now + DRAIN };
            }
            if self.finished(now) {
                return Ok(());
            }
            self.fill(now);
            let has_backlog = self.pump.store.spool().has_backlog(self.pump.index);
            self.pump.board.backlog(has_backlog, now);
            self.pump.board.flight(self.window.len(), self.window.size());
            self.pump.board.show();

            let room = self.has_room();
            let replay = has_backlog.then(|| self.replay.held_until(now)).flatten();
            let due = [self.due(replay), self.exam_due(now), self.pump.downlink.again_at()].into_iter().flatten().min();
            let Pump { store, cards, rebirth, downlink, clock, index, .. } = &mut *self.pump;
            tokio::select! {
                biased;
                () = stop.cancelled(), if self.stage == Stage::Serving => self.stage = Stage::Draining { until: clock.now() + DRAIN },
                arrived = self.link.next() => self.arrived(arrived?)?,
                () = downlink.changed() => {}
                () = store.events().changed(*index), if room => {}
                () = store.spool().changed(*index), if room => {}
                Ok(()) = cards.changed() => self.devices.changed(clock.now()),
                Ok(()) = rebirth.changed(), if room && self.stage == Stage::Serving => {
                    self.send_state(true, since, None);
                    self.devices.connected();
                    self.devices.changed(self.pump.clock.now());
                }
                () = sleep(clock, due) => {}
            }
        }
    }

    /// Moves through the stages of an orderly end.
    fn finished(&mut self, now: Boot) -> bool {
        if let Stage::Draining { until } = self.stage {
            let (store, u) = (&self.pump.store, self.pump.index);
            let live = store.spool().has_live(u) && store.held_until(now).is_none();
            let nothing_left = self.window.is_empty() && !live && !store.events().has_next(u);
            if nothing_left || now >= until {
                let since = self.pump.wall();
                self.send_state(false, since, Some("stopped"));
                self.stage = Stage::Goodbye { until: now + GOODBYE };
            }
        }
        matches!(self.stage, Stage::Goodbye { until } if self.window.is_empty() || now >= until)
    }

    fn has_room(&self) -> bool {
        self.window.room() > 0
            && self.window.len() < self.pump.suspects.quota_room(self.pump.clock.now())
            && self.link.unsent() < UNSENT_MAX
            && !matches!(self.stage, Stage::Goodbye { .. })
    }

    fn due(&self, replay: Option<Boot>) -> Option<Boot> {
        match self.stage {
            Stage::Serving => {
                let held = self.pump.store.held_until(self.pump.clock.now());
                [self.devices.due(), replay, self.pump.leave_at, held].into_iter().flatten().min()
            }
            Stage::Draining { until } | Stage::Goodbye { until } => Some(until),
        }
    }

    fn fill(&mut self, now: Boot) {
        let Pump { cards, native, store, index, .. } = &mut *self.pump;
        if self.devices.due().is_some_and(|due| now >= due) {
            let (reading, _) = store.clock();
            self.devices.refresh(native, &cards.borrow_and_update(), reading, now);
        }
        let serving = self.stage == Stage::Serving;
        let events_wait = store.events().has_next(*index);
        while serving && self.has_room() {
            let Some(part) = self.devices.next(|| self.window.has_list() || events_wait) else { break };
            self.put(&part.topic, &part.body, true, Sent::Devices);
        }
        if serving {
            self.pump.store.spool().let_late_ones_go(self.pump.index, now);
        }
        if serving && self.examine(now) {
            return;
        }
        // Telemetry waits some seconds after a boot for a clock that is set; state and events do not.
        let free = self.pump.store.held_until(now).is_none();
        // What said that something waits and then had nothing is not asked again in this turn.
        let mut asked = Waiting { events: true, live: free, backlog: serving && free, room: 0, window: self.window.size() };
        while self.has_room() {
            let (store, u) = (&self.pump.store, self.pump.index);
            let waiting = Waiting {
                events: asked.events && self.takes_more(Stream::Event) && store.events().has_next(u),
                live: asked.live && self.takes_more(Stream::Telemetry) && store.spool().has_live(u),
                backlog: asked.backlog
                    && self.takes_more(Stream::Telemetry)
                    && self.window.takes_backlog()
                    && self.replay.held_until(now).is_none()
                    && store.spool().has_backlog(u),
                room: self.window.room(),
                ..asked
            };
            let Some(choice) = self.replay.choose(waiting) else { break };
            match (self.send(choice), choice) {
                (true, _) => self.replay.sent(choice, waiting.live && waiting.backlog),
                (false, Choice::Event) => asked.events = false,
                (false, Choice::Live) => asked.live = false,
                (false, Choice::Backlog) => asked.backlog = false,
            }
        }
    }

    /// Whether there was one.
    fn send(&mut self, choice: Choice) -> bool {
        let (store, u) = (self.pump.store.clone(), self.pump.index);
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        let mut watched = None;
        let sent = match choice {
            Choice::Event => store.events().next(u).map(|out| {
                self.pump.native.events(out.key, &out.events, out.boot, store.clock_of(out.boot), &mut body);
                Sent::Events(out.key)
            }),
            Choice::Live | Choice::Backlog => {
                let next = if choice == Choice::Live { store.spool().next_live(u) } else { store.spool().next_backlog(u) };
                next.map(|out| {
                    self.pump.native.telemetry(&out.sealed, out.backlog, store.clock_of(out.sealed.boot), &mut body);
                    let key = out.sealed.key;
                    if choice == Choice::Backlog {
                        self.replay.replayed(out.sealed.samples(), self.pump.clock.now());
                    }
                    watched = TAP.is_open().then_some(out.sealed);
                    Sent::Telemetry(key)
                })
            }
        };
        if let Some(Sent::Telemetry(key) | Sent::Events(key)) = sent
            && self.is_set_aside(key, choice, &body)
        {
            self.body = body;
            return true;
        }
        if let Some(sent) = sent {
            let topic = if choice == Choice::Event { &self.topics.event } else { &self.topics.telemetry };
            let id = self.link.publish(topic, &body, false);
            self.book(id, sent, topic.len() + body.len());
            if let Some(sealed) = watched {
                let uplink = &self.pump.config.id;
                TAP.sent(&sealed.frames, sealed.key, self.pump.clock.now(), || format!("{uplink}, packet {id}, {} bytes", body.len()));
            }
        }
        self.body = body;
        sent.is_some()
    }

    /// A suspect waits for its turn; what is larger than the broker takes is parted.
    fn is_set_aside(&mut self, key: crate::model::Key, choice: Choice, body: &[u8]) -> bool {
        if self.is_held(key) {
            return true;
        }
        let topic = if choice == Choice::Event { &self.topics.event } else { &self.topics.telemetry };
        let fits = self.fits(topic, body);
        if !fits && self.hold(key) {
            self.not_taken(key, Refusal::TooLarge, self.pump.clock.now());
        }
        !fits
    }

    pub(super) fn topic(&self, stream: Stream) -> &str {
        match stream {
            Stream::Telemetry => &self.topics.telemetry,
            Stream::Event => &self.topics.event,
        }
    }

    fn send_state(&mut self, online: bool, since: WallMs, reason: Option<&str>) {
        let body = self.pump.native.state(self.pump.presence(online, since, reason));
        let topic = self.topics.state.clone();
        self.put(&topic, &body, true, Sent::State);
    }

    pub(super) fn put(&mut self, topic: &str, body: &[u8], retain: bool, what: Sent) {
        let id = self.link.publish(topic, body, retain);
        self.book(id, what, topic.len() + body.len());
    }

    fn book(&mut self, id: u16, what: Sent, bytes: usize) {
        self.window.sent(id, what, bytes, self.pump.clock.now());
        self.pump.board.sent(bytes);
    }

    fn arrived(&mut self, arrived: Arrived) -> Result<(), End> {
        let now = self.pump.clock.now();
        match arrived {
            Arrived::Acknowledged(id) => self.acknowledged(id, now),
            Arrived::Refused(id, why) => self.refused(id, why, now),
            Arrived::Message(message) => {
                self.pump.downlink.message(message, now).map_err(|TooMany| End::TooManyCommands)?;
            }
            Arrived::Subscribed { granted: true } | Arrived::Written => {}
            Arrived::Subscribed { granted: false } => {
                let topic = self.pump.downlink.topic();
                tracing::warn!(uplink = %self.pump.config.id, topic, "the broker refuses the subscription: commands will not arrive");
            }
        }
        Ok(())
    }

    fn acknowledged(&mut self, id: u16, now: Boot) {
        let Some((what, at)) = self.window.acknowledged(id, now) else { return };
        self.pump.board.acknowledged(now - at, now);
        match what {
            Sent::Telemetry(key) => {
                self.pump.store.spool().acknowledged(self.pump.index, key, now);
                if TAP.is_open() {
                    TAP.acknowledged(key, now);
                }
            }
            Sent::Events(key) => self.pump.store.events().acknowledged(self.pump.index, key),
            Sent::State => {
                self.pump.greeted = true;
                return;
            }
            Sent::Devices => return,
        }
        if let Sent::Telemetry(key) | Sent::Events(key) = what {
            self.was_taken(key, at, now);
        }
        self.useful = true;
    }
}

async fn sleep(clock: &crate::system::clock::Clock, due: Option<Boot>) {
    match due {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}
