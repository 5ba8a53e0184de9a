//! CONNECT and its answer: from an unknown socket to a session, or to a refusal that the client understands.

use super::super::codec::{self, Arrived, Connect, ConnectReturnCode, Garbage, Packet, Reader};
use super::super::receipts::Ledger;
use super::{
    Shared,
    hub::Name,
    session::{Ack, Outlet},
    users::Rights,
};
use crate::limits;
use bytes::BytesMut;
use std::{
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{net::TcpStream, sync::Notify};

/// A socket that does not say who it is within this time is closed.
const PATIENCE: Duration = Duration::from_secs(10);
/// A wrong password is answered after this: guessing is slow.
const WRONG: Duration = Duration::from_millis(300);
/// Longest client id; the standard asks for 23.
const CLIENT_ID: usize = 256;

/// A client that was let in.
pub struct Admitted {
    pub session: u64,
    pub number: u64,
    pub client: Arc<str>,
    pub rights: Rc<Rights>,
    pub wake: Arc<Notify>,
    pub ledger: Rc<Ledger<Ack>>,
    /// Silence after which it is gone: one and a half keep-alives.
    pub patience: Option<Duration>,
    /// Whatever it sent behind its CONNECT.
    pub reader: Reader,
}

pub async fn admit(shared: &Shared, stream: &Rc<TcpStream>, peer: SocketAddr) -> Option<Admitted> {
    let mut reader = Reader::default();
    let connect = match tokio::time::timeout(PATIENCE, first_packet(shared, stream, &mut reader)).await {
        Ok(Ok(Some(connect))) => connect,
        Ok(Ok(None)) | Err(_) => return None,
        Ok(Err(garbage)) => {
            tracing::info!(%peer, why = %garbage, "a local MQTT client is refused");
            if let Garbage::Level(level) = garbage {
                refuse_level(stream, level);
            }
            return None;
        }
    };
    match check(shared, &connect) {
        Ok(rights) => arrive(shared, stream, connect, rights, reader).await,
        Err((code, why)) => {
            tracing::warn!(%peer, client = ?connect.client_id, why, "a local MQTT client is refused");
            if code == ConnectReturnCode::BadUserNamePassword {
                tokio::time::sleep(WRONG).await;
            }
            refuse(stream, code);
            None
        }
    }
}

/// `None`: it went away.
async fn first_packet(shared: &Shared, stream: &TcpStream, reader: &mut Reader) -> Result<Option<Connect>, Garbage> {
    loop {
        if stream.readable().await.is_err() {
            return Ok(None);
        }
        if !super::connection::read(shared, stream, reader) {
            return Ok(None);
        }
        if !reader.starts_connect() {
            return Err(Garbage::Packet("the first packet is no CONNECT".into()));
        }
        let found = reader.next(codec::CONNECT)?;
        reader.shrink();
        match found {
            Some(Arrived::Packet(Packet::Connect(connect))) => return Ok(Some(connect)),
            Some(_) => return Err(Garbage::Packet("the first packet is no CONNECT".into())),
            None => {}
        }
    }
}

fn check(shared: &Shared, connect: &Connect) -> Result<Rc<Rights>, (ConnectReturnCode, &'static str)> {
    if connect.client_id.len() > CLIENT_ID {
        return Err((ConnectReturnCode::BadClientId, "its client id is longer than 256 bytes"));
    }
    if connect.client_id.is_empty() && !connect.clean_session {
        return Err((ConnectReturnCode::BadClientId, "it wants its session kept, but has no client id"));
    }
    let rights = shared.users.admit(&connect.auth).ok_or((ConnectReturnCode::BadUserNamePassword, "wrong user or password"))?;
    if shared.counters.connections.load(Ordering::Relaxed) >= limits::MQTT_CONNECTIONS as u64 || shared.stopping.get() {
        return Err((ConnectReturnCode::ServiceUnavailable, "too many connections"));
    }
    Ok(rights)
}

async fn arrive(shared: &Shared, stream: &Rc<TcpStream>, connect: Connect, rights: Rc<Rights>, reader: Reader) -> Option<Admitted> {
    shared.numbers.set(shared.numbers.get() + 1);
    let number = shared.numbers.get();
    let client: Arc<str> = if connect.client_id.is_empty() { format!("auto-{number}").into() } else { connect.client_id.into() };
    let name: Name = (rights.user.clone(), client.clone());
    // The former connection's will is told before anything of this one: an "offline" must not come after its "online".
    // Telling it may wait, and meanwhile a third connection may have come in under this name.
    loop {
        let former = shared.hub.borrow_mut().displace(&name);
        let Some(former) = former else { break };
        tracing::info!(client = ?client, "a local MQTT client is here again; its former connection is closed");
        if let Some(will) = former.will {
            shared.tell_will(will, former.number, &client, &former.rights).await;
        }
    }
    let wake = Arc::new(Notify::new());
    let outlet = |ledger| Outlet {
        ledger,
        number,
        rights: rights.clone(),
        will: connect.last_will,
        wake: wake.clone(),
        closed: None,
        out: BytesMut::new(),
        stuck: None,
        stream: stream.clone(),
    };
    shared.counters.connections.fetch_add(1, Ordering::Relaxed);
    let mut hub = shared.hub.borrow_mut();
    let (session, present) = hub.arrive(name, connect.clean_session);
    let due = shared.due.clone();
    let ledger = Rc::new(Ledger::new(move || due.tell(session)));
    hub.connect(session, outlet(ledger.clone()));
    if let Some(outlet) = hub.own(session, number).and_then(|s| s.outlet.as_mut()) {
        codec::connack(&mut outlet.out, ConnectReturnCode::Success, present);
    }
    hub.push(session);
    let patience = (connect.keep_alive > 0).then(|| Duration::from_millis(u64::from(connect.keep_alive) * 1_500));
    Some(Admitted { session, number, client, rights, wake, ledger, patience, reader })
}

fn refuse(stream: &TcpStream, code: ConnectReturnCode) {
    let mut out = BytesMut::new();
    codec::connack(&mut out, code, false);
    let _ = stream.try_write(&out);
}

fn refuse_level(stream: &TcpStream, level: u8) {
    if level >= 5 {
        let _ = stream.try_write(&codec::CONNACK_FOR_MQTT_5);
    } else {
        refuse(stream, ConnectReturnCode::RefusedProtocolVersion);
    }
}
