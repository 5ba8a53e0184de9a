//! The owner of a line in virtual time: the real core, with a simulated bus instead of a port or socket.
//!
//! The same loop as the owner of a TCP line. What it hands over is logged here, at the door: from here on it is the
//! gateway's to keep.

use crate::{
    bus::{Bus, Came},
    world::{Taken, World},
};
use fieldgate::{
    config::{Device, Line},
    drivers::{
        Doors,
        line::{
            core::Core,
            event::{Event, Want},
        },
    },
    model::{Boot, Bulk, Heard, Order, Reading, Urgent},
};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub struct Owner {
    pub bus: Arc<Bus>,
    pub world: Arc<World>,
    pub devices: Vec<Device>,
    pub doors: Doors,
    pub orders: mpsc::Receiver<Order>,
    pub life: usize,
    core: Core,
}

/// What the core wants, by value.
enum Todo {
    Open,
    Send(Vec<u8>),
    Recv(Boot),
    Silence(Boot),
    Idle(Boot),
}

enum Happened {
    Bus(Came),
    Sent,
    Opened,
    Failed(&'static str),
    Order(Order),
}

impl Owner {
    pub fn new(
        line: &Line,
        devices: Vec<Device>,
        bus: Arc<Bus>,
        world: Arc<World>,
        doors: Doors,
        orders: mpsc::Receiver<Order>,
        life: usize,
    ) -> Owner {
        let core = Core::new(line, devices.clone());
        Owner { bus, world, devices, doors, orders, life, core }
    }

    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.serve() => {}
        }
        // Every order that was taken is answered.
        self.orders.close();
        while let Ok(order) = self.orders.try_recv() {
            let _ = self.core.step(self.world.now(), Event::Order(order));
        }
        let _ = self.core.step(self.world.now(), Event::Stop);
        self.hand_over().await;
    }

    async fn serve(&mut self) {
        let mut happened = Happened::Bus(Came::Time);
        loop {
            let todo = self.step(happened);
            // As the real owners: what there is to tell is told before the line is used again.
            if !matches!(todo, Todo::Send(_) | Todo::Recv(_)) {
                self.hand_over().await;
            }
            happened = match todo {
                Todo::Open => match self.bus.open().await {
                    Ok(()) => Happened::Opened,
                    Err(why) => Happened::Failed(why),
                },
                Todo::Send(frame) => match self.bus.send(&frame) {
                    Came::Time => Happened::Sent,
                    lost => Happened::Bus(lost),
                },
                Todo::Recv(until) => Happened::Bus(self.bus.next(until).await),
                Todo::Silence(until) => {
                    self.world.clock.sleep_until(until).await;
                    // A line that polls without a pause is never idle: an order takes its turn here.
                    match self.orders.try_recv() {
                        Ok(order) => Happened::Order(order),
                        Err(_) => Happened::Bus(self.bus.look().unwrap_or(Came::Time)),
                    }
                }
                Todo::Idle(until) => tokio::select! {
                    biased;
                    Some(order) = self.orders.recv() => Happened::Order(order),
                    came = self.bus.next(until) => Happened::Bus(came),
                },
            };
        }
    }

    fn step(&mut self, happened: Happened) -> Todo {
        let now = self.world.now();
        let want = match happened {
            Happened::Bus(Came::Time) => self.core.step(now, Event::Time),
            Happened::Bus(Came::Bytes(bytes)) => self.core.step(now, Event::Bytes(&bytes)),
            Happened::Bus(Came::Lost(why)) => self.core.step(now, Event::Lost(why)),
            Happened::Sent => self.core.step(now, Event::Sent),
            Happened::Opened => self.core.step(now, Event::Opened),
            Happened::Failed(why) => self.core.step(now, Event::Failed(why)),
            Happened::Order(order) => self.core.step(now, Event::Order(order)),
        };
        match want {
            Want::Open => Todo::Open,
            Want::Close => unreachable!("no line here closes its connection"),
            Want::Tune(_) => unreachable!("no site tool asks here"),
            Want::Send(frame) | Want::SendSecret(frame) => Todo::Send(frame.to_vec()),
            Want::Recv { until, .. } => Todo::Recv(until),
            Want::Silence(until) => Todo::Silence(until),
            Want::Idle(until) => Todo::Idle(until),
        }
    }

    async fn hand_over(&mut self) {
        while let Some(message) = self.core.out.urgent.pop_front() {
            self.world.note(format!("{} door: {message:?}", self.bus.name));
            match &message {
                Urgent::Poll { device, heard: Heard::Refused(_) | Heard::Answered, at } => {
                    self.world.log().signs.push((device.clone(), *at));
                }
                Urgent::Poll { device, at, .. } => self.world.log().misses.push((device.clone(), *at)),
                Urgent::Line { state, at, .. } => self.world.log().lines_said.push((self.life, self.bus.name, *state, *at)),
                _ => {}
            }
            let _ = self.doors.urgent.send(message).await;
        }
        while let Some(message) = self.core.out.bulk.pop_front() {
            if let Bulk::Reading(reading) = &message {
                self.take(reading);
            }
            let _ = self.doors.bulk.send(message).await;
        }
    }

    fn take(&self, reading: &Reading) {
        let device = self.devices.iter().find(|d| d.id == reading.device).expect("ours");
        self.bus.judge(device.unit, reading);
        self.world.note(format!("{} door: {} {:?}", self.bus.name, reading.device, reading.values));
        let mut log = self.world.log();
        log.signs.push((reading.device.clone(), reading.at));
        for (point, value) in reading.points.iter().zip(&reading.values) {
            let due = device.points.iter().any(|p| p.id == *point && !p.report.on_change);
            let taken = Taken { value: value.clone(), life: self.life, at: reading.at, due, publication: None };
            let name = (reading.device.to_string(), point.to_string(), reading.at.ms());
            log.taken.insert(name, taken);
        }
    }
}
