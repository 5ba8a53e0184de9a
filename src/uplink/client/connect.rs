//! From a host name to a link: addresses, TCP, TLS, CONNECT and CONNACK, each within a time of its own.

use super::{packets, session::Session, tls};
use crate::{
    config,
    model::WallMs,
    uplink::broker::{Broker, Hello, Lost, NoLink, Welcome},
};
use rumqttc::{ConnectReturnCode, Packet};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

/// One address gets so long, so that a black hole (often IPv6) does not hide an address that works.
const TCP_WITHIN: Duration = Duration::from_secs(5);
/// TLS, CONNECT and CONNACK together.
const HELLO_WITHIN: Duration = Duration::from_secs(15);
/// Addresses of one name that are tried.
const ADDRESSES: usize = 8;

pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// Connects to one broker.
pub struct Client {
    host: String,
    port: u16,
    tls: Option<config::uplink::Tls>,
}

impl Client {
    pub fn new(uplink: &config::Uplink) -> Client {
        Client { host: uplink.host.clone(), port: uplink.port, tls: uplink.tls.clone() }
    }

    /// To a further broker of an uplink, or for who reads from a broker and is no uplink.
    pub fn to(host: String, port: u16, tls: Option<config::uplink::Tls>) -> Client {
        Client { host, port, tls }
    }

    async fn tcp(&self) -> Result<TcpStream, NoLink> {
        let name = |why: String| NoLink::Name { host: self.host.clone(), why };
        let addresses = tokio::net::lookup_host((self.host.as_str(), self.port)).await.map_err(|e| name(e.to_string()))?;
        let mut last = name("it has no address".into());
        for at in addresses.take(ADDRESSES) {
            match timeout(TCP_WITHIN, TcpStream::connect(at)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(e)) => last = NoLink::Tcp { at: at.to_string(), why: in_words(&e) },
                Err(_) => last = NoLink::Tcp { at: at.to_string(), why: format!("no answer within {} s", TCP_WITHIN.as_secs()) },
            }
        }
        Err(last)
    }

    async fn wire(&self, stream: TcpStream, judged_at: WallMs) -> Result<Box<dyn Wire>, NoLink> {
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let (connector, name) = (tls::connector(tls, judged_at)?, tls::server_name(&self.host)?);
        let stream = connector.connect(name, stream).await.map_err(|e| NoLink::Tls(e.to_string()))?;
        Ok(Box::new(stream))
    }
}

impl Broker for Client {
    type Link = Session;

    async fn connect(&mut self, hello: &Hello) -> Result<(Session, Welcome), NoLink> {
        let stream = self.tcp().await?;
        prepare(&stream, hello.keep_alive);
        let greet = async {
            let mut session = Session::new(self.wire(stream, hello.judged_at).await?, hello.keep_alive);
            session.queue(|out| packets::connect(hello, out)).map_err(|e| NoLink::Ended(Lost::Garbled(e.to_string())))?;
            match session.packet().await? {
                Packet::ConnAck(ack) if ack.code == ConnectReturnCode::Success => {
                    Ok((session, Welcome { resumed: ack.session_present, receive_max: None }))
                }
                Packet::ConnAck(ack) => Err(NoLink::Refused(refusal(ack.code))),
                other => Err(Lost::Garbled(format!("{:?} instead of CONNACK", other.packet_type())).into()),
            }
        };
        timeout(HELLO_WITHIN, greet).await.unwrap_or(Err(NoLink::Silent(HELLO_WITHIN)))
    }
}

/// Neither option is needed for correctness: a dead link is noticed by our own watchdog as well.
fn prepare(stream: &TcpStream, keep_alive: Duration) {
    // A PUBLISH is written whole; waiting for company would only delay it.
    let _ = stream.set_nodelay(true);
    let ms = u32::try_from(keep_alive.mul_f32(1.5).as_millis()).unwrap_or(u32::MAX);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(stream, ms);
}

fn in_words(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused; nothing listens there".into(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".into(),
        io::ErrorKind::HostUnreachable => "host unreachable".into(),
        _ => e.to_string(),
    }
}

const fn refusal(code: ConnectReturnCode) -> &'static str {
    match code {
        ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1",
        ConnectReturnCode::BadClientId => "client id not allowed; check client_id",
        ConnectReturnCode::ServiceUnavailable => "server unavailable",
        ConnectReturnCode::BadUserNamePassword => "user name or password wrong",
        ConnectReturnCode::NotAuthorized => "not authorised; check user name, password and client certificate",
        ConnectReturnCode::Success => "",
    }
}
