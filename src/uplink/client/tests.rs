//! The real client in real time against a scripted broker on a loopback port: what brokers do wrong, on purpose.

mod five;
mod misbehaving;

use crate::{
    config::{Uplink, uplink::Tls},
    limits,
    model::{Boot, Urgent, WallMs},
    system::clock::{Clock, Wall},
    uplink::{
        broker::{Broker, Hello},
        pump::testing::{Rig, uplink},
    },
};
use bytes::BytesMut;
use rumqttc::{
    ConnAck, ConnectReturnCode, Packet, PubAck, Publish, QoS, SubAck, SubscribeReasonCode,
    mqttbytes::Error,
    tokio_rustls::{
        TlsAcceptor,
        rustls::{
            RootCertStore, ServerConfig,
            crypto::ring,
            pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
            server::WebPkiClientVerifier,
        },
    },
};
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    time::{Instant, sleep},
};

/// What a connection does; the last of a script serves all later ones.
#[derive(Debug, Clone, PartialEq)]
enum Act {
    Good,
    PubackTwice,
    /// All later packets are swallowed, PINGREQ too.
    Mute,
    /// Pings are answered, publishes are not.
    PubackNever,
    /// Closed after so many publishes; none of them is acknowledged.
    CloseAfter(usize),
    /// Acknowledgements newest first, in groups of eight or after a pause.
    Reversed,
    Refuse(ConnectReturnCode),
    Garbage,
    /// Sends this on the command topic after the subscription.
    Command(Vec<u8>),
}

#[derive(Default)]
struct Seen {
    connects: usize,
    clean: Vec<bool>,
    publishes: Vec<(String, Vec<u8>)>,
    pubacks: Vec<u16>,
    disconnects: usize,
    client_certificates: usize,
}

struct Scripted {
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

impl Scripted {
    async fn start(script: Vec<Act>, tls: Option<TlsAcceptor>) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            for n in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let act = script.get(n).or(script.last()).unwrap().clone();
                let (seen, tls) = (Arc::clone(&shared), tls.clone());
                tokio::spawn(async move {
                    seen.lock().unwrap().connects += 1;
                    match tls {
                        None => drop(serve(stream, act, &seen).await),
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            if stream.get_ref().1.peer_certificates().is_some() {
                                seen.lock().unwrap().client_certificates += 1;
                            }
                            drop(serve(stream, act, &seen).await);
                        }
                    }
                });
            }
        });
        Scripted { port, seen }
    }

    fn seqs(&self, topic: &str) -> Vec<u64> {
        let seen = self.seen.lock().unwrap();
        let of = |body: &Vec<u8>| serde_json::from_slice::<serde_json::Value>(body).unwrap()["seq"].as_u64().unwrap();
        seen.publishes.iter().filter(|(t, _)| t.ends_with(topic)).map(|(_, body)| of(body)).collect()
    }
}

/// One connection. `Err`: it ended.
async fn serve(mut io: impl AsyncRead + AsyncWrite + Unpin, act: Act, seen: &Mutex<Seen>) -> std::io::Result<()> {
    let (mut buffer, mut out) = (BytesMut::new(), BytesMut::new());
    let (mut publishes, mut held) = (0, vec![]);
    loop {
        let packet = match Packet::read(&mut buffer, 1 << 24) {
            Ok(packet) => packet,
            Err(Error::InsufficientBytes(_)) => {
                let pause = if held.is_empty() { Duration::from_secs(60) } else { Duration::from_millis(20) };
                match tokio::time::timeout(pause, io.read_buf(&mut buffer)).await {
                    Ok(Ok(0)) => return Ok(()),
                    Ok(read) => drop(read?),
                    Err(_) => {
                        held.drain(..).rev().for_each(|id| drop(PubAck::new(id).write(&mut out)));
                        io.write_all_buf(&mut out).await?;
                    }
                }
                continue;
            }
            Err(e) => panic!("{e}"),
        };
        match packet {
            Packet::Connect(connect) => {
                seen.lock().unwrap().clean.push(connect.clean_session);
                let code = if let Act::Refuse(code) = act { code } else { ConnectReturnCode::Success };
                ConnAck::new(code, false).write(&mut out).unwrap();
                if act == Act::Garbage {
                    out.extend_from_slice(&[0xff; 64]);
                }
            }
            Packet::Subscribe(s) => {
                SubAck::new(s.pkid, vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)]).write(&mut out).unwrap();
                if let Act::Command(body) = &act {
                    let mut publish = Publish::new(s.filters[0].path.clone(), QoS::AtLeastOnce, body.clone());
                    publish.pkid = 77;
                    publish.write(&mut out).unwrap();
                }
            }
            Packet::Publish(p) => {
                publishes += 1;
                seen.lock().unwrap().publishes.push((String::from_utf8(p.topic.to_vec()).unwrap(), p.payload.to_vec()));
                match act {
                    Act::CloseAfter(n) if publishes >= n => return Ok(()),
                    Act::Mute | Act::PubackNever | Act::CloseAfter(_) => {}
                    Act::Reversed => held.push(p.pkid),
                    Act::PubackTwice => {
                        PubAck::new(p.pkid).write(&mut out).unwrap();
                        PubAck::new(p.pkid).write(&mut out).unwrap();
                    }
                    _ => drop(PubAck::new(p.pkid).write(&mut out).unwrap()),
                }
                if held.len() == 8 {
                    held.drain(..).rev().for_each(|id| drop(PubAck::new(id).write(&mut out)));
                }
            }
            Packet::PubAck(ack) => seen.lock().unwrap().pubacks.push(ack.pkid),
            Packet::PingReq if act != Act::Mute => drop(rumqttc::PingResp.write(&mut out).unwrap()),
            Packet::Disconnect => seen.lock().unwrap().disconnects += 1,
            _ => {}
        }
        io.write_all_buf(&mut out).await?;
        io.flush().await?;
    }
}

fn to(port: u16) -> Uplink {
    Uplink { host: "localhost".into(), port, keep_alive: Duration::from_millis(600), reconnect_max: Duration::from_millis(400), ..uplink() }
}

/// 400 batches through a script: every one acknowledged, every one seen, none under two contents.
async fn check(script: Vec<Act>, connects: std::ops::RangeInclusive<usize>) {
    let name = format!("{script:?}");
    let broker = Scripted::start(script, None).await;
    let rig = Rig::real(to(broker.port));
    for n in 0..400 {
        rig.sample(n);
        if n % 20 == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    rig.drain(Duration::from_secs(20)).await;
    assert_eq!(broker.seqs("/telemetry").into_iter().collect::<BTreeSet<_>>(), (1..=400).collect(), "{name}");
    let figures = rig.figures.borrow().clone();
    assert!(figures.messages_acknowledged >= 401, "{name}: {figures:?}");
    rig.stop.cancel();
    rig.task.await.unwrap();
    sleep(Duration::from_millis(50)).await;
    let seen = broker.seen.lock().unwrap();
    assert!(connects.contains(&seen.connects), "{name}: {} connects", seen.connects);
    assert_eq!(seen.disconnects, 1, "{name}");
    assert!(seen.clean.iter().all(|clean| !clean), "{name}: a persistent session, for commands");
    let last = String::from_utf8(seen.publishes.last().unwrap().1.clone()).unwrap();
    assert!(last.contains(r#""state":"offline","reason":"stopped""#), "{name}: {last}");
}

#[tokio::test]
async fn a_good_broker() {
    check(vec![Act::Good], 1..=1).await;
}

#[tokio::test]
async fn every_puback_twice_costs_nothing() {
    check(vec![Act::PubackTwice], 1..=1).await;
}

#[tokio::test]
async fn acknowledgements_in_reverse() {
    check(vec![Act::Reversed], 1..=1).await;
}

#[tokio::test]
async fn a_broker_that_closes_after_a_payload() {
    check(vec![Act::CloseAfter(1), Act::CloseAfter(5), Act::CloseAfter(33), Act::Good], 4..=4).await;
}

#[tokio::test]
async fn a_broker_that_never_acknowledges_is_left_within_one_and_a_half_keep_alives() {
    check(vec![Act::PubackNever, Act::Good], 2..=2).await;
}

#[tokio::test]
async fn a_mute_broker_is_left_within_one_and_a_half_keep_alives() {
    let broker = Scripted::start(vec![Act::Mute], None).await;
    let rig = Rig::real(Uplink { keep_alive: Duration::from_secs(1), ..to(broker.port) });
    let began = Instant::now();
    let mut figures = rig.figures.clone();
    figures.wait_for(|f| f.reason.contains("no sign of life")).await.unwrap();
    let took = began.elapsed();
    // Ten times as long on a machine that others load.
    assert!((1_400..15_000).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test]
async fn refusals_and_garbage_are_said_in_words() {
    for (act, want) in [
        (Act::Refuse(ConnectReturnCode::BadUserNamePassword), "the broker refused us: user name or password wrong"),
        (Act::Garbage, "the broker sent what is not MQTT: "),
        (Act::CloseAfter(1), "the broker closed the connection right after accepting it; is the client id fieldgate-plant-7 used twice?"),
    ] {
        let broker = Scripted::start(vec![act], None).await;
        let rig = Rig::real(to(broker.port));
        let mut figures = rig.figures.clone();
        let waited = tokio::time::timeout(Duration::from_secs(5), figures.wait_for(|f| f.reason.starts_with(want))).await;
        assert!(waited.is_ok(), "{want}: {:?}", rig.figures.borrow());
    }
    let rig = Rig::real(to(1));
    let mut figures = rig.figures.clone();
    figures.wait_for(|f| f.reason.ends_with("connection refused; nothing listens there")).await.unwrap();
}

#[tokio::test]
async fn a_command_reaches_the_engine_and_is_acknowledged_when_it_is_kept() {
    let broker = Scripted::start(vec![Act::Command(br#"{"id":"c1","device":"d","write":{"k1":true}}"#.to_vec())], None).await;
    let mut rig = Rig::real(to(broker.port));
    let Some(Urgent::Command { command, receipt }) = rig.urgent.recv().await else { panic!("no command") };
    assert_eq!(command.id.as_str(), "c1");
    sleep(Duration::from_millis(100)).await;
    assert_eq!(broker.seen.lock().unwrap().pubacks, [] as [u16; 0]);
    receipt.keep();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(broker.seen.lock().unwrap().pubacks, [77]);
}

#[tokio::test]
async fn a_command_of_a_megabyte_is_put_aside_and_does_not_end_the_session() {
    for length in [limits::PAYLOAD_BYTES + 1, 1 << 20, 5 << 20] {
        let broker = Scripted::start(vec![Act::Command(vec![b'x'; length])], None).await;
        let rig = Rig::real(to(broker.port));
        rig.sample(1);
        let began = Instant::now();
        while broker.seqs("/event").is_empty() || !rig.is_drained() || broker.seen.lock().unwrap().pubacks.is_empty() {
            assert!(began.elapsed() < Duration::from_secs(60), "{length}");
            rig.pass(Duration::from_millis(10)).await;
        }
        let seen = broker.seen.lock().unwrap();
        assert_eq!((seen.connects, &seen.pubacks[..]), (1, &[77][..]), "{length}");
        let said = format!("{length} bytes are too many; a command has at most 262144");
        assert!(seen.publishes.iter().any(|(_, body)| String::from_utf8_lossy(body).contains(&said)), "{length}");
    }
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/uplink/client/testdata").join(name)
}

fn acceptor() -> TlsAcceptor {
    let certificates = |name: &str| CertificateDer::pem_file_iter(file(name)).unwrap().map(Result::unwrap).collect::<Vec<_>>();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates("ca.pem"));
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).allow_unauthenticated().build().unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates("server.pem"), PrivateKeyDer::from_pem_file(file("server.key")).unwrap())
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn tls_with_a_pinned_root_and_a_client_certificate() {
    let broker = Scripted::start(vec![Act::CloseAfter(20), Act::PubackTwice], Some(acceptor())).await;
    let tls = Tls { ca: Some(file("ca.pem")), cert: Some(file("client.pem")), key: Some(file("client.key")) };
    let rig = Rig::real(Uplink { tls: Some(tls), ..to(broker.port) });
    for n in 0..100 {
        rig.sample(n);
    }
    rig.drain(Duration::from_secs(10)).await;
    assert_eq!(broker.seqs("/telemetry").into_iter().collect::<BTreeSet<_>>(), (1..=100).collect());
    assert_eq!(broker.seen.lock().unwrap().client_certificates, 2);
}

#[tokio::test]
async fn tls_refuses_a_foreign_root_and_a_foreign_name() {
    let broker = Scripted::start(vec![Act::Good], Some(acceptor())).await;
    let pinned = |ca: &str| Some(Tls { ca: Some(file(ca)), ..Tls::default() });
    for (config, want) in [
        (Uplink { tls: pinned("client.pem"), ..to(broker.port) }, "TLS: invalid peer certificate: UnknownIssuer"),
        (
            Uplink { tls: pinned("ca.pem"), host: "127.0.0.1".into(), ..to(broker.port) },
            "TLS: invalid peer certificate: certificate not valid for name",
        ),
        (Uplink { tls: pinned("README.md"), ..to(broker.port) }, "TLS: "),
    ] {
        let rig = Rig::real(config);
        let mut figures = rig.figures.clone();
        let waited = tokio::time::timeout(Duration::from_secs(5), figures.wait_for(|f| f.reason.starts_with(want))).await;
        assert!(waited.is_ok(), "{want}: {:?}", rig.figures.borrow());
    }
    assert_eq!(broker.seen.lock().unwrap().clean.len(), 0, "nothing was said before the certificate was checked");
}

/// The test server's certificate is valid from 2020 to 2126.
#[tokio::test]
async fn certificates_are_judged_by_the_latest_time_known_and_never_left_unjudged() {
    const YEAR: i64 = 365 * 86_400_000;
    let broker = Scripted::start(vec![Act::Good], Some(acceptor())).await;
    let tls = Tls { ca: Some(file("ca.pem")), ..Tls::default() };
    let mut client = super::Client::new(&Uplink { tls: Some(tls), ..to(broker.port) });
    let made = crate::system::clock::built().0;
    for (judged_at, want) in [
        (made, None),
        (made - 10 * YEAR, Some("TLS: invalid peer certificate: certificate not valid yet")),
        (made + 900 * YEAR, Some("TLS: invalid peer certificate: certificate expired")),
    ] {
        let hello = Hello {
            client_id: "plant-7".into(),
            username: None,
            password: None,
            keep_alive: Duration::from_secs(30),
            will: ("state".into(), vec![]),
            judged_at: WallMs(judged_at),
        };
        let got = client.connect(&hello).await.map(drop).map_err(|why| why.to_string());
        match want {
            None => assert_eq!(got, Ok(()), "judged at {judged_at}"),
            Some(want) => assert!(got.as_ref().is_err_and(|e| e.starts_with(want)), "judged at {judged_at}: {got:?}"),
        }
    }
}

#[tokio::test]
async fn a_clock_that_stands_in_2016_reaches_the_cloud_over_tls() {
    let wall: &'static Wall = Box::leak(Box::default());
    wall.offset_ms.store(1_478_131_200_000, std::sync::atomic::Ordering::Relaxed);
    let clock = Clock::Stepped { start: Instant::now(), base: Boot::from_ms(5000), wall };
    let broker = Scripted::start(vec![Act::Good], Some(acceptor())).await;
    let tls = Tls { ca: Some(file("ca.pem")), ..Tls::default() };
    let rig = Rig::real_at(Uplink { tls: Some(tls), ..to(broker.port) }, clock);
    rig.sample(1);
    rig.drain(Duration::from_secs(10)).await;
    let seen = broker.seen.lock().unwrap();
    let sent = |(topic, body): &(String, Vec<u8>)| topic.ends_with("/telemetry") && String::from_utf8_lossy(body).contains("estimated");
    assert!(seen.publishes.iter().any(sent), "and its times are marked");
}
