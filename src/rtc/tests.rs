//! Shards on real sockets, with participants without a browser, and with people who mean harm.

mod breaks;
mod shards;
mod tcp;

use std::rc::Rc;
use std::time::Duration;

use nova_media::peer::Failure;
use nova_media::rtp::packet::Header;
use tokio::task::LocalSet;

use super::*;
use crate::bench::calls::canned::{LEVEL_ID, Layer, MID_ID, OPUS, RID_ID, RIDS, TRANSPORT_ID, VP8};
use crate::bench::calls::peer::{self, Peer, Shape, Tally};

fn config(arguments: &[&str]) -> RtcConfig {
    let arguments = ["nova", "serve"].iter().chain(arguments);
    let (cli, _) = crate::config::parse(arguments).expect("parses");
    match cli.command {
        crate::cli::Command::Serve(config) => config.rtc.clone(),
        _ => panic!("`serve` was parsed as something else"),
    }
}

#[test]
fn clients_are_told_an_address_they_can_reach() {
    let bound = |address: &str| address.parse::<SocketAddr>().expect("an address");
    let told = addresses(&config(&[]), bound("127.0.0.1:7000"));
    assert_eq!(told, [bound("127.0.0.1:7000")]);
    let public = config(&["--rtc-public-ip", "192.0.2.7,2001:db8::7"]);
    let told = addresses(&public, bound("0.0.0.0:7000"));
    assert_eq!(told, [bound("192.0.2.7:7000"), bound("[2001:db8::7]:7000")]);
    let told = addresses(&config(&[]), bound("0.0.0.0:7000"));
    assert!(told.iter().all(|address| !address.ip().is_unspecified()) && !told.is_empty(), "{told:?}");
}

/// Shards, and who takes part.
struct Stage {
    media: Media,
    events: mpsc::Receiver<Event>,
    address: SocketAddr,
    metrics: Metrics,
    identity: Arc<Identity>,
    tally: Rc<Tally>,
    began: Instant,
}

impl Stage {
    fn new(shards: usize) -> Stage {
        Stage::with(shards, |config, sockets, metrics| Media::start(config, sockets, None, metrics))
    }

    /// The same where the kernel gives datagrams to whichever shard it likes.
    fn unsteered(shards: usize) -> Stage {
        Stage::with(shards, |config, sockets, metrics| {
            Media::start_steered(config, sockets, None, metrics, &Steering::none())
        })
    }

    fn with(
        shards: usize,
        start: impl FnOnce(
            &RtcConfig,
            Vec<UdpSocket>,
            &Metrics,
        ) -> Result<(Media, mpsc::Receiver<Event>), RtcError>,
    ) -> Stage {
        let sockets = sockets::open((Ipv4Addr::LOCALHOST, 0).into(), shards).unwrap();
        let address = sockets[0].local_addr().unwrap();
        let metrics = Metrics::new();
        let (media, events) = start(&config(&[]), sockets, &metrics).unwrap();
        let identity = Arc::new(Identity::generate().unwrap());
        Stage { media, events, address, metrics, identity, tally: Rc::default(), began: Instant::now() }
    }

    fn offer(&self, shape: Shape) -> String {
        peer::offer(shape, &self.identity.fingerprint())
    }

    async fn joins(&self, room: RoomKey, shape: Shape) -> (MemberId, Rc<Peer>) {
        self.joins_over(room, shape, self.address).await
    }

    /// Somebody who sends what is for the shards to `over`.
    async fn joins_over(&self, room: RoomKey, shape: Shape, over: SocketAddr) -> (MemberId, Rc<Peer>) {
        let offer = Offer::read(&self.offer(shape)).unwrap();
        let (member, answer) = self.media.join(room, offer).await.unwrap();
        let answer =
            answer.replace(&format!(" {} typ", self.address.port()), &format!(" {} typ", over.port()));
        let peer = Rc::new(Peer::new(&self.identity, &answer, &self.tally, self.began, 0).unwrap());
        tokio::task::spawn_local(peer.clone().listen());
        let ticking = Rc::downgrade(&peer);
        tokio::task::spawn_local(async move {
            while let Some(peer) = ticking.upgrade() {
                peer.tick(Instant::now());
                drop(peer);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        until(|| peer.is_connected()).await;
        (member, peer)
    }

    /// What the shards tell goes to whom it concerns. None of them fails.
    fn tell(&mut self, people: &[(MemberId, Rc<Peer>)]) {
        let mut failed = self.hear(people);
        failed.retain(|(member, _)| people.iter().any(|(known, _)| known == member));
        assert_eq!(failed, []);
    }

    /// The same, and who failed.
    fn hear(&mut self, people: &[(MemberId, Rc<Peer>)]) -> Vec<(MemberId, Failure)> {
        let mut failed = Vec::new();
        let peer = |member: MemberId| people.iter().find(|(known, _)| *known == member).map(|(_, peer)| peer);
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Slots(member, slots) => {
                    for (mid, track) in slots {
                        peer(member).inspect(|peer| peer.bind(&mid, track));
                    }
                }
                Event::Wanted(member, _, highest) => {
                    peer(member).inspect(|peer| peer.watched(highest));
                }
                Event::Failed(member, failure) => failed.push((member, failure)),
                _ => {}
            }
        }
        failed
    }
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < limit, "not within a minute");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const LOOKS: Shape = Shape { ears: 1, eyes: 1, has_voice: false, layers: 0 };
const SHOWS: Shape = Shape { ears: 1, eyes: 1, has_voice: true, layers: 3 };

fn camera(ssrc: u32) -> Vec<Layer> {
    let kbps = [100, 300, 600];
    let layers = RIDS.into_iter().zip(kbps).zip(ssrc..);
    layers.map(|((rid, kbps), ssrc)| Layer::new(Some(rid), ssrc, kbps, Instant::now())).collect()
}

/// A packet of a microphone, as it is before it is sealed.
fn voice(ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    let number = sequence.to_be_bytes();
    let extensions: &[(u8, &[u8])] = &[(TRANSPORT_ID, &number), (MID_ID, b"0"), (LEVEL_ID, &[10])];
    Header { marker: false, payload_type: OPUS, sequence, timestamp: 0, ssrc, extensions }.write(&mut packet);
    packet.extend_from_slice(&[7; 60]);
    packet
}

#[tokio::test]
async fn strangers_and_a_participant_who_means_harm_leave_other_rooms_unharmed() {
    LocalSet::new().run_until(attack()).await;
}

async fn attack() {
    let mut stage = Stage::new(2);
    let good = vec![stage.joins(1, SHOWS).await, stage.joins(1, LOOKS).await];
    let (ann, bo) = (good[0].clone(), good[1].clone());
    stage.media.publish(ann.0, 1, "1".to_owned(), Source::Camera, false).await.unwrap();
    ann.1.show(camera(100));
    let (bad_member, bad) = stage.joins(2, SHOWS).await;
    stage.media.publish(bad_member, 2, "0".to_owned(), Source::Microphone, false).await.unwrap();
    let frames = |peer: &Peer| peer.seen().iter().map(|seen| seen.frames).sum::<u64>();
    let mut all = good.clone();
    all.push((bad_member, bad.clone()));
    until(|| {
        stage.tell(&all);
        frames(&bo.1) > 20
    })
    .await;
    let before = stage.metrics.rtc_unknown.get();
    let resident = || crate::bench::measure::Processes::one(std::process::id()).resident_bytes();
    let stranger = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let replayed = bad.seal(&voice(4_000, 1)).unwrap();
    let mut random = 1_u64;
    let mut garbage = move |len: usize| -> Vec<u8> {
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as u8
        };
        (0..len).map(|_| next()).collect()
    };
    let mut grown = resident();
    let (mut sent, mut packets_in) = (0_u64, 0);
    for round in 0..300_u32 {
        for at in 0..40_u32 {
            // From nowhere: garbage, STUN without a name, forged streams.
            let mut datagram = garbage((at as usize * 37) % 1_400 + 1);
            datagram[0] = [0, 20, 128, 144][at as usize % 4];
            sent += u64::from(stranger.try_send_to(&datagram, stage.address).is_ok());
            // From inside, under a new name each: streams that cannot be opened, and sealed ones that were never announced.
            let mut forged = voice(round * 40 + at, 1);
            forged.resize(120, 1);
            bad.throw(&forged);
            bad.throw(&bad.seal(&voice(1_000_000 + round * 40 + at, 1)).unwrap());
            // And one packet for ever.
            bad.throw(&replayed);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        stage.tell(&all);
        if round == 150 {
            grown = resident();
        }
        packets_in = stage.metrics.rtc_packets.with_label_values(&["in"]).get();
    }
    assert!(sent > 1_000 && packets_in > 0);
    until(|| stage.metrics.rtc_unknown.get() > before).await;
    let (now, more) = (frames(&bo.1), resident().saturating_sub(grown));
    until(|| {
        stage.tell(&all);
        frames(&bo.1) > now + 30
    })
    .await;
    let seen = bo.1.seen();
    assert!(seen.iter().all(|seen| seen.broken == 0 && seen.backwards == 0), "{seen:?}");
    assert!(more < 16 << 20, "memory grew by {more} bytes in the second half of the attack");
    flood(&mut stage, &all).await;
    let now = frames(&bo.1);
    until(|| {
        stage.tell(&all);
        frames(&bo.1) > now + 30
    })
    .await;
    let seen = bo.1.seen();
    assert!(seen.iter().all(|seen| seen.broken == 0 && seen.backwards == 0), "{seen:?}");
    // Who attacked may go on as they should.
    assert!(bad.is_connected());
    stage.media.leave(bad_member).await;
}

/// Far more valid sound and pictures than anybody may publish, to somebody who hears and sees them, while `all` go on.
async fn flood(stage: &mut Stage, all: &[(MemberId, Rc<Peer>)]) {
    let refused = |stage: &Stage, reason| stage.metrics.rtc_refused.with_label_values(&[reason]).get();
    let out = |stage: &Stage| stage.metrics.rtc_packets.with_label_values(&["out"]).get();
    assert_eq!(
        (refused(stage, "sound"), refused(stage, "bitrate")),
        (0, 0),
        "who means no harm is not refused"
    );
    let ((bad_member, bad), victim) = (stage.joins(3, SHOWS).await, stage.joins(3, LOOKS).await);
    for (track, mid, source) in [(3, "0", Source::Microphone), (4, "1", Source::Camera)] {
        stage.media.publish(bad_member, track, mid.to_owned(), source, false).await.unwrap();
    }
    let (before, began) = (out(stage), Instant::now());
    let (mut sequence, mut sent) = (0_u16, 0_u64);
    // Until a few thousand of each were too many.
    while refused(stage, "sound") < 2_000 || refused(stage, "bitrate") < 2_000 {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing is refused");
        for _ in 0..50 {
            sequence = sequence.wrapping_add(1);
            bad.throw(&bad.seal(&voice(5_000, sequence)).unwrap());
            bad.throw(&bad.seal(&picture(5_001, sequence)).unwrap());
            sent += 2;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        stage.tell(all);
    }
    // All others see 30 pictures a second of 100 to 600 kb/s, at most a hundred packets; the victim what the bounds let through.
    let (passed, seconds) = (out(stage) - before, began.elapsed().as_secs() + 1);
    let most = (500 + 5_000) * (seconds + 1) + 1_000 * seconds;
    assert!(passed < most, "{passed} of {sent} packets in {seconds} s");
    assert!(bad.is_connected(), "what is too much ends nothing");
    stage.media.leave(victim.0).await;
    stage.media.leave(bad_member).await;
}

/// A packet of a camera, a keyframe each, as it is before it is sealed.
fn picture(ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    let extensions: &[(u8, &[u8])] = &[(MID_ID, b"1"), (RID_ID, RIDS[0].as_bytes())];
    let timestamp = u32::from(sequence) * 90;
    Header { marker: true, payload_type: VP8, sequence, timestamp, ssrc, extensions }.write(&mut packet);
    packet.extend_from_slice(&[0x10, 0, 7]);
    packet
}

#[tokio::test]
async fn layers_nobody_watches_are_not_made_and_come_back_when_somebody_does() {
    LocalSet::new().run_until(watched()).await;
}

async fn watched() {
    let mut stage = Stage::new(1);
    let all = vec![stage.joins(1, SHOWS).await, stage.joins(1, LOOKS).await];
    let (ann, bo) = (all[0].clone(), all[1].clone());
    stage.media.publish(ann.0, 1, "1".to_owned(), Source::Camera, false).await.unwrap();
    ann.1.show(camera(100));
    let frames = |peer: &Peer| peer.seen().iter().map(|seen| seen.frames).sum::<u64>();
    until(|| {
        stage.tell(&all);
        frames(&bo.1) > 10
    })
    .await;
    stage.media.view(bo.0, vec![Want::new(1, 100)]).await;
    until(|| {
        stage.tell(&all);
        ann.1.layers_made() == 1
    })
    .await;
    stage.media.view(bo.0, Vec::new()).await;
    until(|| {
        stage.tell(&all);
        ann.1.layers_made() == 0
    })
    .await;
    let before = frames(&bo.1);
    stage.media.view(bo.0, vec![Want::new(1, 700)]).await;
    until(|| {
        stage.tell(&all);
        ann.1.layers_made() == 3 && frames(&bo.1) > before + 10
    })
    .await;
    // What was forwarded is told, and how long it was kept.
    let kept_for = &stage.metrics.rtc_forward_duration;
    until(|| kept_for.get_sample_count() > 30).await;
    assert!(kept_for.get_sample_sum() > 0.0);
}

#[tokio::test]
async fn a_shard_that_did_not_run_for_two_seconds_goes_on_as_before() {
    LocalSet::new().run_until(stalled()).await;
}

async fn stalled() {
    const STALL: Duration = Duration::from_secs(2);
    const RECOVERS_IN: Duration = Duration::from_secs(2);
    let mut stage = Stage::new(1);
    let mut all = Vec::new();
    for key in 1..=3_u64 {
        let (member, peer) = stage.joins(1, SHOWS).await;
        stage.media.publish(member, key, "1".to_owned(), Source::Camera, false).await.unwrap();
        peer.show(camera(100 * key as u32));
        all.push((member, peer));
    }
    all.push(stage.joins(1, LOOKS).await);
    // Everybody sees, and nobody climbs to a higher layer any more.
    let keyframes = |stage: &Stage| stage.metrics.rtc_keyframes.get();
    let (mut asked, mut since) = (0, Instant::now());
    until(|| {
        stage.tell(&all);
        if std::mem::replace(&mut asked, keyframes(&stage)) != asked
            || !all.iter().all(|(_, peer)| peer.sees_now())
        {
            since = Instant::now();
        }
        since.elapsed() > Duration::from_millis(2_500)
    })
    .await;
    let layers: Vec<usize> = all.iter().map(|(_, peer)| peer.layers_made()).collect();
    stage.media.strike(fault::Fault::Stall(STALL)).await;
    let began = Instant::now();
    until(|| all.iter().all(|(_, peer)| !peer.sees_now())).await;
    assert!(began.elapsed() < STALL, "nothing is sent while it stalls");
    until(|| began.elapsed() >= STALL).await;
    until(|| {
        stage.tell(&all);
        all.iter().all(|(_, peer)| peer.sees_now())
    })
    .await;
    let took = began.elapsed() - STALL;
    assert!(took < RECOVERS_IN, "everybody saw again only {took:?} after the stall");
    // As long as a second wave would take, and the metrics to hold it. Who fails meanwhile is told, and that panics.
    let since = Instant::now();
    until(|| {
        stage.tell(&all);
        since.elapsed() > Duration::from_millis(2_500)
    })
    .await;
    assert!(all.iter().all(|(_, peer)| peer.sees_now() && peer.is_connected()));
    assert!(keyframes(&stage) - asked <= 3, "{} keyframes of three tracks", keyframes(&stage) - asked);
    assert_eq!(all.iter().map(|(_, peer)| peer.layers_made()).collect::<Vec<_>>(), layers);
    assert_eq!(stage.metrics.rtc_shed_level.with_label_values(&["0"]).get(), 0);
    let broken: u64 =
        all.iter().flat_map(|(_, peer)| peer.seen()).map(|seen| seen.broken + seen.backwards).sum();
    assert_eq!(broken, 0);
}

#[tokio::test]
async fn threads_of_media_run_sooner_where_that_is_allowed() {
    use rustix::process::{Pid, getpriority_process, setpriority_process};

    let _stage = Stage::new(1);
    let niceness_of_one_who_asks = std::thread::spawn(|| {
        let thread = Some(rustix::thread::gettid());
        let _: rustix::io::Result<()> = setpriority_process(thread, NICENESS);
        getpriority_process(thread).unwrap()
    });
    let expected = niceness_of_one_who_asks.join().unwrap();
    let nicenesses = || -> Vec<i32> {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        // A thread that has ended meanwhile has no name.
        let name = |task: &std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
        let media = tasks.filter(|task| name(task).is_some_and(|name| name.starts_with("nova-media-")));
        let ids = media.filter_map(|task| Pid::from_raw(task.file_name().to_str()?.parse().ok()?));
        ids.filter_map(|id| getpriority_process(Some(id)).ok()).collect()
    };
    until(|| {
        let nicenesses = nicenesses();
        !nicenesses.is_empty() && nicenesses.iter().all(|niceness| *niceness == expected)
    })
    .await;
}
