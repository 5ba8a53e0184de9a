//! MQTT 5 on a real socket, against a broker of the tests on the server side of the same codec.

use super::*;
use crate::{config::Mqtt, uplink::client::heard};
use proptest::prelude::*;
use rumqttc5 as v5;
use tokio::net::TcpStream;

/// What the broker says and does.
#[derive(Clone)]
struct Five {
    code: v5::ConnectReturnCode,
    properties: v5::ConnAckProperties,
    /// PUBACKs for each PUBLISH.
    pubacks: usize,
    /// A payload with this in it is refused so.
    refuse: Option<(&'static str, v5::PubAckReason)>,
    /// After so many publishes: DISCONNECT with a reason.
    goodbye: Option<(usize, v5::DisconnectReasonCode)>,
}

#[derive(Default)]
struct SeenFive {
    connects: Vec<v5::Connect>,
    taken: Vec<(String, String)>,
    open_at_most: usize,
}

fn good() -> Five {
    let properties = v5::ConnAckProperties {
        session_expiry_interval: None,
        receive_max: None,
        max_qos: None,
        retain_available: None,
        max_packet_size: None,
        assigned_client_identifier: None,
        topic_alias_max: None,
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: None,
        subscription_identifiers_available: None,
        shared_subscription_available: None,
        server_keep_alive: None,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    };
    Five { code: v5::ConnectReturnCode::Success, properties, pubacks: 1, refuse: None, goodbye: None }
}

async fn start(five: Five) -> (u16, Arc<Mutex<SeenFive>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(SeenFive::default()));
    let shared = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (five, seen) = (five.clone(), Arc::clone(&shared));
            tokio::spawn(async move { drop(serve(stream, five, &seen).await) });
        }
    });
    (port, seen)
}

async fn serve(mut io: TcpStream, five: Five, seen: &Mutex<SeenFive>) -> std::io::Result<()> {
    let (mut buffer, mut out, mut publishes) = (BytesMut::new(), BytesMut::new(), 0);
    loop {
        let mut open = Vec::new();
        loop {
            match v5::Packet::read(&mut buffer, None) {
                Ok(v5::Packet::Connect(connect, will, _)) => {
                    assert!(will.is_some_and(|w| w.retain));
                    seen.lock().unwrap().connects.push(connect);
                    let ack = v5::ConnAck { session_present: false, code: five.code, properties: Some(five.properties.clone()) };
                    ack.write(&mut out).unwrap();
                }
                Ok(v5::Packet::Publish(p)) => {
                    publishes += 1;
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    let (topic, body) = (text(&p.topic), text(&p.payload));
                    let mut ack = v5::PubAck::new(p.pkid, None);
                    match five.refuse.filter(|(bad, _)| body.contains(bad)) {
                        Some((_, why)) => ack.reason = why,
                        None => seen.lock().unwrap().taken.push((topic, body)),
                    }
                    open.push(ack);
                    if let Some((_, reason_code)) = five.goodbye.filter(|(n, _)| publishes >= *n) {
                        v5::Disconnect { reason_code, properties: None }.write(&mut out).unwrap();
                        return io.write_all_buf(&mut out).await;
                    }
                }
                Ok(v5::Packet::Subscribe(s)) => {
                    let code = v5::SubscribeReasonCode::Success(v5::QoS::AtLeastOnce);
                    v5::SubAck { pkid: s.pkid, return_codes: vec![code], properties: None }.write(&mut out).unwrap();
                }
                Ok(v5::Packet::PingReq) => drop(v5::PingResp::write(&mut out).unwrap()),
                Ok(v5::Packet::Disconnect(_)) => return Ok(()),
                Ok(other) => panic!("{other:?}"),
                Err(_) => break,
            }
        }
        {
            let most = &mut seen.lock().unwrap().open_at_most;
            *most = open.len().max(*most);
        }
        for ack in open {
            for _ in 0..five.pubacks {
                ack.write(&mut out).unwrap();
            }
        }
        io.write_all_buf(&mut out).await?;
        if io.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

fn five(port: u16) -> Uplink {
    Uplink { version: Mqtt::V5, ..to(port) }
}

fn telemetry(seen: &Mutex<SeenFive>) -> Vec<String> {
    seen.lock().unwrap().taken.iter().filter(|(topic, _)| topic.ends_with("/telemetry")).map(|(_, body)| body.clone()).collect()
}

#[tokio::test]
async fn everything_arrives_once_with_one_and_with_three_pubacks() {
    for pubacks in [1, 3] {
        let (port, seen) = start(Five { pubacks, ..good() }).await;
        let rig = Rig::real(five(port));
        for n in 0..300 {
            rig.sample(n);
        }
        rig.drain(Duration::from_secs(20)).await;
        assert_eq!(telemetry(&seen).len(), 300, "{pubacks}");
        let seen = seen.lock().unwrap();
        assert_eq!(seen.connects.len(), 1, "{pubacks}");
        let (connect, properties) = (&seen.connects[0], seen.connects[0].properties.as_ref().unwrap());
        assert!(!connect.clean_start && properties.session_expiry_interval == Some(30 * 86_400), "{connect:?}");
    }
}

#[tokio::test]
async fn one_refused_sample_is_put_aside_and_no_connection_is_lost() {
    let (port, seen) = start(Five { refuse: Some(("[666]", v5::PubAckReason::PayloadFormatInvalid)), ..good() }).await;
    let rig = Rig::real(five(port));
    let began = Instant::now();
    for n in 660..680 {
        rig.sample(n);
    }
    while rig.store.dead_letters(10).unwrap().is_empty() || !rig.is_drained() {
        assert!(began.elapsed() < Duration::from_secs(120), "{:?}", rig.figures.borrow());
        rig.sample(0);
        rig.pass(Duration::from_millis(50)).await;
    }
    let letters = rig.store.dead_letters(10).unwrap();
    assert_eq!(letters.len(), 1);
    assert!(letters[0].reason.contains("0x99") && String::from_utf8_lossy(&letters[0].body).contains("[666]"), "{letters:?}");
    let telemetry = telemetry(&seen);
    assert!((660..680).filter(|n| *n != 666).all(|n| telemetry.iter().any(|body| body.contains(&format!("[{n}]")))));
    assert_eq!(seen.lock().unwrap().connects.len(), 1);
}

#[tokio::test]
async fn the_window_keeps_to_the_receive_maximum() {
    let mut broker = good();
    broker.properties.receive_max = Some(2);
    let (port, seen) = start(broker).await;
    let rig = Rig::real(five(port));
    for n in 0..100 {
        rig.sample(n);
    }
    rig.drain(Duration::from_secs(20)).await;
    assert_eq!(telemetry(&seen).len(), 100);
    assert!(seen.lock().unwrap().open_at_most <= 2, "{}", seen.lock().unwrap().open_at_most);
}

#[tokio::test]
async fn what_the_broker_says_is_shown_with_its_remedy() {
    use v5::{ConnectReturnCode as C, DisconnectReasonCode as D};
    let with = |change: fn(&mut v5::ConnAckProperties)| {
        let mut five = good();
        change(&mut five.properties);
        five
    };
    for (broker, want) in [
        (Five { code: C::NotAuthorized, ..good() }, "the broker refused us: not authorised; check user name"),
        (
            Five { code: C::UnsupportedProtocolVersion, ..good() },
            "the broker refused us: it does not speak MQTT 5; set version = \"3.1.1\"",
        ),
        (with(|p| p.assigned_client_identifier = Some("x".into())), "the broker refused us: it gave us another client id"),
        (with(|p| p.max_qos = Some(0)), "the broker refused us: it takes messages without acknowledgement only"),
        (with(|p| p.retain_available = Some(0)), "the broker refused us: it keeps no retained messages"),
        (with(|p| p.max_packet_size = Some(1000)), "the broker refused us: it takes packets of 1000 bytes at most; allow 4096"),
        (
            Five { goodbye: Some((1, D::SessionTakenOver)), ..good() },
            "the broker ended the connection: another client connected with our client id",
        ),
    ] {
        let (port, _) = start(broker).await;
        let rig = Rig::real(five(port));
        let mut figures = rig.figures.clone();
        let waited = tokio::time::timeout(Duration::from_secs(5), figures.wait_for(|f| f.reason.starts_with(want))).await;
        assert!(waited.is_ok(), "{want}: {:?}", rig.figures.borrow());
    }
}

proptest! {
    /// Whatever comes: no panic, and progress or an end.
    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..400), first in 0u8..16, version in any::<bool>()) {
        let version = if version { Mqtt::V5 } else { Mqtt::V311 };
        for lead in [None, Some(first << 4), Some(first << 4 | 2)] {
            let mut buffer = BytesMut::new();
            buffer.extend(lead);
            buffer.extend_from_slice(&bytes);
            loop {
                let before = buffer.len();
                match heard::read(version, &mut buffer) {
                    Ok(Some(_)) => prop_assert!(buffer.len() < before),
                    Ok(None) | Err(_) => break,
                }
            }
        }
    }
}
