//! Where a live stream begins: from what is durable, from a broadcast that is on the air here, or where another node has left one.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Broadcast, Broadcasts, Claims, LiveStream, Settings, state::State};
use crate::{
    clock::Clock,
    directory::Start,
    error::StartError,
    id::{NodeId, StreamId},
    port::{Airing, LifeState, Recorder, SILENCE_MAX, Standing, Streams, Transcoder},
};

/// Segments that may have begun since where a broadcast stood was last noted, beyond what time tells.
const MSN_MARGIN: u64 = 3;

/// Makes live streams from what is durable.
pub struct StartLiveStream {
    /// The node they live on.
    pub node: NodeId,
    /// How they are treated.
    pub settings: Settings,
    /// What is durable.
    pub streams: Arc<dyn Streams>,
    /// Which streams are this node's.
    pub claims: Arc<Claims>,
    /// Who keeps it.
    pub recorder: Arc<dyn Recorder>,
    /// Who makes other renditions of it.
    pub transcoder: Arc<dyn Transcoder>,
    /// Where viewers find what is on the air.
    pub broadcasts: Broadcasts,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

#[async_trait]
impl Start for StartLiveStream {
    type Id = StreamId;
    type Actor = LiveStream;

    async fn start(&self, id: StreamId) -> Result<LiveStream, StartError> {
        // Whoever had it has noted where it stands before it lets go of it.
        self.claims.take(id).await?;
        let begun = self.begin(id).await;
        if begun.is_err() {
            self.claims.give_up(id).await;
        }
        begun
    }
}

impl StartLiveStream {
    async fn begin(&self, id: StreamId) -> Result<LiveStream, StartError> {
        let loaded = self.streams.load(id).await;
        let record = loaded.map_err(|error| StartError::Failed { reason: error.reason })?;
        let record = record.ok_or(StartError::NotFound)?;
        let now = self.clock.now();
        let left_elsewhere = record.airing.filter(|airing| {
            airing.state == LifeState::Live && airing.node != self.node && airing.heard_at + SILENCE_MAX > now
        });
        let adopted =
            self.broadcasts.of(id).filter(|found| !found.has_ended() && found.views().borrow().is_some());
        let (adopted, left) = match (adopted, left_elsewhere) {
            (Some(here), _) => (Some(here), None),
            (None, Some(airing)) => (Some(self.go_on_with(id, &airing)), Some(airing)),
            (None, None) => (None, None),
        };
        if let Some(broadcast) = &adopted {
            broadcast.set_private(record.is_private);
        }
        let resume = self.settings.resume;
        let state = match &adopted {
            Some(broadcast) => State::adopting(record.key, resume, broadcast.session(), self.clock.instant()),
            None => State::new(record.key, resume),
        };
        Ok(LiveStream {
            id,
            node: self.node,
            settings: self.settings,
            streams: Arc::clone(&self.streams),
            recorder: Arc::clone(&self.recorder),
            transcoder: Arc::clone(&self.transcoder),
            broadcasts: self.broadcasts.clone(),
            clock: Arc::clone(&self.clock),
            state,
            airing: adopted.as_ref().map(|broadcast| match left {
                Some(airing) => Airing { node: self.node, heard_at: now, ..airing },
                None => airing(self.node, broadcast, now),
            }),
            claims: Arc::clone(&self.claims),
            is_private: record.is_private,
            broadcast: adopted,
            publisher: None,
            unnoted: None,
            lingering: 0,
            ticks: 0,
            ticked: self.clock.instant(),
        })
    }

    /// The broadcast another node has left, empty, where it stood or a little further: what the other node did since it was last heard
    /// of is not known, and no two segments may ever have one name.
    fn go_on_with(&self, id: StreamId, airing: &Airing) -> Arc<Broadcast> {
        let silent_ms = (self.clock.now() - airing.heard_at).whole_milliseconds().max(0);
        let segment_ms = i128::from(self.settings.hls.segment_target_ms.max(1));
        let since = u64::try_from(silent_ms / segment_ms).unwrap_or(0) + MSN_MARGIN;
        let Standing { next_msn, discontinuities, sessions } = airing.standing;
        let standing = Standing { next_msn: next_msn + since, discontinuities, sessions: sessions + since };
        let broadcast =
            Arc::new(Broadcast::going_on(id, airing.broadcast.clone(), self.settings.hls, standing));
        broadcast.keep(self.recorder.tap(id, broadcast.name()));
        self.transcoder.attend(&broadcast);
        self.broadcasts.put(Arc::clone(&broadcast));
        tracing::info!(stream = %id, node = %airing.node, "going on with what another node left");
        broadcast
    }
}

/// What is noted of a broadcast that is on the air from now on.
pub(super) fn airing(node: NodeId, broadcast: &Broadcast, now: time::OffsetDateTime) -> Airing {
    Airing {
        state: LifeState::Live,
        node,
        started_at: now,
        ended_at: None,
        heard_at: now,
        viewers: 0,
        viewers_peak: 0,
        watched_s: 0,
        broadcast: broadcast.name().to_owned(),
        standing: broadcast.standing(),
    }
}
