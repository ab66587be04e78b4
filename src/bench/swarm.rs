//! Many sockets that say something and look at everything they hear: its number, and how long it took.

mod drain;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use nova_actors::id::ConversationId;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::BenchError;
use super::client::{self, Heard, Reader, Writer};

pub use drain::{Drained, Sleeper, drain};

/// Sockets that connect at the same time.
const DIALS: usize = 64;
/// How long one may take until it is connected and its queue is drained.
const DIAL_MAX: Duration = Duration::from_secs(60);
/// What a text begins with that carries the time of its sending.
const STAMP: &[u8] = b"\"text\":\"@";

/// What is spoken on the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Speech {
    /// `nova.v1`.
    Nova,
    /// The peer over plain WebSocket messages (`benches/peers/ws.js`).
    Ws,
    /// The peer over socket.io 4 (`benches/peers/socketio.js`).
    Socketio,
}

/// One socket.
pub struct Member {
    writer: Writer,
    /// Where it speaks.
    conversation: Cell<Option<ConversationId>>,
    said: Cell<u64>,
    /// The next number of each conversation.
    next: RefCell<Vec<(u64, u64)>>,
    number: usize,
}

/// What all sockets have heard.
#[derive(Default)]
pub struct Tally {
    /// Entries.
    pub deliveries: Cell<u64>,
    /// Entries whose number had come before on the same socket.
    pub repeats: Cell<u64>,
    /// Numbers that were left out.
    pub holes: Cell<u64>,
    /// Answers to what was sent.
    pub sent: Cell<u64>,
    /// Messages that were said.
    pub said: Cell<u64>,
    /// Sockets that ended.
    pub ended: Cell<u64>,
    /// Refusals by their code, and goodbyes.
    pub refusals: RefCell<BTreeMap<String, u64>>,
    /// From saying to the answer, in microseconds.
    pub sent_us: RefCell<Vec<u32>>,
    /// From saying to hearing it on another socket, in microseconds.
    pub heard_us: RefCell<Vec<u32>>,
    /// Times are kept.
    is_timing: Cell<bool>,
    /// Whoever is answered says the next thing at once.
    is_looping: Cell<bool>,
    changed: Notify,
}

/// Many sockets.
pub struct Swarm {
    members: Vec<Rc<Member>>,
    shared: Rc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    speech: Speech,
    began: Instant,
    tally: Tally,
    /// The text after its time.
    padding: String,
    in_flight: RefCell<HashMap<(usize, u64), u32>>,
    run: String,
}

impl Shared {
    /// Of one socket that says nothing.
    fn alone() -> Shared {
        Shared {
            speech: Speech::Nova,
            began: Instant::now(),
            tally: Tally::default(),
            padding: String::new(),
            in_flight: RefCell::default(),
            run: String::new(),
        }
    }

    fn now_us(&self) -> u32 {
        u32::try_from(self.began.elapsed().as_micros()).unwrap_or(u32::MAX)
    }
}

/// One socket to be.
#[derive(Debug, Clone)]
pub struct Dial {
    /// Where to.
    pub addr: SocketAddr,
    /// The access token; what is no Nova asks for none.
    pub token: String,
}

impl Swarm {
    /// A swarm of nobody that will say `bytes` of text at a time.
    pub fn new(speech: Speech, bytes: usize) -> Swarm {
        let shared = Shared {
            speech,
            began: Instant::now(),
            tally: Tally::default(),
            padding: "x".repeat(bytes.saturating_sub(12)),
            in_flight: RefCell::default(),
            run: uuid::Uuid::now_v7().simple().to_string(),
        };
        Swarm { members: Vec::new(), shared: Rc::new(shared), tasks: JoinSet::new() }
    }

    /// What was heard.
    pub fn tally(&self) -> &Tally {
        &self.shared.tally
    }

    /// How many sockets there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Connects more, and returns when all are let in and have nothing waiting for them.
    pub async fn dial(&mut self, dials: Vec<Dial>) -> Result<(), BenchError> {
        let gate = Rc::new(Semaphore::new(DIALS));
        let mut opening = JoinSet::new();
        for (at, dial) in dials.into_iter().enumerate() {
            let number = self.members.len() + at;
            let (gate, shared) = (gate.clone(), self.shared.clone());
            opening.spawn_local(async move {
                let _permit = gate.acquire().await;
                let opened = timeout(DIAL_MAX, open(number, &dial, &shared)).await;
                opened.map_err(|_| BenchError::because("a socket was not let in for a minute"))?
            });
        }
        while let Some(opened) = opening.join_next().await {
            let (member, reader) = opened.map_err(BenchError::because)??;
            self.tasks.spawn_local(listen(member.clone(), reader, self.shared.clone()));
            self.members.push(member);
        }
        self.members.sort_by_key(|member| member.number);
        Ok(())
    }

    /// Says where a socket speaks.
    pub fn place(&self, member: usize, conversation: ConversationId) {
        if let Some(member) = self.members.get(member) {
            member.conversation.set(Some(conversation));
        }
    }

    /// Has a socket say something now.
    pub fn say(&self, member: usize) {
        if let Some(member) = self.members.get(member) {
            member.say(&self.shared);
        }
    }

    /// Says `rate` things a second for `seconds`, by the socket `who` names for each.
    pub async fn say_steadily(&self, rate: f64, seconds: f64, who: impl Fn(u64) -> usize) -> u64 {
        let began = Instant::now();
        let all = (rate * seconds).round() as u64;
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        let mut said = 0;
        while said < all {
            ticks.tick().await;
            let due = ((began.elapsed().as_secs_f64() * rate) as u64 + 1).min(all);
            for number in said..due {
                self.say(who(number));
            }
            said = due;
        }
        said
    }

    /// From now on everybody who is answered says the next thing at once, `window` at a time each; until told otherwise.
    pub fn loop_on(&self, window: usize) {
        self.shared.tally.is_looping.set(true);
        for member in &self.members {
            for _ in 0..window {
                member.say(&self.shared);
            }
        }
    }

    /// No more of that.
    pub fn loop_off(&self) {
        self.shared.tally.is_looping.set(false);
    }

    /// Whether times are kept from now on; those kept before are forgotten.
    pub fn time(&self, on: bool) {
        let tally = &self.shared.tally;
        if on {
            tally.sent_us.borrow_mut().clear();
            tally.heard_us.borrow_mut().clear();
        }
        tally.is_timing.set(on);
    }

    /// Waits until `enough` of what was heard, or until `within` has passed; whether it was enough.
    pub async fn hears(&self, within: Duration, enough: impl Fn(&Tally) -> bool) -> bool {
        let tally = &self.shared.tally;
        let heard = async {
            loop {
                let changed = tally.changed.notified();
                if enough(tally) {
                    return;
                }
                changed.await;
            }
        };
        timeout(within, heard).await.is_ok()
    }

    /// Ends all.
    pub async fn leave(mut self) {
        for member in &self.members {
            member.writer.close();
        }
        self.tasks.shutdown().await;
    }
}

impl Member {
    fn say(&self, shared: &Shared) {
        let said = self.said.get();
        self.said.set(said + 1);
        shared.tally.said.set(shared.tally.said.get() + 1);
        let now_us = shared.now_us();
        let mut text = String::with_capacity(512);
        let padding = &shared.padding;
        let written = match (shared.speech, self.conversation.get()) {
            (Speech::Nova, Some(conversation)) => {
                let (number, run) = (self.number, &shared.run);
                shared.in_flight.borrow_mut().insert((number, said), now_us);
                write!(
                    text,
                    r#"{{"type":"send","ref":{said},"conversation":"{conversation}","client_msg_id":"{run}-{number}-{said}","text":"@{now_us:010}~{padding}"}}"#
                )
            }
            (Speech::Nova, None) => Ok(()),
            (Speech::Ws, _) => write!(text, r#"{{"type":"send","text":"@{now_us:010}~{padding}"}}"#),
            (Speech::Socketio, _) => write!(text, r#"42["send",{{"text":"@{now_us:010}~{padding}"}}]"#),
        };
        if written.is_ok() && !text.is_empty() {
            self.writer.say(&text);
        }
    }

    fn hear(&self, shared: &Shared, text: &[u8]) {
        let tally = &shared.tally;
        match shared.speech {
            Speech::Nova if text.starts_with(br#"{"type":"entry""#) => self.hear_entry(shared, text),
            Speech::Nova if text.starts_with(br#"{"ref":"#) => self.hear_answer(shared, text),
            Speech::Nova if text.starts_with(br#"{"type":"goodbye""#) => count(tally, text, "goodbye "),
            Speech::Nova => {}
            Speech::Ws => self.hear_entry(shared, text),
            Speech::Socketio if text.starts_with(b"42") => self.hear_entry(shared, text),
            Speech::Socketio if text == b"2" => self.writer.say("3"),
            Speech::Socketio => {}
        }
        tally.changed.notify_waiters();
    }

    fn hear_entry(&self, shared: &Shared, text: &[u8]) {
        let tally = &shared.tally;
        tally.deliveries.set(tally.deliveries.get() + 1);
        // Conversations differ in the last characters of their ids.
        let conversation = find(text, b"\"conversation\":\"").and_then(|id| {
            let id = id.get(..id.iter().position(|byte| *byte == b'"')?)?;
            id.last_chunk().map(|tail| u64::from_le_bytes(*tail))
        });
        let conversation = conversation.unwrap_or_default();
        let seq = find(text, b"\"seq\":").map(digits).unwrap_or_default();
        let mut all = self.next.borrow_mut();
        match all.iter_mut().find(|(known, _)| *known == conversation) {
            None => all.push((conversation, seq + 1)),
            Some((_, next)) if seq < *next => tally.repeats.set(tally.repeats.get() + 1),
            Some((_, next)) => {
                tally.holes.set(tally.holes.get() + seq - *next);
                *next = seq + 1;
            }
        }
        if tally.is_timing.get()
            && let Some(stamp) = find(text, STAMP)
        {
            let took = shared.now_us().saturating_sub(u32::try_from(digits(stamp)).unwrap_or(u32::MAX));
            tally.heard_us.borrow_mut().push(took);
        }
    }

    fn hear_answer(&self, shared: &Shared, text: &[u8]) {
        let tally = &shared.tally;
        let reference = find(text, br#"{"ref":"#).map(digits).unwrap_or_default();
        let said_us = shared.in_flight.borrow_mut().remove(&(self.number, reference));
        if find(text, br#""type":"sent""#).is_some() {
            tally.sent.set(tally.sent.get() + 1);
            if let (true, Some(said_us)) = (tally.is_timing.get(), said_us) {
                tally.sent_us.borrow_mut().push(shared.now_us().saturating_sub(said_us));
            }
        } else {
            count(tally, text, "");
        }
        if tally.is_looping.get() {
            self.say(shared);
        }
    }
}

fn count(tally: &Tally, text: &[u8], before: &str) {
    let code = find(text, b"\"code\":").unwrap_or_default();
    let code = code.split(|byte| *byte == b',').next().unwrap_or_default();
    let code = String::from_utf8_lossy(code);
    let code = format!("{before}{}", code.trim_matches('"'));
    *tally.refusals.borrow_mut().entry(code).or_default() += 1;
}

/// What follows the first `what`.
fn find<'a>(text: &'a [u8], what: &[u8]) -> Option<&'a [u8]> {
    let first = *what.first()?;
    let mut rest = text;
    loop {
        let at = rest.iter().position(|byte| *byte == first)?;
        rest = rest.get(at..)?;
        match rest.strip_prefix(what) {
            Some(found) => return Some(found),
            None => rest = rest.get(1..)?,
        }
    }
}

/// The number at the front.
fn digits(text: &[u8]) -> u64 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number: u64, digit| number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
}

async fn open(number: usize, dial: &Dial, shared: &Shared) -> Result<(Rc<Member>, Reader), BenchError> {
    let (path, protocol) = match shared.speech {
        Speech::Nova => ("/v1/ws", Some("nova.v1")),
        Speech::Ws => ("/", None),
        Speech::Socketio => ("/socket.io/?EIO=4&transport=websocket", None),
    };
    let (writer, reader) = client::dial(dial.addr, path, protocol).await.map_err(BenchError::because)?;
    enter(number, &dial.token, shared, writer, reader).await
}

/// Is let in, and reads until nothing waits any more.
async fn enter(
    number: usize,
    token: &str,
    shared: &Shared,
    writer: Writer,
    mut reader: Reader,
) -> Result<(Rc<Member>, Reader), BenchError> {
    let (first, last): (Option<String>, &[u8]) = match shared.speech {
        Speech::Nova => {
            let connect = serde_json::json!({ "type": "connect", "ref": 0, "token": token });
            (Some(connect.to_string()), br#"{"type":"drained""#)
        }
        Speech::Ws => (None, b""),
        // Engine.IO is open already when its namespace is asked for: it says so by itself.
        Speech::Socketio => (Some("40".to_owned()), b"40"),
    };
    if let Some(first) = first {
        writer.say(&first);
    }
    let member = Member {
        writer: writer.clone(),
        conversation: Cell::new(None),
        said: Cell::new(1),
        next: RefCell::default(),
        number,
    };
    let (mut is_open, mut refused) = (last.is_empty(), None);
    while !is_open {
        let read = reader.read(|heard| match heard {
            Heard::Text(text) => {
                is_open |= text.starts_with(last);
                if text.starts_with(br#"{"type":"entry""#) {
                    member.hear_entry(shared, text);
                }
                if text.starts_with(br#"{"type":"goodbye""#) || find(text, br#""type":"error""#).is_some() {
                    refused = Some(String::from_utf8_lossy(text).into_owned());
                }
            }
            Heard::Ping(payload) => writer.pong(payload),
            Heard::Close(code) => refused = Some(format!("closed with {code:?}")),
        });
        let read = read.await;
        if let Some(refused) = refused {
            return Err(BenchError::because(format!("a socket was not let in: {refused}")));
        }
        read.map_err(BenchError::because)?;
    }
    Ok((Rc::new(member), reader))
}

async fn listen(member: Rc<Member>, mut reader: Reader, shared: Rc<Shared>) {
    let mut is_over = false;
    while !is_over {
        let read = reader.read(|heard| match heard {
            Heard::Text(text) => member.hear(&shared, text),
            Heard::Ping(payload) => member.writer.pong(payload),
            Heard::Close(_) => is_over = true,
        });
        if read.await.is_err() {
            break;
        }
    }
    let tally = &shared.tally;
    tally.ended.set(tally.ended.get() + 1);
    tally.changed.notify_waiters();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looked_for_is_found_or_not() {
        let text = br#"{"type":"entry","conversation":"conv_abc","epoch":1,"seq":42,"body":{"text":"@0000000123~xx"}}"#;
        assert_eq!(find(text, b"\"seq\":").map(digits), Some(42));
        assert_eq!(find(text, STAMP).map(digits), Some(123));
        assert_eq!(find(b"aaab", b"aab"), Some(&b""[..]));
        assert_eq!(find(b"aaa", b"ab"), None);
        assert_eq!(find(b"", b"a"), None);
    }
}
