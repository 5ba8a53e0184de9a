//! Our own MQTT 3.1.1 endpoint: a thin server for a few thousand clients on one thread.
//!
//! What it adds to any broker is [`Incoming::receipt`]: **the acknowledgement of a publication is held until whoever got
//! it says that it is kept**; acknowledgements go out in the order of arrival; one that is not kept closes that
//! connection, so that the publisher sends it again. Messages are also sent on between clients, with retained messages,
//! wills and sessions that outlive a connection, so it serves as the little cloud of the demo too.
//!
//! Invariants: no client can make another wait (`session`); no client's bytes are trusted (`codec`, `limits`); the will
//! of a connection that is taken over is told before the new one is acknowledged.
//!
//! Absent on purpose: MQTT 5, TLS, shared subscriptions, bridging, persistence on disk. Subscriptions are granted QoS 1
//! at most; QoS 2 publications are carried by the four-step handshake, and at least once over a lost connection.

mod connection;
mod due;
mod handshake;
mod hub;
mod message;
mod retained;
mod session;
mod tree;
mod users;

#[cfg(test)]
pub mod raw;
#[cfg(test)]
mod tests;

pub use users::Account;

use super::fate::Fate;
use crate::{
    limits,
    model::{Boot, LocalMessage, Receipt},
    system::{bursts::Bursts, clock::Clock, thread::OwnThread},
};
use bytes::{Bytes, BytesMut};
use due::Due;
use hub::{Hub, Manner};
use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;
use users::Users;

/// Stopping: acknowledgements that become due within this time still go out.
const DRAIN: Duration = Duration::from_secs(2);
/// Connections that have not said who they are, beyond those that count. Full: closed unheard.
const UNKNOWN: usize = 64;

pub struct Options {
    pub listen: SocketAddr,
    /// Nobody: everybody may do everything.
    pub accounts: Vec<Account>,
    pub clock: Clock,
}

impl Options {
    /// Open to everybody who can reach it: the demo and tests.
    pub fn open(listen: SocketAddr, clock: Clock) -> Options {
        Options { listen, accounts: Vec::new(), clock }
    }
}

/// A publication that a client made, or its will.
#[derive(Debug)]
pub struct Incoming {
    pub topic: String,
    pub payload: Bytes,
    pub qos: u8,
    pub retain: bool,
    /// The connection that it came by; grows with every connection.
    pub session: u64,
    pub client: Arc<str>,
    pub user: Option<Arc<str>>,
    pub will: bool,
    /// `None`: it was sent on to those who asked for it. Else why it was not: no right, too large. The payload is its
    /// beginning then, and the acknowledgement is still held.
    pub refused: Option<String>,
    pub receipt: Receipt,
}

/// Resolves when the handler can take more; until then the client that was just heard is not read.
pub type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;
/// Gets every publication, in order for each client, on the endpoint's thread. It must not block: what it cannot hand
/// over at once it hands over in what it returns.
pub type Handler = Arc<dyn Fn(Incoming) -> Option<Waiting> + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot listen on {at}: the address is in use; stop what listens there (ss -ltnp), or use it by mqtt.broker")]
    InUse { at: SocketAddr },
    #[error("cannot listen on {at}: {source}")]
    Listen { at: SocketAddr, source: io::Error },
    #[error("cannot start the MQTT thread: {0}")]
    Thread(io::Error),
}

/// Kept by the endpoint, read by anybody.
#[derive(Debug, Default)]
pub struct Counters {
    pub connections: AtomicU64,
    pub messages: AtomicU64,
    pub held: AtomicU64,
    pub dropped: AtomicU64,
    /// Clients that are not read until we have done something of our own.
    pub held_up: AtomicU64,
}

/// What another thread may ask of the endpoint.
#[derive(Clone)]
pub struct Port {
    posts: mpsc::Sender<Post>,
    pub counters: Arc<Counters>,
    pub at: SocketAddr,
}

struct Post {
    topic: String,
    body: Vec<u8>,
    manner: Manner,
}

impl Port {
    /// `false`: the queue is full or the endpoint ended.
    pub fn publish(&self, message: LocalMessage) -> bool {
        let manner = Manner { qos: 1, retain: message.retain, ..Manner::default() };
        super::topics::is_topic(&message.topic) && self.posts.try_send(Post { topic: message.topic, body: message.body, manner }).is_ok()
    }

    /// Publishes what must not go out after `expires`, and lets its way be followed. `None` as for `publish`.
    pub fn deliver(&self, topic: String, body: Vec<u8>, qos: u8, expires: Boot) -> Option<Arc<Fate>> {
        let fate = Arc::new(Fate::default());
        let manner = Manner { qos, retain: false, expires: Some(expires), fate: Some(fate.clone()) };
        let post = super::topics::is_topic(&topic).then_some(Post { topic, body, manner })?;
        self.posts.try_send(post).ok().map(|()| fate)
    }

    pub fn connections(&self) -> u64 {
        self.counters.connections.load(Ordering::Relaxed)
    }
}

/// Bound to its address and not running yet.
pub struct Endpoint {
    listener: std::net::TcpListener,
    options: Options,
    posts: mpsc::Receiver<Post>,
    port: Port,
}

impl Endpoint {
    pub fn bind(options: Options) -> Result<Endpoint, ServerError> {
        let at = options.listen;
        let listen = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => ServerError::InUse { at },
            _ => ServerError::Listen { at, source },
        };
        let listener = std::net::TcpListener::bind(at).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        // Again, for a longer queue: after a power cut all devices come at once.
        rustix::net::listen(&listener, 4096).map_err(|e| listen(e.into()))?;
        let at = listener.local_addr().map_err(listen)?;
        let (to, posts) = mpsc::channel(limits::LOCAL_MESSAGES);
        let port = Port { posts: to, counters: Arc::default(), at };
        Ok(Endpoint { listener, options, posts, port })
    }

    pub fn port(&self) -> Port {
        self.port.clone()
    }

    /// Serves until `stop`. Must run in a `LocalSet` of a current-thread runtime.
    pub async fn run(mut self, handler: Handler, stop: CancellationToken) {
        let listener = match TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "the local MQTT endpoint cannot use its socket"),
        };
        let counters = self.port.counters.clone();
        let shared = Rc::new(Shared {
            hub: RefCell::new(Hub::new(self.options.clock, counters.clone())),
            users: Users::new(self.options.accounts),
            handler,
            counters,
            scratch: RefCell::default(),
            numbers: Cell::new(0),
            open: Cell::new(0),
            busy: Cell::new(0),
            stopping: Cell::new(false),
            due: Arc::default(),
        });
        let acknowledging = tokio::task::spawn_local(shared.clone().acknowledge());
        drop(self.port);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(post) = self.posts.recv() => shared.post(post),
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => shared.clone().accept(stream, peer),
                    Err(error) => {
                        tracing::warn!(%error, "the local MQTT endpoint cannot take a connection; trying again");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop(listener);
        shared.stopping.set(true);
        shared.hub.borrow().wake_all();
        let drained = async {
            while shared.counters.connections.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(DRAIN, drained).await;
        acknowledging.abort();
    }
}

/// What all connections share, on the endpoint's thread.
struct Shared {
    hub: RefCell<Hub>,
    users: Users,
    handler: Handler,
    counters: Arc<Counters>,
    /// One read buffer for all connections.
    scratch: RefCell<BytesMut>,
    /// The last number given to a connection.
    numbers: Cell<u64>,
    open: Cell<usize>,
    /// Connections that have more to give than they had a turn for.
    busy: Cell<usize>,
    stopping: Cell<bool>,
    due: Arc<Due>,
}

impl Shared {
    /// Writes what may be acknowledged, to all connections in one go: it is as much work as it is in parts.
    async fn acknowledge(self: Rc<Self>) {
        loop {
            let sessions = self.due.next().await;
            let mut hub = self.hub.borrow_mut();
            sessions.into_iter().for_each(|session| hub.acknowledge(session, self.stopping.get()));
        }
    }

    fn post(&self, post: Post) {
        self.hub.borrow_mut().publish(&post.topic, &post.body, post.manner);
    }

    fn accept(self: Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        if self.open.get() >= limits::MQTT_CONNECTIONS + UNKNOWN {
            return;
        }
        self.open.set(self.open.get() + 1);
        tokio::task::spawn_local(async move {
            connection::serve(&self, stream, peer).await;
            self.open.set(self.open.get() - 1);
        });
    }

    /// Sends a client's will on, and hands it over.
    async fn tell_will(&self, will: super::codec::LastWill, number: u64, client: &Arc<str>, rights: &users::Rights) {
        let qos = super::codec::number(will.qos);
        let refused = (!super::topics::is_topic(&will.topic) || !rights.may_publish(&will.topic))
            .then(|| format!("{} may not publish its will there", rights.user.as_deref().unwrap_or("anybody")));
        if refused.is_none() {
            let manner = Manner { qos: qos.min(1), retain: will.retain, ..Manner::default() };
            self.hub.borrow_mut().publish(&will.topic, &will.message, manner);
        }
        let waiting = (self.handler)(Incoming {
            topic: will.topic,
            payload: will.message,
            qos,
            retain: will.retain,
            session: number,
            client: client.clone(),
            user: rights.user.clone(),
            will: true,
            refused,
            receipt: Receipt::none(),
        });
        if let Some(waiting) = waiting {
            waiting.await;
        }
    }
}

/// An endpoint with a thread of its own: the demo's cloud, and tests.
pub struct Server {
    port: Port,
    stop: CancellationToken,
    ended: Option<oneshot::Receiver<()>>,
}

impl Server {
    pub fn start(options: Options, handler: Handler) -> Result<Server, ServerError> {
        let endpoint = Endpoint::bind(options)?;
        let (port, stop) = (endpoint.port(), CancellationToken::new());
        let stopped = stop.clone();
        let (clock, counters) = (endpoint.options.clock, port.counters.clone());
        let ended = on_own_thread("mqtt-server", clock, counters, Arc::default(), move || endpoint.run(handler, stopped))?;
        Ok(Server { port, stop, ended: Some(ended) })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.port.at
    }

    pub fn port(&self) -> Port {
        self.port.clone()
    }

    pub fn publish(&self, topic: &str, body: &[u8], retain: bool) -> bool {
        self.port.publish(LocalMessage { topic: topic.to_owned(), body: body.to_owned(), retain })
    }

    pub fn connections(&self) -> u64 {
        self.port.connections()
    }

    /// Takes no more, sends the acknowledgements that become due within two seconds, closes.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(ended) = self.ended.take() {
            let _ = ended.await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Runs a future on a thread with a runtime of its own, which rests while messages stream in. What is given back resolves
/// when it ended.
pub fn on_own_thread<F, R>(
    name: &str,
    clock: Clock,
    counters: Arc<Counters>,
    bursts: Arc<Bursts>,
    run: F,
) -> Result<oneshot::Receiver<()>, ServerError>
where
    F: FnOnce() -> R + Send + 'static,
    R: Future<Output = ()>,
{
    // A pause would be added to the wait of those who are held up.
    let taken = move || (counters.held_up.load(Ordering::Relaxed) == 0).then(|| counters.messages.load(Ordering::Relaxed));
    OwnThread::named(name).resting_while(clock, taken, bursts).run(run).map_err(ServerError::Thread)
}
