//! The case groups of Autobahn's suite, by case number.

use super::*;

#[test]
fn autobahn_1_messages_of_every_length() {
    for (n, len) in [0, 125, 126, 127, 128, 65_535, 65_536, 65_536].into_iter().enumerate() {
        let payload = vec![b'*'; len];
        case(&format!("1.1.{}", n + 1), &[text(&payload)], &[said(&payload)]);
        let payload = vec![0xFE; len];
        case(&format!("1.2.{}", n + 1), &[frame(0x82, &payload)], &[Said::Binary(payload)]);
    }
}

#[test]
fn autobahn_2_pings_and_pongs() {
    let pong = |payload: &[u8]| Said::Pong(payload.to_vec());
    case("2.1", &[ping(b"")], &[pong(b"")]);
    case("2.2", &[ping(b"Hello, world!")], &[pong(b"Hello, world!")]);
    let binary = [0x00, 0xFF, 0xFE, 0xFD, 0xFC, 0xFB, 0x00, 0xFF];
    case("2.3", &[ping(&binary)], &[pong(&binary)]);
    case("2.4", &[ping(&[0xFE; 125])], &[pong(&[0xFE; 125])]);
    case("2.5", &[ping(&[0xFE; 126])], &[Said::Failed(1002)]);
    // 2.6 is 2.4 in single bytes, as `echo` does with every case.
    case("2.7", &[frame(0x8A, b"")], &[]);
    case("2.8", &[frame(0x8A, b"unsolicited pong payload")], &[]);
    case("2.9", &[frame(0x8A, b"unsolicited pong payload"), ping(b"ping payload")], &[pong(b"ping payload")]);
    let ten: Vec<_> = (0..10).map(|n| format!("payload-{n}").into_bytes()).collect();
    let pings: Vec<_> = ten.iter().map(|payload| ping(payload)).collect();
    case("2.10, 2.11", &pings, &ten.iter().map(|payload| pong(payload)).collect::<Vec<_>>());
}

#[test]
fn autobahn_3_reserved_bits() {
    let hello = b"Hello, world!";
    case("3.1", &[frame(0x81 | 0x40, hello)], &[Said::Failed(1002)]);
    case("3.2", &[text(hello), frame(0x81 | 0x20, hello), ping(b"")], &[said(hello), Said::Failed(1002)]);
    case("3.3", &[text(hello), frame(0x81 | 0x30, hello), ping(b"")], &[said(hello), Said::Failed(1002)]);
    case("3.4", &[text(hello), frame(0x81 | 0x40, hello), ping(b"")], &[said(hello), Said::Failed(1002)]);
    case("3.5", &[frame(0x82 | 0x50, &[0xFE; 8])], &[Said::Failed(1002)]);
    case("3.6", &[frame(0x89 | 0x60, hello)], &[Said::Failed(1002)]);
    case("3.7", &[frame(0x88 | 0x70, b"")], &[Said::Failed(1002)]);
}

#[test]
fn autobahn_4_reserved_opcodes() {
    for (n, opcode) in (3..=7).enumerate() {
        let n = n + 1;
        case(&format!("4.1.{n}"), &[frame(0x80 | opcode, b"")], &[Said::Failed(1002)]);
        case(
            &format!("4.1.{n} after a message"),
            &[text("Hello"), frame(0x80 | opcode, b"x"), ping(b"")],
            &[said("Hello"), Said::Failed(1002)],
        );
    }
    for (n, opcode) in (11..=15).enumerate() {
        let n = n + 1;
        case(&format!("4.2.{n}"), &[frame(0x80 | opcode, b"")], &[Said::Failed(1002)]);
        case(
            &format!("4.2.{n} after a message"),
            &[text("Hello"), frame(0x80 | opcode, b"x"), ping(b"")],
            &[said("Hello"), Said::Failed(1002)],
        );
    }
}

#[test]
fn autobahn_5_fragments() {
    let begin = |payload: &str| frame(0x01, payload.as_bytes());
    let more = |payload: &str| frame(0x00, payload.as_bytes());
    let end = |payload: &str| frame(0x80, payload.as_bytes());
    let pong = |payload: &str| Said::Pong(payload.as_bytes().to_vec());
    let failed = Said::Failed(1002);
    case("5.1", &[frame(0x09, b"fragment1"), end("fragment2")], std::slice::from_ref(&failed));
    case("5.2", &[frame(0x0A, b"fragment1"), end("fragment2")], std::slice::from_ref(&failed));
    // 5.4 and 5.5 are 5.3 in other pieces, 5.7 and 5.8 are 5.6.
    case("5.3", &[begin("fragment1"), end("fragment2")], &[said("fragment1fragment2")]);
    case(
        "5.6",
        &[begin("fragment1"), ping(b"ping payload"), end("fragment2")],
        &[pong("ping payload"), said("fragment1fragment2")],
    );
    case("5.9", &[end("non-continuation"), text("Hello")], std::slice::from_ref(&failed));
    case("5.10", &[end("non-continuation"), text("Hello")], std::slice::from_ref(&failed));
    case("5.12", &[more("non-continuation"), text("Hello")], std::slice::from_ref(&failed));
    case(
        "5.15",
        &[begin("fragment1"), end("fragment2"), more("fragment3"), text("fragment4")],
        &[said("fragment1fragment2"), failed.clone()],
    );
    let twice = [more("fragment1"), begin("fragment2"), end("fragment3")];
    case("5.16", &twice, std::slice::from_ref(&failed));
    let twice = [end("fragment1"), begin("fragment2"), end("fragment3")];
    case("5.17", &twice, std::slice::from_ref(&failed));
    case("5.18", &[begin("fragment1"), text("fragment2")], &[failed]);
    let with_pings = [
        begin("fragment1"),
        more("fragment2"),
        ping(b"pongme 1!"),
        more("fragment3"),
        more("fragment4"),
        ping(b"pongme 2!"),
        end("fragment5"),
    ];
    let whole = said("fragment1fragment2fragment3fragment4fragment5");
    case("5.19, 5.20", &with_pings, &[pong("pongme 1!"), pong("pongme 2!"), whole]);
}

#[test]
fn autobahn_6_text_is_utf8() {
    case("6.1.1", &[text("")], &[said("")]);
    case("6.1.2", &[frame(0x01, b""), frame(0x00, b""), frame(0x80, b"")], &[said("")]);
    case(
        "6.1.3",
        &[frame(0x01, b""), frame(0x00, b"middle frame payload"), frame(0x80, b"")],
        &[said("middle frame payload")],
    );
    let kosme = "Hello-µ@ßöäüàá-UTF-8!!";
    case("6.2.1", &[text(kosme)], &[said(kosme)]);
    let (front, back) = kosme.as_bytes().split_at(7);
    case("6.2.2 cut within a character", &[frame(0x01, front), frame(0x80, back)], &[said(kosme)]);
    let octets: Vec<_> = std::iter::once(frame(0x01, b""))
        .chain(kosme.as_bytes().iter().map(|byte| frame(0x00, &[*byte])))
        .chain([frame(0x80, b"")])
        .collect();
    case("6.2.3", &octets, &[said(kosme)]);
    case("6.2.4", &[text("κόσμε")], &[said("κόσμε")]);
    let broken =
        [b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5".as_slice(), b"\xED\xA0\x80", b"edited"].concat();
    case("6.3.1", &[text(&broken)], &[Said::Failed(1007)]);
    let octets: Vec<_> = std::iter::once(frame(0x01, b""))
        .chain(broken.iter().map(|byte| frame(0x00, &[*byte])))
        .chain([frame(0x80, b"")])
        .collect();
    case("6.3.2", &octets, &[Said::Failed(1007)]);

    let valid: &[(&str, &[u8])] = &[
        ("6.5.1", b"\x7F"),
        ("6.6.2", b"\xCE\xBA"),
        ("6.6.5", b"\xCE\xBA\xE1\xBD\xB9"),
        ("6.6.7", b"\xCE\xBA\xE1\xBD\xB9\xCF\x83"),
        ("6.6.9", b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC"),
        ("6.6.11", b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5"),
        ("6.7.1", b"\x00"),
        ("6.7.2", b"\xC2\x80"),
        ("6.7.3", b"\xE0\xA0\x80"),
        ("6.7.4", b"\xF0\x90\x80\x80"),
        ("6.9.1", b"\x7F"),
        ("6.9.2", b"\xDF\xBF"),
        ("6.9.3", b"\xEF\xBF\xBF"),
        ("6.9.4", b"\xF4\x8F\xBF\xBF"),
        ("6.11.1", b"\xED\x9F\xBF"),
        ("6.11.2", b"\xEE\x80\x80"),
        ("6.11.3", b"\xEF\xBF\xBD"),
        ("6.11.4", b"\xF4\x8F\xBF\xBF"),
        ("6.22.1", b"\xEF\xBF\xBE"),
        ("6.22.2", b"\xEF\xBF\xBF"),
        ("6.22.3", b"\xF0\x9F\xBF\xBE"),
        ("6.22.34", b"\xF4\x8F\xBF\xBF"),
        ("6.23.1", b"\xEF\xBF\xB9"),
        ("6.23.5", b"\xEF\xBF\xBD"),
    ];
    for (number, payload) in valid {
        case(number, &[text(payload)], &[said(payload)]);
    }
    let invalid: &[(&str, &[u8])] = &[
        ("6.6.1", b"\xCE"),
        ("6.6.3", b"\xCE\xBA\xE1"),
        ("6.6.4", b"\xCE\xBA\xE1\xBD"),
        ("6.8.1", b"\xF8\x88\x80\x80\x80"),
        ("6.8.2", b"\xFC\x84\x80\x80\x80\x80"),
        ("6.10.1", b"\xF7\xBF\xBF\xBF"),
        ("6.10.2", b"\xFB\xBF\xBF\xBF\xBF"),
        ("6.10.3", b"\xFD\xBF\xBF\xBF\xBF\xBF"),
        ("6.11.5", b"\xF4\x90\x80\x80"),
        ("6.12.1", b"\x80"),
        ("6.12.2", b"\xBF"),
        ("6.12.8", b"\x80\xBF\x80\xBF\x80\xBF"),
        ("6.13.1", b"\xC0\x20\xC1\x20\xC2\x20"),
        ("6.13.2", b"\xE0\x20\xE1\x20\xEF\x20"),
        ("6.13.3", b"\xF0\x20\xF7\x20"),
        ("6.13.5", b"\xFC\x20\xFD\x20"),
        ("6.14.1", b"\xC0"),
        ("6.14.2", b"\xE0\x80"),
        ("6.14.3", b"\xF0\x80\x80"),
        ("6.14.6", b"\xDF"),
        ("6.14.7", b"\xEF\xBF"),
        ("6.14.8", b"\xF7\xBF\xBF"),
        ("6.15.1", b"\xC0\xE0\x80\xF0\x80\x80"),
        ("6.16.1", b"\xFE"),
        ("6.16.2", b"\xFF"),
        ("6.17.1", b"\xC0\xAF"),
        ("6.17.2", b"\xE0\x80\xAF"),
        ("6.17.3", b"\xF0\x80\x80\xAF"),
        ("6.18.1", b"\xC1\xBF"),
        ("6.18.2", b"\xE0\x9F\xBF"),
        ("6.18.3", b"\xF0\x8F\xBF\xBF"),
        ("6.19.1", b"\xC0\x80"),
        ("6.20.1", b"\xED\xA0\x80"),
        ("6.20.2", b"\xED\xAD\xBF"),
        ("6.20.7", b"\xED\xBF\xBF"),
        ("6.21.1", b"\xED\xA0\x80\xED\xB0\x80"),
        ("6.21.8", b"\xED\xAF\xBF\xED\xBF\xBF"),
    ];
    for (number, payload) in invalid {
        case(number, &[text(payload)], &[Said::Failed(1007)]);
    }
}

#[test]
fn autobahn_6_4_bad_text_is_refused_before_the_rest_arrives() {
    let front = b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xF4\x90";
    // 6.4.1 and 6.4.2: the first fragment ends within a character that cannot become one any more.
    let mut reader = FrameReader::new(MESSAGE_BYTES_MAX, false);
    assert_eq!(echo_in(&mut reader, &frame(0x01, front), 1), [Said::Failed(1007)]);
    // 6.4.3 and 6.4.4: within one frame, of which the rest never comes.
    let whole = text([&front[..], b"\x80\x80edited"].concat());
    let mut reader = FrameReader::new(MESSAGE_BYTES_MAX, false);
    assert_eq!(echo_in(&mut reader, &whole[..6 + front.len()], usize::MAX), [Said::Failed(1007)]);
    // One byte less is a character that may still come.
    let mut reader = FrameReader::new(MESSAGE_BYTES_MAX, false);
    assert_eq!(echo_in(&mut reader, &whole[..6 + front.len() - 1], usize::MAX), []);
}

#[test]
fn autobahn_7_closing() {
    case("7.1.1", &[text("Hello World!"), close(1000, b"")], &[said("Hello World!"), Said::Closed(1000)]);
    case("7.1.2", &[close(1000, b""), close(1000, b"")], &[Said::Closed(1000)]);
    case("7.1.3", &[close(1000, b""), ping(b"")], &[Said::Closed(1000)]);
    case("7.1.4", &[close(1000, b""), text("late")], &[Said::Closed(1000)]);
    case(
        "7.1.5",
        &[frame(0x01, b"fragment1"), close(1000, b""), frame(0x80, b"fragment2")],
        &[Said::Closed(1000)],
    );
    let large = vec![b'B'; MESSAGE_BYTES_MAX];
    case(
        "7.1.6",
        &[text(&large), text("Hello"), close(1000, b""), ping(b"")],
        &[said(&large), said("Hello"), Said::Closed(1000)],
    );
    case("7.3.1", &[frame(0x88, b"")], &[Said::Closed(1005)]);
    case("7.3.2", &[frame(0x88, b"a")], &[Said::Failed(1002)]);
    case("7.3.3", &[close(1000, b"")], &[Said::Closed(1000)]);
    case("7.3.4", &[close(1000, b"Hello World!")], &[Said::Closed(1000)]);
    case("7.3.5", &[close(1000, &[b'*'; 123])], &[Said::Closed(1000)]);
    case("7.3.6", &[close(1000, &[b'*'; 124])], &[Said::Failed(1002)]);
    case("7.5.1", &[close(1000, b"\xCE\xBA\xED\xA0\x80edited")], &[Said::Failed(1007)]);
    let valid = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999];
    for (n, code) in valid.into_iter().enumerate() {
        case(&format!("7.7.{}", n + 1), &[close(code, b"")], &[Said::Closed(code)]);
    }
    for (n, code) in [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999].into_iter().enumerate() {
        case(&format!("7.9.{}", n + 1), &[close(code, b"")], &[Said::Failed(1002)]);
    }
    case("7.13.1", &[close(5000, b"")], &[Said::Failed(1002)]);
    case("7.13.2", &[close(65_535, b"")], &[Said::Failed(1002)]);
}

#[test]
fn autobahn_9_and_10_sizes_up_to_the_limit_and_beyond() {
    let limit = vec![b'*'; MESSAGE_BYTES_MAX];
    case("9.1.1", &[text(&limit)], &[said(&limit)]);
    case("9.2.1", &[frame(0x82, &limit)], &[Said::Binary(limit.clone())]);
    let beyond = vec![b'*'; MESSAGE_BYTES_MAX + 1];
    case("9.1.2 is over the announced limit", &[text(&beyond)], &[Said::Failed(1009)]);
    for (n, piece) in [64, 256, 1_024, 4_096, 16_384, 65_536].into_iter().enumerate() {
        let fragments = |first: u8, data: &[u8]| {
            let count = data.len().div_ceil(piece);
            let fragment = |(n, part): (usize, &[u8])| {
                let fin = if n + 1 == count { 0x80 } else { 0 };
                frame(fin | if n == 0 { first } else { 0 }, part)
            };
            data.chunks(piece).enumerate().map(fragment).collect::<Vec<_>>()
        };
        case(&format!("9.3.{}", n + 1), &fragments(1, &limit), &[said(&limit)]);
        case(&format!("9.4.{}", n + 1), &fragments(2, &limit), &[Said::Binary(limit.clone())]);
        case(&format!("9.3.{} over the limit", n + 1), &fragments(1, &beyond), &[Said::Failed(1009)]);
    }
    // 9.5 and 9.6: one message in pieces of the transport, as `echo` does; 9.7 and 9.8: many in a row.
    let many: Vec<_> = (0..1_000).map(|n| text(vec![b'x'; n % 64])).collect();
    let back: Vec<_> = (0..1_000).map(|n| said(vec![b'x'; n % 64])).collect();
    case("9.7", &many, &back);
    // 10.1.1: a message that the client cut into frames of 1,300 bytes.
    let parts: Vec<_> = limit.chunks(1_300).collect();
    let frames: Vec<_> = parts
        .iter()
        .enumerate()
        .map(|(n, part)| frame(u8::from(n == 0) | if n + 1 == parts.len() { 0x80 } else { 0 }, part))
        .collect();
    case("10.1.1", &frames, &[said(&limit)]);
}

#[test]
fn autobahn_12_and_13_compressed_messages() {
    let sizes = [16, 64, 256, 1_024, 4_096, 8_192, 16_384, 32_768, 65_536];
    let mut reader = FrameReader::new(MESSAGE_BYTES_MAX, true);
    for (n, size) in sizes.into_iter().enumerate() {
        let message: String = r#"{"name":"Jörg","seq":12345},"#
            .chars()
            .cycle()
            .scan(0, |len, c: char| {
                *len += c.len_utf8();
                (*len <= size).then_some(c)
            })
            .collect();
        let compressed = flate2_raw(message.as_bytes());
        // 12.x and 13.x: in one frame, then in two, of which only the first has the bit (RFC 7692 section 6.1).
        let (front, back) = compressed.split_at(compressed.len() / 2);
        let bytes = [
            frame(0xC1, &compressed),
            frame(0x41, front),
            ping(b"between"),
            frame(0x80, back),
            text(&message),
        ];
        let answers = echo_in(&mut reader, &bytes.concat(), 1_000 + n);
        let between = Said::Pong(b"between".to_vec());
        assert_eq!(answers, [said(&message), between, said(&message), said(&message)], "case 12.1.{}", n + 1);
    }
    for (bytes, code) in [
        // The bit on a continuation, on a control frame, and another reserved bit.
        ([frame(0x01, b"a"), frame(0xC0, b"b")].concat(), 1002),
        (frame(0xC9, b""), 1002),
        (frame(0xA1, b""), 1002),
        (frame(0xC1, &[0xFF; 32]), 1007),
        (frame(0xC1, &flate2_raw(b"\xED\xA0\x80")), 1007),
        (frame(0xC1, &flate2_raw(&vec![b'*'; MESSAGE_BYTES_MAX + 1])), 1009),
    ] {
        let mut reader = FrameReader::new(MESSAGE_BYTES_MAX, true);
        assert_eq!(echo_in(&mut reader, &bytes, 5), [Said::Failed(code)], "{bytes:02X?}");
    }
}
