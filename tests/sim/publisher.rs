//! A local publisher with QoS 1: what was not acknowledged it sends again, also to the next run of the process.

use crate::world::{Taken, World};
use fieldgate::{
    drivers::Doors,
    model::{Bulk, DeviceId, PointId, Reading, Receipt, Settled, Value},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The doors of the process that runs now, and which run it is.
#[derive(Clone, Default)]
pub struct Endpoint(Arc<Mutex<Option<(usize, Doors)>>>);

impl Endpoint {
    pub fn set(&self, doors: Option<(usize, Doors)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = doors;
    }

    fn get(&self) -> Option<(usize, Doors)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Unacknowledged at most; more would not be sent by a real client.
const OPEN: usize = 50;

pub async fn run(number: u64, every: Duration, endpoint: Endpoint, world: Arc<World>) {
    let device = DeviceId::parse(&format!("plug{number}")).expect("fits");
    let points: Arc<[PointId]> = Arc::from([PointId::parse("n").expect("fits")]);
    let (mut next, mut attempts) = (0u64, 0u64);
    let mut queue: VecDeque<u64> = VecDeque::new();
    // Attempt to content and run.
    let mut open: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
    loop {
        tokio::time::sleep(every).await;
        if open.len() + queue.len() < OPEN {
            next += 1;
            queue.push_back(next);
        }
        for _ in 0..3 {
            let here = endpoint.get();
            settle(&mut open, &mut queue, here.as_ref().map(|(life, _)| *life), &world);
            let (Some((life, doors)), Some(content)) = (here, queue.pop_front()) else { break };
            attempts += 1;
            let id = number * 1_000_000 + attempts;
            let now = world.now();
            let taken = Taken { value: Value::Uint(content), life, at: now, due: false, publication: Some(id) };
            world.note(format!("{device} publishes {content} as {id}"));
            world.log().taken.insert((device.to_string(), "n".into(), now.ms()), taken);
            let tell = world.clone();
            let receipt = Receipt::new(
                id,
                Arc::new(move |id, how| {
                    tell.note(format!("receipt {id} {how:?}"));
                    tell.log().receipts.insert(id, how);
                }),
            );
            let reading =
                Reading { device: device.clone(), at: now, points: points.clone(), values: vec![Value::Uint(content)], quality: None };
            let message =
                Bulk::Message { device: device.clone(), via: "plugs".into(), readings: vec![reading], at: now, retained: false, receipt };
            open.insert(id, (content, life));
            // A door that is gone drops the message and with it the receipt.
            let _ = doors.bulk.try_send(message);
            drop(doors);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// What is acknowledged is forgotten; what never will be is sent again.
fn settle(open: &mut BTreeMap<u64, (u64, usize)>, queue: &mut VecDeque<u64>, life: Option<usize>, world: &World) {
    let log = world.log();
    let mut again = Vec::new();
    open.retain(|id, (content, of)| match log.receipts.get(id) {
        Some(Settled::Kept) => false,
        Some(Settled::NotKept) => {
            again.push(*content);
            false
        }
        None if life != Some(*of) && life.is_some() => {
            again.push(*content);
            false
        }
        None => true,
    });
    again.into_iter().rev().for_each(|content| queue.push_front(content));
}
