//! Live streams: who may publish, what is on the air, who watches.
//!
//! One [`LiveStream`] decides about one stream: idle → live → ended, and live again with the next publisher. It hears of keys and of
//! publishers that come and go; media and viewers never pass its mailbox, they meet at the [`Broadcast`].
//!
//! A drop is not an end: a publisher that is gone without a word has [`Settings::resume`] to come back, and viewers see a
//! discontinuity in a playlist that goes on. A panic of the actor is a drop too: its successor finds the broadcast on the air and
//! waits for the publisher, whose connection is closed because nobody decides about it any more. And so is the death of a node: the
//! node the publisher comes to next reads from the store where the broadcast stood, and goes on with it (`claims`).

pub mod audience;
pub mod broadcast;
mod broadcasts;
mod claims;
mod desk;
mod gop;
pub mod ladder;
pub mod listener;
mod protocol;
mod rates;
mod start;
mod state;

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Handler, fut::wrap_future};
use nova_media::hls;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    clock::Clock,
    context::{Context, Resident},
    directory::Directory,
    hears_faults,
    id::{NodeId, StreamId},
    port::{Airing, LifeState, Recorder, Streams, Transcoder},
};

pub use broadcast::{Broadcast, Condition, View};
pub use broadcasts::Broadcasts;
pub use claims::{Claims, News};
pub use ladder::{Ladder, Step};
pub use listener::{Heard, Listener};
pub use protocol::{ChangeKey, Delete, GiveUp, Grant, Left, OnAir, Publish, SetPrivate};
pub use start::StartLiveStream;
pub use state::{Departure, Farewell, Phase, Refusal, Session};

use claims::Claim;
use start::airing;
use state::{Effect, State};

/// How often a stream that is not off looks at the clock and at its audience.
const TICK: Duration = Duration::from_secs(1);
/// How often what is on the air is noted, in ticks: often enough that [`crate::port::SILENCE_MAX`] means death.
const NOTE_EVERY_TICKS: u32 = 5;
/// How live streams are treated.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How broadcasts are cut.
    pub hls: hls::Settings,
    /// How long a publisher that dropped is waited for.
    pub resume: Duration,
    /// How long a broadcast that is over can still be watched to its end.
    pub linger: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hls: hls::Settings::default(),
            resume: Duration::from_secs(20),
            linger: Duration::from_secs(60),
        }
    }
}

/// Where live streams are found.
pub type LiveStreams = Directory<StartLiveStream>;

/// Decides about one stream; see the [module documentation](self).
pub struct LiveStream {
    id: StreamId,
    node: NodeId,
    settings: Settings,
    streams: Arc<dyn Streams>,
    recorder: Arc<dyn Recorder>,
    transcoder: Arc<dyn Transcoder>,
    claims: Arc<Claims>,
    is_private: bool,
    broadcasts: Broadcasts,
    clock: Arc<dyn Clock>,
    state: State,
    /// The broadcast that is open.
    broadcast: Option<Arc<Broadcast>>,
    airing: Option<Airing>,
    publisher: Option<(Session, oneshot::Sender<Farewell>)>,
    /// What has to be noted and could not be yet.
    unnoted: Option<Airing>,
    /// Broadcasts that are over and can still be watched.
    lingering: u32,
    ticks: u32,
    ticked: Instant,
}

hears_faults!(LiveStream);

impl Resident for LiveStream {
    const KIND: &'static str = "live_stream";
    /// A stream hears of its publishers and its owner: a few messages a minute. More than this at once is somebody who reconnects
    /// in a loop, and is refused.
    const MAILBOX_LEN_MAX: usize = 64;

    fn may_sleep(&self) -> bool {
        self.state.phase() == Phase::Off && self.unnoted.is_none() && self.lingering == 0
    }
}

impl Actor for LiveStream {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(TICK, Self::tick);
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        // Nothing follows from it when it does not come to that: the lease expires.
        Arc::clone(&self.claims).leave(self.id);
    }
}

impl Handler<Publish> for LiveStream {
    type Result = Result<Grant, Refusal>;

    fn handle(&mut self, ask: Publish, ctx: &mut Context<Self>) -> Self::Result {
        let (session, effects) = self.state.publish(ask.key)?;
        self.carry_out(effects, ctx);
        self.publisher = Some((session, ask.hang_up));
        let broadcast = self.broadcast.clone().ok_or(Refusal::Unavailable)?;
        Ok(Grant { session, broadcast })
    }
}

impl Handler<OnAir> for LiveStream {
    type Result = ();

    fn handle(&mut self, OnAir { session }: OnAir, ctx: &mut Context<Self>) {
        let effects = self.state.on_air(session);
        self.carry_out(effects, ctx);
    }
}

impl Handler<Left> for LiveStream {
    type Result = ();

    fn handle(&mut self, Left { session, how }: Left, ctx: &mut Context<Self>) {
        self.publisher.take_if(|(publisher, _)| *publisher == session);
        let effects = self.state.left(session, how, self.clock.instant());
        self.carry_out(effects, ctx);
    }
}

impl Handler<ChangeKey> for LiveStream {
    type Result = ();

    fn handle(&mut self, ChangeKey(key): ChangeKey, ctx: &mut Context<Self>) {
        let effects = self.state.change_key(key, self.clock.instant());
        self.carry_out(effects, ctx);
    }
}

impl Handler<SetPrivate> for LiveStream {
    type Result = ();

    fn handle(&mut self, SetPrivate(is_private): SetPrivate, _: &mut Context<Self>) {
        self.is_private = is_private;
        if let Some(broadcast) = &self.broadcast {
            broadcast.set_private(is_private);
        }
    }
}

impl Handler<GiveUp> for LiveStream {
    type Result = ();

    fn handle(&mut self, _: GiveUp, ctx: &mut Context<Self>) {
        self.go(ctx);
    }
}

impl Handler<Delete> for LiveStream {
    type Result = ();

    fn handle(&mut self, _: Delete, ctx: &mut Context<Self>) {
        let effects = self.state.delete();
        self.carry_out(effects, ctx);
    }
}

impl LiveStream {
    fn carry_out(&mut self, effects: Vec<Effect>, ctx: &mut Context<Self>) {
        for effect in effects {
            match effect {
                Effect::Open => {
                    let name = name(self.clock.now());
                    let broadcast = Arc::new(Broadcast::new(self.id, name, self.settings.hls));
                    broadcast.set_private(self.is_private);
                    broadcast.keep(self.recorder.tap(self.id, broadcast.name()));
                    self.transcoder.attend(&broadcast);
                    self.broadcasts.put(Arc::clone(&broadcast));
                    self.broadcast = Some(broadcast);
                    self.airing = None;
                }
                Effect::Hand(session) => {
                    if let Some(broadcast) = &self.broadcast {
                        broadcast.hand(session, self.clock.instant());
                    }
                    // Addresses hold the number of the session.
                    if self.airing.is_some() {
                        self.note(ctx);
                    }
                }
                Effect::HangUp(session, farewell) => {
                    if let Some((_, hang_up)) = self.publisher.take_if(|(publisher, _)| *publisher == session)
                    {
                        // A connection that ended by itself does not hear it, which is as well.
                        let _ = hang_up.send(farewell);
                    }
                }
                Effect::Interrupt(session) => {
                    if let Some(broadcast) = &self.broadcast {
                        broadcast.interrupt(session);
                    }
                }
                Effect::GoLive => {
                    let now = self.clock.now();
                    tracing::info!(stream = %self.id, "a stream is live");
                    self.airing = self.broadcast.as_ref().map(|broadcast| airing(self.node, broadcast, now));
                    self.note(ctx);
                }
                Effect::End => {
                    tracing::info!(stream = %self.id, "a stream has ended");
                    if let Some(broadcast) = self.broadcast.take() {
                        broadcast.end();
                        self.linger(&broadcast, ctx);
                    }
                    let now = self.clock.now();
                    if let Some(airing) = &mut self.airing {
                        airing.state = LifeState::Ended;
                        airing.ended_at = Some(now);
                    }
                    self.note(ctx);
                    self.airing = None;
                }
                Effect::Move => {
                    tracing::info!(stream = %self.id, "a stream goes on elsewhere");
                    if let Some(broadcast) = self.broadcast.take() {
                        broadcast.leave();
                        self.take_stock(&broadcast);
                        self.broadcasts.remove(&broadcast);
                    }
                }
                Effect::Discard => {
                    if let Some(broadcast) = self.broadcast.take() {
                        broadcast.end();
                        self.broadcasts.remove(&broadcast);
                    }
                }
            }
        }
    }

    /// Leaves a broadcast that is over where its viewers find it until they have seen the end, or until the next one takes its place:
    /// somebody who begins and ends all the time fills no memory with what nobody can ask for any more.
    fn linger(&mut self, broadcast: &Arc<Broadcast>, ctx: &mut Context<Self>) {
        self.take_stock(broadcast);
        self.lingering += 1;
        let broadcast = Arc::downgrade(broadcast);
        ctx.run_later(self.settings.linger, move |stream, _| {
            if let Some(broadcast) = broadcast.upgrade() {
                stream.broadcasts.remove(&broadcast);
            }
            stream.lingering -= 1;
        });
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.instant();
        let passed = now.saturating_duration_since(std::mem::replace(&mut self.ticked, now));
        // A connection whose task is gone says nothing any more.
        if let Some((session, _)) = self.publisher.take_if(|(_, hang_up)| hang_up.is_closed()) {
            let effects = self.state.left(session, Departure::Dropped, now);
            self.carry_out(effects, ctx);
        }
        let effects = self.state.tick(now);
        self.carry_out(effects, ctx);
        if let Some(broadcast) = self.broadcast.clone() {
            broadcast.audience().tick(now, passed);
            self.take_stock(&broadcast);
        }
        self.keep_claim(ctx);
        self.ticks = self.ticks.wrapping_add(1);
        if self.unnoted.is_some() || self.airing.is_some() && self.ticks.is_multiple_of(NOTE_EVERY_TICKS) {
            self.note(ctx);
        }
    }

    /// Says that the stream is still here; gives it up when another node has it by now.
    fn keep_claim(&mut self, ctx: &mut Context<Self>) {
        let (claims, id) = (Arc::clone(&self.claims), self.id);
        let kept = async move { claims.keep(id).await };
        ctx.spawn(wrap_future::<_, Self>(kept).map(|claim, stream, ctx| {
            if claim == Claim::Lost {
                tracing::warn!(stream = %stream.id, "another node has a stream that was here");
                stream.go(ctx);
            }
        }));
    }

    /// Lets another node have the stream, and ends. What the other node needs to know is noted first.
    fn go(&mut self, ctx: &mut Context<Self>) {
        let effects = self.state.give_up();
        self.carry_out(effects, ctx);
        let now = self.clock.now();
        let airing = self.airing.take().map(|airing| Airing { heard_at: now, ..airing });
        self.unnoted = None;
        let (streams, claims, id) = (Arc::clone(&self.streams), Arc::clone(&self.claims), self.id);
        let leave = async move {
            if let Some(airing) = airing
                && let Err(error) = streams.note(id, &airing).await
            {
                tracing::warn!(stream = %id, %error, "where a broadcast stands could not be noted");
            }
            claims.give_up(id).await;
        };
        ctx.wait(wrap_future::<_, Self>(leave).map(|(), _, ctx| ctx.sleep()));
    }

    fn take_stock(&mut self, broadcast: &Broadcast) {
        if let Some(airing) = &mut self.airing {
            let audience = broadcast.audience();
            airing.viewers = audience.count();
            airing.viewers_peak = audience.peak();
            airing.watched_s = audience.watched_s();
            airing.standing = broadcast.standing();
        }
    }

    /// Writes down how it is. What cannot be written now is tried again with the next tick; the mailbox waits meanwhile, so that
    /// nothing is noted in the wrong order.
    fn note(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        if let Some(broadcast) = self.broadcast.clone() {
            self.take_stock(&broadcast);
        }
        let airing = self.airing.as_mut().map(|airing| {
            airing.heard_at = now;
            airing.clone()
        });
        let Some(airing) = airing.or_else(|| self.unnoted.take()) else { return };
        self.unnoted = Some(airing.clone());
        let (streams, id) = (Arc::clone(&self.streams), self.id);
        let write = async move { streams.note(id, &airing).await.map(|()| airing) };
        ctx.wait(wrap_future::<_, Self>(write).map(|written, stream, _| match written {
            Ok(airing) => {
                stream.unnoted.take_if(|unnoted| *unnoted == airing);
            }
            Err(error) => tracing::warn!(stream = %stream.id, %error, "a broadcast could not be noted"),
        }));
    }
}

/// Tells a broadcast from the others of its stream, in every address. Nobody guesses it: it is all that stands between the segments of
/// a private stream and somebody who was not let in.
fn name(now: time::OffsetDateTime) -> String {
    let id = uuid::Uuid::from(crate::id::EventId::new(now)).simple().to_string();
    let mut random = [0; 8];
    // Without randomness nothing here would start; the time and the counter in the id still tell broadcasts apart.
    let _ = getrandom::fill(&mut random);
    format!("{}{:016x}", id.get(..16).unwrap_or(&id), u64::from_be_bytes(random))
}
