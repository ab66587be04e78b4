//! Somebody's network goes away while they are in a call.

use super::*;

#[test]
fn who_is_silent_on_one_network_is_shown_everything_anew_on_the_other() {
    let mut call = Call::new();
    let (ann, bo) = (call.join(), call.join());
    call.publish(ann, 1, "1", Source::Camera);
    call.publish(bo, 2, "0", Source::Microphone);
    let id = call.people[bo].id;
    let credentials = call.sfu.members[id.index as usize].peer.credentials().clone();
    let (first, second) = (call.people[bo].client.address, "198.51.100.7:7000".parse().unwrap());
    for address in [second, first] {
        let binding = call.people[bo].client.binding(&credentials, &credentials.password);
        call.people[bo].client.address = address;
        call.send(bo, &binding);
    }
    let mut sequence = 1;
    let mut second_of_talk = |call: &mut Call, talks: bool| {
        for _ in 0..40 {
            call.picture(ann, "q", sequence, sequence == 1);
            if talks {
                call.voice(bo, sequence, 30);
            }
            sequence += 1;
            call.pass(25);
        }
    };
    second_of_talk(&mut call, true);
    assert_eq!((call.people[bo].rtp.len() > 35, call.keyframes_asked(ann, Q)), (true, 0));

    // The first network is gone: nothing comes from there, and what is sent there is lost.
    call.people[bo].client.address = second;
    call.people[bo].rtp.clear();
    second_of_talk(&mut call, false);
    let seen = call.people[bo].rtp.len();
    assert!((20..35).contains(&seen), "{seen} of 40 pictures came the other way");
    assert_eq!(call.keyframes_asked(ann, Q), 1, "what was lost is begun anew, once");
}
