//! The pump: from the spool to the cloud, and released only by its own proof of receipt.
//!
//! ```text
//!            ┌────────── backoff ◄───────── lost: what was in flight returns to the spool ──────────┐
//! connect ───┴─► birth, devices ─► events in order ─► live telemetry and backlog (logic::replay) ───┤
//!                                                                                                   └─ stop: what is
//!                in RAM for at most 1.5 s, then `state` offline, DISCONNECT
//! ```
//! Invariants: a batch or event message is released by the PUBACK of the packet that carried it, on the link that
//! carried it; the spool is the only queue that sends again; nothing here waits for the disk.
//!
//! Absent on purpose: progress events (the engine's), retry of a single message (a link is dropped whole).

mod board;
mod devices;
mod downlink;
mod exam;
mod session;
mod window;

use super::{
    broker::{Broker, Hello, Lost, NoLink, Welcome},
    brokers::Brokers,
    client::Client,
    dialect::{Native, Presence},
};
use crate::{
    config, limits,
    logic::{
        backoff::Backoff,
        suspects::{Blame, Suspects},
    },
    model::{Boot, DeviceCard, Epoch, GatewayId, Stream, UplinkFigures, UplinkIndex, Urgent, WallMs},
    store::Store,
    system::clock::Clock,
};
use board::Board;
use downlink::Downlink;
use session::{End, Session};
use std::{sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// A link that the broker closes this soon after accepting it: most often a second client with the same id.
const USURPED: Duration = Duration::from_secs(2);

/// What an uplink is made of.
pub struct Parts {
    pub config: config::Uplink,
    /// Its place among the holders that the store was opened with.
    pub index: UplinkIndex,
    pub gateway: GatewayId,
    pub version: &'static str,
    /// Of this run of the process, as `Restored` names it.
    pub epoch: Epoch,
    pub store: Store,
    pub urgent: mpsc::Sender<Urgent>,
    pub cards: watch::Receiver<Arc<Vec<DeviceCard>>>,
    /// Changes when birth and device list are to be sent again.
    pub rebirth: watch::Receiver<u64>,
    pub figures: watch::Sender<UplinkFigures>,
    pub clock: Clock,
    pub stop: CancellationToken,
}

/// Connects for ever. On stop it sends what is in RAM and unsent for at most 1.5 s, says goodbye and ends.
pub async fn run(parts: Parts) {
    let of = &parts.config;
    let name = |host: &str, port: u16| Arc::from(format!("{host}:{port}"));
    let others: Vec<_> =
        of.fallback.iter().map(|at| (name(&at.host, at.port), Client::to(at.host.clone(), at.port, at.tls.clone(), of.version))).collect();
    let brokers = Brokers::new((name(&of.host, of.port), Client::new(of)), others);
    run_with(parts, brokers).await;
}

/// The same on any broker: the simulation brings its own.
pub async fn run_with<B: Broker>(parts: Parts, broker: B) {
    Pump::new(parts, broker).run().await;
}

struct Pump<B> {
    config: config::Uplink,
    index: UplinkIndex,
    epoch: Epoch,
    store: Store,
    cards: watch::Receiver<Arc<Vec<DeviceCard>>>,
    rebirth: watch::Receiver<u64>,
    clock: Clock,
    stop: CancellationToken,
    broker: B,
    native: Native,
    board: Board,
    downlink: Downlink,
    backoff: Backoff,
    /// Counts connection attempts: a will belongs to the birth of the same session.
    session: u64,
    /// Birth was acknowledged on the last link.
    greeted: bool,
    suspects: Suspects,
    /// Why the last message was not taken: its parts are tried in the same way.
    blame: Blame,
    /// On another broker than the preferred one: when that is tried again.
    leave_at: Option<Boot>,
}

impl<B: Broker> Pump<B> {
    fn new(parts: Parts, broker: B) -> Pump<B> {
        let Parts { config, index, gateway, version, epoch, store, urgent, cards, rebirth, figures, clock, stop } = parts;
        let native = Native::new(gateway, version, &config.topic_prefix);
        let downlink = Downlink::new(config.id.clone(), native.topic("command"), urgent, store.clone());
        let board = Board::new(config.id.clone(), figures, clock.now());
        // Different for every run, and the same in a simulation that starts the same.
        let backoff = Backoff::new(config.reconnect_max, epoch.0 ^ clock.now().0);
        Pump {
            config,
            index,
            epoch,
            store,
            cards,
            rebirth,
            clock,
            stop,
            broker,
            native,
            board,
            downlink,
            backoff,
            session: 0,
            greeted: false,
            suspects: Suspects::default(),
            blame: Blame::Content,
            leave_at: None,
        }
    }

    async fn run(mut self) {
        while !self.stop.is_cancelled() {
            self.session += 1;
            let since = self.wall();
            let hello = self.hello(since);
            let stop = self.stop.clone();
            let linked = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                linked = self.broker.connect(&hello) => linked,
            };
            let (name, preferred) = self.broker.in_use();
            self.leave_at = (!preferred).then(|| self.clock.now() + limits::BROKER_RETURN);
            self.board.broker(name);
            match linked {
                Ok((link, welcome)) => {
                    if self.serve(link, welcome, since).await {
                        break;
                    }
                }
                Err(why) => self.unreachable(&why),
            }
            self.board.show();
            let wait = self.clock.now() + self.backoff.next_wait();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.clock.sleep_until(wait) => {}
            }
        }
        self.board.stopped(self.clock.now());
        self.board.show();
    }

    /// One link, from birth to its end. `true`: stopped in order.
    async fn serve(&mut self, link: B::Link, welcome: Welcome, since: WallMs) -> bool {
        let began = self.clock.now();
        self.board.up(began);
        self.downlink.connected(welcome.resumed, began);
        self.greeted = false;
        let session = Session::new(self, link, welcome, began);
        let (end, useful) = session.run(since).await;
        self.store.spool().return_unacknowledged(self.index);
        self.store.events().return_unacknowledged(self.index);
        self.broker.ended(useful);
        let now = self.clock.now();
        // A link on which nothing is ever acknowledged was not a good one, however long it lasted.
        let mute = !useful && matches!(end, End::Lost(Lost::Unacknowledged(_)));
        self.backoff.ended(if mute { Duration::ZERO } else { now - began }, useful);
        match end {
            // Else it left for the preferred broker.
            End::Stopped => return self.stop.is_cancelled(),
            End::Lost(Lost::Closed) if now - began < USURPED && !(self.greeted && self.suspects.is_wary()) => {
                let id = &self.config.client_id;
                self.board
                    .down(format!("the broker closed the connection right after accepting it; is the client id {id} used twice?"), now);
            }
            End::Lost(_) if mute => self.board.down("the broker acknowledges nothing; everything is kept here and sent again".into(), now),
            End::Lost(Lost::Closed) if self.suspects.is_stuck(Stream::Telemetry) => {
                let topic = self.native.topic("telemetry");
                self.board.down(format!("the broker closes the connection on every message on {topic}; check its access rules"), now);
            }
            End::Lost(why) => self.board.down(why.to_string(), now),
            End::CommandNotKept => {
                self.board.down("a command could not be stored; connected anew so that the broker brings it again".into(), now)
            }
            End::TooManyCommands => self.board.down("more commands came than can be open at once; the broker keeps the rest".into(), now),
        }
        false
    }

    fn unreachable(&mut self, why: &NoLink) {
        self.board.down(why.to_string(), self.clock.now());
    }

    fn wall(&self) -> WallMs {
        self.store.clock().0.wall(self.clock.now())
    }

    fn hello(&self, since: WallMs) -> Hello {
        let will = self.native.state(self.presence(false, since, Some("connection lost")));
        Hello {
            client_id: self.config.client_id.clone(),
            username: self.config.username.clone(),
            password: self.config.password.clone(),
            keep_alive: self.config.keep_alive,
            will: (self.native.topic("state"), will),
            judged_at: self.store.latest_known(self.clock.now()),
        }
    }

    fn presence<'a>(&self, online: bool, since: WallMs, reason: Option<&'a str>) -> Presence<'a> {
        Presence { online, epoch: self.epoch, session: self.session, since, reason }
    }
}

#[cfg(test)]
mod long_link;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
