//! One owner per line: a pure core, driven by a thread on a serial port and by a task on TCP.
//!
//! ```text
//!   OrderPort, SitePort ──► owner (serial.rs: thread, tcp.rs: task) ──► Doors (readings, polls, line state, outcomes)
//!                   │ event          ▲ want
//!                   └──► core.rs ────┘    orders.rs, schedule.rs: whose turn; exchange.rs: frames; guard.rs: bars
//! ```
//!
//! Everything on a wire or socket goes through one core in turn. Tests drive the same core in virtual time (`sim`).
//! Promise kept here: a late, foreign, short, corrupt or echoed reply is never published as data.

pub mod capture;
pub mod core;
pub mod ear;
pub mod event;
mod exchange;
pub mod figures;
mod guard;
mod lead;
mod learn;
#[cfg(test)]
mod live;
mod nap;
pub mod orders;
mod owner;
mod report;
pub(in crate::drivers) mod schedule;
mod serial;
#[cfg(test)]
mod sim;
mod site;
mod tcp;
#[cfg(test)]
mod testing;
mod tty;
mod watch;

use crate::{
    config::{Device, Line, Transport},
    drivers::{Doors, modbus::plan::Plans},
    limits,
    model::{DeviceId, FramePort, Learned, LineFigures, LineId, Order, OrderPort, SiteJob, SitePort},
    system::clock::Clock,
};
use capture::Capture;
use event::Step;
pub use learn::remembered;
use owner::Job;
use std::sync::{Arc, mpsc::sync_channel};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// A running line.
pub struct LineHandle {
    pub id: LineId,
    /// Gives an order back when `limits::LINE_ORDERS` are waiting, or when the line has ended.
    pub orders: OrderPort,
    /// Gives a site tool's request back in the same cases.
    pub site: SitePort,
    /// Has what was learned of a device forgotten. `false`: the line is busy or has ended.
    pub forget: ForgetPort,
    /// The last frames.
    pub frames: FramePort,
    cell: report::Cell,
    clock: Clock,
    /// Dropped by the owner when it ends.
    ended: oneshot::Receiver<()>,
}

impl LineHandle {
    pub fn figures(&self) -> LineFigures {
        self.cell.figures(&self.id, self.clock.now())
    }

    /// Reads the figures for as long as somebody wants them, also after the handle was used up by `ended`.
    pub fn reader(&self) -> impl Fn() -> LineFigures + Send + Sync + 'static {
        let (cell, id, clock) = (self.cell.clone(), self.id.clone(), self.clock);
        move || cell.figures(&id, clock.now())
    }

    /// Resolves when the owner has ended, after the stop signal.
    pub async fn ended(self) {
        let _ = self.ended.await;
    }
}

/// What is known before the first line starts: what was learned, and what the plans of many lines share.
#[derive(Debug, Default)]
pub struct Known<'a> {
    pub facts: &'a [Learned],
    pub plans: Plans,
}

/// Starts a Modbus line.
pub fn start(line: &Line, devices: Vec<Device>, known: &mut Known<'_>, doors: Doors, clock: Clock, stop: CancellationToken) -> LineHandle {
    let mut core = core::Core::remembering(line, devices, known.facts);
    core.share(&mut known.plans);
    drive(line, core, doors, clock, stop)
}

/// Spawns the owner of a line: a thread for a serial port, a task on the current runtime for TCP. It opens the port or
/// connection by itself and for ever, until `stop`. What is spoken there is the core's business.
pub fn drive(line: &Line, core: impl Step, doors: Doors, clock: Clock, stop: CancellationToken) -> LineHandle {
    let room = if matches!(line.transport, Transport::Serial(_)) { limits::CAPTURE_BYTES } else { tcp_room(doors.tcp_lines) };
    let report = report::Report::new(line.id.clone(), doors, Capture::new(room));
    let cell = report.cell();
    let capture = report.capture();
    let frames: FramePort = Arc::new(move |after, most| capture.since(after, most));
    let (ending, ended) = oneshot::channel::<()>();
    let port = match &line.transport {
        Transport::Serial(serial) => start_thread(&line.id, serial, core, report, clock, stop, ending),
        Transport::Tcp { host, port } | Transport::RtuOverTcp { host, port } => {
            let (give, jobs) = mpsc::channel(limits::LINE_ORDERS);
            let owner = Box::new(tcp::Owner { host: host.clone(), port: *port, core, report, jobs, clock, stop });
            tokio::spawn(async move {
                owner.run().await;
                drop(ending);
            });
            Arc::new(move |job| give.try_send(job).map_err(mpsc::error::TrySendError::into_inner)) as JobPort
        }
    };
    LineHandle {
        id: line.id.clone(),
        orders: order_port(port.clone()),
        site: site_port(port.clone()),
        forget: Arc::new(move |device| port(Job::Forget(device)).is_ok()),
        frames,
        cell,
        clock,
        ended,
    }
}

/// Bytes of frames that one of so many lines keeps.
fn tcp_room(lines: usize) -> usize {
    // A frame of 260 bytes is kept whole in four times as much and its head.
    const LEAST: usize = 1280;
    (limits::CAPTURE_BYTES_TCP / lines.max(1)).clamp(LEAST, limits::CAPTURE_BYTES)
}

/// Asks a line to forget what it learned of a device.
pub type ForgetPort = Arc<dyn Fn(DeviceId) -> bool + Send + Sync>;

/// Gives a job back that the owner does not take.
type JobPort = Arc<dyn Fn(Job) -> Result<(), Job> + Send + Sync>;

fn order_port(port: JobPort) -> OrderPort {
    Arc::new(move |order: Order| match port(Job::Order(Box::new(order))) {
        Err(Job::Order(order)) => Err(*order),
        _ => Ok(()),
    })
}

fn site_port(port: JobPort) -> SitePort {
    Arc::new(move |job: SiteJob| match port(Job::Site(Box::new(job))) {
        Err(Job::Site(job)) => Err(*job),
        _ => Ok(()),
    })
}

fn start_thread(
    id: &LineId,
    serial: &crate::config::Serial,
    core: impl Step,
    report: report::Report,
    clock: Clock,
    stop: CancellationToken,
    ending: oneshot::Sender<()>,
) -> JobPort {
    let (give, jobs) = sync_channel(limits::LINE_ORDERS);
    let bell = serial::Bell::new().expect("an eventfd needs a free descriptor, and the gateway is just starting");
    let owner = serial::Owner::new(serial.clone(), core, report, jobs, bell.clone(), clock, stop.clone());
    let name: String = format!("line {id}").chars().take(15).collect();
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        owner.run();
        drop(ending);
    });
    thread.expect("a thread per serial line can be started at start-up");
    let at_stop = bell.clone();
    tokio::spawn(async move {
        stop.cancelled().await;
        at_stop.ring();
    });
    Arc::new(move |job| {
        give.try_send(job).map_err(|full| match full {
            std::sync::mpsc::TrySendError::Full(job) | std::sync::mpsc::TrySendError::Disconnected(job) => job,
        })?;
        bell.ring();
        Ok(())
    })
}
