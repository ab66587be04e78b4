//! Participants over TCP, and strangers there.

use bytes::BytesMut;
use nova_media::stun;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

impl Stage {
    /// Shards that let in over TCP, too; and where.
    fn with_tcp(shards: usize) -> (Stage, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let over_tcp = listener.local_addr().unwrap();
        let start = |config: &RtcConfig, sockets, metrics: &Metrics| {
            Media::start(config, sockets, Some(listener), metrics)
        };
        (Stage::with(shards, start), over_tcp)
    }

    fn connected(&self) -> i64 {
        self.metrics.rtc_tcp_connections.get()
    }
}

/// Carries the datagrams of one participant over a connection, as a browser does; until it is aborted. Gives where they are to be sent.
async fn bridge(to: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
    let near = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = near.local_addr().unwrap();
    let (mut reading, mut writing) = TcpStream::connect(to).await.unwrap().into_split();
    let carrying = tokio::task::spawn_local(async move {
        let (mut came, mut out) = (BytesMut::new(), BytesMut::new());
        let (mut datagram, mut whose) = (vec![0; framing::DATAGRAM_BYTES_MAX], None);
        loop {
            tokio::select! {
                sent = near.recv_from(&mut datagram) => {
                    let (len, from) = sent.unwrap();
                    whose = Some(from);
                    framing::put(&datagram[..len], &mut out);
                    writing.write_all(&out).await.unwrap();
                    out.clear();
                }
                read = reading.read_buf(&mut came) => {
                    assert_ne!(read.unwrap(), 0, "the connection of a participant is not closed");
                    while let Some(datagram) = framing::take(&mut came).unwrap() {
                        near.send_to(&datagram, whose.unwrap()).await.unwrap();
                    }
                }
            }
        }
    });
    (address, carrying)
}

/// Waits until the engine has closed a connection; gives what it said before.
async fn is_closed(mut stranger: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    match timeout(PATIENCE, stranger.read_to_end(&mut said)).await.expect("it is closed") {
        Ok(_) => said,
        // What had come and was not read.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => said,
        Err(error) => panic!("{error}"),
    }
}

fn framed(datagram: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    framing::put(datagram, &mut out);
    out
}

#[tokio::test]
async fn who_comes_over_tcp_and_who_comes_over_udp_see_each_other() {
    LocalSet::new()
        .run_until(async {
            let (mut stage, over_tcp) = Stage::with_tcp(2);
            let mut all = Vec::new();
            let mut bridges = Vec::new();
            // Two rooms, one on each shard.
            for (room, track) in [(1, 1), (2, 2)] {
                let (near, carrying) = bridge(over_tcp).await;
                bridges.push(carrying);
                all.push(stage.shows(room, track, near).await);
                all.push(stage.shows(room, track + 2, stage.address).await);
            }
            assert_eq!(stage.connected(), 2);
            stage.everybody_sees_more(&all, 60).await;
            let lost = stage.metrics.rtc_tcp_lost.get();
            assert_eq!(lost, 0, "everybody reads");
            // Who has gone is noticed, and what is for them is not sent to anybody else.
            bridges.iter().for_each(JoinHandle::abort);
            until(|| stage.connected() == 0).await;
            until(|| {
                stage.tell(&all);
                stage.metrics.rtc_tcp_lost.get() > lost
            })
            .await;
        })
        .await;
}

#[tokio::test]
async fn strangers_over_tcp_are_shut_out_and_harm_nobody() {
    LocalSet::new()
        .run_until(async {
            let (mut stage, over_tcp) = Stage::with_tcp(1);
            let (near, _carrying) = bridge(over_tcp).await;
            let all = [stage.shows(1, 1, near).await, stage.shows(1, 2, stage.address).await];
            stage.everybody_sees_more(&all, 10).await;

            // What no client sends ends it at once: no binding request first, a ufrag nobody gave out, a length nobody sends.
            let request = |ufrag: &str| stun::request([7; 12], ufrag, "theirs", b"a password", true);
            let made_up = format!("00{:08x}{:08x}{:08x}", 0, 1, 7);
            for wrong in [framed(&[0x80; 100]), framed(&request(&made_up)), BytesMut::from(&[0xFF, 0xFF][..])]
            {
                let mut stranger = TcpStream::connect(over_tcp).await.unwrap();
                stranger.write_all(&wrong).await.unwrap();
                assert_eq!(is_closed(stranger).await, b"");
            }

            // Who says nothing, and who knows a ufrag but not its password, is not answered and has to go.
            let offer = Offer::read(&stage.offer(LOOKS)).unwrap();
            let (_, answer) = stage.media.join(1, offer).await.unwrap();
            let ufrag = answer.split("a=ice-ufrag:").nth(1).unwrap().split("\r\n").next().unwrap();
            let silent = TcpStream::connect(over_tcp).await.unwrap();
            let mut unsigned = TcpStream::connect(over_tcp).await.unwrap();
            let unknown = stage.metrics.rtc_unknown.get();
            unsigned.write_all(&framed(&request(ufrag))).await.unwrap();
            let began = Instant::now();
            assert_eq!((is_closed(silent).await, is_closed(unsigned).await), (vec![], vec![]));
            assert!(began.elapsed() > Duration::from_secs(4), "they had their time");
            until(|| stage.metrics.rtc_unknown.get() > unknown).await;

            // Who is let in and sends without an end is read no faster than anybody may send.
            let (_, answer) = stage.media.join(2, Offer::read(&stage.offer(LOOKS)).unwrap()).await.unwrap();
            let of_answer =
                |name: &str| answer.split(name).nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
            let (ufrag, password) = (of_answer("a=ice-ufrag:"), of_answer("a=ice-pwd:"));
            let mut flood = TcpStream::connect(over_tcp).await.unwrap();
            let vouched = stun::request([8; 12], &ufrag, "theirs", password.as_bytes(), true);
            flood.write_all(&framed(&vouched)).await.unwrap();
            flood.read_u16().await.unwrap();
            let junk = framed(&[0x80; 1_000]).repeat(1_000);
            let (began, mut sent) = (Instant::now(), 0);
            while began.elapsed() < Duration::from_secs(2) {
                let _: Result<_, _> = timeout(Duration::from_millis(100), async {
                    loop {
                        sent += flood.write(&junk[sent % junk.len()..]).await.unwrap();
                    }
                })
                .await;
            }
            // What the kernel keeps of it on both sides was not read.
            assert!(sent < 32 << 20, "{sent} bytes were taken in two seconds");
            stage.everybody_sees_more(&all, 10).await;
            drop(flood);

            // One house cannot take every place.
            let mut many = Vec::new();
            while stage.connected() < 64 {
                many.push(TcpStream::connect(over_tcp).await.unwrap());
                // As many as are let in have to be there within the time a stranger has.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let one_more = TcpStream::connect(over_tcp).await.unwrap();
            assert_eq!(is_closed(one_more).await, b"");
            assert!(stage.connected() <= 64);
            stage.everybody_sees_more(&all, 30).await;
            drop(many);
            until(|| stage.connected() == 1).await;
            stage.everybody_sees_more(&all, 10).await;
        })
        .await;
}
