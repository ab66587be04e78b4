//! Live streams: who may publish, what is on the air, who watches.
//!
//! One [`LiveStream`] decides about one stream: idle → live → ended, and live again with the next publisher. It hears of keys and of
//! publishers that come and go; media and viewers never pass its mailbox, they meet at the [`Broadcast`].
//!
//! A drop is not an end: a publisher that is gone without a word has [`Settings::resume`] to come back, and viewers see a
//! discontinuity in a playlist that goes on. A panic of the actor is a drop too: its successor finds the broadcast on the air and
//! waits for the publisher, whose connection is closed because nobody decides about it any more.

pub mod audience;
pub mod broadcast;
mod protocol;
mod state;

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Handler, fut::wrap_future};
use async_trait::async_trait;
use nova_media::hls;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    clock::Clock,
    context::{Context, Resident},
    directory::{Directory, Start},
    error::StartError,
    hears_faults,
    id::{NodeId, StreamId},
    port::{Airing, LifeState, Recorder, Streams},
};

pub use broadcast::{Broadcast, Broadcasts, Condition, View};
pub use protocol::{ChangeKey, Delete, Grant, Left, OnAir, Publish};
pub use state::{Departure, Farewell, Phase, Refusal, Session};

use state::{Effect, State};

/// How often a stream that is not off looks at the clock and at its audience.
const TICK: Duration = Duration::from_secs(1);
/// How often what is on the air is noted, in ticks: often enough that [`crate::port::SILENCE_MAX`] means death.
const NOTE_EVERY_TICKS: u32 = 10;

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

/// Makes live streams from what is durable.
pub struct StartLiveStream {
    /// The node they live on.
    pub node: NodeId,
    /// How they are treated.
    pub settings: Settings,
    /// What is durable.
    pub streams: Arc<dyn Streams>,
    /// Who keeps it.
    pub recorder: Arc<dyn Recorder>,
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
        let loaded = self.streams.load(id).await;
        let record = loaded.map_err(|error| StartError::Failed { reason: error.reason })?;
        let record = record.ok_or(StartError::NotFound)?;
        let adopted =
            self.broadcasts.of(id).filter(|found| !found.has_ended() && found.views().borrow().is_some());
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
            broadcasts: self.broadcasts.clone(),
            clock: Arc::clone(&self.clock),
            state,
            airing: adopted.as_ref().map(|_| self.airing()),
            broadcast: adopted,
            publisher: None,
            unnoted: None,
            lingering: 0,
            ticks: 0,
            ticked: self.clock.instant(),
        })
    }
}

impl StartLiveStream {
    fn airing(&self) -> Airing {
        Airing {
            state: LifeState::Live,
            node: self.node,
            started_at: self.clock.now(),
            ended_at: None,
            heard_at: self.clock.now(),
            viewers: 0,
            viewers_peak: 0,
            watched_s: 0,
        }
    }
}

/// Decides about one stream; see the [module documentation](self).
pub struct LiveStream {
    id: StreamId,
    node: NodeId,
    settings: Settings,
    streams: Arc<dyn Streams>,
    recorder: Arc<dyn Recorder>,
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
                    broadcast.keep(self.recorder.tap(self.id, broadcast.name()));
                    self.broadcasts.put(Arc::clone(&broadcast));
                    self.broadcast = Some(broadcast);
                    self.airing = None;
                }
                Effect::Hand(session) => {
                    if let Some(broadcast) = &self.broadcast {
                        broadcast.hand(session, self.clock.instant());
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
                    self.airing = Some(Airing {
                        state: LifeState::Live,
                        node: self.node,
                        started_at: now,
                        ended_at: None,
                        heard_at: now,
                        viewers: 0,
                        viewers_peak: 0,
                        watched_s: 0,
                    });
                    self.note(ctx);
                }
                Effect::End => {
                    tracing::info!(stream = %self.id, "a stream has ended");
                    if let Some(broadcast) = self.broadcast.take() {
                        broadcast.end();
                        self.linger(broadcast, ctx);
                    }
                    let now = self.clock.now();
                    if let Some(airing) = &mut self.airing {
                        airing.state = LifeState::Ended;
                        airing.ended_at = Some(now);
                    }
                    self.note(ctx);
                    self.airing = None;
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

    /// Keeps a broadcast that is over until its viewers have seen the end.
    fn linger(&mut self, broadcast: Arc<Broadcast>, ctx: &mut Context<Self>) {
        self.take_stock(&broadcast);
        self.lingering += 1;
        ctx.run_later(self.settings.linger, move |stream, _| {
            stream.broadcasts.remove(&broadcast);
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
        self.ticks = self.ticks.wrapping_add(1);
        if self.unnoted.is_some() || self.airing.is_some() && self.ticks.is_multiple_of(NOTE_EVERY_TICKS) {
            self.note(ctx);
        }
    }

    fn take_stock(&mut self, broadcast: &Broadcast) {
        if let Some(airing) = &mut self.airing {
            let audience = broadcast.audience();
            airing.viewers = audience.count();
            airing.viewers_peak = audience.peak();
            airing.watched_s = audience.watched_s();
        }
    }

    /// Writes down how it is. What cannot be written now is tried again with the next tick; the mailbox waits meanwhile, so that
    /// nothing is noted in the wrong order.
    fn note(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.now();
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

/// Tells a broadcast from the others of its stream: the time it began, in letters and digits.
fn name(now: time::OffsetDateTime) -> String {
    let mut rest = now.unix_timestamp_nanos() as u128 / 1_000;
    let mut digits = Vec::with_capacity(12);
    while rest > 0 {
        digits.push(char::from_digit((rest % 36) as u32, 36).unwrap_or('0'));
        rest /= 36;
    }
    digits.into_iter().rev().collect()
}
