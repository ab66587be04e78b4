//! The bus between nodes, over a real Redis: alive, dead, slow and lying.

use std::time::{Duration, Instant};

use bytes::Bytes;
use nova::bus::redis::{Bus, RedisConfig, RedisRefusal};
use nova_actors::id::NodeId;
use nova_actors::port::{Bus as _, BusError, BusEvent, LeaseName, Subscription, Topic};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::services::{self, Redis, eventually};

const SOON: Duration = Duration::from_secs(30);

fn topic(name: &str) -> Topic {
    Topic::new(name).expect("a name")
}

/// Quick to notice, so that the tests are quick.
fn impatient(redis: &Redis) -> RedisConfig {
    RedisConfig {
        command_max: Duration::from_millis(300),
        probe_every: Duration::from_millis(100),
        silence_max: Duration::from_millis(800),
        pause_max: Duration::from_millis(200),
        ..RedisConfig::new(redis.url())
    }
}

async fn connected(bus: &Bus) {
    let mut health = bus.health();
    let wait = health.wait_for(|health| health.connected);
    tokio::time::timeout(SOON, wait).await.expect("connected in time").expect("the bus lives");
}

async fn disconnected(bus: &Bus) {
    let mut health = bus.health();
    let wait = health.wait_for(|health| !health.connected);
    tokio::time::timeout(SOON, wait).await.expect("noticed in time").expect("the bus lives");
}

async fn event(subscription: &mut Subscription) -> BusEvent {
    tokio::time::timeout(SOON, subscription.next()).await.expect("in time").expect("the bus lives")
}

fn message(text: &'static str) -> BusEvent {
    BusEvent::Message(Bytes::from_static(text.as_bytes()))
}

#[tokio::test]
async fn redis_keeps_the_contract() {
    let config = services::redis().await;
    nova_actors::contract::bus(async || Bus::connect(config.clone()).await.expect("Redis is there")).await;
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    let bus = nova_actors::memory::Bus::new();
    nova_actors::contract::bus(async || bus.clone()).await;
}

#[tokio::test]
async fn namespaces_do_not_hear_each_other() {
    let (ours, theirs) = (services::redis().await, services::redis().await);
    let (here, there) =
        (Bus::connect(ours).await.expect("there"), Bus::connect(theirs).await.expect("there"));
    let topic = topic("town");
    let mut heard = here.subscribe(&topic).await.expect("subscribed");
    there.publish(&topic, Bytes::from_static(b"theirs")).await.expect("published");
    here.publish(&topic, Bytes::from_static(b"ours")).await.expect("published");
    assert_eq!(event(&mut heard).await, message("ours"));
    let name = LeaseName::new("sequencer").expect("a name");
    for bus in [&here, &there] {
        let lease = bus.acquire(&name, NodeId::generate(), SOON).await.expect("asked");
        assert!(lease.is_some(), "each namespace has its own lease");
    }
}

#[tokio::test]
async fn a_redis_that_died_is_found_again_and_the_gap_is_said() {
    let mut redis = Redis::start();
    let bus = Bus::connect(impatient(&redis)).await.expect("there");
    let mut subscriptions = Vec::new();
    for number in 0..600 {
        subscriptions.push((
            topic(&format!("t{number}")),
            bus.subscribe(&topic(&format!("t{number}"))).await.unwrap(),
        ));
    }
    let name = LeaseName::new("sequencer").expect("a name");
    let before = bus.acquire(&name, NodeId::generate(), SOON).await.expect("asked").expect("free");

    redis.kill();
    disconnected(&bus).await;
    let refused = bus.publish(&topic("t0"), Bytes::from_static(b"lost")).await;
    assert!(matches!(refused, Err(BusError::Unavailable { .. })), "{refused:?}");
    let refused = bus.renew(&before, SOON).await;
    assert!(matches!(refused, Err(BusError::Unavailable { .. })), "{refused:?}");
    let began = Instant::now();
    let mut meanwhile = bus.subscribe(&topic("meanwhile")).await.expect("the next connection asks for it");
    assert!(began.elapsed() < Duration::from_secs(5), "subscribing does not wait for Redis to come back");

    redis.revive();
    connected(&bus).await;
    for (topic, subscription) in &mut subscriptions {
        assert_eq!(event(subscription).await, BusEvent::Gap, "{topic}");
    }
    assert_eq!(event(&mut meanwhile).await, BusEvent::Gap);
    for (topic, subscription) in &mut subscriptions {
        bus.publish(topic, Bytes::from_static(b"again")).await.expect("published");
        assert_eq!(event(subscription).await, message("again"), "{topic}");
    }
    // It has forgotten the lease and its counter; the fence has not gone back.
    assert_eq!(bus.renew(&before, SOON).await, Ok(false));
    let after = bus.acquire(&name, NodeId::generate(), SOON).await.expect("asked").expect("free");
    assert!(after.fence > before.fence, "{} after {}", after.fence, before.fence);
}

#[tokio::test]
async fn a_redis_that_is_away_at_the_start_is_waited_for() {
    let mut redis = Redis::start();
    let config = impatient(&redis);
    redis.kill();
    let bus = Bus::connect(config).await.expect("degraded is no refusal");
    assert!(!bus.health().borrow().connected);
    let mut heard = bus.subscribe(&topic("town")).await.expect("subscribed");
    redis.revive();
    connected(&bus).await;
    assert_eq!(event(&mut heard).await, BusEvent::Gap);
    bus.publish(&topic("town"), Bytes::from_static(b"here")).await.expect("published");
    assert_eq!(event(&mut heard).await, message("here"));
}

#[tokio::test]
async fn a_slow_redis_costs_a_known_time_and_health_says_so() {
    let redis = Redis::start();
    let config = impatient(&redis);
    let limit = config.command_max;
    let bus = Bus::connect(config).await.expect("there");
    let mut heard = bus.subscribe(&topic("town")).await.expect("subscribed");
    eventually("the lag is measured", SOON, async || bus.health().borrow().lag).await;
    redis.signal(Signal::STOP);
    let began = Instant::now();
    let name = LeaseName::new("sequencer").expect("a name");
    let town = topic("town");
    let (refused, published) = tokio::join!(
        bus.acquire(&name, NodeId::generate(), SOON),
        bus.publish(&town, Bytes::from_static(b"late"))
    );
    let took = began.elapsed();
    assert!(matches!(refused, Err(BusError::Unavailable { .. })), "{refused:?}");
    assert!(matches!(published, Err(BusError::Unavailable { .. })), "{published:?}");
    assert!(took < limit * 10, "both gave up after {took:?}, with a limit of {limit:?}");
    disconnected(&bus).await;
    redis.signal(Signal::CONT);
    connected(&bus).await;
    // What was published late may still arrive, and the old connection may live on or a new one say that there was a
    // gap; soon all is as before.
    eventually("what is published is heard", SOON, async || {
        bus.publish(&topic("town"), Bytes::from_static(b"in time")).await.ok()?;
        (event(&mut heard).await == message("in time")).then_some(())
    })
    .await;
}

/// A server that answers every command with `words`.
async fn liar(words: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut heard = [0; 4096];
                while let Ok(count @ 1..) = socket.read(&mut heard).await {
                    // Each command is an array, and nothing else we send has a star in it.
                    let commands = heard[..count].iter().filter(|byte| **byte == b'*').count();
                    if socket.write_all(&words.repeat(commands)).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    format!("redis://{address}")
}

#[tokio::test]
async fn what_is_no_redis_is_refused_at_the_start() {
    for words in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"\x00\xff\xfe garbage \x80\r\n\r\n",
        b"+OK\r\n+OK\r\n",
        b"*1\r\n*1\r\n*1\r\n+deep\r\n",
        b"$-7\r\n",
    ] {
        let config = RedisConfig::new(liar(words).await);
        let refused = Bus::connect(config).await;
        let refused = refused.expect_err(&words.escape_ascii().to_string());
        assert!(
            matches!(refused, RedisRefusal::NotRedis(_)),
            "{:?}: {refused}",
            words.escape_ascii().to_string()
        );
    }
}

#[tokio::test]
async fn a_redis_too_old_is_refused() {
    // HELLO as Redis 6.0 answers it, and the refusal of one that does not know it.
    let old = b"*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n6.0.16\r\n";
    let older = b"-ERR unknown command `HELLO`, with args beginning with: \r\n";
    for (words, found) in [(&old[..], "6.0.16"), (older, "5 or older")] {
        let refused =
            Bus::connect(RedisConfig::new(liar(words).await)).await.expect_err("too old").to_string();
        assert_eq!(refused, format!("Redis {found} is too old: version 6.2 or newer is needed"));
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let redis = Redis::start();
    let url = redis.url().replace("redis://", "redis://:wrong@");
    let refused = Bus::connect(RedisConfig::new(url)).await.expect_err("it has no password").to_string();
    assert!(refused.contains("check the user and the password") && !refused.contains("wrong@"), "{refused}");
}

#[tokio::test]
async fn garbage_in_the_middle_is_a_lost_connection_and_no_more() {
    let redis = Redis::start();
    let real = impatient(&redis);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (spoil, _) = tokio::sync::broadcast::channel::<()>(1);
    let target = redis.url().replace("redis://", "");
    tokio::spawn({
        let spoil = spoil.clone();
        async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut server = tokio::net::TcpStream::connect(&target).await.expect("Redis is there");
                let mut spoiled = spoil.subscribe();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = spoiled.recv() => {
                            let _closed = client.write_all(b"\xff\x00 not RESP \xfe\r\n$99999999999999999999\r\n").await;
                        }
                    }
                });
            }
        }
    });
    let bus = Bus::connect(RedisConfig { url: format!("redis://{address}"), ..real }).await.expect("there");
    let mut heard = bus.subscribe(&topic("town")).await.expect("subscribed");
    spoil.send(()).expect("two connections listen");
    assert_eq!(event(&mut heard).await, BusEvent::Gap);
    connected(&bus).await;
    bus.publish(&topic("town"), Bytes::from_static(b"whole again")).await.expect("published");
    assert_eq!(event(&mut heard).await, message("whole again"));
}

#[tokio::test]
async fn a_full_queue_is_told_at_once() {
    let redis = Redis::start();
    let config = RedisConfig {
        command_max: Duration::from_secs(5),
        silence_max: SOON,
        ..RedisConfig::new(redis.url())
    };
    let bus = Bus::connect(config).await.expect("there");
    redis.signal(Signal::STOP);
    let topic = topic("town");
    let large = Bytes::from(vec![7; nova_actors::port::PAYLOAD_BYTES_MAX]);
    let publish = || Box::pin(bus.publish(&topic, large.clone()));
    // 32 MiB fit; the rest hears so without waiting.
    let mut waiting: Vec<_> = (0..200).map(|_| publish()).collect();
    let began = Instant::now();
    let mut refused = 0;
    for future in &mut waiting {
        if let Some(answer) = futures_util::FutureExt::now_or_never(future) {
            assert!(
                matches!(&answer, Err(BusError::Unavailable { reason }) if reason.contains("full")),
                "{answer:?}"
            );
            refused += 1;
        }
    }
    assert_eq!(refused, 200 - 128, "{refused} were refused");
    assert!(began.elapsed() < Duration::from_secs(2), "without waiting");
    redis.signal(Signal::CONT);
}

#[tokio::test]
async fn thousands_of_messages_share_round_trips() {
    const PUBLISHERS: u32 = 64;
    const EACH: u32 = 300;
    let bus = Bus::connect(services::redis().await).await.expect("there");
    let topic = topic("town");
    let mut heard = bus.subscribe(&topic).await.expect("subscribed");
    let began = Instant::now();
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|_| {
            let (bus, topic) = (bus.clone(), topic.clone());
            tokio::spawn(async move {
                for _ in 0..EACH {
                    bus.publish(&topic, Bytes::from_static(&[7; 200])).await.expect("published");
                }
            })
        })
        .collect();
    let mut count = 0;
    while count < PUBLISHERS * EACH {
        assert_ne!(event(&mut heard).await, BusEvent::Gap, "a reader that keeps up misses nothing");
        count += 1;
    }
    for publisher in publishers {
        publisher.await.expect("all were taken");
    }
    let rate = f64::from(count) / began.elapsed().as_secs_f64();
    println!("{rate:.0} messages of 200 bytes a second, published and heard, {PUBLISHERS} publishers");
}
