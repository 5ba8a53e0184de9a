//! The packets that we send, straight into the write buffer. What we read goes through rumqttc's codec.

use crate::{config::Mqtt, limits, uplink::broker::Hello};
use bytes::{BufMut, Bytes, BytesMut};
use rumqttc::{Connect, Disconnect, LastWill, PingReq, PubAck, QoS, Subscribe, mqttbytes::Error};
use std::time::Duration;

/// How long a broker of MQTT 5 keeps our session, and with it commands, after the connection is lost. In 3.1.1 that is
/// the broker's own affair.
const SESSION_EXPIRY: Duration = Duration::from_secs(30 * 86_400);

/// CONNECT with a persistent session: the broker keeps commands for us while we are away.
pub fn connect(version: Mqtt, hello: &Hello, out: &mut BytesMut) -> Result<(), String> {
    match version {
        Mqtt::V311 => connect_v4(hello, out).map_err(|e| e.to_string()),
        Mqtt::V5 => connect_v5(hello, out).map_err(|e| format!("{e:?}")),
    }
}

fn seconds(time: Duration) -> u16 {
    u16::try_from(time.as_secs()).unwrap_or(u16::MAX)
}

fn connect_v4(hello: &Hello, out: &mut BytesMut) -> Result<(), Error> {
    let mut packet = Connect::new(&hello.client_id);
    packet.clean_session = false;
    packet.keep_alive = seconds(hello.keep_alive);
    // A topic has at least one character: without one there is no will.
    packet.last_will = (!hello.will.0.is_empty()).then(|| LastWill::new(&hello.will.0, hello.will.1.clone(), QoS::AtLeastOnce, true));
    match (&hello.username, &hello.password) {
        (Some(user), Some(password)) => {
            packet.set_credentials(user, password.0.clone().into_bytes());
        }
        (Some(user), None) => {
            packet.set_username(user);
        }
        // MQTT 3.1.1 knows no password without a user name.
        (None, _) => {}
    }
    packet.write(out).map(drop)
}

fn connect_v5(hello: &Hello, out: &mut BytesMut) -> Result<(), rumqttc5::mqttbytes::Error> {
    use rumqttc5::{Connect, ConnectAuth, ConnectProperties, LastWill, QoS};
    let properties = ConnectProperties {
        session_expiry_interval: u32::try_from(SESSION_EXPIRY.as_secs()).ok(),
        // More commands than can be open at once stay with the broker.
        receive_maximum: u16::try_from(limits::COMMANDS_OPEN).ok(),
        request_problem_info: Some(1),
        ..ConnectProperties::new()
    };
    let packet = Connect {
        keep_alive: seconds(hello.keep_alive),
        client_id: hello.client_id.clone(),
        clean_start: false,
        properties: Some(properties),
    };
    let will = (!hello.will.0.is_empty()).then(|| LastWill::new(&hello.will.0, hello.will.1.clone(), QoS::AtLeastOnce, true, None));
    let auth = match (hello.username.clone(), &hello.password) {
        (Some(username), Some(password)) => ConnectAuth::UsernamePassword { username, password: password.0.clone().into_bytes().into() },
        (Some(username), None) => ConnectAuth::Username { username },
        (None, _) => ConnectAuth::None,
    };
    packet.write(&will, &auth, out).map(drop)
}

/// PUBLISH at QoS 1, without the two copies that a packet structure would cost.
pub fn publish(version: Mqtt, topic: &str, body: &[u8], retain: bool, id: u16, out: &mut BytesMut) {
    let topic = &topic.as_bytes()[..topic.len().min(usize::from(u16::MAX))];
    let properties: &[u8] = if version == Mqtt::V5 { &[0] } else { &[] };
    let remaining = 2 + topic.len() + 2 + properties.len() + body.len();
    out.reserve(remaining + 5);
    out.put_u8(0b0011_0010 | u8::from(retain));
    put_length(remaining, out);
    out.put_u16(u16::try_from(topic.len()).unwrap_or(u16::MAX));
    out.put_slice(topic);
    out.put_u16(id);
    out.put_slice(properties);
    out.put_slice(body);
}

/// 7 bits a byte, the lowest first, the top bit says that more follow. Our messages are far below the four bytes' 256 MB.
fn put_length(mut n: usize, out: &mut BytesMut) {
    loop {
        let low = u8::try_from(n % 128).expect("below 128");
        n /= 128;
        out.put_u8(if n > 0 { low | 0x80 } else { low });
        if n == 0 {
            return;
        }
    }
}

/// Of the packet id and the topic nothing can fail: it is ours.
pub fn subscribe(version: Mqtt, filter: &str, id: u16, out: &mut BytesMut) {
    match version {
        Mqtt::V311 => {
            let mut packet = Subscribe::new(filter, QoS::AtLeastOnce);
            packet.pkid = id;
            packet.write(out).map(drop).expect("a filter of ours is valid and short");
        }
        Mqtt::V5 => {
            let filter = rumqttc5::SubscribeFilter::new(filter, rumqttc5::QoS::AtLeastOnce);
            let mut packet = rumqttc5::Subscribe::new(filter, None);
            packet.pkid = id;
            packet.write(out).map(drop).expect("a filter of ours is valid and short");
        }
    }
}

/// The same bytes in both versions, as the two below.
pub fn puback(id: u16, out: &mut BytesMut) {
    PubAck::new(id).write(out).map(drop).expect("a packet id other than 0 always fits");
}

pub fn ping(out: &mut BytesMut) {
    PingReq.write(out).map(drop).expect("two bytes always fit");
}

pub fn disconnect(out: &mut BytesMut) {
    Disconnect.write(out).map(drop).expect("two bytes always fit");
}

/// The topic of a message from the broker; what is not UTF-8 is shown with replacement characters.
pub fn topic(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplink::broker::PUBLISH_EXTRA;
    use rumqttc::Packet;

    #[test]
    fn a_publish_reads_back_whatever_its_length() {
        for len in [0, 1, 100, 127, 128, 16_383, 16_384, 131_072, 2_097_152] {
            check("p/telemetry", &vec![7; len], len % 2 == 0, 0xfffe);
        }
    }

    #[track_caller]
    fn check(topic: &str, body: &[u8], retain: bool, id: u16) {
        let mut out = BytesMut::new();
        publish(Mqtt::V311, topic, body, retain, id, &mut out);
        match Packet::read(&mut out, usize::MAX) {
            Ok(Packet::Publish(p)) => {
                assert_eq!((p.topic.as_ref(), p.retain, p.pkid, p.dup), (topic.as_bytes(), retain, id, false));
                assert_eq!(p.qos, QoS::AtLeastOnce);
                assert!(p.payload == body, "{} bytes differ", body.len());
            }
            other => panic!("{other:?}"),
        }
        assert!(out.is_empty());
        publish(Mqtt::V5, topic, body, retain, id, &mut out);
        assert!(out.len() <= topic.len() + body.len() + PUBLISH_EXTRA);
        match rumqttc5::Packet::read(&mut out, None) {
            Ok(rumqttc5::Packet::Publish(p)) => {
                assert_eq!((p.topic.as_ref(), p.retain, p.pkid, p.properties), (topic.as_bytes(), retain, id, None));
                assert!(p.payload == body, "{} bytes differ", body.len());
            }
            other => panic!("{other:?}"),
        }
        assert!(out.is_empty());
    }
}
