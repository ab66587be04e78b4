//! A way to Redis that can be cut: one for each node.

use std::io;
use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How the way is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// As if it were not there.
    Open,
    /// Connections are ended, and new ones too.
    Cut,
    /// Nothing gets through, and nobody is told.
    Silent,
}

/// A listener that passes on what it is sent.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub addr: SocketAddr,
    way: watch::Sender<Way>,
    tasks: JoinSet<()>,
}

impl Proxy {
    /// A way to `to`, open.
    pub async fn open(to: SocketAddr) -> io::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let (way, watched) = watch::channel(Way::Open);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, to, watched));
        Ok(Proxy { addr, way, tasks })
    }

    /// Changes the way.
    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, way: watch::Receiver<Way>) {
    // They end with this task: one connection of a node each, and a node has a handful.
    let mut pumps = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while pumps.try_join_next().is_some() {}
        pumps.spawn(pump(stream, to, way.clone()));
    }
}

async fn pump(mut from: TcpStream, to: SocketAddr, mut way: watch::Receiver<Way>) {
    let is_silent = match *way.borrow_and_update() {
        Way::Cut => return,
        Way::Silent => true,
        Way::Open => false,
    };
    if !is_silent {
        let Ok(mut to) = TcpStream::connect(to).await else {
            return;
        };
        tokio::select! {
            _ended = copy_bidirectional(&mut from, &mut to) => return,
            _changed = way.changed() => {}
        }
        if *way.borrow() == Way::Silent {
            // Both ends stay open and hear nothing. What was on its way is lost, so the connection is not used again.
            let _changed = way.changed().await.is_ok();
        }
        return;
    }
    let _changed = way.changed().await.is_ok();
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_way_that_is_open_silent_and_cut() {
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::open(echo.local_addr().unwrap()).await.unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = echo.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        let mut one = TcpStream::connect(proxy.addr).await.unwrap();
        let mut byte = [0];
        one.write_all(b"a").await.unwrap();
        one.read_exact(&mut byte).await.unwrap();
        assert_eq!(byte, *b"a");
        proxy.set(Way::Silent);
        one.write_all(b"b").await.unwrap();
        assert!(
            timeout(Duration::from_millis(100), one.read_exact(&mut byte)).await.is_err(),
            "nothing comes"
        );
        proxy.set(Way::Cut);
        assert!(!matches!(one.read(&mut byte).await, Ok(1..)), "ended");
        let mut other = TcpStream::connect(proxy.addr).await.unwrap();
        assert!(!matches!(other.read(&mut byte).await, Ok(1..)), "ended at once");
        proxy.set(Way::Open);
        let mut third = TcpStream::connect(proxy.addr).await.unwrap();
        third.write_all(b"c").await.unwrap();
        third.read_exact(&mut byte).await.unwrap();
        assert_eq!(byte, *b"c");
    }
}
