//! The task of one connection: reads what arrives, answers, and writes what could not be written at once.
//!
//! Everything happens inside one `poll`, so the task holds nothing but its fields between two events; the read buffer lives on
//! the stack of the thread.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use nova_actors::id::SessionId;

use super::encoded::Class;
use super::frame::{self, FrameError, FrameReader, MESSAGE_BYTES_MAX, Opcode, Received};
use super::goodbye::Goodbye;
use super::hub::{CLOSE_LIMIT_TICKS, Hub};
use super::seam::{DeviceHandle, Hearing, Opening, Refusal};
use super::socket::{Phase, Socket};
use super::wire::{self, Answer, Connect, FromDevice};
use crate::error::Code;

/// Requests of one device whose answers are waited for. When full its socket is read no further, and TCP tells the device.
pub const IN_FLIGHT_MAX: u16 = 32;
/// Bytes read at once, on the stack.
const READ_BYTES: usize = 4 << 10;
/// Reads before others of the thread have their turn.
const READS_MAX: usize = 16;
/// Requests that may be refused for their rate, less those let in since, before the connection ends with 4505.
const STRIKES_MAX: u16 = 100;
/// All pongs of a connection that wait are the latest one (RFC 6455 section 5.5.3).
const PONG_SLOT: u64 = u64::MAX;

type Answered = Result<Option<Answer>, Refusal>;

/// The task of one connection.
pub(super) struct Session {
    hub: Rc<Hub>,
    socket: Rc<Socket>,
    reader: FrameReader,
    /// Read, but not looked at: the socket was paused in the middle. At most a read buffer.
    unread: Bytes,
    /// Whether a broken frame came: what follows cannot be read, and is thrown away until the peer has heard why.
    deaf: bool,
    /// Whether the peer was told that nothing more is said.
    shut: bool,
}

impl Session {
    /// Runs the connection to its end; `early` is what the client sent behind its handshake.
    pub(super) async fn run(hub: Rc<Hub>, socket: Rc<Socket>, early: Bytes) {
        let reader = FrameReader::new(MESSAGE_BYTES_MAX, socket.deflate);
        let mut session = Session { hub, socket, reader, unread: early, deaf: false, shut: false };
        std::future::poll_fn(|cx| session.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let socket = self.socket.clone();
        {
            let mut waker = socket.waker.borrow_mut();
            if waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        if self.poll_read(cx).is_ready() || socket.phase.get() == Phase::Dead {
            return Poll::Ready(());
        }
        if self.poll_write(cx).is_ready() {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Ready when the connection is over.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let socket = &self.socket;
        while !socket.outbox.borrow().is_empty() || socket.wire.holds_bytes() {
            match self.hub.flush(socket) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match socket.wire.poll_write_ready(cx) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(_)) => return Poll::Ready(()),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Err(_) => return Poll::Ready(()),
            }
        }
        if socket.phase.get() != Phase::Closing {
            return Poll::Pending;
        }
        // Both sides have said their close frames: the server ends the connection (RFC 6455 section 7.1.1). With one that broke
        // the rules it waits until the other side has ended it, or for as long as a close frame may take: a socket that is
        // closed over unread bytes is reset, and the goodbye lost.
        if (socket.heard_close.get() || self.deaf) && !self.shut {
            self.shut = true;
            socket.wire.shut_down();
        }
        if socket.heard_close.get() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Ready when the connection is lost.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.unread.is_empty() {
            let unread = std::mem::take(&mut self.unread);
            self.hear_bytes(&unread);
        }
        let mut buffer = [0; READ_BYTES];
        let mut reads = 0;
        while self.unread.is_empty() && !self.is_paused() {
            if reads == READS_MAX {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.socket.wire.try_read(&mut buffer) {
                Ok(0) => return Poll::Ready(()),
                Ok(len) => {
                    reads += 1;
                    self.hear_bytes(buffer.get(..len).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.socket.wire.poll_read_ready(cx) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(_)) => return Poll::Ready(()),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Reading goes on when an answer has left.
    fn is_paused(&self) -> bool {
        match self.socket.phase.get() {
            Phase::Opening | Phase::Dead => true,
            Phase::Open => self.socket.in_flight.get() >= IN_FLIGHT_MAX,
            Phase::Connecting | Phase::Closing => false,
        }
    }

    fn hear_bytes(&mut self, bytes: &[u8]) {
        let mut input = bytes;
        while !input.is_empty() {
            if self.is_paused() {
                self.unread = Bytes::copy_from_slice(input);
                return;
            }
            // After the peer's last words nothing is looked at.
            if self.socket.heard_close.get() || self.deaf {
                return;
            }
            match self.reader.read(&mut input) {
                Ok(None) => return,
                Ok(Some(received)) => {
                    self.hub.tally.frames_in.add(1);
                    // A message or a pong; single bytes of one that never ends are no sign of life.
                    self.socket.unheard.set(false);
                    self.hear(received);
                }
                Err(error) => return self.fail(error),
            }
        }
    }

    fn hear(&mut self, received: Received) {
        let closing = self.socket.phase.get() == Phase::Closing;
        match received {
            Received::Close(code) => {
                self.socket.heard_close.set(true);
                if closing {
                    return;
                }
                self.hub.door.metrics.ws_goodbyes.with_label_values(&["client"]).inc();
                self.socket.phase.set(Phase::Closing);
                let echo = match code {
                    Some((code, _)) => frame::encode_close(code, ""),
                    None => frame::encode(Opcode::Close, b""),
                };
                self.hub.write(&self.socket, Class::Durable, None, &echo);
                self.hub.arm(&self.socket, self.hub.now() + CLOSE_LIMIT_TICKS);
            }
            _ if closing => {}
            Received::Text(text) => self.hear_text(&text),
            Received::Binary(_) => {
                self.hub.leave(&self.socket, Goodbye::ProtocolError, 1003, "nova.v1 is spoken in text");
            }
            Received::Ping(payload) => {
                if self.count_request().is_ok() {
                    let pong = frame::encode(Opcode::Pong, &payload);
                    self.hub.write(&self.socket, Class::Receipt, Some(PONG_SLOT), &pong);
                }
            }
            Received::Pong(_) => {}
        }
    }

    fn fail(&mut self, error: FrameError) {
        self.hub.leave(&self.socket, Goodbye::ProtocolError, error.close_code(), &error.to_string());
        self.deaf = true;
    }

    /// `Err` says in how many milliseconds another is let in; too many of those end the connection.
    fn count_request(&self) -> Result<(), u64> {
        let (door, socket) = (&self.hub.door, &self.socket);
        let now = door.now();
        let counted = match door.request_rate {
            Some(rate) => rate.take(&socket.meter, now),
            None => Ok(()),
        };
        let counted = counted.and_then(|()| match (door.user_request_rate, socket.user_meter.get()) {
            (Some(rate), Some(meter)) => rate.take(meter, now),
            _ => Ok(()),
        });
        let strikes = socket.strikes.get();
        match counted {
            Ok(()) => {
                socket.strikes.set(strikes.saturating_sub(1));
                Ok(())
            }
            Err(wait) => {
                door.metrics.rate_limited.with_label_values(&["socket"]).inc();
                socket.strikes.set(strikes + 1);
                if strikes + 1 > STRIKES_MAX {
                    self.hub.goodbye(socket, Goodbye::RateLimit);
                }
                Err(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1))
            }
        }
    }

    fn refuse(&self, reference: Option<u64>, refusal: &Refusal) {
        let Refusal { code, detail, retry_after_ms } = refusal;
        let message = wire::refuse(reference, *code, detail, *retry_after_ms);
        self.hub.send(&self.socket, Class::Durable, None, &message);
    }

    fn hear_text(&mut self, text: &str) {
        let counted = self.count_request();
        let read = wire::read(text);
        if let Err(retry_after_ms) = counted {
            let reference =
                read.as_ref().map_or_else(|refused| refused.reference, |(reference, _)| *reference);
            let refusal =
                Refusal { retry_after_ms: Some(retry_after_ms), ..Refusal::from(Code::RateLimited) };
            return self.refuse(reference, &refusal);
        }
        let (reference, request) = match read {
            Ok(read) => read,
            Err(wire::Refused { reference, code, detail }) => {
                self.refuse(reference, &Refusal { code, detail, retry_after_ms: None });
                if self.socket.phase.get() == Phase::Connecting {
                    self.hub.goodbye(&self.socket, Goodbye::ProtocolError);
                }
                return;
            }
        };
        match (self.socket.phase.get(), request) {
            (Phase::Connecting, FromDevice::Connect(connect)) => {
                self.open(reference.unwrap_or_default(), connect)
            }
            (Phase::Connecting, _) => self.hub.goodbye(&self.socket, Goodbye::ProtocolError),
            (_, FromDevice::Connect(_)) => {
                let detail = "connected already".to_owned();
                self.refuse(reference, &Refusal { code: Code::Conflict, detail, retry_after_ms: None });
            }
            (_, FromDevice::Ping(_)) => {
                let pong = Answer::Pong { at: self.hub.door.clock.now() };
                self.in_flight(reference).answer(Ok(Some(pong)));
            }
            (_, FromDevice::Refresh(refresh)) => self.refresh(reference, refresh.token),
            (_, request) => {
                let Some(device) = self.socket.handle.get() else { return };
                match self.hub.door.deciders.hear(device, request) {
                    Hearing::Now(answered) => self.in_flight(reference).answer(answered),
                    Hearing::Later(later) => self.answer_later(reference, later),
                }
            }
        }
    }

    fn in_flight(&self, reference: Option<u64>) -> InFlight {
        self.socket.in_flight.set(self.socket.in_flight.get() + 1);
        InFlight { hub: self.hub.clone(), socket: self.socket.clone(), reference, answered: false }
    }

    fn answer_later(&self, reference: Option<u64>, later: LocalBoxFuture<'static, Answered>) {
        let in_flight = self.in_flight(reference);
        actix_rt::spawn(async move { in_flight.answer(later.await) });
    }

    fn refresh(&self, reference: Option<u64>, token: String) {
        let (hub, socket) = (self.hub.clone(), self.socket.clone());
        let verified = hub.door.tokens.verify(token);
        self.answer_later(
            reference,
            Box::pin(async move {
                let believed = verified.await.map_err(|goodbye| Refusal {
                    code: Code::InvalidToken,
                    detail: goodbye.reason().to_owned(),
                    retry_after_ms: None,
                })?;
                if socket
                    .handle
                    .get()
                    .is_none_or(|known| (known.user(), known.device()) != (believed.user, believed.device))
                {
                    let detail = "this token belongs to another user or device".to_owned();
                    return Err(Refusal { code: Code::InvalidToken, detail, retry_after_ms: None });
                }
                socket.expires_at.set(hub.door.expiry_tick(&believed, hub.now()));
                hub.arm(&socket, socket.ping_at.get().min(socket.expires_at.get()));
                Ok(Some(Answer::Ok))
            }),
        );
    }

    fn open(&self, reference: u64, connect: Connect) {
        self.socket.phase.set(Phase::Opening);
        let opening = Gate { hub: self.hub.clone(), socket: self.socket.clone() };
        actix_rt::spawn(async move {
            if let Err(goodbye) = opening.open(reference, connect).await {
                opening.hub.goodbye(&opening.socket, goodbye);
            }
        });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let (hub, socket) = (&self.hub, &self.socket);
        socket.phase.set(Phase::Dead);
        socket.wants_room.take();
        hub.tally.outbox(socket.outbox.borrow().bytes(), 0);
        hub.remove(socket);
        if let Some(device) = socket.handle.get() {
            hub.door.roster.leave(device);
            if socket.opened.get() {
                hub.door.deciders.closed(device);
            }
        }
        hub.door.left();
    }
}

/// A socket between `connect` and `connected`. The broken future of a decider leaves it to the deadline of the wheel.
struct Gate {
    hub: Rc<Hub>,
    socket: Rc<Socket>,
}

impl Gate {
    async fn open(&self, reference: u64, connect: Connect) -> Result<(), Goodbye> {
        let (hub, socket) = (&self.hub, &self.socket);
        let door = &hub.door;
        let Connect { token, client, focus } = connect;
        let believed = door.tokens.verify(token).await?;
        if socket.phase.get() != Phase::Opening {
            return Ok(());
        }
        let device =
            DeviceHandle::new(&believed, SessionId::new(door.clock.now()), socket.key, hub.sender.clone());
        let joined = door
            .roster
            .join(device.clone(), door.config.ws_sockets_per_user as usize)
            .map_err(|_| Goodbye::RateLimit)?;
        // From here on the end of the session clears up after this.
        let _: Result<(), DeviceHandle> = socket.handle.set(device.clone());
        let _: Result<(), _> = socket.user_meter.set(joined.meter);
        if let Some(replaced) = joined.replaced {
            actix_rt::spawn(async move { replaced.goodbye(Goodbye::Replaced).await });
        }
        let welcome = door.deciders.open(Opening { device: device.clone(), client, focus }).await?;
        if socket.phase.get() != Phase::Opening {
            door.deciders.closed(&device);
            return Ok(());
        }
        socket.opened.set(true);
        socket.phase.set(Phase::Open);
        let now = hub.now();
        // The first ping comes anywhere within the interval, so that those who came together are not pinged together.
        let ping_ticks = door.config.ping_ticks();
        socket.ping_at.set(now + 1 + door.random() % ping_ticks);
        socket.expires_at.set(door.expiry_tick(&believed, now));
        hub.arm(socket, socket.ping_at.get().min(socket.expires_at.get()));
        let connected = Answer::Connected {
            session: device.session(),
            user: device.user(),
            device: device.device(),
            ping_interval_ms: ping_ticks * 1_000,
            limits: door.config.announced(),
            queue: welcome.queue,
        };
        hub.send(socket, Class::Durable, None, &wire::answer(reference, &connected));
        door.metrics.ws_connects.with_label_values(&["accepted"]).inc();
        let outcome = match (welcome.gaps, welcome.queue) {
            (0, 0) => "current",
            (0, _) => "replayed",
            _ => "gap",
        };
        door.metrics.ws_resumes.with_label_values(&[outcome]).inc();
        door.metrics.ws_queue_entries.observe(welcome.queue as f64);
        if let Some(then) = welcome.then {
            actix_rt::spawn(then);
        }
        socket.wake();
        Ok(())
    }
}

/// A request whose answer is owed. A decider that breaks answers `internal`.
struct InFlight {
    hub: Rc<Hub>,
    socket: Rc<Socket>,
    reference: Option<u64>,
    answered: bool,
}

impl InFlight {
    fn answer(mut self, answered: Answered) {
        self.answered = true;
        let message = match (answered, self.reference) {
            (Ok(answer), Some(reference)) => wire::answer(reference, &answer.unwrap_or(Answer::Ok)),
            (Ok(_), None) => return,
            (Err(Refusal { code, detail, retry_after_ms }), reference) => {
                wire::refuse(reference, code, &detail, retry_after_ms)
            }
        };
        self.hub.send(&self.socket, Class::Durable, None, &message);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let in_flight = self.socket.in_flight.get();
        self.socket.in_flight.set(in_flight - 1);
        if in_flight == IN_FLIGHT_MAX {
            self.socket.wake();
        }
        if !self.answered {
            let message = wire::refuse(self.reference, Code::Internal, Code::Internal.title(), None);
            self.hub.send(&self.socket, Class::Durable, None, &message);
        }
    }
}
