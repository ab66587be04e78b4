//! Records a browser sends go in, each as often as it repeats it; what only somebody hostile sends does not.

use super::*;

fn record(content: u8, epoch: u16, body: &[u8]) -> Vec<u8> {
    let mut record = vec![content, 0xFE, 0xFD];
    record.extend_from_slice(&epoch.to_be_bytes());
    record.extend_from_slice(&[0; 6]);
    record.extend_from_slice(&(body.len() as u16).to_be_bytes());
    record.extend_from_slice(body);
    record
}

fn piece_of(kind: u8, whole: u32, number: u16, offset: u32, len: u32) -> Vec<u8> {
    let mut piece = vec![kind];
    piece.extend_from_slice(&whole.to_be_bytes()[1..]);
    piece.extend_from_slice(&number.to_be_bytes());
    piece.extend_from_slice(&offset.to_be_bytes()[1..]);
    piece.extend_from_slice(&len.to_be_bytes()[1..]);
    piece.resize(piece.len() + len as usize, 7);
    piece
}

fn goes_in(datagram: &[u8], stage: Stage) -> bool {
    let sifted = Guard::default().sift(datagram, stage);
    assert!(sifted.is_empty() || sifted == datagram, "a record goes in whole");
    !sifted.is_empty()
}

fn clear(piece: &[u8]) -> Vec<u8> {
    record(content::HANDSHAKE, 0, piece)
}

#[test]
fn a_message_goes_in_at_its_stage_whole_or_in_pieces() {
    let stages = [Stage::Hello, Stage::Shaking, Stage::Done];
    let at = |datagram: &[u8]| stages.map(|stage| goes_in(datagram, stage));
    assert_eq!(at(&clear(&piece_of(message::CLIENT_HELLO, 200, 0, 0, 200))), [true, true, false]);
    assert_eq!(at(&clear(&piece_of(message::CLIENT_HELLO, 200, 1, 150, 50))), [true, true, false]);
    for (kind, number) in [(message::CERTIFICATE, 2), (message::CLIENT_KEY_EXCHANGE, 3)] {
        assert_eq!(at(&clear(&piece_of(kind, 300, number, 0, 300))), [false, true, true]);
    }
    let both =
        [piece_of(message::CERTIFICATE, 30, 2, 0, 30), piece_of(message::CERTIFICATE_VERIFY, 9, 4, 0, 9)];
    assert_eq!(at(&clear(&both.concat())), [false, true, true]);
    assert_eq!(at(&record(content::CHANGE_CIPHER_SPEC, 0, &[1])), [false, true, false]);
    assert_eq!(at(&record(content::HANDSHAKE, 1, &[0; 48])), [false, true, true]);
    assert_eq!(at(&record(content::APPLICATION_DATA, 1, &[0; 48])), [false, false, true]);
    assert_eq!(at(&record(content::ALERT, 0, &[1, 0])), [false, true, false]);
    assert_eq!(at(&record(content::ALERT, 1, &[0; 26])), [false, false, true]);
}

#[test]
fn what_no_client_has_a_use_for_does_not_go_in() {
    let refused = [
        // Messages of servers, and of nobody.
        clear(&piece_of(2, 40, 0, 0, 40)),
        clear(&piece_of(12, 40, 0, 0, 40)),
        clear(&piece_of(20, 12, 0, 0, 12)),
        clear(&piece_of(99, 40, 0, 0, 40)),
        // Too long, too many, outside of itself, nothing at all, and with something behind a piece.
        clear(&piece_of(message::CLIENT_HELLO, HELLO_BYTES_MAX + 1, 0, 0, 9)),
        clear(&piece_of(message::CERTIFICATE, 0xFF_FFFF, 2, 0, 9)),
        clear(&piece_of(message::CERTIFICATE, 300, MESSAGES_MAX, 0, 300)),
        clear(&piece_of(message::CERTIFICATE, 300, 2, 295, 6)),
        clear(&piece_of(message::CERTIFICATE, 300, 2, 0xFF_FFFF, 6)),
        clear(&piece_of(message::CERTIFICATE, 300, 2, 0, 0)),
        clear(&piece_of(message::CERTIFICATE, 0, 2, 0, 0)),
        clear(&piece_of(message::CERTIFICATE, 300, 2, 0, 300)[..200]),
        clear(&[piece_of(message::CERTIFICATE, 300, 2, 0, 9), vec![0; 40]].concat()),
        clear(&[piece_of(message::CERTIFICATE, 30, 2, 0, 30), vec![11]].concat()),
        clear(&[]),
        // Keys that are changed again, a Finished that is none, and epochs there never are.
        record(content::CHANGE_CIPHER_SPEC, 1, &[1]),
        record(content::CHANGE_CIPHER_SPEC, 0, &[2]),
        record(content::HANDSHAKE, 1, &[0; FINISHED_BYTES_MAX + 1]),
        record(content::HANDSHAKE, 2, &[0; 48]),
        record(content::APPLICATION_DATA, 0, &[0; 48]),
        record(content::APPLICATION_DATA, u16::MAX, &[0; 48]),
        record(content::APPLICATION_DATA, 1, &[]),
        record(24, 1, &[0; 48]),
        record(content::ALERT, 0, &[1]),
    ];
    for (at, datagram) in refused.iter().enumerate() {
        for stage in [Stage::Hello, Stage::Shaking, Stage::Done] {
            assert!(!goes_in(datagram, stage), "{at} at {stage:?}");
        }
    }
}

#[test]
fn records_that_are_good_go_in_without_those_beside_them() {
    let (good, bad) =
        (record(content::APPLICATION_DATA, 1, &[3; 40]), record(content::CHANGE_CIPHER_SPEC, 0, &[1]));
    let datagram = [good.as_slice(), &bad, &good, &good[..20]].concat();
    assert_eq!(Guard::default().sift(&datagram, Stage::Done), [good.as_slice(), &good].concat());
    for cut in 0..good.len() {
        assert!(!goes_in(&good[..cut], Stage::Done));
    }
}

#[test]
fn what_shakes_hands_is_counted_and_data_is_not() {
    let verify = clear(&piece_of(message::CERTIFICATE_VERIFY, 70, 4, 0, 70));
    let sealed = record(content::HANDSHAKE, 1, &[0; 48]);
    for one in [&verify, &sealed] {
        let mut guard = Guard::default();
        let taken = (0..1_000).filter(|_| !guard.sift(one, Stage::Shaking).is_empty()).count();
        assert_eq!(taken, RECORDS_MAX);
    }
    let mut guard = Guard::default();
    let large = clear(&piece_of(message::CERTIFICATE, MESSAGE_BYTES_MAX, 2, 0, MESSAGE_BYTES_MAX));
    let bytes: usize = (0..1_000).map(|_| guard.sift(&large, Stage::Shaking).len()).sum();
    assert!((BYTES_MAX - large.len()..=BYTES_MAX).contains(&bytes), "{bytes}");
    let mut guard = Guard::default();
    let data = record(content::APPLICATION_DATA, 1, &[3; 40]);
    let (mut repeats, mut said) = (0, 0);
    for _ in 0..1_000 {
        repeats += usize::from(!guard.sift(&verify, Stage::Done).is_empty());
        said += usize::from(!guard.sift(&data, Stage::Done).is_empty());
    }
    assert_eq!((repeats, said), (REPEATS_MAX, 1_000));
}
