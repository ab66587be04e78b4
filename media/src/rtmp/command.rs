//! Commands: what a publisher asks for, and what it is told (RTMP 1.0, section 7.2; enhanced RTMP v2).

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::amf0::{self, Value};
use super::chunk;

/// Message types (RTMP 1.0, sections 5.4, 6.2 and 7.1).
pub mod kind {
    /// The peer's chunks change their size.
    pub const SET_CHUNK_SIZE: u8 = 1;
    /// A partial message is given up.
    pub const ABORT: u8 = 2;
    /// So many bytes arrived.
    pub const ACKNOWLEDGEMENT: u8 = 3;
    /// Stream begin, ping and their like.
    pub const USER_CONTROL: u8 = 4;
    /// How often bytes are to be acknowledged.
    pub const WINDOW_ACKNOWLEDGEMENT_SIZE: u8 = 5;
    /// How much may be sent without an acknowledgement.
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    /// Sound.
    pub const AUDIO: u8 = 8;
    /// Pictures.
    pub const VIDEO: u8 = 9;
    /// Metadata in AMF3.
    pub const DATA_AMF3: u8 = 15;
    /// A command in AMF3.
    pub const COMMAND_AMF3: u8 = 17;
    /// Metadata.
    pub const DATA: u8 = 18;
    /// A command.
    pub const COMMAND: u8 = 20;
    /// Several messages of media in one.
    pub const AGGREGATE: u8 = 22;
}

/// The size of the chunks this side writes.
pub(super) const OUT_CHUNK_BYTES: usize = 4_096;
/// After so many bytes the peer acknowledges, and this side does.
const WINDOW_BYTES: u32 = 2_500_000;
/// The peer's limit is to be kept loosely (5.4.5): it may also be told by the window.
const LIMIT_DYNAMIC: u8 = 2;
/// Chunk streams: control, commands.
const CONTROL: u8 = 2;
const COMMANDS: u8 = 3;

const STREAM_BEGIN: u16 = 0;
const PING_RESPONSE: u16 = 7;

/// FourCCs this engine takes by enhanced RTMP.
pub const FOUR_CCS_VIDEO: [&str; 3] = ["avc1", "hvc1", "av01"];
/// The same for sound.
pub const FOUR_CCS_AUDIO: [&str; 2] = ["mp4a", "Opus"];
/// FourCcInfoMask: the coding is passed on, neither decoded nor encoded here.
const CAN_FORWARD: f64 = 4.0;
/// CapsExMask: may be asked to connect elsewhere; skips modifiers it does not know.
const CAPS_RECONNECT: u32 = 1;
const CAPS_MOD_EX: u32 = 4;

/// A command this server knows.
#[derive(Debug, PartialEq)]
pub(super) enum Command {
    Connect(Box<Connect>),
    /// Wants to be answered with this transaction number, and nothing more: releaseStream, FCPublish and their like.
    Formality {
        transaction: f64,
        answer: Value,
    },
    CreateStream {
        transaction: f64,
    },
    Publish {
        name: String,
        kind: String,
    },
    /// FCUnpublish, deleteStream, closeStream.
    Unpublish,
    Play,
    Unknown {
        transaction: f64,
    },
}

/// What a client says of itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Connect {
    pub(super) transaction: f64,
    pub(super) app: String,
    pub(super) tc_url: String,
    pub(super) flash_ver: String,
    /// It speaks enhanced RTMP.
    pub(super) enhanced: bool,
    /// It can be asked to connect elsewhere.
    pub(super) reconnects: bool,
}

impl Command {
    /// Reads the values of a command message.
    pub(super) fn read(values: &[Value]) -> Option<Self> {
        let (name, rest) = values.split_first()?;
        let (transaction, arguments) = match rest.split_first() {
            Some((transaction, arguments)) => (transaction.number().unwrap_or(0.0), arguments),
            None => (0.0, rest),
        };
        // The first argument is the command object, null in all commands but connect.
        let text = |index: usize| arguments.get(index).and_then(Value::text).unwrap_or_default().to_owned();
        Some(match name.text()? {
            "connect" => Self::Connect(Box::new(Connect::read(transaction, arguments.first()))),
            "createStream" => Self::CreateStream { transaction },
            "publish" => Self::Publish { name: text(1), kind: text(2) },
            "FCUnpublish" | "deleteStream" | "closeStream" => Self::Unpublish,
            "play" | "play2" => Self::Play,
            "releaseStream" | "FCPublish" | "_checkbw" | "FCSubscribe" => {
                Self::Formality { transaction, answer: Value::Null }
            }
            "getStreamLength" => Self::Formality { transaction, answer: Value::Number(0.0) },
            // Answers to what this side never asked.
            "_result" | "_error" | "onStatus" => Self::Unknown { transaction: 0.0 },
            _ => Self::Unknown { transaction },
        })
    }
}

impl Connect {
    fn read(transaction: f64, object: Option<&Value>) -> Self {
        let field = |name: &str| object.and_then(|object| object.get(name));
        let text = |name: &str| field(name).and_then(Value::text).unwrap_or_default().to_owned();
        let caps = field("capsEx").and_then(Value::number).unwrap_or(0.0) as u32;
        let named = ["fourCcList", "videoFourCcInfoMap", "audioFourCcInfoMap"];
        Self {
            transaction,
            app: text("app"),
            tc_url: text("tcUrl"),
            flash_ver: text("flashVer"),
            enhanced: caps != 0 || named.iter().any(|name| field(name).is_some()),
            reconnects: caps & CAPS_RECONNECT != 0,
        }
    }
}

/// A publisher that wants to begin, and what it says of itself. Nothing has been promised to it yet.
///
/// It prints with the key and everything that may hold one masked.
#[derive(Clone, PartialEq, Eq)]
pub struct PublishRequest {
    /// The application: the part of the address after the host.
    pub app: String,
    /// The stream key: the publishing name without its query.
    pub key: String,
    /// The query of the publishing name, without the question mark.
    pub query: String,
    /// The address as the client has it.
    pub tc_url: String,
    /// The client's name for itself, as `FMLE/3.0 (compatible; Lavf59.27.100)`.
    pub encoder: String,
    /// What it wants to publish for: `live`, `record` or `append`.
    pub kind: String,
}

impl fmt::Debug for PublishRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishRequest")
            .field("app", &self.app)
            .field("key", &format_args!("({} characters)", self.key.chars().count()))
            .field("encoder", &self.encoder)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// The answer to connect: window, bandwidth and chunk size, then the result.
pub(super) fn connected(connect: &Connect) -> Bytes {
    let mut out = BytesMut::new();
    control(&mut out, kind::WINDOW_ACKNOWLEDGEMENT_SIZE, &WINDOW_BYTES.to_be_bytes());
    let [a, b, c, d] = WINDOW_BYTES.to_be_bytes();
    control(&mut out, kind::SET_PEER_BANDWIDTH, &[a, b, c, d, LIMIT_DYNAMIC]);
    control(&mut out, kind::SET_CHUNK_SIZE, &(OUT_CHUNK_BYTES as u32).to_be_bytes());
    let mut properties =
        vec![("fmsVer".to_owned(), "FMS/3,0,1,123".into()), ("capabilities".to_owned(), Value::Number(31.0))];
    let mut information = vec![
        ("level".to_owned(), "status".into()),
        ("code".to_owned(), "NetConnection.Connect.Success".into()),
        ("description".to_owned(), "Connected.".into()),
        ("objectEncoding".to_owned(), Value::Number(0.0)),
    ];
    if connect.enhanced {
        let map = |codes: &[&str]| {
            Value::Object(codes.iter().map(|&code| (code.to_owned(), CAN_FORWARD.into())).collect())
        };
        let all = FOUR_CCS_VIDEO.iter().chain(&FOUR_CCS_AUDIO).map(|&code| code.into()).collect();
        let enhanced = [
            ("fourCcList", Value::Array(all)),
            ("videoFourCcInfoMap", map(&FOUR_CCS_VIDEO)),
            ("audioFourCcInfoMap", map(&FOUR_CCS_AUDIO)),
            ("capsEx", Value::Number(f64::from(CAPS_RECONNECT | CAPS_MOD_EX))),
        ];
        for (name, value) in enhanced {
            // Clients differ in where they look.
            properties.push((name.to_owned(), value.clone()));
            information.push((name.to_owned(), value));
        }
    }
    let values =
        ["_result".into(), connect.transaction.into(), Value::Object(properties), Value::Object(information)];
    command(&mut out, 0, &values);
    out.freeze()
}

/// `_result` with a value.
pub(super) fn result(transaction: f64, value: Value) -> Bytes {
    let mut out = BytesMut::new();
    command(&mut out, 0, &["_result".into(), transaction.into(), Value::Null, value]);
    out.freeze()
}

/// `_error` for a call nobody takes.
pub(super) fn no_such_call(transaction: f64) -> Bytes {
    let mut out = BytesMut::new();
    let information = status_object("error", "NetConnection.Call.Failed", "There is no such call.");
    command(&mut out, 0, &["_error".into(), transaction.into(), Value::Null, information]);
    out.freeze()
}

/// The stream begins and publishing has started.
pub(super) fn started(stream_id: u32) -> Bytes {
    let mut out = BytesMut::new();
    let mut body = STREAM_BEGIN.to_be_bytes().to_vec();
    body.extend(stream_id.to_be_bytes());
    control(&mut out, kind::USER_CONTROL, &body);
    put_status(&mut out, stream_id, "status", "NetStream.Publish.Start", "Publishing.");
    out.freeze()
}

/// `onStatus` with a level, a code and words for people.
pub(super) fn status(stream_id: u32, level: &str, code: &str, description: &str) -> Bytes {
    let mut out = BytesMut::new();
    put_status(&mut out, stream_id, level, code, description);
    out.freeze()
}

/// The answer to a ping, with its bytes.
pub(super) fn pong(body: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    control(&mut out, kind::USER_CONTROL, &[&PING_RESPONSE.to_be_bytes(), body].concat());
    out.freeze()
}

/// So many bytes arrived, modulo 2³².
pub(super) fn acknowledgement(total: u32) -> Bytes {
    let mut out = BytesMut::new();
    control(&mut out, kind::ACKNOWLEDGEMENT, &total.to_be_bytes());
    out.freeze()
}

fn put_status(out: &mut BytesMut, stream_id: u32, level: &str, code: &str, description: &str) {
    let values = ["onStatus".into(), 0.0.into(), Value::Null, status_object(level, code, description)];
    command(out, stream_id, &values);
}

fn status_object(level: &str, code: &str, description: &str) -> Value {
    Value::object([("level", level.into()), ("code", code.into()), ("description", description.into())])
}

fn command(out: &mut BytesMut, stream_id: u32, values: &[Value]) {
    chunk::write(out, COMMANDS, kind::COMMAND, stream_id, &amf0::encode(values), OUT_CHUNK_BYTES);
}

fn control(out: &mut BytesMut, kind: u8, body: &[u8]) {
    chunk::write(out, CONTROL, kind, 0, body, OUT_CHUNK_BYTES);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_request_prints_without_its_secrets() {
        let request = PublishRequest {
            app: "live".into(),
            key: "sk_secret".into(),
            query: "token=secret".into(),
            tc_url: "rtmp://host/live?token=secret".into(),
            encoder: "Lavf".into(),
            kind: "live".into(),
        };
        let printed = format!("{request:?}");
        assert!(!printed.contains("secret"), "{printed}");
        assert!(printed.contains("9 characters"), "{printed}");
    }

    #[test]
    fn commands_are_read_with_whatever_arguments_are_there() {
        let read = |values: &[Value]| Command::read(values);
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[Value::Number(1.0)]), None);
        let publish = read(&["publish".into(), 5.0.into(), Value::Null, "key".into(), "live".into()]);
        assert_eq!(publish, Some(Command::Publish { name: "key".into(), kind: "live".into() }));
        let bare = read(&["publish".into()]);
        assert_eq!(bare, Some(Command::Publish { name: String::new(), kind: String::new() }));
        assert_eq!(read(&["closeStream".into(), 0.0.into(), Value::Null]), Some(Command::Unpublish));
    }

    #[test]
    fn enhanced_rtmp_is_recognised_by_any_of_its_fields() {
        for (field, enhanced, reconnects) in [
            (("fourCcList", Value::Array(vec!["hvc1".into()])), true, false),
            (("videoFourCcInfoMap", Value::object([])), true, false),
            (("capsEx", Value::Number(3.0)), true, true),
            (("videoFunction", Value::Number(1.0)), false, false),
        ] {
            let connect = Connect::read(1.0, Some(&Value::object([field])));
            assert_eq!((connect.enhanced, connect.reconnects), (enhanced, reconnects));
        }
    }
}
