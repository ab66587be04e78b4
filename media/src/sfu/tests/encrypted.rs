//! Pictures that are encrypted end to end: nothing in them is looked at, and nothing of them changed.

use super::*;
use crate::rtp::dependency::Descriptor;
use crate::sdp::Extension;

const DESCRIPTOR: u8 = 12;
/// What follows the number of a keyframe: that templates do, and some.
const TEMPLATES: [u8; 20] =
    [0x80, 2, 0x14, 0xEA, 0xA8, 0x60, 0x41, 0x4D, 0x14, 0x10, 0x20, 0x84, 0x26, 1, 2, 3, 4, 5, 6, 7];

/// An offer of somebody whose pictures have descriptors in both directions.
fn describes() -> String {
    let line = format!("a=extmap:{DESCRIPTOR} {}\r\n", Extension::DependencyDescriptor.uri());
    let sends = "a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n";
    let slot = "a=setup:actpass\r\na=mid:3\r\n";
    let text = sdp::tests::OFFER.replace(sends, &format!("{sends}{line}"));
    text.replace(slot, &format!("{slot}{line}"))
}

impl Call {
    /// A picture of one packet, of layer `rid`. What is encrypted says the contrary of what it is.
    fn secret(&mut self, who: usize, rid: &str, sequence: u16, keyframe: bool) {
        self.secret_of(who, rid, sequence, keyframe, 0);
    }

    /// One that refers to this template.
    fn secret_of(&mut self, who: usize, rid: &str, sequence: u16, keyframe: bool, template: u8) {
        let (number, ssrc) = (sequence.to_be_bytes(), u32::from(rid.as_bytes()[0]) << 8);
        // Layers count together.
        let frame_number = sequence * 2 + u16::from(rid == "h");
        let mut descriptor = vec![0xC0 | template];
        descriptor.extend_from_slice(&frame_number.to_be_bytes());
        if keyframe {
            descriptor.extend_from_slice(&TEMPLATES);
        }
        let extensions: &[(u8, &[u8])] =
            &[(3, &number), (4, b"1"), (10, rid.as_bytes()), (DESCRIPTOR, &descriptor)];
        let timestamp = u32::from(sequence) * 3_000;
        let mut packet = Vec::new();
        Header { marker: true, payload_type: 96, sequence, timestamp, ssrc, extensions }.write(&mut packet);
        packet.extend_from_slice(&[0x10, u8::from(keyframe), rid.as_bytes()[0], sequence as u8, 0xE5]);
        self.say(who, &packet);
    }

    /// What somebody saw: layer, number of the packet, and the descriptor.
    fn saw(&self, who: usize) -> Vec<(u8, u8, Vec<u8>)> {
        let packets = self.people[who].rtp.iter().map(|bytes| Packet::read(bytes).unwrap());
        packets
            .map(|packet| {
                assert_eq!((packet.payload[0], packet.payload[4]), (0x10, 0xE5), "as it was sent");
                let descriptor = packet.extension(DESCRIPTOR).unwrap_or_default();
                (packet.payload[2], packet.payload[3], descriptor.to_vec())
            })
            .collect()
    }
}

#[test]
fn a_keyframe_is_known_by_its_descriptor_which_goes_on_over_layers_for_who_reads_it() {
    let mut call = Call::new();
    let ann = call.join_with(&describes());
    let (bo, cy) = (call.join_with(&describes()), call.join());
    call.publish(ann, 1, "1", Source::Camera);
    for who in [bo, cy] {
        call.sfu.view(call.people[who].id, vec![Want::new(1, 180)]).unwrap();
    }
    call.pass(50);
    let both = |call: &mut Call, sequence, keyframe| {
        call.secret(ann, "q", sequence, keyframe);
        call.secret(ann, "h", sequence, keyframe);
        call.pass(25);
    };
    both(&mut call, 1, false);
    assert!(call.saw(bo).is_empty(), "whatever the encrypted bytes look like");
    both(&mut call, 2, true);
    for sequence in 3..20 {
        both(&mut call, sequence, false);
    }
    for who in [bo, cy] {
        call.sfu.view(call.people[who].id, vec![Want::new(1, 700)]).unwrap();
    }
    call.pass(50);
    both(&mut call, 20, false);
    both(&mut call, 21, true);
    both(&mut call, 22, false);
    let expected: Vec<(u8, u8)> = (2..22).map(|at| (b'q', at)).chain([(b'h', 21), (b'h', 22)]).collect();
    for who in [bo, cy] {
        let shown: Vec<(u8, u8)> = call.saw(who).iter().map(|(layer, at, _)| (*layer, *at)).collect();
        assert_eq!(shown, expected);
    }
    assert!(call.saw(cy).iter().all(|(_, _, descriptor)| descriptor.is_empty()), "who cannot read it");
    let seen = call.saw(bo);
    let read: Vec<Descriptor> =
        seen.iter().map(|(.., descriptor)| Descriptor::read(descriptor).unwrap()).collect();
    // Two apart within a layer, as the publisher counts, and onwards from one to the other.
    let steps: Vec<u16> =
        read.windows(2).map(|two| two[1].frame_number.wrapping_sub(two[0].frame_number)).collect();
    assert_eq!(steps, [vec![2; 19], vec![1, 2]].concat());
    let keyframes: Vec<usize> = (0..read.len()).filter(|at| read[*at].begins_keyframe).collect();
    assert_eq!(keyframes, [0, 19, 20]);
    assert_eq!(seen[20].2[3..], TEMPLATES, "what stands behind the number is not changed");
    // Who comes later begins with a keyframe that was kept, and what is asked for again has its descriptor too.
    let late = call.join_with(&describes());
    call.sfu.view(call.people[late].id, vec![Want::new(1, 700)]).unwrap();
    call.pass(50);
    let shown = call.saw(late);
    assert_eq!(shown.iter().map(|(_, at, _)| *at).collect::<Vec<_>>(), [21, 22]);
    let first = Packet::read(&call.people[late].rtp[0]).unwrap();
    let (ssrc, sequence) = (first.ssrc, first.sequence);
    call.people[late].rtp.clear();
    let mut nack = Vec::new();
    rtcp::write_nack(&mut nack, 1, ssrc, &[sequence]);
    call.says_rtcp(late, &nack);
    let again = Packet::read(&call.people[late].rtp[0]).unwrap();
    assert_eq!((again.ssrc, again.extension(DESCRIPTOR)), (ssrc + 1, Some(shown[0].2.as_slice())));
}

#[test]
fn fewer_pictures_are_sent_where_only_descriptors_tell_which() {
    let mut call = Call::new();
    let ann = call.join_with(&describes());
    let (bo, cy) = (call.join_with(&describes()), call.join());
    call.publish(ann, 1, "1", Source::Camera);
    let mut picture = 0;
    // A second of 40 pictures, 10 of the lowest temporal layer; of each packet its number, and how many who reads descriptors was sent.
    let mut second = |call: &mut Call, fps| {
        for who in [bo, cy] {
            call.sfu.view(call.people[who].id, vec![Want { fps, ..Want::new(1, 180) }]).unwrap();
        }
        call.pass(25);
        for who in [bo, cy] {
            call.people[who].rtp.clear();
        }
        for turn in 0..40 {
            call.secret_of(ann, "q", picture, picture == 0, [0, 3, 2, 4][turn % 4]);
            picture += 1;
            call.pass(25);
        }
        for who in [bo, cy] {
            let packets = call.people[who].rtp.iter().map(|bytes| Packet::read(bytes).unwrap().sequence);
            let sequences: Vec<u16> = packets.collect();
            assert!(sequences.windows(2).all(|two| two[1] == two[0] + 1), "{sequences:?}");
        }
        assert_eq!(call.saw(bo).len(), call.saw(cy).len());
        call.saw(bo).len()
    };
    assert_eq!([None, Some(15), Some(5)].map(|fps| second(&mut call, fps)), [40, 20, 10]);
    assert_eq!(second(&mut call, None), 40, "from the first picture of the lowest layer on");
    assert_eq!(call.keyframes_asked(ann, Q), 1);
}

#[test]
fn where_headers_may_not_be_mixed_there_are_no_descriptors() {
    let offer = Offer::read(&describes()).unwrap();
    assert_eq!(offer.sections[3].extension(Extension::DependencyDescriptor), Some(DESCRIPTOR));
    let mut call = Call::new();
    let client = Client::new("192.0.2.9:5000", call.sfu.identity.fingerprint());
    let (_, answer) = call.sfu.join(ROOM, &offer_of(&describes(), client.fingerprint()), call.now).unwrap();
    assert_eq!(answer.matches(Extension::DependencyDescriptor.uri()).count(), 2, "{answer}");
    let unmixed = Offer::read(&describes().replace("a=extmap-allow-mixed\r\n", "")).unwrap();
    assert!(unmixed.sections.iter().all(|it| it.extension(Extension::DependencyDescriptor).is_none()));
}
