//! `GET /metrics`: the figures of the gateway for Prometheus, or as OpenMetrics for who asks for that.
//!
//! No label names a device, a point or a rule: there may be 10,000 of them, and each would be a series in somebody's database for
//! months. Devices are counted by state; who is meant is on the pages and in the events (docs/decisions/0049). Lines have labels up
//! to `limits::METRICS_LINES`; further ones are summed.

use super::{
    Desk,
    exposition::{Histogram, Labels, Page},
    health,
};
use crate::{
    engine::Figures,
    limits,
    model::{ClockQuality, Latency, LineFigures, LineState, UplinkFigures, UplinkIndex, UplinkSpool, UplinkState},
    system::memory,
};
use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use std::{sync::Arc, time::Duration};

const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub async fn page(State(desk): State<Arc<Desk>>, headers: HeaderMap) -> Response {
    let asked = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let open = asked.contains("application/openmetrics-text");
    let engine = desk.pulse.feel(&desk).await;
    let mut page = Page::new(open);
    gateway(&mut page, &desk, engine.as_deref());
    if let Some(engine) = &engine {
        doors(&mut page, engine);
        devices(&mut page, engine);
    }
    lines(&mut page, &folded(desk.sources.lines.iter().map(|f| f()).collect()));
    uplinks(&mut page, &desk);
    store(&mut page, &desk);
    let mut response = page.finish().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(if open { OPEN } else { PLAIN }));
    response
}

const NONE: Labels<'static> = &[];

fn one<V>(value: V) -> [(Labels<'static>, V); 1] {
    [(NONE, value)]
}

#[allow(clippy::cast_precision_loss)] // 285 years in milliseconds are exact
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

fn gateway(page: &mut Page, desk: &Desk, engine: Option<&Figures>) {
    let sources = &desk.sources;
    let clock = sources.store.clock().0;
    let wall = |at| seconds(u64::try_from(clock.wall(at).0).unwrap_or(0));
    page.info(
        "fieldgate_build",
        "The program and whose figures these are.",
        &[("version", env!("CARGO_PKG_VERSION")), ("gateway", sources.gateway.as_str())],
    );
    let ready = health::ready(desk, engine);
    page.gauge("fieldgate_ready", "Whether what comes in is kept, as GET /health says.", one(u8::from(ready)));
    page.gauge("process_start_time_seconds", "When it was started, in seconds since 1970.", one(wall(sources.started)));
    page.gauge("process_resident_memory_bytes", "Memory that it holds.", memory::resident_bytes().map(|bytes| (NONE, bytes)));
    let last = engine.and_then(|e| e.heard).map(|at| (NONE, wall(at)));
    page.gauge("fieldgate_last_reading_timestamp_seconds", "When the last values were read or came in, in seconds since 1970.", last);
    let synchronised = clock.quality == ClockQuality::Synchronised;
    page.gauge("fieldgate_clock_synchronised", "Whether the time is known from the network.", one(u8::from(synchronised)));
}

fn doors(page: &mut Page, e: &Figures) {
    let (urgent, bulk): (Labels, Labels) = (&[("queue", "urgent")], &[("queue", "bulk")]);
    page.counter(
        "fieldgate_messages",
        "Messages taken in: urgent are states and replies, bulk is telemetry.",
        [(urgent, e.urgent), (bulk, e.bulk)],
    );
    page.counter("fieldgate_readings", "Polls and messages with values.", one(e.readings));
    page.counter("fieldgate_samples", "Values taken in.", one(e.samples));
    page.gauge("fieldgate_queue_messages", "Messages that wait for the engine.", [(urgent, e.urgent_waiting), (bulk, e.bulk_waiting)]);
    page.gauge(
        "fieldgate_queue_limit_messages",
        "At so many who hands them in must wait.",
        [(urgent, limits::URGENT), (bulk, limits::BULK)],
    );
    page.gauge("fieldgate_commands_open", "Commands that have not ended.", one(e.commands_open));
    page.gauge("fieldgate_alarms_unseen", "Raised alarms of rules that nobody has acknowledged.", one(e.alarms_unseen));
}

#[allow(clippy::cast_precision_loss)] // some ten thousand
fn devices(page: &mut Page, e: &Figures) {
    let labels: Vec<[(&str, &str); 1]> = e.devices.keys().map(|word| [("state", *word)]).collect();
    let counts = labels.iter().zip(e.devices.values()).map(|(labels, n)| (&labels[..], *n));
    page.gauge("fieldgate_devices", "Devices by state.", counts);
    let judged = e.all_devices() - e.count("maintenance");
    let share = (judged > 0).then(|| (NONE, e.count("online") as f64 / judged as f64));
    page.gauge("fieldgate_devices_online_ratio", "Share of the devices that is online, without those in maintenance.", share);
}

/// The first lines as they are, all others as one.
fn folded(mut all: Vec<LineFigures>) -> Vec<(String, LineFigures)> {
    let others = all.split_off(all.len().min(limits::METRICS_LINES));
    let mut out: Vec<(String, LineFigures)> = all.into_iter().map(|f| (f.line.to_string(), f)).collect();
    out.extend(others.into_iter().reduce(together).map(|f| ("others".to_owned(), f)));
    out
}

/// The sum; up if all are, as busy as the busiest.
fn together(a: LineFigures, b: LineFigures) -> LineFigures {
    LineFigures {
        state: if a.state == LineState::Up { b.state } else { a.state },
        requests: a.requests + b.requests,
        answers: a.answers + b.answers,
        silent: a.silent + b.silent,
        garbled: a.garbled + b.garbled,
        refused: a.refused + b.refused,
        late: a.late + b.late,
        foreign: a.foreign + b.foreign,
        missed: a.missed + b.missed,
        utilisation: a.utilisation.max(b.utilisation),
        ..a
    }
}

fn lines(page: &mut Page, all: &[(String, LineFigures)]) {
    let labels: Vec<[(&str, &str); 1]> = all.iter().map(|(id, _)| [("line", id.as_str())]).collect();
    let each = || labels.iter().map(|l| &l[..]).zip(all.iter().map(|(_, f)| f));
    page.gauge("fieldgate_line_up", "Whether the line is up.", each().map(|(l, f)| (l, u8::from(f.state == LineState::Up))));
    page.gauge(
        "fieldgate_line_utilisation_ratio",
        "Share of the last minute in which the line was busy.",
        each().map(|(l, f)| (l, f.utilisation)),
    );
    page.counter("fieldgate_line_requests", "Requests sent.", each().map(|(l, f)| (l, f.requests)));
    let ends: Vec<([(&str, &str); 2], u64)> = all
        .iter()
        .flat_map(|(id, f)| {
            let ends = [("answered", f.answers), ("silent", f.silent), ("garbled", f.garbled), ("refused", f.refused)];
            ends.map(|(end, n)| ([("line", id.as_str()), ("result", end)], n))
        })
        .collect();
    page.counter("fieldgate_line_results", "How requests ended.", ends.iter().map(|(l, n)| (&l[..], *n)));
    page.counter("fieldgate_line_late_replies", "Replies that came after their request was given up.", each().map(|(l, f)| (l, f.late)));
    page.counter("fieldgate_line_foreign_frames", "Frames of others.", each().map(|(l, f)| (l, f.foreign)));
    page.counter("fieldgate_line_missed_polls", "Polls that could not run in their period.", each().map(|(l, f)| (l, f.missed)));
}

fn uplinks(page: &mut Page, desk: &Desk) {
    let now = desk.sources.clock.now();
    let spool = desk.sources.store.spool();
    let all: Vec<(String, UplinkFigures, UplinkSpool)> = (0..)
        .map(UplinkIndex)
        .zip(&desk.sources.uplinks)
        .map(|(n, (id, _, f))| (id.to_string(), f.borrow().clone(), spool.figures_of(n, now)))
        .collect();
    let labels: Vec<[(&str, &str); 1]> = all.iter().map(|(id, ..)| [("uplink", id.as_str())]).collect();
    let each = || labels.iter().map(|l| &l[..]).zip(&all);
    let is_up = |f: &UplinkFigures| u8::from(matches!(f.state, UplinkState::Up | UplinkState::CatchingUp));
    page.gauge("fieldgate_uplink_up", "Whether the broker is connected.", each().map(|(l, (_, f, _))| (l, is_up(f))));
    page.counter("fieldgate_uplink_connects", "Connections made.", each().map(|(l, (_, f, _))| (l, f.connects)));
    page.counter(
        "fieldgate_uplink_sent_messages",
        "Messages sent, with those sent again.",
        each().map(|(l, (_, f, _))| (l, f.messages_sent)),
    );
    page.counter("fieldgate_uplink_sent_bytes", "Bytes of messages sent.", each().map(|(l, (_, f, _))| (l, f.bytes_sent)));
    page.counter(
        "fieldgate_uplink_acknowledged_messages",
        "Messages that the broker acknowledged.",
        each().map(|(l, (_, f, _))| (l, f.messages_acknowledged)),
    );
    page.gauge(
        "fieldgate_uplink_answer_seconds",
        "From a message to its acknowledgement, the latest.",
        each().filter_map(|(l, (_, f, _))| Some((l, seconds(f.answer_ms?)))),
    );
    page.gauge(
        "fieldgate_uplink_in_flight_messages",
        "Messages without their acknowledgement.",
        each().map(|(l, (_, f, _))| (l, f.in_flight)),
    );
    page.gauge("fieldgate_uplink_waiting_samples", "Values not acknowledged yet.", each().map(|(l, (.., s))| (l, s.waiting_samples)));
    page.gauge(
        "fieldgate_uplink_oldest_age_seconds",
        "Age of the oldest of them.",
        each().map(|(l, (.., s))| (l, seconds(s.oldest_age_ms.unwrap_or(0)))),
    );
    page.counter("fieldgate_uplink_dropped_samples", "Values that it never gets.", each().map(|(l, (.., s))| (l, s.dropped_samples)));
}

fn store(page: &mut Page, desk: &Desk) {
    let sources = &desk.sources;
    let spool = sources.store.spool().figures(sources.clock.now());
    page.gauge("fieldgate_spool_waiting_samples", "Values that a required uplink has not got yet.", one(spool.waiting_samples));
    page.gauge("fieldgate_spool_oldest_age_seconds", "Age of the oldest of them.", one(seconds(spool.oldest_age_ms.unwrap_or(0))));
    page.counter("fieldgate_spool_sealed_samples", "Values that were given a number.", one(spool.sealed_samples));
    page.counter("fieldgate_spool_dropped_samples", "Values that were dropped for want of room.", one(spool.dropped_samples));
    page.counter("fieldgate_spool_thinned_samples", "Values that thinned ones stand for.", one(spool.thinned_samples));
    page.gauge("fieldgate_spool_disk_bytes", "Bytes of spool.db in use.", one(spool.disk_bytes));
    page.gauge("fieldgate_spool_limit_bytes", "What it may use.", one(spool.disk_max));
    let files = sources.store.health();
    let labels: Vec<[(&str, &str); 1]> = files.iter().map(|file| [("file", file.file)]).collect();
    let written = labels.iter().map(|l| &l[..]).zip(&files).map(|(l, file)| (l, u8::from(file.state.is_written())));
    page.gauge("fieldgate_store_up", "Whether all changes of the file reach the disk.", written);
    let took: Vec<(&str, &str, Histogram)> = sources.store.commits().iter().map(|(file, took)| ("file", *file, histogram(took))).collect();
    page.histogram("fieldgate_store_commit_duration_seconds", "How long commits took; of spool.db the mean of those made together.", &took);
    let wear = sources.store.wear();
    page.counter("fieldgate_store_written_bytes", "Bytes written to the databases and their logs, over restarts.", one(wear.bytes));
    page.counter("fieldgate_store_syncs", "Flushes to the disk, over restarts.", one(wear.syncs));
    if let Some(history) = sources.samples.as_ref().map(|s| s.figures()) {
        page.gauge("fieldgate_history_bytes", "Bytes of samples.db in use.", one(history.bytes));
        page.counter("fieldgate_history_lost_samples", "Values that the local history did not keep.", one(history.lost));
    }
    let letters = sources.store.events().letters();
    let labels: Vec<[(&str, &str); 2]> = letters.keys().map(|(door, why)| [("source", *door), ("reason", *why)]).collect();
    let counts = labels.iter().map(|l| &l[..]).zip(letters.values().copied());
    page.counter("fieldgate_dead_letters", "Messages put aside, by where they came from and why.", counts);
}

#[allow(clippy::cast_precision_loss)] // five seconds at most
fn histogram(took: &Latency) -> Histogram {
    let bounds = Latency::BOUNDS_MS.iter().map(|ms| Duration::from_millis(*ms).as_secs_f64());
    Histogram { buckets: bounds.zip(took.counts).collect(), count: took.count, sum: took.sum.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LineId;

    fn line(n: usize) -> LineFigures {
        LineFigures {
            line: LineId::parse(&format!("line-{n}")).unwrap(),
            state: if n == 70 { LineState::Down } else { LineState::Up },
            reason: String::new(),
            requests: 10,
            answers: 9,
            silent: 1,
            garbled: 0,
            refused: 0,
            late: 0,
            foreign: 0,
            missed: 0,
            utilisation: 0.01 * f64::from(u8::try_from(n).unwrap()),
            framing: "",
            devices: vec![],
        }
    }

    #[test]
    fn thousands_of_lines_are_a_bounded_number_of_series() {
        let all = folded((0..80).map(line).collect());
        assert_eq!(all.len(), limits::METRICS_LINES + 1);
        let (name, others) = all.last().unwrap();
        assert_eq!((name.as_str(), others.requests, others.state), ("others", 160, LineState::Down));
        assert!((others.utilisation - 0.79).abs() < 1e-9);
        let mut page = Page::new(false);
        lines(&mut page, &all);
        let text = page.finish();
        assert_eq!(text.matches("fieldgate_line_results_total{").count(), 4 * 65);
        assert!(text.contains("fieldgate_line_results_total{line=\"others\",result=\"answered\"} 144\n"), "{text}");
        assert_eq!(folded(vec![]).len(), 0);
    }
}
