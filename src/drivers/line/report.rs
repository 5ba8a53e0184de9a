//! What a line's owner hands over: messages through the doors, figures into a shared cell, changes into the log.

use super::{
    capture::Capture,
    event::{Note, Out, Step},
    figures::{Answers, Counters, Usage},
};
use crate::{
    drivers::Doors,
    model::{Boot, Bulk, DeviceFigures, DeviceId, LineFigures, LineId, LineState},
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::mpsc::error::TrySendError;

/// Read by whoever asks for figures, written after each request.
#[derive(Debug)]
pub struct Shared {
    counters: Counters,
    usage: Usage,
    state: LineState,
    reason: String,
    framing: &'static str,
    devices: Vec<(DeviceId, Answers)>,
}

#[derive(Debug, Clone)]
pub struct Cell(Arc<Mutex<Shared>>);

impl Cell {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Plain numbers: a panic in another holder leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn figures(&self, line: &LineId, now: Boot) -> LineFigures {
        let shared = self.lock();
        let Counters { requests, answers, silent, garbled, refused, late, foreign, missed } = shared.counters;
        let utilisation = shared.usage.share(now);
        LineFigures {
            line: line.clone(),
            state: shared.state,
            reason: shared.reason.clone(),
            requests,
            answers,
            silent,
            garbled,
            refused,
            late,
            foreign,
            missed,
            utilisation,
            framing: shared.framing,
            devices: shared.devices.iter().map(|(device, a)| figures(device, a, utilisation)).collect(),
        }
    }
}

fn figures(device: &DeviceId, a: &Answers, utilisation: f64) -> DeviceFigures {
    let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let tenths = |d: Duration| (d.as_secs_f64() * 10_000.0).round() / 10.0;
    DeviceFigures {
        device: device.clone(),
        requests: a.requests,
        answers: a.answers,
        silent: a.silent,
        garbled: a.garbled,
        refused: a.refused,
        late: a.late,
        worst_late_ms: ms(a.worst_late),
        timeout_ms: ms(a.timeout),
        timeout_wanted_ms: a.timeout_wanted.map(ms),
        answer_ms: a.mean().map(tenths),
        answer_p95_ms: a.p95().map(tenths),
        gap_ms: ms(a.gap),
        cycle_ms: a.cycle(utilisation).map(ms),
        holes: a.holes,
        trouble: if a.no_path { "the gateway has no path to it" } else { "" },
    }
}

pub struct Report {
    line: LineId,
    doors: Doors,
    cell: Cell,
    published: Counters,
    /// When it could last have handed over.
    chance: Boot,
    capture: Capture,
}

/// Readings that wait for company at most.
const READINGS: usize = 32;

impl Report {
    pub fn new(line: LineId, doors: Doors, capture: Capture) -> Report {
        let shared = Shared {
            counters: Counters::default(),
            usage: Usage::default(),
            state: LineState::Unknown,
            reason: String::new(),
            framing: "",
            devices: Vec::new(),
        };
        Report { line, doors, cell: Cell(Arc::new(Mutex::new(shared))), published: Counters::default(), capture, chance: Boot(0) }
    }

    pub fn capture(&self) -> Capture {
        self.capture.clone()
    }

    /// A frame without bytes stands for one that carries a secret.
    pub fn sent(&self, at: Boot, frame: &[u8], is_secret: bool) {
        self.capture.put(at, true, if is_secret { &[] } else { frame });
    }

    pub fn heard(&self, at: Boot, bytes: &[u8], is_secret: bool) {
        self.capture.put(at, false, if is_secret { &[] } else { bytes });
    }

    pub fn cell(&self) -> Cell {
        self.cell.clone()
    }

    /// Whether to hand over now, between two requests: what is urgent at once, readings when the next chance is likely to
    /// make the oldest wait longer than [`Doors::company`].
    pub fn is_due(&mut self, out: &Out, now: Boot) -> bool {
        let between = now - std::mem::replace(&mut self.chance, now);
        let Some(Bulk::Reading(oldest)) = out.bulk.front() else { return true };
        let only_readings = out.urgent.is_empty() && out.notes.is_empty() && out.site.is_empty();
        !only_readings || self.is_watched(out) || out.bulk.len() >= READINGS || now - oldest.at + between > self.company()
    }

    fn is_watched(&self, out: &Out) -> bool {
        let watched = &self.doors.watched;
        let is = |message: &Bulk| match message {
            Bulk::Reading(r) => watched.get(&r.device).is_some_and(|points| r.points.iter().any(|p| points.contains(p))),
            _ => false,
        };
        !watched.is_empty() && out.bulk.iter().any(is)
    }

    pub fn company(&self) -> Duration {
        self.doors.company
    }

    /// Hands over what the doors take. `false`: something is left, the line must wait before its next request.
    pub fn flush(&mut self, core: &mut impl Step) -> bool {
        self.publish(core);
        while let Some(told) = core.out().site.pop_front() {
            (told.job.tell)(told.report);
        }
        while let Some(message) = core.out().urgent.pop_front() {
            if let Err(TrySendError::Full(message)) = self.doors.urgent.try_send(message) {
                core.out().urgent.push_front(message);
                break;
            }
        }
        let watched = self.is_watched(core.out());
        while let Some(message) = core.out().bulk.pop_front() {
            if let Err(TrySendError::Full(message)) = self.doors.bulk.try_send(message) {
                core.out().bulk.push_front(message);
                break;
            }
        }
        if watched {
            self.doors.bursts.hurry();
        }
        core.out().is_empty()
    }

    /// Waits until the doors have taken everything.
    pub async fn deliver(&mut self, core: &mut impl Step) {
        if self.flush(core) {
            return;
        }
        // A closed door means that the gateway stops; what it does not take is lost by intent.
        while let Some(message) = core.out().urgent.pop_front() {
            let _ = self.doors.urgent.send(message).await;
        }
        while let Some(message) = core.out().bulk.pop_front() {
            let _ = self.doors.bulk.send(message).await;
        }
    }

    fn publish(&mut self, core: &mut impl Step) {
        let counters = core.counters();
        if counters == self.published && core.out().notes.is_empty() {
            return;
        }
        self.published = counters;
        let (state, reason) = core.line_state();
        let (reason, framing) = (reason.to_owned(), core.framing());
        {
            let mut shared = self.cell.lock();
            shared.counters = counters;
            shared.usage = core.usage();
            shared.state = state;
            shared.framing = framing;
            core.tell_devices(&mut shared.devices);
            if shared.reason != reason {
                shared.reason = reason;
            }
        }
        while let Some(note) = core.out().notes.pop_front() {
            self.log(&note);
        }
    }

    fn log(&self, note: &Note) {
        let line = &self.line;
        match note {
            Note::Up => tracing::debug!(%line, "line up"),
            Note::Down { reason } => tracing::debug!(%line, reason, "line down"),
            Note::Echo => tracing::info!(%line, "the adapter hears its own requests; they are skipped"),
            Note::Chain { device, base, models, points, unknown } => {
                tracing::info!(%line, %device, base, models, points, ?unknown, "SunSpec models found");
            }
            Note::NoChain { device, why } => tracing::warn!(%line, %device, why, "no SunSpec models; is it this unit, and is Modbus on?"),
            Note::Dead { device } => tracing::info!(%line, %device, "no answer to two polls; it is probed instead"),
            Note::Alive { device } => tracing::info!(%line, %device, "it answers again; polled as configured"),
            Note::NotSetUp { device, reason } => tracing::warn!(%line, %device, reason, "its setup was not accepted; tried again"),
            Note::SetUp { device } => tracing::info!(%line, %device, "its setup is accepted now"),
            Note::Framing(framing) => tracing::info!(%line, framing, "found out what is spoken there"),
            Note::NoPath { device, is_gone: false } => {
                tracing::warn!(%line, %device, "the gateway says that it has no path to this unit (exception 10); look at its own routing or serial side");
            }
            Note::NoPath { device, is_gone: true } => tracing::info!(%line, %device, "the gateway has a path to this unit again"),
            Note::Gap { device, gap } => {
                let gap_ms = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
                tracing::info!(%line, %device, gap_ms, "it misses requests; the silence after its answers was lengthened");
            }
            Note::Slow { device, timeout } => {
                let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(%line, %device, timeout_ms, "answers came after its timeout, which was raised; write timeout = \"{timeout_ms}ms\"");
            }
        }
    }
}
