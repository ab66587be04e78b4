//! `rml_rtmp`, which many Rust programs publish with, as the client.

use std::time::Instant;

use bytes::Bytes;
use nova_media::frame::{Media, Track};
use nova_media::rtmp::{EndReason, Ingest, Output};
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions::{
    ClientSession, ClientSessionConfig, ClientSessionEvent, ClientSessionResult, PublishRequestType,
    StreamMetadata,
};
use rml_rtmp::time::RtmpTimestamp;

/// Made by x264: 1280x720.
const AVCC: &[u8] = &[
    0x01, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05,
    0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60,
    0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8, 0x00,
];

/// A client and a door, with the wire between them.
struct Wire {
    client: ClientSession,
    ingest: Ingest,
    verdict: Result<(), &'static str>,
    events: Vec<ClientSessionEvent>,
    outputs: Vec<Output>,
}

impl Wire {
    /// Shakes hands, with the digests of Flash, which this client writes and checks for.
    fn new(verdict: Result<(), &'static str>) -> Self {
        let mut ingest = Ingest::new(Instant::now(), 9);
        let mut handshake = Handshake::new(PeerType::Client);
        let mut to_server = handshake.generate_outbound_p0_and_p1().unwrap();
        let rest = loop {
            let answer = replies(&ingest.handle_input(Instant::now(), &to_server));
            match handshake.process_bytes(&answer).unwrap() {
                HandshakeProcessResult::InProgress { response_bytes } => to_server = response_bytes,
                HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                    assert!(remaining_bytes.is_empty());
                    break response_bytes;
                }
            }
        };
        let mut config = ClientSessionConfig::new();
        config.tc_url = Some("rtmp://localhost/live".into());
        let (client, first) = ClientSession::new(config).unwrap();
        let mut wire = Self { client, ingest, verdict, events: Vec::new(), outputs: Vec::new() };
        wire.send(&rest);
        wire.carry(first);
        wire
    }

    /// Sends what the client wants sent, and its answers to the answers, until it is quiet.
    fn carry(&mut self, results: Vec<ClientSessionResult>) {
        for result in results {
            match result {
                ClientSessionResult::OutboundResponse(packet) => self.send(&packet.bytes),
                ClientSessionResult::RaisedEvent(event) => self.events.push(event),
                ClientSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        let mut outputs = self.ingest.handle_input(Instant::now(), bytes);
        if outputs.iter().any(|output| matches!(output, Output::PublishRequested(_))) {
            outputs.extend(match self.verdict {
                Ok(()) => self.ingest.accept_publish(Instant::now()),
                Err(words) => self.ingest.refuse_publish(words),
            });
        }
        let answer = replies(&outputs);
        self.outputs.extend(outputs);
        if !answer.is_empty() {
            let results = self.client.handle_input(&answer).unwrap();
            self.carry(results);
        }
    }

    fn ask(&mut self, ask: impl FnOnce(&mut ClientSession) -> ClientSessionResult) {
        let result = ask(&mut self.client);
        self.carry(vec![result]);
    }

    fn request_publish(&mut self) {
        self.ask(|client| client.request_connection("live".into()).unwrap());
        self.ask(|client| client.request_publishing("sk_test".into(), PublishRequestType::Live).unwrap());
    }
}

fn replies(outputs: &[Output]) -> Vec<u8> {
    let mut all = Vec::new();
    for output in outputs {
        if let Output::Reply(bytes) = output {
            all.extend_from_slice(bytes);
        }
    }
    all
}

#[test]
fn it_publishes_here_and_says_goodbye() {
    let mut wire = Wire::new(Ok(()));
    wire.request_publish();
    assert!(wire.events.contains(&ClientSessionEvent::PublishRequestAccepted), "{:?}", wire.events);
    let mut about = StreamMetadata::new();
    about.encoder = Some("rml".into());
    wire.ask(|client| client.publish_metadata(&about).unwrap());
    let header = Bytes::from([&[0x17, 0, 0, 0, 0], AVCC].concat());
    wire.ask(|client| client.publish_video_data(header, RtmpTimestamp::new(0), false).unwrap());
    for n in 0..200_u32 {
        let mut body = vec![if n % 30 == 0 { 0x17 } else { 0x27 }, 1, 0, 0, 0, 0, 0, 0x13, 0x88];
        body.push(if n % 30 == 0 { 0x65 } else { 0x41 });
        body.resize(9 + 5_000, n as u8);
        let time = RtmpTimestamp::new(n * 40);
        wire.ask(|client| client.publish_video_data(body.into(), time, true).unwrap());
    }
    let goodbye = wire.client.stop_publishing().unwrap();
    wire.carry(goodbye);

    let pictures: Vec<_> = wire
        .outputs
        .iter()
        .filter_map(|output| match output {
            Output::Media(Media::Frame(frame)) if frame.track == Track::Video => Some(frame),
            _ => None,
        })
        .collect();
    assert_eq!(pictures.len(), 200);
    assert_eq!(pictures.iter().filter(|picture| picture.keyframe).count(), 7);
    assert_eq!(pictures[199].dts.millis() - pictures[0].dts.millis(), 199 * 40);
    let encoder = wire.outputs.iter().find_map(|output| match output {
        Output::Metadata(about) => about.encoder.as_deref(),
        _ => None,
    });
    assert_eq!(encoder, Some("rml"));
    assert_eq!(wire.outputs.last(), Some(&Output::Ended(EndReason::Unpublished)));
}

#[test]
fn it_learns_that_its_key_was_refused() {
    let mut wire = Wire::new(Err("This stream key is not known."));
    wire.request_publish();
    assert!(!wire.events.contains(&ClientSessionEvent::PublishRequestAccepted), "{:?}", wire.events);
    let told = format!("{:?}", wire.events);
    assert!(told.contains("NetStream.Publish.BadName"), "{told}");
    assert_eq!(wire.outputs.last(), Some(&Output::Ended(EndReason::Refused)));
}

#[test]
fn it_is_told_that_nothing_is_played_here() {
    let mut wire = Wire::new(Ok(()));
    wire.ask(|client| client.request_connection("live".into()).unwrap());
    wire.ask(|client| client.request_playback("sk_test".into()).unwrap());
    let told = format!("{:?}", wire.events);
    assert!(!told.contains("PlaybackRequestAccepted"), "{told}");
    assert_eq!(wire.outputs.last(), Some(&Output::Ended(EndReason::PlayRequested)));
}
