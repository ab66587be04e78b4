//! From a broadcast's frames to packets on the shard, for as long as anybody watches over WebRTC.
//!
//! H.264 is packetised as it is; pictures that are shown in another order than they are decoded in cannot be sent over RTP to a browser,
//! so a stream with B-frames has its viewers' pictures over HLS only. Opus passes untouched, AAC is made Opus by a child process.

use std::collections::VecDeque;
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nova_actors::live_stream::Broadcast;
use nova_actors::live_stream::listener::{Heard, Listener};
use nova_media::codec::{Configuration, aac, opus::packet_samples};
use nova_media::frame::{Frame, Media as Coded, Track};
use nova_media::rtp::h264::payloads;
use nova_media::rtp::payload::Codec;
use nova_media::sfu::{MemberId, Packet, RoomKey, SfuError, Source};
use nova_media::time::{Timebase, Timestamp};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::opus;
use crate::ffmpeg::Backoff;
use crate::rtc::Media;
use crate::telemetry::Metrics;

/// The pause after the shard could not take a publisher, or the outlet was too slow.
const PAUSE: Duration = Duration::from_millis(500);
/// A child that ended is started again after so long at first.
const CHILD_PAUSE: Duration = Duration::from_secs(1);
/// The longest of these pauses.
const CHILD_PAUSE_MAX: Duration = Duration::from_secs(60);
/// A hole in the sound that is longer, in samples at 48 kHz, is heard as one; a shorter one is a rounded timestamp.
const HOLE_SAMPLES: i64 = 4_800;

/// An open outlet; closed when dropped.
pub(super) struct Outlet {
    broadcast: Arc<Broadcast>,
    task: JoinHandle<()>,
}

impl Outlet {
    /// Opens one on a runtime. Its tracks are numbered from `first_track`.
    pub(super) fn open(
        runtime: &Handle,
        broadcast: Arc<Broadcast>,
        room: RoomKey,
        first_track: u64,
        media: Media,
        ffmpeg: PathBuf,
        metrics: Metrics,
    ) -> Outlet {
        let pump = Pump {
            broadcast: Arc::clone(&broadcast),
            room,
            tracks: [first_track, first_track + 1],
            media,
            runtime: runtime.clone(),
            ffmpeg,
            metrics,
            fed: None,
            video: None,
            shown: None,
            reorders: false,
            sound: Sound::None,
            backoff: Backoff::new(CHILD_PAUSE, CHILD_PAUSE_MAX),
        };
        Outlet { broadcast, task: runtime.spawn(pump.run()) }
    }

    pub(super) fn is_of(&self, broadcast: &Arc<Broadcast>) -> bool {
        Arc::ptr_eq(&self.broadcast, broadcast) && !self.task.is_finished()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The publisher at the shard, which leaves whatever becomes of the task.
struct Fed {
    media: Media,
    runtime: Handle,
    member: MemberId,
}

impl Drop for Fed {
    fn drop(&mut self) {
        let (media, member) = (self.media.clone(), self.member);
        self.runtime.spawn(async move { media.leave(member).await });
    }
}

struct Pump {
    broadcast: Arc<Broadcast>,
    room: RoomKey,
    /// Pictures and sound, as the shard knows them.
    tracks: [u64; 2],
    media: Media,
    runtime: Handle,
    ffmpeg: PathBuf,
    metrics: Metrics,
    fed: Option<Fed>,
    video: Option<Arc<Configuration>>,
    /// The latest time a picture is shown at.
    shown: Option<Timestamp>,
    /// Pictures are shown in another order than they come.
    reorders: bool,
    sound: Sound,
    backoff: Backoff,
}

/// How the sound is coded.
enum Sound {
    /// There is none that could be sent.
    None,
    /// As browsers take it.
    Opus,
    /// A child makes it Opus.
    Aac(Box<Transcoding>),
    /// The child has ended; another is started, but not before.
    Resting { configuration: aac::Configuration, until: Instant },
}

impl Sound {
    /// What the child has made; `None` when it has ended.
    async fn made(&mut self) -> Option<Bytes> {
        match self {
            Sound::Aac(transcoding) => transcoding.child.next().await,
            _ => pending().await,
        }
    }
}

impl Pump {
    async fn run(mut self) {
        while !self.broadcast.has_ended() {
            let mut heard = self.broadcast.listen_from_keyframe();
            self.pass_on(&mut heard).await;
            sleep(PAUSE).await;
        }
    }

    /// Until nothing more is heard.
    async fn pass_on(&mut self, heard: &mut Listener) {
        loop {
            tokio::select! {
                heard = heard.next() => match heard {
                    None => return,
                    Some(Heard::Began(_)) => {
                        if self.begin().await.is_err() {
                            return;
                        }
                    }
                    Some(Heard::Gop(frames)) => self.take_earlier(&frames).await,
                    Some(Heard::Media(media)) => self.take(media).await,
                    // Viewers wait for the next keyframe, as after any loss; or for the next publisher.
                    Some(Heard::Missed | Heard::Interrupted) => {}
                },
                made = self.sound.made() => self.made(made).await,
            }
        }
    }

    /// Another publisher, with a timeline of its own: other tracks.
    async fn begin(&mut self) -> Result<(), SfuError> {
        self.fed = None;
        self.tracks = self.tracks.map(|track| track + 2);
        (self.video, self.shown, self.reorders, self.sound) = (None, None, false, Sound::None);
        let [video, audio] = self.tracks;
        let tracks = vec![(video, Source::Camera, Codec::H264), (audio, Source::Microphone, Codec::Opus)];
        let member = self.media.open_feed(self.room, tracks).await?;
        self.fed = Some(Fed { media: self.media.clone(), runtime: self.runtime.clone(), member });
        Ok(())
    }

    async fn take(&mut self, media: Coded) {
        match media {
            Coded::Configuration { track: Track::Video, configuration } => self.video = Some(configuration),
            Coded::Configuration { track: Track::Audio, configuration } => {
                self.sound = match &*configuration {
                    Configuration::Opus(_) => Sound::Opus,
                    Configuration::Aac(aac) if aac.adts_header(0).is_some() => self.start(aac),
                    _ => Sound::None,
                };
            }
            Coded::Frame(frame) if frame.track == Track::Video => self.show(&frame, Instant::now()).await,
            Coded::Frame(frame) => self.sound(frame).await,
            Coded::Discontinuity { .. } | Coded::Unsupported { .. } => {}
        }
    }

    /// What was shown before anybody watched, as if somebody had: the first viewer begins where the others do.
    async fn take_earlier(&mut self, frames: &[Frame]) {
        let (now, Some(latest)) = (Instant::now(), frames.last()) else { return };
        for frame in frames {
            let ago_ms = u64::try_from(latest.dts.millis() - frame.dts.millis()).unwrap_or(0);
            let at = now.checked_sub(Duration::from_millis(ago_ms)).unwrap_or(now);
            self.show(frame, at).await;
        }
    }

    /// A picture, which came at `at`.
    async fn show(&mut self, frame: &Frame, at: Instant) {
        let Some(Configuration::H264(configuration)) = self.video.as_deref() else { return };
        if self.shown.is_some_and(|shown| frame.pts < shown) {
            self.reorders = true;
        }
        self.shown = Some(frame.pts);
        if self.reorders {
            return;
        }
        let mut packets: Vec<Packet> = payloads(&frame.payload, frame.keyframe, configuration)
            .into_iter()
            .map(|payload| Packet { payload, timestamp: frame.pts.ticks() as u32, marker: false })
            .collect();
        if let Some(last) = packets.last_mut() {
            last.marker = true;
        }
        self.feed(self.tracks[0], frame.pts, at, packets).await;
    }

    async fn sound(&mut self, frame: Frame) {
        if let Sound::Resting { configuration, until } = &self.sound
            && *until <= Instant::now()
        {
            let configuration = configuration.clone();
            self.metrics.opus_restarts.inc();
            self.sound = self.start(&configuration);
        }
        match &mut self.sound {
            Sound::Opus => self.send_sound(frame.dts.rescale(Timebase::OPUS), frame.payload).await,
            Sound::Aac(transcoding) => transcoding.push(&frame),
            Sound::None | Sound::Resting { .. } => {}
        }
    }

    async fn made(&mut self, packet: Option<Bytes>) {
        let Sound::Aac(transcoding) = &mut self.sound else { return };
        match packet {
            Some(packet) => {
                let at = transcoding.place(&packet);
                self.send_sound(Timestamp::new(at, Timebase::OPUS), packet).await;
            }
            None => {
                let until = Instant::now() + self.backoff.after(transcoding.began.elapsed());
                let configuration = transcoding.configuration.clone();
                tracing::warn!(stream = %self.broadcast.stream(), "the child that makes Opus has ended");
                self.sound = Sound::Resting { configuration, until };
            }
        }
    }

    fn start(&mut self, configuration: &aac::Configuration) -> Sound {
        let configuration = configuration.clone();
        match opus::Child::start(&self.ffmpeg, &self.metrics) {
            Ok(child) => Sound::Aac(Box::new(Transcoding {
                configuration,
                child,
                began: Instant::now(),
                origin: None,
                frames: 0,
                made: 0,
                base: 0,
                holes: VecDeque::new(),
            })),
            Err(error) => {
                tracing::warn!(%error, "viewers over WebRTC have no sound: AAC cannot be made Opus");
                Sound::Resting { configuration, until: Instant::now() + self.backoff.after(Duration::ZERO) }
            }
        }
    }

    async fn send_sound(&self, at: Timestamp, payload: Bytes) {
        let packet = Packet { payload, timestamp: at.ticks() as u32, marker: false };
        self.feed(self.tracks[1], at, Instant::now(), vec![packet]).await;
    }

    /// Packets of one time of the stream, which came at `at`.
    async fn feed(&self, track: u64, time: Timestamp, at: Instant, packets: Vec<Packet>) {
        let per_s = i128::from(time.timebase().ticks_per_second());
        let at_us = u64::try_from(i128::from(time.ticks()) * 1_000_000 / per_s).unwrap_or(0);
        if let Some(fed) = &self.fed {
            self.media.feed(fed.member, track, at_us, at.into_std(), packets).await;
        }
    }
}

/// AAC on its way through the child, and when what comes out of it was.
struct Transcoding {
    configuration: aac::Configuration,
    child: opus::Child,
    began: Instant,
    /// When the first frame would have been, had there been no holes; in samples at 48 kHz, as all that follows.
    origin: Option<i64>,
    /// Frames that went in.
    frames: i64,
    /// Samples that came out.
    made: i64,
    /// When the first sample that came out was, the holes passed so far included.
    base: i64,
    /// After how many samples a hole is, and how long.
    holes: VecDeque<(i64, i64)>,
}

impl Transcoding {
    fn push(&mut self, frame: &Frame) {
        let Some(header) = self.configuration.adts_header(frame.payload.len()) else { return };
        let at = frame.dts.rescale(Timebase::OPUS).ticks();
        let passed = self.frames * i64::from(self.configuration.frame_samples) * 48_000
            / i64::from(self.configuration.sample_rate_hz.max(1));
        let origin = *self.origin.get_or_insert_with(|| {
            self.base = at;
            at
        });
        let hole = at - origin - passed;
        // What the child cannot take is a hole before what it takes next.
        if self.child.push([header.as_slice(), &frame.payload].concat().into()) {
            if hole.abs() > HOLE_SAMPLES {
                self.origin = Some(origin + hole);
                self.holes.push_back((passed, hole));
            }
            self.frames += 1;
        }
    }

    /// When the packet that came out is heard.
    fn place(&mut self, packet: &[u8]) -> i64 {
        while let Some((after, hole)) = self.holes.front().copied()
            && after <= self.made
        {
            self.base += hole;
            self.holes.pop_front();
        }
        let at = self.base + self.made - i64::from(self.child.pre_skip());
        self.made += packet_samples(packet).map_or(0, i64::from);
        at
    }
}
