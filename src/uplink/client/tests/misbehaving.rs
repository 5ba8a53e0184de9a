//! Brokers of MQTT 3.1.1 that do not do what they are for, on real sockets: nothing is lost, nothing goes round for ever,
//! and only the guilty sample is put aside.

use super::*;
use tokio::net::TcpStream;

/// Answers everything, but closes on a payload with this in it.
async fn closes_on(bad: &'static str) -> (u16, Arc<Mutex<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let seen = Arc::clone(&shared);
            tokio::spawn(async move { drop(answer(stream, bad, &seen).await) });
        }
    });
    (port, seen)
}

async fn answer(mut io: TcpStream, bad: &str, seen: &Mutex<Seen>) -> std::io::Result<()> {
    let (mut buffer, mut out) = (BytesMut::new(), BytesMut::new());
    loop {
        match Packet::read(&mut buffer, 1 << 24) {
            Ok(Packet::Connect(_)) => {
                seen.lock().unwrap().connects += 1;
                ConnAck::new(ConnectReturnCode::Success, false).write(&mut out).unwrap();
            }
            Ok(Packet::Subscribe(s)) => {
                SubAck::new(s.pkid, vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)]).write(&mut out).unwrap();
            }
            Ok(Packet::Publish(p)) => {
                let body = String::from_utf8(p.payload.to_vec()).unwrap();
                if p.topic.ends_with(b"/telemetry") && body.contains(bad) {
                    io.write_all_buf(&mut out).await?;
                    return Ok(());
                }
                seen.lock().unwrap().publishes.push((String::from_utf8(p.topic.to_vec()).unwrap(), body.into_bytes()));
                PubAck::new(p.pkid).write(&mut out).unwrap();
            }
            Ok(Packet::PingReq) => drop(rumqttc::PingResp.write(&mut out).unwrap()),
            Ok(_) => return Ok(()),
            Err(_) => {
                io.write_all_buf(&mut out).await?;
                if io.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            }
        }
    }
}

#[tokio::test]
async fn a_sample_on_which_the_broker_closes_is_found_and_put_aside() {
    let (port, seen) = closes_on("[666]").await;
    let rig = Rig::real(to(port));
    let began = Instant::now();
    for n in 660..680 {
        rig.sample(n);
    }
    while rig.store.dead_letters(10).unwrap().is_empty() || !rig.is_drained() {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", rig.figures.borrow());
        rig.sample(0);
        rig.pass(Duration::from_millis(50)).await;
    }
    let letters = rig.store.dead_letters(10).unwrap();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert!(letters[0].reason.contains("closes the connection on it"), "{letters:?}");
    let all: Vec<String> = seen.lock().unwrap().publishes.iter().map(|(_, b)| String::from_utf8_lossy(b).into_owned()).collect();
    assert!((660..680).filter(|n| *n != 666).all(|n| all.iter().any(|body| body.contains(&format!("[{n}]")))));
    let connects = seen.lock().unwrap().connects;
    assert!(connects <= 12, "{connects} connections for one sample");
}

/// A broker behind a link that stops carrying packets although its socket stays open.
#[tokio::test]
async fn what_is_sent_into_a_half_open_link_is_not_delivered_and_comes_again() {
    let (port, seen) = closes_on("nothing").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let front = listener.local_addr().unwrap().port();
    let (freeze, frozen) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        for n in 0.. {
            let (mut ours, _) = listener.accept().await.unwrap();
            let mut frozen = frozen.clone();
            tokio::spawn(async move {
                let mut theirs = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let carry = tokio::io::copy_bidirectional(&mut ours, &mut theirs);
                if n > 0 {
                    drop(carry.await);
                    return;
                }
                tokio::select! {
                    biased;
                    _ = frozen.wait_for(|f| *f) => {}
                    _ = carry => return,
                }
                // Neither read nor closed: as when packets are dropped on the way.
                std::future::pending::<()>().await;
            });
        }
    });
    let rig = Rig::real(Uplink { keep_alive: Duration::from_secs(1), ..to(front) });
    rig.sample(1);
    rig.drain(Duration::from_secs(5)).await;
    freeze.send_replace(true);
    let began = Instant::now();
    for n in 2..200 {
        rig.sample(n);
    }
    let acknowledged = rig.figures.borrow().messages_acknowledged;
    let mut figures = rig.figures.clone();
    figures.wait_for(|f| f.state == crate::model::UplinkState::Down).await.unwrap();
    let took = began.elapsed();
    assert!(took <= Duration::from_secs(15), "1.5 keep-alives are 1.5 s; ten times that on a machine that others load: {took:?}");
    assert_eq!(rig.figures.borrow().messages_acknowledged, acknowledged, "nothing that was sent into it counts");
    assert!(rig.store.spool().figures(rig.clock.now()).waiting_batches >= 198);
    rig.drain(Duration::from_secs(20)).await;
    let all: Vec<String> = seen.lock().unwrap().publishes.iter().map(|(_, b)| String::from_utf8_lossy(b).into_owned()).collect();
    assert!((1..200).all(|n| all.iter().any(|body| body.contains(&format!("[{n}]")))));
}
