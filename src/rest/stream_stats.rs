//! How a broadcast goes, for the owner of its stream: who watches, how the media arrives, what is made beside it.

use std::borrow::Cow;

use actix_web::web;
use nova_actors::id::StreamId;
use nova_actors::live_stream::ladder::{RungStatus, Transcoding};
use nova_actors::live_stream::{Broadcast, Condition};
use nova_actors::port::LifeState;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::streams::own;
use super::{Json, Path};
use crate::app::Engine;
use crate::error::{ApiError, Problem};
use crate::identity::Caller;
use crate::store::streams::Stream;

/// How a broadcast goes, for its owner.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct StreamStats {
    /// As of the stream.
    #[schema(value_type = String, example = "live")]
    state: Cow<'static, str>,
    /// Who watches now.
    viewers: u32,
    /// The most who watched the broadcast at a time.
    viewers_peak: u32,
    /// What all viewers of the broadcast watched together, in seconds.
    watched_s: u64,
    /// The publisher that is connected, or dropped and may come back.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher: Option<PublisherStats>,
    /// The renditions that are made beside the source, where this node is to make any.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    transcoding: Option<TranscodingStats>,
}

/// How the renditions beside the source go.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct TranscodingStats {
    /// `running`; `restarting` after it has failed, the source going on; `refused` where this node has no CPU for it.
    state: TranscodingState,
    /// How often the transcoder had to be started again.
    restarts: u32,
    /// Why it was last started again, or makes less than it should.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Renditions this node has no CPU for.
    refused: Vec<String>,
    /// Those that are made, best first.
    renditions: Vec<RenditionStats>,
}

/// What becomes of a ladder.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum TranscodingState {
    /// It is being made.
    Running,
    /// It failed and is about to be made again.
    Restarting,
    /// There is no CPU for it.
    Refused,
}

/// One rendition.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct RenditionStats {
    /// As players show it.
    #[schema(example = "720p")]
    name: String,
    /// In pixels.
    width: u32,
    /// In pixels.
    height: u32,
    /// Over the last segments.
    bitrate_bps: u64,
    /// Whether its latest part could be made.
    flowing: bool,
    /// Parts that could not be made.
    gaps: u64,
}

impl TranscodingStats {
    fn of(broadcast: &Broadcast) -> Option<TranscodingStats> {
        let (status, rungs) = broadcast.ladder().status();
        let state = match status.transcoding {
            Transcoding::Off => return None,
            Transcoding::Running => TranscodingState::Running,
            Transcoding::Restarting => TranscodingState::Restarting,
            Transcoding::Refused => TranscodingState::Refused,
        };
        let rendition = |rung: RungStatus| RenditionStats {
            name: rung.name,
            width: rung.size.0,
            height: rung.size.1,
            bitrate_bps: rung.bitrate_bps,
            flowing: rung.is_flowing,
            gaps: rung.gaps,
        };
        Some(TranscodingStats {
            state,
            restarts: status.restarts,
            reason: status.reason,
            refused: status.refused,
            renditions: rungs.into_iter().map(rendition).collect(),
        })
    }
}

/// How the media of a publisher arrives.
#[derive(Serialize, Deserialize, ToSchema)]
pub(super) struct PublisherStats {
    /// How long it has been publishing, in seconds.
    connected_s: u64,
    /// What its encoder calls itself.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    encoder: Option<String>,
    /// Over the last five seconds.
    video_bitrate_bps: u64,
    /// Over the last five seconds.
    audio_bitrate_bps: u64,
    /// Pictures that arrived over the last five seconds, a second.
    frames_per_s: f32,
    /// Since the publisher came.
    video_frames: u64,
    /// Since the publisher came.
    audio_frames: u64,
    /// Length of the last group of pictures. Viewers can begin at each, so long ones mean late viewers.
    gop_ms: u32,
    /// The longest so far.
    gop_ms_longest: u32,
    /// Whether pictures arrive in another order than they are shown.
    b_frames: bool,
    /// How unevenly pictures arrive.
    jitter_ms: f32,
    /// Pictures the encoder left out.
    frames_skipped: u64,
    /// Media that could not be passed on.
    frames_dropped: u64,
    /// Timestamps that were mended.
    timestamps_mended: u64,
}

impl PublisherStats {
    fn of(condition: Condition) -> Option<PublisherStats> {
        let since = condition.since?;
        let rtmp = condition.report;
        let (health, dropped, mended) = (rtmp.health, rtmp.dropped, rtmp.sanitised);
        Some(PublisherStats {
            connected_s: Instant::now().saturating_duration_since(since).as_secs(),
            encoder: condition.metadata.encoder,
            video_bitrate_bps: health.video_bitrate_bps,
            audio_bitrate_bps: health.audio_bitrate_bps,
            frames_per_s: health.frames_per_s,
            video_frames: health.video_frames,
            audio_frames: health.audio_frames,
            gop_ms: health.gop_ms,
            gop_ms_longest: health.gop_ms_longest,
            b_frames: health.b_frames,
            jitter_ms: health.jitter_ms,
            frames_skipped: health.frames_skipped,
            frames_dropped: dropped.unconfigured
                + dropped.broken
                + dropped.unsupported
                + dropped.other_track
                + dropped.early,
            timestamps_mended: mended.repeated
                + mended.backwards
                + mended.gaps
                + mended.outliers
                + mended.jumps
                + mended.compositions,
        })
    }
}

/// How the broadcast of one's own stream goes.
#[utoipa::path(
    get, path = "/v1/streams/{stream_id}/stats", tag = "streams", security(("bearer" = [])),
    params(("stream_id" = String, Path, description = "TypeID `stream_…`")),
    responses(
        (status = 200, description = "As of now", body = StreamStats),
        (status = 403, description = "`forbidden`: it is somebody else's", body = Problem),
        (status = 404, description = "`not_found`", body = Problem),
    )
)]
pub(super) async fn stats(
    engine: web::Data<Engine>,
    caller: Caller,
    path: Path<String>,
) -> Result<Json<StreamStats>, ApiError> {
    let stream = own(&engine, &caller, &path.0).await?;
    Ok(Json(stats_of(&engine, &stream).await))
}

/// How the broadcast of a stream goes: as this node knows it, or as the node of its publisher does, or as was last noted.
pub(crate) async fn stats_of(engine: &Engine, stream: &Stream) -> StreamStats {
    if let Some(here) = StreamStats::here(engine, stream.id) {
        return StreamStats { state: stream.state.as_str().into(), ..here };
    }
    let is_live = stream.state == LifeState::Live;
    if is_live && let Some(there) = engine.relays.stats(stream.id).await {
        return StreamStats { state: stream.state.as_str().into(), ..there };
    }
    StreamStats {
        state: stream.state.as_str().into(),
        viewers: stream.viewers,
        viewers_peak: stream.viewers_peak,
        watched_s: stream.watched_s,
        publisher: None,
        transcoding: None,
    }
}

impl StreamStats {
    /// How the broadcast of a stream goes whose publisher is here.
    pub(crate) fn here(engine: &Engine, stream: StreamId) -> Option<StreamStats> {
        let broadcast = engine.live.broadcasts.of(stream).filter(|broadcast| !broadcast.has_ended())?;
        Some(StreamStats {
            state: LifeState::Live.as_str().into(),
            viewers: broadcast.audience().count(),
            viewers_peak: broadcast.audience().peak(),
            watched_s: broadcast.audience().watched_s(),
            publisher: PublisherStats::of(broadcast.condition()),
            transcoding: TranscodingStats::of(&broadcast),
        })
    }

    /// Whether somebody publishes, or may come back.
    pub(crate) fn has_publisher(&self) -> bool {
        self.publisher.is_some()
    }
}
