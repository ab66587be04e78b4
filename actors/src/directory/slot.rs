//! What the directory knows of one id.

use tokio::{
    sync::watch,
    time::{Duration, Instant},
};

use crate::{
    address::Address,
    context::Resident,
    error::{LookupError, StartError},
};

pub(super) struct Slot<A: Resident> {
    pub(super) state: State<A>,
    /// Crashes in a row, none of which came long after its start.
    pub(super) streak: u32,
}

pub(super) enum State<A: Resident> {
    Starting(Outcome<A>),
    /// Since when.
    Live(Address<A>, Instant),
    /// Left alone until then; afterwards a lookup starts it.
    Resting(Instant),
}

/// What a lookup does next.
pub(super) enum Next<A: Resident> {
    Live(Address<A>),
    Starting(Outcome<A>),
    Ending(watch::Receiver<bool>),
    Resting(Instant),
}

type Started<A> = Result<Address<A>, LookupError>;

/// How a start ends, for all who wait for it.
pub(super) struct Outcome<A: Resident>(watch::Receiver<Option<Started<A>>>);

/// Says it.
pub(super) struct Say<A: Resident>(watch::Sender<Option<Started<A>>>);

/// Something will be different afterwards.
pub(super) enum Change<A: Resident> {
    Started(Outcome<A>),
    Ended(watch::Receiver<bool>),
}

impl<A: Resident> Slot<A> {
    /// Whether the streak says nothing any more.
    pub(super) fn forgotten(&self, now: Instant, steady_after: Duration) -> bool {
        matches!(self.state, State::Resting(until) if until + steady_after < now)
    }

    /// Asks whoever is there to sleep; afterwards there is somebody to ask, or nobody.
    pub(super) fn leave(&self) -> Option<Change<A>> {
        match &self.state {
            State::Starting(outcome) => Some(Change::Started(outcome.clone())),
            State::Live(address, _) => {
                address.request_sleep();
                Some(Change::Ended(address.end()))
            }
            State::Resting(_) => None,
        }
    }
}

impl<A: Resident> Outcome<A> {
    pub(super) fn pair() -> (Say<A>, Self) {
        let (say, outcome) = watch::channel(None);
        (Say(say), Self(outcome))
    }

    pub(super) async fn wait(mut self) -> Started<A> {
        match self.0.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(Self::gone())),
            Err(_) => Err(Self::gone()),
        }
    }

    fn gone() -> LookupError {
        LookupError::Start(StartError::Failed { reason: "its thread has ended".into() })
    }
}

impl<A: Resident> Clone for Outcome<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Resident> Say<A> {
    pub(super) fn send(self, started: Started<A>) {
        self.0.send_replace(Some(started));
    }
}

impl<A: Resident> Change<A> {
    pub(super) async fn wait(self) {
        match self {
            Self::Started(outcome) => drop(outcome.wait().await),
            // An error says that the actor's gate is gone: it has ended.
            Self::Ended(mut ended) => drop(ended.wait_for(|ended| *ended).await.is_ok()),
        }
    }
}
