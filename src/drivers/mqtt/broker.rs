//! An external broker (mosquitto) instead of our own endpoint: one client with a persistent session, which acknowledges
//! a message only when its promise is kept.
//!
//! Our promise begins where we acknowledge. Every connection gets a fresh client state: what the broker has not been
//! acknowledged it sends again by itself, and nothing of ours is resent behind our back. The fork's event loop is polled
//! in a task of its own, because connecting must not be cancelled (each cancellation starts it anew).
//!
//! ```text
//! Down ──connect──► Up ──error──► Down (backoff 0.5 s to 30 s with jitter; one `Line` event per change)
//! ```
//! Absent on purpose: wills (a broker tells them like any message), resending of commands.

use super::{
    MqttError,
    echo::Echo,
    fate::{Fate, Fated},
    gathered::Gathered,
    intake::{Heard, Intake},
    receipts::Ledger,
    server::{Counters, Waiting},
    topics,
};
use crate::{
    config::Mode,
    limits,
    model::{Boot, LineId, LineState, LocalMessage, Urgent},
    system::clock::Clock,
};
use backon::BackoffBuilder;
use rumqttc::{
    AckMode, AsyncClient, Event, EventLoop, ManualAck, MqttOptions, Packet, PublishOptions, QoS, SubscribeReasonCode, Transport,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// A larger message ends the connection, and the broker sends it again for ever: `message_size_limit` of mosquitto is to
/// keep it out. Up to this size it becomes a dead letter.
const LARGEST: usize = 64 * 1024 * 1024;
/// A connection that lasted so long was a good one: the next attempt comes soon.
const GOOD: Duration = Duration::from_secs(10);
/// While our doors are full nothing is read and no ping goes out: longer than any hiccup of the engine.
const KEEP_ALIVE: u16 = 30;
/// Stopping: acknowledgements that become due within this time still go out.
const DRAIN: Duration = Duration::from_millis(1_500);
/// Events between the event loop's task and ours. Full: the socket is not read.
const EVENTS: usize = 64;

/// What another thread hands in.
pub struct Post {
    topic: String,
    body: Vec<u8>,
    qos: QoS,
    retain: bool,
    followed: Option<(Arc<Fate>, Boot)>,
}

/// The way in for local messages and commands.
#[derive(Clone)]
pub struct BrokerPort {
    posts: mpsc::Sender<Post>,
    up: Arc<AtomicBool>,
}

impl BrokerPort {
    pub fn new() -> (BrokerPort, mpsc::Receiver<Post>) {
        let (posts, from) = mpsc::channel(limits::LOCAL_MESSAGES);
        (BrokerPort { posts, up: Arc::default() }, from)
    }

    /// `false`: the broker is away or the queue is full.
    pub fn publish(&self, message: LocalMessage) -> bool {
        let LocalMessage { topic, body, retain } = message;
        self.up.load(Ordering::Relaxed)
            && topics::is_topic(&topic)
            && self.posts.try_send(Post { topic, body, qos: QoS::AtLeastOnce, retain, followed: None }).is_ok()
    }

    /// Waits for the broker if it is away, but not beyond `expires`.
    pub fn deliver(&self, topic: String, body: Vec<u8>, qos: u8, expires: Boot) -> Option<Arc<Fate>> {
        let fate = Arc::new(Fate::default());
        let qos = if qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        let post = Post { topic, body, qos, retain: false, followed: Some((fate.clone(), expires)) };
        (topics::is_topic(&post.topic) && self.posts.try_send(post).is_ok()).then_some(fate)
    }
}

pub struct Broker {
    pub options: MqttOptions,
    /// For people: `127.0.0.1:1883`.
    pub place: String,
    pub filters: Vec<String>,
    pub intake: Arc<Intake>,
    pub posts: mpsc::Receiver<Post>,
    pub port: BrokerPort,
    pub counters: Arc<Counters>,
    pub urgent: mpsc::Sender<Urgent>,
    pub clock: Clock,
}

/// How to connect to the broker of the configuration.
pub fn options(mode: &Mode) -> Result<MqttOptions, MqttError> {
    let Mode::Broker { host, port, tls, username, password, client_id } = mode else { return Err(MqttError::NoBroker) };
    let mut options = MqttOptions::new(client_id.clone(), (host.clone(), *port));
    options.set_keep_alive(KEEP_ALIVE).set_clean_session(false).set_ack_mode(AckMode::Manual);
    options.set_max_packet_size(LARGEST, limits::PAYLOAD_BYTES);
    // The packet ids, not a window: with few of them a late acknowledgement would collide with a newer message.
    options.set_inflight(2_000).set_max_request_batch(64);
    options.set_socket_connector(|place, network| async {
        let stream = rumqttc::default_socket_connect(place, network).await?;
        stream.set_nodelay(true)?;
        Ok(Gathered::new(stream))
    });
    if let Some(username) = username {
        let password = password.as_ref().map_or_else(String::new, |secret| secret.0.clone());
        options.set_credentials(username.clone(), password.into_bytes());
    }
    if *tls {
        options.set_transport(Transport::try_tls_with_default_config().map_err(|e| MqttError::Tls(e.to_string()))?);
    }
    Ok(options)
}

/// One connection's worth of state.
struct Link {
    client: AsyncClient,
    events: mpsc::Receiver<Result<Event, String>>,
    poller: tokio::task::JoinHandle<()>,
    ledger: Ledger<ManualAck>,
    settled: Arc<Notify>,
    waiting: Option<Waiting>,
    /// Since when it is connected.
    since: Option<Instant>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.poller.abort();
    }
}

impl Broker {
    pub async fn run(mut self, stop: CancellationToken) {
        let delays = backon::ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(500))
            .with_max_delay(Duration::from_secs(30))
            .without_max_times()
            .with_jitter_seed(self.clock.now().0);
        let (mut delay, mut told, mut echo) = (delays.build(), LineState::Unknown, Echo::default());
        loop {
            let mut link = self.connect();
            let end = tokio::select! {
                biased;
                () = stop.cancelled() => None,
                why = self.serve(&mut link, &mut told, &mut echo) => Some(why),
            };
            self.port.up.store(false, Ordering::Relaxed);
            let Some(why) = end else { return self.leave(link).await };
            self.counters.held.fetch_sub(link.ledger.held() as u64, Ordering::Relaxed);
            self.counters.connections.store(0, Ordering::Relaxed);
            if link.since.is_some_and(|since| since.elapsed() > GOOD) {
                delay = delays.build();
            }
            drop(link);
            self.tell(&mut told, LineState::Down, &why).await;
            let pause = delay.next().unwrap_or(Duration::from_secs(30));
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn connect(&self) -> Link {
        // Every held message may be acknowledged at once, so an acknowledgement always finds room.
        let capacity = limits::MQTT_BROKER_HELD + limits::LOCAL_MESSAGES + EVENTS;
        let (client, event_loop) = AsyncClient::builder(self.options.clone()).capacity(capacity).build();
        let (to, events) = mpsc::channel(EVENTS);
        let poller = tokio::task::spawn_local(poll(event_loop, to));
        let settled = Arc::new(Notify::new());
        let tell = settled.clone();
        let ledger = Ledger::new(move || tell.notify_one());
        Link { client, events, poller, ledger, settled, waiting: None, since: None }
    }

    /// Until the connection ends; gives why.
    async fn serve(&mut self, link: &mut Link, told: &mut LineState, echo: &mut Echo) -> String {
        loop {
            let may_read = link.waiting.is_none() && link.ledger.held() < limits::MQTT_BROKER_HELD;
            let up = link.since.is_some();
            tokio::select! {
                biased;
                () = link.settled.notified() => {
                    if let Err(why) = self.acknowledge(link) {
                        return why;
                    }
                }
                () = async { match link.waiting.as_mut() { Some(room) => room.await, None => std::future::pending().await } } => {
                    link.waiting = None;
                }
                Some(post) = self.posts.recv(), if up => self.post(link, post, echo),
                event = link.events.recv(), if may_read => match event {
                    Some(Ok(event)) => self.event(link, event, told, echo).await,
                    Some(Err(why)) => return why,
                    None => return "its client ended".into(),
                },
            }
        }
    }

    fn acknowledge(&self, link: &Link) -> Result<(), String> {
        let mut lost = false;
        let taken = link.ledger.take(|ack| lost |= link.client.try_manual_ack(ack).is_err());
        match taken {
            Ok(count) if !lost => {
                self.counters.held.fetch_sub(count as u64, Ordering::Relaxed);
                Ok(())
            }
            Ok(_) => Err("an acknowledgement found no room".into()),
            Err(_) => Err("a message could not be kept; the broker is to send it again".into()),
        }
    }

    async fn event(&self, link: &mut Link, event: Event, told: &mut LineState, echo: &mut Echo) {
        match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                link.since = Some(Instant::now());
                self.counters.connections.store(1, Ordering::Relaxed);
                self.port.up.store(true, Ordering::Relaxed);
                let filters: Vec<_> =
                    self.filters.iter().map(|filter| rumqttc::SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce)).collect();
                if filters.is_empty() {
                    self.up(told).await;
                } else if let Err(error) = link.client.try_subscribe_many(filters) {
                    tracing::error!(%error, "cannot subscribe at the local broker");
                }
            }
            Event::Incoming(Packet::SubAck(ack)) => {
                for (filter, code) in self.filters.iter().zip(ack.return_codes) {
                    if code == SubscribeReasonCode::Failure {
                        tracing::error!(filter, "the local broker refuses our subscription; give this user the right to read it");
                    }
                }
                self.up(told).await;
            }
            Event::Incoming(Packet::Publish(publish)) => self.publish(link, &publish, echo),
            Event::Incoming(_) | Event::Outgoing(_) => {}
        }
    }

    fn publish(&self, link: &mut Link, publish: &rumqttc::Publish, echo: &mut Echo) {
        self.counters.messages.fetch_add(1, Ordering::Relaxed);
        let receipt = match link.client.prepare_ack(publish) {
            Some(ack) => {
                self.counters.held.fetch_add(1, Ordering::Relaxed);
                link.ledger.hold(ack)
            }
            None => crate::model::Receipt::none(),
        };
        let topic = std::str::from_utf8(&publish.topic).unwrap_or_default(); // the codec refuses other topics
        if !publish.retain && echo.is_ours(topic, &publish.payload, self.clock.now()) {
            return receipt.keep();
        }
        let size = publish.payload.len();
        link.waiting = self.intake.take(Heard {
            topic,
            payload: &publish.payload,
            retained: publish.retain,
            will: false,
            session: None,
            from: "broker",
            refused: (size > limits::PAYLOAD_BYTES).then(|| format!("{size} bytes are more than {}", limits::PAYLOAD_BYTES)),
            receipt,
        });
    }

    fn post(&self, link: &Link, post: Post, echo: &mut Echo) {
        if let Some((fate, expires)) = &post.followed
            && (self.clock.now() > *expires || !fate.written())
        {
            return fate.lost();
        }
        if self.filters.iter().any(|filter| topics::matches(filter, &post.topic)) {
            echo.sent(&post.topic, &post.body, self.clock.now());
        }
        let options = PublishOptions::new(post.qos).retain(post.retain);
        let sent = link.client.try_publish_tracked(post.topic, post.body, options);
        let Some((fate, _)) = post.followed else { return };
        match sent {
            // A notice of QoS 0 says that it was written, which is no acknowledgement.
            Ok(notice) => drop(tokio::task::spawn_local(async move {
                let acknowledged = notice.wait_completion_async().await.is_ok() && post.qos == QoS::AtLeastOnce;
                fate.end(if acknowledged { Fated::Acknowledged } else { Fated::Unanswered });
            })),
            Err(_) => fate.lost(),
        }
    }

    /// Stopping: nothing more is taken, what becomes due is acknowledged.
    async fn leave(&self, mut link: Link) {
        let drained = async {
            while link.ledger.held() > 0 {
                tokio::select! {
                    biased;
                    () = link.settled.notified() => if self.acknowledge(&link).is_err() { return },
                    event = link.events.recv() => if !matches!(event, Some(Ok(_))) { return },
                }
            }
        };
        let _ = tokio::time::timeout(DRAIN, drained).await;
        if link.since.is_some() && link.client.try_disconnect().is_ok() {
            let gone = async { while matches!(link.events.recv().await, Some(Ok(_))) {} };
            let _ = tokio::time::timeout(Duration::from_millis(300), gone).await;
        }
        self.counters.held.store(0, Ordering::Relaxed);
    }

    /// It is up once it hears what we asked for.
    async fn up(&self, told: &mut LineState) {
        self.tell(told, LineState::Up, &format!("connected to {}", self.place)).await;
    }

    /// One event per change.
    async fn tell(&self, told: &mut LineState, state: LineState, reason: &str) {
        if *told == state {
            return;
        }
        *told = state;
        if state == LineState::Down {
            tracing::warn!(broker = self.place, reason, "the local broker is down; trying again for ever");
        } else {
            tracing::info!(broker = self.place, "the local broker is up");
        }
        let line = LineId::parse("mqtt").expect("a legal line id");
        let _ = self.urgent.send(Urgent::Line { line, state, reason: reason.to_owned(), at: self.clock.now() }).await;
    }
}

async fn poll(mut event_loop: EventLoop, to: mpsc::Sender<Result<Event, String>>) {
    loop {
        let event = match event_loop.poll().await {
            // Every acknowledgement is one, and nobody asks.
            Ok(Event::Outgoing(_)) => continue,
            event => event.map_err(|error| error.to_string()),
        };
        let ended = event.is_err();
        if to.send(event).await.is_err() || ended {
            return;
        }
    }
}
