//! Data channels of one participant (RFC 8831): SCTP over the DTLS of its [`crate::peer`], without sockets and without a clock.
//!
//! A client opens a channel for each topic it takes part in, and says with it whether messages of the topic are promised to it or may
//! be lost ([`dcep`]). SCTP itself is `rtc-sctp`'s, behind a `guard`; what waits for a slow reader waits in an `outbox`.
//!
//! Everything is bounded: [`MESSAGE_BYTES_MAX`], [`CHANNELS_MAX`], [`RATE`], what waits to be read ([`RECEIVED_BYTES_MAX`]) and to be
//! sent ([`outbox`]). Whoever goes beyond ends their channels, for a reason they are told; their calls go on.

pub mod chunk;
pub mod dcep;
mod guard;
pub mod outbox;
pub mod talker;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rtc_sctp::{
    Association, AssociationHandle, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier as Kind, ReliabilityType, ServerConfig, StreamEvent, TimerConfig,
    TransportConfig,
};
use rtc_shared::TransportProtocol;

use crate::bucket::Bucket;
use dcep::Reliability;
use guard::{Guard, Init, Verdict};
use outbox::{Outbox, Waiting};

/// Bytes of a message.
pub const MESSAGE_BYTES_MAX: usize = 16 << 10;
/// Bytes before a message that say whose it is.
pub const SENDER_BYTES_MAX: usize = 11;
/// Channels a participant has open at a time.
pub const CHANNELS_MAX: usize = 16;
/// Channels a participant opens, ever.
pub const OPENINGS_MAX: u32 = 256;
/// Bytes of messages that are not whole yet, or wait for an earlier one.
pub const RECEIVED_BYTES_MAX: u32 = 128 << 10;
/// What a participant may say: messages and bytes a second, and at once.
pub const RATE: Rate =
    Rate { messages_per_s: 50, messages_burst: 200, bytes_per_s: 128 << 10, bytes_burst: 256 << 10 };
/// Bytes that are on their way in SCTP; the rest waits where it can be taken back.
const SENT_BYTES_MAX: usize = 32 << 10;
/// Repetitions of what the client acknowledges no more, each after twice the time; ICE gives up before.
const REPETITIONS_MAX: usize = 10;
/// The association outlives changes of address, so it knows only this one.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5_000);

/// What somebody may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Messages a second, over time.
    pub messages_per_s: u32,
    /// Messages at once.
    pub messages_burst: u32,
    /// Bytes a second, over time.
    pub bytes_per_s: u32,
    /// Bytes at once.
    pub bytes_burst: u32,
}

/// Why the channels of a participant have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Ending {
    /// It does not read what it was promised.
    #[error("too much waited to be read")]
    Slow,
    /// It says more than it may on a channel that promises everything.
    #[error("more than 50 messages or 128 KiB a second were sent on a reliable channel")]
    TooFast,
    /// A message was too long.
    #[error("a message was longer than 16 KiB")]
    TooLarge,
    /// Too many channels.
    #[error("more than 16 channels were open, or 256 opened over time")]
    TooManyChannels,
    /// It speaks another language.
    #[error("the protocol of data channels was broken")]
    Protocol,
    /// It has closed them itself.
    #[error("they were closed")]
    Closed,
}

/// Something a participant said on a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// On which topic.
    pub topic: Arc<str>,
    /// Whether it may be lost.
    pub lossy: bool,
    /// UTF-8, as the client sent a string.
    pub is_text: bool,
    /// What.
    pub bytes: Bytes,
}

/// What is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages that came too fast, on channels that may lose some.
    pub too_fast: u64,
    /// Messages that a newer one took the place of before they could be sent.
    pub too_slow: u64,
}

#[derive(Debug)]
struct Channel {
    stream: u16,
    topic: Arc<str>,
    lossy: bool,
}

/// See the [module documentation](self).
pub struct Data {
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    guard: Guard,
    /// How the client began, and what it was answered.
    begun: Option<(Init, Vec<Bytes>)>,
    repeats_answer: bool,
    channels: Vec<Channel>,
    openings: u32,
    outbox: Outbox,
    messages: Bucket,
    bytes: Bucket,
    tally: Tally,
    message_max: usize,
}

impl Data {
    /// Waits for a client to begin, who takes messages of at most so many bytes.
    pub fn new(message_max: usize, now: Instant) -> Data {
        Data {
            endpoint: endpoint(),
            association: None,
            guard: Guard::new(RECEIVED_BYTES_MAX, now),
            begun: None,
            repeats_answer: false,
            channels: Vec::new(),
            openings: 0,
            outbox: Outbox::default(),
            messages: Bucket::new(RATE.messages_per_s, RATE.messages_burst, now),
            bytes: Bucket::new(RATE.bytes_per_s, RATE.bytes_burst, now),
            tally: Tally::default(),
            message_max,
        }
    }

    /// A packet came over DTLS. After an error everything that comes is for nobody.
    pub fn input(&mut self, packet: Bytes, now: Instant, said: &mut Vec<Said>) -> Result<(), Ending> {
        match self.guard.inspect(&packet, now)? {
            Verdict::Drop => return Ok(()),
            Verdict::Begin(init) => {
                self.begin(init, packet, now);
                return Ok(());
            }
            Verdict::Pass => {}
        }
        let Some((handle, association)) = &mut self.association else { return Ok(()) };
        match self.endpoint.handle(now, NOWHERE, None, packet) {
            Some((known, DatagramEvent::AssociationEvent(event))) if known == *handle => {
                association.handle_event(event);
            }
            // Not of this association, or damaged.
            _ => return Ok(()),
        }
        self.read(now, said)
    }

    /// Time has passed.
    pub fn poll(&mut self, now: Instant) -> Result<(), Ending> {
        let Some((_, association)) = &mut self.association else { return Ok(()) };
        if association.poll_timeout().is_some_and(|at| at <= now) {
            association.handle_timeout(now);
            // Timers bring no data.
            self.read(now, &mut Vec::new())?;
        }
        Ok(())
    }

    /// Packets to be sent over DTLS.
    pub fn outgoing(&mut self, now: Instant) -> Vec<Bytes> {
        let mut packets = Vec::new();
        if std::mem::take(&mut self.repeats_answer) {
            packets.extend(self.begun.iter().flat_map(|(_, answer)| answer.clone()));
        }
        loop {
            self.feed(now);
            let before = packets.len();
            let Some((_, association)) = &mut self.association else { break };
            while let Some(transmit) = association.poll_transmit(now) {
                if let Payload::RawEncode(encoded) = transmit.message {
                    packets.extend(encoded);
                }
            }
            if packets.len() == before {
                break;
            }
        }
        for packet in &packets {
            self.guard.note_sent(packet);
        }
        packets
    }

    /// Whether the participant takes part in a topic.
    pub fn takes(&self, topic: &str) -> bool {
        self.channels.iter().any(|channel| *channel.topic == *topic)
    }

    /// Says something to the participant, on its channel of the topic, if it has one: `bytes` begin with whose it is.
    pub fn say(&mut self, topic: &str, lossy: bool, is_text: bool, bytes: &Bytes) -> Result<bool, Ending> {
        let Some(channel) = self.channels.iter().find(|channel| *channel.topic == *topic) else {
            return Ok(false);
        };
        if bytes.len() > self.message_max {
            return Ok(false);
        }
        let message = Waiting { stream: channel.stream, is_text, bytes: bytes.clone() };
        self.tally.too_slow += self.outbox.push(message, lossy || channel.lossy)? as u64;
        Ok(true)
    }

    /// Ends all channels; what is [outgoing](Self::outgoing) then is the last.
    pub fn end(&mut self) {
        self.channels.clear();
        self.outbox = Outbox::default();
        if let Some((_, association)) = &mut self.association {
            // One that is closed has nothing to say.
            let _ = association.abort();
        }
    }

    /// What was counted since it was last asked.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// A client begins. It repeats itself when the answer is late; an association that stands is not begun anew.
    fn begin(&mut self, init: Init, packet: Bytes, now: Instant) {
        if self.begun.as_ref().is_some_and(|(known, _)| *known == init) {
            self.repeats_answer = true;
            return;
        }
        if self.association.as_ref().is_some_and(|(_, association)| !association.is_handshaking()) {
            return;
        }
        // An endpoint keeps all associations it was ever asked for.
        self.endpoint = endpoint();
        self.association = None;
        let new = self.endpoint.handle(now, NOWHERE, None, packet);
        let Some((handle, DatagramEvent::NewAssociation(mut association))) = new else { return };
        let mut answer = Vec::new();
        while let Some(transmit) = association.poll_transmit(now) {
            if let Payload::RawEncode(encoded) = transmit.message {
                answer.extend(encoded);
            }
        }
        self.guard.begin(init);
        self.begun = Some((init, answer));
        self.repeats_answer = true;
        self.association = Some((handle, association));
    }

    /// Takes out everything the association has.
    fn read(&mut self, now: Instant, said: &mut Vec<Said>) -> Result<(), Ending> {
        loop {
            let Some((_, association)) = &mut self.association else { return Ok(()) };
            while association.accept_stream().is_some() {}
            while association.poll_endpoint_event().is_some() {}
            let event = association.poll();
            if event.is_none() && association.is_closed() && !association.is_handshaking() {
                return Err(Ending::Closed);
            }
            match event {
                None => return Ok(()),
                Some(Event::HandshakeFailed { .. }) => return Err(Ending::Protocol),
                Some(Event::AssociationLost { id, .. }) => {
                    self.channels.retain(|channel| channel.stream != id);
                    self.outbox.forget(id);
                }
                Some(Event::Stream(StreamEvent::Readable { id })) => self.read_stream(id, now, said)?,
                Some(_) => {}
            }
        }
    }

    fn read_stream(&mut self, id: u16, now: Instant, said: &mut Vec<Said>) -> Result<(), Ending> {
        loop {
            let Some((_, association)) = &mut self.association else { return Ok(()) };
            // A stream that was reset meanwhile has nothing.
            let read = association.stream(id).and_then(|mut stream| stream.read_sctp());
            let Ok(Some(message)) = read else { return Ok(()) };
            self.guard.note_read(message.chunks.len());
            let bytes = message.to_payload(MESSAGE_BYTES_MAX).map_err(|_| Ending::TooLarge)?.freeze();
            match message.ppi {
                Kind::Dcep => self.open(id, &bytes, now)?,
                Kind::String => self.hear(id, true, bytes, now, said)?,
                Kind::Binary => self.hear(id, false, bytes, now, said)?,
                // SCTP carries nothing as one byte (RFC 8831 section 6.6).
                Kind::StringEmpty => self.hear(id, true, Bytes::new(), now, said)?,
                Kind::BinaryEmpty => self.hear(id, false, Bytes::new(), now, said)?,
                _ => return Err(Ending::Protocol),
            }
        }
    }

    fn open(&mut self, stream: u16, message: &[u8], now: Instant) -> Result<(), Ending> {
        let message = dcep::read(message).map_err(|_| Ending::Protocol)?;
        let dcep::Message::Open { topic, ordered, reliability } = message else { return Ok(()) };
        if self.channels.iter().any(|channel| channel.stream == stream) {
            return Err(Ending::Protocol);
        }
        self.openings += 1;
        if self.channels.len() >= CHANNELS_MAX || self.openings > OPENINGS_MAX {
            return Err(Ending::TooManyChannels);
        }
        let (kind, parameter) = match reliability {
            Reliability::Reliable => (ReliabilityType::Reliable, 0),
            Reliability::Repeats(times) => (ReliabilityType::Rexmit, times),
            Reliability::Lives(ms) => (ReliabilityType::Timed, ms),
        };
        let Some((_, association)) = &mut self.association else { return Ok(()) };
        let opened = association.stream(stream).and_then(|mut opened| {
            opened.set_reliability_params(!ordered, kind, parameter)?;
            opened.write_with_ppi(now, dcep::ACKNOWLEDGEMENT, Kind::Dcep)
        });
        // One that was reset before it was open.
        if opened.is_ok() {
            let lossy = reliability != Reliability::Reliable;
            self.channels.push(Channel { stream, topic: topic.into(), lossy });
        }
        Ok(())
    }

    fn hear(
        &mut self,
        stream: u16,
        is_text: bool,
        bytes: Bytes,
        now: Instant,
        said: &mut Vec<Said>,
    ) -> Result<(), Ending> {
        if is_text && std::str::from_utf8(&bytes).is_err() {
            return Err(Ending::Protocol);
        }
        // What overtook the opening of its channel, or came after its end, belongs nowhere.
        let Some(channel) = self.channels.iter().find(|channel| channel.stream == stream) else {
            return Ok(());
        };
        let (topic, lossy) = (channel.topic.clone(), channel.lossy);
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if self.messages.has(1, now) && self.bytes.has(len, now) {
            self.messages.take(1);
            self.bytes.take(len);
            said.push(Said { topic, lossy, is_text, bytes });
        } else if lossy {
            self.tally.too_fast += 1;
        } else {
            return Err(Ending::TooFast);
        }
        Ok(())
    }

    /// Gives SCTP more to send, when little is on its way.
    fn feed(&mut self, now: Instant) {
        let Some((_, association)) = &mut self.association else { return };
        let streams = self.channels.iter().map(|channel| channel.stream);
        let mut sent: usize =
            streams.filter_map(|stream| association.stream(stream).ok()?.buffered_amount().ok()).sum();
        while sent < SENT_BYTES_MAX {
            let Some(Waiting { stream, is_text, bytes }) = self.outbox.pop() else { return };
            let kind = if is_text { Kind::String } else { Kind::Binary };
            let written = association
                .stream(stream)
                .and_then(|mut stream| stream.write_chunk_with_ppi(now, &bytes, kind));
            sent += written.unwrap_or(0);
        }
    }
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Data").field("channels", &self.channels).finish_non_exhaustive()
    }
}

fn endpoint() -> Endpoint {
    let timers = TimerConfig { max_t3_rtx_retrans: REPETITIONS_MAX, ..TimerConfig::default() };
    let transport = TransportConfig::default()
        .with_max_receive_buffer_size(RECEIVED_BYTES_MAX)
        .with_max_message_size((MESSAGE_BYTES_MAX + SENDER_BYTES_MAX) as u32)
        .with_max_num_inbound_streams(guard::STREAMS_MAX)
        .with_max_num_outbound_streams(guard::STREAMS_MAX)
        .with_timer_config(timers);
    let server = Arc::new(ServerConfig::new(transport));
    Endpoint::new(NOWHERE, TransportProtocol::UDP, Arc::new(EndpointConfig::new()), Some(server))
}

#[cfg(test)]
mod tests;
