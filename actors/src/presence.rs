//! Who is here, over all nodes.
//!
//! Every node knows of every user who is connected anywhere, so that whoever asks is answered from memory and without the bus; sockets are
//! told only of whom they asked for. A user is here while a node holds a socket of theirs, and for a moment ([`Settings::linger`]) after the last one
//! closed: who changes networks was not away.
//!
//! Nodes tell each other what changed, and at every beat the sum of whom they hold. A sum that does not agree, a gap on the bus and a
//! node nobody knew are answered by telling everything once more, so nothing that was lost stays lost. A node that has not been heard of for
//! [`Settings::lease`] takes its users with it; while this node itself hears nothing, because the bus is away, it believes what it knew.
//!
//! What is late does no harm. A user's place is their node and the newest session there (the fence); a node's id is that of its process, so
//! a restarted node is another one. An end carries the session it is about and takes away nothing newer, and no node speaks for
//! another's users.
//!
//! State, no clock, no I/O.

use std::collections::{HashMap, HashSet, VecDeque, hash_map::Entry};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::time::{Duration, Instant};

use crate::id::{NodeId, SessionId, UserId};

/// What can be decided about presence; the same on all nodes.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How long a user is still here after their last socket closed.
    pub linger: Duration,
    /// A node that was not heard of for so long is dead. It says three times in that time that it lives.
    pub lease: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { linger: Duration::from_secs(10), lease: Duration::from_secs(15) }
    }
}

/// Users in one message between nodes: about 75 KiB.
const USERS_LEN_MAX: usize = 1_000;
/// How long it is remembered here when somebody left; after that the store knows.
const GONE_KEPT: Duration = Duration::from_secs(60);

/// What nodes tell each other. Of one node it arrives in the order in which it was said, or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub enum Said {
    /// These are here.
    Came {
        /// Who, and their newest session.
        users: Vec<(UserId, SessionId)>,
    },
    /// These are not here any more.
    Went {
        /// Who, their newest session, and when the last one closed, in Unix milliseconds.
        users: Vec<(UserId, SessionId, i64)>,
    },
    /// The node lives.
    Beat {
        /// The users it holds, added up ([`mark`]).
        sum: u64,
    },
    /// Who is where? To everybody, or to one node.
    Who {
        /// Whom it asks.
        of: Option<NodeId>,
    },
    /// Everybody the node holds, in parts.
    All {
        /// Which part, from 0.
        part: u32,
        /// Whether it is the last.
        last: bool,
        /// Who, and their newest session.
        users: Vec<(UserId, SessionId)>,
    },
    /// The node leaves; its users have [`Settings::linger`] to come back elsewhere.
    Leaving,
}

/// Somebody came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Who.
    pub user: UserId,
    /// Where they are now.
    pub state: State,
    /// They went down with their node, which wrote nothing, and it is this node that writes when they were last seen.
    pub is_to_be_written: bool,
}

/// Here or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A socket is open, or was a moment ago.
    Online,
    /// None is. When they were last seen, where that is known here; the store may know more.
    Offline(Option<OffsetDateTime>),
}

/// A user on a node.
#[derive(Debug, Clone, Copy)]
struct Place {
    node: NodeId,
    fence: SessionId,
}

/// A user on this node.
#[derive(Debug)]
struct Here {
    sessions: Vec<SessionId>,
    fence: SessionId,
    /// When the last of their sockets closed.
    left: Option<(Instant, OffsetDateTime)>,
}

/// Another node.
#[derive(Debug)]
struct Other {
    heard: (Instant, OffsetDateTime),
    leaves_at: Option<Instant>,
    /// Its users as far as they are known here, added up.
    sum: u64,
    /// It is telling everything: whom it has told of so far.
    telling: Option<(u32, HashSet<UserId>)>,
}

/// Who is where, as one node knows it.
#[derive(Debug)]
pub struct Presence {
    node: NodeId,
    settings: Settings,
    here: HashMap<UserId, Here>,
    sum: u64,
    places: HashMap<UserId, Vec<Place>>,
    others: HashMap<NodeId, Other>,
    /// Who left this node and may still come back, the first first.
    lingering: VecDeque<(Instant, UserId)>,
    gone: HashMap<UserId, OffsetDateTime>,
    gone_since: VecDeque<(Instant, UserId, OffsetDateTime)>,
    said: Vec<Said>,
    beat_at: Option<Instant>,
    is_asked: bool,
}

impl Presence {
    /// Of a node that holds nobody and knows of no other.
    #[must_use]
    pub fn new(node: NodeId, settings: Settings) -> Self {
        Self {
            node,
            settings,
            here: HashMap::new(),
            sum: 0,
            places: HashMap::new(),
            others: HashMap::new(),
            lingering: VecDeque::new(),
            gone: HashMap::new(),
            gone_since: VecDeque::new(),
            said: Vec::new(),
            beat_at: None,
            is_asked: false,
        }
    }

    /// How somebody is.
    #[must_use]
    pub fn of(&self, user: UserId) -> State {
        if self.places.contains_key(&user) {
            State::Online
        } else {
            State::Offline(self.gone.get(&user).copied())
        }
    }

    /// Whether this socket of `user` is open on this node.
    #[must_use]
    pub fn has(&self, user: UserId, session: SessionId) -> bool {
        self.here.get(&user).is_some_and(|here| here.sessions.contains(&session))
    }

    /// Users with a socket on this node, or a moment ago; and all users on all nodes.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.here.len(), self.places.len())
    }

    /// A socket of `user` opened here.
    pub fn came(&mut self, user: UserId, session: SessionId) -> Option<Change> {
        let here = self.here.entry(user).or_insert_with(|| Here {
            sessions: Vec::new(),
            fence: session,
            left: None,
        });
        here.sessions.push(session);
        here.fence = here.fence.max(session);
        here.left = None;
        if here.sessions.len() > 1 || self.place(user, self.node).is_some() {
            return None;
        }
        self.say_came(user, session);
        self.put(user, Place { node: self.node, fence: session })
    }

    /// A socket of `user` closed here.
    pub fn went(&mut self, user: UserId, session: SessionId, now: Instant, at: OffsetDateTime) {
        let Some(here) = self.here.get_mut(&user) else { return };
        here.sessions.retain(|known| *known != session);
        if here.sessions.is_empty() && here.left.is_none() {
            here.left = Some((now, at));
            self.lingering.push_back((now, user));
        }
    }

    /// Another node said something.
    pub fn heard(&mut self, from: NodeId, said: Said, now: Instant, at: OffsetDateTime) -> Vec<Change> {
        if from == self.node {
            return Vec::new();
        }
        if let Entry::Vacant(place) = self.others.entry(from) {
            if said == Said::Leaving {
                return Vec::new();
            }
            place.insert(Other { heard: (now, at), leaves_at: None, sum: 0, telling: None });
            self.said.push(Said::Who { of: Some(from) });
            // Who is new knows nothing of this node either.
            self.is_asked = true;
        }
        let Some(other) = self.others.get_mut(&from) else { return Vec::new() };
        other.heard = (now, at);
        match said {
            Said::Came { users } => {
                if let Some((_, told)) = &mut other.telling {
                    told.extend(users.iter().map(|(user, _)| *user));
                }
                self.put_all(from, users)
            }
            Said::Went { users } => {
                if let Some((_, told)) = &mut other.telling {
                    users.iter().for_each(|(user, ..)| _ = told.remove(user));
                }
                let mut changes = Vec::new();
                for (user, fence, at_ms) in users {
                    let seen = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000);
                    if self.place(user, from).is_some_and(|place| place.fence <= fence) {
                        changes.extend(self.take(user, from, seen.unwrap_or(at), now, false));
                    }
                }
                changes
            }
            Said::Beat { sum } => {
                other.leaves_at = None;
                if other.telling.is_none() && other.sum != sum {
                    self.said.push(Said::Who { of: Some(from) });
                }
                Vec::new()
            }
            Said::Who { of } => {
                self.is_asked |= of.is_none_or(|of| of == self.node);
                Vec::new()
            }
            Said::All { part, last, users } => self.told_all(from, part, last, users, now, at),
            Said::Leaving => {
                other.leaves_at = Some(now + self.settings.linger);
                Vec::new()
            }
        }
    }

    fn told_all(
        &mut self,
        from: NodeId,
        part: u32,
        last: bool,
        users: Vec<(UserId, SessionId)>,
        now: Instant,
        at: OffsetDateTime,
    ) -> Vec<Change> {
        let Some(other) = self.others.get_mut(&from) else { return Vec::new() };
        if part == 0 {
            other.telling = Some((0, HashSet::new()));
        }
        match &mut other.telling {
            Some((next, told)) if *next == part => {
                *next += 1;
                told.extend(users.iter().map(|(user, _)| *user));
            }
            // A part was lost; the next count that does not agree asks again.
            _ => other.telling = None,
        }
        let whole = if last { other.telling.take() } else { None };
        let mut changes = self.put_all(from, users);
        if let Some((_, told)) = whole {
            for user in
                self.users_of(from).into_iter().filter(|user| !told.contains(user)).collect::<Vec<_>>()
            {
                changes.extend(self.take(user, from, at, now, false));
            }
        }
        changes
    }

    /// Something on the bus was not heard: everybody is asked.
    pub fn missed(&mut self) {
        for other in self.others.values_mut() {
            other.telling = None;
        }
        self.said.push(Said::Who { of: None });
    }

    /// Something said here did not reach the bus: everything is told once more.
    pub fn not_said(&mut self) {
        self.is_asked = true;
    }

    /// Time passes. `is_heard` says whether the bus carries; while it does not, nobody is believed dead.
    pub fn tick(&mut self, now: Instant, is_heard: bool) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some((left_at, user)) = self.lingering.front().copied() {
            if now < left_at + self.settings.linger {
                break;
            }
            self.lingering.pop_front();
            let Some(here) = self.here.get(&user) else { continue };
            // Who came back and left again has a later turn.
            let Some((_, at)) = here.left.filter(|(since, _)| *since == left_at) else { continue };
            let fence = here.fence;
            self.here.remove(&user);
            self.say_went(user, fence, at);
            changes.extend(self.take(user, self.node, at, now, false));
        }
        while let Some((since, user, at)) = self.gone_since.front().copied() {
            if now < since + GONE_KEPT {
                break;
            }
            self.gone_since.pop_front();
            if self.gone.get(&user) == Some(&at) {
                self.gone.remove(&user);
            }
        }
        changes.extend(self.bury(now, is_heard));
        if self.beat_at.is_none_or(|at| at <= now) {
            self.beat_at = Some(now + self.settings.lease / 3);
            self.said.push(Said::Beat { sum: self.sum });
        }
        if std::mem::take(&mut self.is_asked) {
            let all: Vec<_> = self.here.iter().map(|(user, here)| (*user, here.fence)).collect();
            let parts = all.len().div_ceil(USERS_LEN_MAX).max(1);
            for part in 0..parts {
                let users = all.iter().skip(part * USERS_LEN_MAX).take(USERS_LEN_MAX).copied().collect();
                let last = part + 1 == parts;
                self.said.push(Said::All { part: u32::try_from(part).unwrap_or(u32::MAX), last, users });
            }
        }
        changes
    }

    /// Says that this node leaves; nothing is to be said after it.
    pub fn leave(&mut self) {
        self.said.push(Said::Leaving);
    }

    /// What is to be said to the other nodes, in this order.
    pub fn take_said(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.said)
    }

    /// Takes away the users of nodes that have died or left.
    fn bury(&mut self, now: Instant, is_heard: bool) -> Vec<Change> {
        let mut changes = Vec::new();
        if !is_heard {
            for other in self.others.values_mut() {
                other.heard.0 = now;
            }
        }
        let is_over = |other: &Other| {
            now >= other.heard.0 + self.settings.lease || other.leaves_at.is_some_and(|at| now >= at)
        };
        let dead: Vec<_> =
            self.others.iter().filter(|(_, other)| is_over(other)).map(|(node, _)| *node).collect();
        for node in dead {
            let users = self.users_of(node);
            let Some(other) = self.others.remove(&node) else { continue };
            let is_first = self.others.keys().all(|living| self.node < *living);
            for user in users {
                changes.extend(self.take(user, node, other.heard.1, now, is_first));
            }
        }
        changes
    }

    fn users_of(&self, node: NodeId) -> Vec<UserId> {
        let there = self.places.iter().filter(|(_, places)| places.iter().any(|place| place.node == node));
        there.map(|(user, _)| *user).collect()
    }

    fn place(&self, user: UserId, node: NodeId) -> Option<Place> {
        self.places.get(&user)?.iter().find(|place| place.node == node).copied()
    }

    fn put_all(&mut self, node: NodeId, users: Vec<(UserId, SessionId)>) -> Vec<Change> {
        users.into_iter().filter_map(|(user, fence)| self.put(user, Place { node, fence })).collect()
    }

    fn put(&mut self, user: UserId, place: Place) -> Option<Change> {
        let places = self.places.entry(user).or_default();
        let was_here = !places.is_empty();
        match places.iter_mut().find(|known| known.node == place.node) {
            Some(known) => known.fence = known.fence.max(place.fence),
            None => {
                places.push(place);
                self.add_up(user, place.node);
            }
        }
        (!was_here).then_some(Change { user, state: State::Online, is_to_be_written: false })
    }

    fn take(
        &mut self,
        user: UserId,
        node: NodeId,
        at: OffsetDateTime,
        now: Instant,
        is_to_be_written: bool,
    ) -> Option<Change> {
        let places = self.places.get_mut(&user)?;
        let before = places.len();
        places.retain(|place| place.node != node);
        let (is_taken, is_gone) = (places.len() < before, places.is_empty());
        if is_taken {
            self.add_up(user, node);
        }
        if !is_gone {
            return None;
        }
        self.places.remove(&user);
        self.gone.insert(user, at);
        self.gone_since.push_back((now, user, at));
        Some(Change { user, state: State::Offline(Some(at)), is_to_be_written })
    }

    /// Adding somebody a second time takes them away.
    fn add_up(&mut self, user: UserId, node: NodeId) {
        if node == self.node {
            self.sum ^= mark(user);
        } else if let Some(other) = self.others.get_mut(&node) {
            other.sum ^= mark(user);
        }
    }

    fn say_came(&mut self, user: UserId, session: SessionId) {
        match self.said.last_mut() {
            Some(Said::Came { users }) if users.len() < USERS_LEN_MAX => users.push((user, session)),
            _ => self.said.push(Said::Came { users: vec![(user, session)] }),
        }
    }

    fn say_went(&mut self, user: UserId, fence: SessionId, at: OffsetDateTime) {
        let at_ms = (at.unix_timestamp_nanos() / 1_000_000) as i64;
        match self.said.last_mut() {
            Some(Said::Went { users }) if users.len() < USERS_LEN_MAX => users.push((user, fence, at_ms)),
            _ => self.said.push(Said::Went { users: vec![(user, fence, at_ms)] }),
        }
    }
}

/// What a user adds to the sum of their node: their id's random bits, so that two sets of users hardly ever have the same.
#[must_use]
pub fn mark(user: UserId) -> u64 {
    let id = user.as_uuid().as_u128();
    (id >> 64) as u64 ^ id as u64
}

#[cfg(test)]
mod tests;
