use nova_actors::id::{ConversationId, DeviceId, MediaId, SessionId, StreamId, UserId};
use proptest::prelude::*;
use serde_json::json;
use time::macros::datetime;

use super::*;
use crate::chat::encoded::Encoded;
use crate::error::Code;

fn said(message: &Encoded) -> serde_json::Value {
    serde_json::from_slice(message.payload()).expect("JSON")
}

fn refused(message: &serde_json::Value) -> Refused {
    read(&message.to_string()).expect_err("refused")
}

#[test]
fn every_request_of_the_contract_is_read() {
    let (conv, user, media, stream) =
        (ConversationId::generate(), UserId::generate(), MediaId::generate(), StreamId::generate());
    let requests = [
        json!({"type": "connect", "token": "t", "client": "c/1", "focus": [conv]}),
        json!({"type": "send", "conversation": conv, "client_msg_id": "m1", "text": "hello", "kind": "text", "reply_to": 3,
            "mentions": [user], "attachments": [media, {"media": media, "duration_ms": 1200, "waveform": "AAEC"}],
            "location": {"latitude": 48.1, "longitude": 11.5, "accuracy_m": 12.0, "scope": "members", "members": [user],
                "until": "2026-01-02T12:00:00.000Z"}}),
        json!({"type": "edit", "conversation": conv, "target": 4, "text": "hi"}),
        json!({"type": "delete", "conversation": conv, "target": 4}),
        json!({"type": "react", "conversation": conv, "target": 4, "emoji": "👍", "on": true}),
        json!({"type": "ack", "conversation": conv, "seq": 9}),
        json!({"type": "read", "conversation": conv, "seq": 9}),
        json!({"type": "typing", "conversation": conv, "on": true}),
        json!({"type": "pull", "conversation": conv, "epoch": 1, "after": 0, "limit": 100}),
        json!({"type": "presence", "watch": [user]}),
        json!({"type": "watch", "stream": stream}),
        json!({"type": "unwatch", "stream": stream}),
        json!({"type": "refresh", "token": "t"}),
        json!({"type": "ping"}),
        json!({"type": "room.join", "room": "room_1", "offer": "v=0"}),
    ];
    let kinds: Vec<_> = requests.iter().map(|request| request["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds[..FromDevice::KINDS.len()], *FromDevice::KINDS, "the list above is the contract");
    for mut request in requests {
        request["ref"] = json!(7);
        let (reference, read_request) =
            read(&request.to_string()).unwrap_or_else(|why| panic!("{request}: {why:?}"));
        assert_eq!(reference, Some(7));
        request.as_object_mut().unwrap().remove("ref");
        let without = read(&request.to_string());
        assert_eq!(without.is_err(), read_request.is_answered(), "{request}");
        request["ref"] = json!(8);
        if !matches!(read_request, FromDevice::Room(_)) {
            request["surprise"] = json!(1);
            let why = refused(&request);
            assert_eq!((why.reference, why.code), (Some(8), Code::InvalidFields), "{request}");
            assert!(why.detail.contains("surprise"), "{why:?}");
        }
    }
}

#[test]
fn what_is_wrong_is_named_and_keeps_its_ref() {
    let conv = ConversationId::generate();
    let send = |field: &str, value: serde_json::Value| {
        let mut request =
            json!({"ref": 5, "type": "send", "conversation": conv, "client_msg_id": "m", "text": "x"});
        request[field] = value;
        refused(&request)
    };
    for (field, value, words) in [
        ("conversation", json!(UserId::generate()), "`conv_`"),
        ("conversation", json!(null), "conversation"),
        ("client_msg_id", json!(""), "client_msg_id"),
        ("client_msg_id", json!("x".repeat(65)), "client_msg_id"),
        ("client_msg_id", json!("ä"), "client_msg_id"),
        ("text", json!(""), "text"),
        ("text", json!(5), "text"),
        ("reply_to", json!(-1), "reply_to"),
        ("reply_to", json!(u64::MAX), "reply_to"),
        ("mentions", json!([conv]), "mentions[0]"),
        ("mentions", json!(vec![UserId::generate(); 101]), "mentions"),
        ("location", json!({"latitude": 91, "longitude": 0}), "location.latitude"),
        ("location", json!({"latitude": 1, "longitude": 0, "scope": "members"}), "location.members"),
        ("location", json!({"latitude": 1, "longitude": 0, "until": "tomorrow"}), "location.until"),
        ("ref", json!(1.5), "ref"),
    ] {
        let why = send(field, value.clone());
        assert_eq!(why.code, Code::InvalidFields, "{field} {value}");
        assert!(why.detail.contains(words), "{field} {value}: {}", why.detail);
        assert_eq!(why.reference, (field != "ref").then_some(5), "{field}");
    }
    let why = refused(&json!({"ref": 1, "type": "sned"}));
    assert_eq!((why.reference, why.code), (Some(1), Code::UnknownType));
    let why = refused(&json!({"ref": 1}));
    assert_eq!((why.reference, why.code), (Some(1), Code::InvalidFields));
    for text in ["", "[]", "{", "null", "{\"type\":\"ping\"} {}", "\u{0}"] {
        assert_eq!(read(text).expect_err(text).code, Code::MalformedJson, "{text:?}");
    }
    let deep = format!("{{\"type\":\"room.x\",\"ref\":1,\"a\":{}", "[".repeat(60_000));
    assert_eq!(read(&deep).expect_err("deep").code, Code::MalformedJson);
}

#[test]
fn tokens_are_not_printed() {
    let (_, request) = read(r#"{"ref":1,"type":"connect","token":"hunter2"}"#).expect("a request");
    assert!(!format!("{request:?}").contains("hunter2"));
}

#[test]
fn answers_carry_their_ref_and_pushes_none() {
    let (conv, user, device, session) =
        (ConversationId::generate(), UserId::generate(), DeviceId::generate(), SessionId::generate());
    let at = datetime!(2026-01-02 12:00:00.5 UTC);
    let limits = Limits { message_bytes: 65_536, requests_per_s: 50 };
    let connected = Answer::Connected { session, user, device, ping_interval_ms: 25_000, limits, queue: 3 };
    assert_eq!(
        said(&answer(1, &connected)),
        json!({"ref": 1, "type": "connected", "session": session, "user": user, "device": device, "ping_interval_ms": 25_000,
            "limits": {"message_bytes": 65_536, "requests_per_s": 50}, "queue": 3})
    );
    let sent = Answer::Sent {
        conversation: conv,
        client_msg_id: "m".into(),
        epoch: 1,
        seq: 2,
        at,
        duplicate: false,
    };
    assert_eq!(
        said(&answer(2, &sent)),
        json!({"ref": 2, "type": "sent", "conversation": conv, "client_msg_id": "m", "epoch": 1, "seq": 2,
            "at": "2026-01-02T12:00:00.500Z", "duplicate": false})
    );
    assert_eq!(said(&answer(3, &Answer::Ok)), json!({"ref": 3, "type": "ok"}));
    let other = json!({"type": "room.joined", "room": "r"}).as_object().cloned().expect("an object");
    assert_eq!(
        said(&answer(4, &Answer::Other(other))),
        json!({"ref": 4, "type": "room.joined", "room": "r"})
    );
    let body = serde_json::value::RawValue::from_string(r#"{"text":"hello"}"#.into()).expect("JSON");
    let entry = Entry {
        conversation: conv,
        epoch: 1,
        seq: 2,
        kind: "message".into(),
        sender: Some(user),
        at,
        client_msg_id: None,
        body: body.into(),
    };
    let expected = json!({"conversation": conv, "epoch": 1, "seq": 2, "kind": "message", "sender": user,
        "at": "2026-01-02T12:00:00.500Z", "body": {"text": "hello"}});
    let mut pushed = said(&push(&Push::Entry(entry.clone())));
    assert_eq!(pushed.as_object_mut().expect("an object").remove("type"), Some(json!("entry")));
    assert_eq!(pushed, expected);
    let entries =
        Answer::Entries { conversation: conv, epoch: 1, entries: vec![entry], top: 2, recovered: true };
    assert_eq!(said(&answer(5, &entries))["entries"], json!([expected]));
    assert_eq!(
        said(&refuse(None, Code::RateLimited, "slowly", Some(20))),
        json!({"type": "error", "code": "rate_limited", "detail": "slowly", "retry_after_ms": 20})
    );
    assert_eq!(
        said(&goodbye(crate::chat::goodbye::Goodbye::Drain, 12)),
        json!({"type": "goodbye", "code": 4000, "reason": "this node is leaving, another takes over", "reconnect": true,
            "after_ms": 12})
    );
}

proptest! {
    #[test]
    fn no_text_ends_in_a_panic(noise in any::<String>(), kind in "[a-z.]{0,12}", value in "[ -~]{0,60}") {
        let _: Result<_, Refused> = read(&noise);
        let _: Result<_, Refused> = read(&format!("{{\"ref\":1,\"type\":\"{kind}\",\"conversation\":{value}}}"));
        for kind in FromDevice::KINDS {
            let _: Result<_, Refused> = read(&format!("{{\"ref\":1,\"type\":\"{kind}\",\"conversation\":{value}}}"));
        }
    }
}
