//! Which node has which stream.
//!
//! A stream is where its publisher is. The node has a lease on it, and keeps it for as long as the stream's actor lives; a node that
//! dies loses it within [`TTL`]. Whoever a publisher comes to asks the other nodes to give the stream up, waits for the lease, and goes on
//! with what the store says of the broadcast. A bus that is away keeps nobody from publishing: then the last who writes is right, and
//! the others notice when it is back.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep},
};

use crate::{
    error::StartError,
    id::{NodeId, StreamId},
    port::{Bus, Lease, LeaseName, Topic},
};

/// How long a stream stays with a node that is silent.
const TTL: Duration = Duration::from_secs(4);
/// How long a publisher waits for the node that has its stream.
const TAKE_LIMIT: Duration = Duration::from_secs(7);
/// How often the lease is asked for meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// How often the other node is asked to give it up: what was asked once may have been lost.
const REPEAT_EVERY: u32 = 10;

/// What nodes tell each other of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The publisher of this stream is at this node now.
    Came(StreamId, NodeId),
    /// The owner of this stream has changed what its actor goes by.
    Changed(StreamId),
    /// This stream was deleted.
    Deleted(StreamId),
}

impl News {
    /// Where they are told.
    #[must_use]
    pub fn topic() -> Topic {
        Topic::new("live").expect("the name is made of letters")
    }

    /// As it travels.
    #[must_use]
    pub fn write(&self) -> Bytes {
        let text = match self {
            Self::Came(stream, node) => format!("came {stream} {node}"),
            Self::Changed(stream) => format!("changed {stream}"),
            Self::Deleted(stream) => format!("deleted {stream}"),
        };
        text.into()
    }

    /// Reads what travelled; none when a newer node said something we do not know.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut words = text.split(' ');
        let (what, stream) = (words.next()?, words.next()?.parse().ok()?);
        match what {
            "came" => Some(Self::Came(stream, words.next()?.parse().ok()?)),
            "changed" => Some(Self::Changed(stream)),
            "deleted" => Some(Self::Deleted(stream)),
            _ => None,
        }
    }
}

/// How a claim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// Nobody else has the stream, as far as is known.
    Ours,
    /// Another node has it.
    Lost,
}

/// The streams of one node.
pub struct Claims {
    bus: Arc<dyn Bus>,
    node: NodeId,
    held: Mutex<HashMap<StreamId, Option<Lease>>>,
    /// How many are being given up by actors that have ended.
    leaving: watch::Sender<usize>,
}

impl Claims {
    /// None yet.
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>, node: NodeId) -> Self {
        Self { bus, node, held: Mutex::default(), leaving: watch::Sender::new(0) }
    }

    /// Tells the other nodes.
    pub async fn tell(&self, news: News) {
        if let Err(error) = self.bus.publish(&News::topic(), news.write()).await {
            tracing::warn!(%error, "other nodes hear late of a stream");
        }
    }

    /// Makes the stream this node's.
    pub(super) async fn take(&self, stream: StreamId) -> Result<(), StartError> {
        let before = self.held().get(&stream).cloned();
        if let Some(lease) = before {
            // Its actor has panicked and is started again; it takes nothing away from anybody.
            return match self.keep_held(stream, lease).await {
                Claim::Ours => Ok(()),
                Claim::Lost => {
                    self.held().remove(&stream);
                    Err(StartError::Failed { reason: "another node has the stream now".to_owned() })
                }
            };
        }
        let name = name(stream);
        let deadline = Instant::now() + TAKE_LIMIT;
        let mut asked = 0_u32;
        while Instant::now() < deadline {
            match self.bus.acquire(&name, self.node, TTL).await {
                Ok(Some(lease)) => {
                    self.held().insert(stream, Some(lease));
                    return Ok(());
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%stream, %error, "a stream begins without a lease");
                    self.held().insert(stream, None);
                    return Ok(());
                }
            }
            if asked.is_multiple_of(REPEAT_EVERY) {
                self.tell(News::Came(stream, self.node)).await;
            }
            asked += 1;
            sleep(ASK_EVERY).await;
        }
        Err(StartError::Failed { reason: "another node does not give the stream up".to_owned() })
    }

    /// Keeps the stream.
    pub(super) async fn keep(&self, stream: StreamId) -> Claim {
        let held = self.held().get(&stream).cloned();
        match held {
            Some(lease) => self.keep_held(stream, lease).await,
            None => Claim::Lost,
        }
    }

    async fn keep_held(&self, stream: StreamId, lease: Option<Lease>) -> Claim {
        if let Some(lease) = &lease {
            match self.bus.renew(lease, TTL).await {
                Ok(true) | Err(_) => return Claim::Ours,
                Ok(false) => {}
            }
        }
        // Redis was away for longer than the lease, or has forgotten it: whoever asks first has it.
        match self.bus.acquire(&name(stream), self.node, TTL).await {
            Ok(Some(lease)) => {
                if let Some(held) = self.held().get_mut(&stream) {
                    *held = Some(lease);
                }
                Claim::Ours
            }
            Ok(None) => Claim::Lost,
            Err(_) => Claim::Ours,
        }
    }

    /// Lets others have the stream.
    pub async fn give_up(&self, stream: StreamId) {
        let held = self.held().remove(&stream);
        if let Some(Some(lease)) = held {
            // Without an answer it expires.
            let _ = self.bus.release(&lease).await;
        }
    }

    /// The same, by an actor that does not wait for it because it has ended. [`settle`](Self::settle) does.
    pub(super) fn leave(self: Arc<Self>, stream: StreamId) {
        let leaving = Leaving::new(self);
        actix::spawn(async move { leaving.0.give_up(stream).await });
    }

    /// Waits until all that actors have left is given up.
    pub async fn settle(&self) {
        // The sender is here, so there is one.
        let _ = self.leaving.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Whether this node has the stream.
    #[must_use]
    pub fn has(&self, stream: StreamId) -> bool {
        self.held().contains_key(&stream)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<StreamId, Option<Lease>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who gives a stream up; counted as long as they do.
struct Leaving(Arc<Claims>);

impl Leaving {
    fn new(claims: Arc<Claims>) -> Self {
        claims.leaving.send_modify(|count| *count += 1);
        Self(claims)
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.leaving.send_modify(|count| *count -= 1);
    }
}

fn name(stream: StreamId) -> LeaseName {
    LeaseName::new(format!("live:{stream}")).expect("an id is made of letters, digits and an underscore")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory;

    #[test]
    fn news_arrive_as_they_were_told() {
        let (stream, node) = (StreamId::generate(), NodeId::generate());
        for news in [News::Came(stream, node), News::Changed(stream), News::Deleted(stream)] {
            assert_eq!(News::read(&news.write()), Some(news));
        }
        for odd in ["", "came", "came x y", "gone stream_0", "\u{0}"] {
            assert_eq!(News::read(odd.as_bytes()), None, "{odd}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_goes_to_whoever_asks_when_it_is_given_up_or_its_node_is_silent() {
        let bus: Arc<dyn Bus> = Arc::new(memory::Bus::default());
        let node = || Arc::new(Claims::new(Arc::clone(&bus), NodeId::generate()));
        let (one, other, third) = (node(), node(), node());
        let stream = StreamId::generate();
        one.take(stream).await.expect("it is free");
        assert_eq!(one.keep(stream).await, Claim::Ours);
        let mut heard = bus.subscribe(&News::topic()).await.expect("subscribed");
        let takes = tokio::spawn({
            let other = Arc::clone(&other);
            async move { other.take(stream).await }
        });
        assert!(heard.next().await.is_some(), "it asks");
        one.give_up(stream).await;
        takes.await.expect("no panic").expect("it is free now");
        assert_eq!(one.keep(stream).await, Claim::Lost);
        // The node dies: nobody keeps the lease.
        third.take(stream).await.expect("it has expired");
        assert!(third.has(stream) && !one.has(stream));
        assert_eq!(other.keep(stream).await, Claim::Lost);
        assert!(other.take(stream).await.is_err(), "who has lost it does not take it back unasked");
    }

    #[actix::test]
    async fn whoever_has_left_a_stream_is_waited_for() {
        let bus: Arc<dyn Bus> = Arc::new(memory::Bus::default());
        let one = Arc::new(Claims::new(Arc::clone(&bus), NodeId::generate()));
        one.settle().await;
        let stream = StreamId::generate();
        one.take(stream).await.expect("it is free");
        Arc::clone(&one).leave(stream);
        assert!(one.has(stream), "an actor that ends waits for nothing");
        one.settle().await;
        let other = bus.acquire(&name(stream), NodeId::generate(), TTL).await.expect("the bus is there");
        assert!(other.is_some(), "it is free");
    }
}
