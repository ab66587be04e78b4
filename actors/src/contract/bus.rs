use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    id::{NodeId, RequestId},
    port::{Bus, BusError, BusEvent, LeaseName, PAYLOAD_BYTES_MAX, QUEUE_LEN_MAX, Subscription, Topic},
};

/// How long an event or a lease's end may take to show. It is long because the machine may be busy; nothing waits that long unless
/// it fails.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a lease lasts that is meant to outlive its check.
const LONG: Duration = Duration::from_secs(60);

/// What a lease lasts that is meant to expire.
const SHORT: Duration = Duration::from_millis(300);

/// Panics where a bus does not do what [`Bus`] promises. Every call of `connect` connects one more node to the same bus, which
/// may be in use by others: names are new with each run.
pub async fn bus<B: Bus>(connect: impl AsyncFn() -> B) {
    let (ann, bo) = (connect().await, connect().await);
    eventually(|| ann.health().borrow().connected && bo.health().borrow().connected, "the bus is connected")
        .await;
    everybody_hears_in_order(&ann, &bo).await;
    topics_are_apart(&ann, &bo).await;
    a_slow_subscriber_hears_a_gap(&ann, &bo).await;
    who_left_hears_nothing(&ann, &bo).await;
    a_lease_has_one_holder(&ann, &bo).await;
    an_expired_lease_is_gone(&ann, &bo).await;
    what_is_out_of_bounds_is_refused(&ann).await;
    eventually(|| ann.health().borrow().lag.is_some(), "the lag is measured").await;
}

async fn everybody_hears_in_order(ann: &impl Bus, bo: &impl Bus) {
    const COUNT: u32 = 200;
    let topic = topic();
    let mut at_ann = ann.subscribe(&topic).await.expect("Ann subscribes");
    let mut at_bo = bo.subscribe(&topic).await.expect("Bo subscribes");
    let mut again_at_bo = bo.subscribe(&topic).await.expect("Bo subscribes once more");
    for number in 0..COUNT {
        ann.publish(&topic, payload(b'a', number)).await.expect("Ann publishes");
        bo.publish(&topic, payload(b'b', number)).await.expect("Bo publishes");
    }
    for subscription in [&mut at_ann, &mut at_bo, &mut again_at_bo] {
        let mut next = [(b'a', 0_u32), (b'b', 0)];
        for _ in 0..2 * COUNT {
            let heard = message(subscription).await;
            let (_, number) = next
                .iter_mut()
                .find(|(speaker, _)| heard.first() == Some(speaker))
                .expect("somebody we know spoke");
            assert_eq!(
                heard.get(1..),
                Some(&number.to_be_bytes()[..]),
                "one publisher's messages arrive in order"
            );
            *number += 1;
        }
        assert_eq!(
            next,
            [(b'a', COUNT), (b'b', COUNT)],
            "everything arrives once, also at the speaker's own node"
        );
    }
}

async fn topics_are_apart(ann: &impl Bus, bo: &impl Bus) {
    let (cats, dogs) = (topic(), topic());
    let longer = Topic::new(format!("{cats}x")).expect("a longer name");
    let mut at_bo = bo.subscribe(&cats).await.expect("Bo subscribes");
    for other in [&dogs, &longer] {
        ann.publish(other, payload(b'd', 0)).await.expect("Ann publishes elsewhere");
    }
    ann.publish(&cats, payload(b'c', 0)).await.expect("Ann publishes");
    assert_eq!(message(&mut at_bo).await, payload(b'c', 0), "only the own topic is heard");
}

/// The slow one reads nothing while more is published than its queue holds: it hears a prefix, then a gap, then what comes after,
/// and the other subscriber of the same node misses nothing.
async fn a_slow_subscriber_hears_a_gap(ann: &impl Bus, bo: &impl Bus) {
    let topic = topic();
    let mut slow = bo.subscribe(&topic).await.expect("the slow one subscribes");
    let mut quick = bo.subscribe(&topic).await.expect("the quick one subscribes");
    let count = u32::try_from(QUEUE_LEN_MAX + 100).expect("the bound is a small number");
    for number in 0..count {
        ann.publish(&topic, payload(b'a', number)).await.expect("Ann publishes");
        assert_eq!(
            message(&mut quick).await,
            payload(b'a', number),
            "a slow neighbour costs the quick one nothing"
        );
    }
    let mut heard = 0;
    while let BusEvent::Message(text) = event(&mut slow).await {
        assert_eq!(text, payload(b'a', heard), "what fitted arrives in order");
        heard += 1;
    }
    assert!(heard > 0 && heard < count, "{heard} of {count} fitted into a bounded queue");
    ann.publish(&topic, payload(b'z', 0)).await.expect("Ann publishes");
    assert_eq!(message(&mut slow).await, payload(b'z', 0), "after the gap it goes on");
}

async fn who_left_hears_nothing(ann: &impl Bus, bo: &impl Bus) {
    let topic = topic();
    let mut stays = bo.subscribe(&topic).await.expect("one subscribes");
    let leaves = bo.subscribe(&topic).await.expect("another subscribes");
    drop(leaves);
    ann.publish(&topic, payload(b'a', 1)).await.expect("Ann publishes");
    assert_eq!(message(&mut stays).await, payload(b'a', 1), "who stays still hears");
    drop(stays);
    ann.publish(&topic, payload(b'a', 2)).await.expect("publishing to nobody is no error");
    let mut returns = bo.subscribe(&topic).await.expect("one comes back");
    ann.publish(&topic, payload(b'a', 3)).await.expect("Ann publishes");
    assert_eq!(message(&mut returns).await, payload(b'a', 3), "what was said meanwhile is not heard");
}

async fn a_lease_has_one_holder(ann: &impl Bus, bo: &impl Bus) {
    let (name, other_name) = (lease_name(), lease_name());
    let (ann_id, bo_id) = (NodeId::generate(), NodeId::generate());
    let first = ann.acquire(&name, ann_id, LONG).await.expect("Ann asks").expect("it is free");
    assert_eq!((&first.name, first.holder), (&name, ann_id));
    assert_eq!(bo.acquire(&name, bo_id, LONG).await, Ok(None), "what is held is not given to another");
    assert_eq!(ann.acquire(&name, ann_id, LONG).await, Ok(None), "nor to its holder a second time");
    let elsewhere = bo.acquire(&other_name, bo_id, LONG).await.expect("Bo asks");
    assert!(elsewhere.is_some(), "another name is another lease");
    assert_eq!(ann.renew(&first, LONG).await, Ok(true));

    let mut forged = first.clone();
    forged.holder = bo_id;
    assert_eq!(bo.renew(&forged, LONG).await, Ok(false), "only the holder renews");
    bo.release(&forged).await.expect("releasing what is not held is no error");
    assert_eq!(bo.acquire(&name, bo_id, LONG).await, Ok(None), "and changes nothing");

    ann.release(&first).await.expect("Ann releases");
    assert_eq!(ann.renew(&first, LONG).await, Ok(false), "what was released is not renewed");
    let second = bo.acquire(&name, bo_id, LONG).await.expect("Bo asks").expect("it is free again");
    assert!(second.fence > first.fence, "the fence grows: {} after {}", second.fence, first.fence);
    ann.release(&first).await.expect("a stale release is no error");
    assert_eq!(bo.renew(&second, LONG).await, Ok(true), "and takes nothing from the new holder");
    bo.release(&second).await.expect("Bo releases");
}

async fn an_expired_lease_is_gone(ann: &impl Bus, bo: &impl Bus) {
    let name = lease_name();
    let (ann_id, bo_id) = (NodeId::generate(), NodeId::generate());
    let taken = Instant::now();
    let first = ann.acquire(&name, ann_id, SHORT).await.expect("Ann asks").expect("it is free");
    let deadline = Instant::now() + DEADLINE;
    let second = loop {
        if let Some(lease) = bo.acquire(&name, bo_id, LONG).await.expect("Bo asks") {
            break lease;
        }
        assert!(Instant::now() < deadline, "a lease of {SHORT:?} ends");
        sleep(Duration::from_millis(5)).await;
    };
    assert!(taken.elapsed() + Duration::from_millis(20) >= SHORT, "a lease lasts as long as was asked");
    assert!(second.fence > first.fence, "the fence grows over an expiry");
    assert_eq!(ann.renew(&first, LONG).await, Ok(false), "who slept through the expiry is refused");
    ann.release(&first).await.expect("a stale release is no error");
    assert_eq!(bo.renew(&second, LONG).await, Ok(true), "and takes nothing from the new holder");
    bo.release(&second).await.expect("Bo releases");
}

async fn what_is_out_of_bounds_is_refused(ann: &impl Bus) {
    let topic = topic();
    let mut heard = ann.subscribe(&topic).await.expect("Ann subscribes");
    let largest = Bytes::from(vec![7; PAYLOAD_BYTES_MAX]);
    let too_large = Bytes::from(vec![7; PAYLOAD_BYTES_MAX + 1]);
    let refused = BusError::PayloadTooLarge { bytes: too_large.len() };
    assert_eq!(ann.publish(&topic, too_large).await, Err(refused));
    ann.publish(&topic, largest.clone()).await.expect("the largest passes");
    assert_eq!(message(&mut heard).await, largest);
    let never = ann.acquire(&lease_name(), NodeId::generate(), Duration::ZERO).await;
    assert_eq!(never, Err(BusError::Ttl { ttl: Duration::ZERO }));
}

fn topic() -> Topic {
    Topic::new(format!("contract:{}", RequestId::generate())).expect("ids fit into names")
}

fn lease_name() -> LeaseName {
    LeaseName::new(format!("contract:{}", RequestId::generate())).expect("ids fit into names")
}

fn payload(speaker: u8, number: u32) -> Bytes {
    let mut payload = vec![speaker];
    payload.extend(number.to_be_bytes());
    payload.into()
}

async fn event(subscription: &mut Subscription) -> BusEvent {
    timeout(DEADLINE, subscription.next()).await.expect("an event arrives in time").expect("the bus lives")
}

async fn message(subscription: &mut Subscription) -> Bytes {
    match event(subscription).await {
        BusEvent::Message(payload) => payload,
        BusEvent::Gap => unreachable!("a gap where nothing was lost"),
    }
}

async fn eventually(condition: impl Fn() -> bool, what: &str) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} within {DEADLINE:?}");
        sleep(Duration::from_millis(5)).await;
    }
}
