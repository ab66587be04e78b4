//! Those who want to take the door down. Each attack has killed or frozen a server in the field; here it may end its own
//! connection, and nothing else.

use std::time::{Duration, Instant};

use nova_media::frame::Track;
use nova_media::rtmp::amf0::{self, Value};
use nova_media::rtmp::{EndReason, Error, Output, amf0::Error as Amf, kind, limits};

use crate::encoder::{ASC_48K, AVCC_720P, Door, Encoder, picture};

fn end_of(bytes: &[u8]) -> Option<EndReason> {
    let mut door = Door::new();
    door.hear(bytes);
    door.ended().cloned()
}

/// A greeted encoder whose chunks hold 200 000 bytes.
fn greeted() -> Encoder {
    let mut encoder = Encoder::greeted();
    encoder.chunk_size(200_000);
    encoder
}

#[test]
fn an_amf_bomb_in_connect_ends_its_connection_only() {
    // 80 kB of objects in objects: recursion without a limit overflows the stack, and nothing catches that.
    let mut encoder = greeted();
    let mut bomb = amf0::encode(&["connect".into(), 1.0.into()]).to_vec();
    bomb.extend([3, 0, 1, b'a'].repeat(20_000));
    encoder.message(3, kind::COMMAND, 0, &bomb);
    assert_eq!(end_of(&encoder.take()), Some(EndReason::Protocol(Error::Command(Amf::Depth))));

    for (body, error) in [
        (&[0x0a, 0xff, 0xff, 0xff, 0xff][..], Amf::Truncated(nova_media::bits::Truncated)),
        (&[0x02, 0xff, 0xff, 1], Amf::Truncated(nova_media::bits::Truncated)),
    ] {
        let mut encoder = greeted();
        let start = amf0::encode(&["connect".into(), 1.0.into()]);
        encoder.message(3, kind::COMMAND, 0, &[&start, body].concat());
        assert_eq!(end_of(&encoder.take()), Some(EndReason::Protocol(Error::Command(error))));
    }
    // An associative array that claims 2³² - 1 entries and has none is harmless.
    let mut encoder = greeted();
    let start = amf0::encode(&["connect".into(), 1.0.into()]);
    encoder.message(3, kind::COMMAND, 0, &[&start[..], &[0x08, 0xff, 0xff, 0xff, 0xff]].concat());
    assert_eq!(end_of(&encoder.take()), None);

    let mut encoder = greeted();
    encoder.message(3, kind::COMMAND, 0, &[5; 100_000]);
    assert_eq!(end_of(&encoder.take()), Some(EndReason::Protocol(Error::Command(Amf::Values))));

    let mut encoder = Encoder::greeted();
    encoder.chunk_size(1 << 20);
    encoder.message(3, kind::COMMAND, 0, &vec![2; limits::COMMAND_BYTES_MAX + 1]);
    let reason = EndReason::Protocol(Error::CommandTooLong(limits::COMMAND_BYTES_MAX + 1));
    assert_eq!(end_of(&encoder.take()), Some(reason));
}

#[test]
fn a_chunk_stream_bomb_ends_at_the_sixty_fifth() {
    let mut encoder = Encoder::greeted();
    encoder.chunk_size(1);
    for id in 64..65_000_u32 {
        let [low, high] = ((id - 64) as u16).to_le_bytes();
        encoder.bytes.extend([1, low, high, 0, 0, 0, 0x7f, 0xff, 0xff, kind::VIDEO, 1, 0, 0, 0, 0]);
    }
    let started = Instant::now();
    assert_eq!(end_of(&encoder.take()), Some(EndReason::Protocol(Error::ChunkStreams)));
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_message_of_sixteen_megabytes_is_refused_when_it_is_announced() {
    let mut encoder = greeted();
    encoder.bytes.extend([4, 0, 0, 0, 0xff, 0xff, 0xff, kind::VIDEO, 1, 0, 0, 0]);
    assert_eq!(end_of(&encoder.take()), Some(EndReason::Protocol(Error::MessageTooLong(0xff_ffff))));
}

#[test]
fn half_a_handshake_waits_for_its_deadline_and_for_nothing_else() {
    for length in [0, 1, 2, 1_536, 1_537, 3_000] {
        let mut bytes = vec![0; length];
        if let Some(first) = bytes.first_mut() {
            *first = 3;
        }
        let mut door = Door::new();
        door.hear(&bytes);
        door.outputs.clear();
        // Asked again and again it gives nothing and does nothing.
        for _ in 0..1_000 {
            door.hear(&[]);
        }
        assert_eq!(door.outputs, []);
        assert_eq!(door.ingest.next_deadline(), Some(door.now + limits::HANDSHAKE_TIMEOUT));
    }
}

#[test]
fn windows_and_chunk_sizes_of_zero_and_one_and_2_to_the_31_do_no_harm() {
    for window in [0, 1, u32::MAX] {
        for chunk in [0, 1, 128, 0x7fff_ffff, u32::MAX] {
            let mut door = Door::open();
            let mut encoder = Encoder::default();
            encoder.message(2, kind::WINDOW_ACKNOWLEDGEMENT_SIZE, 0, &window.to_be_bytes());
            encoder.message(2, kind::SET_PEER_BANDWIDTH, 0, &[0; 5]);
            encoder.message(2, kind::WINDOW_ACKNOWLEDGEMENT_SIZE, 0, &[]);
            encoder.message(2, kind::SET_CHUNK_SIZE, 0, &[1]);
            encoder.message(2, kind::SET_CHUNK_SIZE, 0, &chunk.to_be_bytes());
            let length = (chunk & 0x7fff_ffff).max(1) as usize;
            for (stream, kind, body) in [
                (6_u8, kind::VIDEO, [&[0x17, 0, 0, 0, 0], AVCC_720P].concat()),
                (6, kind::VIDEO, picture(0, true)),
                (4, kind::AUDIO, [&[0xaf, 0], ASC_48K].concat()),
                (4, kind::AUDIO, vec![0xaf, 1, 7]),
            ] {
                let header = [stream, 0, 0, 0, 0, 0, body.len() as u8, kind, 1, 0, 0, 0];
                encoder.bytes.extend(header);
                for (n, piece) in body.chunks(length).enumerate() {
                    if n > 0 {
                        encoder.bytes.push(0xc0 | stream);
                    }
                    encoder.bytes.extend(piece);
                }
            }
            door.hear(&encoder.take());
            assert_eq!(door.ended(), None);
            assert_eq!((door.frames(Track::Video).len(), door.frames(Track::Audio).len()), (1, 1));
        }
    }
}

#[test]
fn megabytes_in_chunks_of_one_byte_cost_what_bytes_cost() {
    let mut door = Door::open();
    let mut encoder = Encoder::default();
    encoder.video_header(AVCC_720P);
    encoder.chunk_size(1);
    let mut body = vec![0x27; 1 << 20];
    body[1] = 1;
    encoder.bytes.extend([6, 0, 0, 0, 0x10, 0, 0, kind::VIDEO, 1, 0, 0, 0]);
    for (n, byte) in body.iter().enumerate() {
        if n > 0 {
            encoder.bytes.push(0xc6);
        }
        encoder.bytes.push(*byte);
    }
    let bytes = encoder.take();
    let started = Instant::now();
    door.hear(&bytes);
    // Unoptimised and on a busy machine; a quadratic reader takes minutes.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(door.ingest.report(door.now).dropped.broken, 1);
}

#[test]
fn continuations_that_never_repeat_an_extended_timestamp_cost_what_bytes_cost() {
    let mut door = Door::open();
    let mut encoder = Encoder::default();
    encoder.chunk_size(1);
    encoder.bytes.extend([6, 0xff, 0xff, 0xff, 0x10, 0, 0, kind::VIDEO, 1, 0, 0, 0, 7, 7, 7, 7]);
    for n in 0..1 << 20 {
        if n > 0 {
            encoder.bytes.push(0xc6);
        }
        encoder.bytes.push(7);
    }
    let bytes = encoder.take();
    let started = Instant::now();
    door.hear(&bytes);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn an_abort_in_the_middle_of_a_message_is_obeyed() {
    let mut door = Door::open();
    let mut encoder = Encoder::default();
    encoder.chunk_size(128);
    encoder.bytes.extend([6, 0, 0, 0, 0, 1, 44, kind::VIDEO, 1, 0, 0, 0]);
    encoder.bytes.extend([1; 128]);
    encoder.message(2, kind::ABORT, 0, &6_u32.to_be_bytes());
    encoder.message(2, kind::ABORT, 0, &60_000_u32.to_be_bytes());
    encoder.message(2, kind::ABORT, 0, &[]);
    encoder.video_header(AVCC_720P);
    encoder.picture(0, true);
    door.hear(&encoder.take());
    assert_eq!((door.ended(), door.frames(Track::Video).len()), (None, 1));
}

#[test]
fn interleaved_messages_of_two_chunk_streams_arrive_whole() {
    let mut door = Door::open();
    let mut encoder = Encoder::default();
    encoder.video_header(AVCC_720P);
    encoder.audio_header(ASC_48K);
    encoder.chunk_size(128);
    let mut body = picture(0, true);
    body[8] = 188;
    body.resize(9 + 188, 1);
    encoder.bytes.extend([6, 0, 0, 0, 0, 0, body.len() as u8, kind::VIDEO, 1, 0, 0, 0]);
    encoder.bytes.extend(&body[..128]);
    encoder.sound(3);
    encoder.bytes.push(0xc6);
    encoder.bytes.extend(&body[128..]);
    door.hear(&encoder.take());
    assert_eq!(door.frames(Track::Video)[0].payload, body[5..]);
    assert_eq!(door.frames(Track::Audio)[0].payload, [1, 2, 3][..]);
}

#[test]
fn somebody_who_does_not_speak_rtmp_is_shown_out_at_once() {
    for first in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x02\x00", b"\x06", b"\x00"] {
        assert_eq!(end_of(first), Some(EndReason::Protocol(Error::Version(first[0]))));
    }
}

#[test]
fn answers_stay_a_small_part_of_what_is_asked() {
    let mut door = Door::open();
    let mut encoder = Encoder::default();
    encoder.message(2, kind::WINDOW_ACKNOWLEDGEMENT_SIZE, 0, &1_u32.to_be_bytes());
    for n in 0..2_000 {
        encoder.call("createStream", []);
        encoder.message(2, kind::USER_CONTROL, 0, &[0, 6, 0, 0, 0, 1]);
        encoder.message(5, kind::VIDEO, n, &[]);
        encoder.command(&["x".into(), 1.0.into(), Value::Null]);
    }
    let bytes = encoder.take();
    door.hear(&bytes);
    let answered: usize = door
        .outputs
        .iter()
        .map(|output| if let Output::Reply(reply) = output { reply.len() } else { 0 })
        .sum();
    assert!(answered < 3 * bytes.len(), "{answered} for {}", bytes.len());
    assert_eq!(door.ended(), None);
}

#[test]
fn a_thousand_publishes_leave_nothing_behind() {
    // Everything a connection holds dies with it: a session that ended keeps no bytes of its own.
    for n in 0..1_000 {
        let mut door = Door::open();
        let mut encoder = Encoder::default();
        encoder.video_header(AVCC_720P);
        encoder.picture(n, true);
        encoder.bytes.extend([4, 0, 0, 0, 0, 0x40, 0, kind::AUDIO, 1, 0, 0, 0]);
        encoder.bytes.extend([0; 1_000]);
        door.hear(&encoder.take());
        assert_eq!(door.frames(Track::Video).len(), 1);
        door.ingest.close("Enough.");
        assert!(door.ingest.has_ended());
    }
}
