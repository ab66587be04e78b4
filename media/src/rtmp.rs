//! The server's side of an RTMP publish, without a socket and without a clock.
//!
//! [`Ingest`] takes the bytes of one connection as they come and the time they came at, and gives what is to be done:
//! bytes to send back, a key to be judged, media to pass on, and at last the reason why it is over.
//!
//! ```
//! use std::time::Instant;
//! use nova_media::rtmp::{Ingest, Output};
//!
//! # let (bytes_from_socket, key_is_known) = ([3u8; 0], true);
//! let mut ingest = Ingest::new(Instant::now(), 42);
//! for output in ingest.handle_input(Instant::now(), &bytes_from_socket) {
//!     match output {
//!         Output::Reply(bytes) => { /* write them to the socket */ }
//!         Output::PublishRequested(request) => { /* look the key up, then accept or refuse */ }
//!         Output::Media(media) => { /* pass it on */ }
//!         Output::Metadata(about) => { /* show it to the broadcaster */ }
//!         Output::Ended(reason) => { /* flush, close, log the reason */ }
//!     }
//! }
//! # let _ = key_is_known;
//! ```
//!
//! The listener's part: call [`Ingest::handle_timeout`] when [`Ingest::next_deadline`] has passed; answer every
//! [`Output::PublishRequested`] with [`Ingest::accept_publish`] or [`Ingest::refuse_publish`]; after [`Output::Ended`] send what is
//! left and close, but when the publisher ended it ([`EndReason::Unpublished`]) give it a moment to close first: GStreamer
//! reports a lost connection otherwise.
//!
//! What goes wrong is an output too, not an error: whatever was whole before it has its effect, and the outputs are the
//! same however the bytes were cut into reads. What one connection may cost and how long it may take is in [`limits`].
//!
//! Sources: Adobe's RTMP 1.0 and FLV 10.1 documents, enhanced RTMP v2, and what encoders do instead.

pub mod amf0;
pub mod chunk;
mod command;
pub mod flv;
pub mod handshake;
pub mod limits;
mod output;
mod tracks;

use std::time::Instant;

use bytes::Bytes;

use crate::bits::{ByteReader, Read};
use crate::frame::Track;
use amf0::Value;
use chunk::{Assembler, Message, Received};
use command::{Command, Connect};
use handshake::{Handshake, Progress};
use limits::{
    COMMAND_BYTES_MAX, CONFIGURATION_TIMEOUT, FIRST_MEDIA_TIMEOUT, HANDSHAKE_TIMEOUT, HELD_BYTES_MAX,
    HELD_MESSAGES_MAX, IDLE_TIMEOUT, PUBLISH_TIMEOUT,
};
use tracks::Tracks;

pub use command::{FOUR_CCS_AUDIO, FOUR_CCS_VIDEO, PublishRequest, kind};
pub use output::{Deadline, EndReason, Error, Metadata, Output};
pub use tracks::{Dropped, Report};

/// One connection of one publisher; see the [module documentation](self).
#[derive(Debug)]
pub struct Ingest {
    state: State,
    assembler: Assembler,
    tracks: Tracks,
    heard: Instant,
    connect: Option<Box<Connect>>,
    metadata: Option<Metadata>,
    streams_created: u32,
    bytes_in: u64,
    outputs: Vec<Output>,
}

#[derive(Debug)]
enum State {
    Handshake {
        handshake: Handshake,
        until: Instant,
    },
    /// Between the handshake and publish.
    Commands {
        until: Instant,
    },
    /// The key is being judged; that takes as long as it takes, and is not the publisher's fault.
    Judging {
        stream_id: u32,
        held: Vec<Message>,
        held_bytes: usize,
    },
    Publishing {
        stream_id: u32,
        first_media_until: Instant,
        /// Set by the first media that could not be passed on.
        configuration_until: Option<Instant>,
    },
    Ended,
}

impl Ingest {
    /// A connection that was accepted at `now`. `seed` should differ from one connection to the next; nothing secret
    /// is made of it.
    pub fn new(now: Instant, seed: u64) -> Self {
        Self {
            state: State::Handshake { handshake: Handshake::new(seed), until: now + HANDSHAKE_TIMEOUT },
            assembler: Assembler::new(),
            tracks: Tracks::default(),
            heard: now,
            connect: None,
            metadata: None,
            streams_created: 0,
            bytes_in: 0,
            outputs: Vec::new(),
        }
    }

    /// Takes bytes that came at `now`, in any pieces.
    pub fn handle_input(&mut self, now: Instant, mut input: &[u8]) -> Vec<Output> {
        self.expire(now, input.is_empty());
        self.bytes_in += input.len() as u64;
        if !input.is_empty() {
            self.heard = now;
        }
        while let State::Handshake { handshake, .. } = &mut self.state {
            match handshake.read(&mut input) {
                Ok(Progress::Waiting) => break,
                Ok(Progress::Answer(answer)) => self.outputs.push(Output::Reply(answer)),
                Ok(Progress::Done) => self.state = State::Commands { until: now + PUBLISH_TIMEOUT },
                Err(error) => self.end(EndReason::Protocol(error)),
            }
        }
        while !matches!(self.state, State::Handshake { .. } | State::Ended) {
            match self.assembler.read(&mut input) {
                Ok(None) => break,
                Ok(Some(Received::Acknowledge(total))) => self.reply(command::acknowledgement(total)),
                Ok(Some(Received::Message(message))) => {
                    if !self.handle_control(&message)
                        && let Some(message) = self.hold(message)
                    {
                        self.handle_message(now, &message);
                    }
                }
                Err(error) => self.fail(error),
            }
        }
        std::mem::take(&mut self.outputs)
    }

    /// When [`Ingest::handle_timeout`] is due, unless something comes before. None while the key is being judged and after the end.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadline().map(|(at, _)| at)
    }

    /// Ends what is overdue at `now`.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Output> {
        self.expire(now, true);
        std::mem::take(&mut self.outputs)
    }

    /// Lets the waiting publisher begin. What it already sent is taken up with the answer. Without one waiting, nothing happens.
    pub fn accept_publish(&mut self, now: Instant) -> Vec<Output> {
        if let State::Judging { stream_id, held, .. } = &mut self.state {
            let (stream_id, held) = (*stream_id, std::mem::take(held));
            self.heard = now;
            self.state = State::Publishing {
                stream_id,
                first_media_until: now + FIRST_MEDIA_TIMEOUT,
                configuration_until: None,
            };
            self.reply(command::started(stream_id));
            for message in held {
                if !self.has_ended() {
                    self.handle_message(now, &message);
                }
            }
        }
        std::mem::take(&mut self.outputs)
    }

    /// Turns the waiting publisher away, with words its user will read. Without one waiting, nothing happens.
    pub fn refuse_publish(&mut self, description: &str) -> Vec<Output> {
        if let State::Judging { stream_id, .. } = self.state {
            self.reply(command::status(stream_id, "error", "NetStream.Publish.BadName", description));
            self.end(EndReason::Refused);
        }
        std::mem::take(&mut self.outputs)
    }

    /// Ends the connection from this side, as when another publisher took over, with words for the user.
    pub fn close(&mut self, description: &str) -> Vec<Output> {
        if !matches!(self.state, State::Ended) {
            if !matches!(self.state, State::Handshake { .. }) {
                self.reply(command::status(0, "error", "NetConnection.Connect.Closed", description));
            }
            self.end(EndReason::Closed);
        }
        std::mem::take(&mut self.outputs)
    }

    /// Asks the client to connect again, as before a restart of this node. Gives nothing when the client has not said that it can.
    pub fn request_reconnect(&self, description: &str) -> Option<Bytes> {
        let able = self.connect.as_ref().is_some_and(|connect| connect.reconnects);
        (able && !matches!(self.state, State::Ended))
            .then(|| command::status(0, "status", "NetConnection.Connect.ReconnectRequest", description))
    }

    /// How the broadcast is doing, and what was mended or dropped.
    pub fn report(&self, now: Instant) -> Report {
        self.tracks.report(now)
    }

    /// Bytes received since the connection began.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in
    }

    /// Whether [`Output::Ended`] was given.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    fn deadline(&self) -> Option<(Instant, Deadline)> {
        match &self.state {
            State::Handshake { until, .. } => Some((*until, Deadline::Handshake)),
            State::Commands { until } => Some((*until, Deadline::Publish)),
            State::Publishing { first_media_until, configuration_until, .. } => {
                let idle = (self.heard + IDLE_TIMEOUT, Deadline::Idle);
                if self.tracks.has_begun() {
                    return Some(idle);
                }
                let first = (*first_media_until, Deadline::FirstMedia);
                let configuration = configuration_until.map(|until| (until, Deadline::Configuration));
                [Some(first), configuration].into_iter().flatten().min_by_key(|(at, _)| *at)
            }
            State::Judging { .. } | State::Ended => None,
        }
    }

    fn expire(&mut self, now: Instant, silent: bool) {
        if let Some((at, deadline)) = self.deadline()
            && at <= now
            // Whoever speaks is not idle, even if nobody looked at the clock in between.
            && (silent || deadline != Deadline::Idle)
        {
            let reason = EndReason::TooLate(deadline);
            if let State::Publishing { stream_id, .. } = self.state {
                let words = reason.to_string();
                self.reply(command::status(stream_id, "error", "NetStream.Publish.Failed", &words));
            }
            self.end(reason);
        }
    }

    /// What concerns the cutting into chunks takes effect at once.
    fn handle_control(&mut self, message: &Message) -> bool {
        let number = ByteReader::new(&message.payload).u32();
        match (message.kind, number) {
            (kind::SET_CHUNK_SIZE, Ok(bytes)) => self.assembler.set_chunk_bytes_max(bytes & 0x7fff_ffff),
            (kind::ABORT, Ok(chunk_stream_id)) => self.assembler.abort(chunk_stream_id),
            (kind::WINDOW_ACKNOWLEDGEMENT_SIZE, Ok(bytes)) => self.assembler.set_window_bytes(bytes),
            (kind::SET_CHUNK_SIZE | kind::ABORT | kind::WINDOW_ACKNOWLEDGEMENT_SIZE, Err(_)) => {}
            _ => return false,
        }
        true
    }

    fn handle_message(&mut self, now: Instant, message: &Message) {
        // AMF3 clients write AMF0 behind a zero that would switch back to it.
        let amf0_of_amf3 = || message.payload.strip_prefix(&[0]).unwrap_or(&message.payload);
        let result = match message.kind {
            kind::COMMAND => self.handle_command(message.stream_id, &message.payload),
            kind::COMMAND_AMF3 => self.handle_command(message.stream_id, amf0_of_amf3()),
            other => {
                match other {
                    kind::USER_CONTROL => self.handle_user_control(&message.payload),
                    kind::DATA => self.handle_data(&message.payload),
                    kind::DATA_AMF3 => self.handle_data(amf0_of_amf3()),
                    kind::AUDIO | kind::VIDEO => self.take_media(now, message),
                    kind::AGGREGATE => self.unpack_aggregate(now, message),
                    // Acknowledgements and bandwidth of the peer, shared objects, and what nobody has defined.
                    _ => {}
                }
                Ok(())
            }
        };
        if let Err(error) = result {
            self.fail(error);
        }
    }

    fn handle_user_control(&mut self, payload: &[u8]) {
        const PING_REQUEST: u16 = 6;
        let mut reader = ByteReader::new(payload);
        if reader.u16() == Ok(PING_REQUEST)
            && let Ok(time) = reader.array::<4>()
        {
            self.reply(command::pong(&time));
        }
    }

    fn handle_command(&mut self, stream_id: u32, payload: &[u8]) -> Result<(), Error> {
        if payload.len() > COMMAND_BYTES_MAX {
            return Err(Error::CommandTooLong(payload.len()));
        }
        let command = match amf0::decode(payload) {
            Ok(values) => Command::read(&values),
            // Who is on the air may say what it likes.
            Err(_) if matches!(self.state, State::Publishing { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        match command {
            Some(Command::Connect(connect)) if self.connect.is_none() => {
                self.reply(command::connected(&connect));
                self.connect = Some(connect);
            }
            Some(Command::Connect(_)) => return Err(Error::OutOfTurn("connect")),
            Some(_) if self.connect.is_none() => return Err(Error::OutOfTurn("a command before connect")),
            Some(Command::Formality { transaction, answer }) => {
                self.reply(command::result(transaction, answer));
            }
            Some(Command::CreateStream { transaction }) => {
                self.streams_created = self.streams_created.saturating_add(1);
                self.reply(command::result(transaction, f64::from(self.streams_created).into()));
            }
            Some(Command::Publish { name, kind }) => self.handle_publish(stream_id, &name, kind),
            // Some encoders clear the stage before they enter it; that is no farewell.
            Some(Command::Unpublish) => {
                if let State::Publishing { stream_id, .. } = self.state {
                    let words = "The stream has ended.";
                    self.reply(command::status(stream_id, "status", "NetStream.Unpublish.Success", words));
                    self.end(EndReason::Unpublished);
                }
            }
            Some(Command::Play) => {
                let words = "This server takes streams by RTMP and plays them over HTTP (HLS).";
                self.reply(command::status(stream_id, "error", "NetStream.Play.Failed", words));
                if matches!(self.state, State::Commands { .. }) {
                    self.end(EndReason::PlayRequested);
                }
            }
            Some(Command::Unknown { transaction }) if transaction > 0.0 => {
                self.reply(command::no_such_call(transaction));
            }
            Some(Command::Unknown { .. }) | None => {}
        }
        Ok(())
    }

    fn handle_publish(&mut self, stream_id: u32, name: &str, kind: String) {
        let Some(connect) = &self.connect else { return };
        if !matches!(self.state, State::Commands { .. }) {
            let words = "This connection publishes already.";
            self.reply(command::status(stream_id, "error", "NetStream.Publish.BadName", words));
            return;
        }
        let (key, query) = name.split_once('?').unwrap_or((name, ""));
        let request = PublishRequest {
            app: connect.app.clone(),
            key: key.to_owned(),
            query: query.to_owned(),
            tc_url: connect.tc_url.clone(),
            encoder: connect.flash_ver.clone(),
            kind,
        };
        self.state = State::Judging { stream_id, held: Vec::new(), held_bytes: 0 };
        self.outputs.push(Output::PublishRequested(request));
    }

    fn handle_data(&mut self, payload: &[u8]) {
        if !matches!(self.state, State::Publishing { .. }) || payload.len() > COMMAND_BYTES_MAX {
            return;
        }
        let Ok(values) = amf0::decode(payload) else { return };
        let mut values = values.iter().skip_while(|value| value.text() == Some("@setDataFrame"));
        if values.next().and_then(Value::text) != Some("onMetaData") {
            return;
        }
        if let Some(about) = values.next() {
            let number = |name: &str| about.get(name).and_then(Value::number);
            let about = Metadata {
                encoder: about.get("encoder").and_then(Value::text).map(str::to_owned),
                width: number("width"),
                height: number("height"),
                frames_per_s: number("framerate"),
                video_kbps: number("videodatarate"),
                audio_kbps: number("audiodatarate"),
            };
            // GStreamer repeats it many times a second.
            if self.metadata.as_ref() != Some(&about) {
                self.metadata = Some(about.clone());
                self.outputs.push(Output::Metadata(about));
            }
        }
    }

    /// An aggregate holds whole FLV tags; the first of them has the time of the message (7.1.6).
    fn unpack_aggregate(&mut self, now: Instant, aggregate: &Message) {
        const BACK_POINTER_BYTES: usize = 4;
        let mut reader = ByteReader::new(&aggregate.payload);
        let mut base = None;
        while !reader.is_empty() {
            let Ok((kind, tag_ms, body)) = sub_message(&mut reader) else {
                break;
            };
            let base = *base.get_or_insert(tag_ms);
            if matches!(kind, kind::AUDIO | kind::VIDEO) {
                let message = Message {
                    kind,
                    stream_id: aggregate.stream_id,
                    timestamp_ms: aggregate.timestamp_ms.wrapping_add(tag_ms.wrapping_sub(base)),
                    payload: aggregate.payload.slice_ref(body),
                };
                self.take_media(now, &message);
            } else if kind == kind::DATA {
                self.handle_data(body);
            }
            if reader.skip(BACK_POINTER_BYTES).is_err() {
                break;
            }
        }
    }

    /// While the key is being judged all but the chunk layer waits, so that what comes of it does not depend on when the
    /// verdict fell.
    fn hold(&mut self, message: Message) -> Option<Message> {
        let State::Judging { held, held_bytes, .. } = &mut self.state else { return Some(message) };
        if held.len() >= HELD_MESSAGES_MAX || *held_bytes + message.payload.len() > HELD_BYTES_MAX {
            self.tracks.drop_early();
        } else {
            *held_bytes += message.payload.len();
            held.push(message);
        }
        None
    }

    fn take_media(&mut self, now: Instant, message: &Message) {
        if !matches!(self.state, State::Publishing { .. }) {
            self.tracks.drop_early();
            return;
        }
        let track = if message.kind == kind::VIDEO { Track::Video } else { Track::Audio };
        let outputs = &mut self.outputs;
        self.tracks.take(now, track, message.timestamp_ms, &message.payload, |media| {
            outputs.push(Output::Media(media));
        });
        if let State::Publishing { configuration_until, .. } = &mut self.state
            && configuration_until.is_none()
            && !self.tracks.has_begun()
            && self.tracks.has_refused()
        {
            *configuration_until = Some(now + CONFIGURATION_TIMEOUT);
        }
    }

    fn reply(&mut self, bytes: Bytes) {
        self.outputs.push(Output::Reply(bytes));
    }

    fn fail(&mut self, error: Error) {
        self.reply(command::status(0, "error", "NetConnection.Connect.Failed", &error.to_string()));
        self.end(EndReason::Protocol(error));
    }

    fn end(&mut self, reason: EndReason) {
        self.state = State::Ended;
        // What was half-received is of no use to anybody.
        self.assembler = Assembler::new();
        self.outputs.push(Output::Ended(reason));
    }
}

/// Type, time and body of one message inside an aggregate.
fn sub_message<'a>(reader: &mut ByteReader<'a>) -> Read<(u8, u32, &'a [u8])> {
    let kind = reader.u8()?;
    let length = reader.u24()?;
    let low = reader.u24()?;
    let high = u32::from(reader.u8()?);
    reader.skip(3)?;
    Ok((kind, high << 24 | low, reader.take(length as usize)?))
}
