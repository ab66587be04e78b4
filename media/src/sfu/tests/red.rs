//! Sound that says once more what was said before, between clients that know how and clients that do not.

use super::*;
use crate::rtp::red::{self, Red};

const RED: u8 = 63;
const OPUS: u8 = 111;

/// A client that would rather send and receive with redundancy.
fn knows_how() -> String {
    let both = "m=audio 9 UDP/TLS/RTP/SAVPF 63 111\r\n";
    let lines = "a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n";
    let text = sdp::tests::OFFER.replace("a=rtpmap:63 red/48000/2\r\n", lines);
    let text = text.replace("m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\n", both);
    let slot = "a=recvonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n";
    text.replace("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n", both).replace(slot, &format!("{slot}{lines}"))
}

impl Call {
    fn sound(&mut self, who: usize, payload_type: u8, sequence: u16, payload: &[u8]) {
        let number = sequence.to_be_bytes();
        let extensions: &[(u8, &[u8])] = &[(3, &number), (4, b"0"), (14, &[20])];
        let (ssrc, timestamp) = (40 + who as u32, u32::from(sequence) * 960);
        let mut packet = Vec::new();
        Header { marker: false, payload_type, sequence, timestamp, ssrc, extensions }.write(&mut packet);
        packet.extend_from_slice(payload);
        self.say(who, &packet);
    }

    /// What somebody has heard: payload type, sequence number and timestamp beside the first, payload.
    fn heard(&self, who: usize) -> Vec<(u8, u16, u32, Vec<u8>)> {
        let packets: Vec<Packet<'_>> =
            self.people[who].rtp.iter().map(|bytes| Packet::read(bytes).unwrap()).collect();
        let first = packets[0];
        let beside = |one: &Packet<'_>| {
            let (sequence, timestamp) =
                (one.sequence.wrapping_sub(first.sequence), one.timestamp.wrapping_sub(first.timestamp));
            (one.payload_type, sequence, timestamp, one.payload.to_vec())
        };
        packets.iter().map(beside).collect()
    }
}

#[test]
fn what_a_publisher_repeats_is_recovered_for_who_reads_plain_sound_and_repeated_for_who_reads_both() {
    let mut call = Call::new();
    let ann = call.join_with(&knows_how());
    let (bo, cy) = (call.join_with(&knows_how()), call.join());
    call.publish(ann, 1, "0", Source::Microphone);
    call.pass(50);
    call.sound(ann, RED, 1, &[OPUS, 0x11]);
    // The second is lost; the third says it once more.
    call.sound(ann, RED, 3, &red::write(OPUS, 960, &[0x22], &[0x33]).unwrap());
    call.sound(ann, RED, 4, &red::write(OPUS, 960, &[0x33], &[0x44]).unwrap());
    let plain = [(0x11, 0_u16), (0x22, 1), (0x33, 2), (0x44, 3)];
    let expected: Vec<_> =
        plain.iter().map(|(sound, at)| (OPUS, *at, u32::from(*at) * 960, vec![*sound])).collect();
    assert_eq!(call.heard(cy), expected, "plain sound without a gap");
    let heard = call.heard(bo);
    assert_eq!(
        heard.iter().map(|it| (it.1, it.2)).collect::<Vec<_>>(),
        [(0, 0), (1, 960), (2, 1_920), (3, 2_880)]
    );
    assert_eq!((heard[0].0, heard[0].3.as_slice()), (OPUS, &[0x11][..]), "nothing was said before");
    let last = Red::read(&heard[3].3).unwrap();
    assert_eq!((heard[3].0, last.newest, last.before), (RED, &[0x44][..], vec![(OPUS, 960, &[0x33][..])]));
    // What comes late all the same was there already.
    call.sound(ann, RED, 2, &[OPUS, 0x22]);
    assert_eq!((call.heard(bo).len(), call.heard(cy).len()), (4, 4));
}

#[test]
fn plain_sound_is_repeated_for_who_reads_both() {
    let mut call = Call::new();
    let (ann, bo, cy) = (call.join(), call.join_with(&knows_how()), call.join());
    call.publish(ann, 1, "0", Source::Microphone);
    call.pass(50);
    for sequence in [1, 2, 4] {
        call.sound(ann, OPUS, sequence, &[sequence as u8]);
    }
    let kinds = |heard: &[(u8, u16, u32, Vec<u8>)]| heard.iter().map(|it| it.0).collect::<Vec<_>>();
    let heard = call.heard(bo);
    assert_eq!(kinds(&heard), [OPUS, RED, OPUS], "what was lost cannot be said once more");
    assert_eq!(Red::read(&heard[1].3).unwrap().before, [(OPUS, 960, &[1][..])]);
    assert_eq!(kinds(&call.heard(cy)), [OPUS; 3]);
}

#[test]
fn what_is_no_sound_or_withheld_goes_nowhere() {
    let mut call = Call::new();
    let (ann, bo) = (call.join_with(&knows_how()), call.join());
    call.publish(ann, 1, "0", Source::Microphone);
    call.pass(50);
    call.sound(ann, RED, 1, &[OPUS, 0x11]);
    for broken in [&[0xFF, 0xFF][..], &[0x80 | OPUS, 0x0F, 0x00, 0x30, OPUS, 1], &[OPUS]] {
        call.sound(ann, RED, 2, broken);
    }
    // Of another kind than the newest.
    call.sound(ann, RED, 4, &[0x80 | 9, 0x0F, 0x00, 0x01, OPUS, 0x33, 0x44]);
    assert_eq!(call.heard(bo).len(), 2);
    call.sfu.mute(call.people[ann].id, 1, true).unwrap();
    call.sound(ann, RED, 6, &red::write(OPUS, 960, &[0x55], &[0x66]).unwrap());
    assert_eq!(call.heard(bo).len(), 2);
}
