//! The demo's cloud: a broker (embedded, or a mosquitto that is given) and a subscriber that keeps the books.

use super::ledger::Ledger;
use crate::{
    drivers::mqtt::server::{Incoming, Options, Server},
    system::clock::Clock,
};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, PublishOptions, QoS};
use std::{
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub struct Cloud {
    pub broker: SocketAddr,
    /// Kept alive as long as the cloud is.
    _embedded: Option<Server>,
    ledger: Arc<Mutex<Ledger>>,
    client: AsyncClient,
    prefix: String,
}

/// A message as the cloud saw it, for `--messages`.
pub type Seen = mpsc::Sender<(String, Vec<u8>)>;

impl Cloud {
    /// `external`: `mqtt://host:port` of a broker to use instead of the embedded one.
    pub async fn open(external: Option<&str>, prefix: &str, seen: Option<Seen>, stop: CancellationToken) -> anyhow::Result<Cloud> {
        let (broker, embedded) = match external {
            Some(url) => (resolve(url)?, None),
            None => {
                let options = Options::open(SocketAddr::from(([127, 0, 0, 1], 0)), Clock::Real);
                let server = Server::start(
                    options,
                    Arc::new(|incoming: Incoming| {
                        incoming.receipt.keep();
                        None
                    }),
                )?;
                (server.local_addr(), Some(server))
            }
        };
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let mut options = MqttOptions::new(format!("fieldgate-demo-{}", std::process::id()), (broker.ip().to_string(), broker.port()));
        options.set_keep_alive(30);
        let (client, mut events) = AsyncClient::builder(options).capacity(64).build();
        let (books, subscriber, filter) = (ledger.clone(), client.clone(), format!("{prefix}/#"));
        let (ready, subscribed) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let mut ready = Some(ready);
            loop {
                let event = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    event = events.poll() => event,
                };
                match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        let _ = subscriber.try_subscribe(filter.clone(), QoS::AtLeastOnce);
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => {
                        if let Some(ready) = ready.take() {
                            let _ = ready.send(());
                        }
                    }
                    Ok(Event::Incoming(Packet::Publish(p))) => {
                        let topic = String::from_utf8_lossy(&p.topic).into_owned();
                        lock(&books).take(&topic, &p.payload);
                        if let Some(seen) = &seen {
                            let _ = seen.try_send((topic, p.payload.to_vec()));
                        }
                    }
                    Ok(_) => {}
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
                }
            }
        });
        tokio::time::timeout(std::time::Duration::from_secs(5), subscribed)
            .await
            .map_err(|_| anyhow::anyhow!("no broker answers at {broker}; start it, or leave out --broker to use the embedded one"))??;
        Ok(Cloud { broker, _embedded: embedded, ledger, client, prefix: prefix.to_owned() })
    }

    pub fn books(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// What a backend does to set a point.
    pub fn command(&self, id: &str, device: &str, point: &str, value: f64) {
        let body = serde_json::json!({"id": id, "device": device, "write": {point: value}, "expires_in_s": 10});
        let _ = self.client.try_publish(format!("{}/command", self.prefix), body.to_string(), PublishOptions::new(QoS::AtLeastOnce));
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

fn resolve(url: &str) -> anyhow::Result<SocketAddr> {
    let at = url.strip_prefix("mqtt://").unwrap_or(url);
    let at = if at.contains(':') { at.to_owned() } else { format!("{at}:1883") };
    at.to_socket_addrs()?.next().ok_or_else(|| anyhow::anyhow!("{url} names no address"))
}
