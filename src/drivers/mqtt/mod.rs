//! Local MQTT: our own endpoint, or an external broker, and the routes that map topics to devices.
//!
//! ```text
//!  clients ◄─► server (our own endpoint) ─┐             ┌─► routes, leaves, said: what it means
//!  mosquitto ◄─► broker (a client of it) ─┴─► intake ───┤
//!                  ▲                                    └─► doors: telemetry, status, dead letters, with their receipts
//!                  └── orders: commands, their fate and their replies
//! ```
//! Everything runs on one thread of its own with a current-thread runtime, so that a flood of local messages takes
//! nothing from the lines and the uplink but its share of a core.
//!
//! Invariants: a message is acknowledged only when its receipt is kept; the order of one publisher is kept; every order
//! ends in exactly one `Done`.

mod attributes;
mod broker;
mod codec;
mod echo;
mod families;
mod fate;
mod gathered;
mod intake;
mod orders;
mod receipts;
mod replies;
mod routes;
mod said;
pub mod server;
mod topics;

#[cfg(test)]
mod preset_tests;
#[cfg(test)]
mod tests;

use crate::{
    config::{LocalMqtt, Mode, RouteKind, User},
    drivers::Doors,
    limits,
    model::{LineId, LineState, LocalPort, OrderPort, Receipt, Urgent},
    system::clock::Clock,
};
use broker::{Broker, BrokerPort};
use families::Families;
use intake::{Heard, Intake};
use orders::{Deliver, Orders};
use routes::Routes;
use server::{Account, Counters, Endpoint, Handler, Incoming, Options, ServerError};
use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

#[derive(Debug, thiserror::Error)]
pub enum MqttError {
    #[error("local MQTT: {0}")]
    Server(#[from] ServerError),
    #[error("local MQTT: no TLS towards the broker: {0}")]
    Tls(String),
    #[error("local MQTT: the configuration names no broker")]
    NoBroker,
}

/// Local MQTT as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct MqttFigures {
    /// Clients of our own endpoint; 1 while an external broker is connected.
    pub connections: u64,
    pub messages: u64,
    /// Messages whose acknowledgement is held.
    pub held: u64,
    /// Messages that slow local subscribers did not get.
    pub dropped: u64,
    pub dead_letters: u64,
}

pub struct MqttHandle {
    pub orders: OrderPort,
    pub local: LocalPort,
    at: Option<SocketAddr>,
    counters: Arc<Counters>,
    intake: Arc<Intake>,
    ended: oneshot::Receiver<()>,
}

/// Takes a message as if it had just been published, and keeps the receipt as for a publisher. `None`: it is handed over.
pub type Again = Arc<dyn Fn(&str, &[u8], Receipt) -> Option<std::pin::Pin<Box<dyn Future<Output = ()> + Send>>> + Send + Sync>;

impl MqttHandle {
    /// For dead letters that are replayed. Weak: it holds no door open at the stop.
    pub fn again(&self) -> Again {
        let intake = Arc::downgrade(&self.intake);
        Arc::new(move |topic, payload, receipt| {
            let heard = Heard { topic, payload, retained: false, will: false, session: None, from: "replay", refused: None, receipt };
            // Without a door the receipt falls unkept.
            intake.upgrade()?.take(heard)
        })
    }

    pub fn figures(&self) -> MqttFigures {
        let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        MqttFigures {
            connections: of(&self.counters.connections),
            messages: of(&self.counters.messages),
            held: of(&self.counters.held),
            dropped: of(&self.counters.dropped),
            dead_letters: of(&self.intake.dead_letters),
        }
    }

    /// Where our own endpoint listens.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.at
    }

    /// Resolves when the thread has ended after `stop`: at most two seconds later.
    pub async fn ended(self) {
        let _ = self.ended.await;
    }
}

/// Starts the thread. An address in use is an error here; a broker that is away is not: it is waited for.
pub fn start(config: &LocalMqtt, doors: Doors, clock: Clock, stop: CancellationToken) -> Result<MqttHandle, MqttError> {
    let (to_orders, from_orders) = mpsc::channel(limits::LINE_ORDERS);
    let orders: OrderPort = Arc::new(move |order| {
        to_orders.try_send(order).map_err(|e| match e {
            mpsc::error::TrySendError::Full(order) | mpsc::error::TrySendError::Closed(order) => order,
        })
    });
    let families = Arc::new(Families::of(&config.routes));
    let intake = Arc::new(Intake::new(Routes::new(&config.routes).telling(&families), doors.clone(), clock));
    let commands = orders::commands(&config.routes);
    let (replies, urgent, bursts) = (intake.replies.clone(), doors.urgent.clone(), doors.bursts.clone());
    let serve = move |deliver: Deliver| Orders { routes: commands, deliver, replies, families, urgent, clock };

    let (local, at, counters, ended): (LocalPort, _, _, _) = match &config.mode {
        Mode::Listen { at, users } => {
            let endpoint = Endpoint::bind(Options { listen: *at, accounts: accounts(config, users), clock })?;
            let (port, for_orders) = (endpoint.port(), endpoint.port());
            let (at, counters, handler) = (port.at, port.counters.clone(), handler(intake.clone()));
            let line = LineId::parse("mqtt").expect("a legal line id");
            let up = Urgent::Line { line, state: LineState::Up, reason: format!("listening on {at}"), at: clock.now() };
            let ended = server::on_own_thread("mqtt", clock, counters.clone(), bursts, move || async move {
                let _ = doors.urgent.send(up).await;
                let deliver: Deliver = Box::new(move |topic, body, qos, expires| for_orders.deliver(topic, body, qos, expires));
                tokio::join!(endpoint.run(handler, stop.clone()), serve(deliver).run(from_orders, stop));
            })?;
            tracing::info!(%at, "local MQTT clients may connect");
            (Arc::new(move |message| port.publish(message)), Some(at), counters, ended)
        }
        Mode::Broker { host, port, .. } => {
            let (options, place) = (broker::options(&config.mode)?, format!("{host}:{port}"));
            let (port, posts) = BrokerPort::new();
            let (counters, for_orders): (Arc<Counters>, _) = (Arc::default(), port.clone());
            let filters = Routes::new(&config.routes).filters();
            let (urgent, shared) = (doors.urgent, (intake.clone(), port.clone(), counters.clone()));
            let (intake, broker_port, counted) = shared;
            let broker = Broker { options, place, filters, intake, posts, port: broker_port, counters: counted, urgent, clock };
            let ended = server::on_own_thread("mqtt", clock, counters.clone(), bursts, move || async move {
                let deliver: Deliver = Box::new(move |topic, body, qos, expires| for_orders.deliver(topic, body, qos, expires));
                tokio::join!(broker.run(stop.clone()), serve(deliver).run(from_orders, stop));
            })?;
            (Arc::new(move |message| port.publish(message)), None, counters, ended)
        }
    };
    Ok(MqttHandle { orders, local, at, counters, intake, ended })
}

fn handler(intake: Arc<Intake>) -> Handler {
    Arc::new(move |incoming: Incoming| {
        intake.take(Heard {
            topic: &incoming.topic,
            payload: &incoming.payload,
            retained: false, // it comes from its publisher now, whether or not it is to be retained
            will: incoming.will,
            session: Some(incoming.session),
            from: &incoming.client,
            refused: incoming.refused,
            receipt: incoming.receipt,
        })
    })
}

/// What the users of the configuration may do. A user who may publish only to some topics may subscribe to these, to the
/// topics that commands go out on, and to what we publish about devices.
fn accounts(config: &LocalMqtt, users: &[User]) -> Vec<Account> {
    let commands = config.routes.iter().filter(|route| matches!(route.kind, RouteKind::Command { .. }));
    let commands: Vec<String> = commands.map(|route| topics::Template::parse(&route.topic).filter()).collect();
    let account = |user: &User| {
        let mut subscribe = user.topics.clone();
        if !subscribe.is_empty() {
            subscribe.extend(commands.iter().cloned());
            subscribe.push("devices/status/#".into());
        }
        Account { name: user.name.clone(), password: user.password.0.clone(), publish: user.topics.clone(), subscribe }
    };
    users.iter().map(account).collect()
}
