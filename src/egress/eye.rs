//! The picture: what the shard gives of whoever is on the stage, decoded by a child and scaled to one size.
//!
//! A child stays as long as the codec does: another speaker, another layer, another size begin with a keyframe, which is all a decoder
//! asks for.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant as Moment};

use bytes::{BufMut as _, Bytes, BytesMut};
use nova_media::codec::{ivf, nal_units};
use nova_media::rtp::payload::Codec;
use nova_media::rtp::reorder::{Next, Reorder};
use nova_media::rtp::ring::Kept;
use nova_media::rtp::{h264, vp8};
use nova_media::sfu::{Taken, TrackKey};
use tokio::time::Instant;

use super::Size;
use super::child::{Child, Cut};
use crate::ffmpeg::Backoff;
use crate::telemetry::Metrics;

/// Pictures that wait for the child: a second. When full it is too slow, and begins anew with a keyframe.
const PICTURES_MAX: usize = 30;
/// Decoded pictures that wait to be shown; each is a megabyte. When full the child waits.
const DECODED_MAX: usize = 2;
/// While nothing can be shown a keyframe is asked for again so often.
const KEYFRAME_PAUSE: Duration = Duration::from_millis(500);

/// The picture, as it comes.
pub(super) struct Eye {
    program: PathBuf,
    size: Size,
    source: Option<(TrackKey, Codec)>,
    reorder: Reorder,
    h264: h264::Depacketizer,
    vp8: vp8::Depacketizer,
    child: Option<(Child<Bytes>, Codec)>,
    backoff: Backoff,
    not_before: Instant,
    /// Nothing can be decoded before a keyframe.
    blind: bool,
    asked: Option<Instant>,
}

impl Eye {
    pub(super) fn new(program: &Path, size: Size) -> Eye {
        Eye {
            program: program.to_owned(),
            size,
            source: None,
            reorder: Reorder::default(),
            h264: h264::Depacketizer::default(),
            vp8: vp8::Depacketizer::default(),
            child: None,
            backoff: super::backoff(),
            not_before: Instant::now(),
            blind: true,
            asked: None,
        }
    }

    /// A packet came.
    pub(super) fn see(&mut self, taken: Taken, now: Moment) {
        let Taken { track, codec, kept, .. } = taken;
        if self.source.replace((track, codec)) != Some((track, codec)) {
            self.reorder = Reorder::default();
            self.h264 = h264::Depacketizer::default();
            self.vp8 = vp8::Depacketizer::default();
            // It begins with a keyframe: the shard lets nothing before it through.
            (self.blind, self.asked) = (true, Some(Instant::now()));
        }
        self.reorder.push(kept, now);
        self.look(now);
    }

    /// Time has passed: what was waited for may be given up.
    pub(super) fn look(&mut self, now: Moment) {
        let Some((_, codec)) = self.source else { return };
        while let Some(next) = self.reorder.next(now) {
            match next {
                Next::Packet(kept) => self.put_together(codec, &kept),
                Next::Lost => {
                    self.h264.lose();
                    self.vp8.lose();
                    self.blind = true;
                }
            }
        }
    }

    fn put_together(&mut self, codec: Codec, kept: &Kept) {
        let (picture, lost) = match codec {
            Codec::H264 => {
                let (picture, lost) = self.h264.push(&kept.payload, kept.timestamp, kept.marker);
                (picture.map(|one| (one.keyframe, annex_b(&one.payload))), lost)
            }
            _ => {
                let (picture, lost) = self.vp8.push(&kept.payload, kept.timestamp, kept.marker);
                let at = |one: &vp8::Picture| u64::from(one.timestamp);
                (picture.map(|one| (one.keyframe, ivf::picture(&one.payload, at(&one)))), lost)
            }
        };
        self.blind |= lost;
        let Some((keyframe, bytes)) = picture else { return };
        if self.blind && !keyframe {
            return;
        }
        self.blind = false;
        self.decode(codec, bytes);
    }

    fn decode(&mut self, codec: Codec, bytes: Bytes) {
        self.child.take_if(|(_, known)| *known != codec);
        if self.child.is_none() {
            if Instant::now() < self.not_before {
                self.blind = true;
                return;
            }
            match start(&self.program, codec, self.size) {
                Ok(child) => self.child = Some((child, codec)),
                Err(error) => {
                    self.not_before = Instant::now() + self.backoff.after(Duration::ZERO);
                    self.blind = true;
                    tracing::warn!(%error, "the picture of a room that is streamed cannot be decoded");
                    return;
                }
            }
        }
        let Some((child, _)) = &mut self.child else { return };
        self.blind = !child.push(bytes);
    }

    /// The latest picture that was decoded, if there is one since the last.
    pub(super) fn latest(&mut self, metrics: &Metrics) -> Option<Bytes> {
        let (child, _) = self.child.as_mut()?;
        let mut latest = None;
        while let Some(picture) = child.take() {
            latest = Some(picture);
        }
        if child.is_stuck() || child.has_ended() {
            self.not_before = Instant::now() + self.backoff.after(child.age());
            (self.child, self.blind) = (None, true);
            metrics.egress_restarts.with_label_values(&["picture"]).inc();
        }
        latest
    }

    /// Whether the shard is to be told to begin anew with a keyframe.
    pub(super) fn asks(&mut self) -> bool {
        let early = self.asked.is_some_and(|at| at.elapsed() < KEYFRAME_PAUSE);
        if !self.blind || self.source.is_none() || early || Instant::now() < self.not_before {
            return false;
        }
        self.asked = Some(Instant::now());
        true
    }

    pub(super) fn used(&mut self) -> Duration {
        self.child.as_mut().map_or(Duration::ZERO, |(child, _)| child.used())
    }
}

fn start(program: &Path, codec: Codec, size: Size) -> Result<Child<Bytes>, crate::ffmpeg::StartError> {
    let Size { width, height, .. } = size;
    let scaled = format!(
        "scale={width}:{height}:force_original_aspect_ratio=decrease:force_divisible_by=2:flags=bilinear,\
         pad={width}:{height}:-1:-1:black,setsar=1"
    );
    let format = if codec == Codec::H264 { "h264" } else { "ivf" };
    let arguments = [
        // Not `nobuffer`: it would throw the first picture away, which is the keyframe.
        &["-flags", "low_delay", "-probesize", "32", "-analyzeduration", "0", "-threads", "1"][..],
        &["-f", format, "-i", "pipe:0", "-map", "0:v:0", "-vf", &scaled, "-fps_mode", "passthrough"],
        &["-pix_fmt", "yuv420p", "-f", "rawvideo", "pipe:1"],
    ];
    let mut child =
        Child::start(program, &arguments.concat(), (PICTURES_MAX, DECODED_MAX), pictures(size.bytes()))?;
    if codec != Codec::H264 {
        child.push(ivf::header());
    }
    Ok(child)
}

/// Raw pictures, each of so many bytes.
fn pictures(bytes: usize) -> Cut<Bytes> {
    let mut picture = BytesMut::with_capacity(bytes);
    Box::new(move |mut read, pieces| {
        while !read.is_empty() {
            let (now, later) = read.split_at(read.len().min(bytes - picture.len()));
            picture.extend_from_slice(now);
            read = later;
            if picture.len() == bytes {
                pieces.push(std::mem::replace(&mut picture, BytesMut::with_capacity(bytes)).freeze());
            }
        }
        true
    })
}

/// A picture as a bare stream has it (ITU-T H.264 annex B). The delimiter of the next one is put behind it, or the decoder would wait for
/// that one to know that this one is whole.
fn annex_b(picture: &[u8]) -> Bytes {
    const START: &[u8] = &[0, 0, 0, 1];
    const DELIMITER: &[u8] = &[0, 0, 0, 1, 0x09, 0xF0];
    let mut bytes = BytesMut::with_capacity(picture.len() + 64);
    for unit in nal_units(picture, 4).map_while(Result::ok) {
        bytes.put_slice(START);
        bytes.put_slice(unit);
    }
    bytes.put_slice(DELIMITER);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_ends_with_the_delimiter_of_the_next() {
        let picture = [0, 0, 0, 2, 0x67, 1, 0, 0, 0, 1, 0x65];
        assert_eq!(&annex_b(&picture)[..], &[0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x65, 0, 0, 0, 1, 0x09, 0xF0]);
    }

    #[test]
    fn raw_pictures_are_cut_wherever_reads_end() {
        let mut cut = pictures(4);
        let mut found = Vec::new();
        for read in [&[1, 2, 3][..], &[4, 5], &[6, 7, 8, 9, 10, 11, 12, 13]] {
            assert!(cut(read, &mut found));
        }
        let found: Vec<&[u8]> = found.iter().map(|picture| &picture[..]).collect();
        assert_eq!(found, [&[1, 2, 3, 4][..], &[5, 6, 7, 8], &[9, 10, 11, 12]]);
    }
}
