//! One voice: Opus to samples, by a child that is started with the first word and goes on through pauses and other speakers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nova_media::codec::{ogg, opus};
use nova_media::mix::Voice;
use nova_media::rtp::is_newer;
use nova_media::rtp::ring::Kept;
use tokio::time::Instant;

use super::child::{Child, Cut};
use crate::ffmpeg::Backoff;
use crate::telemetry::Metrics;

/// Packets that wait for the child: a second. When full, what comes is a hole in the sound.
const PACKETS_MAX: usize = 50;
/// Pieces of sound that wait to be mixed. When full the child waits.
const PIECES_MAX: usize = 64;

/// A voice, as it comes.
pub(super) struct Ear {
    program: PathBuf,
    child: Option<(Child<Vec<i16>>, ogg::Pages)>,
    backoff: Backoff,
    not_before: Instant,
    last: Option<u16>,
}

impl Ear {
    pub(super) fn new(program: &Path) -> Ear {
        Ear {
            program: program.to_owned(),
            child: None,
            backoff: super::backoff(),
            not_before: Instant::now(),
            last: None,
        }
    }

    /// A packet came. What is late or there already says nothing any more.
    pub(super) fn hear(&mut self, kept: &Kept) {
        let is_next = self.last.is_none_or(|last| is_newer(kept.sequence, last));
        let Some(samples) = opus::packet_samples(&kept.payload).filter(|_| is_next) else { return };
        self.last = Some(kept.sequence);
        if self.child.is_none() && Instant::now() >= self.not_before {
            self.start();
        }
        if let Some((child, pages)) = &mut self.child
            && let Some(page) = pages.page(&kept.payload, samples)
        {
            child.push(page);
        }
    }

    fn start(&mut self) {
        let arguments = [
            &["-probesize", "32", "-analyzeduration", "0", "-threads", "1", "-f", "ogg", "-i", "pipe:0"][..],
            &["-map", "0:a:0", "-ac", "2", "-ar", "48000", "-f", "s16le", "-flush_packets", "1", "pipe:1"],
        ];
        match Child::start(&self.program, &arguments.concat(), (PACKETS_MAX, PIECES_MAX), samples()) {
            Ok(mut child) => {
                let mut pages = ogg::Pages::default();
                child.push(pages.headers());
                self.child = Some((child, pages));
            }
            Err(error) => {
                self.not_before = Instant::now() + self.backoff.after(Duration::ZERO);
                tracing::warn!(%error, "a voice of a room that is streamed cannot be decoded");
            }
        }
    }

    /// Hands on what was decoded.
    pub(super) fn give(&mut self, voice: &mut Voice, metrics: &Metrics) {
        let Some((child, _)) = &mut self.child else { return };
        while let Some(samples) = child.take() {
            voice.push(samples);
        }
        if child.has_ended() {
            self.not_before = Instant::now() + self.backoff.after(child.age());
            self.child = None;
            metrics.egress_restarts.with_label_values(&["voice"]).inc();
        }
    }

    pub(super) fn used(&mut self) -> Duration {
        self.child.as_mut().map_or(Duration::ZERO, |(child, _)| child.used())
    }
}

/// 16-bit samples of whole pairs; a read may end anywhere.
fn samples() -> Cut<Vec<i16>> {
    let mut rest = Vec::new();
    Box::new(move |bytes, pieces| {
        rest.extend_from_slice(bytes);
        let whole = rest.len() / 4 * 4;
        let (pairs, _) = rest.as_chunks::<2>();
        pieces.push(pairs.iter().take(whole / 2).map(|pair| i16::from_le_bytes(*pair)).collect());
        rest.drain(..whole);
        true
    })
}
