//! The demo's field: RTU meters on a pseudo-terminal at an honest 9600 baud, a PLC on TCP, and plugs that speak MQTT.

use rumqttc::{AsyncClient, Event, LastWill, MqttOptions, Packet, PublishOptions, QoS};
use std::{net::SocketAddr, time::Duration};
use tokio_util::sync::CancellationToken;

pub const METERS: u8 = 3;
/// The simulator numbers TCP lines first.
pub const TCP_LINE: usize = 0;
pub const RTU_LINE: usize = 1;
pub const PLUGS: usize = 4;
pub const BAUD: u32 = 9600;

/// A plug publishes its power twice a second, with a number that proves that none was lost.
pub fn start_plugs(gateway: SocketAddr, stop: &CancellationToken) {
    for n in 1..=PLUGS {
        tokio::spawn(plug(format!("plug-{n}"), n, gateway, stop.clone()));
    }
}

async fn plug(name: String, n: usize, gateway: SocketAddr, stop: CancellationToken) {
    let status = format!("devices/status/{name}");
    let mut options = MqttOptions::new(name.clone(), (gateway.ip().to_string(), gateway.port()));
    options.set_keep_alive(10).set_last_will(LastWill::new(&status, "0", QoS::AtLeastOnce, true));
    let (client, mut events) = AsyncClient::builder(options).capacity(16).build();
    let publisher = client.clone();
    let ticking = stop.clone();
    let connected = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let up = connected.clone();
    tokio::spawn(async move {
        let mut every = tokio::time::interval(Duration::from_millis(500));
        let mut count = 0u64;
        loop {
            tokio::select! {
                biased;
                () = ticking.cancelled() => return,
                _ = every.tick() => {}
            }
            if !up.load(std::sync::atomic::Ordering::Relaxed) {
                continue;
            }
            count += 1;
            let power = 40 + (count * 7 * n as u64) % 60;
            let body = format!(r#"{{"count":{count},"ENERGY":{{"Power":{power},"Voltage":230}}}}"#);
            let _ = publisher.try_publish(format!("tele/{name}/SENSOR"), body, PublishOptions::new(QoS::AtLeastOnce));
        }
    });
    loop {
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            event = events.poll() => event,
        };
        match event {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                let _ = client.try_publish(status.clone(), "1", PublishOptions::new(QoS::AtLeastOnce).retained());
                connected.store(true, std::sync::atomic::Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(_) => {
                connected.store(false, std::sync::atomic::Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A port that was free a moment ago, for a daemon that must be told a fixed one.
pub fn free_port() -> std::io::Result<SocketAddr> {
    std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()
}
