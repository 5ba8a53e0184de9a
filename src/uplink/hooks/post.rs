//! One request over a connection of its own: host name, TCP, TLS, POST, status line. The answer's body is not read.

use crate::{
    config::{Webhook, uplink::Tls},
    model::WallMs,
    uplink::client::tls,
};
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

/// All of it, until the status line is there.
const WITHIN: Duration = Duration::from_secs(20);
/// One address gets so long, so that a black hole hides no address that works.
const TCP_WITHIN: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried.
const ADDRESSES: usize = 4;

/// What is sent.
pub struct Signed {
    pub id: String,
    pub seconds: i64,
    pub signature: String,
    pub body: String,
}

/// The status that came back, or why none did.
pub async fn post(hook: &Webhook, signed: &Signed, judged_at: WallMs) -> Result<StatusCode, String> {
    match timeout(WITHIN, attempt(hook, signed, judged_at)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} s", WITHIN.as_secs())),
    }
}

async fn attempt(hook: &Webhook, signed: &Signed, judged_at: WallMs) -> Result<StatusCode, String> {
    let stream = connect(&hook.host, hook.port).await?;
    match hook.tls.clone() {
        None => exchange(stream, hook, signed).await,
        Some(tls) => exchange(encrypt(stream, hook, tls, judged_at).await?, hook, signed).await,
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let addresses = tokio::net::lookup_host((host, port)).await.map_err(|e| format!("{host} is not found: {e}"))?;
    let mut last = format!("{host} has no address");
    for at in addresses.take(ADDRESSES) {
        match timeout(TCP_WITHIN, TcpStream::connect(at)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(e)) => last = format!("{at}: {e}"),
            Err(_) => last = format!("{at}: no answer within {} s", TCP_WITHIN.as_secs()),
        }
    }
    Err(last)
}

async fn encrypt(stream: TcpStream, hook: &Webhook, tls: Tls, judged_at: WallMs) -> Result<impl AsyncRead + AsyncWrite + Unpin, String> {
    let name = tls::server_name(&hook.host).map_err(|e| e.to_string())?;
    // Some hundred files of a disk that may hang: not on the thread that everything shares.
    let connector = tokio::task::spawn_blocking(move || tls::connector(&tls, judged_at)).await.map_err(|e| e.to_string())?;
    connector.map_err(|e| e.to_string())?.connect(name, stream).await.map_err(|e| format!("TLS: {e}"))
}

async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin, hook: &Webhook, signed: &Signed) -> Result<StatusCode, String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let request = request(hook, signed).map_err(|e| e.to_string())?;
    let sent = sender.send_request(request);
    tokio::pin!(sent);
    let answer = tokio::select! {
        biased;
        answer = &mut sent => answer,
        // Over: the answer is there or will never be.
        _ = connection => sent.await,
    };
    answer.map(|response| response.status()).map_err(|e| e.to_string())
}

fn request(hook: &Webhook, signed: &Signed) -> Result<Request<String>, hyper::http::Error> {
    let host = if hook.host.contains(':') { format!("[{}]", hook.host) } else { hook.host.clone() };
    let usual = hook.port == if hook.tls.is_some() { 443 } else { 80 };
    let host = if usual { host } else { format!("{host}:{}", hook.port) };
    Request::post(&hook.path)
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, concat!("fieldgate/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .header("webhook-id", &signed.id)
        .header("webhook-timestamp", signed.seconds)
        .header("webhook-signature", &signed.signature)
        .body(signed.body.clone())
}
