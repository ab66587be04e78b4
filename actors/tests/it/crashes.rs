use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use nova_actors::{
    directory::Settings,
    error::{DeliveryError, LookupError, SendError},
    fault::Fault,
    id::RoomId,
    workers::Workers,
};
use tokio::time::{Instant, sleep};

use crate::ledger::{Add, Busy, House, SETTINGS, SOON, TICK, Ticks, TurnHostile, took};

/// Says that `refused` asks to come back in `expected_ms`, give or take a timer's rounding.
#[track_caller]
fn unavailable(refused: Result<usize, DeliveryError>, expected_ms: u64) {
    let Err(DeliveryError::Lookup(LookupError::Unavailable { retry_after })) = refused else {
        panic!("{refused:?}")
    };
    let rounding = Duration::from_millis(4);
    let expected = Duration::from_millis(expected_ms);
    assert!(
        retry_after <= expected && retry_after + rounding >= expected,
        "{retry_after:?} is not {expected:?}"
    );
}

#[actix::test]
async fn an_actor_comes_back_from_durable_state() {
    tokio::time::pause();
    for fault in [Fault::Handler, Fault::Future] {
        let house = House::here(SETTINGS);
        let id = RoomId::generate();
        for number in [1, 2] {
            house.directory.send(id, Add(number), SOON).await.unwrap();
        }
        let before = house.directory.address(id).await.unwrap();
        let struck = before.send(fault, SOON).await;
        assert_eq!(struck, if fault == Fault::Handler { Err(SendError::Died) } else { Ok(()) });
        before.ended().await;
        assert!(!before.is_alive());
        assert_eq!(house.directory.send(id, Add(3), SOON).await, Ok(3));
        assert_eq!((house.numbers(id).await, house.journal.of(id)), (vec![1, 2, 3], vec![1, 2, 3]));
        assert_ne!(house.directory.address(id).await.unwrap(), before);
        assert_eq!(house.counts.crashed.load(SeqCst), 1);
        assert_eq!(house.counts.restarted.load(SeqCst), 1);
        assert_eq!(house.counts.started.load(SeqCst), 1);
    }
}

#[actix::test]
async fn an_actor_is_restarted_unasked() {
    tokio::time::pause();
    let house = House::here(SETTINGS);
    let id = RoomId::generate();
    let address = house.directory.address(id).await.unwrap();
    address.send(Fault::Handler, SOON).await.unwrap_err();
    address.ended().await;
    assert!(house.directory.existing(id).is_none());
    sleep(SETTINGS.backoff_min + TICK).await;
    assert!(house.directory.existing(id).is_some(), "nobody has asked for it");
}

#[actix::test]
async fn neighbours_never_notice() {
    tokio::time::pause();
    let house =
        House::here(Settings { crashes_max: u32::MAX, backoff_max: SETTINGS.backoff_min, ..SETTINGS });
    let (quiet, loud) = (RoomId::generate(), RoomId::generate());
    let began = Instant::now();
    let neighbour = house.directory.address(quiet).await.unwrap();
    for crash in 1..=50 {
        let fault = if crash % 2 == 0 { Fault::Handler } else { Fault::Future };
        let address = house.directory.address(loud).await.unwrap();
        let _: Result<(), _> = address.send(fault, SOON).await;
        address.ended().await;
        assert_eq!(house.counts.crashed.load(SeqCst), crash);
    }
    sleep(TICK / 2).await;
    let (ticks, _) = neighbour.send(Ticks, SOON).await.unwrap();
    assert!(began.elapsed() >= 49 * SETTINGS.backoff_min);
    assert_eq!(ticks as u128, began.elapsed().as_millis() / TICK.as_millis(), "every tick came");
}

/// On a thread of its own, the thread survives too.
#[actix::test]
async fn a_worker_thread_survives() {
    let settings = Settings { crashes_max: u32::MAX, backoff_min: Duration::ZERO, ..SETTINGS };
    let workers = Workers::start(1).unwrap();
    let house = House::on(workers.clone(), settings);
    let (quiet, loud) = (RoomId::generate(), RoomId::generate());
    let neighbour = house.directory.address(quiet).await.unwrap();
    let (mut ticks, thread) = neighbour.send(Ticks, SOON).await.unwrap();
    for _ in 0..20 {
        assert_eq!(house.directory.send(loud, Fault::Handler, SOON).await, Err(DeliveryError::Died));
        let (_, loud_thread) = house.directory.send(loud, Ticks, SOON).await.unwrap();
        assert_eq!(loud_thread, thread);
    }
    let deadline = Instant::now() + SOON;
    let seen = ticks;
    while ticks < seen + 3 {
        assert!(Instant::now() < deadline, "the neighbour goes on ticking");
        sleep(TICK).await;
        (ticks, _) = neighbour.send(Ticks, SOON).await.unwrap();
    }
    assert_eq!(house.counts.started.load(SeqCst), 2);
    workers.stop();
}

#[actix::test]
async fn a_crash_loop_is_contained() {
    tokio::time::pause();
    let house = House::here(SETTINGS);
    let id = RoomId::generate();
    let crash =
        async || assert_eq!(house.directory.send(id, Fault::Handler, SOON).await, Err(DeliveryError::Died));

    // The first crashes cost whoever asks next a doubling pause.
    for pause_ms in [100, 200] {
        crash().await;
        let began = Instant::now();
        assert_eq!(house.numbers(id).await, Vec::<u32>::new());
        took(began, Duration::from_millis(pause_ms));
    }
    assert_eq!(house.counts.contained.load(SeqCst), 0);

    // The third in a row is a loop: it is refused at once, and left alone.
    crash().await;
    let (began, starts) = (Instant::now(), house.journal.starts.load(SeqCst));
    unavailable(house.directory.send(id, Add(1), SOON).await, 400);
    assert_eq!(began.elapsed(), Duration::ZERO, "a refusal does not wait");
    assert_eq!(house.counts.contained.load(SeqCst), 1);
    assert_eq!(house.directory.stats().resting, 1);
    sleep(Duration::from_millis(300)).await;
    unavailable(house.directory.send(id, Add(1), SOON).await, 100);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(house.journal.starts.load(SeqCst), starts, "nobody restarts it unasked");

    // One trial per back-off, which grows to its bound.
    for retry_after_ms in [800, 1000, 1000] {
        crash().await;
        unavailable(house.directory.send(id, Add(1), SOON).await, retry_after_ms);
        sleep(Duration::from_millis(retry_after_ms + 1)).await;
    }
    assert_eq!(house.counts.contained.load(SeqCst), 4);

    // Another id was never concerned, and who lives long enough has recovered.
    assert_eq!(house.directory.send(RoomId::generate(), Add(1), SOON).await, Ok(1));
    assert_eq!(house.directory.send(id, Add(1), SOON).await, Ok(1));
    sleep(SETTINGS.steady_after).await;
    crash().await;
    assert_eq!(house.numbers(id).await, [1]);
    assert_eq!(house.counts.contained.load(SeqCst), 4);
}

#[actix::test]
async fn a_start_that_panics_is_contained_too() {
    tokio::time::pause();
    let house = House::here(SETTINGS);
    let id = RoomId::generate();
    house.journal.panic_at_start.store(true, SeqCst);
    unavailable(house.directory.send(id, Add(1), SOON).await, 100);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(house.journal.starts.load(SeqCst), 3, "the loop ends by itself");
    assert_eq!((house.counts.crashed.load(SeqCst), house.counts.contained.load(SeqCst)), (3, 1));
    house.journal.panic_at_start.store(false, SeqCst);
    assert_eq!(house.directory.send(id, Add(1), SOON).await, Ok(1));
    assert_eq!(house.directory.stats().live, 1);
}

/// actix would ask the broken actor whether it stops while its panic unwinds, and the second panic would end the process.
#[actix::test]
async fn nothing_of_a_broken_actor_runs_again() {
    tokio::time::pause();
    let house = House::here(SETTINGS);
    let id = RoomId::generate();
    let address = house.directory.address(id).await.unwrap();
    address.try_send(TurnHostile).unwrap();
    for _ in 0..3 {
        address.try_send(Fault::Handler).unwrap();
    }
    address.ended().await;
    assert_eq!(house.counts.lost.load(SeqCst), 2, "the faults behind the first were never handled");
    assert_eq!(house.counts.crashed.load(SeqCst), 1);
    assert_eq!(house.directory.send(id, Add(1), SOON).await, Ok(1));
}

#[actix::test]
async fn who_waits_for_an_answer_hears_of_the_death() {
    tokio::time::pause();
    let house = House::here(SETTINGS);
    let id = RoomId::generate();
    let address = house.directory.address(id).await.unwrap();
    let free = std::sync::Arc::new(tokio::sync::Notify::new());
    address.send(Busy(free.clone()), SOON).await.unwrap();
    address.try_send(Fault::Handler).unwrap();
    let waiting: Vec<_> = (0..24)
        .map(|number| {
            let address = address.clone();
            actix::spawn(async move { address.send(Add(number), SOON).await })
        })
        .collect();
    while address.mailbox_depth() < address.mailbox_capacity() {
        tokio::task::yield_now().await;
    }
    free.notify_one();
    let (mut died, mut closed) = (0, 0);
    for sender in waiting {
        match sender.await.unwrap() {
            Err(SendError::Died) => died += 1,
            Err(SendError::Closed(_)) => closed += 1,
            answer => panic!("{answer:?}"),
        }
    }
    assert_eq!(died + closed, 24);
    assert!(died >= 19 && closed >= 1, "{died} were inside, {closed} before the gate");
    assert_eq!(house.journal.of(id), [0_u32; 0]);
}

#[actix::test]
async fn the_end_of_a_thread_is_said() {
    let workers = Workers::start(1).unwrap();
    let house = House::on(workers.clone(), SETTINGS);
    let id = RoomId::generate();
    let address = house.directory.address(id).await.unwrap();
    workers.stop();
    address.ended().await;
    assert_eq!(house.counts.stopped.load(SeqCst), 1);
    let refused = house.directory.send(id, Add(1), SOON).await;
    assert!(matches!(refused, Err(DeliveryError::Lookup(LookupError::Start(_)))), "{refused:?}");
    assert_eq!(house.directory.stats().live, 0);
}
