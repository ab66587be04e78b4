//! Where the publisher of a broadcast sits.

use std::{fmt::Write as _, sync::Arc};

use nova_media::{
    codec::Configuration,
    hls::{Segmenter, Settings, multivariant},
};

use super::{
    broadcast::PLAYLIST,
    gop::Gop,
    listener::{Ear, Heard},
    rates::Rates,
    state::Session,
};
use crate::port::{Standing, Tap};

/// Who writes, and what was written last.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) session: Session,
    pub(super) segmenter: Segmenter,
    pub(super) rates: Rates,
    pub(super) video: Option<Arc<Configuration>>,
    pub(super) audio: Option<Arc<Configuration>>,
    pub(super) tap: Option<Box<dyn Tap>>,
    pub(super) ears: Vec<Ear>,
    pub(super) gop: Gop,
    pub(super) next_msn: u64,
    pub(super) ended: bool,
}

impl Desk {
    /// One at which nobody has sat, of a broadcast that stands there.
    pub(super) fn new(settings: Settings, standing: Standing) -> Desk {
        Desk {
            session: standing.sessions,
            segmenter: Segmenter::new(settings, standing.next_msn),
            rates: Rates::default(),
            video: None,
            audio: None,
            tap: None,
            ears: Vec::new(),
            gop: Gop::default(),
            next_msn: standing.next_msn,
            ended: false,
        }
    }

    /// Tells all who listen, and forgets those who have gone.
    pub(super) fn tell(&mut self, heard: &Heard) {
        self.ears.retain(Ear::is_heard);
        self.ears.iter().for_each(|ear| ear.tell(heard.clone()));
    }

    /// The multivariant playlist: what is written here, and the other renditions.
    pub(super) fn multivariant(&self, name: &str, others: Vec<multivariant::Variant>) -> String {
        let configurations = [&self.video, &self.audio].into_iter().flatten();
        let picture = self.video.as_ref().and_then(|video| video.picture());
        let (bandwidth_bps, average_bandwidth_bps) = self.rates.bandwidth_bps();
        let mut uri = String::with_capacity(name.len() + PLAYLIST.len() + 1);
        write!(uri, "{name}/{PLAYLIST}").expect("a String takes all");
        let mut variants = vec![multivariant::Variant {
            uri,
            bandwidth_bps,
            average_bandwidth_bps,
            codecs: configurations.map(|configuration| configuration.codecs()).collect(),
            resolution: picture.map(|picture| (picture.width, picture.height)),
            frames_per_s: picture.and_then(|picture| picture.frames_per_s),
        }];
        variants.extend(others);
        multivariant::render(&variants)
    }
}
