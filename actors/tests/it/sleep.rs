use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use nova_actors::{
    directory::Settings,
    error::{DeliveryError, LookupError, StartError},
    id::RoomId,
    workers::Workers,
};
use tokio::time::{Instant, sleep};

use crate::ledger::{Add, House, SETTINGS, SOON, Slowly, TICK, took};

#[actix::test]
async fn lookups_at_the_same_time_start_one_actor() {
    tokio::time::pause();
    let house = House::here(SETTINGS);
    let id = RoomId::generate();
    *house.journal.start_takes.lock().unwrap() = Duration::from_secs(1);
    let lookups = (0..50).map(|_| house.directory.address(id));
    let addresses = futures_util::future::try_join_all(lookups).await.unwrap();
    assert!(addresses.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(house.journal.starts.load(SeqCst), 1);
    assert_eq!(house.directory.stats().live, 1);
}

#[actix::test]
async fn an_idle_actor_sleeps_and_wakes() {
    tokio::time::pause();
    let house = House::here(SETTINGS);
    let id = RoomId::generate();
    assert_eq!(house.directory.send(id, Add(1), SOON).await, Ok(1));
    for _ in 0..5 {
        sleep(SETTINGS.idle_after - TICK).await;
        house.numbers(id).await;
    }
    assert_eq!(house.counts.slept.load(SeqCst), 0, "who is spoken to stays awake");
    let address = house.directory.existing(id).unwrap();
    sleep(SETTINGS.idle_after + TICK).await;
    assert_eq!(house.counts.slept.load(SeqCst), 1);
    assert_eq!(house.directory.stats().live, 0);
    assert!(!address.is_alive());
    assert_eq!(house.directory.send(id, Add(2), SOON).await, Ok(2));
    assert_eq!(house.counts.started.load(SeqCst), 2);
    assert_eq!(house.counts.restarted.load(SeqCst), 0);
}

#[actix::test]
async fn who_may_not_sleep_stays_awake() {
    tokio::time::pause();
    let house = House::here(SETTINGS);
    let id = RoomId::generate();
    house.journal.awake.store(true, SeqCst);
    let address = house.directory.address(id).await.unwrap();
    sleep(10 * SETTINGS.idle_after).await;
    assert!(address.is_alive());
    house.journal.awake.store(false, SeqCst);
    sleep(2 * SETTINGS.idle_after).await;
    assert!(!address.is_alive());
}

#[actix::test]
async fn nobody_falls_asleep_over_an_unanswered_question() {
    tokio::time::pause();
    let house = House::here(SETTINGS);
    let address = house.directory.address(RoomId::generate()).await.unwrap();
    let takes = 3 * SETTINGS.idle_after;
    assert_eq!(address.send(Slowly(takes), 2 * takes).await, Ok(()));
    assert!(address.is_alive());
    sleep(2 * SETTINGS.idle_after).await;
    assert!(!address.is_alive());
}

/// Real threads, real time, an idle time as short as the pauses between messages.
#[actix::test]
async fn nothing_said_to_a_sleeper_is_lost() {
    const SENDERS: u32 = 4;
    const MESSAGES: u32 = 300;
    let workers = Workers::start(2).unwrap();
    let settings = Settings { idle_after: Duration::from_millis(1), ..SETTINGS };
    let house = House::on(workers.clone(), settings);
    let ids: Vec<_> = (0..3).map(|_| RoomId::generate()).collect();
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let (directory, ids) = (house.directory.clone(), ids.clone());
            actix::spawn(async move {
                for number in 0..MESSAGES {
                    for &id in &ids {
                        let said = sender * MESSAGES + number;
                        if number % 2 == 0 {
                            directory.tell(id, Add(said), SOON).await.unwrap();
                        } else {
                            directory.send(id, Add(said), SOON).await.unwrap();
                        }
                    }
                    sleep(Duration::from_micros(u64::from(500 + number * 7 % 1500))).await;
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    assert_eq!(house.directory.drain(SOON).await, 0);
    for id in ids {
        let mut written = house.journal.of(id);
        written.sort_unstable();
        assert_eq!(written, (0..SENDERS * MESSAGES).collect::<Vec<_>>(), "each exactly once");
    }
    assert!(house.counts.slept.load(SeqCst) > 10, "they did sleep meanwhile");
    assert_eq!(house.counts.lost.load(SeqCst), 0);
    workers.stop();
}

#[actix::test]
async fn a_full_house_refuses_and_has_room_again() {
    tokio::time::pause();
    let house = House::here(Settings { live_max: 2, ..SETTINGS });
    for _ in 0..2 {
        house.directory.send(RoomId::generate(), Add(1), SOON).await.unwrap();
    }
    let id = RoomId::generate();
    let full = DeliveryError::Lookup(LookupError::Full { live_max: 2 });
    assert_eq!(house.directory.send(id, Add(1), SOON).await, Err(full));
    sleep(SETTINGS.idle_after + TICK).await;
    assert_eq!(house.directory.send(id, Add(1), SOON).await, Ok(1));
}

#[actix::test]
async fn what_cannot_be_loaded_is_said_and_holds_no_place() {
    tokio::time::pause();
    let house = House::here(Settings { live_max: 1, ..SETTINGS });
    let id = RoomId::generate();
    house.journal.fail_at_start.store(true, SeqCst);
    assert_eq!(house.directory.address(id).await.unwrap_err(), LookupError::Start(StartError::NotFound));
    house.journal.fail_at_start.store(false, SeqCst);
    *house.journal.start_takes.lock().unwrap() = 2 * SETTINGS.start_limit;
    let began = Instant::now();
    let refused = house.directory.address(id).await.unwrap_err();
    assert!(matches!(refused, LookupError::Start(StartError::Failed { .. })), "{refused:?}");
    took(began, SETTINGS.start_limit);
    *house.journal.start_takes.lock().unwrap() = Duration::ZERO;
    assert_eq!(house.directory.send(RoomId::generate(), Add(1), SOON).await, Ok(1));
}

#[actix::test]
async fn draining_handles_what_waits_and_starts_nothing() {
    tokio::time::pause();
    let house = House::here(SETTINGS);
    house.journal.awake.store(true, SeqCst);
    let ids: Vec<_> = (0..40).map(|_| RoomId::generate()).collect();
    for &id in &ids {
        for number in 0..3 {
            house.directory.tell(id, Add(number), SOON).await.unwrap();
        }
    }
    *house.journal.start_takes.lock().unwrap() = Duration::from_secs(1);
    let starting = house.directory.address(RoomId::generate());
    let (started, left) = futures_util::future::join(starting, house.directory.drain(SOON)).await;
    started.unwrap();
    assert_eq!(left, 0);
    assert_eq!(house.counts.slept.load(SeqCst), 41);
    assert!(ids.iter().all(|&id| house.journal.of(id) == [0, 1, 2]));
    assert_eq!(house.directory.address(ids[0]).await.unwrap_err(), LookupError::Draining);
}

#[actix::test]
async fn actors_end_with_their_directory() {
    tokio::time::pause();
    let House { directory, journal, .. } = House::here(Settings { idle_after: Duration::MAX, ..SETTINGS });
    let id = RoomId::generate();
    let address = directory.address(id).await.unwrap();
    sleep(10 * SETTINGS.idle_after).await;
    address.try_send(Add(1)).unwrap();
    drop((directory, address));
    while Arc::strong_count(&journal) > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(journal.of(id), [1], "what was said before is handled");
}
