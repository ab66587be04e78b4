//! What a node does. Every node does everything, unless the operator sets parts apart so that they scale and fail apart.

use clap::ValueEnum;

/// A part of what the engine does; each opens a door, or works behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NodeRole {
    /// REST, the console, playlists and recordings for viewers.
    Api,
    /// The WebSocket: `/v1/ws`.
    Chat,
    /// The RTMP door, and what it lets in as low-latency HLS for viewers and other nodes.
    Ingest,
    /// The media port of calls, and their rooms; calls are joined over the WebSocket, so this goes with `chat`. Streams over WebRTC too:
    /// what is published there lives there, and what is watched there has its publisher there, so with `ingest`.
    Rtc,
    /// What nobody waits for: the event log's order, retention, counters, webhooks.
    Worker,
}

impl NodeRole {
    /// As it is named in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            NodeRole::Api => "api",
            NodeRole::Chat => "chat",
            NodeRole::Ingest => "ingest",
            NodeRole::Rtc => "rtc",
            NodeRole::Worker => "worker",
        }
    }

    /// Who serves a path of the HTTP door: any of these. Nobody in particular means every node: health, and what describes the engine.
    pub fn serving(path: &str) -> &'static [NodeRole] {
        const EVERY_NODE: [&str; 6] =
            ["/livez", "/readyz", "/api/v1/health", "/openapi.json", "/asyncapi.json", "/v1/ws"];
        if EVERY_NODE.contains(&path) {
            &[]
        } else if path.starts_with("/live/") || path.starts_with("/recordings/") {
            &[NodeRole::Api, NodeRole::Ingest]
        } else if path.starts_with("/v1/rooms") || path.starts_with("/whep/") || path.starts_with("/whip/") {
            &[NodeRole::Rtc]
        } else {
            &[NodeRole::Api]
        }
    }
}
