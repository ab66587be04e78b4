//! Calls: `call.*` and `room.*`.

use serde_json::{Value, json};

use super::super::{Message, Request};
use super::{Ref, about, boolean, list, message, named, number, object, or_null, request, said, text};
use crate::calls::signalling::{HEIGHT_MAX, NAME_CHARS_MAX, OFFER_BYTES_MAX, WANTS_MAX};

const SOURCES: [&str; 4] = ["microphone", "camera", "screen", "screen_audio"];
const ROLES: [&str; 3] = ["listener", "speaker", "host"];

fn one_of(words: &[&str]) -> Value {
    json!({ "type": "string", "enum": words })
}

fn participant() -> (&'static str, Value) {
    ("participant", named("ParticipantId"))
}

fn track() -> (&'static str, Value) {
    ("track", named("TrackId"))
}

fn items(of: Value) -> Value {
    json!({ "type": "array", "items": of })
}

/// What several messages of calls have in common.
pub(super) fn shared() -> Vec<(&'static str, Value)> {
    let name = || ("name", json!({ "type": ["string", "null"] }));
    vec![
        (
            "ParticipantId",
            about(number(u32::MAX.into()), "Somebody in a room; a number is not used again there."),
        ),
        ("TrackId", about(number(u64::MAX), "Something somebody publishes in a room.")),
        (
            "Participant",
            object(&[
                participant(),
                ("user", named("UserId")),
                name(),
                ("role", one_of(&ROLES)),
                ("hand", about(boolean(), "Whether they want to speak.")),
            ]),
        ),
        ("Guest", object(&[("user", named("UserId")), name()])),
        (
            "Track",
            object(&[
                track(),
                participant(),
                ("source", one_of(&SOURCES)),
                ("muted", about(boolean(), "Whether it is withheld.")),
                (
                    "mid?",
                    about(json!({ "type": "string" }), "For who publishes it: the m-line it is sent on."),
                ),
            ]),
        ),
        (
            "RoomStream",
            about(
                object(&[
                    ("stream", named("StreamId")),
                    ("by", named("ParticipantId")),
                    ("recorded", about(boolean(), "Whether it is kept as a recording.")),
                ]),
                "What a room is shown as, to people who are not in it.",
            ),
        ),
        ("CallSlot", object(&[("mid", json!({ "type": "string" })), ("track", or_null(named("TrackId")))])),
        (
            "IceServer",
            object(&[
                ("urls", items(json!({ "type": "string" }))),
                ("username", json!({ "type": "string" })),
                ("credential", json!({ "type": "string" })),
            ]),
        ),
    ]
}

/// Everything a device may say about calls.
pub(super) fn requests() -> Vec<Request> {
    let room = || ("room", named("RoomId"));
    let call = || ("call", named("CallId"));
    let offer = || about(text(OFFER_BYTES_MAX), "An SDP offer; the engine answers, and is ICE-lite.");
    let ok = Some("ok");
    let publication = object(&[
        ("mid", about(json!({ "type": "string" }), "The m-line of the offer it is sent on.")),
        ("source", one_of(&SOURCES)),
        ("muted?", boolean()),
    ]);
    let wanted = object(&[
        track(),
        ("height", about(number(HEIGHT_MAX.into()), "In pixels.")),
        (
            "fps?",
            about(
                or_null(json!({ "type": "integer", "minimum": 1, "maximum": u8::MAX })),
                "Pictures a second that are enough; without it all there are. Fewer are sent where the publisher's stream has temporal layers.",
            ),
        ),
        (
            "priority?",
            about(
                number(u8::MAX.into()),
                "Of two the higher is shown first, gets better pictures first and is paused last; 0 without it.",
            ),
        ),
    ]);
    vec![
        request(
            "call.start",
            Some("call.ringing"),
            "Calls everybody in a conversation, on all their devices. Where a call goes on, joins that one.",
            &[("conversation", named("ConversationId")), ("media", one_of(&["audio", "video"]))],
        ),
        request(
            "call.accept",
            Some("call.accepted"),
            "Answers on this device; the others stop ringing.",
            &[call()],
        ),
        request(
            "call.decline",
            ok,
            "Does not want to talk; it rings on for others who are called.",
            &[call()],
        ),
        request("call.cancel", ok, "Gives up calling, before anybody has answered.", &[call()]),
        request(
            "room.join",
            Some("room.joined"),
            "Comes into a room, with an offer; or back to a place in it, with its number, and with an offer when the network is another. \
             `room.moved` names the node to ask instead; after `room.waiting` a host decides. An offer with an `m=application` line has data \
             channels: one a client opens with a label is its part in the topic of that name, and brings what others say there, with their \
             number before it: text as `12 good morning`, bytes after the number in four bytes, the highest first. Whether messages are \
             promised or may be lost is said by how the channel is opened.",
            &[
                room(),
                ("offer?", or_null(offer())),
                ("name?", or_null(json!({ "type": "string", "minLength": 1, "maxLength": NAME_CHARS_MAX }))),
                ("resume?", about(or_null(number(u32::MAX.into())), "The place to come back to.")),
            ],
        ),
        request(
            "room.offer",
            Some("room.answer"),
            "Another network, or more to send.",
            &[("offer", offer())],
        ),
        request(
            "room.candidate",
            ok,
            "A candidate of the client; the engine finds its clients without.",
            &[("candidate?", json!({}))],
        ),
        request(
            "room.publish",
            Some("room.published"),
            "Publishes tracks, one of each source.",
            &[("tracks", list(publication, nova_actors::room::TRACKS_MAX))],
        ),
        request("room.unpublish", ok, "Takes a track back.", &[track()]),
        request(
            "room.mute",
            ok,
            "Withholds a track of one's own or shows it again; a host silences others.",
            &[track(), ("muted", boolean())],
        ),
        request(
            "room.view",
            ok,
            "What is shown, and how large, of one priority the most important first: what is small comes small.",
            &[("want", list(wanted, WANTS_MAX))],
        ),
        request("room.hand", ok, "Wants to speak, or no longer.", &[("up", boolean())]),
        request("room.kick", ok, "A host takes somebody out, who does not come back.", &[participant()]),
        request(
            "room.role",
            ok,
            "A host says what somebody may do.",
            &[participant(), ("role", one_of(&ROLES))],
        ),
        request("room.lock", ok, "A host lets nobody in any more, or everybody.", &[("locked", boolean())]),
        request(
            "room.lobby",
            ok,
            "A host has newcomers wait, or come in by themselves.",
            &[("on", boolean())],
        ),
        request(
            "room.admit",
            ok,
            "A host lets somebody in who waits, or does not.",
            &[("user", named("UserId")), ("admit", boolean())],
        ),
        request(
            "room.stream",
            ok,
            "A host makes the room a live stream of theirs: whoever speaks is seen, everybody is heard. Who publishes that stream otherwise \
             is sent away. All in the room hear `room.event` `streaming`.",
            &[("stream", named("StreamId"))],
        ),
        request("room.unstream", ok, "A host ends the stream of the room.", &[]),
        request(
            "room.leave",
            ok,
            "Leaves the room, or waits no longer. With a room only that one, also while `room.join` is on its way, which is refused then; who \
             is not there any more has left.",
            &[("room?", or_null(named("RoomId")))],
        ),
    ]
}

/// A call, and of what is not always known of it these fields.
fn call_fields(more: &[&str]) -> Vec<(&'static str, Value)> {
    let sometimes = vec![
        ("ring_until?", about(named("Time"), "While it rings: when it stops.")),
        ("outcome?", one_of(&["answered", "missed", "declined", "cancelled", "failed"])),
        ("answered_by?", named("UserId")),
        ("answered_on?", named("DeviceId")),
    ];
    let mut fields = vec![
        ("call", named("CallId")),
        ("conversation", named("ConversationId")),
        ("room", named("RoomId")),
        ("caller", named("UserId")),
        ("media", one_of(&["audio", "video"])),
        ("state", one_of(&["ringing", "active", "ended"])),
        ("declined", about(items(named("UserId")), "Who does not want to talk.")),
    ];
    fields.extend(sometimes.into_iter().filter(|(name, _)| more.contains(name)));
    fields
}

/// Everything that answers a request about calls.
pub(super) fn answers() -> Vec<Message> {
    let answer =
        |key, summary, fields: &[(&str, Value)]| said(key, key, summary, message(key, Ref::Needed, fields));
    let room = || ("room", named("RoomId"));
    vec![
        answer(
            "call.ringing",
            "The call, as it is by now.",
            &call_fields(&["ring_until?", "answered_by?", "answered_on?"]),
        ),
        answer(
            "call.accepted",
            "This device has answered; its user comes into the room next.",
            &call_fields(&["answered_by?", "answered_on?"]),
        ),
        answer(
            "room.joined",
            "In the room.",
            &[
                room(),
                participant(),
                ("answer?", about(json!({ "type": "string" }), "The SDP answer, where there was an offer.")),
                ("ice_servers", items(named("IceServer"))),
                ("title", json!({ "type": ["string", "null"] })),
                ("conversation", or_null(named("ConversationId"))),
                ("call", or_null(named("CallId"))),
                ("locked", boolean()),
                ("lobby", boolean()),
                ("waiting", about(items(named("Guest")), "For hosts: who waits to be let in.")),
                ("participants", items(named("Participant"))),
                ("tracks", items(named("Track"))),
                ("slots", items(named("CallSlot"))),
                ("streaming", or_null(named("RoomStream"))),
                (
                    "expires_in",
                    about(
                        number(u64::MAX),
                        "Seconds for which a place is kept for whom the connection was lost.",
                    ),
                ),
            ],
        ),
        answer(
            "room.moved",
            "The room is on another node: connect there, and join.",
            &[room(), ("url", about(json!({ "type": "string" }), "Its address, without a path."))],
        ),
        answer(
            "room.waiting",
            "A host has to let this person in: `room.event` says `admitted`, or `closed`.",
            &[room()],
        ),
        answer("room.answer", "The SDP answer.", &[("answer", json!({ "type": "string" }))]),
        answer("room.published", "What is published now.", &[("tracks", items(named("Track")))]),
    ]
}

/// Everything the engine says of calls by itself.
pub(super) fn pushes() -> Vec<Message> {
    let event = |key: &'static str, summary, fields: &[(&str, Value)]| {
        let what = key.rsplit('.').next().unwrap_or(key);
        let mut all = vec![("room", named("RoomId")), ("event", json!({ "const": what }))];
        all.extend_from_slice(fields);
        said(key, "room.event", summary, message("room.event", Ref::None, &all))
    };
    let reason = || {
        (
            "reason",
            about(
                json!({ "type": "string" }),
                "`left`, `removed`, `expired`, `replaced`, `silent`, `no_path`, `no_keys`, `fault`, `not_a_member`, `blocked`, `refused`, `moved`, `ended`, `deleted`, `media`.",
            ),
        )
    };
    vec![
        said(
            "call",
            "call",
            "How a call is, told to every device of everybody concerned: it rings while `state` is `ringing` and its user has not declined.",
            message(
                "call",
                Ref::None,
                &call_fields(&["ring_until?", "outcome?", "answered_by?", "answered_on?"]),
            ),
        ),
        event("room.event.joined", "Somebody came.", &[("participant", named("Participant"))]),
        event("room.event.left", "Somebody is gone, and what they published.", &[participant(), reason()]),
        event("room.event.published", "Something new to see or hear.", &[("track", named("Track"))]),
        event("room.event.unpublished", "It is gone.", &[track(), participant()]),
        event(
            "room.event.muted",
            "A track is withheld, or shown again.",
            &[track(), ("muted", boolean()), ("by", named("ParticipantId"))],
        ),
        event(
            "room.event.slots",
            "What comes in which m-line from now on.",
            &[("slots", items(named("CallSlot")))],
        ),
        event(
            "room.event.speakers",
            "Who speaks, the loudest first.",
            &[("participants", items(named("ParticipantId")))],
        ),
        event(
            "room.event.layers",
            "The highest layer of one's own track that anybody watches; none above need be made. Said once more to whoever resumes.",
            &[track(), ("highest", json!({ "type": ["integer", "null"], "minimum": 0, "maximum": 3 }))],
        ),
        event(
            "room.event.paused",
            "What is watched does not come for now, because the path does not carry it; or comes again.",
            &[track(), ("paused", boolean())],
        ),
        event(
            "room.event.data",
            "Something about one's own data channels: `role_too_low`, who only listens is not heard there; else they have ended, until one              joins anew: `slow` to read what was promised, `too_fast` on a channel that promises everything, a message `too_large`,              `too_many_channels`, or the `protocol` was broken.",
            &[
                (
                    "reason",
                    one_of(&[
                        "role_too_low",
                        "slow",
                        "too_fast",
                        "too_large",
                        "too_many_channels",
                        "protocol",
                    ]),
                ),
                ("ended", boolean()),
            ],
        ),
        event(
            "room.event.hand",
            "Somebody wants to speak, or no longer.",
            &[participant(), ("up", boolean())],
        ),
        event("room.event.role", "Somebody may do more or less.", &[participant(), ("role", one_of(&ROLES))]),
        event("room.event.locked", "Nobody comes in any more, or everybody.", &[("locked", boolean())]),
        event("room.event.lobby", "Newcomers wait from now on, or do not.", &[("on", boolean())]),
        event("room.event.waiting", "For hosts: who waits.", &[("waiting", items(named("Guest")))]),
        event(
            "room.event.streaming",
            "The room is shown to people who are not in it, from now on or no longer.",
            &[
                ("streaming", or_null(named("RoomStream"))),
                (
                    "reason?",
                    about(
                        one_of(&["stopped", "taken_over", "deleted", "restarted"]),
                        "Why no longer: a host ended it; somebody else publishes the stream; it was deleted, or its key replaced; the engine \
                         began anew with it.",
                    ),
                ),
            ],
        ),
        event("room.event.admitted", "For who waited: join now.", &[]),
        event("room.event.closed", "It is over for this device.", &[reason()]),
    ]
}
