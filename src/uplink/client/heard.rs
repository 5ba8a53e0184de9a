//! What the broker sends, read by the codec of either version into one form. Bounded before it is believed.

use super::{
    oversized::{self, Cut, PACKET_BYTES},
    packets,
};
use crate::{
    config::Mqtt,
    limits,
    uplink::broker::{Lost, Message, NoLink, Refusal, Welcome},
};
use bytes::BytesMut;
use rumqttc::{Packet as V4, QoS as Q4, SubscribeReasonCode as S4, mqttbytes::Error as E4};
use rumqttc5::{Packet as V5, QoS as Q5, SubscribeReasonCode as S5, mqttbytes::Error as E5};
use std::time::Duration;

/// One packet, as far as it matters here.
#[derive(Debug)]
pub enum Heard {
    Greeting(Result<Greeting, NoLink>),
    /// PUBACK; with a refusal if it says so.
    Acknowledged(u16, Option<Refusal>),
    /// PUBACK that makes the connection useless: its ids are not ours alone.
    Confused,
    Subscribed {
        granted: bool,
    },
    Message(Message),
    /// The beginning of a message that is too large, and how many bytes of it are still to come.
    Cut(Message, usize),
    /// DISCONNECT: why, and whether it was something that we sent.
    Goodbye(String, bool),
    /// Nothing to act on, PINGRESP for one.
    Nothing,
    /// What no broker sends to a client, or not now.
    Odd(&'static str),
}

impl Heard {
    pub fn name(&self) -> &'static str {
        match self {
            Heard::Greeting(_) => "CONNACK",
            Heard::Acknowledged(..) | Heard::Confused => "PUBACK",
            Heard::Subscribed { .. } => "SUBACK",
            Heard::Message(_) | Heard::Cut(..) => "PUBLISH",
            Heard::Goodbye(..) => "DISCONNECT",
            Heard::Nothing => "PINGRESP",
            Heard::Odd(what) => what,
        }
    }
}

/// CONNACK that lets us in.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Greeting {
    pub welcome: Welcome,
    /// The broker's word counts if it gives one.
    pub keep_alive: Option<Duration>,
}

/// The first packet of the buffer; `None`: more bytes are needed.
pub fn read(version: Mqtt, buffer: &mut BytesMut) -> Result<Option<Heard>, Lost> {
    let (result, large) = match version {
        Mqtt::V311 => match V4::read(buffer, PACKET_BYTES) {
            Ok(packet) => (Ok(v4(packet)), false),
            Err(E4::InsufficientBytes(_)) => return Ok(None),
            Err(e) => (Err(Lost::Garbled(e.to_string())), matches!(e, E4::PayloadSizeLimitExceeded(_))),
        },
        Mqtt::V5 => match V5::read(buffer, u32::try_from(PACKET_BYTES).ok()) {
            Ok(packet) => (Ok(v5(packet)), false),
            Err(E5::InsufficientBytes(_)) => return Ok(None),
            Err(e) => (Err(Lost::Garbled(format!("{e:?}"))), matches!(e, E5::PayloadSizeLimitExceeded { .. })),
        },
    };
    if !large {
        return result.map(Some);
    }
    match oversized::take(buffer, version) {
        None => Ok(None),
        Some(Ok(Cut { message, skip })) => Ok(Some(Heard::Cut(message, skip))),
        Some(Err(())) => Err(Lost::Garbled("a packet without end".into())),
    }
}

fn v4(packet: V4) -> Heard {
    match packet {
        V4::ConnAck(ack) if ack.code == rumqttc::ConnectReturnCode::Success => {
            Heard::Greeting(Ok(Greeting { welcome: Welcome { resumed: ack.session_present, ..Welcome::default() }, keep_alive: None }))
        }
        V4::ConnAck(ack) => Heard::Greeting(Err(NoLink::Refused(super::words::refused_v4(ack.code).into()))),
        V4::PubAck(ack) => Heard::Acknowledged(ack.pkid, None),
        V4::SubAck(ack) => Heard::Subscribed { granted: ack.return_codes.iter().all(|code| matches!(code, S4::Success(_))) },
        V4::Publish(p) => Heard::Message(Message {
            id: if p.qos == Q4::AtMostOnce { 0 } else { p.pkid },
            topic: packets::topic(&p.topic),
            length: p.payload.len(),
            body: p.payload,
            retained: p.retain,
            again: p.dup,
        }),
        V4::PingResp => Heard::Nothing,
        _ => Heard::Odd("a packet that no broker sends"),
    }
}

fn v5(packet: V5) -> Heard {
    use rumqttc5::PubAckReason as R;
    match packet {
        V5::ConnAck(ack) => Heard::Greeting(greeting(ack)),
        V5::PubAck(ack) => {
            let refusal = match ack.reason {
                R::Success | R::NoMatchingSubscribers => None,
                R::UnspecifiedError => Some(Refusal::Unspecified),
                R::ImplementationSpecificError => Some(Refusal::Implementation),
                R::NotAuthorized => Some(Refusal::NotAuthorised),
                R::TopicNameInvalid => Some(Refusal::Topic),
                R::QuotaExceeded => Some(Refusal::Quota),
                R::PayloadFormatInvalid => Some(Refusal::Payload),
                R::PacketIdentifierInUse => return Heard::Confused,
            };
            Heard::Acknowledged(ack.pkid, refusal)
        }
        V5::SubAck(ack) => Heard::Subscribed { granted: ack.return_codes.iter().all(|code| matches!(code, S5::Success(_))) },
        V5::Publish(p) => Heard::Message(Message {
            id: if p.qos == Q5::AtMostOnce { 0 } else { p.pkid },
            topic: packets::topic(&p.topic),
            length: p.payload.len(),
            body: p.payload,
            retained: p.retain,
            again: p.dup,
        }),
        V5::Disconnect(d) => {
            let said = d.properties.and_then(|p| p.reason_string).filter(|s| !s.is_empty());
            let why = super::words::goodbye_v5(d.reason_code);
            let why = said.map_or_else(|| why.to_owned(), |said| format!("{why} (\"{}\")", super::words::short(&said)));
            Heard::Goodbye(why, super::words::is_content(d.reason_code))
        }
        V5::PingResp => Heard::Nothing,
        V5::Auth(_) => Heard::Odd("AUTH, which was not agreed on"),
        _ => Heard::Odd("a packet that no broker sends"),
    }
}

fn greeting(ack: rumqttc5::ConnAck) -> Result<Greeting, NoLink> {
    let properties = ack.properties;
    if ack.code != rumqttc5::ConnectReturnCode::Success {
        let said = properties.as_ref().and_then(|p| p.reason_string.as_deref()).filter(|s| !s.is_empty());
        let why = super::words::refused_v5(ack.code);
        return Err(NoLink::Refused(said.map_or_else(|| why.to_owned(), |said| format!("{why} (\"{}\")", super::words::short(said)))));
    }
    let mut welcome = Welcome { resumed: ack.session_present, ..Welcome::default() };
    let Some(p) = properties else { return Ok(Greeting { welcome, keep_alive: None }) };
    let refuse = |why: &str| Err(NoLink::Refused(why.into()));
    if p.assigned_client_identifier.is_some() {
        return refuse("it gave us another client id, so commands would not find us; allow our client_id there");
    }
    if p.max_qos == Some(0) {
        return refuse("it takes messages without acknowledgement only, so nothing could be known to have arrived; allow QoS 1 there");
    }
    if p.retain_available == Some(0) {
        return refuse("it keeps no retained messages, which birth, will and the device list need; allow them there");
    }
    welcome.receive_max = p.receive_max.map(|n| n.max(1));
    if let Some(max) = p.max_packet_size.filter(|max| *max < limits::PACKET_MIN) {
        return refuse(&format!("it takes packets of {max} bytes at most; allow {} there", limits::PACKET_MIN));
    }
    welcome.max_packet = p.max_packet_size;
    let keep_alive = p.server_keep_alive.filter(|s| *s > 0).map(|s| Duration::from_secs(s.into()));
    Ok(Greeting { welcome, keep_alive })
}
