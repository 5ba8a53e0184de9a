//! The store as its users see it. Each test of the suite runs against both back ends.

mod cursors;
mod faults;
mod limits;
mod model;
mod progress;
mod replacing;
mod schedules;
mod size;
mod suite;
mod thin;
mod upkeep;

use super::*;
use crate::{
    config::Buffer,
    model::{Boot, DeviceId, Event, EventKind, Frame, Key, PointId, Receipt, Row, Settled, UplinkIndex, Value},
    system::clock::Clock,
};
use std::{
    path::Path,
    sync::mpsc::{self, Receiver},
    time::Duration,
};
use tempfile::TempDir;

/// The one uplink of most tests.
const U: UplinkIndex = UplinkIndex::FIRST;
const WINDOW: Duration = Duration::from_secs(1);

/// In RAM where there is such a place: these tests are about order and content, not about the disk.
fn dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn options(dir: &Path, backing: Backing) -> Options {
    let buffer = Buffer {
        window: WINDOW,
        ack_within: Duration::from_millis(100),
        disk_max: 64 << 20,
        thin_window: Duration::ZERO,
        card_endurance: 1 << 42,
    };
    Options { data_dir: dir.to_owned(), buffer, clock: Clock::Real, backing, linger: Duration::ZERO, uplinks: vec![], epoch_seed: None }
}

fn device(n: usize) -> DeviceId {
    DeviceId::parse(&format!("meter-{n}")).unwrap()
}

/// One row of `points` values that tell `tag` apart.
fn frames(tag: u64, points: usize, at: Boot) -> Vec<Frame> {
    let names: Arc<[PointId]> = (0..points).map(|p| PointId::parse(&format!("p{p}")).unwrap()).collect();
    let values = (0..points as u64).map(|p| Value::Uint(tag * 1000 + p)).collect();
    vec![Frame { device: device(0), points: names, rows: vec![Row { at, values, quality: None }], thin: None }]
}

/// Receipts whose end can be waited for.
fn receipts() -> (impl Fn(u64) -> Receipt, Receiver<(u64, Settled)>) {
    let (tell, told) = mpsc::channel();
    let tell: Arc<dyn Fn(u64, Settled) + Send + Sync> = Arc::new(move |id, how| _ = tell.send((id, how)));
    (move |id| Receipt::new(id, Arc::clone(&tell)), told)
}

fn event(n: u64) -> Event {
    Event { at: Boot(n), kind: EventKind::Registered { device: device(0), via: n.to_string() } }
}

/// Submits and waits until it is committed.
async fn submit(store: &Store, changes: Vec<Change>) -> Result<(), Arc<StoreError>> {
    let (tell, told) = tokio::sync::oneshot::channel();
    store.submit(changes, |result| tell.send(result).unwrap()).await;
    told.await.unwrap()
}

async fn accept(store: &Store, command: Command) -> Accepted {
    let (tell, told) = tokio::sync::oneshot::channel();
    store.accept(command, |result| tell.send(result).unwrap()).await;
    told.await.unwrap().unwrap()
}

fn gaps(store: &Store) -> Vec<(Key, u64, u64)> {
    let mut out = Vec::new();
    while let Some(message) = store.events().next(U) {
        for e in message.events.iter() {
            if let EventKind::Gap { epoch, stream, from, to, samples, .. } = &e.kind {
                out.push((Key { epoch: *epoch, stream: *stream, seq: *from }, *to, *samples));
            }
        }
    }
    out
}
