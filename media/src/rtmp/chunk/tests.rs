use super::header::EXTENDED;
use super::*;

fn read_all(assembler: &mut Assembler, mut input: &[u8]) -> Result<Vec<Message>, Error> {
    let mut messages = Vec::new();
    while let Some(received) = assembler.read(&mut input)? {
        if let Received::Message(message) = received {
            messages.push(message);
        }
    }
    Ok(messages)
}

fn times(bytes: &[u8]) -> Vec<u32> {
    let messages = read_all(&mut Assembler::new(), bytes).unwrap();
    messages.iter().map(|message| message.timestamp_ms).collect()
}

/// Type 0 on chunk stream 4: time, length, type 8, message stream 1.
fn full(time: u32, length: u8) -> Vec<u8> {
    let mut bytes = vec![4];
    bytes.extend(&time.min(EXTENDED).to_be_bytes()[1..]);
    bytes.extend([0, 0, length, 8, 1, 0, 0, 0]);
    if time >= EXTENDED {
        bytes.extend(time.to_be_bytes());
    }
    bytes
}

#[test]
fn constant_size_messages_advance_by_the_last_delta() {
    // As FFmpeg writes µ-law audio: full header, then a delta of 128, then one-byte headers.
    let mut bytes = full(0, 2);
    bytes.extend([1, 1]);
    bytes.extend([0x84, 0, 0, 128, 1, 1]);
    for _ in 0..3 {
        bytes.extend([0xc4, 1, 1]);
    }
    assert_eq!(times(&bytes), [0, 128, 256, 384, 512]);
}

#[test]
fn type_3_after_type_0_adds_its_timestamp_as_the_standard_says() {
    let mut bytes = full(128, 1);
    bytes.extend([9, 0xc4, 9]);
    assert_eq!(times(&bytes), [128, 256]);
}

#[test]
fn chunks_of_two_streams_interleave() {
    let video: Vec<u8> = (0..200).collect();
    let mut bytes = vec![6, 0, 0, 0, 0, 0, 200, 9, 1, 0, 0, 0];
    bytes.extend(&video[..128]);
    bytes.extend(full(5, 3));
    bytes.extend([7, 8, 9, 0xc6]);
    bytes.extend(&video[128..]);
    let messages = read_all(&mut Assembler::new(), &bytes).unwrap();
    assert_eq!(messages.len(), 2);
    assert_eq!((messages[0].kind, &messages[0].payload[..]), (8, &[7, 8, 9][..]));
    assert_eq!((messages[1].kind, &messages[1].payload[..]), (9, &video[..]));
}

#[test]
fn chunk_stream_ids_of_all_three_forms_are_told_apart() {
    for (basic, id) in [(vec![5], 5), (vec![0, 0], 64), (vec![0, 255], 319), (vec![1, 1, 1], 321)] {
        let mut bytes = basic.clone();
        bytes.extend([0, 0, 1, 0, 0, 1, 9, 1, 0, 0, 0, 42]);
        let mut assembler = Assembler::new();
        assert_eq!(read_all(&mut assembler, &bytes).unwrap().len(), 1);
        assert_eq!(assembler.streams[0].id, id);
    }
}

#[test]
fn extended_timestamps_are_read_whether_continuations_repeat_them_or_not() {
    let body: Vec<u8> = (0..=255).cycle().take(300).collect();
    for time in [0xff_fff0, EXTENDED, 0x100_0001, 0xffff_fff0] {
        for repeats in [true, false] {
            let mut bytes = vec![6];
            bytes.extend(&time.min(EXTENDED).to_be_bytes()[1..]);
            bytes.extend([0, 1, 44, 9, 1, 0, 0, 0]);
            if time >= EXTENDED {
                bytes.extend(time.to_be_bytes());
            }
            for (n, chunk) in body.chunks(128).enumerate() {
                if n > 0 {
                    bytes.push(0xc6);
                    if repeats && time >= EXTENDED {
                        bytes.extend(time.to_be_bytes());
                    }
                }
                bytes.extend(chunk);
            }
            bytes.extend(full(7, 1));
            bytes.push(1);
            for piece in [1, 3, bytes.len()] {
                let mut assembler = Assembler::new();
                let mut messages = Vec::new();
                for piece in bytes.chunks(piece) {
                    messages.extend(read_all(&mut assembler, piece).unwrap());
                }
                assert_eq!(messages.len(), 2, "{time:#x} {repeats}");
                assert_eq!(messages[0].timestamp_ms, time);
                assert_eq!(messages[0].payload, body);
                assert_eq!(messages[1].timestamp_ms, 7);
            }
        }
    }
}

#[test]
fn an_omitted_timestamp_that_looks_repeated_at_first_is_payload_and_next_header() {
    // The message's last two bytes are those the timestamp would begin with; then comes a header that goes on
    // like it for one more byte.
    let time = 0x0100_0004_u32;
    let mut bytes = vec![6, 0xff, 0xff, 0xff, 0, 0, 130, 9, 1, 0, 0, 0];
    bytes.extend(time.to_be_bytes());
    bytes.extend([7; 128]);
    bytes.extend([0xc6, 1, 0]);
    bytes.extend([0, 0, 0, 0, 9, 0, 0, 1, 8, 1, 0, 0, 0, 42]);
    for piece in 1..bytes.len() {
        let mut assembler = Assembler::new();
        let mut messages = Vec::new();
        for piece in bytes.chunks(piece) {
            messages.extend(read_all(&mut assembler, piece).unwrap());
        }
        assert_eq!(messages.len(), 2);
        assert_eq!(&messages[0].payload[126..], [7, 7, 1, 0]);
        assert_eq!((messages[1].timestamp_ms, &messages[1].payload[..]), (9, &[42][..]));
    }
}

#[test]
fn time_wraps_with_a_delta() {
    let mut bytes = full(0xffff_fff0, 1);
    bytes.extend([1, 0x84, 0, 0, 0x20, 1]);
    assert_eq!(times(&bytes), [0xffff_fff0, 0x10]);
}

#[test]
fn chunk_sizes_of_0_and_1_and_2_to_the_31_do_no_harm() {
    for (size, body_len) in [(0_u32, 5_u8), (1, 5), (0x7fff_ffff, 255), (u32::MAX, 255)] {
        let mut assembler = Assembler::new();
        assembler.set_chunk_bytes_max(size);
        let step = assembler.chunk_bytes_max;
        let mut bytes = full(0, body_len);
        for (n, chunk) in vec![3; body_len.into()].chunks(step).enumerate() {
            if n > 0 {
                bytes.push(0xc4);
            }
            bytes.extend(chunk);
        }
        assert_eq!(read_all(&mut assembler, &bytes).unwrap()[0].payload.len(), usize::from(body_len));
    }
}

#[test]
fn chunk_streams_and_message_lengths_and_bytes_in_flight_have_their_ends() {
    let mut bytes = Vec::new();
    for id in 0..=u8::try_from(CHUNK_STREAMS_MAX).unwrap() {
        bytes.extend([0, id, 0, 0, 0, 0, 0xff, 0xff, 9, 1, 0, 0, 0]);
        bytes.extend([0; 128]);
    }
    assert_eq!(read_all(&mut Assembler::new(), &bytes), Err(Error::ChunkStreams));

    let bytes = [4, 0, 0, 0, 0x80, 0, 1, 9, 1, 0, 0, 0];
    assert_eq!(read_all(&mut Assembler::new(), &bytes), Err(Error::MessageTooLong(0x80_0001)));

    let mut assembler = Assembler::new();
    assembler.set_chunk_bytes_max(7 << 20);
    let mut result = Ok(Vec::new());
    for id in [4, 5, 6] {
        result = read_all(&mut assembler, &[id, 0, 0, 0, 0x80, 0, 0, 9, 1, 0, 0, 0])
            .and_then(|_| read_all(&mut assembler, &vec![0; 7 << 20]));
    }
    assert_eq!(result, Err(Error::InFlight));
}

#[test]
fn what_is_only_announced_is_not_allocated() {
    let mut assembler = Assembler::new();
    assembler.set_chunk_bytes_max(1);
    let mut bytes = Vec::new();
    for id in 2..60 {
        bytes.extend([id, 0, 0, 0, 0x80, 0, 0, 9, 1, 0, 0, 0, 1]);
    }
    read_all(&mut assembler, &bytes).unwrap();
    let held: usize = assembler.streams.iter().map(|stream| stream.body.capacity()).sum();
    assert!(held <= bytes.len() * 58, "{held} bytes for {} received", bytes.len());
    assert_eq!(assembler.in_flight_bytes(), 58);
}

#[test]
fn an_abort_or_a_new_header_drops_the_partial_message() {
    let mut assembler = Assembler::new();
    let mut bytes = full(0, 200);
    bytes.extend([1; 128]);
    read_all(&mut assembler, &bytes).unwrap();
    assert_eq!(assembler.in_flight_bytes(), 128);
    assembler.abort(4);
    assembler.abort(77);
    assert_eq!((assembler.in_flight_bytes(), assembler.restarted()), (0, 1));

    read_all(&mut assembler, &bytes).unwrap();
    let mut next = full(9, 1);
    next.push(5);
    assert_eq!(read_all(&mut assembler, &next).unwrap()[0].payload, [5][..]);
    assert_eq!((assembler.in_flight_bytes(), assembler.restarted()), (0, 2));
}

#[test]
fn a_chunk_stream_may_begin_with_type_1_but_not_later() {
    let bytes = [0x42, 0, 0, 10, 0, 0, 1, 4, 1];
    assert_eq!(times(&bytes), [10]);
    for first in [0x82, 0xc2] {
        assert_eq!(read_all(&mut Assembler::new(), &[first, 0, 0, 1]), Err(Error::ChunkHeader));
    }
}

#[test]
fn acknowledgements_follow_the_window_and_ignore_zero() {
    let mut assembler = Assembler::new();
    assembler.set_window_bytes(0);
    assert_eq!(assembler.window_bytes, None);
    assembler.set_window_bytes(1);
    let mut bytes = Vec::new();
    for _ in 0..1_000 {
        bytes.extend(full(0, 100));
        bytes.extend([0; 100]);
    }
    let (mut input, mut acknowledged) = (&bytes[..], Vec::new());
    while let Some(received) = assembler.read(&mut input).unwrap() {
        if let Received::Acknowledge(total) = received {
            acknowledged.push(total);
        }
    }
    assert_eq!(acknowledged.len(), bytes.len() / (ACK_WINDOW_BYTES_MIN as usize + 48));
    assert!(acknowledged.windows(2).all(|pair| u64::from(pair[1] - pair[0]) >= ACK_WINDOW_BYTES_MIN));
}

#[test]
fn what_is_written_can_be_read() {
    let mut out = BytesMut::new();
    let payload: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    write(&mut out, 3, 20, 1, &payload, 4_096);
    let mut assembler = Assembler::new();
    assembler.set_chunk_bytes_max(4_096);
    let messages = read_all(&mut assembler, &out).unwrap();
    assert_eq!(messages.len(), 1);
    assert_eq!((messages[0].kind, messages[0].stream_id), (20, 1));
    assert_eq!(messages[0].payload, payload);
}
