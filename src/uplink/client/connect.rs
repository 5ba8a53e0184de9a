//! From a host name to a link: addresses, TCP, TLS, CONNECT and CONNACK, each within a time of its own.

use super::{
    heard::{Greeting, Heard},
    packets,
    session::Session,
    tls,
};
use crate::{
    config,
    model::WallMs,
    uplink::broker::{Broker, Hello, Lost, NoLink, Welcome},
};
use rumqttc::tokio_rustls::TlsConnector;
use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
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
    version: config::Mqtt,
    /// Certificates that are being read.
    reading: Option<JoinHandle<Result<TlsConnector, NoLink>>>,
}

impl Client {
    pub fn new(uplink: &config::Uplink) -> Client {
        Client::to(uplink.host.clone(), uplink.port, uplink.tls.clone(), uplink.version)
    }

    /// To a further broker of an uplink, or for who reads from a broker and is no uplink.
    pub fn to(host: String, port: u16, tls: Option<config::uplink::Tls>, version: config::Mqtt) -> Client {
        Client { host, port, tls, version, reading: None }
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

    /// Some hundred files of a disk that may hang: not on the thread that everything shares. One reading at a time: one that
    /// hangs is waited for by the next attempt, which then reads what is new.
    async fn certificates(&mut self, tls: config::uplink::Tls, judged_at: WallMs) -> Result<TlsConnector, NoLink> {
        if let Some(hangs) = &mut self.reading {
            // Whatever it found is of an attempt that was given up.
            let _ = hangs.await;
        }
        let reading = self.reading.insert(tokio::task::spawn_blocking(move || tls::connector(&tls, judged_at)));
        let read = reading.await;
        self.reading = None;
        read.unwrap_or_else(|e| Err(NoLink::Tls(format!("certificates were not read: {e}"))))
    }

    async fn wire(&mut self, stream: TcpStream, judged_at: WallMs) -> Result<Box<dyn Wire>, NoLink> {
        let Some(tls) = self.tls.clone() else { return Ok(Box::new(stream)) };
        let name = tls::server_name(&self.host)?;
        let connector = self.certificates(tls, judged_at).await?;
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
            let version = self.version;
            let mut session = Session::new(self.wire(stream, hello.judged_at).await?, hello.keep_alive, version);
            session.queue(|out| packets::connect(version, hello, out)).map_err(|e| NoLink::Ended(Lost::Garbled(e)))?;
            match session.packet().await? {
                Heard::Greeting(greeting) => {
                    let Greeting { welcome, keep_alive } = greeting?;
                    session.greeted(keep_alive);
                    Ok((session, welcome))
                }
                Heard::Goodbye(why, _) => Err(NoLink::Refused(why)),
                other => Err(Lost::Garbled(format!("{} instead of CONNACK", other.name())).into()),
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
