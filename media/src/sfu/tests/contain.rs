//! Whose transport is broken is expelled, and nobody else, wherever it breaks.

use super::*;
use crate::peer::Failure;

/// Three who hear each other.
fn three() -> (Call, [usize; 3]) {
    let mut call = Call::new();
    let three = [call.join(), call.join(), call.join()];
    for (who, key) in three.into_iter().zip(1..) {
        call.publish(who, key, "0", Source::Microphone);
    }
    call.pass(50);
    (call, three)
}

impl Call {
    fn breaks(&mut self, who: usize) {
        let index = self.people[who].id.index as usize;
        self.sfu.members[index].peer.is_broken = true;
    }

    /// Who was expelled, each told once.
    fn expelled(&self) -> Vec<usize> {
        let of = |id: MemberId| self.people.iter().position(|one| one.id == id).unwrap();
        let failed = self.events.iter().filter_map(|event| match event {
            Event::Failed(id, failure) => Some((of(*id), *failure)),
            _ => None,
        });
        failed.map(|(who, failure)| (failure == Failure::Fault).then_some(who).expect("a fault")).collect()
    }

    /// Whether what one says reaches the other.
    fn hears(&mut self, who: usize, from: usize, sequence: u16) -> bool {
        self.people[who].rtp.clear();
        self.voice(from, sequence, 20);
        !self.people[who].rtp.is_empty()
    }
}

#[test]
fn who_breaks_with_what_they_send_is_expelled_and_the_others_go_on() {
    let (mut call, [ann, bo, cem]) = three();
    call.breaks(ann);
    call.voice(ann, 1, 20);
    assert_eq!((call.expelled(), call.sfu.counts().panics), (vec![ann], 2), "and once more at the goodbye");
    call.voice(ann, 2, 20);
    call.breaks(ann);
    call.pass(200);
    assert_eq!(call.expelled(), [ann], "told once, though it goes on");
    assert!(call.hears(bo, cem, 1) && call.hears(cem, bo, 1));
    let (id, mut out) = (call.people[ann].id, Out::default());
    call.sfu.leave(id, call.now, &mut out);
    assert_eq!(call.sfu.len(), (2, 1));
    assert!(!out.forgotten.is_empty() && call.sfu.by_address.len() == 2);
    assert!(call.hears(bo, cem, 2) && call.hears(cem, bo, 2));
}

#[test]
fn who_breaks_with_what_they_are_sent_is_expelled_and_not_the_sender() {
    let (mut call, [ann, bo, cem]) = three();
    assert!(call.hears(bo, ann, 1) && call.hears(cem, ann, 2));
    call.breaks(bo);
    call.voice(ann, 3, 20);
    assert_eq!(call.expelled(), [bo]);
    // Who else was to be sent it is found anew with the next look at the clock.
    call.pass(25);
    assert!(call.hears(cem, ann, 4) && call.hears(ann, cem, 1));
    call.pass(50);
    assert!(call.hears(cem, ann, 5) && call.hears(ann, cem, 2));
}

#[test]
fn who_breaks_by_time_alone_is_expelled_and_the_clock_goes_on_for_all() {
    let (mut call, [ann, bo, cem]) = three();
    call.breaks(ann);
    call.breaks(bo);
    call.pass(1_500);
    assert_eq!(call.expelled(), [ann, bo]);
    call.publish(cem, 9, "1", Source::Camera);
    call.picture(cem, "q", 1, true);
    call.pass(1_500);
    assert!(call.people[cem].rtcp.len() > 1, "is told what arrived");
}

#[test]
fn an_order_that_breaks_expels_who_it_is_about() {
    let (mut call, [ann, bo, cem]) = three();
    let mut out = Out::default();
    call.sfu.work_for(Some(call.people[ann].id));
    call.sfu.fault(call.now, &mut out);
    call.sfu.work_for(None);
    call.sfu.fault(call.now, &mut out);
    call.carry(out);
    assert_eq!(call.expelled(), [ann]);
    call.pass(50);
    assert!(call.hears(bo, cem, 1));
}

#[test]
fn a_shard_that_begins_anew_knows_nobody_and_gives_nobodys_name_again() {
    let (mut call, three) = three();
    call.breaks(three[1]);
    let (before, mut out) = (call.sfu.counts(), Out::default());
    let ids: Vec<MemberId> = three.into_iter().map(|who| call.people[who].id).collect();
    call.sfu.restart(call.now, &mut out);
    assert_eq!((out.forgotten.len(), call.sfu.len()), (3, (0, 0)));
    call.people.clear();
    let ann = call.join();
    assert!(!ids.contains(&call.people[ann].id));
    assert_eq!(call.sfu.counts().packets_in, before.packets_in, "what was counted is");
    for id in ids {
        assert_eq!(call.sfu.view(id, Vec::new()), Err(SfuError::Gone));
    }
}
