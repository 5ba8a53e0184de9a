//! The status document: one verdict, then who, why and since when, then figures. `fieldgate status --json` prints it.

use crate::{
    config::{Line, Rule, Transport},
    engine::Handle,
    model::{
        Boot, DeviceFigures, DeviceId, DeviceStatus, FramePort, GatewayId, LineFigures, LineId, LineState, Receipt, Settings, SitePort,
        State, StoreHealth, StoreState, UplinkFigures, UplinkId, UplinkIndex, UplinkSpool, UplinkState, Urgent, Wear, by_word,
    },
    store::{DeadLetterRow, Store, samples::Samples},
    system::clock::Clock,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::sync::{mpsc, watch};

/// Reads the figures of one line.
pub type Figures = Box<dyn Fn() -> LineFigures + Send + Sync>;

/// Has a line forget what it learned of a device.
pub type Forget = std::sync::Arc<dyn Fn(DeviceId) -> bool + Send + Sync>;

/// Where requests go to a line.
pub struct LineDoor {
    pub line: Line,
    pub site: SitePort,
    pub frames: FramePort,
}

/// What the surfaces ask. The document is made from most of it.
/// The error says why it stays. The receipt is kept when it is durable.
pub type Replay = Box<dyn Fn(&DeadLetterRow, Receipt) -> std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

pub struct Sources {
    pub gateway: GatewayId,
    pub engine: Handle,
    pub store: Store,
    /// `None`: values are not kept here.
    pub samples: Option<Samples>,
    /// As they are configured, in the engine's order.
    pub rules: Vec<Rule>,
    pub lines: Vec<Figures>,
    pub doors: Vec<LineDoor>,
    /// Has what was learned of a device forgotten; `false`: its line is busy.
    pub forget: BTreeMap<DeviceId, Forget>,
    /// Hands a dead letter in again where it came from.
    pub replay: Replay,
    /// Where local commands go in, as those of the cloud do. Weak, so that surfaces hold no door open at the stop.
    pub urgent: mpsc::WeakSender<Urgent>,
    /// In the order of their indices; whether each is required.
    pub uplinks: Vec<(UplinkId, bool, watch::Receiver<UplinkFigures>)>,
    pub clock: Clock,
    pub started: Boot,
    pub epoch: String,
    /// `buffer.card_endurance`.
    pub card_endurance: u64,
}

impl Sources {
    /// `None`: the engine has stopped.
    pub async fn document(&self, all: bool) -> Option<Value> {
        let snapshot = self.engine.snapshot().await?;
        let now = self.clock.now();
        let figures: Vec<LineFigures> = self.lines.iter().map(|f| f()).collect();
        let spool = self.store.spool().figures(now);
        let health = self.store.health();
        let (reading, _) = self.store.clock();
        let held = self.store.held_until(now);
        let uplinks = (0..).map(UplinkIndex).zip(&self.uplinks).map(|(u, (id, required, f))| {
            let mut row = uplink(id, &f.borrow(), now);
            row["required"] = json!(required);
            backlog(&mut row, &self.store.spool().figures_of(u, now));
            row
        });
        let uplinks: Vec<Value> = uplinks.collect();
        let well = !snapshot.devices.iter().any(|d| d.state == State::Offline)
            && !snapshot.lines.iter().any(|(_, state, _)| *state == LineState::Down)
            && !self.uplinks.iter().any(|(.., f)| f.borrow().state == UplinkState::Down)
            && spool.dropped_samples == 0
            && snapshot.alarms_unseen == 0
            && health.iter().all(|file| file.state == StoreState::Ok);
        let mut exceptions: Vec<&DeviceStatus> = snapshot.devices.iter().filter(|d| d.state != State::Online).collect();
        exceptions.sort_by_key(|d| (rank(d.state), d.since));
        let mut document = json!({
            "v": 1,
            "verdict": if well { "well" } else { "trouble" },
            "gateway": {"id": self.gateway, "version": env!("CARGO_PKG_VERSION"), "running_s": seconds(now, self.started), "epoch": self.epoch},
            "uplinks": uplinks,
            "spool": {
                "waiting": spool.waiting_samples,
                "waiting_batches": spool.waiting_batches,
                "oldest_age_s": spool.oldest_age_ms.map(|ms| ms / 1000),
                "sealed": spool.sealed_samples,
                "acknowledged": spool.acknowledged_samples,
                "dropped": spool.dropped_samples,
                "thinned": spool.thinned_samples,
                "commits": spool.commits,
                "bytes_written": spool.bytes_written,
            },
            "lines": lines(&snapshot.lines, &figures, &snapshot.devices, &self.doors),
            "devices": by_word(snapshot.devices.iter().cloned()),
            "exceptions": exceptions.iter().map(|d| device(d, now)).collect::<Vec<_>>(),
            "clock": {
                "quality": reading.quality, "source": reading.source, "offset_ms": reading.offset_ms, "error_ms": reading.error_ms,
                "held_for_s": held.map(|until| (until - now).as_secs()),
                "held_batches": held.map_or(0, |_| spool.waiting_batches),
            },
            "disk": {"bytes": spool.disk_bytes, "max": spool.disk_max},
            "store": health.iter().map(|file| store(file, now)).collect::<Vec<_>>(),
            "history": self.samples.as_ref().map(|s| history(&s.figures())),
            "wear": wear(self.store.wear(), self.card_endurance),
            "alarms": {"unseen": snapshot.alarms_unseen},
            "samples_in": snapshot.samples_in,
        });
        if all {
            let mut rows: BTreeMap<&DeviceId, &DeviceFigures> = figures.iter().flat_map(|f| &f.devices).map(|f| (&f.device, f)).collect();
            let row = |d: &DeviceStatus| {
                let mut row = device(d, now);
                row["figures"] = json!(rows.remove(&d.device));
                row
            };
            document["all"] = snapshot.devices.iter().map(row).collect();
        }
        Some(document)
    }
}

pub(super) fn store(h: &StoreHealth, now: Boot) -> Value {
    json!({"file": h.file, "state": h.state, "since_s": seconds(now, h.since), "detail": h.detail})
}

pub(super) fn history(f: &crate::store::samples::Figures) -> Value {
    json!({"bytes": f.bytes, "commits": f.commits, "lost": f.lost, "trouble": f.trouble})
}

/// What the databases cost the card, counted over restarts, and what the kernel counts of this process beside it.
fn wear(w: Wear, endurance: u64) -> Value {
    json!({
        "bytes": w.bytes, "syncs": w.syncs, "counted_s": w.ran_ms / 1000,
        "bytes_per_day": w.bytes_per_day(), "syncs_per_day": w.syncs_per_day(),
        "card_endurance": endurance, "card_days": w.card_days(endurance), "process_bytes": process_bytes(),
    })
}

/// Without the journal of the file system, with everything else that the process writes. `None`: the kernel does not count.
fn process_bytes() -> Option<u64> {
    let io = std::fs::read_to_string("/proc/self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())
}

/// Trouble first.
const fn rank(state: State) -> u8 {
    match state {
        State::Offline => 0,
        State::Suspect => 1,
        State::Unknown => 2,
        State::Online => 3,
    }
}

fn seconds(now: Boot, since: Boot) -> u64 {
    (now - since).as_secs()
}

pub(super) fn uplink(id: &UplinkId, f: &UplinkFigures, now: Boot) -> Value {
    json!({
        "id": id, "state": f.state, "since_s": seconds(now, f.since), "reason": f.reason, "answer_ms": f.answer_ms,
        "sent": f.messages_sent, "acknowledged": f.messages_acknowledged, "bytes_sent": f.bytes_sent, "connects": f.connects,
        "broker": &*f.broker, "in_flight": f.in_flight, "window": f.window,
    })
}

fn backlog(row: &mut Value, f: &UplinkSpool) {
    row["waiting"] = json!(f.waiting_samples);
    row["oldest_age_s"] = json!(f.oldest_age_ms.map(|ms| ms / 1000));
    row["samples_acknowledged"] = json!(f.acknowledged_samples);
    row["dropped"] = json!(f.dropped_samples);
    row["drain_rate"] = json!(f.drain_rate);
    row["drained_in_s"] = json!(f.drained_in_s);
}

pub(super) fn device(d: &DeviceStatus, now: Boot) -> Value {
    json!({
        "id": d.device, "line": d.line, "state": d.state, "cause": d.cause, "since_s": seconds(now, d.since), "missed": d.missed,
        "evidence": d.evidence.map(|e| json!({"kind": e.kind, "age_s": seconds(now, e.at)})),
    })
}

/// Where a line leads, as people call it: `ttyUSB0, 9600 8E1`.
fn at(line: &Line) -> String {
    match &line.transport {
        Transport::Serial(s) => {
            let name = s.path.file_name().unwrap_or_default().to_string_lossy();
            format!("{name}, {}", Settings { baud: s.baud, parity: s.parity, bits: s.bits, stop: s.stop })
        }
        Transport::Tcp { host, port } | Transport::RtuOverTcp { host, port } => format!("{host}:{port}"),
    }
}

fn lines(states: &[(LineId, LineState, String)], figures: &[LineFigures], devices: &[DeviceStatus], doors: &[LineDoor]) -> Vec<Value> {
    states
        .iter()
        .map(|(id, state, reason)| {
            let mine = || devices.iter().filter(|d| d.line.as_ref() == Some(id));
            let mut row = json!({
                "id": id, "state": state, "reason": reason,
                "devices": mine().count(), "online": mine().filter(|d| d.state == State::Online).count(),
            });
            if let Some(door) = doors.iter().find(|d| d.line.id == *id) {
                row["at"] = json!(at(&door.line));
            }
            if let Some(f) = figures.iter().find(|f| f.line == *id) {
                row["utilisation"] = json!(f.utilisation);
                if !f.framing.is_empty() {
                    row["framing"] = json!(f.framing);
                }
                for (key, n) in [
                    ("requests", f.requests),
                    ("answers", f.answers),
                    ("silent", f.silent),
                    ("garbled", f.garbled),
                    ("refused", f.refused),
                    ("late", f.late),
                    ("foreign", f.foreign),
                    ("missed", f.missed),
                ] {
                    row[key] = json!(n);
                }
            }
            row
        })
        .collect()
}
