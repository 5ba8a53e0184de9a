//! The cable to the cloud: a TCP proxy on loopback that can be pulled out and plugged in again.
//!
//! Pulled, it refuses connections and has closed those it carried, as a dead link looks to the gateway.

use std::{net::SocketAddr, sync::Arc};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

pub struct Cable {
    /// Where the gateway connects.
    pub near: SocketAddr,
    plugged: Arc<watch::Sender<bool>>,
}

impl Cable {
    /// Plugged in, towards `far`.
    pub async fn lay(far: SocketAddr, stop: CancellationToken) -> std::io::Result<Cable> {
        let first = TcpListener::bind("127.0.0.1:0").await?;
        let near = first.local_addr()?;
        let (plugged, changes) = watch::channel(true);
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = carry(first, near, far, changes) => {}
            }
        });
        Ok(Cable { near, plugged: Arc::new(plugged) })
    }

    pub fn pull(&self) {
        self.plugged.send_replace(false);
    }

    pub fn plug(&self) {
        self.plugged.send_replace(true);
    }

    pub fn is_plugged(&self) -> bool {
        *self.plugged.borrow()
    }
}

async fn carry(first: TcpListener, near: SocketAddr, far: SocketAddr, mut changes: watch::Receiver<bool>) {
    let mut listener = Some(first);
    loop {
        let plugged = *changes.borrow_and_update();
        if !plugged {
            listener = None;
            if changes.changed().await.is_err() {
                return;
            }
            continue;
        }
        if listener.is_none() {
            listener = listen(near).ok();
        }
        let Some(open) = &listener else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        tokio::select! {
            biased;
            changed = changes.changed() => if changed.is_err() { return },
            accepted = open.accept() => if let Ok((stream, _)) = accepted {
                tokio::spawn(connect(stream, far, changes.clone()));
            },
        }
    }
}

/// The same port again, although connections on it were closed a moment ago.
fn listen(near: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(near)?;
    socket.listen(16)
}

async fn connect(mut near: TcpStream, far: SocketAddr, mut changes: watch::Receiver<bool>) {
    let Ok(mut far) = TcpStream::connect(far).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    tokio::select! {
        biased;
        _ = changes.wait_for(|plugged| !plugged) => {}
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_pulled_cable_closes_and_refuses_and_a_plugged_one_carries_again() {
        let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cable = Cable::lay(far.local_addr().unwrap(), CancellationToken::new()).await.unwrap();
        let mut a = TcpStream::connect(cable.near).await.unwrap();
        let (mut b, _) = far.accept().await.unwrap();
        a.write_all(b"x").await.unwrap();
        assert_eq!(b.read_u8().await.unwrap(), b'x');
        cable.pull();
        assert_eq!(a.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed at the near end");
        while TcpStream::connect(cable.near).await.is_ok() {
            tokio::task::yield_now().await;
        }
        cable.plug();
        let mut c = loop {
            if let Ok(c) = TcpStream::connect(cable.near).await {
                break c;
            }
            tokio::task::yield_now().await;
        };
        let (mut d, _) = far.accept().await.unwrap();
        c.write_all(b"y").await.unwrap();
        assert_eq!(d.read_u8().await.unwrap(), b'y');
    }
}
