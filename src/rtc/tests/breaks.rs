//! What is done for somebody panics, or the thread of a shard does: who is told what, and who goes on.

use super::fault::Fault;
use super::*;

type Person = (MemberId, Rc<Peer>);

fn frames(peer: &Peer) -> u64 {
    peer.seen().iter().map(|seen| seen.frames).sum()
}

impl Stage {
    async fn shows_as(&self, room: RoomKey, track: TrackKey) -> Person {
        let (member, peer) = self.joins(room, SHOWS).await;
        self.media.publish(member, track, "1".to_owned(), Source::Camera, false).await.unwrap();
        peer.show(camera(100 * track as u32));
        (member, peer)
    }

    async fn strike(&self, shard: usize, fault: Fault) {
        self.media.shards[shard].tell(Order::Fault(fault)).await;
    }

    /// Until all of them have seen some pictures more, and none that is broken; gives who failed meanwhile.
    async fn go_on(&mut self, all: &[Person], told: &[Person]) -> Vec<(MemberId, Failure)> {
        let before: Vec<u64> = all.iter().map(|(_, peer)| frames(peer)).collect();
        let mut failed = Vec::new();
        until(|| {
            failed.extend(self.hear(told));
            all.iter().zip(&before).all(|((_, peer), before)| frames(peer) >= before + 60)
        })
        .await;
        let seen = all.iter().flat_map(|(_, peer)| peer.seen());
        assert_eq!(seen.map(|seen| seen.broken + seen.backwards).sum::<u64>(), 0);
        failed
    }
}

#[tokio::test]
async fn who_is_expelled_by_a_panic_leaves_their_room_and_all_others_on_the_shard_unharmed() {
    LocalSet::new().run_until(expelled()).await;
}

async fn expelled() {
    let mut stage = Stage::new(1);
    let ann = stage.shows_as(1, 1).await;
    let (bo, cem) = (stage.shows_as(1, 2).await, stage.shows_as(1, 3).await);
    let (dan, eve) = (stage.shows_as(2, 4).await, stage.shows_as(2, 5).await);
    let all = vec![ann.clone(), bo.clone(), cem.clone(), dan.clone(), eve.clone()];
    assert_eq!(stage.go_on(&all, &all).await, []);
    stage.strike(0, Fault::Expel(ann.0)).await;
    let failed = stage.go_on(&[dan.clone(), eve.clone()], &all).await;
    assert_eq!(failed, [(ann.0, Failure::Fault)]);
    assert_eq!(stage.go_on(&[bo.clone(), cem.clone()], &all).await, []);
    until(|| stage.metrics.rtc_panics.get() == 1).await;
    assert_eq!(stage.metrics.rtc_shard_restarts.get(), 0);
    // As calls do with whoever failed; and they come back.
    stage.media.leave(ann.0).await;
    let again = stage.shows_as(1, 6).await;
    let all = vec![again, bo, cem, dan, eve];
    assert_eq!(stage.go_on(&all, &all).await, []);
}

#[tokio::test]
async fn a_shard_that_panics_begins_anew_and_everybody_on_it_is_told_to_come_again() {
    LocalSet::new().run_until(broken()).await;
}

async fn broken() {
    let mut stage = Stage::new(2);
    let mut all = Vec::new();
    for track in 1..=4 {
        all.push(stage.shows_as(RoomKey::from(track % 2), track).await);
    }
    let (one, other): (Vec<Person>, Vec<Person>) = all.iter().cloned().partition(|(id, _)| id.shard() == 0);
    assert_eq!((one.len(), other.len()), (2, 2));
    assert_eq!(stage.go_on(&all, &all).await, []);
    stage.strike(0, Fault::Break).await;
    let mut failed = stage.go_on(&other, &all).await;
    failed.sort_by_key(|(member, _)| *member);
    let expected: Vec<_> = one.iter().map(|(member, _)| (*member, Failure::Restarted)).collect();
    assert_eq!(failed, expected);
    assert_eq!((stage.metrics.rtc_shard_restarts.get(), stage.media.ended()), (1, (0, 2)));
    // Who was there is not: what they order is of no effect, and their names are nobody else's.
    let offer = Offer::read(&stage.offer(SHOWS)).unwrap();
    assert_eq!(stage.media.offer(one[0].0, offer).await, Err(SfuError::Gone));
    for (member, _) in &one {
        stage.media.leave(*member).await;
    }
    // Their room is free again, and on the shard where nobody is.
    let mut now = other.clone();
    for track in 5..=6 {
        now.push(stage.shows_as(9, track).await);
    }
    assert!(
        now[2..].iter().all(|(member, _)| member.shard() == 0 && one.iter().all(|(old, _)| old != member))
    );
    assert_eq!(stage.go_on(&now, &now).await, []);
    until(|| stage.metrics.rtc_participants.get() == 4).await;
}

#[tokio::test]
async fn a_shard_that_has_ended_takes_nobody_in() {
    let ended = || Handle { orders: mpsc::channel(1).0, is_overloaded: Arc::default() };
    let media =
        Media { shards: Arc::new([ended(), ended()]), placement: Arc::new(Placement::new(2)), _open: None };
    assert_eq!((media.ended(), media.is_overloaded()), ((2, 2), true));
    let offer = peer::offer(LOOKS, &Identity::generate().unwrap().fingerprint());
    let offer = || Offer::read(&offer).unwrap();
    assert_eq!(media.join(1, offer()).await, Err(SfuError::Ended));
    // Beside one that has not everybody is on that.
    let stage = Stage::new(1);
    let one = Handle { orders: stage.media.shards[0].orders.clone(), is_overloaded: Arc::default() };
    let media =
        Media { shards: Arc::new([one, ended()]), placement: Arc::new(Placement::new(2)), _open: None };
    assert_eq!((media.ended(), media.is_overloaded()), ((1, 2), false));
    for room in 1..=4 {
        let (member, _) = media.join(room, offer()).await.unwrap();
        assert_eq!(member.shard(), 0);
    }
}
