//! All simulated lines of one process: started, counted, and ended together.

use super::{
    bus::Bus,
    unit::Tally,
    wire::{self, Branch, Figures, Link, Pace, Pty},
};
use crate::{config::Parity, system::clock::Clock};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_modbus::server::{rtu, tcp};
use tokio_serial::SerialStream;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Pause before a server that ended by an error is started again.
const RESTART: Duration = Duration::from_millis(50);

/// What to simulate. Every line has all units, with values of their own.
#[derive(Debug, Clone)]
pub struct Config {
    /// Modbus TCP lines. Port 0 takes a free one.
    pub tcp: Vec<SocketAddr>,
    /// Modbus RTU lines: where to link the pseudo-terminal.
    pub rtu: Vec<PathBuf>,
    pub baud: u32,
    pub parity: Parity,
    pub units: BTreeSet<u8>,
    /// More units on the RTU lines, which understand only another speed.
    pub also: Vec<(u32, BTreeSet<u8>)>,
    /// Units that never answer.
    pub silent: BTreeSet<u8>,
    /// Same seed, same values.
    pub seed: u64,
}

impl Default for Config {
    /// Units 1 to 8 at 9600 8E1 and no line.
    fn default() -> Config {
        Config {
            tcp: Vec::new(),
            rtu: Vec::new(),
            baud: 9600,
            parity: Parity::Even,
            units: (1..=8).collect(),
            also: Vec::new(),
            silent: BTreeSet::new(),
            seed: 0,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot open a pseudo-terminal: {source}")]
    Pty { source: io::Error },
    #[error("cannot link {path} to the pseudo-terminal: {source}", path = path.display())]
    Link { path: PathBuf, source: io::Error },
}

/// Simulated devices that run until the stop, or until this is dropped.
pub struct Running {
    /// As bound, in the order of the configuration.
    pub tcp_addrs: Vec<SocketAddr>,
    pub rtu_links: Vec<PathBuf>,
    lines: Vec<Line>,
    servers: JoinSet<()>,
    threads: Vec<std::thread::JoinHandle<()>>,
    links: Vec<Link>,
    _ends_with_us: DropGuard,
}

struct Line {
    address: String,
    bus: Bus,
    wire: Option<Arc<Figures>>,
}

/// What happened on one line since the start.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LineCounters {
    /// The TCP address or the link.
    pub address: String,
    /// Requests that arrived whole.
    pub requests: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wire: Option<WireCounters>,
    pub units: BTreeMap<u8, Tally>,
}

/// Serial lines only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct WireCounters {
    pub bytes_from_master: u64,
    pub bytes_to_master: u64,
    /// Requests that began while a unit was sending.
    pub collisions: u64,
    /// Requests that began less than 3.5 characters after an answer.
    pub short_gaps: u64,
}

/// Starts simulated devices; the namespace of [`Devices::start`].
pub struct Devices;

impl Devices {
    /// Binds and links everything, then serves it on the current runtime and on one thread per serial line.
    pub async fn start(config: Config, stop: CancellationToken) -> Result<Running, SimulateError> {
        let stop = stop.child_token();
        let mut running = Running {
            tcp_addrs: Vec::new(),
            rtu_links: Vec::new(),
            lines: Vec::new(),
            servers: JoinSet::new(),
            threads: Vec::new(),
            links: Vec::new(),
            _ends_with_us: stop.clone().drop_guard(),
        };
        for address in &config.tcp {
            running.add_tcp(*address, &config, &stop).await?;
        }
        for link in &config.rtu {
            running.add_rtu(link.clone(), &config, &stop)?;
        }
        Ok(running)
    }
}

impl Running {
    /// From now on the unit answers nothing. Lines are numbered from 0, TCP lines first.
    pub fn kill_unit(&self, line: usize, unit: u8) {
        if let Some(line) = self.lines.get(line) {
            line.bus.kill(unit);
        }
    }

    pub fn revive_unit(&self, line: usize, unit: u8) {
        if let Some(line) = self.lines.get(line) {
            line.bus.revive(unit);
        }
    }

    /// In the order of the lines.
    pub fn counters(&self) -> Vec<LineCounters> {
        let counters = |line: &Line| LineCounters {
            address: line.address.clone(),
            requests: line.bus.requests(),
            wire: line.wire.as_deref().map(wire_counters),
            units: line.bus.tallies(),
        };
        self.lines.iter().map(counters).collect()
    }

    /// Returns when everything has ended, after the stop, and the links are gone; with the last counters.
    pub async fn ended(mut self) -> Vec<LineCounters> {
        while self.servers.join_next().await.is_some() {}
        for thread in std::mem::take(&mut self.threads) {
            let _ = tokio::task::spawn_blocking(|| thread.join()).await;
        }
        self.links.clear();
        self.counters()
    }

    async fn add_tcp(&mut self, address: SocketAddr, config: &Config, stop: &CancellationToken) -> Result<(), SimulateError> {
        let failed = |source| SimulateError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let bus = Bus::new(false, &config.units, &config.silent, config.seed, Clock::Real);
        self.servers.spawn(until(stop, serve_tcp(listener, bus.clone())));
        self.tcp_addrs.push(bound);
        self.lines.push(Line { address: bound.to_string(), bus, wire: None });
        Ok(())
    }

    fn add_rtu(&mut self, link: PathBuf, config: &Config, stop: &CancellationToken) -> Result<(), SimulateError> {
        let failed = |source: rustix::io::Errno| SimulateError::Pty { source: source.into() };
        let outer = Pty::open().map_err(failed)?;
        let held = outer.hold().map_err(failed)?;
        let made = Link::make(&link, &outer.path).map_err(|source| SimulateError::Link { path: link.clone(), source })?;
        let figures = Arc::new(Figures::default());
        let mut branches = Vec::new();
        for (baud, units) in std::iter::once((config.baud, &config.units)).chain(config.also.iter().map(|(b, u)| (*b, u))) {
            let inner = Pty::open().map_err(failed)?;
            let bus = Bus::new(true, units, &config.silent, config.seed, Clock::Real);
            self.servers.spawn(until(stop, serve_rtu(inner.path.clone(), baud, bus.clone())));
            let address = link.display().to_string();
            self.lines.push(Line { address, bus, wire: branches.is_empty().then(|| figures.clone()) });
            branches.push(Branch { held: inner.hold().map_err(failed)?, inner, baud, pace: Pace::new(baud, config.parity) });
        }
        let (counted, stop) = (figures, stop.clone());
        let carry = move || {
            if let Err(error) = wire::carry(&outer, &held, &branches, &counted, &stop) {
                tracing::error!(%error, "a simulated serial line has broken");
            }
        };
        let thread = std::thread::Builder::new().name("simulated-line".into()).spawn(carry);
        self.threads.push(thread.map_err(|source| SimulateError::Pty { source })?);
        self.links.push(made);
        self.rtu_links.push(link);
        Ok(())
    }
}

/// A server's task: ends with the stop.
fn until(stop: &CancellationToken, server: impl Future<Output = ()> + Send + 'static) -> impl Future<Output = ()> + Send + 'static {
    let stop = stop.clone();
    async move {
        stop.run_until_cancelled(server).await;
    }
}

async fn serve_tcp(listener: TcpListener, bus: Bus) {
    let server = tcp::Server::new(listener);
    let on_connected = |stream: TcpStream, _| {
        let bus = bus.clone();
        async move {
            stream.set_nodelay(true)?;
            Ok(Some((bus, stream)))
        }
    };
    loop {
        // A connection that breaks is its peer's affair.
        let served = server.serve(&on_connected, |error| tracing::debug!(%error, "a connection to simulated devices broke")).await;
        if let Err(error) = served {
            tracing::warn!(%error, "simulated devices cannot accept connections for the moment");
        }
        tokio::time::sleep(RESTART).await;
    }
}

async fn serve_rtu(path: PathBuf, baud: u32, bus: Bus) {
    loop {
        // The server gives up after 20 bytes that are no frame; a unit on a bus never does.
        if let Err(error) = serve_serial(&path, baud, &bus).await {
            tracing::debug!(%error, "simulated units lost their place in what they read");
        }
        tokio::time::sleep(RESTART).await;
    }
}

async fn serve_serial(path: &Path, baud: u32, bus: &Bus) -> io::Result<()> {
    let serial = SerialStream::open(&tokio_serial::new(path.to_string_lossy(), baud))?;
    rtu::Server::new(serial).serve_forever(bus.clone()).await
}

fn wire_counters(figures: &Figures) -> WireCounters {
    WireCounters {
        bytes_from_master: figures.bytes_from_master.load(Relaxed),
        bytes_to_master: figures.bytes_to_master.load(Relaxed),
        collisions: figures.collisions.load(Relaxed),
        short_gaps: figures.short_gaps.load(Relaxed),
    }
}

#[cfg(test)]
mod tests;
