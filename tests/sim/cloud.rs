//! The simulated broker, with a note of every message and of when its acknowledgement reached the gateway.

use crate::world::{Arrival, World};
use fieldgate::{
    limits,
    uplink::{
        broker::{Arrived, Broker, Hello, Link, Lost, NoLink, Welcome},
        simulated::{Simulated, SimulatedLink},
    },
};
use std::{collections::BTreeMap, sync::Arc};

#[derive(Clone)]
pub struct Cloud {
    pub broker: Simulated,
    /// The other end of the optional uplink. What arrives there is not looked at; that all of it leaves is.
    pub optional: Simulated,
    pub world: Arc<World>,
}

pub struct CloudLink {
    link: SimulatedLink,
    cloud: Cloud,
    /// Packet id to the place in the log; `None`: it never arrived.
    open: BTreeMap<u16, Option<usize>>,
}

impl Cloud {
    /// Writes down what arrived since the last time.
    pub fn collect(&self) -> Option<usize> {
        let now = self.world.now();
        for r in self.broker.take_received() {
            let topic = r.topic.rsplit('/').next().unwrap_or_default().to_owned();
            self.world.note(format!("cloud {} {topic} {}", r.link, String::from_utf8_lossy(&r.body)));
            let mut log = self.world.log();
            let life = log.life;
            log.arrivals.push(Arrival { at: now, life, link: r.link, topic, body: r.body, acknowledged: None });
            if let Some(left) = log.kill_at_publish {
                log.kill_at_publish = left.checked_sub(1).filter(|left| *left > 0);
                if log.kill_at_publish.is_none() {
                    self.world.kill.notify_one();
                }
            }
        }
        self.world.log().arrivals.len().checked_sub(1)
    }
}

impl Broker for Cloud {
    type Link = CloudLink;

    async fn connect(&mut self, hello: &Hello) -> Result<(CloudLink, Welcome), NoLink> {
        let linked = self.broker.connect(hello).await;
        self.collect();
        self.world.note(format!("link: {:?}", linked.as_ref().map(|(_, w)| w).map_err(ToString::to_string)));
        let (link, welcome) = linked?;
        Ok((CloudLink { link, cloud: self.clone(), open: BTreeMap::new() }, welcome))
    }
}

impl Link for CloudLink {
    fn publish(&mut self, topic: &str, body: &[u8], retain: bool) -> u16 {
        self.cloud.collect();
        let before = self.cloud.world.log().arrivals.len();
        let id = self.link.publish(topic, body, retain);
        let place = self.cloud.collect().filter(|n| *n >= before);
        self.open.insert(id, place);
        // Birth and goodbye need no room.
        if self.open.len() > limits::UPLINK_IN_FLIGHT + 2 {
            self.cloud.world.violation(format!("{} messages in flight", self.open.len()));
        }
        id
    }

    fn subscribe(&mut self, filter: &str) {
        self.link.subscribe(filter);
    }

    fn acknowledge(&mut self, id: u16) {
        self.cloud.world.note(format!("command message {id} acknowledged"));
        self.link.acknowledge(id);
    }

    fn unsent(&self) -> usize {
        self.link.unsent()
    }

    async fn next(&mut self) -> Result<Arrived, Lost> {
        let came = self.link.next().await;
        match &came {
            Ok(Arrived::Acknowledged(id)) => {
                if let Some(Some(n)) = self.open.remove(id) {
                    let now = self.cloud.world.now();
                    self.cloud.world.log().arrivals[n].acknowledged = Some(now);
                }
            }
            Ok(Arrived::Message(m)) => self.cloud.world.note(format!("command message {} brought", m.id)),
            Err(why) => self.cloud.world.note(format!("link lost: {why}")),
            Ok(_) => {}
        }
        came
    }

    async fn close(self) {
        self.cloud.world.note("link closed");
        self.link.close().await;
    }
}
