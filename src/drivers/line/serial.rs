//! The owner of a serial line: an OS thread.
//!
//! Why a thread (measured, % of the wire at 115200 idle / machine overloaded): a tokio sleep 86 / 33, timerfd on the shared
//! runtime 98 / 33, a thread with absolute sleeps 98 / 99. It sleeps until the expected reply can be complete instead of
//! waking for each byte, and neither allocates for a frame nor logs a request. It asks for SCHED_FIFO, which systemd grants
//! by LimitRTPRIO; without it the line works, and loses part of its wire while the machine is overloaded.
//!
//! A pulled adapter shows as EIO, a hang-up or the end of the file: the port is closed at once, and opened again when its
//! name appears (inotify) or at the next try, a second later.

use super::{
    event::{Event, Step, Want},
    nap::{Nap, sleep_until},
    owner::{Came, Job},
    report::Report,
    tty::{Tty, TtyError},
    watch::Watch,
};
use crate::{config::Serial, model::Boot, system::clock::Clock};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    fd::{AsFd, OwnedFd},
};
use std::{
    io,
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Receiver,
    },
    time::Duration,
};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};
use tokio_util::sync::CancellationToken;

/// A door that is full is tried again after this.
const STALL: Duration = Duration::from_millis(2);
/// Longest sleep without a look at the world.
const LOOK_UP: Duration = Duration::from_secs(3600);

/// Wakes the thread: an order is waiting, or the gateway stops.
#[derive(Clone)]
pub struct Bell(Arc<Rope>);

struct Rope {
    fd: OwnedFd,
    /// Since the thread looked last.
    rung: AtomicBool,
}

impl Bell {
    pub fn new() -> io::Result<Bell> {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Bell(Arc::new(Rope { fd, rung: AtomicBool::new(false) })))
    }

    pub fn ring(&self) {
        self.0.rung.store(true, Ordering::Release);
        // Fails only when it has been rung 2^64 times: it wakes all the same.
        let _ = rustix::io::write(&self.0.fd, &1u64.to_ne_bytes());
    }

    /// Before the look at what it was rung for: a thread between two requests looks at no descriptor.
    fn was_rung(&self) -> bool {
        self.0.rung.load(Ordering::Relaxed) && self.0.rung.swap(false, Ordering::Acquire)
    }

    fn quiet(&self) {
        let _ = rustix::io::read(&self.0.fd, &mut [0; 8]);
    }
}

/// Within LimitRTPRIO=10 of the unit, and below the kernel's own interrupt threads (50).
const REAL_TIME_PRIORITY: u8 = 10;

fn ask_for_real_time(serial: &Serial) {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let granted = ThreadPriorityValue::try_from(REAL_TIME_PRIORITY)
        .ok()
        .is_some_and(|p| set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Crossplatform(p), policy).is_ok());
    if granted {
        tracing::debug!(port = %serial.path.display(), "real-time priority granted");
    } else {
        tracing::info!(port = %serial.path.display(), "no real-time priority: this line slows down while the machine is overloaded; LimitRTPRIO=10 grants it");
    }
}

pub struct Owner<C> {
    serial: Serial,
    core: C,
    report: Report,
    jobs: Receiver<Job>,
    bell: Bell,
    clock: Clock,
    stop: CancellationToken,
    told_parity: bool,
    /// While the port is closed.
    watch: Option<Watch>,
}

impl<C: Step> Owner<C> {
    pub fn new(
        serial: Serial,
        core: C,
        report: Report,
        jobs: Receiver<Job>,
        bell: Bell,
        clock: Clock,
        stop: CancellationToken,
    ) -> Owner<C> {
        Owner { serial, core, report, jobs, bell, clock, stop, told_parity: false, watch: None }
    }

    /// Runs until the gateway stops.
    pub fn run(mut self) {
        // Sleeps end on time, not up to 50 us later. Refused: the line is a little slower.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        ask_for_real_time(&self.serial);
        let mut buffer = [0; 512];
        let mut tty: Option<Tty> = None;
        let mut came = Came::Time;
        let company = self.report.company();
        let mut nap = Nap::default();
        // The bell was rung, and not all that it was rung for was looked at.
        let mut called = true;
        loop {
            called |= self.bell.was_rung();
            if called && self.stop.is_cancelled() {
                break;
            }
            let now = self.clock.now();
            if let Came::Bytes(n) = came {
                self.report.heard(now, &buffer[..n], self.core.hears_secret(now));
            }
            let want = came.tell(&mut self.core, now, &buffer);
            let is_secret = matches!(want, Want::SendSecret(_));
            came = match want {
                Want::Send(frame) | Want::SendSecret(frame) => match &tty {
                    // Before the write, which the reply may overtake.
                    Some(port) => {
                        self.report.sent(now, frame, is_secret);
                        port.write(frame).map_or_else(lost, |()| Came::Sent)
                    }
                    None => Came::Lost("the port is not open".into()),
                },
                Want::Tune(settings) => match &mut tty {
                    Some(port) => port.tune(&settings).map_or_else(|e| Came::Failed(e.to_string()), |()| Came::Tuned),
                    None => Came::Lost("the port is not open".into()),
                },
                // A port that others wait for is none of ours.
                Want::Close => Came::Time,
                Want::Open => {
                    drop(tty.take());
                    self.open(&mut tty)
                }
                Want::Recv { earliest, until, .. } => {
                    if earliest > now {
                        nap.until(earliest, self.clock);
                        // Mostly it is all here: one call instead of two.
                        if let Some(Came::Bytes(n)) = tty.as_ref().map(|port| read(port, &mut buffer)) {
                            came = Came::Bytes(n);
                            continue;
                        }
                    }
                    match self.receive(tty.as_ref(), &mut buffer, until.min(earliest + company)) {
                        // Nothing so far, and what waits for company need not wait for a unit that may be silent.
                        Came::Time if earliest + company < until => {
                            self.report.flush(&mut self.core);
                            self.receive(tty.as_ref(), &mut buffer, until)
                        }
                        came => came,
                    }
                }
                Want::Silence(until) => {
                    if self.report.is_due(self.core.out(), self.clock.now()) {
                        self.hand_over();
                    }
                    nap.until(until, self.clock);
                    // A line that polls without a pause is never idle: an order takes its turn here.
                    match self.next_job(&mut called) {
                        Some(job) => Came::Job(job),
                        None => tty.as_ref().map_or(Came::Time, |port| read(port, &mut buffer)),
                    }
                }
                Want::Idle(until) => {
                    self.hand_over();
                    match self.next_job(&mut called) {
                        Some(job) => Came::Job(job),
                        None => self.receive(tty.as_ref(), &mut buffer, until),
                    }
                }
            };
            if let Came::Lost(_) = came {
                drop(tty.take());
            }
            match tty {
                Some(_) => self.watch = None,
                // Refused: it is tried every second all the same.
                None if self.watch.is_none() => self.watch = Watch::new(&self.serial.path).ok(),
                None => {}
            }
        }
        // Every order that was taken is answered.
        while let Ok(job) = self.jobs.try_recv() {
            if let Job::Order(order) = job {
                let _ = self.core.step(self.clock.now(), Event::Order(*order));
            }
        }
        let _ = self.core.step(self.clock.now(), Event::Stop);
        self.report.flush(&mut self.core);
    }

    /// `called` at the head of the loop, which looks at the stop then.
    fn next_job(&self, called: &mut bool) -> Option<Job> {
        let job = called.then(|| self.jobs.try_recv().ok()).flatten();
        *called = job.is_some();
        job
    }

    fn open(&mut self, tty: &mut Option<Tty>) -> Came {
        match Tty::open(&self.serial) {
            Ok(port) => {
                if port.without_parity && !self.told_parity {
                    self.told_parity = true;
                    let path = self.serial.path.display();
                    tracing::warn!(%path, "the port has no parity (a pseudo-terminal?); it is used without");
                }
                *tty = Some(port);
                Came::Opened
            }
            Err(error) => Came::Failed(error.to_string()),
        }
    }

    /// Full doors stretch the polls: nothing is sent before everything heard was handed over.
    fn hand_over(&mut self) {
        while !self.report.flush(&mut self.core) && !self.stop.is_cancelled() {
            sleep_until(self.clock.now() + STALL);
        }
    }

    /// Waits for bytes, a job, the port to appear, or the moment.
    fn receive(&self, tty: Option<&Tty>, buffer: &mut [u8], until: Boot) -> Came {
        let left = (until - self.clock.now()).min(LOOK_UP);
        let wait = Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
        let bell = PollFd::from_borrowed_fd(self.bell.0.fd.as_fd(), PollFlags::IN);
        let is_ready = |polled: &PollFd<'_>| !polled.revents().is_empty();
        let other = tty.map(Tty::fd).or_else(|| self.watch.as_ref().map(Watch::fd));
        // EINTR and the like: the core is asked again with the time.
        let (rung, told) = match other {
            Some(fd) => {
                let mut fds = [bell, PollFd::from_borrowed_fd(fd, PollFlags::IN)];
                let polled = poll(&mut fds, Some(&wait)).is_ok();
                (polled && is_ready(&fds[0]), polled && is_ready(&fds[1]))
            }
            None => {
                let mut fds = [bell];
                (poll(&mut fds, Some(&wait)).is_ok() && is_ready(&fds[0]), false)
            }
        };
        if rung {
            self.bell.quiet();
        }
        match tty {
            None if told && self.watch.as_ref().is_some_and(Watch::look) => Came::Appeared,
            // A hang-up is ready too, and reads as such.
            Some(port) if told => match read(port, buffer) {
                Came::Time => hung_up(port),
                came => came,
            },
            _ => Came::Time,
        }
    }
}

fn read(port: &Tty, buffer: &mut [u8]) -> Came {
    match port.read(buffer) {
        Ok(0) => Came::Time,
        Ok(n) => Came::Bytes(n),
        Err(error) => lost(error),
    }
}

/// The port was ready and nothing could be read: an error state without data, or nothing at all.
fn hung_up(port: &Tty) -> Came {
    let mut fds = [PollFd::from_borrowed_fd(port.fd(), PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let gone = poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL);
    if gone { lost(TtyError::HungUp) } else { Came::Time }
}

#[allow(clippy::needless_pass_by_value)] // used as a function over errors
fn lost(error: TtyError) -> Came {
    Came::Lost(error.to_string())
}
