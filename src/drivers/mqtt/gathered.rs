//! A connection of which everything written goes out together, once there is nothing more to write.
//!
//! The client flushes each acknowledgement for itself: a system call and a packet for every message. Here a flush leaves what was
//! written where it is. It goes out before the next read is waited for, which is what the client does when it has nothing
//! left to say, or as soon as there is much of it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// No more than this waits for company.
const MUCH: usize = 16 * 1024;

#[derive(Debug)]
pub struct Gathered {
    stream: TcpStream,
    written: Vec<u8>,
}

impl Gathered {
    pub fn new(stream: TcpStream) -> Gathered {
        Gathered { stream, written: Vec::new() }
    }

    /// Until all is with the kernel.
    fn send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.written.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.written))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written.drain(..sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Gathered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // A peer that takes nothing is read nevertheless.
        if let Poll::Ready(Err(error)) = self.send(cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.written.len() == MUCH {
            ready!(self.send(cx))?;
        }
        let taken = bytes.len().min(MUCH - self.written.len());
        self.written.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.written.len() < MUCH { Poll::Ready(Ok(())) } else { self.send(cx) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.send(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for Gathered {
    /// The client drops its connection right after the DISCONNECT packet.
    fn drop(&mut self) {
        if !self.written.is_empty() {
            let _ = self.stream.try_write(&self.written);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    async fn pair() -> (Gathered, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Gathered::new(ours), listener.accept().await.unwrap().0)
    }

    /// What has come by now.
    async fn come(peer: &TcpStream) -> Vec<u8> {
        let mut got = vec![0; 64 * 1024];
        peer.readable().await.unwrap();
        let n = peer.try_read(&mut got).unwrap();
        got.truncate(n);
        got
    }

    #[tokio::test]
    async fn acknowledgements_go_out_together_before_the_next_read() {
        let (mut ours, mut peer) = pair().await;
        for byte in 0..100u8 {
            ours.write_all(&[byte]).await.unwrap();
            ours.flush().await.unwrap();
        }
        assert_eq!(peer.try_read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock, "they wait for the read");
        let mut answer = [0; 2];
        tokio::select! {
            read = ours.read_exact(&mut answer) => panic!("nothing was sent, and {read:?} came"),
            got = come(&peer) => assert_eq!(got, (0..100).collect::<Vec<u8>>()),
        }
        peer.write_all(b"ok").await.unwrap();
        ours.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"ok");
    }

    #[tokio::test]
    async fn much_goes_out_without_a_read_and_the_rest_with_the_connection() {
        let (mut ours, mut peer) = pair().await;
        ours.write_all(&[1; MUCH]).await.unwrap();
        ours.flush().await.unwrap();
        assert_eq!(come(&peer).await, [1; MUCH]);
        ours.write_all(b"goodbye").await.unwrap();
        ours.flush().await.unwrap();
        drop(ours);
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"goodbye");
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_read_and_holds_up_who_writes() {
        let (mut ours, mut peer) = pair().await;
        peer.write_all(b"x").await.unwrap();
        let much = vec![7; 32 * 1024 * 1024];
        let writes = tokio::time::timeout(std::time::Duration::from_millis(200), ours.write_all(&much));
        assert!(writes.await.is_err(), "32 MB were taken from us");
        assert_eq!(ours.read_u8().await.unwrap(), b'x');
    }
}
