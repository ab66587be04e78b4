use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use nova_actors::{
    error::{DeliveryError, SendError, TrySendError},
    id::RoomId,
    workers::Workers,
};
use tokio::{sync::Notify, time::Instant};

use crate::ledger::{Add, Busy, Echo, House, Read, SETTINGS, SOON, took};

/// actix would grant every clone of an address one more place.
#[actix::test]
async fn a_full_mailbox_gives_the_message_back_whoever_sends() {
    tokio::time::pause();
    let house = House::here(SETTINGS);
    let id = RoomId::generate();
    let address = house.directory.address(id).await.unwrap();
    let free = Arc::new(Notify::new());
    address.send(Busy(free.clone()), SOON).await.unwrap();
    for number in 0..19 {
        address.try_send(Add(number)).unwrap();
    }
    address.clone().try_send(Add(19)).unwrap();
    for _ in 0..100 {
        let Err(TrySendError::Full(Add(number))) = address.clone().try_send(Add(20)) else {
            panic!("beyond the bound")
        };
        assert_eq!(number, 20);
    }
    assert_eq!((address.mailbox_depth(), address.mailbox_capacity()), (20, 20));
    let stats = house.directory.stats();
    assert_eq!((stats.waiting, stats.deepest), (20, 20));
    assert_eq!(house.directory.tell(id, Add(20), SOON).await, Err(DeliveryError::MailboxFull));
    assert_eq!(house.counts.full.load(SeqCst), 101);

    let began = Instant::now();
    let late = address.send(Add(20), Duration::from_secs(2)).await;
    assert!(matches!(late, Err(SendError::Full(Add(20)))));
    // A sender waits for a place, and not for ever.
    took(began, Duration::from_secs(2));

    // One that waits gets the first place that is free.
    let (waited, ()) =
        futures_util::future::join(address.send(Add(20), SOON), async { free.notify_one() }).await;
    assert_eq!(waited, Ok(21));
    assert_eq!(house.numbers(id).await, (0..21).collect::<Vec<_>>());
    assert_eq!(house.counts.deepest.load(SeqCst), 20);
    assert_eq!(address.mailbox_depth(), 0);
}

#[actix::test]
async fn a_question_nobody_waits_for_is_taken_back() {
    tokio::time::pause();
    let house = House::here(SETTINGS);
    let id = RoomId::generate();
    let address = house.directory.address(id).await.unwrap();
    let free = Arc::new(Notify::new());
    address.send(Busy(free.clone()), SOON).await.unwrap();
    assert_eq!(
        address.send(Add(1), Duration::from_secs(1)).await.unwrap_err().to_string(),
        "the actor did not answer in time"
    );
    free.notify_one();
    assert_eq!(address.send(Read, SOON).await, Ok(vec![]));
    assert_eq!(address.mailbox_depth(), 0);
}

/// An actor whose mailbox is never empty shares its thread; actix would go on with it for ever.
#[actix::test]
async fn a_busy_actor_lets_its_neighbours_have_a_turn() {
    let workers = Workers::start(1).unwrap();
    let house = House::on(workers.clone(), SETTINGS);
    let (busy, quiet) = (RoomId::generate(), RoomId::generate());
    let goes_on = Arc::new(AtomicBool::new(true));
    house.directory.tell(busy, Echo(goes_on.clone()), SOON).await.unwrap();
    for number in 1..=20 {
        assert_eq!(house.directory.send(quiet, Add(number), SOON).await, Ok(number as usize));
    }
    goes_on.store(false, SeqCst);
    assert_eq!(house.directory.drain(SOON).await, 0);
    workers.stop();
}
