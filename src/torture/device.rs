//! One device under torture: it talks, reads and acknowledges, loses its connection and comes back, and writes down all it sees.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::history::{Event, History, Place, Told};
use crate::bench::client::{Heard, Reader, Writer, dial};

/// How long it waits for a connection, and for the answer to a request; then it goes elsewhere.
const DIAL_MAX: Duration = Duration::from_secs(3);
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// The longest it stays away, however long it is asked to: this is a torture, and it is not polite.
const AWAY_MAX_MS: u64 = 400;
/// Messages of its own that wait for an answer.
const UNANSWERED_MAX: usize = 6;
/// How often it does something, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 10..120;

/// What all devices are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Talk, leave, come back.
    Storm,
    /// Say nothing new, and stay.
    Settle,
    /// Leave.
    End,
}

/// What is shared by all devices.
pub struct World {
    /// Where the nodes are.
    pub doors: Vec<SocketAddr>,
    /// The conversations, by place.
    pub conversations: Vec<String>,
    /// What they are to do.
    pub phase: Cell<Phase>,
    /// Grows when everybody is to leave and come back at once.
    pub stampede: Cell<u32>,
    /// Connections that were let in.
    pub connects: Cell<u64>,
    /// Entries that were shown.
    pub shown: Cell<u64>,
    /// Messages that were acknowledged.
    pub acknowledged: Cell<u64>,
}

/// One device.
pub struct Device {
    world: Rc<World>,
    number: usize,
    token: String,
    /// Whether it ever says what it has.
    acknowledges: bool,
    state: RefCell<State>,
}

struct State {
    rng: StdRng,
    history: History,
    /// What was not answered yet, oldest first: its key, where, and the request.
    pending: VecDeque<Pending>,
    said: u64,
    next_ref: u64,
    /// Requests of this connection: what they were.
    asked: Vec<(u64, Asked, Instant)>,
    /// What is to be pulled: where, after what, up to where.
    to_pull: VecDeque<(Place, u64, u64)>,
    /// Per conversation: the last on this connection, and the greatest that was ever seen.
    last: Vec<Option<u64>>,
    greatest: Vec<u64>,
    /// Own messages that stand, by conversation.
    own: Vec<Vec<u64>>,
    is_open: bool,
    is_drained: bool,
    after_ms: u64,
}

struct Pending {
    key: Arc<str>,
    place: Place,
    request: Value,
    /// Not before; it was refused for the moment.
    not_before: Instant,
    is_under_way: bool,
}

enum Asked {
    Write(Arc<str>),
    Read(Place, u64),
    Pull { place: Place, after: u64, limit: u64, to: Option<u64> },
}

/// What a connection is to do next.
#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    Leave,
}

impl Device {
    /// A device that has seen nothing.
    pub fn new(
        world: Rc<World>,
        number: usize,
        user: usize,
        token: String,
        places: Vec<Place>,
        seed: u64,
        acknowledges: bool,
    ) -> Device {
        let count = world.conversations.len();
        let state = State {
            rng: StdRng::seed_from_u64(seed ^ (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            history: History { user, places, events: Vec::new() },
            pending: VecDeque::new(),
            said: 0,
            next_ref: 1,
            asked: Vec::new(),
            to_pull: VecDeque::new(),
            last: vec![None; count],
            greatest: vec![0; count],
            own: vec![Vec::new(); count],
            is_open: false,
            is_drained: false,
            after_ms: 0,
        };
        Device { world, number, token, acknowledges, state: RefCell::new(state) }
    }

    /// Whether it is connected, everything it said is answered, and what it was to pull is pulled.
    pub fn is_quiet(&self) -> bool {
        let state = self.state.borrow();
        state.is_open && state.is_drained && state.pending.is_empty() && state.to_pull.is_empty()
    }

    /// Where it was not shown the end on its present connection.
    pub fn behind(&self, tops: &[u64]) -> Vec<(Place, Option<u64>, u64)> {
        let state = self.state.borrow();
        let places = state.history.places.iter().filter_map(|place| {
            let (last, top) = (*state.last.get(*place)?, *tops.get(*place)?);
            // Where everything was acknowledged before this connection, nothing comes on it.
            let has = last.unwrap_or_else(|| state.greatest.get(*place).copied().unwrap_or_default());
            (has < top).then_some((*place, last, top))
        });
        places.collect()
    }

    /// Writes down that it was not shown the end.
    pub fn is_stale(&self, place: Place, last: Option<u64>, top: u64) {
        self.state.borrow_mut().history.events.push(Event::Stale { place, last, top });
    }

    /// What it saw.
    pub fn history(&self) -> History {
        self.state.borrow().history.clone()
    }

    /// Lives until the end.
    pub async fn live(self: Rc<Self>) {
        while self.world.phase.get() != Phase::End {
            let (door, away_ms) = {
                let mut state = self.state.borrow_mut();
                let door = state.rng.random_range(0..self.world.doors.len());
                (door, state.rng.random_range(0..100) + std::mem::take(&mut state.after_ms).min(AWAY_MAX_MS))
            };
            sleep(Duration::from_millis(away_ms)).await;
            let Some(addr) = self.world.doors.get(door) else {
                return;
            };
            if let Ok(Ok((writer, reader))) = timeout(DIAL_MAX, dial(*addr, "/v1/ws", Some("nova.v1"))).await
            {
                self.connected(&writer, reader).await;
                writer.close();
                let mut state = self.state.borrow_mut();
                state.is_open = false;
                state.is_drained = false;
                state.asked.clear();
                state.pending.iter_mut().for_each(|pending| pending.is_under_way = false);
            }
        }
    }

    /// One connection, to its end.
    async fn connected(&self, writer: &Writer, mut reader: Reader) {
        writer.say(&json!({ "type": "connect", "ref": 0, "token": self.token }).to_string());
        let (began, stampede) = (Instant::now(), self.world.stampede.get());
        let mut act_at = Instant::now();
        loop {
            let mut over = false;
            let read = reader.read(|heard| match heard {
                Heard::Text(text) => self.hear(text),
                Heard::Ping(payload) => writer.pong(payload),
                Heard::Close(_) => over = true,
            });
            // A read that is dropped has taken nothing.
            if let Ok(Err(_)) = timeout(act_at.saturating_duration_since(Instant::now()), read).await {
                return;
            }
            if over || self.world.phase.get() == Phase::End || self.world.stampede.get() != stampede {
                return;
            }
            if Instant::now() >= act_at {
                let pause = self.state.borrow_mut().rng.random_range(PAUSE_MS);
                act_at = Instant::now() + Duration::from_millis(pause);
                let is_open = self.state.borrow().is_open;
                if !is_open && began.elapsed() > ANSWER_MAX || is_open && self.act(writer) == Next::Leave {
                    return;
                }
            }
        }
    }

    fn act(&self, writer: &Writer) -> Next {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let now = Instant::now();
        if state.asked.iter().any(|(_, _, since)| since.elapsed() > ANSWER_MAX) {
            return Next::Leave;
        }
        let is_storm = self.world.phase.get() == Phase::Storm;
        if is_storm && state.rng.random_bool(0.004) {
            return Next::Leave;
        }
        if is_storm && state.pending.len() < UNANSWERED_MAX {
            self.write(state);
        }
        let due =
            state.pending.iter_mut().filter(|pending| !pending.is_under_way && pending.not_before <= now);
        for pending in due {
            pending.is_under_way = true;
            let reference = state.next_ref;
            state.next_ref += 1;
            if let Some(request) = pending.request.as_object_mut() {
                request.insert("ref".to_owned(), reference.into());
            }
            writer.say(&pending.request.to_string());
            state.asked.push((reference, Asked::Write(pending.key.clone()), now));
        }
        let is_pulling = state.asked.iter().any(|(_, asked, _)| matches!(asked, Asked::Pull { .. }));
        if let (false, Some((place, after, to))) = (is_pulling, state.to_pull.front().copied()) {
            self.pull(state, writer, place, after, 500, Some(to));
        } else if is_storm && !is_pulling && state.rng.random_bool(0.05) {
            let Some(place) = pick(&mut state.rng, &state.history.places) else {
                return Next::GoOn;
            };
            let greatest = state.greatest.get(place).copied().unwrap_or_default();
            let (after, limit) = (state.rng.random_range(0..=greatest), state.rng.random_range(1..=500));
            self.pull(state, writer, place, after, limit, None);
        }
        let Some(place) = pick(&mut state.rng, &state.history.places) else {
            return Next::GoOn;
        };
        let last = state.last.get(place).copied().flatten().unwrap_or_default();
        if last > 0 && self.acknowledges && state.rng.random_bool(0.4) && state.to_pull.is_empty() {
            let ack =
                json!({ "type": "ack", "conversation": self.world.conversations.get(place), "seq": last });
            writer.say(&ack.to_string());
        }
        if last > 0 && state.rng.random_bool(0.1) {
            let reference = state.next_ref;
            state.next_ref += 1;
            let conversation = self.world.conversations.get(place);
            let read = json!({ "type": "read", "ref": reference, "conversation": conversation, "seq": last });
            writer.say(&read.to_string());
            state.asked.push((reference, Asked::Read(place, last), now));
        }
        Next::GoOn
    }

    /// Makes up something to say; it is said until it is answered.
    fn write(&self, state: &mut State) {
        let Some(place) = pick(&mut state.rng, &state.history.places) else {
            return;
        };
        let conversation = self.world.conversations.get(place);
        state.said += 1;
        let key = format!("d{}-{}", self.number, state.said);
        let own = state.own.get(place).and_then(|own| own.last()).copied();
        let greatest = state.greatest.get(place).copied().unwrap_or_default();
        let request = match (state.rng.random_range(0..20), own) {
            (0, Some(target)) => {
                json!({ "type": "edit", "conversation": conversation, "client_msg_id": key, "target": target, "text": "better" })
            }
            (1 | 2, Some(target)) if greatest > 0 => {
                let on = state.rng.random_bool(0.7);
                json!({ "type": "react", "conversation": conversation, "client_msg_id": key, "target": target, "emoji": "👍", "on": on })
            }
            _ => {
                json!({ "type": "send", "conversation": conversation, "client_msg_id": key, "text": format!("word {}", state.said) })
            }
        };
        let pending =
            Pending { key: key.into(), place, request, not_before: Instant::now(), is_under_way: false };
        state.pending.push_back(pending);
    }

    fn pull(
        &self,
        state: &mut State,
        writer: &Writer,
        place: Place,
        after: u64,
        limit: u64,
        to: Option<u64>,
    ) {
        let reference = state.next_ref;
        state.next_ref += 1;
        let conversation = self.world.conversations.get(place);
        let pull = json!({
            "type": "pull", "ref": reference, "conversation": conversation, "epoch": 1, "after": after, "limit": limit,
        });
        writer.say(&pull.to_string());
        state.asked.push((reference, Asked::Pull { place, after, limit, to }, Instant::now()));
    }

    fn hear(&self, text: &[u8]) {
        let Ok(said) = serde_json::from_slice::<Value>(text) else {
            return;
        };
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let number = |field: &str| said.get(field).and_then(Value::as_u64).unwrap_or_default();
        let place = || self.place(&said);
        match said.get("type").and_then(Value::as_str).unwrap_or_default() {
            "connected" => {
                state.is_open = true;
                state.last.fill(None);
                state.history.events.push(Event::Connected);
                self.world.connects.set(self.world.connects.get() + 1);
            }
            "drained" => state.is_drained = true,
            "entry" => {
                let Some(told) = self.told(&said) else { return };
                if let (Some(last), Some(greatest)) =
                    (state.last.get_mut(told.place), state.greatest.get_mut(told.place))
                {
                    *last = Some(told.seq);
                    *greatest = told.seq.max(*greatest);
                }
                state.history.events.push(Event::Entry(told));
                self.world.shown.set(self.world.shown.get() + 1);
            }
            "gap" => {
                let Some(place) = place() else { return };
                let (from, to) = (number("from"), number("to"));
                state.history.events.push(Event::Gap { place, from, to });
                if let (Some(last), Some(greatest)) =
                    (state.last.get_mut(place), state.greatest.get_mut(place))
                {
                    *last = Some(to);
                    *greatest = to.max(*greatest);
                }
                state.to_pull.push_back((place, from.saturating_sub(1), to));
            }
            "goodbye" => state.after_ms = number("after_ms"),
            "sent" | "ok" | "entries" | "error" => {
                let reference = number("ref");
                let Some(at) = state.asked.iter().position(|(asked, ..)| *asked == reference) else {
                    return;
                };
                let (_, asked, _) = state.asked.swap_remove(at);
                self.answered(state, asked, &said);
            }
            _ => {}
        }
    }

    fn answered(&self, state: &mut State, asked: Asked, said: &Value) {
        let number = |field: &str| said.get(field).and_then(Value::as_u64).unwrap_or_default();
        let error = (said.get("type").and_then(Value::as_str) == Some("error"))
            .then(|| said.get("code").and_then(Value::as_str).unwrap_or_default());
        match asked {
            Asked::Write(key) => {
                let Some(at) = state.pending.iter().position(|pending| pending.key == key) else {
                    return;
                };
                match error {
                    Some("unavailable" | "overloaded" | "internal" | "draining" | "rate_limited") => {
                        if let Some(pending) = state.pending.get_mut(at) {
                            pending.is_under_way = false;
                            pending.not_before = Instant::now() + Duration::from_millis(300);
                        }
                    }
                    Some(code) => {
                        state.pending.remove(at);
                        state.history.events.push(Event::Refused { key, code: code.to_owned() });
                    }
                    None => {
                        let Some(Pending { place, request, .. }) = state.pending.remove(at) else {
                            return;
                        };
                        let (epoch, seq) = (number("epoch"), number("seq"));
                        if let (Some(own), Some("send")) =
                            (state.own.get_mut(place), request.get("type").and_then(Value::as_str))
                        {
                            own.push(seq);
                        }
                        state.history.events.push(Event::Sent(Told { place, epoch, seq, key }));
                        self.world.acknowledged.set(self.world.acknowledged.get() + 1);
                    }
                }
            }
            Asked::Read(place, seq) => {
                if error.is_none() {
                    state.history.events.push(Event::Read { place, seq });
                }
            }
            Asked::Pull { place, after, limit, to } => {
                if error.is_some() {
                    // What must be pulled is still in line.
                    return;
                }
                let entries = said.get("entries").and_then(Value::as_array).map(Vec::as_slice);
                let entries: Vec<Told> =
                    entries.unwrap_or_default().iter().filter_map(|entry| self.told(entry)).collect();
                let end = entries.last().map_or(after, |told| told.seq);
                let recovered = said.get("recovered").and_then(Value::as_bool).unwrap_or_default();
                let top = number("top");
                state.history.events.push(Event::Pulled { place, after, limit, top, recovered, entries });
                if let Some(to) = to {
                    state.to_pull.pop_front();
                    if recovered && end < to && end > after {
                        state.to_pull.push_front((place, end, to));
                    }
                }
            }
        }
    }

    fn place(&self, said: &Value) -> Option<Place> {
        let id = said.get("conversation")?.as_str()?;
        self.world.conversations.iter().position(|known| known == id)
    }

    fn told(&self, entry: &Value) -> Option<Told> {
        Some(Told {
            place: self.place(entry)?,
            epoch: entry.get("epoch")?.as_u64()?,
            seq: entry.get("seq")?.as_u64()?,
            key: entry.get("client_msg_id")?.as_str()?.into(),
        })
    }
}

fn pick(rng: &mut StdRng, places: &[Place]) -> Option<Place> {
    let at = rng.random_range(0..places.len().max(1));
    places.get(at).copied()
}
