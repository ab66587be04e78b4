//! What nodes say to each other of a stream: one asks for the next view, the other tells it.

use bytes::Bytes;
use nova_actors::id::NodeId;
use nova_actors::live_stream::{Broadcast, View};
use nova_media::hls::{self, Edge, Snapshot};
use serde::{Deserialize, Serialize};

/// A view on its way between nodes.
#[derive(Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) broadcast: String,
    pub(super) part_target_ms: u32,
    pub(super) segment_target_ms: u32,
    pub(super) target_duration_s: u32,
    pub(super) segments_max: usize,
    pub(super) msn: u64,
    pub(super) part: u32,
    pub(super) ended: bool,
    pub(super) is_private: bool,
    pub(super) multivariant: String,
    pub(super) plain: String,
    pub(super) delta: String,
}

impl Told {
    pub(super) fn of(broadcast: &Broadcast, view: &View) -> Told {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let settings = broadcast.settings();
        Told {
            broadcast: broadcast.name().to_owned(),
            part_target_ms: settings.part_target_ms,
            segment_target_ms: settings.segment_target_ms,
            target_duration_s: settings.target_duration_s,
            segments_max: settings.segments_max,
            msn: view.playlist.edge.msn,
            part: view.playlist.edge.part,
            ended: view.playlist.edge.ended,
            is_private: broadcast.is_private(),
            multivariant: text(&view.multivariant),
            plain: text(&view.playlist.plain),
            delta: text(&view.playlist.delta_plain),
        }
    }

    pub(super) fn settings(&self) -> hls::Settings {
        hls::Settings {
            part_target_ms: self.part_target_ms,
            segment_target_ms: self.segment_target_ms,
            target_duration_s: self.target_duration_s,
            segments_max: self.segments_max,
        }
    }

    pub(super) fn view(self) -> View {
        let edge = Edge { msn: self.msn, part: self.part, ended: self.ended };
        View {
            playlist: Snapshot::of(edge, self.plain, self.delta),
            multivariant: self.multivariant.into(),
            moved: false,
        }
    }
}

/// What a node asks of a view.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    /// Who asks.
    pub(super) node: NodeId,
    /// How many watch there.
    pub(super) viewers: u32,
    /// The edge of the view it has; without it any view will do.
    pub(super) msn: Option<u64>,
    pub(super) part: Option<u32>,
    pub(super) ended: Option<bool>,
    /// Of which rendition; without it the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rendition: Option<String>,
}

impl Ask {
    /// For a view of a rendition after this edge. Nobody is counted by it.
    pub(super) fn rendition(node: NodeId, name: &str, edge: Option<Edge>) -> Ask {
        Ask {
            node,
            viewers: 0,
            msn: edge.map(|edge| edge.msn),
            part: edge.map(|edge| edge.part),
            ended: edge.map(|edge| edge.ended),
            rendition: Some(name.to_owned()),
        }
    }
}
