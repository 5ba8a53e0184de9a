//! MQTT 3.1.1 packets: the fork's codec, and the only place of this room that knows it.
//!
//! [`Reader`] turns bytes into packets. A PUBLISH beyond the limit is not an error that ends the connection: its
//! publisher would send it again for ever. Its head is kept, its rest skipped, and it comes out as [`TooLarge`], to be
//! put aside and acknowledged.
//!
//! Absent on purpose: sockets, sessions, MQTT 5 and MQTT 3.1 (refused at CONNECT in words they understand).

use crate::limits;
use bytes::{Buf, Bytes, BytesMut};
pub use rumqttc::{Connect, ConnectAuth, ConnectReturnCode, LastWill, Packet, Publish, QoS, Subscribe, SubscribeReasonCode};

/// Largest packet that is read as one: a payload at its limit and a topic of up to 1 KiB.
pub const PACKET: usize = limits::PAYLOAD_BYTES + 1024 + 4;
/// Largest CONNECT: nobody unknown may make us hold more.
pub const CONNECT: usize = 16 * 1024;

/// The connection cannot be understood any more and must be closed.
#[derive(Debug, thiserror::Error)]
pub enum Garbage {
    #[error("not MQTT: {0}")]
    Packet(String),
    /// MQTT 5 is level 5; MQTT 3.1 has another name, told as level 3.
    #[error("speaks MQTT protocol level {0}; set the client to MQTT 3.1.1")]
    Level(u8),
}

/// What a [`Reader`] found.
#[derive(Debug)]
pub enum Arrived {
    Packet(Packet),
    TooLarge(TooLarge),
}

/// A PUBLISH beyond the limit, without most of its payload.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge {
    pub topic: String,
    /// 0 at QoS 0.
    pub pkid: u16,
    pub qos: u8,
    pub size: usize,
    /// Its beginning, at most `limits::DEAD_LETTER_BYTES`.
    pub head: Vec<u8>,
}

/// Bytes in, packets out. An empty one holds no memory.
#[derive(Debug, Default)]
pub struct Reader {
    rest: BytesMut,
    /// `rest` is a part of the common read buffer.
    borrowed: bool,
    skipping: Option<Skipping>,
}

#[derive(Debug)]
struct Skipping {
    qos: u8,
    size: usize,
    left: usize,
    head: Vec<u8>,
}

/// A topic of any legal length, a packet id, and what a dead letter shows.
const HEAD: usize = 2 + 65_535 + 2 + limits::DEAD_LETTER_BYTES;

impl Reader {
    /// Takes what was read. `fresh` is left empty; its memory comes back when the packets cut from it are gone.
    pub fn feed(&mut self, fresh: &mut BytesMut) {
        if self.rest.is_empty() {
            self.rest = fresh.split();
            self.borrowed = true;
        } else {
            self.rest.extend_from_slice(fresh);
            fresh.clear();
        }
    }

    /// The next whole packet, if there is one.
    pub fn next(&mut self, limit: usize) -> Result<Option<Arrived>, Garbage> {
        if self.skipping.is_some() {
            return self.skip();
        }
        match Packet::read(&mut self.rest, limit) {
            Ok(packet) => Ok(Some(Arrived::Packet(packet))),
            Err(rumqttc::Error::InsufficientBytes(_)) => Ok(None),
            Err(rumqttc::Error::PayloadSizeLimitExceeded(size)) if limit > CONNECT && self.starts_publish() => self.start_skip(size),
            Err(rumqttc::Error::InvalidProtocolLevel(level)) => Err(Garbage::Level(level)),
            Err(rumqttc::Error::InvalidProtocol) => Err(Garbage::Level(3)),
            Err(other) => Err(Garbage::Packet(other.to_string())),
        }
    }

    /// Call it when nothing more can be taken out for now: half a packet must not pin a whole read buffer.
    pub fn shrink(&mut self) {
        if self.rest.is_empty() {
            self.rest = BytesMut::new();
        } else if std::mem::take(&mut self.borrowed) {
            self.rest = BytesMut::from(&self.rest[..]);
        }
    }

    /// Whether what came first can be a CONNECT: a web browser is not kept waiting.
    pub fn starts_connect(&self) -> bool {
        self.rest.first().is_none_or(|first| *first == 0x10)
    }

    fn starts_publish(&self) -> bool {
        self.rest.first().is_some_and(|first| first >> 4 == 3)
    }

    fn start_skip(&mut self, size: usize) -> Result<Option<Arrived>, Garbage> {
        let qos = self.rest.first().map_or(0, |first| (first >> 1) & 3);
        let length = self.rest.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count() + 1;
        self.rest.advance((1 + length).min(self.rest.len()));
        self.skipping = Some(Skipping { qos, size, left: size, head: Vec::new() });
        self.skip()
    }

    fn skip(&mut self) -> Result<Option<Arrived>, Garbage> {
        let Some(skipping) = &mut self.skipping else { return Ok(None) };
        let here = skipping.left.min(self.rest.len());
        let keep = HEAD.saturating_sub(skipping.head.len()).min(here);
        skipping.head.extend_from_slice(&self.rest[..keep]);
        self.rest.advance(here);
        skipping.left -= here;
        if skipping.left > 0 {
            return Ok(None);
        }
        let Some(done) = self.skipping.take() else { return Ok(None) };
        too_large(&done).map(|found| Some(Arrived::TooLarge(found))).ok_or_else(|| Garbage::Packet("malformed publish".into()))
    }
}

fn too_large(skipped: &Skipping) -> Option<TooLarge> {
    let mut rest = skipped.head.as_slice();
    let length = usize::from(rest.try_get_u16().ok()?);
    let topic = std::str::from_utf8(rest.get(..length)?).ok()?.to_owned();
    rest.advance(length);
    let pkid = if skipped.qos == 0 { 0 } else { rest.try_get_u16().ok()? };
    if !super::topics::is_topic(&topic) || skipped.qos > 2 || (skipped.qos > 0) != (pkid > 0) {
        return None;
    }
    let head = rest[..rest.len().min(limits::DEAD_LETTER_BYTES)].to_vec();
    Some(TooLarge { topic, pkid, qos: skipped.qos, size: skipped.size, head })
}

/// 0, 1 or 2.
pub const fn number(qos: QoS) -> u8 {
    qos as u8
}

/// Writers append to `out`. None can fail on what this room gives them; a packet that cannot be written is left out.
pub fn connack(out: &mut BytesMut, code: ConnectReturnCode, session_present: bool) {
    let _ = rumqttc::ConnAck::new(code, session_present).write(out);
}

/// What a client of MQTT 5 understands as "unsupported protocol version".
pub const CONNACK_FOR_MQTT_5: [u8; 5] = [0x20, 0x03, 0x00, 0x84, 0x00];

pub fn puback(out: &mut BytesMut, pkid: u16) {
    let _ = rumqttc::PubAck::new(pkid).write(out);
}

pub fn pubrec(out: &mut BytesMut, pkid: u16) {
    let _ = rumqttc::PubRec::new(pkid).write(out);
}

pub fn pubcomp(out: &mut BytesMut, pkid: u16) {
    let _ = rumqttc::PubComp::new(pkid).write(out);
}

pub fn suback(out: &mut BytesMut, pkid: u16, codes: Vec<SubscribeReasonCode>) {
    let _ = rumqttc::SubAck::new(pkid, codes).write(out);
}

pub fn unsuback(out: &mut BytesMut, pkid: u16) {
    let _ = rumqttc::UnsubAck::new(pkid).write(out);
}

pub fn pingresp(out: &mut BytesMut) {
    let _ = rumqttc::PingResp.write(out);
}

/// `pkid` 0 is QoS 0, else QoS 1.
pub fn publish(out: &mut BytesMut, topic: &Bytes, payload: &Bytes, pkid: u16, retain: bool, dup: bool) {
    let qos = if pkid == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
    let packet = Publish { dup: dup && pkid != 0, qos, retain, topic: topic.clone(), pkid, payload: payload.clone() };
    let before = out.len();
    if packet.write(out).is_err() {
        out.truncate(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_all(bytes: &[u8], step: usize, limit: usize) -> Vec<String> {
        let (mut reader, mut found) = (Reader::default(), Vec::new());
        for piece in bytes.chunks(step.max(1)) {
            reader.feed(&mut BytesMut::from(piece));
            loop {
                match reader.next(limit) {
                    Ok(Some(Arrived::Packet(packet))) => found.push(format!("{:?}", packet.packet_type())),
                    Ok(Some(Arrived::TooLarge(big))) => found.push(format!("TooLarge {} {} {}", big.topic, big.pkid, big.head.len())),
                    Ok(None) => break,
                    Err(why) => {
                        found.push(why.to_string());
                        return found;
                    }
                }
            }
            reader.shrink();
        }
        found
    }

    #[test]
    fn packets_come_out_however_they_were_cut() {
        let mut bytes = BytesMut::new();
        publish(&mut bytes, &Bytes::from_static(b"a/b"), &Bytes::from_static(b"1"), 7, false, false);
        puback(&mut bytes, 3);
        pingresp(&mut bytes);
        for step in 1..bytes.len() {
            assert_eq!(read_all(&bytes, step, PACKET), ["Publish", "PubAck", "PingResp"], "cut at {step}");
        }
    }

    #[test]
    fn a_publish_beyond_the_limit_is_skipped_and_named() {
        let mut bytes = BytesMut::new();
        publish(&mut bytes, &Bytes::from_static(b"cam/1"), &Bytes::from(vec![b'x'; PACKET + 1]), 9, false, false);
        pingresp(&mut bytes);
        for step in [1_000, 4_096, 65_536, 10_000_000] {
            assert_eq!(read_all(&bytes, step, PACKET), ["TooLarge cam/1 9 4096", "PingResp"], "cut at {step}");
        }
    }

    #[test]
    fn before_connect_little_is_held() {
        let mut bytes = BytesMut::new();
        publish(&mut bytes, &Bytes::from_static(b"a"), &Bytes::from(vec![0; CONNECT]), 0, false, false);
        assert_eq!(read_all(&bytes, 100, CONNECT), [format!("not MQTT: payload size limit exceeded: {}", CONNECT + 3)]);
    }

    #[test]
    fn other_versions_are_named() {
        let five = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0, 0, 0];
        let three = [0x10, 14, 0, 6, b'M', b'Q', b'I', b's', b'd', b'p', 3, 2, 0, 60, 0, 0];
        assert_eq!(read_all(&five, 99, CONNECT), ["speaks MQTT protocol level 5; set the client to MQTT 3.1.1"]);
        assert_eq!(read_all(&three, 99, CONNECT), ["speaks MQTT protocol level 3; set the client to MQTT 3.1.1"]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, step in 1usize..20, first in 0u8..=255) {
            let mut bytes = bytes;
            bytes.insert(0, first);
            let _ = read_all(&bytes, step, 64);
            let _ = read_all(&bytes, step, PACKET);
        }

        #[test]
        fn a_huge_length_with_garbage_never_panics(tail: Vec<u8>, step in 1usize..50, qos in 0u8..4) {
            let mut bytes = vec![0x30 | (qos << 1), 0xff, 0xff, 0x20];
            bytes.extend(tail.iter().cycle().take(600_000.min(tail.len() * 10_000)));
            let _ = read_all(&bytes, step * 1_000, PACKET);
        }
    }
}
