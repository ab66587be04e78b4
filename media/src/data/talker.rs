//! The other side of [`Data`](super::Data): what a browser does, for tests and fuzzing.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rtc_sctp::{
    Association, AssociationHandle, ClientConfig, ConnectError, DatagramEvent, Endpoint, EndpointConfig,
    Event, Payload, PayloadProtocolIdentifier as Kind, ReliabilityType, StreamEvent, TransportConfig,
};
use rtc_shared::TransportProtocol;

use super::{NOWHERE, dcep};
use dcep::Reliability;

/// A client's association.
pub struct Talker {
    endpoint: Endpoint,
    handle: AssociationHandle,
    association: Association,
    /// Messages that came: stream, whether it is text, what.
    pub heard: Vec<(u16, bool, Bytes)>,
    /// Streams whose opening was acknowledged.
    pub open: Vec<u16>,
    /// Streams that were closed by the other side, or with everything.
    pub closed: Vec<u16>,
}

impl Talker {
    /// Begins.
    pub fn new(now: Instant) -> Result<Talker, ConnectError> {
        let mut endpoint =
            Endpoint::new(NOWHERE, TransportProtocol::UDP, Arc::new(EndpointConfig::new()), None);
        let config = ClientConfig::new(TransportConfig::default());
        let (handle, association) = endpoint.connect(now, config, NOWHERE)?;
        Ok(Talker { endpoint, handle, association, heard: Vec::new(), open: Vec::new(), closed: Vec::new() })
    }

    /// Opens a channel, if there is none of this number.
    pub fn opens(&mut self, stream: u16, topic: &str, ordered: bool, reliability: Reliability, now: Instant) {
        let (kind, parameter) = match reliability {
            Reliability::Reliable => (ReliabilityType::Reliable, 0),
            Reliability::Repeats(times) => (ReliabilityType::Rexmit, times),
            Reliability::Lives(ms) => (ReliabilityType::Timed, ms),
        };
        let opened = self.association.open_stream(stream, Kind::Binary);
        let set = opened.and_then(|mut opened| opened.set_reliability_params(!ordered, kind, parameter));
        if set.is_ok() {
            self.sends(stream, Kind::Dcep, &dcep::write_open(topic, ordered, reliability), now);
        }
    }

    /// Sends a message, on a channel that is open.
    pub fn sends(&mut self, stream: u16, kind: Kind, message: &[u8], now: Instant) {
        let _ = self.association.stream(stream).and_then(|mut one| one.write_with_ppi(now, message, kind));
    }

    /// Sends text.
    pub fn says(&mut self, stream: u16, text: &str, now: Instant) {
        self.sends(stream, Kind::String, text.as_bytes(), now);
    }

    /// Closes a channel.
    pub fn closes(&mut self, stream: u16, now: Instant) {
        let _ = self.association.stream(stream).and_then(|mut stream| stream.close(now));
    }

    /// A packet came.
    pub fn hear(&mut self, packet: Bytes, now: Instant) {
        match self.endpoint.handle(now, NOWHERE, None, packet) {
            Some((known, DatagramEvent::AssociationEvent(event))) if known == self.handle => {
                self.association.handle_event(event);
            }
            _ => return,
        }
        while self.association.accept_stream().is_some() {}
        while self.association.poll_endpoint_event().is_some() {}
        while let Some(event) = self.association.poll() {
            match event {
                Event::Stream(StreamEvent::Readable { id }) => self.read(id),
                Event::AssociationLost { id, .. } => self.closed.push(id),
                _ => {}
            }
        }
    }

    fn read(&mut self, id: u16) {
        while let Ok(Some(message)) = self.association.stream(id).and_then(|mut stream| stream.read_sctp()) {
            let bytes = message.to_payload(usize::MAX).unwrap_or_default().freeze();
            match message.ppi {
                Kind::Dcep => self.open.push(id),
                kind => self.heard.push((id, kind == Kind::String, bytes)),
            }
        }
    }

    /// Packets to be sent.
    pub fn outgoing(&mut self, now: Instant) -> Vec<Bytes> {
        if self.association.poll_timeout().is_some_and(|at| at <= now) {
            self.association.handle_timeout(now);
        }
        let mut packets = Vec::new();
        while let Some(transmit) = self.association.poll_transmit(now) {
            if let Payload::RawEncode(encoded) = transmit.message {
                packets.extend(encoded);
            }
        }
        packets
    }

    /// Whether it can be talked over.
    pub fn is_connected(&self) -> bool {
        !self.association.is_handshaking() && !self.association.is_closed()
    }
}
