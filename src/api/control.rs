//! The control socket: a Unix socket in `run_dir`, one JSON object per line in, one per line out.
//!
//! Who may open the socket may ask; it is created with mode 0660 in a directory that the service's user owns.
//! Requests: one file each in `requests/`.

use super::{requests, status::Sources};
use crate::limits;
use std::{io, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

/// A client that asks nothing for so long loses its place to others.
const IDLE: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("cannot open the control socket {path}: {source}; `fieldgate status` will not reach this daemon")]
    Bind { path: String, source: io::Error },
}

/// Binds the socket, replacing one that a killed daemon left behind.
pub fn bind(path: &Path) -> Result<UnixListener, ControlError> {
    let wrap = |source| ControlError::Bind { path: path.display().to_string(), source };
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(wrap(e)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(wrap)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(wrap)?;
    Ok(listener)
}

pub async fn serve(listener: UnixListener, sources: Arc<Sources>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(limits::CONTROL_CLIENTS));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors: wait instead of spinning.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (sources, stop) = (sources.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                _ = talk(stream, &sources) => {}
            }
            drop(place);
        });
    }
}

async fn talk(stream: UnixStream, sources: &Sources) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::with_capacity(1024, read);
    let mut line = String::new();
    loop {
        line.clear();
        let got = tokio::time::timeout(IDLE, (&mut read).take(limits::CONTROL_LINE).read_line(&mut line)).await??;
        if got == 0 {
            return Ok(());
        }
        let mut answer = answer(&line, sources).await.to_string();
        answer.push('\n');
        write.write_all(answer.as_bytes()).await?;
    }
}

async fn answer(line: &str, sources: &Sources) -> serde_json::Value {
    let asked: serde_json::Value = match serde_json::from_str(line) {
        Ok(asked) => asked,
        Err(e) => return refuse("unreadable", &format!("the request is no JSON object: {e}")),
    };
    requests::answer(&asked, sources).await
}

pub fn refuse(code: &str, message: &str) -> serde_json::Value {
    serde_json::json!({"error": {"code": code, "message": message}})
}

/// The other side: asks a running daemon and returns its answer.
pub fn ask(path: &Path, request: &serde_json::Value, timeout: Duration) -> io::Result<serde_json::Value> {
    use std::io::{BufRead, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut line = String::new();
    std::io::BufReader::new(stream).read_line(&mut line)?;
    serde_json::from_str(&line).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}
