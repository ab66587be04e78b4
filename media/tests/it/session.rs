//! The life of a publish, as its publisher and its door tell it.

use std::time::Duration;

use nova_media::codec::Configuration;
use nova_media::frame::{Media, Track};
use nova_media::rtmp::amf0::{self, Value};
use nova_media::rtmp::{Deadline, EndReason, Error, Metadata, Output, kind, limits};

use crate::encoder::{ASC_48K, AVCC_480I, AVCC_720P, Door, Encoder, picture};

#[test]
fn the_key_decides_before_publishing_starts() {
    let mut door = Door::new();
    door.hear(&Encoder::asking("live", "sk_1?token=abc").take());
    let request = door.request().unwrap();
    assert_eq!((request.app.as_str(), request.key.as_str()), ("live", "sk_1"));
    assert_eq!((request.query.as_str(), request.tc_url.as_str()), ("token=abc", "rtmp://localhost/live"));
    assert_eq!((request.encoder.as_str(), request.kind.as_str()), ("FMLE/3.0 (compatible; Test)", "live"));
    assert_eq!(door.statuses(), Vec::<[String; 3]>::new(), "nothing is promised yet");
    assert_eq!(door.ingest.next_deadline(), None, "judging takes as long as it takes");

    door.accept();
    let statuses = door.statuses();
    assert_eq!(statuses.len(), 1);
    assert_eq!(statuses[0][..2], ["NetStream.Publish.Start", "status"]);
    assert_eq!(door.ended(), None);
}

#[test]
fn a_refused_publisher_reads_why() {
    let mut door = Door::new();
    door.hear(&Encoder::asking("live", "wrong").take());
    let outputs = door.ingest.refuse_publish("This stream key is not known.");
    door.outputs.extend(outputs);
    assert_eq!(door.statuses(), [["NetStream.Publish.BadName", "error", "This stream key is not known."]]);
    assert_eq!(door.ended(), Some(&EndReason::Refused));

    door.outputs.clear();
    door.accept();
    door.hear(&Encoder::asking("live", "right").take());
    assert_eq!(door.outputs, [], "it is over");
}

#[test]
fn the_answers_to_the_opening_calls_match_their_numbers() {
    let mut door = Door::new();
    door.hear(&Encoder::asking("live", "key").take());
    let answers = door.answers();
    let kinds: Vec<u8> = answers.iter().map(|answer| answer.kind).collect();
    let [window, bandwidth, chunk] =
        [kind::WINDOW_ACKNOWLEDGEMENT_SIZE, kind::SET_PEER_BANDWIDTH, kind::SET_CHUNK_SIZE];
    assert_eq!(kinds, [window, bandwidth, chunk, kind::COMMAND, kind::COMMAND, kind::COMMAND, kind::COMMAND]);
    let numbers: Vec<f64> = answers[3..]
        .iter()
        .map(|answer| {
            let values = amf0::decode(&answer.payload).unwrap();
            assert_eq!(values[0], "_result".into());
            values[1].number().unwrap()
        })
        .collect();
    assert_eq!(numbers, [1.0, 2.0, 3.0, 4.0]);
    let created = amf0::decode(&answers[6].payload).unwrap();
    assert_eq!(created[3], Value::Number(1.0), "the first message stream");
}

#[test]
fn enhanced_rtmp_is_negotiated_with_those_who_speak_it() {
    let result = |more: Option<(&str, Value)>| {
        let mut door = Door::new();
        let mut encoder = Encoder::greeted();
        encoder.chunk_size(4_096);
        match more {
            Some(field) => encoder.connect("live", [field]),
            None => encoder.connect("live", []),
        }
        door.hear(&encoder.take());
        let answers = door.answers();
        (amf0::decode(&answers[3].payload).unwrap(), door.ingest.request_reconnect("Moving.").is_some())
    };
    let (plain, reconnects) = result(None);
    assert_eq!((plain[3].get("fourCcList"), reconnects), (None, false));
    let (enhanced, reconnects) = result(Some(("fourCcList", Value::Array(vec!["*".into()]))));
    let all = ["avc1", "hvc1", "av01", "mp4a", "Opus"].map(Value::from).to_vec();
    assert_eq!((enhanced[3].get("fourCcList"), reconnects), (Some(&Value::Array(all)), false));
    assert_eq!(enhanced[2].get("videoFourCcInfoMap").unwrap().get("hvc1"), Some(&Value::Number(4.0)));
    let (able, reconnects) = result(Some(("capsEx", Value::Number(3.0))));
    assert_eq!((able[3].get("capsEx"), reconnects), (Some(&Value::Number(5.0)), true));
}

#[test]
fn media_sent_along_with_the_request_waits_for_the_answer() {
    let mut door = Door::new();
    let mut encoder = Encoder::asking("live", "key");
    encoder.video_header(AVCC_720P);
    encoder.audio_header(ASC_48K);
    encoder.picture(0, true);
    encoder.sound(5);
    door.hear(&encoder.take());
    assert_eq!(door.media().len(), 0);
    door.accept();
    assert_eq!(door.media().len(), 4);
    assert!(door.frames(Track::Video)[0].keyframe);

    let mut door = Door::new();
    let mut encoder = Encoder::asking("live", "key");
    encoder.video_header(AVCC_720P);
    for n in 0..limits::HELD_MESSAGES_MAX as u32 + 44 {
        encoder.picture(n * 40, n == 0);
    }
    door.hear(&encoder.take());
    door.accept();
    assert_eq!(door.frames(Track::Video).len(), limits::HELD_MESSAGES_MAX - 1);
    assert_eq!(door.ingest.report(door.now).dropped.early, 45);
}

#[test]
fn every_step_has_its_deadline() {
    let mut door = Door::new();
    assert_eq!(door.ingest.next_deadline(), Some(door.now + limits::HANDSHAKE_TIMEOUT));
    // One byte a second does not help.
    for _ in 0..4 {
        door.wait(Duration::from_secs(1));
        door.hear(&[3]);
    }
    assert_eq!(door.ended(), None);
    door.wait(Duration::from_secs(1));
    assert_eq!(door.ended(), Some(&EndReason::TooLate(Deadline::Handshake)));
    assert_eq!(door.ingest.next_deadline(), None);

    let mut door = Door::new();
    let mut encoder = Encoder::greeted();
    encoder.chunk_size(4_096);
    encoder.connect("live", []);
    door.hear(&encoder.take());
    door.wait(limits::PUBLISH_TIMEOUT);
    assert_eq!(door.ended(), Some(&EndReason::TooLate(Deadline::Publish)));

    let mut door = Door::open();
    door.wait(limits::FIRST_MEDIA_TIMEOUT - Duration::from_millis(1));
    assert_eq!(door.ended(), None);
    door.wait(Duration::from_millis(1));
    assert_eq!(door.ended(), Some(&EndReason::TooLate(Deadline::FirstMedia)));
    assert_eq!(door.statuses()[0][1], "error", "and its user reads it");

    let mut door = Door::open();
    let mut encoder = Encoder::default();
    encoder.video_header(AVCC_720P);
    encoder.picture(0, true);
    door.hear(&encoder.take());
    assert_eq!(door.ingest.next_deadline(), Some(door.now + limits::IDLE_TIMEOUT));
    door.wait(limits::IDLE_TIMEOUT);
    assert_eq!(door.ended(), Some(&EndReason::TooLate(Deadline::Idle)));
}

#[test]
fn whoever_speaks_after_a_long_silence_nobody_measured_is_still_heard() {
    let mut door = Door::open();
    let mut encoder = Encoder::default();
    encoder.video_header(AVCC_720P);
    encoder.picture(0, true);
    door.hear(&encoder.take());
    door.now += limits::IDLE_TIMEOUT * 2;
    encoder.picture(40, false);
    door.hear(&encoder.take());
    assert_eq!((door.ended(), door.frames(Track::Video).len()), (None, 2));
}

#[test]
fn media_without_codec_headers_is_held_against_the_publisher_after_five_seconds() {
    let mut door = Door::open();
    let mut encoder = Encoder::default();
    for n in 0..100 {
        encoder.picture(n * 40, n % 50 == 0);
        door.hear(&encoder.take());
        door.wait(Duration::from_millis(40));
    }
    assert_eq!(door.ended(), None);
    assert_eq!(door.ingest.report(door.now).dropped.unconfigured, 100);
    door.wait(Duration::from_secs(1));
    assert_eq!(door.ended(), Some(&EndReason::TooLate(Deadline::Configuration)));

    // Sound alone is a stream, whatever is wrong with the pictures.
    let mut door = Door::open();
    encoder.picture(0, true);
    encoder.audio_header(ASC_48K);
    encoder.sound(0);
    door.hear(&encoder.take());
    for n in 1..300 {
        encoder.sound(n * 21);
        door.hear(&encoder.take());
        door.wait(Duration::from_millis(21));
    }
    assert_eq!((door.ended(), door.frames(Track::Audio).len()), (None, 300));
}

#[test]
fn a_camera_that_sends_its_parameter_sets_inside_the_pictures_is_understood() {
    let Ok(Configuration::H264(known)) =
        nova_media::codec::h264::Configuration::parse(&AVCC_720P.into()).map(Configuration::H264)
    else {
        panic!()
    };
    let mut body = vec![0x17, 1, 0, 0, 0];
    for nal in [&known.sps[..], &known.pps[..], &[0x65, 0x88]] {
        body.extend((nal.len() as u32).to_be_bytes());
        body.extend(nal);
    }
    let mut door = Door::open();
    let mut encoder = Encoder::default();
    encoder.message(6, kind::VIDEO, 0, &body);
    door.hear(&encoder.take());
    let media = door.media();
    let Media::Configuration { configuration, .. } = media[0] else { panic!("{media:?}") };
    assert_eq!(configuration.codecs(), "avc1.64001f");
    assert!(matches!(media[1], Media::Frame(frame) if frame.keyframe));
}

#[test]
fn parameter_sets_inside_the_stream_and_a_header_that_differs_do_not_take_turns() {
    let inside = nova_media::codec::h264::Configuration::parse(&AVCC_480I.into()).unwrap();
    let mut body = vec![0x17, 1, 0, 0, 0];
    for nal in [&inside.sps[..], &inside.pps[..], &[0x65, 0x88]] {
        body.extend((nal.len() as u32).to_be_bytes());
        body.extend(nal);
    }
    let mut door = Door::open();
    let mut encoder = Encoder::default();
    for n in 0..10 {
        encoder.video_header(AVCC_720P);
        encoder.message(6, kind::VIDEO, n * 1_000, &body);
        encoder.picture(n * 1_000 + 500, false);
    }
    door.hear(&encoder.take());
    let told = door.media().into_iter().filter(|media| matches!(media, Media::Configuration { .. })).count();
    assert_eq!(told, 2, "the header's, then that of the pictures");
    assert_eq!(door.frames(Track::Video).len(), 20);
}

#[test]
fn a_new_picture_size_is_a_new_configuration_and_a_repeated_header_is_none() {
    let mut door = Door::open();
    let mut encoder = Encoder::default();
    encoder.video_header(AVCC_720P);
    encoder.picture(0, true);
    encoder.video_header(AVCC_720P);
    encoder.picture(40, true);
    encoder.video_header(AVCC_480I);
    encoder.picture(80, true);
    door.hear(&encoder.take());
    let sizes: Vec<_> = door
        .media()
        .into_iter()
        .map(|media| match media {
            Media::Configuration { configuration, .. } => {
                configuration.picture().map(|picture| picture.width)
            }
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [Some(1_280), None, None, Some(854), None]);
    assert_eq!(door.times(Track::Video), [0, 40, 80]);
}

#[test]
fn broken_and_foreign_media_is_dropped_and_counted_and_the_stream_goes_on() {
    let mut door = Door::open();
    let mut encoder = Encoder::default();
    encoder.video_header(AVCC_720P);
    encoder.message(6, kind::VIDEO, 0, &[]);
    encoder.message(6, kind::VIDEO, 0, &[0x17, 1, 0]);
    encoder.message(6, kind::VIDEO, 0, &[0x17, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x65]);
    encoder.message(6, kind::VIDEO, 0, &[0x17, 0, 0, 0, 0, 1, 2, 3]);
    encoder.message(6, kind::VIDEO, 0, &[0x17, 1, 0, 0, 0, 0, 0, 0, 1, 0x06]);
    encoder.message(6, kind::VIDEO, 0, b"\x96\x03hvc1\x01\x09");
    encoder.message(4, kind::AUDIO, 0, &[0x82, 1, 2, 3]);
    encoder.message(4, kind::AUDIO, 0, &[0x82, 1, 2, 3]);
    encoder.message(4, kind::DATA, 0, &[0xff; 9]);
    encoder.message(3, kind::COMMAND, 0, &[0xff; 9]);
    encoder.message(3, 99, 0, &[0xff; 9]);
    encoder.picture(0, true);
    // Labelled a keyframe, but none.
    let mut lie = picture(0, false);
    lie[0] = 0x17;
    encoder.message(6, kind::VIDEO, 40, &lie);
    door.hear(&encoder.take());
    assert_eq!(door.ended(), None);
    let keyframes: Vec<_> = door.frames(Track::Video).iter().map(|frame| frame.keyframe).collect();
    assert_eq!(keyframes, [true, false]);
    let named = door.media().into_iter().filter(|media| matches!(media, Media::Unsupported { .. })).count();
    assert_eq!(named, 1, "a foreign coding is named once");
    let report = door.ingest.report(door.now);
    let dropped = report.dropped;
    assert_eq!((dropped.broken, dropped.empty, dropped.other_track, dropped.unsupported), (3, 2, 1, 2));
    assert_eq!(report.false_keyframes, 1);
}

#[test]
fn any_of_the_three_farewells_ends_the_stream() {
    for farewell in ["FCUnpublish", "deleteStream", "closeStream"] {
        let mut door = Door::open();
        let mut encoder = Encoder::default();
        encoder.call(farewell, [1.0.into()]);
        encoder.call(farewell, [1.0.into()]);
        door.hear(&encoder.take());
        assert_eq!(door.ended(), Some(&EndReason::Unpublished), "{farewell}");
        assert!(matches!(door.outputs.last(), Some(Output::Ended(_))), "nothing follows the end");
    }
    let mut door = Door::new();
    let mut encoder = Encoder::greeted();
    encoder.chunk_size(4_096);
    encoder.connect("live", []);
    encoder.call("deleteStream", [1.0.into()]);
    door.hear(&encoder.take());
    assert_eq!(door.ended(), None, "clearing the stage beforehand is no farewell");
}

#[test]
fn who_wants_to_watch_is_told_where() {
    let mut door = Door::new();
    let mut encoder = Encoder::greeted();
    encoder.chunk_size(4_096);
    encoder.connect("live", []);
    encoder.call("createStream", []);
    encoder.call("getStreamLength", ["key".into()]);
    encoder.call("play", ["key".into()]);
    door.hear(&encoder.take());
    let statuses = door.statuses();
    assert_eq!(statuses[0][..2], ["NetStream.Play.Failed", "error"]);
    assert!(statuses[0][2].contains("HLS"), "{statuses:?}");
    assert_eq!(door.ended(), Some(&EndReason::PlayRequested));
}

#[test]
fn a_second_publish_on_the_same_connection_does_not_disturb_the_first() {
    let mut door = Door::open();
    let mut encoder = Encoder::default();
    encoder.call("publish", ["other".into(), "live".into()]);
    encoder.video_header(AVCC_720P);
    encoder.picture(0, true);
    door.hear(&encoder.take());
    assert_eq!(door.statuses()[0][0], "NetStream.Publish.BadName");
    assert_eq!((door.request(), door.ended(), door.frames(Track::Video).len()), (None, None, 1));
}

#[test]
fn commands_out_of_their_turn_end_the_connection() {
    for (calls, reason) in [
        (&["publish"][..], Error::OutOfTurn("a command before connect")),
        (&["connect", "connect"], Error::OutOfTurn("connect")),
    ] {
        let mut door = Door::new();
        let mut encoder = Encoder::greeted();
        encoder.chunk_size(4_096);
        for call in calls {
            match *call {
                "connect" => encoder.connect("live", []),
                other => encoder.call(other, ["key".into()]),
            }
        }
        door.hear(&encoder.take());
        assert_eq!(door.ended(), Some(&EndReason::Protocol(reason)));
    }
}

#[test]
fn pings_and_unknown_calls_are_answered() {
    let mut door = Door::open();
    let mut encoder = Encoder::default();
    encoder.message(2, kind::USER_CONTROL, 0, &[0, 6, 1, 2, 3, 4]);
    encoder.call("_checkbw", []);
    encoder.call("makeCoffee", []);
    encoder.command(&["onBWDone".into(), 0.0.into()]);
    door.hear(&encoder.take());
    let answers = door.answers();
    assert_eq!(answers.len(), 3);
    assert_eq!((answers[0].kind, &answers[0].payload[..]), (kind::USER_CONTROL, &[0, 7, 1, 2, 3, 4][..]));
    let names: Vec<_> = answers[1..].iter().map(|a| amf0::decode(&a.payload).unwrap()[0].clone()).collect();
    assert_eq!(names, ["_result".into(), "_error".into()]);
}

#[test]
fn amf3_messages_are_read_as_amf0() {
    let mut door = Door::new();
    let mut encoder = Encoder::greeted();
    encoder.chunk_size(4_096);
    let connect = ["connect".into(), 1.0.into(), Value::object([("app", "live".into())])];
    encoder.message(3, kind::COMMAND_AMF3, 0, &[&[0][..], &amf0::encode(&connect)].concat());
    let publish = ["publish".into(), 2.0.into(), Value::Null, "key".into(), "live".into()];
    encoder.message(3, kind::COMMAND_AMF3, 0, &[&[0][..], &amf0::encode(&publish)].concat());
    door.hear(&encoder.take());
    assert_eq!(door.request().unwrap().key, "key");
    door.accept();
    let about = Value::object([("encoder", "Test".into()), ("framerate", 30.0.into())]);
    let data = ["onMetaData".into(), about];
    encoder.message(4, kind::DATA_AMF3, 0, &[&[0][..], &amf0::encode(&data)].concat());
    door.hear(&encoder.take());
    let about = Metadata { encoder: Some("Test".into()), frames_per_s: Some(30.0), ..Metadata::default() };
    assert_eq!(door.outputs.last(), Some(&Output::Metadata(about)));
}

#[test]
fn metadata_is_passed_on_and_never_needed() {
    let mut door = Door::open();
    let mut encoder = Encoder::default();
    let about = Value::object([
        ("width", 1_280.0.into()),
        ("height", 720.0.into()),
        ("videodatarate", 2_500.0.into()),
    ]);
    encoder.message(4, kind::DATA, 0, &amf0::encode(&["@setDataFrame".into(), "onMetaData".into(), about]));
    encoder.message(4, kind::DATA, 0, &amf0::encode(&["onTextData".into(), Value::Null]));
    encoder.audio_header(ASC_48K);
    encoder.sound(0);
    door.hear(&encoder.take());
    let told: Vec<_> = door.outputs.iter().filter(|output| matches!(output, Output::Metadata(_))).collect();
    let about = Metadata {
        width: Some(1_280.0),
        height: Some(720.0),
        video_kbps: Some(2_500.0),
        ..Metadata::default()
    };
    assert_eq!(told, [&Output::Metadata(about)]);
    assert_eq!(door.frames(Track::Audio).len(), 1, "audio alone is a stream, whatever the metadata said");
}

#[test]
fn an_aggregate_is_unpacked_with_its_times() {
    let mut door = Door::open();
    let mut encoder = Encoder::default();
    encoder.video_header(AVCC_720P);
    encoder.audio_header(ASC_48K);
    let mut body = Vec::new();
    let sound = vec![0xaf, 1, 7];
    for (kind, time, tag) in [
        (kind::VIDEO, 1_000_u32, picture(0, true)),
        (kind::AUDIO, 1_010, sound),
        (kind::VIDEO, 1_040, picture(0, false)),
    ] {
        body.push(kind);
        body.extend(&(tag.len() as u32).to_be_bytes()[1..]);
        body.extend(&time.to_be_bytes()[1..]);
        body.push(time.to_be_bytes()[0]);
        body.extend([0; 3]);
        body.extend(&tag);
        body.extend((tag.len() as u32 + 11).to_be_bytes());
    }
    // What is cut off at the end is left out.
    body.extend([kind::VIDEO, 0xff, 0xff, 0xff]);
    encoder.message(6, kind::AGGREGATE, 5_000, &body);
    encoder.picture(5_080, false);
    door.hear(&encoder.take());
    assert_eq!(door.times(Track::Video), [0, 40, 80]);
    assert_eq!(door.times(Track::Audio), [10]);
    assert_eq!(door.ended(), None);
}

#[test]
fn a_publisher_is_sent_away_with_words() {
    let mut door = Door::open();
    let outputs = door.ingest.close("Another publisher has taken over this stream.");
    door.outputs.extend(outputs);
    let words = "Another publisher has taken over this stream.";
    assert_eq!(door.statuses(), [["NetConnection.Connect.Closed", "error", words]]);
    assert_eq!(door.ended(), Some(&EndReason::Closed));
    assert_eq!(door.ingest.close("Again."), []);
}

#[test]
fn the_report_tells_how_the_broadcast_is_doing() {
    let mut door = Door::open();
    let mut encoder = Encoder::default();
    encoder.video_header(AVCC_720P);
    for n in 0..90_u32 {
        encoder.picture_shown(n * 40, if n % 3 == 1 { 80 } else { 0 }, n % 30 == 0);
        door.hear(&encoder.take());
        door.wait(Duration::from_millis(40));
    }
    let health = door.ingest.report(door.now).health;
    assert_eq!((health.gop_frames, health.gop_ms), (30, 1_200));
    assert_eq!((health.video_frames, health.frames_per_s), (90, 25.0));
    assert!(health.b_frames);
    assert_eq!(health.video_bitrate_bps, 25 * 7 * 8);
}
