//! Where a viewer's stream is: its publisher is here, or on another node.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use nova_actors::id::StreamId;
use nova_actors::live_stream::audience::Audience;
use nova_actors::live_stream::{Broadcast, View};
use nova_media::hls;
use tokio::sync::watch;

use super::relay::Relay;

/// Where a viewer's stream is.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// Its publisher is here.
    Here(Arc<Broadcast>),
    /// Its publisher is on another node.
    There(Arc<Relay>),
}

impl Source {
    pub(super) fn stream(&self) -> StreamId {
        match self {
            Source::Here(broadcast) => broadcast.stream(),
            Source::There(relay) => relay.stream,
        }
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Source::Here(broadcast) => broadcast.name(),
            Source::There(relay) => &relay.name,
        }
    }

    pub(super) fn is_private(&self) -> bool {
        match self {
            Source::Here(broadcast) => broadcast.is_private(),
            Source::There(relay) => relay.is_private.load(Ordering::Relaxed),
        }
    }

    pub(super) fn settings(&self) -> hls::Settings {
        match self {
            Source::Here(broadcast) => broadcast.settings(),
            Source::There(relay) => relay.settings,
        }
    }

    pub(super) fn views(&self) -> watch::Receiver<Option<Arc<View>>> {
        match self {
            Source::Here(broadcast) => broadcast.views(),
            Source::There(relay) => relay.views.subscribe(),
        }
    }

    pub(super) fn audience(&self) -> &Audience {
        match self {
            Source::Here(broadcast) => broadcast.audience(),
            Source::There(relay) => &relay.audience,
        }
    }
}
