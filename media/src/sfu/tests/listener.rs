//! Who listens within the process.

use super::*;

#[test]
fn a_listener_within_is_given_what_a_participant_would_be_sent() {
    let mut call = Call::new();
    let (ann, bo) = (call.join(), call.join());
    let listener = call.sfu.open_listener(ROOM, call.now).unwrap();
    call.publish(ann, 1, "1", Source::Camera);
    call.publish(ann, 2, "0", Source::Microphone);
    call.publish(bo, 3, "1", Source::Camera);
    call.sfu.view(listener, vec![Want::new(1, 90)]).unwrap();
    let given = |call: &mut Call| std::mem::take(&mut call.taken);
    call.pass(100);
    call.picture(ann, "q", 1, false);
    assert!(given(&mut call).is_empty(), "nothing before a keyframe");
    call.picture(ann, "q", 2, true);
    call.picture(ann, "q", 3, false);
    call.voice(ann, 1, 10);
    let taken = given(&mut call);
    let seen: Vec<(MemberId, usize, TrackKey)> =
        taken.iter().map(|one| (one.member, one.slot, one.track)).collect();
    assert_eq!(seen, [(listener, PICTURE_SLOT, 1), (listener, PICTURE_SLOT, 1), (listener, 0, 2)]);
    let first = taken[0].kept.sequence;
    assert_eq!(taken[1].kept.sequence, first.wrapping_add(1));

    // What the ring still has of a fresh keyframe would be given again at once; this one is too old.
    call.pass(450);
    // It lost what it had, and begins anew where the publisher is asked for it; numbers go on.
    call.sfu.renew_picture(listener).unwrap();
    call.picture(ann, "q", 4, false);
    assert!(given(&mut call).is_empty());
    call.pass(600);
    call.picture(ann, "q", 5, true);
    assert_eq!(given(&mut call)[0].kept.sequence, first.wrapping_add(2));

    // Somebody else is wanted; and then nobody.
    call.sfu.view(listener, vec![Want::new(3, 90)]).unwrap();
    call.pass(50);
    call.picture(ann, "q", 6, true);
    call.picture(bo, "q", 1, true);
    let taken = given(&mut call);
    assert_eq!((taken.len(), taken[0].track), (1, 3));
    assert_eq!(taken[0].kept.sequence, first.wrapping_add(3));
    let mut out = Out::default();
    call.sfu.leave(listener, call.now, &mut out);
    assert!(out.transmits.is_empty());
    assert_eq!(call.sfu.renew_picture(listener), Err(SfuError::Gone));
}
