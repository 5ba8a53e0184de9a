//! The HTTP surface: connections with limits, tokens at the door, one file for each kind of route.
//!
//! ```text
//!  connection ─► gate (token, rate, size, places) ─► push ─► PushPort ─► engine
//!                                                ├─► devices, status, commands, letters, past, events, health, metrics ─► engine handle, store
//!                                                └─► live: /ws/devices
//!  connection ─► pages: the files of a browser, without data
//! ```
//! Everything runs on one thread with a runtime of its own, so that a flood of requests takes nothing from the lines and the
//! uplink but its share of a core; reading from the disk has two more threads there.
//!
//! Invariants: no route that holds data answers without a token (`/health` says yes or no to anybody, and more to who has one); what a peer sends is bounded in size, time and number before it is looked
//! at; an error is a problem document (RFC 9457).
//! Absent on purpose: TLS, log-in, cookies. A page has its token in a header, so no other page can borrow it.

mod access;
mod commands;
mod devices;
mod events;
mod exposition;
mod gate;
mod health;
mod letters;
mod live;
mod metrics;
mod pages;
mod past;
mod problem;
mod push;
mod rates;
mod relay;
mod routes;
mod samples;
mod status;
#[cfg(test)]
mod tests;

use super::status::Sources;
use crate::{config::Api, limits, model::PushPort, system::thread::OwnThread};
use access::Access;
use axum::Router;
use health::Pulse;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rates::Rates;
use std::{
    io,
    net::{SocketAddr, TcpListener},
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[allow(clippy::cast_possible_truncation)] // some dozens
const ALL_FOLLOWERS: u32 = limits::API_FOLLOWERS as u32;
/// Requests that are being answered at the stop have so long.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("cannot listen on {at}: {source}; change `listen` in [api], or stop what uses that port")]
    Bind { at: SocketAddr, source: io::Error },
    #[error("cannot start the thread of the HTTP surface: {0}")]
    Thread(io::Error),
}

/// What every route has at hand.
pub(super) struct Desk {
    sources: Arc<Sources>,
    push: PushPort,
    access: Access,
    rates: Mutex<Rates>,
    requests: Arc<Semaphore>,
    followers: Arc<Semaphore>,
    stop: CancellationToken,
    pulse: Pulse,
}

pub struct HttpHandle {
    /// Where it listens.
    pub at: Vec<SocketAddr>,
    ended: oneshot::Receiver<()>,
}

impl HttpHandle {
    /// Resolves when the thread has ended after `stop`: about two seconds later at most.
    pub async fn ended(self) {
        let _ = self.ended.await;
    }
}

/// Opens the addresses and serves them until `stop`.
pub fn start(api: &Api, sources: Arc<Sources>, push: PushPort, stop: CancellationToken) -> Result<HttpHandle, HttpError> {
    let bind = |at: &SocketAddr| {
        let open = TcpListener::bind(at).and_then(|l| l.set_nonblocking(true).map(|()| l)).and_then(|l| Ok((l.local_addr()?, l)));
        open.map_err(|source| HttpError::Bind { at: *at, source })
    };
    let (at, listeners): (Vec<_>, Vec<_>) = api.listen.iter().map(bind).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    let desk = Arc::new(Desk::new(api, sources, push, stop.clone()));
    let followers = Arc::clone(&desk.followers);
    let ended = OwnThread::named("http")
        .run(move || async move {
            serve(listeners, routes::router(desk), stop).await;
            // They left their connections behind, and have something to say yet.
            let _ = tokio::time::timeout(LAST_ANSWERS, followers.acquire_many(ALL_FOLLOWERS)).await;
        })
        .map_err(HttpError::Thread)?;
    Ok(HttpHandle { at, ended })
}

impl Desk {
    fn new(api: &Api, sources: Arc<Sources>, push: PushPort, stop: CancellationToken) -> Desk {
        Desk {
            sources,
            push,
            access: Access::new(&api.tokens),
            rates: Mutex::default(),
            requests: Arc::new(Semaphore::new(limits::API_REQUESTS)),
            followers: Arc::new(Semaphore::new(limits::API_FOLLOWERS)),
            stop,
            pulse: Pulse::default(),
        }
    }
}

async fn serve(listeners: Vec<TcpListener>, router: Router, stop: CancellationToken) {
    let (places, tasks) = (Arc::new(Semaphore::new(limits::API_CONNECTIONS)), TaskTracker::new());
    for listener in listeners {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => drop(tasks.spawn(accept(listener, router.clone(), Arc::clone(&places), tasks.clone(), stop.clone()))),
            Err(error) => tracing::error!(%error, "an address of [api] cannot be served"),
        }
    }
    drop(router);
    tasks.close();
    tasks.wait().await;
}

async fn accept(listener: tokio::net::TcpListener, router: Router, places: Arc<Semaphore>, tasks: TaskTracker, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors: wait instead of spinning.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        tasks.spawn(connection(stream, router.clone(), place, stop.clone()));
    }
}

async fn connection(stream: TcpStream, router: Router, place: OwnedSemaphorePermit, stop: CancellationToken) {
    // Without it an answer waits for the peer's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits::API_HEAD_WITHIN).max_buf_size(limits::API_HEAD_BYTES);
    let served = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).with_upgrades();
    let mut served = pin!(served);
    // An error is a peer that went away, or spoke no HTTP and was told.
    tokio::select! {
        biased;
        _ = served.as_mut() => {}
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(LAST_ANSWERS, served).await;
        }
    }
    drop(place);
}
