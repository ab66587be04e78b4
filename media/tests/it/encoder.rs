//! A publisher whose every byte the test decides, and the door it knocks at.

use std::time::{Duration, Instant};

use bytes::Bytes;
use nova_media::frame::{Frame, Media, Track};
use nova_media::rtmp::amf0::{self, Value};
use nova_media::rtmp::chunk::{Assembler, Message, Received};
use nova_media::rtmp::{EndReason, Ingest, Output, PublishRequest, kind};

/// Length of S0, S1 and S2.
pub(crate) const SERVER_HANDSHAKE_BYTES: usize = 1 + 2 * 1_536;

/// Made by x264: 1280x720, 30 pictures a second.
pub(crate) const AVCC_720P: &[u8] = &[
    0x01, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05,
    0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60,
    0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8, 0x00,
];
/// Made by x264: 854x480, interlaced.
pub(crate) const AVCC_480I: &[u8] = &[
    0x01, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0x00, 0x18, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0xd8, 0x7b,
    0xcd, 0xe0, 0x22, 0x00, 0x00, 0x07, 0xd2, 0x00, 0x01, 0xd4, 0xc0, 0x3e, 0x2c, 0x5b, 0x2c, 0x01, 0x00,
    0x06, 0x68, 0xfb, 0xa3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8, 0x00,
];
/// AAC-LC, 48 kHz, two channels.
pub(crate) const ASC_48K: &[u8] = &[0x11, 0x90];

/// Writes what an encoder would.
#[derive(Default)]
pub(crate) struct Encoder {
    pub(crate) bytes: Vec<u8>,
    transaction: f64,
}

impl Encoder {
    /// An encoder that has shaken hands.
    pub(crate) fn greeted() -> Self {
        let mut encoder = Self::default();
        encoder.bytes.push(3);
        encoder.bytes.extend([0; 2 * 1_536]);
        encoder
    }

    /// An encoder that has asked to publish `key` to `app`.
    pub(crate) fn asking(app: &str, key: &str) -> Self {
        let mut encoder = Self::greeted();
        encoder.chunk_size(65_536);
        encoder.connect(app, []);
        encoder.call("releaseStream", [key.into()]);
        encoder.call("FCPublish", [key.into()]);
        encoder.call("createStream", []);
        encoder.call("publish", [key.into(), "live".into()]);
        encoder
    }

    pub(crate) fn connect<const N: usize>(&mut self, app: &str, more: [(&str, Value); N]) {
        let mut fields = vec![
            ("app".to_owned(), app.into()),
            ("tcUrl".to_owned(), format!("rtmp://localhost/{app}").as_str().into()),
            ("flashVer".to_owned(), "FMLE/3.0 (compatible; Test)".into()),
        ];
        fields.extend(more.map(|(name, value)| (name.to_owned(), value)));
        self.command(&["connect".into(), 1.0.into(), Value::Object(fields)]);
        self.transaction = 1.0;
    }

    /// A command with the next transaction number and no command object.
    pub(crate) fn call<const N: usize>(&mut self, name: &str, arguments: [Value; N]) {
        self.transaction += 1.0;
        let mut values = vec![name.into(), self.transaction.into(), Value::Null];
        values.extend(arguments);
        self.command(&values);
    }

    pub(crate) fn command(&mut self, values: &[Value]) {
        self.message(3, kind::COMMAND, 0, &amf0::encode(values));
    }

    pub(crate) fn chunk_size(&mut self, bytes: u32) {
        self.message(2, kind::SET_CHUNK_SIZE, 0, &bytes.to_be_bytes());
    }

    /// A whole message in one chunk, which the chunk size has to allow.
    pub(crate) fn message(&mut self, chunk_stream: u8, kind: u8, time: u32, payload: &[u8]) {
        self.bytes.push(chunk_stream);
        self.bytes.extend(&time.min(0xff_ffff).to_be_bytes()[1..]);
        self.bytes.extend(&(payload.len() as u32).to_be_bytes()[1..]);
        self.bytes.push(kind);
        self.bytes.extend(1_u32.to_le_bytes());
        if time >= 0xff_ffff {
            self.bytes.extend(time.to_be_bytes());
        }
        self.bytes.extend(payload);
    }

    pub(crate) fn video_header(&mut self, record: &[u8]) {
        self.message(6, kind::VIDEO, 0, &[&[0x17, 0, 0, 0, 0], record].concat());
    }

    pub(crate) fn audio_header(&mut self, record: &[u8]) {
        self.message(4, kind::AUDIO, 0, &[&[0xaf, 0], record].concat());
    }

    pub(crate) fn picture(&mut self, time: u32, keyframe: bool) {
        self.picture_shown(time, 0, keyframe);
    }

    pub(crate) fn picture_shown(&mut self, time: u32, composition_ms: i32, keyframe: bool) {
        self.message(6, kind::VIDEO, time, &picture(composition_ms, keyframe));
    }

    pub(crate) fn sound(&mut self, time: u32) {
        self.message(4, kind::AUDIO, time, &[0xaf, 1, 1, 2, 3]);
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

/// The body of a video message with one slice.
pub(crate) fn picture(composition_ms: i32, keyframe: bool) -> Vec<u8> {
    let mut body = vec![if keyframe { 0x17 } else { 0x27 }, 1];
    body.extend(&composition_ms.to_be_bytes()[1..]);
    body.extend([0, 0, 0, 3, if keyframe { 0x65 } else { 0x41 }, 0x88, 0x80]);
    body
}

/// The server's side of one connection, and everything it gave.
pub(crate) struct Door {
    pub(crate) ingest: Ingest,
    pub(crate) now: Instant,
    pub(crate) outputs: Vec<Output>,
}

impl Door {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { ingest: Ingest::new(now, 1), now, outputs: Vec::new() }
    }

    /// A door at which a publisher was let in, with nothing of that left in the outputs.
    pub(crate) fn open() -> Self {
        let mut door = Self::new();
        door.hear(&Encoder::asking("live", "key").take());
        door.accept();
        door.outputs.clear();
        door
    }

    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        let outputs = self.ingest.handle_input(self.now, bytes);
        self.outputs.extend(outputs);
    }

    pub(crate) fn accept(&mut self) {
        let outputs = self.ingest.accept_publish(self.now);
        self.outputs.extend(outputs);
    }

    /// Lets time pass, with everybody silent.
    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
        let outputs = self.ingest.handle_timeout(self.now);
        self.outputs.extend(outputs);
    }

    pub(crate) fn ended(&self) -> Option<&EndReason> {
        ended(&self.outputs)
    }

    pub(crate) fn request(&self) -> Option<&PublishRequest> {
        self.outputs.iter().find_map(|output| match output {
            Output::PublishRequested(request) => Some(request),
            _ => None,
        })
    }

    pub(crate) fn media(&self) -> Vec<&Media> {
        media(&self.outputs)
    }

    pub(crate) fn frames(&self, track: Track) -> Vec<&Frame> {
        frames(&self.outputs, track)
    }

    /// Stream time of this track's frames since the stream began, in milliseconds.
    pub(crate) fn times(&self, track: Track) -> Vec<i64> {
        self.frames(track).iter().map(|frame| frame.dts.millis() - 10_000).collect()
    }

    /// What was answered after the handshake.
    pub(crate) fn answers(&self) -> Vec<Message> {
        let bytes = replies(&self.outputs);
        let bytes = if bytes.first() == Some(&3) && bytes.len() >= SERVER_HANDSHAKE_BYTES {
            &bytes[SERVER_HANDSHAKE_BYTES..]
        } else {
            &bytes
        };
        let mut assembler = Assembler::new();
        // The server announces its chunk size with the first answer.
        assembler.set_chunk_bytes_max(4_096);
        messages(&mut assembler, bytes)
    }

    /// The information object of the status messages, as code, level and description.
    pub(crate) fn statuses(&self) -> Vec<[String; 3]> {
        self.answers()
            .iter()
            .filter(|message| message.kind == kind::COMMAND)
            .filter_map(|message| {
                let values = amf0::decode(&message.payload).unwrap();
                (values.first().and_then(Value::text) == Some("onStatus")).then(|| {
                    ["code", "level", "description"]
                        .map(|name| values[3].get(name).and_then(Value::text).unwrap().to_owned())
                })
            })
            .collect()
    }
}

pub(crate) fn ended(outputs: &[Output]) -> Option<&EndReason> {
    outputs.iter().find_map(|output| match output {
        Output::Ended(reason) => Some(reason),
        _ => None,
    })
}

pub(crate) fn media(outputs: &[Output]) -> Vec<&Media> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Media(media) => Some(media),
            _ => None,
        })
        .collect()
}

pub(crate) fn frames(outputs: &[Output], track: Track) -> Vec<&Frame> {
    media(outputs)
        .into_iter()
        .filter_map(|media| match media {
            Media::Frame(frame) if frame.track == track => Some(frame),
            _ => None,
        })
        .collect()
}

pub(crate) fn replies(outputs: &[Output]) -> Bytes {
    let mut all = Vec::new();
    for output in outputs {
        if let Output::Reply(bytes) = output {
            all.extend_from_slice(bytes);
        }
    }
    all.into()
}

/// All whole messages in `bytes`, following the chunk sizes they announce.
pub(crate) fn messages(assembler: &mut Assembler, mut bytes: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(received) = assembler.read(&mut bytes).unwrap() {
        if let Received::Message(message) = received {
            if message.kind == kind::SET_CHUNK_SIZE {
                assembler.set_chunk_bytes_max(u32::from_be_bytes(message.payload[..4].try_into().unwrap()));
            }
            messages.push(message);
        }
    }
    messages
}
