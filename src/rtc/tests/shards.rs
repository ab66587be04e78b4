//! Several shards on one port: what the kernel gives to the wrong one finds its way, and nothing else does.

use std::cell::{Cell, RefCell};

use nova_media::peer::Credentials;
use nova_media::peer::client::Client;

use super::*;

type Person = (MemberId, Rc<Peer>);

/// As long as two shards take to add to the metrics what they have counted.
const COUNTED_AFTER: Duration = Duration::from_millis(2_200);

impl Stage {
    fn handed(&self, result: &str) -> u64 {
        self.metrics.rtc_handed_over.with_label_values(&[result]).get()
    }

    fn steered(&self) -> usize {
        usize::try_from(self.metrics.rtc_steered_addresses.get()).unwrap()
    }

    fn claimed(&self) -> usize {
        usize::try_from(self.metrics.rtc_claimed_addresses.get()).unwrap()
    }

    /// Somebody comes who shows their face as this track.
    pub(super) async fn shows(&self, room: RoomKey, track: TrackKey, over: SocketAddr) -> Person {
        let (member, peer) = self.joins_over(room, SHOWS, over).await;
        self.media.publish(member, track, "1".to_owned(), Source::Camera, false).await.unwrap();
        peer.show(camera(100 * track as u32));
        (member, peer)
    }

    pub(super) async fn everybody_sees_more(&mut self, all: &[Person], more: u64) {
        let before: Vec<u64> = all.iter().map(|(_, peer)| frames(peer)).collect();
        until(|| {
            self.tell(all);
            all.iter().zip(&before).all(|((_, peer), before)| frames(peer) >= before + more)
        })
        .await;
    }

    async fn pass(&mut self, all: &[Person], long: Duration) {
        let since = Instant::now();
        until(|| {
            self.tell(all);
            since.elapsed() > long
        })
        .await;
    }
}

fn frames(peer: &Peer) -> u64 {
    peer.seen().iter().map(|seen| seen.frames).sum()
}

#[tokio::test]
async fn media_finds_its_shard_whichever_socket_it_comes_to() {
    LocalSet::new().run_until(two_rooms(Stage::unsteered(2), false)).await;
}

#[tokio::test]
async fn what_came_to_another_shards_socket_soon_comes_to_the_right_one() {
    LocalSet::new().run_until(two_rooms(Stage::new(2), true)).await;
}

async fn two_rooms(mut stage: Stage, is_steered: bool) {
    let mut all = Vec::new();
    for track in 1..=4 {
        all.push(stage.shows(RoomKey::from(track % 2), track, stage.address).await);
    }
    let shards: Vec<u8> = all.iter().map(|(member, _)| member.shard()).collect();
    assert_eq!(shards, [0, 1, 0, 1], "a room is on one shard, two on two");
    // Until the datagrams of some come to their own shard's socket and those of others do not: chances are even.
    loop {
        stage.everybody_sees_more(&all, 20).await;
        stage.pass(&all, COUNTED_AFTER).await;
        let astray = if is_steered { stage.steered() } else { stage.claimed() };
        if (1..all.len()).contains(&astray) {
            break;
        }
        assert!(all.len() < 40, "{astray} of forty come to another socket");
        all.push(stage.joins(RoomKey::from(all.len() as u64 % 2), LOOKS).await);
    }
    if is_steered {
        // All have come, and what was on its way when the last was steered has long arrived.
        let before = stage.handed("taken");
        stage.everybody_sees_more(&all, 60).await;
        stage.pass(&all, COUNTED_AFTER).await;
        assert_eq!(stage.handed("taken"), before, "nothing is handed over any more");
    } else {
        // Who only looks says little.
        until(|| {
            stage.tell(&all);
            stage.handed("taken") > 100
        })
        .await;
        assert_eq!(stage.steered(), 0);
    }
    assert_eq!((stage.handed("lost"), stage.metrics.rtc_unknown.get()), (0, 0));
    let broken: u64 =
        all.iter().flat_map(|(_, peer)| peer.seen()).map(|seen| seen.broken + seen.backwards).sum();
    assert_eq!(broken, 0);
    // Who leaves leaves nothing behind, on whichever shard.
    for (member, _) in &all {
        stage.media.leave(*member).await;
    }
    until(|| stage.metrics.rtc_participants.get() == 0 && stage.claimed() + stage.steered() == 0).await;
    let (member, _) = stage.joins(7, LOOKS).await;
    assert_eq!(member.shard(), 0, "both are empty");
}

/// A path to the shards whose far end changes, as when a phone goes from one network to another.
struct Path {
    near: tokio::net::UdpSocket,
    ends: RefCell<Vec<Rc<tokio::net::UdpSocket>>>,
    peer: Cell<Option<SocketAddr>>,
    to: SocketAddr,
}

impl Path {
    async fn new(to: SocketAddr) -> Rc<Path> {
        let near = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let path = Rc::new(Path { near, ends: RefCell::default(), peer: Cell::default(), to });
        path.moves().await;
        let carries = path.clone();
        tokio::task::spawn_local(async move {
            let mut datagram = [0; 2_048];
            while let Ok((len, from)) = carries.near.recv_from(&mut datagram).await {
                carries.peer.set(Some(from));
                let end = carries.ends.borrow().last().cloned().unwrap();
                let _ = end.try_send_to(&datagram[..len], carries.to);
            }
        });
        path
    }

    /// From now on what is sent leaves from another address; what comes to the old ones still arrives.
    async fn moves(self: &Rc<Path>) {
        let end = Rc::new(tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        self.ends.borrow_mut().push(end.clone());
        let carries = self.clone();
        tokio::task::spawn_local(async move {
            let mut datagram = [0; 2_048];
            while let Ok((len, _)) = end.recv_from(&mut datagram).await {
                if let Some(peer) = carries.peer.get() {
                    let _ = carries.near.try_send_to(&datagram[..len], peer);
                }
            }
        });
    }
}

#[tokio::test]
async fn who_goes_to_another_network_and_so_to_another_socket_stays_in_the_room() {
    LocalSet::new().run_until(moves(Stage::unsteered(2), 100)).await;
}

#[tokio::test]
async fn who_goes_to_another_network_is_steered_from_there_too() {
    LocalSet::new().run_until(moves(Stage::new(2), 0)).await;
}

/// More datagrams than so many are handed over.
async fn moves(mut stage: Stage, handed: u64) {
    /// Addresses of one participant that are believed at a time.
    const ADDRESSES_MAX: usize = 8;
    let path = Path::new(stage.address).await;
    let near = path.near.local_addr().unwrap();
    let all = vec![stage.shows(1, 1, stage.address).await, stage.shows(1, 2, near).await];
    let (member, peer) = all[1].clone();
    stage.everybody_sees_more(&all, 10).await;
    // Until it was seen at its own shard's socket and at the other's, and more addresses were used than are remembered.
    let mut moved = 0;
    let claimed = loop {
        moved += 1;
        path.moves().await;
        let offer = stage.offer(SHOWS).replace("ice-ufrag:peer", &format!("ice-ufrag:peer{moved}"));
        let answer = stage.media.offer(member, Offer::read(&offer).unwrap()).await.unwrap();
        peer.restart(&answer).unwrap();
        stage.everybody_sees_more(&all, 10).await;
        stage.pass(&all, COUNTED_AFTER).await;
        let believed = 1 + ADDRESSES_MAX.min(moved + 1);
        assert!(stage.claimed() <= believed);
        if moved > ADDRESSES_MAX && (1..believed).contains(&stage.claimed()) {
            break stage.claimed();
        }
        assert!(moved < 40, "{} of {believed} addresses are another socket's", stage.claimed());
    };
    assert!(claimed > 0 && stage.handed("taken") > handed);
    assert_eq!(stage.handed("lost"), 0);
    assert!(all.iter().all(|(_, peer)| peer.sees_now() && peer.is_connected()));
    for (member, _) in &all {
        stage.media.leave(*member).await;
    }
    until(|| stage.claimed() + stage.steered() == 0).await;
}

/// An address at the shards that one participant has, and then another.
struct Inherited {
    far: tokio::net::UdpSocket,
    nears: [tokio::net::UdpSocket; 2],
    peers: [Cell<Option<SocketAddr>>; 2],
    /// Whose it is.
    heir: Cell<usize>,
    /// Nothing more is vouched for.
    is_quiet: Cell<bool>,
    to: SocketAddr,
}

impl Inherited {
    async fn new(to: SocketAddr) -> Rc<Inherited> {
        let bind = async || tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (far, nears) = (bind().await, [bind().await, bind().await]);
        let (heir, is_quiet) = (Cell::new(0), Cell::new(false));
        let inherited = Rc::new(Inherited { far, nears, peers: Default::default(), heir, is_quiet, to });
        for nth in 0..2 {
            let inherited = inherited.clone();
            tokio::task::spawn_local(async move {
                let mut datagram = [0; 2_048];
                while let Ok((len, from)) = inherited.nears[nth].recv_from(&mut datagram).await {
                    inherited.peers[nth].set(Some(from));
                    let is_held = inherited.is_quiet.get() && nova_media::stun::is_stun(&datagram[..len]);
                    if inherited.heir.get() == nth && !is_held {
                        let _ = inherited.far.try_send_to(&datagram[..len], inherited.to);
                    }
                }
            });
        }
        let carries = inherited.clone();
        tokio::task::spawn_local(async move {
            let mut datagram = [0; 2_048];
            while let Ok((len, _)) = carries.far.recv_from(&mut datagram).await {
                let heir = carries.heir.get();
                if let Some(peer) = carries.peers[heir].get() {
                    let _ = carries.nears[heir].try_send_to(&datagram[..len], peer);
                }
            }
        });
        inherited
    }

    fn near(&self, nth: usize) -> SocketAddr {
        self.nears[nth].local_addr().unwrap()
    }
}

#[tokio::test]
async fn who_has_the_address_of_another_shards_participant_is_heard_although_it_is_steered_to_them() {
    LocalSet::new().run_until(inherits()).await;
}

async fn inherits() {
    let mut socket = None;
    let mut stage = Stage::with(2, |config, sockets, metrics| {
        socket = Some(sockets[0].try_clone().unwrap());
        Media::start_steered(config, sockets, None, metrics, &Steering::none())
    });
    // Somebody of the first shard whose datagrams come to the second's socket: chances are even.
    let address = loop {
        let address = Inherited::new(stage.address).await;
        let (member, _) = stage.joins_over(1, SHOWS, address.near(0)).await;
        stage.pass(&[], COUNTED_AFTER).await;
        assert_eq!(member.shard(), 0);
        if stage.claimed() == 1 {
            break address;
        }
        stage.media.leave(member).await;
    };
    // They are gone, which nobody knows yet, and somebody of the second shard has their address.
    address.heir.set(1);
    let all = vec![stage.shows(2, 1, stage.address).await, stage.shows(2, 2, address.near(1)).await];
    assert!(all.iter().all(|(member, _)| member.shard() == 1));
    stage.everybody_sees_more(&all, 20).await;
    // What the first shard wished for before is carried out only now, and nothing is vouched for after that.
    address.is_quiet.set(true);
    let steering = Steering::start(&socket.unwrap(), &stage.metrics).unwrap();
    steering.wish(steering::Wish::Mine(address.far.local_addr().unwrap(), 0));
    until(|| stage.steered() == 1).await;
    assert_eq!(stage.metrics.rtc_steering.get(), 1);
    stage.everybody_sees_more(&all, 60).await;
    assert_eq!(stage.handed("lost"), 0);
    drop(steering);
    until(|| stage.metrics.rtc_steering.get() == 0).await;
}

#[tokio::test]
async fn strangers_are_handed_to_nobody_and_believed_nowhere() {
    LocalSet::new().run_until(strangers()).await;
}

async fn strangers() {
    const STRANGERS: u64 = 64;
    let stage = Stage::new(2);
    // Two who never say anything, each on a shard of their own.
    let mut ufrags = Vec::new();
    for room in 1..=2 {
        let offer = Offer::read(&stage.offer(LOOKS)).unwrap();
        let (_, answer) = stage.media.join(room, offer).await.unwrap();
        let ufrag = answer.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).unwrap();
        ufrags.push(ufrag.trim().to_owned());
    }
    let client = Client::new(stage.identity.clone(), stage.identity.fingerprint(), Instant::now()).unwrap();
    let request = |ufrag: &str| {
        let server = Credentials { ufrag: ufrag.to_owned(), password: String::new() };
        client.binding(&server, "whatever a stranger could guess", [7; 12])
    };
    let strangers: Vec<UdpSocket> =
        (0..STRANGERS).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    // Each is answered by being counted before the next begins, so that nothing is lost in a full socket.
    let all_say = async |datagram: &[u8]| {
        let before = stage.metrics.rtc_unknown.get();
        for stranger in &strangers {
            stranger.send_to(datagram, stage.address).unwrap();
        }
        until(|| stage.metrics.rtc_unknown.get() >= before + STRANGERS).await;
        assert_eq!(stage.metrics.rtc_unknown.get(), before + STRANGERS);
    };
    let sealed = voice(1, 1);
    all_say(&sealed).await;
    all_say(&[20; 300]).await;
    all_say(&[0; 40]).await;
    for ufrag in &ufrags {
        // The shard and the participant are right, the rest is made up.
        let made_up = format!("{}abcdefabcdef12", &ufrag[..18]);
        all_say(&request(&made_up)).await;
        all_say(&request(&made_up.replace('0', "f"))).await;
    }
    assert_eq!((stage.handed("taken"), stage.handed("lost")), (0, 0));
    // Who was told a ufrag is handed over, and is not believed without the password.
    for ufrag in &ufrags {
        all_say(&request(ufrag)).await;
    }
    let since = Instant::now();
    until(|| since.elapsed() > COUNTED_AFTER).await;
    let handed = stage.handed("taken");
    assert!(
        handed > 0 && handed < STRANGERS * 2,
        "some came to the right one at once, others did not: {handed}"
    );
    all_say(&sealed).await;
    all_say(&[20; 300]).await;
    assert_eq!((stage.handed("taken"), stage.claimed()), (handed, 0));
    for stranger in &strangers {
        stranger.set_nonblocking(true).unwrap();
        assert!(stranger.recv(&mut [0; 64]).is_err(), "and nobody is answered");
    }
}
