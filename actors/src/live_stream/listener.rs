//! The frames of a broadcast for somebody in this process who is not a viewer: a transcoder, a gateway to another protocol.
//!
//! Each listener has a queue of its own. The publisher never waits for one: what does not fit is left out up to the next frame
//! decoding can begin with, and the listener is told that something is missing.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use nova_media::frame::{Frame, Media, Track};
use tokio::sync::Notify;

use super::state::Session;

/// Frames that wait for one listener: four seconds of 60 pictures and 47 pieces of sound each.
const FRAMES_MAX: usize = 448;
/// Bytes of them: four seconds of 16 Mbit/s. They are shared with whoever else holds the frames.
const BYTES_MAX: usize = 8 << 20;
/// All that waits, what is never left out (configurations, sessions) included. A listener that lets so much of it pile up is gone.
const QUEUE_MAX: usize = FRAMES_MAX + 64;

/// What a listener hears, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// A publisher has the desk: what follows is its media, on a timeline of its own.
    Began(Session),
    /// The pictures of the present group, for who asked for them: from its keyframe to the latest, which has just come.
    Gop(Vec<Frame>),
    /// What was written.
    Media(Media),
    /// The listener was too slow, and frames were left out. The next picture is one that decoding can begin with.
    Missed,
    /// The publisher is gone; another may come.
    Interrupted,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Heard>,
    bytes: usize,
    /// Frames are left out.
    skipping: bool,
    /// Whether there are pictures to wait for.
    has_video: bool,
    over: bool,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    news: Notify,
    gone: AtomicBool,
}

/// The listener's end.
#[derive(Debug)]
pub struct Listener(Arc<Shared>);

/// The publisher's end.
#[derive(Debug)]
pub(super) struct Ear(Arc<Shared>);

/// The two ends of a queue.
pub(super) fn pair() -> (Ear, Listener) {
    let shared = Arc::<Shared>::default();
    (Ear(Arc::clone(&shared)), Listener(shared))
}

impl Listener {
    /// What comes next; none when the broadcast is over, or this listener was far too slow. May be dropped while it waits.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            let news = self.0.news.notified();
            {
                let mut queue = self.0.queue();
                if let Some(heard) = queue.waiting.pop_front() {
                    if let Heard::Media(Media::Frame(frame)) = &heard {
                        queue.bytes -= frame.payload.len();
                    }
                    return Some(heard);
                }
                if queue.over {
                    return None;
                }
            }
            news.await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.gone.store(true, Ordering::Relaxed);
        self.0.queue().waiting.clear();
    }
}

impl Ear {
    /// Whether anybody listens.
    pub(super) fn is_heard(&self) -> bool {
        !self.0.gone.load(Ordering::Relaxed)
    }

    pub(super) fn tell(&self, heard: Heard) {
        let mut queue = self.0.queue();
        match &heard {
            Heard::Media(Media::Frame(frame)) => {
                if !queue.admits(frame) {
                    return;
                }
                queue.bytes += frame.payload.len();
            }
            Heard::Media(Media::Configuration { track: Track::Video, .. }) => queue.has_video = true,
            Heard::Began(_) => (queue.has_video, queue.skipping) = (false, false),
            Heard::Gop(_) | Heard::Media(_) | Heard::Missed | Heard::Interrupted => {}
        }
        queue.over |= queue.waiting.len() >= QUEUE_MAX;
        if !queue.over {
            queue.waiting.push_back(heard);
        }
        drop(queue);
        self.0.news.notify_one();
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.0.queue().over = true;
        self.0.news.notify_one();
    }
}

impl Queue {
    /// Whether a frame gets into the queue. The first one after a gap is announced.
    fn admits(&mut self, frame: &Frame) -> bool {
        let fits = self.waiting.len() < FRAMES_MAX && self.bytes + frame.payload.len() <= BYTES_MAX;
        if !self.skipping {
            self.skipping = !fits;
            return fits;
        }
        // Half the room, so that it does not begin again only to stop at once.
        let has_room =
            self.waiting.len() < FRAMES_MAX / 2 && self.bytes + frame.payload.len() <= BYTES_MAX / 2;
        let is_start = frame.keyframe && (frame.track == Track::Video || !self.has_video);
        if !has_room || !is_start {
            return false;
        }
        self.skipping = false;
        self.waiting.push_back(Heard::Missed);
        true
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use nova_media::time::Timestamp;

    use super::*;

    fn frame(track: Track, n: i64, keyframe: bool, len: usize) -> Heard {
        let at = Timestamp::from_millis(n);
        let payload = Bytes::from(vec![0; len]);
        Heard::Media(Media::Frame(Frame { track, dts: at, pts: at, keyframe, payload }))
    }

    #[tokio::test]
    async fn what_does_not_fit_is_left_out_up_to_a_keyframe_and_that_is_told() {
        let (ear, mut listener) = pair();
        ear.tell(Heard::Began(3));
        // Sound alone: every frame is a start.
        for n in 0..1_000 {
            ear.tell(frame(Track::Audio, n, true, 10));
        }
        assert_eq!(listener.next().await, Some(Heard::Began(3)));
        for n in 0..FRAMES_MAX as i64 - 1 {
            assert_eq!(listener.next().await, Some(frame(Track::Audio, n, true, 10)));
        }
        ear.tell(frame(Track::Audio, 2_000, true, 10));
        assert_eq!(listener.next().await, Some(Heard::Missed));
        assert_eq!(listener.next().await, Some(frame(Track::Audio, 2_000, true, 10)));
        drop(ear);
        assert_eq!(listener.next().await, None);
    }

    #[tokio::test]
    async fn pictures_are_waited_for_and_bytes_count() {
        let (ear, mut listener) = pair();
        ear.0.queue().has_video = true;
        let large = BYTES_MAX / 4;
        for n in 0..6 {
            ear.tell(frame(Track::Video, n, n == 0, large));
        }
        for n in 0..4 {
            assert_eq!(listener.next().await, Some(frame(Track::Video, n, n == 0, large)));
        }
        ear.tell(frame(Track::Audio, 6, true, 1));
        ear.tell(frame(Track::Video, 7, false, 1));
        ear.tell(frame(Track::Video, 8, true, 1));
        ear.tell(frame(Track::Audio, 9, true, 1));
        assert_eq!(listener.next().await, Some(Heard::Missed));
        assert_eq!(listener.next().await, Some(frame(Track::Video, 8, true, 1)));
        assert_eq!(listener.next().await, Some(frame(Track::Audio, 9, true, 1)));
    }

    #[tokio::test]
    async fn a_listener_that_is_gone_is_known_and_one_that_sleeps_is_ended() {
        let (ear, listener) = pair();
        drop(listener);
        assert!(!ear.is_heard());
        let (ear, mut listener) = pair();
        for _ in 0..QUEUE_MAX + 1 {
            ear.tell(Heard::Interrupted);
        }
        let mut heard = 0;
        while listener.next().await.is_some() {
            heard += 1;
        }
        assert_eq!(heard, QUEUE_MAX);
    }
}
