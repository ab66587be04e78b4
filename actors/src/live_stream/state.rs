//! What a live stream decides, without an actor round it and without a clock.

use tokio::time::{Duration, Instant};

use crate::port::KeyHash;

/// Names one publisher's connection among those of a stream's broadcast; counts from 1.
pub type Session = u64;

/// Where the stream is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nobody publishes, and nobody is waited for.
    Off,
    /// A publisher is here.
    On {
        /// Whose.
        session: Session,
    },
    /// The publisher dropped; it may come back until then.
    Away {
        /// When the broadcast ends without it.
        until: Instant,
    },
}

/// Why a publisher is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The key is not that of any stream, or not any more.
    #[error("this stream key is not known; copy it again from where you made the stream")]
    UnknownKey,
    /// Nothing can be decided at the moment.
    #[error("the server cannot take the stream at the moment; try again in a few seconds")]
    Unavailable,
}

/// Why a publisher's connection is closed from this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Farewell {
    /// Somebody else publishes with the same key.
    #[error("another connection publishes with this stream key now")]
    TakenOver,
    /// The key was replaced.
    #[error("the stream key was replaced; use the new one")]
    KeyReplaced,
    /// The stream was deleted.
    #[error("the stream was deleted")]
    Deleted,
    /// Who decides about the stream begins anew.
    #[error("the server begins anew with this stream; connect again")]
    Restarted,
}

/// How a publisher left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// It said so: the broadcast is over.
    Finished,
    /// Its connection ended without a word: it may come back.
    Dropped,
}

/// What is to be done, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Make an empty broadcast.
    Open,
    /// Let this session write to the broadcast, and nobody before it.
    Hand(Session),
    /// Send this publisher away.
    HangUp(Session, Farewell),
    /// Close what is open of the broadcast; it may go on later.
    Interrupt(Session),
    /// Note that the stream is live.
    GoLive,
    /// Finish the broadcast for its viewers, and note that it has ended.
    End,
    /// Leave the broadcast to another node.
    Move,
    /// Throw the broadcast away: nothing of it was ever to be seen.
    Discard,
}

/// The state of one stream.
#[derive(Debug)]
pub(super) struct State {
    key: KeyHash,
    phase: Phase,
    /// Whether anything of the open broadcast could be played.
    aired: bool,
    sessions: Session,
    resume: Duration,
    deleted: bool,
}

impl State {
    /// A stream nobody publishes to. A publisher that drops may come back for `resume`.
    pub(super) fn new(key: KeyHash, resume: Duration) -> Self {
        Self { key, phase: Phase::Off, aired: false, sessions: 0, resume, deleted: false }
    }

    /// A stream whose broadcast was found on the air, without anybody who decides about it: its publisher has to come back.
    pub(super) fn adopting(key: KeyHash, resume: Duration, sessions: Session, now: Instant) -> Self {
        let phase = Phase::Away { until: now + resume };
        Self { phase, aired: true, sessions, ..Self::new(key, resume) }
    }

    /// Where the stream is in its life.
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// A publisher asks to begin. Who has the key takes over from whoever published before: the older connection is the one that
    /// hangs, or the broadcaster would not have made a new one.
    ///
    /// # Errors
    /// [`Refusal::UnknownKey`].
    pub(super) fn publish(&mut self, key: KeyHash) -> Result<(Session, Vec<Effect>), Refusal> {
        if self.deleted || key != self.key {
            return Err(Refusal::UnknownKey);
        }
        let mut effects = Vec::new();
        match self.phase {
            Phase::Off => effects.push(Effect::Open),
            Phase::On { session } => effects.push(Effect::HangUp(session, Farewell::TakenOver)),
            Phase::Away { .. } => {}
        }
        self.sessions += 1;
        self.phase = Phase::On { session: self.sessions };
        effects.push(Effect::Hand(self.sessions));
        Ok((self.sessions, effects))
    }

    /// There is something to play.
    pub(super) fn on_air(&mut self, session: Session) -> Vec<Effect> {
        if self.phase != (Phase::On { session }) || self.aired {
            return Vec::new();
        }
        self.aired = true;
        vec![Effect::GoLive]
    }

    /// A publisher left. Of one that was sent away before, nothing follows.
    pub(super) fn left(&mut self, session: Session, how: Departure, now: Instant) -> Vec<Effect> {
        if self.phase != (Phase::On { session }) {
            return Vec::new();
        }
        match how {
            Departure::Dropped if self.aired => {
                self.phase = Phase::Away { until: now + self.resume };
                vec![Effect::Interrupt(session)]
            }
            Departure::Finished | Departure::Dropped => self.end(),
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Effect> {
        match self.phase {
            Phase::Away { until } if until <= now => self.end(),
            _ => Vec::new(),
        }
    }

    /// Another key counts from now on. Who publishes with the old one is sent away, and has the resume window to come back with the
    /// new one.
    pub(super) fn change_key(&mut self, key: KeyHash, now: Instant) -> Vec<Effect> {
        if self.key == key {
            return Vec::new();
        }
        self.key = key;
        let Phase::On { session } = self.phase else { return Vec::new() };
        let mut effects = vec![Effect::HangUp(session, Farewell::KeyReplaced)];
        effects.extend(self.left(session, Departure::Dropped, now));
        effects
    }

    /// Another node goes on with the stream. Nothing ends for its viewers.
    pub(super) fn give_up(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Phase::On { session } = self.phase {
            effects.push(Effect::HangUp(session, Farewell::TakenOver));
        }
        self.phase = Phase::Off;
        let aired = std::mem::take(&mut self.aired);
        effects.push(if aired { Effect::Move } else { Effect::Discard });
        effects
    }

    /// The stream is no more.
    pub(super) fn delete(&mut self) -> Vec<Effect> {
        self.deleted = true;
        let mut effects = Vec::new();
        if let Phase::On { session } = self.phase {
            effects.push(Effect::HangUp(session, Farewell::Deleted));
        }
        if self.phase != Phase::Off {
            effects.extend(self.end());
        }
        effects
    }

    fn end(&mut self) -> Vec<Effect> {
        self.phase = Phase::Off;
        let aired = std::mem::take(&mut self.aired);
        vec![if aired { Effect::End } else { Effect::Discard }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: KeyHash = KeyHash([1; 32]);
    const OTHER: KeyHash = KeyHash([2; 32]);
    const RESUME: Duration = Duration::from_secs(20);

    fn is_live(state: &State) -> bool {
        state.aired && state.phase != Phase::Off
    }

    /// A stream whose first publisher is on the air.
    fn live() -> (State, Session) {
        let mut state = State::new(KEY, RESUME);
        let (session, effects) = state.publish(KEY).expect("the key is right");
        assert_eq!(effects, [Effect::Open, Effect::Hand(session)]);
        assert_eq!(state.on_air(session), [Effect::GoLive]);
        assert_eq!(state.on_air(session), [], "once is enough");
        (state, session)
    }

    #[test]
    fn a_wrong_key_is_refused_and_changes_nothing() {
        let mut state = State::new(KEY, RESUME);
        assert_eq!(state.publish(OTHER), Err(Refusal::UnknownKey));
        assert_eq!(state.phase(), Phase::Off);
    }

    #[test]
    fn a_farewell_ends_the_broadcast_and_the_next_begins_another() {
        let (mut state, session) = live();
        assert_eq!(state.left(session, Departure::Finished, Instant::now()), [Effect::End]);
        assert!(!is_live(&state));
        let (next, effects) = state.publish(KEY).expect("the key is right");
        assert_eq!(effects, [Effect::Open, Effect::Hand(next)]);
        assert!(next > session, "sessions are never named twice");
    }

    #[test]
    fn a_drop_is_not_an_end_until_the_window_has_passed() {
        let now = Instant::now();
        let (mut state, session) = live();
        assert_eq!(state.left(session, Departure::Dropped, now), [Effect::Interrupt(session)]);
        assert!(is_live(&state));
        assert_eq!(state.tick(now + RESUME - Duration::from_millis(1)), []);
        let (back, effects) = state.publish(KEY).expect("the key is right");
        assert_eq!(effects, [Effect::Hand(back)], "the same broadcast goes on");
        assert_eq!(state.tick(now + RESUME * 2), [], "who is here is not waited for");
        assert_eq!(state.left(back, Departure::Dropped, now), [Effect::Interrupt(back)]);
        assert_eq!(state.tick(now + RESUME), [Effect::End]);
        assert_eq!(state.phase(), Phase::Off);
    }

    #[test]
    fn the_same_key_again_takes_over_and_the_old_connection_has_no_say_any_more() {
        let (mut state, old) = live();
        let (new, effects) = state.publish(KEY).expect("the key is right");
        assert_eq!(effects, [Effect::HangUp(old, Farewell::TakenOver), Effect::Hand(new)]);
        for how in [Departure::Finished, Departure::Dropped] {
            assert_eq!(state.left(old, how, Instant::now()), []);
        }
        assert_eq!(state.phase(), Phase::On { session: new });
        assert!(is_live(&state));
    }

    #[test]
    fn what_was_never_to_be_seen_is_discarded() {
        for how in [Departure::Finished, Departure::Dropped] {
            let mut state = State::new(KEY, RESUME);
            let (session, _) = state.publish(KEY).expect("the key is right");
            assert_eq!(state.left(session, how, Instant::now()), [Effect::Discard]);
        }
    }

    #[test]
    fn a_new_key_sends_the_old_one_away_and_lets_the_new_one_resume() {
        let now = Instant::now();
        let (mut state, session) = live();
        let effects = state.change_key(OTHER, now);
        assert_eq!(effects, [Effect::HangUp(session, Farewell::KeyReplaced), Effect::Interrupt(session)]);
        assert_eq!(state.publish(KEY), Err(Refusal::UnknownKey));
        let (next, effects) = state.publish(OTHER).expect("the new key");
        assert_eq!(effects, [Effect::Hand(next)]);
        assert_eq!(state.change_key(OTHER, now), [], "the same key is no news");
    }

    #[test]
    fn a_deleted_stream_ends_and_takes_nobody() {
        let (mut state, session) = live();
        assert_eq!(state.delete(), [Effect::HangUp(session, Farewell::Deleted), Effect::End]);
        assert_eq!(state.publish(KEY), Err(Refusal::UnknownKey));
        assert_eq!(State::new(KEY, RESUME).delete(), []);
    }

    #[test]
    fn what_another_node_goes_on_with_has_no_end_here() {
        let (mut state, session) = live();
        assert_eq!(state.give_up(), [Effect::HangUp(session, Farewell::TakenOver), Effect::Move]);
        assert_eq!(state.left(session, Departure::Dropped, Instant::now()), []);
        assert_eq!(State::new(KEY, RESUME).give_up(), [Effect::Discard]);
    }

    #[test]
    fn an_adopted_broadcast_waits_for_its_publisher() {
        let now = Instant::now();
        let mut state = State::adopting(KEY, RESUME, 7, now);
        let (session, effects) = state.publish(KEY).expect("the key is right");
        assert_eq!((session, effects), (8, vec![Effect::Hand(8)]));
        let mut state = State::adopting(KEY, RESUME, 7, now);
        assert_eq!(state.tick(now + RESUME), [Effect::End]);
    }
}
