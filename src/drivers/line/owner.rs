//! What the two owners, thread and task, have in common: carrying what came of a want back to the core.

use super::event::{Event, Step, Want};
use crate::model::{Boot, DeviceId, Order, SiteJob};

/// What is handed to an owner from outside; each takes its turn on the line. Small: each line has room for many.
#[derive(Debug)]
pub enum Job {
    Order(Box<Order>),
    Site(Box<SiteJob>),
    /// Learn anew what the device refuses.
    Forget(DeviceId),
}

/// What came of a want, kept by value so that the owner may go on using its buffer and the core.
pub enum Came {
    Time,
    /// So many bytes are in the owner's buffer.
    Bytes(usize),
    Sent,
    Opened,
    Tuned,
    Job(Job),
    Appeared,
    Failed(String),
    Lost(String),
}

impl Came {
    pub fn tell<'a>(self, core: &'a mut impl Step, now: Boot, buffer: &[u8]) -> Want<'a> {
        match self {
            Came::Time => core.step(now, Event::Time),
            Came::Bytes(n) => core.step(now, Event::Bytes(&buffer[..n])),
            Came::Sent => core.step(now, Event::Sent),
            Came::Opened => core.step(now, Event::Opened),
            Came::Tuned => core.step(now, Event::Tuned),
            Came::Job(Job::Order(order)) => core.step(now, Event::Order(*order)),
            Came::Job(Job::Site(job)) => core.step(now, Event::Site(*job)),
            Came::Appeared => core.step(now, Event::Appeared),
            Came::Job(Job::Forget(device)) => {
                core.forget(now, &device);
                core.step(now, Event::Time)
            }
            Came::Failed(reason) => core.step(now, Event::Failed(&reason)),
            Came::Lost(reason) => core.step(now, Event::Lost(&reason)),
        }
    }
}
