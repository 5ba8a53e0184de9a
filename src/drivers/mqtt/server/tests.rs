//! The endpoint in real time: real sockets, blocking raw clients, and the fork's own client.

use super::super::codec::{Packet, Publish, QoS, SubscribeReasonCode};
use super::{
    Account, Handler, Incoming, Options, Server,
    raw::{HELLO, Hello, Raw},
};
use crate::{limits, model::Receipt, system::clock::Clock};
use std::{
    collections::BTreeSet,
    io::Write,
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

const SHORT: Duration = Duration::from_millis(200);

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A server whose publications come out with their receipts.
fn start(accounts: Vec<Account>) -> (Server, mpsc::Receiver<Incoming>) {
    let (to, from) = mpsc::channel();
    let to = Mutex::new(to);
    let handler: Handler = Arc::new(move |incoming| {
        let _ = to.lock().unwrap().send(incoming);
        None
    });
    let options = Options { listen: loopback(), accounts, clock: Clock::Real };
    (Server::start(options, handler).unwrap(), from)
}

/// A server that keeps everything at once.
fn keeping() -> Server {
    let handler: Handler = Arc::new(|incoming: Incoming| {
        incoming.receipt.keep();
        None
    });
    Server::start(Options::open(loopback(), Clock::Real), handler).unwrap()
}

fn next(from: &mpsc::Receiver<Incoming>) -> Incoming {
    from.recv_timeout(Duration::from_secs(5)).expect("a publication")
}

fn topic_and_body(packet: Option<Packet>) -> (String, String) {
    match packet {
        Some(Packet::Publish(p)) => (String::from_utf8(p.topic.to_vec()).unwrap(), String::from_utf8(p.payload.to_vec()).unwrap()),
        other => panic!("no publication: {other:?}"),
    }
}

#[test]
fn acknowledgements_are_held_and_go_out_in_order() {
    let (server, from) = start(Vec::new());
    let mut client = Raw::new(server.local_addr(), "a");
    (1..=3).for_each(|n| client.publish("t", b"x", n));
    let mut receipts: Vec<Receipt> = (0..3).map(|_| next(&from).receipt).collect();
    assert!(client.acknowledged(0).is_empty());
    receipts.pop().unwrap().keep();
    receipts.pop().unwrap().keep();
    assert!(client.acknowledged(0).is_empty());
    receipts.pop().unwrap().keep();
    assert_eq!(client.acknowledged(3), [1, 2, 3]);
}

#[test]
fn what_is_not_kept_is_never_acknowledged_and_closes_the_connection() {
    let (server, from) = start(Vec::new());
    let mut client = Raw::join(server.local_addr(), &Hello { will: Some(("w", "gone", false)), ..HELLO }).0;
    client.publish("t", b"x", 1);
    client.publish("t", b"y", 2);
    let (first, second) = (next(&from), next(&from));
    drop(first);
    second.receipt.keep();
    assert_eq!(client.receive(), None);
    // It was our fault, so it is no evidence of the device: no will.
    assert!(from.recv_timeout(SHORT).is_err());
}

#[test]
fn beyond_the_window_a_client_is_not_read_but_its_pings_are_answered() {
    let (server, from) = start(Vec::new());
    let mut client = Raw::new(server.local_addr(), "a");
    let held = u16::try_from(limits::MQTT_HELD).unwrap();
    (1..=held).for_each(|n| client.publish("t", b"x", n));
    let mut receipts: Vec<Receipt> = (0..held).map(|_| next(&from).receipt).collect();
    client.send(&Packet::PingReq);
    assert_eq!(client.receive(), Some(Packet::PingResp));
    client.publish("t", b"one more", held + 1);
    assert!(from.recv_timeout(SHORT).is_err());
    receipts.remove(0).keep();
    let more = next(&from); // held on: a receipt that is dropped closes the connection
    assert_eq!(more.payload.as_ref(), b"one more");
    assert_eq!(client.acknowledged(1), [1]);
}

#[test]
fn a_full_door_stops_one_client_and_nobody_else() {
    let (to, from) = mpsc::channel();
    let to = Mutex::new(to);
    let opened = Arc::new(tokio::sync::Notify::new());
    let door = opened.clone();
    let handler: Handler = Arc::new(move |incoming: Incoming| {
        let full = incoming.topic == "full";
        let _ = to.lock().unwrap().send(incoming);
        let door = door.clone();
        full.then(|| -> super::Waiting { Box::pin(async move { door.notified().await }) })
    });
    let server = Server::start(Options::open(loopback(), Clock::Real), handler).unwrap();
    let (mut a, mut b) = (Raw::new(server.local_addr(), "a"), Raw::new(server.local_addr(), "b"));
    a.publish("full", b"1", 1);
    a.publish("after", b"2", 2);
    let first = next(&from);
    b.publish("other", b"3", 1);
    assert_eq!(next(&from).topic, "other");
    assert!(from.recv_timeout(SHORT).is_err());
    first.receipt.keep(); // acknowledged although the client is not read
    assert_eq!(a.acknowledged(1), [1]);
    opened.notify_one();
    assert_eq!(next(&from).topic, "after");
}

#[test]
fn qos_2_is_taken_once() {
    let (server, from) = start(Vec::new());
    let mut client = Raw::new(server.local_addr(), "a");
    let mut publish = Publish::new("t", QoS::ExactlyOnce, "x");
    publish.pkid = 7;
    client.send(&Packet::Publish(publish.clone()));
    next(&from).receipt.keep();
    assert!(matches!(client.receive(), Some(Packet::PubRec(rec)) if rec.pkid == 7));
    publish.dup = true;
    client.send(&Packet::Publish(publish));
    assert!(matches!(client.receive(), Some(Packet::PubRec(rec)) if rec.pkid == 7));
    client.send(&Packet::PubRel(rumqttc::PubRel::new(7)));
    assert!(matches!(client.receive(), Some(Packet::PubComp(comp)) if comp.pkid == 7));
    assert!(from.try_recv().is_err());
}

#[test]
fn all_retained_messages_reach_a_new_subscriber() {
    let server = keeping();
    let mut publisher = Raw::new(server.local_addr(), "p");
    for n in 0..2_000u16 {
        publisher.publish_as(&format!("dev/{n}/status"), n.to_string().as_bytes(), n + 1, true);
        assert!(matches!(publisher.receive(), Some(Packet::PubAck(_))));
    }
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut subscriber = Raw::join(server.local_addr(), &Hello { id: "s", ..HELLO }).0;
        subscriber.subscribe("dev/+/status", qos);
        let mut seen = BTreeSet::new();
        while seen.len() < 2_000 {
            let Some(Packet::Publish(publish)) = subscriber.receive() else { panic!("only {} came", seen.len()) };
            assert!(publish.retain);
            if publish.pkid > 0 {
                subscriber.send(&Packet::PubAck(rumqttc::PubAck::new(publish.pkid)));
            }
            seen.insert(publish.topic);
        }
        assert_eq!(subscriber.soon(SHORT), None);
    }
    publisher.publish_as("dev/7/status", b"", 1, true);
    publisher.receive();
    let mut subscriber = Raw::new(server.local_addr(), "s2");
    subscriber.subscribe("dev/7/status", QoS::AtLeastOnce);
    assert_eq!(subscriber.soon(SHORT), None);
}

#[test]
fn a_will_is_told_unless_the_client_says_goodbye() {
    let (server, from) = start(Vec::new());
    let hello = |id| Hello { id, will: Some(("dev/x/status", "0", true)), ..HELLO };
    let mut watcher = Raw::new(server.local_addr(), "w");
    watcher.subscribe("dev/+/status", QoS::AtLeastOnce);

    let mut polite = Raw::join(server.local_addr(), &hello("polite")).0;
    polite.send(&Packet::Disconnect);
    assert!(polite.is_closed());
    assert!(from.recv_timeout(SHORT).is_err());

    let vanished = Raw::join(server.local_addr(), &hello("vanished")).0;
    drop(vanished);
    let will = next(&from);
    assert!(will.will && !will.receipt.is_awaited());
    assert_eq!((will.topic.as_str(), will.payload.as_ref(), &*will.client), ("dev/x/status", b"0".as_ref(), "vanished"));
    assert_eq!(topic_and_body(watcher.receive()), ("dev/x/status".into(), "0".into()));
}

#[test]
fn a_silent_client_is_gone_after_one_and_a_half_keep_alives() {
    let (server, from) = start(Vec::new());
    let mut silent = Raw::join(server.local_addr(), &Hello { keep_alive: 2, will: Some(("w", "0", false)), ..HELLO }).0;
    assert_eq!(silent.soon(Duration::from_millis(1_500)), None);
    silent.send(&Packet::PingReq);
    assert_eq!(silent.receive(), Some(Packet::PingResp));
    assert!(silent.is_closed());
    assert!(next(&from).will);
}

#[test]
fn a_client_that_comes_again_closes_its_old_socket_and_tells_its_will_first() {
    let (server, from) = start(Vec::new());
    let hello = Hello { id: "twin", will: Some(("w", "0", false)), ..HELLO };
    let mut old = Raw::join(server.local_addr(), &hello).0;
    old.publish("old", b"1", 1);
    let held = next(&from);
    let mut new = Raw::join(server.local_addr(), &hello).0;
    let will = next(&from);
    assert!(old.is_closed());
    new.publish("new", b"1", 1);
    let fresh = next(&from);
    assert!(will.will && will.session == held.session && fresh.session > will.session);
    held.receipt.keep(); // too late for the old connection, and not for the new one
    assert!(new.acknowledged(0).is_empty());
    fresh.receipt.keep();
    assert_eq!(new.acknowledged(1), [1]);
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_kept_session_gets_what_it_missed_and_what_it_did_not_acknowledge() {
    let server = keeping();
    let hello = Hello { id: "sleeper", clean: false, ..HELLO };
    let (mut sleeper, present) = Raw::join(server.local_addr(), &hello);
    assert!(!present);
    sleeper.subscribe("cmnd/#", QoS::AtLeastOnce);
    assert!(server.publish("cmnd/a", b"1", false));
    assert_eq!(topic_and_body(sleeper.receive()), ("cmnd/a".into(), "1".into()));
    drop(sleeper); // without acknowledging
    let mut other = Raw::new(server.local_addr(), "other");
    other.publish("cmnd/b", b"2", 1);
    assert_eq!(other.acknowledged(1), [1]);
    other.publish("cmnd/never", b"3", 0);
    let (mut sleeper, present) = Raw::join(server.local_addr(), &hello);
    assert!(present);
    let Some(Packet::Publish(again)) = sleeper.receive() else { panic!() };
    assert!(again.dup && again.payload.as_ref() == b"1");
    sleeper.send(&Packet::PubAck(rumqttc::PubAck::new(again.pkid)));
    assert_eq!(topic_and_body(sleeper.receive()), ("cmnd/b".into(), "2".into()));
    drop(sleeper);
    let (mut clean, present) = Raw::join(server.local_addr(), &Hello { id: "sleeper", ..HELLO });
    assert!(!present);
    assert_eq!(clean.soon(SHORT), None);
}

#[test]
fn users_are_checked_and_keep_to_their_topics() {
    let rights = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let (publish, subscribe) = (rights(&["tele/#"]), rights(&["tele/#", "cmnd/+/+"]));
    let (server, from) = start(vec![Account { name: "plugs".into(), password: "secret".into(), publish, subscribe }]);
    for user in [None, Some(("plugs", "wrong")), Some(("nobody", "secret"))] {
        let mut refused = Raw::open(server.local_addr());
        assert!(matches!(refused.hello(&Hello { user, ..HELLO }), Some(Packet::ConnAck(ack)) if ack.code as u8 == 4), "{user:?}");
        assert!(refused.is_closed());
    }
    let mut client = Raw::join(server.local_addr(), &Hello { user: Some(("plugs", "secret")), ..HELLO }).0;
    let granted = |packet| matches!(packet, Packet::SubAck(ack) if ack.return_codes == [SubscribeReasonCode::Success(QoS::AtLeastOnce)]);
    assert!(granted(client.subscribe("cmnd/x/+", QoS::ExactlyOnce)));
    assert!(!granted(client.subscribe("#", QoS::AtLeastOnce)));
    assert!(!granted(client.subscribe("bad/#/filter", QoS::AtLeastOnce)));
    client.publish("tele/x/SENSOR", b"1", 1);
    let fine = next(&from);
    assert!(fine.refused.is_none() && fine.user.as_deref() == Some("plugs"));
    client.publish("cmnd/x/POWER", b"ON", 2);
    let refused = next(&from);
    assert_eq!(refused.refused.as_deref(), Some("plugs may not publish there"));
    assert_eq!(client.soon(SHORT), None); // neither acknowledged yet nor sent on
}

#[test]
fn a_slow_subscriber_loses_its_own_messages_and_slows_nobody() {
    let server = keeping();
    let mut lazy = Raw::new(server.local_addr(), "lazy"); // never reads
    lazy.subscribe("flood", QoS::AtMostOnce);
    let mut strict = Raw::new(server.local_addr(), "strict"); // never reads either, but was promised everything
    strict.subscribe("flood", QoS::AtLeastOnce);
    let mut quick = Raw::new(server.local_addr(), "quick");
    quick.subscribe("other", QoS::AtLeastOnce);
    let mut publisher = Raw::new(server.local_addr(), "p");
    let body = vec![b'x'; 50_000];
    for n in 1..=500u16 {
        publisher.publish("flood", &body, n);
        assert!(matches!(publisher.receive(), Some(Packet::PubAck(_))), "{n}");
    }
    publisher.publish("other", b"1", 501);
    assert_eq!(topic_and_body(quick.receive()), ("other".into(), "1".into()));
    assert!(server.port().counters.dropped.load(std::sync::atomic::Ordering::Relaxed) > 0);
    let closed = std::iter::from_fn(|| strict.receive()).count(); // what was written already, then the end
    assert!(closed < 500 && strict.is_closed());
    lazy.send(&Packet::PingReq); // alive: whatever it was sent it can still read
    assert!(std::iter::from_fn(|| lazy.receive()).any(|packet| packet == Packet::PingResp));
}

#[test]
fn garbage_and_half_packets_end_or_wait_but_never_harm() {
    let server = keeping();
    let at = server.local_addr();
    let pieces: [&[u8]; 6] =
        [b"GET / HTTP/1.1\r\n\r\n", &[0x10, 0xff, 0xff, 0xff, 0xff], &[0xf0, 0x00], &[0x30, 0x02, 0, 9], &[0; 64], &[0xff; 64]];
    for piece in pieces {
        let mut unknown = Raw::open(at);
        unknown.socket.write_all(piece).unwrap();
        assert!(unknown.is_closed(), "{piece:?} before CONNECT");
        let mut known = Raw::new(at, "known");
        known.socket.write_all(piece).unwrap();
        let _ = known.socket.shutdown(std::net::Shutdown::Write);
        assert!(known.is_closed(), "{piece:?} after CONNECT");
    }
    let mut client = Raw::new(at, "slow");
    for byte in [0x32u8, 0x06, 0x00, 0x01, b't', 0x00, 0x05, b'x'] {
        client.socket.write_all(&[byte]).unwrap();
        if byte == b'x' {
            assert!(matches!(client.receive(), Some(Packet::PubAck(ack)) if ack.pkid == 5));
        } else {
            assert_eq!(client.soon(Duration::from_millis(5)), None);
        }
    }
    let mut twice = Raw::new(at, "twice");
    assert_eq!(twice.hello(&HELLO), None); // a second CONNECT is against the rules
    let mut five = Raw::open(at);
    five.socket.write_all(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0, 0, 0]).unwrap();
    let mut answer = [0; 5];
    std::io::Read::read_exact(&mut five.socket, &mut answer).unwrap();
    assert_eq!(answer, [0x20, 3, 0, 0x84, 0]);
}

#[test]
fn a_message_that_is_too_large_is_named_and_can_be_acknowledged() {
    let (server, from) = start(Vec::new());
    let mut client = Raw::new(server.local_addr(), "cam");
    client.publish("cam/1", &vec![b'x'; limits::PAYLOAD_BYTES * 3], 9);
    client.publish("cam/2", &vec![b'x'; limits::PAYLOAD_BYTES], 10);
    let large = next(&from);
    assert!(large.refused.unwrap().contains("more than") && large.payload.len() == limits::DEAD_LETTER_BYTES);
    let fits = next(&from);
    assert!(fits.refused.is_none() && fits.payload.len() == limits::PAYLOAD_BYTES);
    large.receipt.keep();
    assert_eq!(client.acknowledged(1), [9]);
}

#[test]
fn a_thousand_connections_are_served() {
    let (server, from) = start(Vec::new());
    let mut clients: Vec<Raw> = Vec::new();
    for n in 0..1_000 {
        let id: &'static str = Box::leak(format!("c{n}").into_boxed_str());
        clients.push(Raw::new(server.local_addr(), id));
    }
    assert_eq!(server.connections(), 1_000);
    clients.iter_mut().for_each(|client| client.publish("t", b"x", 1));
    (0..1_000).for_each(|_| next(&from).receipt.keep());
    clients.iter_mut().for_each(|client| assert!(matches!(client.receive(), Some(Packet::PubAck(_)))));
}

#[test]
fn an_address_in_use_is_one_clear_error() {
    let server = keeping();
    let options = Options::open(server.local_addr(), Clock::Real);
    let error = Server::start(options, Arc::new(|_| None)).err().unwrap().to_string();
    assert!(error.contains("the address is in use"), "{error}");
}

#[tokio::test]
async fn stopping_still_acknowledges_what_becomes_due() {
    let (server, from) = start(Vec::new());
    let mut client = Raw::new(server.local_addr(), "a");
    client.publish("t", b"x", 1);
    let receipt = next(&from).receipt;
    let stopped = tokio::spawn(server.stop());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!stopped.is_finished());
    receipt.keep();
    stopped.await.unwrap();
    assert!(matches!(client.receive(), Some(Packet::PubAck(ack)) if ack.pkid == 1));
    assert!(client.is_closed());
}

#[tokio::test]
async fn the_forks_own_client_publishes_and_subscribes() {
    let server = keeping();
    let options = rumqttc::MqttOptions::new("fork", ("127.0.0.1", server.local_addr().port()));
    let (client, mut events) = rumqttc::AsyncClient::builder(options).capacity(100).build();
    client.subscribe("a/+", QoS::AtLeastOnce).await.unwrap();
    let publish = rumqttc::PublishOptions::new(QoS::AtLeastOnce);
    let (mut acknowledged, mut received) = (false, false);
    while !(acknowledged && received) {
        match tokio::time::timeout(Duration::from_secs(5), events.poll()).await.unwrap().unwrap() {
            // The fork sends publications ahead of subscriptions, so one waits for the other.
            rumqttc::Event::Incoming(Packet::SubAck(_)) => client.try_publish("a/b", "hello", publish).unwrap(),
            rumqttc::Event::Incoming(Packet::PubAck(_)) => acknowledged = true,
            rumqttc::Event::Incoming(Packet::Publish(p)) => received = p.payload.as_ref() == b"hello",
            _ => {}
        }
    }
}

#[test]
fn of_two_connections_that_come_at_once_under_one_name_one_is_closed() {
    // The handler has no room for the first will until the test says so: the two connections meet in the handshake.
    let room = Arc::new(tokio::sync::Semaphore::new(0));
    let wanted = room.clone();
    let handler: Handler = Arc::new(move |incoming: Incoming| {
        let wanted = wanted.clone();
        incoming.will.then(|| -> super::Waiting { Box::pin(async move { wanted.acquire().await.unwrap().forget() }) })
    });
    let server = Server::start(Options::open(loopback(), Clock::Real), handler).unwrap();
    let hello = Hello { will: Some(("w", "gone", false)), ..HELLO };
    let _first = Raw::join(server.local_addr(), &hello);
    let mut second = Raw::open(server.local_addr());
    let mut connect = super::super::codec::Connect::new(hello.id);
    connect.clean_session = true;
    second.send(&Packet::Connect(connect));
    assert!(second.soon(SHORT).is_none(), "it waits for the will of the first");
    let mut third = Raw::join(server.local_addr(), &hello).0;
    room.add_permits(10);
    assert!(matches!(second.receive(), Some(Packet::ConnAck(_))));
    assert!(third.is_closed(), "its successor is here");
}
