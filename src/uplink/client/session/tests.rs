//! The session on an in-memory wire, in virtual time: bytes in pieces, futures dropped, clocks to the millisecond.

use super::*;
use crate::{limits, uplink::client::oversized::PACKET_BYTES};
use rumqttc::{Packet, PingResp, PubAck, Publish, QoS, mqttbytes::Error};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::sleep,
};

const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A session and the broker's end of its wire, which holds `bytes` each way.
fn pair(bytes: usize) -> (Session, DuplexStream) {
    let (ours, theirs) = duplex(bytes);
    (Session::new(Box::new(ours), KEEP_ALIVE, Mqtt::V311), theirs)
}

fn puback(id: u16) -> Vec<u8> {
    let mut out = BytesMut::new();
    PubAck::new(id).write(&mut out).unwrap();
    out.to_vec()
}

fn command(body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    let mut publish = Publish::new("p/command", QoS::AtLeastOnce, body);
    publish.pkid = 9;
    publish.write(&mut out).unwrap();
    out.to_vec()
}

/// Drops `next` after every millisecond of waiting, as a select does.
async fn impatient(session: &mut Session) -> Result<Arrived, Lost> {
    loop {
        if let Ok(arrived) = timeout(Duration::from_millis(1), session.next()).await {
            return arrived;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_may_come_one_by_one_and_next_may_be_dropped_between_them() {
    let (mut session, mut broker) = pair(64);
    let ids: Vec<u16> = (0..3).map(|_| session.publish("p/telemetry", b"{}", false)).collect();
    let mut bytes: Vec<u8> = ids.iter().rev().flat_map(|id| puback(*id)).collect();
    bytes.extend(command(br#"{"id":"1"}"#));
    let writer = tokio::spawn(async move {
        for byte in bytes {
            broker.write_all(&[byte]).await.unwrap();
            sleep(Duration::from_millis(3)).await;
        }
        broker
    });
    for id in ids.iter().rev() {
        assert_eq!(impatient(&mut session).await, Ok(Arrived::Acknowledged(*id)));
    }
    match impatient(&mut session).await {
        Ok(Arrived::Message(m)) => assert_eq!((m.id, m.topic.as_str(), &m.body[..], m.length), (9, "p/command", &br#"{"id":"1"}"#[..], 10)),
        other => panic!("{other:?}"),
    }
    drop(writer.await.unwrap());
    assert_eq!(session.next().await, Err(Lost::Closed));
}

#[tokio::test(start_paused = true)]
async fn writes_go_out_in_pieces_through_a_narrow_wire() {
    let (mut session, mut broker) = pair(7);
    let body = vec![b'x'; 3 * UNSENT_MAX];
    session.publish("p/telemetry", &body, false);
    session.publish("p/event", b"{}", false);
    assert!(session.unsent() > UNSENT_MAX);
    let reader = tokio::spawn(async move {
        let mut buffer = BytesMut::new();
        let mut got = vec![];
        while got.len() < 2 {
            match Packet::read(&mut buffer, usize::MAX) {
                Ok(Packet::Publish(p)) => got.push((p.pkid, p.payload.len())),
                Err(Error::InsufficientBytes(_)) => drop(broker.read_buf(&mut buffer).await.unwrap()),
                other => panic!("{other:?}"),
            }
        }
        (got, broker)
    });
    assert_eq!(impatient(&mut session).await, Ok(Arrived::Written), "room again is said once");
    let (got, mut broker) = reader.await.unwrap();
    assert_eq!(got, [(1, 3 * UNSENT_MAX), (2, 2)]);
    broker.write_all(&puback(1)).await.unwrap();
    session.next().await.unwrap();
    assert!(timeout(Duration::from_secs(1), session.next()).await.is_err(), "nothing more");
    assert_eq!(session.outgoing.capacity(), 0, "what the pieces took is given back");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_or_foreign_puback_says_nothing() {
    let (mut session, mut broker) = pair(1024);
    let first = session.publish("t", b"", false);
    let second = session.publish("t", b"", false);
    for id in [first, first, 700, first, second, second] {
        broker.write_all(&puback(id)).await.unwrap();
    }
    assert_eq!(session.next().await, Ok(Arrived::Acknowledged(first)));
    assert_eq!(session.next().await, Ok(Arrived::Acknowledged(second)));
    assert!(timeout(Duration::from_secs(5), session.next()).await.is_err(), "nothing more");
}

#[tokio::test(start_paused = true)]
async fn packet_ids_go_round_and_skip_what_is_open() {
    let (mut session, mut broker) = pair(1 << 20);
    let open = session.publish("t", b"", false);
    for n in 0..70_000u32 {
        let id = session.publish("t", b"", false);
        assert!(id != open && id != 0, "{n}");
        broker.write_all(&puback(id)).await.unwrap();
        assert_eq!(session.next().await, Ok(Arrived::Acknowledged(id)));
        if n % 1000 == 0 {
            let mut sink = vec![0; 1 << 20];
            let _ = broker.read(&mut sink).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_link_is_pinged_after_one_keep_alive_and_left_after_half_more() {
    let (mut session, mut broker) = pair(1024);
    let began = Instant::now();
    assert_eq!(session.next().await, Err(Lost::Silent(Duration::from_secs(45))));
    assert_eq!(began.elapsed().as_secs(), 45);
    let mut sent = [0; 16];
    let n = broker.read(&mut sent).await.unwrap();
    assert_eq!(&sent[..n], [0xc0, 0], "one PINGREQ");
}

#[tokio::test(start_paused = true)]
async fn a_link_that_answers_pings_is_kept() {
    let (mut session, mut broker) = pair(1024);
    tokio::spawn(async move {
        let mut buffer = [0; 2];
        while broker.read_exact(&mut buffer).await.is_ok() {
            assert_eq!(buffer, [0xc0, 0]);
            let mut out = BytesMut::new();
            PingResp.write(&mut out).unwrap();
            broker.write_all(&out).await.unwrap();
        }
    });
    assert!(timeout(Duration::from_secs(3600), session.next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_oldest_publish_has_one_and_a_half_keep_alives() {
    // The first is never answered, later ones are: the link counts as dead for the first.
    let (mut session, mut broker) = pair(1 << 16);
    let began = Instant::now();
    session.publish("t", b"", false);
    let lost = loop {
        let id = session.publish("t", b"", false);
        broker.write_all(&puback(id)).await.unwrap();
        match session.next().await {
            Ok(_) => sleep(Duration::from_secs(1)).await,
            Err(lost) => break lost,
        }
        assert!(began.elapsed() < Duration::from_secs(60));
    };
    assert_eq!(lost, Lost::Unacknowledged(Duration::from_secs(45)));
}

#[tokio::test(start_paused = true)]
async fn a_slow_link_on_which_answers_keep_coming_is_kept() {
    let (mut session, mut broker) = pair(1 << 16);
    let ids: Vec<u16> = (0..32).map(|_| session.publish("t", b"", false)).collect();
    for id in ids {
        // Two minutes and more for the last, but never 45 s without one.
        let waited = timeout(Duration::from_secs(20), session.next()).await;
        assert!(!matches!(waited, Ok(Err(_))), "{waited:?}");
        broker.write_all(&puback(id)).await.unwrap();
        assert_eq!(session.next().await, Ok(Arrived::Acknowledged(id)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_is_cut_and_what_follows_is_read() {
    for pieces in [1, 1000, 1 << 20] {
        let (mut session, mut broker) = pair(1 << 16);
        let id = session.publish("t", b"", false);
        let mut bytes = command(&vec![b'y'; PACKET_BYTES + 5]);
        bytes.extend(puback(id));
        let writer = tokio::spawn(async move {
            for piece in bytes.chunks(pieces) {
                broker.write_all(piece).await.unwrap();
            }
            broker
        });
        match impatient(&mut session).await {
            Ok(Arrived::Message(m)) => {
                assert_eq!((m.id, m.length, m.body.len()), (9, PACKET_BYTES + 5, limits::DEAD_LETTER_BYTES));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(impatient(&mut session).await, Ok(Arrived::Acknowledged(id)));
        drop(writer.await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_ends_the_link_and_panics_nothing() {
    for bytes in [&[0xff; 8][..], &[0x30, 0xff, 0xff, 0xff, 0xff], &[0x20, 0x80, 0x80, 0x80, 0x7f], &[0x00, 0x00], &[0x32, 3, 0, 9, b'x']] {
        let (mut session, mut broker) = pair(1024);
        broker.write_all(bytes).await.unwrap();
        drop(broker);
        assert!(matches!(session.next().await, Err(Lost::Garbled(_) | Lost::Closed)), "{bytes:x?}");
    }
}
