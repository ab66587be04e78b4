//! One device and what waits for it: heard until its queue is empty, or until it is sent away.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout;

use super::{DIAL_MAX, Dial, Member, Shared, Tally, enter, open};
use crate::bench::BenchError;
use crate::bench::client::{self, Heard, Reader};

/// What a device heard until its queue was empty, or until it was sent away.
#[derive(Debug, Default, Clone, Copy)]
pub struct Drained {
    /// Entries.
    pub entries: u64,
    /// Entries whose number had come before.
    pub repeats: u64,
    /// Numbers that were left out.
    pub holes: u64,
    /// The code of the close frame, where the server ended it.
    pub close: Option<u16>,
}

/// Connects one device, and leaves when its queue is drained.
pub async fn drain(addr: SocketAddr, token: &str) -> Result<Drained, BenchError> {
    let shared = Shared::alone();
    let dial = Dial { addr, token: token.to_owned() };
    timeout(DIAL_MAX, open(0, &dial, &shared))
        .await
        .map_err(|_| BenchError::because("the queue did not end within a minute"))??;
    Ok(shared.tally.drained(None))
}

/// A device that was let in and reads nothing any more.
pub struct Sleeper {
    member: Rc<Member>,
    reader: Reader,
    shared: Shared,
}

impl Sleeper {
    /// Connects it and lets it fall asleep.
    pub async fn dial(addr: SocketAddr, token: &str) -> Result<Sleeper, BenchError> {
        let shared = Shared::alone();
        let dialled = client::dial_narrow(addr, "/v1/ws", Some("nova.v1")).await;
        let (writer, reader) = dialled.map_err(BenchError::because)?;
        let (member, reader) = timeout(DIAL_MAX, enter(0, token, &shared, writer, reader))
            .await
            .map_err(|_| BenchError::because("a socket was not let in for a minute"))??;
        Ok(Sleeper { member, reader, shared })
    }

    /// It wakes and reads what is left for it, to the end of the connection or until `within` has passed.
    pub async fn wakes(mut self, within: Duration) -> Drained {
        let mut close = None;
        let reading = async {
            loop {
                let read = self.reader.read(|heard| match heard {
                    Heard::Text(text) => self.member.hear(&self.shared, text),
                    Heard::Ping(payload) => self.member.writer.pong(payload),
                    Heard::Close(code) => close = code,
                });
                if read.await.is_err() {
                    return;
                }
            }
        };
        // A connection that does not end leaves `close` empty.
        let _ended = timeout(within, reading).await.is_ok();
        self.shared.tally.drained(close)
    }
}

impl Tally {
    fn drained(&self, close: Option<u16>) -> Drained {
        let Tally { deliveries, repeats, holes, .. } = self;
        Drained { entries: deliveries.get(), repeats: repeats.get(), holes: holes.get(), close }
    }
}
