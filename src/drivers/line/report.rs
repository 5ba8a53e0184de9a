//! What a line's owner hands over: messages through the doors, figures into a shared cell, changes into the log.

use super::{
    capture::Capture,
    event::{Note, Step},
    figures::{Counters, Usage},
};
use crate::{
    drivers::Doors,
    model::{Boot, LineFigures, LineId, LineState},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc::error::TrySendError;

/// Read by whoever asks for figures, written after each request.
#[derive(Debug)]
pub struct Shared {
    counters: Counters,
    usage: Usage,
    state: LineState,
    reason: String,
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
            utilisation: shared.usage.share(now),
        }
    }
}

pub struct Report {
    line: LineId,
    doors: Doors,
    cell: Cell,
    published: Counters,
    capture: Capture,
}

impl Report {
    pub fn new(line: LineId, doors: Doors) -> Report {
        let shared = Shared { counters: Counters::default(), usage: Usage::default(), state: LineState::Unknown, reason: String::new() };
        Report { line, doors, cell: Cell(Arc::new(Mutex::new(shared))), published: Counters::default(), capture: Capture::default() }
    }

    pub fn capture(&self) -> Capture {
        self.capture.clone()
    }

    pub fn sent(&self, at: Boot, frame: &[u8]) {
        self.capture.put(at, true, frame);
    }

    pub fn heard(&self, at: Boot, bytes: &[u8]) {
        self.capture.put(at, false, bytes);
    }

    pub fn cell(&self) -> Cell {
        self.cell.clone()
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
        while let Some(message) = core.out().bulk.pop_front() {
            if let Err(TrySendError::Full(message)) = self.doors.bulk.try_send(message) {
                core.out().bulk.push_front(message);
                break;
            }
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
        {
            let mut shared = self.cell.lock();
            shared.counters = counters;
            shared.usage = core.usage();
            shared.state = state;
            if shared.reason != reason {
                reason.clone_into(&mut shared.reason);
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
            Note::Dead { device } => tracing::info!(%line, %device, "no answer to two polls; it is probed instead"),
            Note::Alive { device } => tracing::info!(%line, %device, "it answers again; polled as configured"),
            Note::NotSetUp { device, reason } => tracing::warn!(%line, %device, reason, "its setup was not accepted; tried again"),
            Note::SetUp { device } => tracing::info!(%line, %device, "its setup is accepted now"),
            Note::Slow { device, timeout } => {
                let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(%line, %device, timeout_ms, "answers came after its timeout, which was raised; write timeout = \"{timeout_ms}ms\"");
            }
        }
    }
}
