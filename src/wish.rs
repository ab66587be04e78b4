//! WHIP and WHEP: live streams over WebRTC, negotiated with one HTTP request (RFC 9725, draft-ietf-wish-whep).
//!
//! A viewer posts an offer and has an answer; what comes then is the media shard's ([`crate::rtc`]), on the same path as calls. The first
//! viewer of a stream opens an [`outlet`], which hands the broadcast's frames to the shard as a publisher within the process, and the
//! last closes it. Nothing passes a mailbox, and a viewer costs nothing here beyond an entry in a table. A publisher posts an offer with
//! the stream key, and what it sends becomes frames ([`nova_media::rtp::intake`]) that are written to the broadcast as those that come
//! over RTMP are.
//!
//! | file | what it settles |
//! |---|---|
//! | [`whep`] | watching: offers, trickle and restarts of ICE, the end |
//! | [`whip`] | publishing: the same, and from packets to a broadcast |
//! | `door` | what both doors have in common: answers, and the sessions behind them |
//! | [`outlet`] | from a broadcast's frames to packets |
//! | [`opus`] | AAC to Opus, by a child process |
//!
//! Viewers that were let in and never come, or go without a word, are known by the shard ([`Standing`]) and swept once a second.

pub(crate) mod door;
pub mod opus;
pub mod outlet;
pub mod whep;
pub mod whip;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use nova_actors::id::StreamId;
use nova_actors::live_stream::Broadcast;
use nova_media::sdp::Offer;
use nova_media::sfu::{MemberId, RoomKey, SfuError};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::live::Live;
use crate::rest::client;
use crate::rtc::Media;
use crate::rtc::streams::{Standing, Stands};
use crate::telemetry::Metrics;
use outlet::Outlet;

/// Sessions from one network that are open at a time: a classroom behind one address.
const SESSIONS_PER_ADDRESS_MAX: usize = 100;
/// How often sessions are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How long an outlet stays without viewers: who reloads the page finds it open.
const OUTLET_LINGER: Duration = Duration::from_secs(5);
/// The tracks of outlets are numbered from here, far from those of calls.
const FIRST_TRACK: u64 = 1 << 40;
/// Random bytes of a session's name: who knows it may end it.
const NAME_BYTES: usize = 16;

/// The viewers and publishers over WebRTC of one node. Cheap to clone.
#[derive(Clone)]
pub struct Wish(Arc<Inner>);

struct Inner {
    media: Media,
    live: Arc<Live>,
    ffmpeg: PathBuf,
    metrics: Metrics,
    sessions_max: usize,
    runtime: Handle,
    next_track: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sessions: HashMap<String, Session>,
    outlets: HashMap<StreamId, (Outlet, Instant)>,
}

/// Somebody who was let in.
#[derive(Clone)]
struct Session {
    role: Role,
    broadcast: Arc<Broadcast>,
    member: MemberId,
    standing: Arc<Standing>,
    address: u128,
    /// Tells the viewer apart in the audience.
    who: u64,
    /// As last offered; an ICE restart is this with other credentials.
    offer: Offer,
    /// Names the ICE session (RFC 9725 section 4.3.1): the ufrag of our side.
    tag: String,
}

/// What somebody does at a stream.
#[derive(Clone)]
enum Role {
    /// Watches.
    Viewer,
    /// Publishes; told when the session is ended over HTTP.
    Publisher(Arc<Notify>),
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// As many as may be, on this node or from this address.
    #[error("as many watch over WebRTC as can; watch over HLS, or try again later")]
    Full,
    /// Their connection cannot be made.
    #[error("the offer cannot be answered: {0}")]
    Sfu(#[from] SfuError),
}

/// What somebody is answered.
struct Answered {
    name: String,
    tag: String,
    sdp: String,
}

impl Wish {
    /// Nobody yet. What has to be done beside requests is done on the current runtime.
    pub fn start(
        media: Media,
        live: Arc<Live>,
        ffmpeg: PathBuf,
        sessions_max: usize,
        metrics: Metrics,
    ) -> Wish {
        let runtime = Handle::current();
        let state = Mutex::default();
        let next_track = AtomicU64::new(FIRST_TRACK);
        let wish =
            Wish(Arc::new(Inner { media, live, ffmpeg, metrics, sessions_max, runtime, next_track, state }));
        tokio::spawn(sweep(Arc::downgrade(&wish.0)));
        wish
    }

    /// Somebody watches a broadcast.
    async fn watch(
        &self,
        broadcast: Arc<Broadcast>,
        offer: Offer,
        address: IpAddr,
    ) -> Result<Answered, Refusal> {
        let inner = &self.0;
        let address = client::prefix(address);
        let stream = broadcast.stream();
        {
            let mut state = inner.state();
            let from_there = state.sessions.values().filter(|session| session.address == address).count();
            if state.sessions.len() >= inner.sessions_max || from_there >= SESSIONS_PER_ADDRESS_MAX {
                return Err(Refusal::Full);
            }
            let open = || (inner.open(&broadcast), Instant::now());
            let (outlet, wanted) = state.outlets.entry(stream).or_insert_with(open);
            if !outlet.is_of(&broadcast) {
                *outlet = inner.open(&broadcast);
            }
            *wanted = Instant::now();
        }
        let standing = Arc::new(Standing::default());
        let (member, sdp) = inner.media.attend(room(stream), offer.clone(), Arc::clone(&standing)).await?;
        let name = name().map_err(|_| SfuError::Random)?;
        let tag = ufrag(&sdp).to_owned();
        let who = u64::from_str_radix(name.get(..16).unwrap_or_default(), 16).unwrap_or_default();
        let role = Role::Viewer;
        let session = Session { role, broadcast, member, standing, address, who, offer, tag: tag.clone() };
        let mut state = inner.state();
        state.sessions.insert(name.clone(), session);
        inner.count(&state);
        Ok(Answered { name, tag, sdp })
    }

    /// A session of a stream.
    fn session(&self, stream: StreamId, name: &str) -> Option<Session> {
        let state = self.0.state();
        state.sessions.get(name).filter(|session| session.broadcast.stream() == stream).cloned()
    }

    /// The viewer's network has changed: gives the answer to their offer.
    async fn restart(&self, name: &str, offer: Offer) -> Result<Answered, Refusal> {
        let member = self.0.state().sessions.get(name).map(|session| session.member).ok_or(SfuError::Gone)?;
        let sdp = self.0.media.offer(member, offer.clone()).await?;
        let tag = ufrag(&sdp).to_owned();
        if let Some(session) = self.0.state().sessions.get_mut(name) {
            session.offer = offer;
            session.tag.clone_from(&tag);
        }
        Ok(Answered { name: name.to_owned(), tag, sdp })
    }

    /// A viewer leaves.
    async fn leave(&self, name: &str) {
        let left = {
            let mut state = self.0.state();
            let left = state.sessions.remove(name);
            self.0.count(&state);
            left
        };
        match left {
            Some(Session { role: Role::Publisher(end), .. }) => end.notify_one(),
            Some(session) => self.0.media.leave(session.member).await,
            None => {}
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, state: &State) {
        let viewers = state.sessions.values().filter(|session| matches!(session.role, Role::Viewer)).count();
        self.metrics.whep_sessions.set(i64::try_from(viewers).unwrap_or(i64::MAX));
        let publishers = i64::try_from(state.sessions.len() - viewers).unwrap_or(i64::MAX);
        self.metrics.whip_sessions.set(publishers);
    }

    fn open(&self, broadcast: &Arc<Broadcast>) -> Outlet {
        let first = self.next_track.fetch_add(1 << 20, std::sync::atomic::Ordering::Relaxed);
        let room = room(broadcast.stream());
        let (media, metrics) = (self.media.clone(), self.metrics.clone());
        Outlet::open(&self.runtime, Arc::clone(broadcast), room, first, media, self.ffmpeg.clone(), metrics)
    }

    /// Forgets who has gone, counts who watches; gives who has to leave the shard.
    fn look(&self, leaving: bool) -> Vec<MemberId> {
        let now = Instant::now();
        let mut state = self.state();
        let mut leave = Vec::new();
        let State { sessions, outlets } = &mut *state;
        sessions.retain(|_, session| {
            // Who publishes is looked after by whoever takes what they send.
            if let Role::Publisher(_) = session.role {
                return true;
            }
            let over = leaving || session.broadcast.has_ended();
            match session.standing.get() {
                Stands::Gone => return false,
                _ if over => {
                    leave.push(session.member);
                    return false;
                }
                Stands::Connected => session.broadcast.audience().heard(session.who, now),
                Stands::Awaited => {}
            }
            if let Some((_, wanted)) = outlets.get_mut(&session.broadcast.stream()) {
                *wanted = now;
            }
            true
        });
        outlets.retain(|_, (outlet, wanted)| {
            !leaving && !outlet.has_ended() && now.saturating_duration_since(*wanted) < OUTLET_LINGER
        });
        self.count(&state);
        leave
    }
}

async fn sweep(inner: Weak<Inner>) {
    let mut ticks = interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        let leaving = *inner.live.leaving().borrow();
        for member in inner.look(leaving) {
            inner.media.leave(member).await;
        }
    }
}

/// A stream's viewers are a room of the shard; no call has this id.
fn room(stream: StreamId) -> RoomKey {
    stream.as_uuid().as_u128()
}

fn name() -> Result<String, getrandom::Error> {
    use std::fmt::Write as _;
    let mut random = [0; NAME_BYTES];
    getrandom::fill(&mut random)?;
    Ok(random.iter().fold(String::with_capacity(2 * NAME_BYTES), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    }))
}

fn ufrag(sdp: &str) -> &str {
    sdp.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).unwrap_or_default()
}
