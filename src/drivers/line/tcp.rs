//! The owner of a TCP line (Modbus TCP, or serial frames over TCP): a task on the shared runtime.
//!
//! Invariant: bytes of an old connection never reach the core after a new one was opened. Absent on purpose: pipelining;
//! many units accept one request at a time.

use super::{
    event::{Event, Step, Want},
    owner::{Came, Job},
    report::Report,
};
use crate::{model::Boot, system::clock::Clock};
use std::{io, time::Duration};
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

/// A connection that takes longer is refused by nobody and leads nowhere.
const CONNECT: Duration = Duration::from_secs(5);
/// A request of at most 260 bytes that the kernel does not take in this time goes to a dead peer.
const WRITE: Duration = Duration::from_secs(2);

pub struct Owner<C> {
    pub host: String,
    pub port: u16,
    pub core: C,
    pub report: Report,
    pub jobs: mpsc::Receiver<Job>,
    pub clock: Clock,
    pub stop: CancellationToken,
}

impl<C: Step> Owner<C> {
    /// Runs until the gateway stops. Boxed, or the task would hold the core several times over.
    pub async fn run(mut self: Box<Self>) {
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.serve() => {}
        }
        // Every order that was taken is answered.
        self.jobs.close();
        while let Ok(job) = self.jobs.try_recv() {
            if let Job::Order(order) = job {
                let _ = self.core.step(self.clock.now(), Event::Order(*order));
            }
        }
        let _ = self.core.step(self.clock.now(), Event::Stop);
        self.report.flush(&mut self.core);
    }

    async fn serve(&mut self) {
        let mut buffer = [0; 512];
        let mut stream: Option<TcpStream> = None;
        let mut came = Came::Time;
        loop {
            let now = self.clock.now();
            if let Came::Bytes(n) = came {
                self.report.heard(now, &buffer[..n], self.core.hears_secret(now));
            }
            let want = came.tell(&mut self.core, now, &buffer);
            let is_secret = matches!(want, Want::SendSecret(_));
            came = match want {
                Want::Send(frame) | Want::SendSecret(frame) => match &stream {
                    Some(stream) => {
                        self.report.sent(now, frame, is_secret);
                        write(stream, frame).await
                    }
                    None => Came::Lost("the connection is not open".into()),
                },
                Want::Tune(_) => Came::Failed("a connection has no serial settings".into()),
                Want::Close => {
                    drop(stream.take());
                    Came::Time
                }
                Want::Open => {
                    drop(stream.take());
                    self.report.deliver(&mut self.core).await;
                    // Boxed: it is large, and rarely there.
                    match Box::pin(connect(&self.host, self.port)).await {
                        Ok(open) => {
                            stream = Some(open);
                            Came::Opened
                        }
                        Err(reason) => Came::Failed(reason),
                    }
                }
                Want::Recv { until, .. } => receive(self.clock, stream.as_ref(), &mut buffer, until).await,
                Want::Silence(until) => {
                    self.report.deliver(&mut self.core).await;
                    self.clock.sleep_until(until).await;
                    // A line that polls without a pause is never idle: an order takes its turn here.
                    match self.jobs.try_recv() {
                        Ok(job) => Came::Job(job),
                        Err(_) => stream.as_ref().map_or(Came::Time, |stream| read(stream, &mut buffer)),
                    }
                }
                Want::Idle(until) => {
                    self.report.deliver(&mut self.core).await;
                    tokio::select! {
                        biased;
                        Some(job) = self.jobs.recv() => Came::Job(job),
                        came = receive(self.clock, stream.as_ref(), &mut buffer, until) => came,
                    }
                }
            };
            if let Came::Lost(_) = came {
                drop(stream.take());
            }
        }
    }
}

/// Waits for bytes or the moment. Cancelling it loses nothing.
async fn receive(clock: Clock, stream: Option<&TcpStream>, buffer: &mut [u8], until: Boot) -> Came {
    let Some(stream) = stream else {
        clock.sleep_until(until).await;
        return Came::Time;
    };
    loop {
        tokio::select! {
            biased;
            ready = stream.readable() => {
                if let Err(error) = ready {
                    return lost(&error);
                }
                match read(stream, buffer) {
                    Came::Time => {} // readiness was stale
                    came => return came,
                }
            }
            () = clock.sleep_until(until) => return Came::Time,
        }
    }
}

fn read(stream: &TcpStream, buffer: &mut [u8]) -> Came {
    match stream.try_read(buffer) {
        Ok(0) => Came::Lost("the peer closed the connection".into()),
        Ok(n) => Came::Bytes(n),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Came::Time,
        Err(error) => lost(&error),
    }
}

async fn write(stream: &TcpStream, frame: &[u8]) -> Came {
    match stream.try_write(frame) {
        Ok(n) if n == frame.len() => return Came::Sent,
        Ok(n) => return write_rest(stream, &frame[n..]).await,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return lost(&error),
    }
    write_rest(stream, frame).await
}

async fn write_rest(stream: &TcpStream, mut left: &[u8]) -> Came {
    let all = async {
        while !left.is_empty() {
            stream.writable().await?;
            match stream.try_write(left) {
                Ok(n) => left = &left[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    match timeout(WRITE, all).await {
        Ok(Ok(())) => Came::Sent,
        Ok(Err(error)) => lost(&error),
        Err(_) => Came::Lost("the peer takes no more data".into()),
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let at = || format!("{host}:{port}");
    let stream = match timeout(CONNECT, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(format!("{}: {}", at(), in_words(&error))),
        Err(_) => return Err(format!("{}: no answer within {} s; is it switched on and in this network?", at(), CONNECT.as_secs())),
    };
    // A request is one small segment that must not wait for company. Refused: slower, still right.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused; is Modbus TCP switched on, and this the port?".into(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable; is it in this network?".into(),
        _ => error.to_string(),
    }
}

fn lost(error: &io::Error) -> Came {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
            Came::Lost("the peer reset the connection".into())
        }
        _ => Came::Lost(error.to_string()),
    }
}
