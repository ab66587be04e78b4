//! What a node is made of, as its doors share it; [`App::build`](super::App::build) puts it together.

use std::net::SocketAddr;
use std::sync::Arc;

use nova_actors::clock::Clock;
use nova_actors::id::NodeId;
use nova_actors::port::Bus;

use crate::calls::Calls;
use crate::chat::Door;
use crate::config::Config;
use crate::conversations::Conversations;
use crate::conversations::presence::Presences;
use crate::conversations::talk::Talk;
use crate::feeds::Feeds;
use crate::health::Health;
use crate::identity::Identity;
use crate::live::Live;
use crate::nodes::Seal;
use crate::playback::relay::Relays;
use crate::playback::token::Tokens;
use crate::recordings::Recordings;
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::wish::Wish;

/// What every door of a node shares.
pub struct Engine {
    /// When this process became ready.
    pub started: tokio::time::Instant,
    /// What the operator decided.
    pub config: Config,
    /// This process, for as long as it lives.
    pub node: NodeId,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What is counted and measured.
    pub metrics: Metrics,
    /// PostgreSQL.
    pub store: Store,
    /// The other nodes.
    pub bus: Arc<dyn Bus>,
    /// Who is who.
    pub identity: Arc<Identity>,
    /// What people read when they come.
    pub feeds: Arc<Feeds>,
    /// What is said in conversations.
    pub conversations: Conversations,
    /// Live streams.
    pub live: Arc<Live>,
    /// Those of other nodes that are watched here.
    pub relays: Relays,
    /// Signs what this node asks of others.
    pub seal: Seal,
    /// Open the playlists of private streams.
    pub playback_tokens: Tokens,
    /// What is kept of them.
    pub recordings: Recordings,
    /// Who is here.
    pub presences: Presences,
    /// Group calls.
    pub calls: Calls,
    /// Streams over WebRTC.
    pub wish: Wish,
    /// What is said over the socket, and shown there.
    pub talk: Talk,
    /// The WebSocket door.
    pub chat: Door,
    /// How the dependencies do.
    pub health: Health,
    /// The address of the HTTP door, as bound.
    pub http_addr: SocketAddr,
    /// The address of the RTMP door: as bound, or as configured where other nodes have the door.
    pub rtmp_addr: SocketAddr,
    /// The address of the media port of calls: as bound, or as configured where other nodes have it.
    pub rtc_addr: SocketAddr,
}

impl Engine {
    /// The address publishers connect to, without the stream key.
    pub fn ingest_url(&self) -> String {
        let derived = || format!("rtmp://{}/live", self.rtmp_addr);
        self.config.live.rtmp_public_url.clone().unwrap_or_else(derived)
    }

    /// The address users reach this engine under, without a trailing slash.
    pub fn public_url(&self) -> String {
        let derived = || {
            let scheme = if self.config.http.tls_cert.is_some() { "https" } else { "http" };
            format!("{scheme}://{}", self.http_addr)
        };
        self.config.http.public_url.clone().unwrap_or_else(derived)
    }
}
