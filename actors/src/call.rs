//! The life of a call in a conversation: `ringing → active → ended`. A plain state: no database, no sockets, no clock of its own.
//!
//! It rings on every device of everybody who is called, until one answers, everybody has declined, whoever calls gives up, or
//! [`RING_FOR`] has passed. What is decided here is written in the transaction that asks it, so two who answer at the same moment on two
//! nodes are decided one after the other; and since the state lies in the database, a node that dies while it rings leaves a call that
//! every other node can end.

use std::time::Duration;

use time::OffsetDateTime;

use crate::id::{CallId, ConversationId, DeviceId, RoomId, UserId};

/// How long it rings.
pub const RING_FOR: Duration = Duration::from_secs(45);
/// In a larger conversation nobody's devices ring: the call is there to be joined, and its entry tells of it.
pub const CALLED_MAX: usize = 100;

/// What a call begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Media {
    /// Voices.
    Audio,
    /// Voices and faces.
    Video,
}

impl Media {
    /// As the database and the API name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Media::Audio => "audio",
            Media::Video => "video",
        }
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Somebody answered, and it is over.
    Answered,
    /// Nobody answered in time.
    Missed,
    /// Everybody who was called declined.
    Declined,
    /// Whoever called gave up.
    Cancelled,
    /// Whoever called was lost while it rang.
    Failed,
}

impl Outcome {
    /// Every outcome there is.
    pub const ALL: [Outcome; 5] =
        [Outcome::Answered, Outcome::Missed, Outcome::Declined, Outcome::Cancelled, Outcome::Failed];

    /// As the database and the API name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Missed => "missed",
            Outcome::Declined => "declined",
            Outcome::Cancelled => "cancelled",
            Outcome::Failed => "failed",
        }
    }
}

/// Where a call is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Nobody has answered yet.
    Ringing,
    /// People talk.
    Active,
    /// It is over.
    Ended(Outcome),
}

impl State {
    /// As the database and the API name it; the outcome stands beside it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Ringing => "ringing",
            State::Active => "active",
            State::Ended(_) => "ended",
        }
    }

    /// How it ended.
    #[must_use]
    pub const fn outcome(self) -> Option<Outcome> {
        match self {
            State::Ended(outcome) => Some(outcome),
            State::Ringing | State::Active => None,
        }
    }
}

/// Why something cannot be done with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is over.
    #[error("this call has ended")]
    Over,
    /// Another device of theirs, or somebody else where only one is called, has answered.
    #[error("this call was answered on another device")]
    AnsweredElsewhere,
    /// Nobody answers their own call.
    #[error("nobody answers or declines their own call; cancel it")]
    OwnCall,
    /// Only whoever calls gives up.
    #[error("only who called can cancel a call")]
    NotTheCaller,
    /// It does not ring any more.
    #[error("this call was answered already; leave its room instead")]
    Answered,
}

/// Whether the state has changed, so that it is to be written and told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It is in another state.
    State,
    /// Somebody declined, and it rings on for the others.
    Declined,
    /// Nothing.
    Nothing,
}

/// Why nobody is in the room of a call any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emptied {
    /// The last has left.
    Left,
    /// The last was lost, or the node of the room was.
    Lost,
}

/// A call in a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Which.
    pub id: CallId,
    /// Where.
    pub conversation: ConversationId,
    /// Where people meet.
    pub room: RoomId,
    /// Who calls.
    pub caller: UserId,
    /// What it begins with.
    pub media: Media,
    /// Between two people: it ends when one of them leaves.
    pub is_direct: bool,
    /// Where it is in its life.
    pub state: State,
    /// Whose devices ring.
    pub called: Vec<UserId>,
    /// Who of them has declined.
    pub declined: Vec<UserId>,
    /// Who answered first, and on which device.
    pub answered_by: Option<(UserId, DeviceId)>,
    /// When it began to ring.
    pub started_at: OffsetDateTime,
    /// When it was answered.
    pub answered_at: Option<OffsetDateTime>,
    /// When it was over.
    pub ended_at: Option<OffsetDateTime>,
}

impl Call {
    /// A call that begins. Where there is nobody to call, or too many, it does not ring.
    #[must_use]
    pub fn new(
        conversation: ConversationId,
        caller: UserId,
        mut called: Vec<UserId>,
        is_direct: bool,
        media: Media,
        now: OffsetDateTime,
    ) -> Call {
        if called.len() > CALLED_MAX {
            called.clear();
        }
        let state = if called.is_empty() { State::Active } else { State::Ringing };
        Call {
            id: CallId::new(now),
            conversation,
            room: RoomId::new(now),
            caller,
            media,
            is_direct,
            state,
            called,
            declined: Vec::new(),
            answered_by: None,
            started_at: now,
            answered_at: (state == State::Active).then_some(now),
            ended_at: None,
        }
    }

    /// When it stops ringing.
    #[must_use]
    pub fn ring_until(&self) -> OffsetDateTime {
        self.started_at + RING_FOR
    }

    /// Whom everything about it is told: who calls and who is called.
    #[must_use]
    pub fn told(&self) -> Vec<UserId> {
        self.called.iter().copied().chain([self.caller]).collect()
    }

    /// How long people talked; none before it was answered.
    #[must_use]
    pub fn talked_for(&self) -> Option<Duration> {
        let talked = self.ended_at? - self.answered_at?;
        Some(talked.try_into().unwrap_or(Duration::ZERO))
    }

    /// Somebody answers on a device. In a group whoever comes later joins; of two people's call there is one answer, and the device
    /// that gave it may say so again.
    pub fn accept(&mut self, by: UserId, on: DeviceId, now: OffsetDateTime) -> Result<Changed, Refusal> {
        if by == self.caller {
            return Err(Refusal::OwnCall);
        }
        match self.state {
            State::Ended(_) => Err(Refusal::Over),
            State::Active if self.is_direct && self.answered_by != Some((by, on)) => {
                Err(Refusal::AnsweredElsewhere)
            }
            State::Active => Ok(Changed::Nothing),
            State::Ringing => {
                self.state = State::Active;
                self.answered_by = Some((by, on));
                self.answered_at = Some(now);
                Ok(Changed::State)
            }
        }
    }

    /// Somebody who is called does not want to talk. When nobody is left who could, it is over.
    pub fn decline(&mut self, by: UserId, now: OffsetDateTime) -> Result<Changed, Refusal> {
        if by == self.caller {
            return Err(Refusal::OwnCall);
        }
        match self.state {
            State::Ended(_) => Err(Refusal::Over),
            // It has stopped ringing; there is nothing left to decline.
            State::Active if self.is_direct => Err(Refusal::AnsweredElsewhere),
            State::Active => Ok(Changed::Nothing),
            State::Ringing if !self.called.contains(&by) || self.declined.contains(&by) => {
                Ok(Changed::Nothing)
            }
            State::Ringing => {
                self.declined.push(by);
                if self.declined.len() < self.called.len() {
                    return Ok(Changed::Declined);
                }
                Ok(self.end(Outcome::Declined, now))
            }
        }
    }

    /// Whoever calls gives up.
    pub fn cancel(&mut self, by: UserId, now: OffsetDateTime) -> Result<Changed, Refusal> {
        match self.state {
            _ if by != self.caller => Err(Refusal::NotTheCaller),
            State::Ended(Outcome::Cancelled) => Ok(Changed::Nothing),
            State::Ended(_) => Err(Refusal::Over),
            State::Active => Err(Refusal::Answered),
            State::Ringing => Ok(self.end(Outcome::Cancelled, now)),
        }
    }

    /// Time has passed: it does not ring for ever.
    pub fn pass(&mut self, now: OffsetDateTime) -> Changed {
        if self.state == State::Ringing && now >= self.ring_until() {
            return self.end(Outcome::Missed, now);
        }
        Changed::Nothing
    }

    /// Nobody is in its room any more, or, between two people, only one is.
    pub fn emptied(&mut self, how: Emptied, now: OffsetDateTime) -> Changed {
        match (self.state, how) {
            (State::Ended(_), _) => Changed::Nothing,
            (State::Active, _) => self.end(Outcome::Answered, now),
            (State::Ringing, Emptied::Left) => self.end(Outcome::Cancelled, now),
            (State::Ringing, Emptied::Lost) => self.end(Outcome::Failed, now),
        }
    }

    fn end(&mut self, outcome: Outcome, now: OffsetDateTime) -> Changed {
        self.state = State::Ended(outcome);
        self.ended_at = Some(now);
        Changed::State
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const NOON: OffsetDateTime = datetime!(2026-01-02 12:00 UTC);

    fn call(called: usize, is_direct: bool) -> Call {
        let called = (0..called).map(|_| UserId::generate()).collect();
        Call::new(ConversationId::generate(), UserId::generate(), called, is_direct, Media::Video, NOON)
    }

    fn after(seconds: i64) -> OffsetDateTime {
        NOON + time::Duration::seconds(seconds)
    }

    #[test]
    fn one_answers_and_the_others_are_too_late() {
        let mut call = call(1, true);
        let (bo, phone, tablet) = (call.called[0], DeviceId::generate(), DeviceId::generate());
        assert_eq!(call.accept(call.caller, phone, NOON), Err(Refusal::OwnCall));
        assert_eq!(call.accept(bo, phone, after(5)), Ok(Changed::State));
        assert_eq!(
            call.accept(bo, phone, after(6)),
            Ok(Changed::Nothing),
            "a lost answer is asked for again"
        );
        assert_eq!(call.accept(bo, tablet, after(6)), Err(Refusal::AnsweredElsewhere));
        assert_eq!(call.decline(bo, after(6)), Err(Refusal::AnsweredElsewhere));
        assert_eq!(call.cancel(call.caller, after(6)), Err(Refusal::Answered));
        assert_eq!(call.pass(after(600)), Changed::Nothing, "it does not ring any more");
        assert_eq!(call.emptied(Emptied::Left, after(65)), Changed::State);
        assert_eq!(
            (call.state, call.talked_for()),
            (State::Ended(Outcome::Answered), Some(Duration::from_secs(60)))
        );
        assert_eq!(call.accept(bo, phone, after(66)), Err(Refusal::Over));
    }

    #[test]
    fn it_does_not_ring_for_ever() {
        let mut call = call(2, false);
        assert_eq!(call.pass(after(44)), Changed::Nothing);
        assert_eq!(call.pass(after(45)), Changed::State);
        assert_eq!((call.state, call.talked_for()), (State::Ended(Outcome::Missed), None));
        assert_eq!(call.pass(after(90)), Changed::Nothing);
    }

    #[test]
    fn it_is_declined_when_everybody_has() {
        let mut call = call(2, false);
        let (bo, cy) = (call.called[0], call.called[1]);
        assert_eq!(call.decline(bo, NOON), Ok(Changed::Declined));
        assert_eq!(call.decline(bo, NOON), Ok(Changed::Nothing));
        assert_eq!(
            call.decline(UserId::generate(), NOON),
            Ok(Changed::Nothing),
            "who is not called declines nothing"
        );
        assert_eq!(call.decline(cy, NOON), Ok(Changed::State));
        assert_eq!(call.state, State::Ended(Outcome::Declined));
    }

    #[test]
    fn whoever_has_declined_may_still_come_and_in_a_group_others_join() {
        let mut call = call(2, false);
        let (bo, cy) = (call.called[0], call.called[1]);
        call.decline(bo, NOON).unwrap();
        assert_eq!(call.accept(bo, DeviceId::generate(), NOON), Ok(Changed::State));
        assert_eq!(call.accept(cy, DeviceId::generate(), NOON), Ok(Changed::Nothing));
        assert_eq!(call.answered_by.map(|(user, _)| user), Some(bo));
    }

    #[test]
    fn who_calls_gives_up_leaves_or_is_lost() {
        let (mut given_up, mut left, mut lost) = (call(1, true), call(1, true), call(1, true));
        assert_eq!(given_up.cancel(given_up.called[0], NOON), Err(Refusal::NotTheCaller));
        assert_eq!(given_up.cancel(given_up.caller, NOON), Ok(Changed::State));
        assert_eq!(given_up.cancel(given_up.caller, NOON), Ok(Changed::Nothing));
        left.emptied(Emptied::Left, NOON);
        lost.emptied(Emptied::Lost, NOON);
        let outcomes = [given_up, left, lost].map(|call| call.state.outcome());
        assert_eq!(outcomes, [Some(Outcome::Cancelled), Some(Outcome::Cancelled), Some(Outcome::Failed)]);
    }

    #[test]
    fn a_crowd_is_not_rung() {
        assert_eq!(call(CALLED_MAX, false).state, State::Ringing);
        let crowd = call(CALLED_MAX + 1, false);
        assert_eq!((crowd.state, crowd.told().len()), (State::Active, 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        /// Whatever people do in whatever order: a call ends once, and within its time when nobody answers; what is over stays so.
        #[test]
        fn whatever_happens_a_call_ends_once(called in 1_usize..4, direct in any::<bool>(), steps in prop::collection::vec((0_u8..5, 0_usize..4, 0_i64..20), 0..40)) {
            let mut call = call(called, direct);
            let (mut now, mut ends) = (NOON, 0);
            for (what, who, passed) in steps {
                now += time::Duration::seconds(passed);
                let by = call.called.get(who).copied().unwrap_or(call.caller);
                let before = call.clone();
                let changed = match what {
                    0 => call.accept(by, DeviceId::from_uuid(uuid::Uuid::nil()), now).ok(),
                    1 => call.decline(by, now).ok(),
                    2 => call.cancel(by, now).ok(),
                    3 => Some(call.emptied(Emptied::Lost, now)),
                    _ => None,
                };
                let passed = call.pass(now);
                if before.state.outcome().is_some() {
                    prop_assert_eq!(&call, &before);
                }
                if call.state != before.state && call.state.outcome().is_some() {
                    ends += 1;
                }
                prop_assert_eq!(
                    call.state != before.state,
                    changed == Some(Changed::State) || passed == Changed::State
                );
                prop_assert!(call.state != State::Ringing || now < call.ring_until());
            }
            prop_assert!(ends <= 1);
            prop_assert_eq!(ends == 1, call.ended_at.is_some());
        }
    }
}
