//! A broadcast: what its publisher writes and its viewers read, without anybody's mailbox in between.
//!
//! One publisher at a time holds the desk and writes media; what is finished goes on the shelf, and with every part one immutable
//! [`View`] goes out on a watch channel. Viewers read the latest view, wait for the next, and take parts from the shelf; nothing
//! they do makes the publisher wait.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use bytes::Bytes;
use nova_media::{
    codec::Configuration,
    frame::{Media, Track},
    hls::{Cut, Settings, Snapshot, Window},
    rtmp::{Metadata, Report},
};
use tokio::{
    sync::watch,
    time::{Duration, Instant},
};

use super::{
    audience::Audience,
    desk::Desk,
    ladder::{Ladder, rung_of},
    listener::{self, Heard, Listener},
    state::Session,
};
use crate::{
    id::StreamId,
    port::{Standing, Tap},
};

/// A viewer who has asked for nothing in this many target durations has left.
const VIEWER_GONE_TARGETS: u32 = 2;

/// The media playlist's name, beside which the epochs lie.
pub const PLAYLIST: &str = "source.m3u8";

/// What viewers see at one moment. Made once for each part, then shared.
#[derive(Debug, Clone)]
pub struct View {
    /// The media playlist.
    pub playlist: Snapshot,
    /// The multivariant playlist.
    pub multivariant: Bytes,
    /// The broadcast goes on on another node; who waits here has to ask again.
    pub moved: bool,
}

/// What was written is not wanted any more: somebody else has the desk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another publisher writes to this broadcast now")]
pub struct Superseded;

/// What became of media that was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Parts that were finished by it.
    pub parts: u32,
    /// Their bytes.
    pub part_bytes: u64,
    /// With it there is something to play for the first time.
    pub first: bool,
}

/// What the owner of a stream wants to know of it while it is live.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    /// How the media arrives.
    pub report: Report,
    /// What the encoder says of itself.
    pub metadata: Metadata,
    /// When the present publisher came.
    pub since: Option<Instant>,
}

/// A broadcast; see the [module documentation](self).
#[derive(Debug)]
pub struct Broadcast {
    stream: StreamId,
    name: String,
    settings: RwLock<Settings>,
    is_going_on: bool,
    is_private: AtomicBool,
    desk: Mutex<Desk>,
    shelf: RwLock<Window>,
    views: watch::Sender<Option<Arc<View>>>,
    ladder: Ladder,
    audience: Audience,
    condition: Mutex<Condition>,
}

impl Broadcast {
    /// An empty one. `name` tells it from the other broadcasts of the stream in every address; letters and digits.
    #[must_use]
    pub fn new(stream: StreamId, name: String, settings: Settings) -> Self {
        Self::going_on(stream, name, settings, Standing::default())
    }

    /// One that another node began, and of which nothing is left but where it stood.
    #[must_use]
    pub fn going_on(stream: StreamId, name: String, settings: Settings, standing: Standing) -> Self {
        let gone_after = Duration::from_secs((settings.target_duration_s * VIEWER_GONE_TARGETS).into());
        Self {
            stream,
            name,
            settings: RwLock::new(settings),
            is_going_on: standing != Standing::default(),
            is_private: AtomicBool::new(false),
            desk: Mutex::new(Desk::new(settings, standing)),
            shelf: RwLock::new(Window::going_on(settings, "0", standing.discontinuities)),
            views: watch::Sender::new(None),
            ladder: Ladder::new(settings, standing.discontinuities),
            audience: Audience::new(gone_after),
            condition: Mutex::default(),
        }
    }

    /// Tells `tap` of every segment from now on.
    pub fn keep(&self, tap: Box<dyn Tap>) {
        lock(&self.desk).tap = Some(tap);
    }

    /// Its other renditions.
    #[must_use]
    pub fn ladder(&self) -> &Ladder {
        &self.ladder
    }

    /// Other renditions are to be made: from now on the ladder hears where the source is cut. To be said before the first publisher.
    pub fn begin_ladder(&self) {
        lock(&self.desk).segmenter.mark();
    }

    /// All that is written from now on, for somebody in this process. It begins with how the tracks are decoded; after that, a picture
    /// that decoding can begin with has to be waited for. Whoever listens does not make the publisher wait.
    #[must_use]
    pub fn listen(&self) -> Listener {
        self.listen_from(false)
    }

    /// The same, with the pictures of the present group before it: nothing has to be waited for, unless the group is too long to be kept.
    #[must_use]
    pub fn listen_from_keyframe(&self) -> Listener {
        self.listen_from(true)
    }

    fn listen_from(&self, keyframe: bool) -> Listener {
        let (ear, listener) = listener::pair();
        let mut desk = lock(&self.desk);
        if !desk.ended {
            ear.tell(Heard::Began(desk.session));
            for (track, configuration) in [(Track::Video, &desk.video), (Track::Audio, &desk.audio)] {
                if let Some(configuration) = configuration.clone() {
                    ear.tell(Heard::Media(Media::Configuration { track, configuration }));
                }
            }
            if keyframe && !desk.gop.frames().is_empty() {
                ear.tell(Heard::Gop(desk.gop.frames().to_vec()));
            }
            desk.ears.push(ear);
        }
        listener
    }

    /// What is on the air: pictures and sound, as they are coded now.
    #[must_use]
    pub fn configurations(&self) -> [Option<Arc<Configuration>>; 2] {
        let desk = lock(&self.desk);
        [desk.video.clone(), desk.audio.clone()]
    }

    /// The stream it belongs to.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// What tells it from the other broadcasts of the stream.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is cut.
    #[must_use]
    pub fn settings(&self) -> Settings {
        *self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the part target to what whole pictures of this rate fill, as long as no playlist has told of another.
    fn settle(&self, desk: &mut Desk, configuration: &Configuration) {
        let Some(picture) = configuration.picture().filter(|_| self.views.borrow().is_none()) else { return };
        let settled = self.settings().for_rate(picture.frames_per_s);
        desk.segmenter.set_settings(settled);
        self.shelf.write().unwrap_or_else(PoisonError::into_inner).set_settings(settled);
        self.ladder.settle(settled);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settled;
    }

    /// Who watches.
    #[must_use]
    pub fn audience(&self) -> &Audience {
        &self.audience
    }

    /// The latest view, and all that come after it. None until there is something to play.
    #[must_use]
    pub fn views(&self) -> watch::Receiver<Option<Arc<View>>> {
        self.views.subscribe()
    }

    /// How the publisher does.
    #[must_use]
    pub fn condition(&self) -> Condition {
        lock(&self.condition).clone()
    }

    /// Whether it is over.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        lock(&self.desk).ended
    }

    /// Whether its playlists are for those with a token only.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.is_private.load(Relaxed)
    }

    /// Says whether its playlists are for those with a token only.
    pub fn set_private(&self, is_private: bool) {
        self.is_private.store(is_private, Relaxed);
    }

    /// Whether another node began it.
    #[must_use]
    pub fn is_going_on(&self) -> bool {
        self.is_going_on
    }

    /// Where it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let desk = lock(&self.desk);
        let discontinuities = self.shelf.read().unwrap_or_else(PoisonError::into_inner).discontinuities();
        Standing { next_msn: desk.next_msn, discontinuities, sessions: desk.session }
    }

    /// Another node goes on with it: nothing is written here any more, and who waits asks again.
    pub fn leave(&self) {
        let mut desk = lock(&self.desk);
        let cuts = desk.segmenter.interrupt();
        self.shelve(&mut desk, cuts);
        desk.ended = true;
        desk.ears.clear();
        desk.gop.clear();
        // Dropped without a word: whoever goes on with the broadcast goes on with what is kept of it.
        desk.tap = None;
        self.ladder.leave();
        self.views.send_modify(|view| {
            if let Some(latest) = view {
                *view = Some(Arc::new(View { moved: true, ..View::clone(latest) }));
            }
        });
    }

    /// The latest session that had the desk.
    #[must_use]
    pub fn session(&self) -> Session {
        lock(&self.desk).session
    }

    /// Gives the desk to a publisher. Whoever had it before is [`Superseded`]; what it left open is closed.
    pub fn hand(&self, session: Session, now: Instant) {
        let mut desk = lock(&self.desk);
        let cuts = desk.segmenter.interrupt();
        self.shelve(&mut desk, cuts);
        desk.session = session;
        desk.gop.clear();
        desk.tell(&Heard::Began(session));
        self.shelf.write().unwrap_or_else(PoisonError::into_inner).set_epoch(&session.to_string());
        self.ladder.hand(session);
        *lock(&self.condition) = Condition { since: Some(now), ..Condition::default() };
    }

    /// Writes media that came at `unix_ms`.
    ///
    /// # Errors
    /// [`Superseded`] unless this session has the desk.
    pub fn write(&self, session: Session, unix_ms: i64, media: &Media) -> Result<Written, Superseded> {
        let mut desk = lock(&self.desk);
        if desk.session != session || desk.ended {
            return Err(Superseded);
        }
        if let Media::Configuration { track, configuration } = media {
            let place = match track {
                Track::Video => &mut desk.video,
                Track::Audio => &mut desk.audio,
            };
            *place = Some(Arc::clone(configuration));
            self.settle(&mut desk, configuration);
        }
        if !desk.ears.is_empty() {
            desk.tell(&Heard::Media(media.clone()));
        }
        desk.gop.push(media);
        let cuts = desk.segmenter.push(unix_ms, media);
        Ok(self.shelve(&mut desk, cuts))
    }

    /// Closes what this session left open; whoever comes back goes on after a discontinuity. Nothing happens when it has not the
    /// desk any more.
    pub fn interrupt(&self, session: Session) {
        let mut desk = lock(&self.desk);
        if desk.session == session && !desk.ended {
            let cuts = desk.segmenter.interrupt();
            self.shelve(&mut desk, cuts);
            desk.gop.clear();
            desk.tell(&Heard::Interrupted);
        }
    }

    /// Says how the publisher of this session does.
    pub fn report(&self, session: Session, report: Report) {
        if lock(&self.desk).session == session {
            lock(&self.condition).report = report;
        }
    }

    /// Says what the encoder of this session tells of itself.
    pub fn describe(&self, session: Session, metadata: Metadata) {
        if lock(&self.desk).session == session {
            lock(&self.condition).metadata = metadata;
        }
    }

    /// Ends it for its viewers. It can be read for as long as somebody keeps it.
    pub fn end(&self) {
        let mut desk = lock(&self.desk);
        let cuts = desk.segmenter.interrupt();
        self.shelve(&mut desk, cuts);
        desk.ended = true;
        desk.ears.clear();
        desk.gop.clear();
        if let Some(mut tap) = desk.tap.take() {
            tap.end();
        }
        self.shelf.write().unwrap_or_else(PoisonError::into_inner).end();
        self.show(&desk);
        self.ladder.end();
    }

    /// The least media that shows what is on the air: an init segment and a part that begins with a keyframe. None of a broadcast
    /// without pictures.
    #[must_use]
    pub fn still(&self) -> Option<[Bytes; 2]> {
        let desk = lock(&self.desk);
        desk.video.as_ref().filter(|_| !desk.ended)?;
        self.shelf.read().unwrap_or_else(PoisonError::into_inner).newest_keyframe()
    }

    /// The latest view of a rendition, and all that come after it; of the source as [`views`](Self::views). None when there is no such
    /// rendition.
    #[must_use]
    pub fn views_of(&self, rendition: &str) -> Option<watch::Receiver<Option<Arc<View>>>> {
        match PLAYLIST.strip_suffix(".m3u8") == Some(rendition) {
            true => Some(self.views()),
            false => self.ladder.views(rendition),
        }
    }

    /// An init segment.
    #[must_use]
    pub fn init(&self, epoch: &str, number: u32) -> Option<Bytes> {
        self.read(epoch, |shelf| shelf.init(epoch, number))
    }

    /// A part.
    #[must_use]
    pub fn part(&self, epoch: &str, msn: u64, part: u32) -> Option<Bytes> {
        self.read(epoch, |shelf| shelf.part(epoch, msn, part))
    }

    /// A whole segment, as its parts in order.
    #[must_use]
    pub fn segment(&self, epoch: &str, msn: u64) -> Option<Vec<Bytes>> {
        self.read(epoch, |shelf| shelf.segment(epoch, msn))
    }

    /// Reads the shelf of the rendition an epoch belongs to.
    fn read<T>(&self, epoch: &str, read: impl FnOnce(&Window) -> Option<T>) -> Option<T> {
        match rung_of(epoch) {
            None => read(&self.shelf.read().unwrap_or_else(PoisonError::into_inner)),
            Some(_) => self.ladder.read(epoch, read),
        }
    }

    fn shelve(&self, desk: &mut Desk, cuts: Vec<Cut>) -> Written {
        let mut written = Written::default();
        if cuts.is_empty() {
            return written;
        }
        {
            let mut shelf = self.shelf.write().unwrap_or_else(PoisonError::into_inner);
            for cut in cuts {
                desk.rates.count(&cut);
                if let Cut::Begin(begin) = &cut {
                    desk.next_msn = begin.msn + 1;
                }
                if let Cut::Part(part) = &cut {
                    written.parts += 1;
                    written.part_bytes += part.bytes.len() as u64;
                }
                let whole = cut == Cut::End;
                shelf.apply(cut);
                if whole && let (Some(tap), Some(segment)) = (&mut desk.tap, shelf.newest_whole()) {
                    tap.whole(segment);
                }
            }
        }
        // A segment that has only begun is told with its first part.
        if written.parts > 0 {
            written.first = self.show(desk);
        }
        self.ladder.mark(&desk.segmenter.marks());
        written
    }

    /// Sends out what there is now; whether it is the first that can be played.
    fn show(&self, desk: &Desk) -> bool {
        let playlist =
            self.shelf.read().unwrap_or_else(PoisonError::into_inner).snapshot(&self.ladder.reports());
        let Some(playlist) = playlist else { return false };
        let multivariant: Bytes = desk.multivariant(&self.name, self.ladder.variants(&self.name)).into();
        self.ladder.follow(playlist.edge, &multivariant);
        let before = self.views.send_replace(Some(Arc::new(View { playlist, multivariant, moved: false })));
        before.is_none()
    }
}

/// What a panicking thread left is whole: every change here is a sequence of plain assignments.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_lost_the_desk_writes_nothing() {
        let broadcast = Broadcast::new(StreamId::generate(), "b".into(), Settings::default());
        let jump = Media::Discontinuity { jump_ms: 5 };
        let now = Instant::now();
        broadcast.hand(1, now);
        assert_eq!(broadcast.write(1, 0, &jump), Ok(Written::default()));
        broadcast.hand(2, now);
        assert_eq!(broadcast.write(1, 0, &jump), Err(Superseded));
        broadcast.end();
        assert_eq!(broadcast.write(2, 0, &jump), Err(Superseded));
    }

    #[test]
    fn where_it_stands_is_where_another_node_goes_on() {
        let standing = Standing { next_msn: 41, discontinuities: 2, sessions: 3 };
        let broadcast = Broadcast::going_on(StreamId::generate(), "b".into(), Settings::default(), standing);
        assert_eq!(broadcast.standing(), standing);
        broadcast.hand(4, Instant::now());
        assert_eq!(broadcast.standing(), Standing { sessions: 4, ..standing });
        broadcast.leave();
        let jump = Media::Discontinuity { jump_ms: 5 };
        assert_eq!(broadcast.write(4, 0, &jump), Err(Superseded));
    }
}
