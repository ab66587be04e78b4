//! What strangers send to the RTMP port of a running node, while somebody broadcasts.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::app::{TestApp, eventually};
use crate::broadcaster::Stream;
use crate::program::Program;

/// A chunk with a whole header.
fn chunk(chunk_stream: u8, kind: u8, length: u32, body: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = length.to_be_bytes();
    [&[chunk_stream, 0, 0, 0, a, b, c, kind, 0, 0, 0, 0], body].concat()
}

/// Everything a client says before its first chunk.
fn handshake() -> Vec<u8> {
    let mut bytes = vec![0; 1 + 2 * 1_536];
    bytes[0] = 3;
    bytes
}

fn after_handshake(chunks: &[Vec<u8>]) -> Vec<u8> {
    [handshake(), chunks.concat()].concat()
}

/// Sends the bytes and reads until the server has closed.
async fn visit(app: &TestApp, bytes: &[u8]) {
    let mut socket = TcpStream::connect(app.engine.rtmp_addr).await.expect("a connection");
    // The server may close before everything is sent; that is what some of these are about.
    let _ = socket.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ =
        timeout(Duration::from_secs(20), socket.read_to_end(&mut answer)).await.expect("the server closes");
}

#[actix_web::test]
async fn attacks_end_by_themselves_and_disturb_nobody() {
    let app = TestApp::start().await;
    let stream = Stream::of(&app, "ann").await;
    let _encoder = stream.publish(&app);
    let mut playlist = stream.playlist(&app).await;

    let connect = [&b"\x02\x00\x07connect\x00"[..], &1.0_f64.to_be_bytes()].concat();
    let bomb = [&connect[..], &b"\x03\x00\x01a".repeat(20_000)].concat();
    let set_chunk_size = |bytes: u32| chunk(2, 1, 4, &bytes.to_be_bytes());
    let many_streams = (0..=255_u8).flat_map(|n| {
        // Two bytes of chunk stream id: 64 to 319, each of which promises 8 MiB.
        [vec![0, n, 0, 0, 0, 0x7f, 0xff, 0xff, 9, 0, 0, 0, 0], vec![0]].concat()
    });
    let counts = |marker: u8| [&connect[..], &[marker], &u32::MAX.to_be_bytes()].concat();
    let attacks: Vec<(&str, Vec<u8>)> = vec![
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        (
            "nested objects",
            after_handshake(&[set_chunk_size(200_000), chunk(3, 20, bomb.len() as u32, &bomb)]),
        ),
        ("chunk streams", after_handshake(&[set_chunk_size(1), many_streams.collect()])),
        ("a message of 16 MiB", after_handshake(&[chunk(3, 20, 0xff_ffff, &[0; 128])])),
        (
            "an array of 2^32 values",
            after_handshake(&[
                set_chunk_size(4_096),
                chunk(3, 20, connect.len() as u32 + 5, &counts(8)),
                chunk(3, 20, connect.len() as u32 + 5, &counts(10)),
            ]),
        ),
        (
            "chunk sizes, windows and aborts of nothing",
            after_handshake(&[
                set_chunk_size(0),
                chunk(2, 5, 4, &[0; 4]),
                chunk(2, 2, 4, &[0xff; 4]),
                set_chunk_size(0x7fff_ffff),
                chunk(3, 20, 5, &[0xff; 5]),
            ]),
        ),
        ("silence after the handshake", handshake()),
        ("silence", Vec::new()),
        ("half a handshake", handshake()[..700].to_vec()),
    ];
    let visits = attacks.iter().map(|(_, bytes)| visit(&app, bytes));
    futures_util::future::join_all(visits).await;

    eventually("only the broadcaster is left", async || {
        app.metric("nova_rtmp_connections").await.filter(|open| *open == 1.0)
    })
    .await;
    playlist.reload(&app).await;
    let (msn, _) = playlist.hint();
    eventually("the broadcast goes on", async || {
        playlist.reload(&app).await;
        (playlist.hint().0 > msn).then_some(())
    })
    .await;
    let stats = stream.stats(&app).await;
    assert_eq!(stats["publisher"]["frames_dropped"], 0, "{stats}");
    assert_eq!(app.metric("nova_publishers").await, Some(1.0));
}

#[actix_web::test]
async fn one_address_has_so_many_connections_and_no_more() {
    let app = TestApp::start_with(|config| config.live.rtmp_connections_per_ip_max = 2).await;
    let connect = async || TcpStream::connect(app.engine.rtmp_addr).await.expect("a connection");
    let (_one, two) = (connect().await, connect().await);
    eventually("both have a seat", async || {
        app.metric("nova_rtmp_connections").await.filter(|open| *open == 2.0)
    })
    .await;
    let mut three = connect().await;
    let read = timeout(Duration::from_secs(5), three.read(&mut [0; 16])).await.expect("at once");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    assert_eq!(app.metric("nova_rtmp_refused_total{reason=\"address\"}").await, Some(1.0));
    drop(two);
    eventually("the seat is free again", async || {
        let mut socket = connect().await;
        socket.write_all(&handshake()).await.ok()?;
        let mut version = [0];
        socket.read_exact(&mut version).await.ok().filter(|_| version == [3])
    })
    .await;
}

/// CPU time a process has used, in hundredths of a second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    [11, 12].iter().map(|at| fields[*at].parse::<u64>().expect("a number")).sum()
}

/// Half a handshake and then nothing, half a handshake and then the end, a byte now and then, a whole one and then silence: each has kept
/// a core of some server busy, or its connection for ever.
#[actix_web::test]
async fn those_who_dawdle_cost_nothing_and_are_shown_out_in_time() {
    let data = tempfile::tempdir().expect("a directory");
    let engine = Program::serve(data.path(), &[]);
    let rtmp = engine.ready["rtmp"].as_str().expect("an address").to_owned();
    let over = Duration::from_secs(3);
    let used = async || {
        let before = cpu_ticks(engine.pid());
        tokio::time::sleep(over).await;
        cpu_ticks(engine.pid()) - before
    };
    let idle = used().await;

    let began = std::time::Instant::now();
    let mut visits = tokio::task::JoinSet::new();
    for n in 0..60 {
        let rtmp = rtmp.clone();
        visits.spawn(async move {
            let mut socket = TcpStream::connect(&rtmp).await.expect("a connection");
            let _ = match n % 4 {
                0 => socket.write_all(&handshake()[..700]).await,
                1 => {
                    let _ = socket.write_all(&handshake()[..700]).await;
                    socket.shutdown().await
                }
                2 => socket.write_all(&handshake()).await,
                _ => Ok(()),
            };
            let (mut read, mut write) = socket.into_split();
            let trickle = async {
                let mut bytes = handshake().into_iter();
                while n % 4 == 3
                    && let Some(byte) = bytes.next()
                {
                    if write.write_all(&[byte]).await.is_err() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
                std::future::pending::<()>().await
            };
            let mut answer = Vec::new();
            tokio::select! {
                _ = read.read_to_end(&mut answer) => {}
                () = trickle => {}
            }
            (n % 4, began.elapsed())
        });
    }
    let during = used().await;
    println!("{idle} hundredths of a second of CPU without them, {during} with sixty, in three seconds");
    assert!(during <= idle + 60, "{during} against {idle}");
    let closed = timeout(Duration::from_secs(30), visits.join_all()).await.expect("all are shown out");
    for (kind, after) in closed {
        // Five seconds for the handshake, ten until publishing; who ends it is not waited for.
        let (least_s, most_s) = [(4, 15), (0, 8), (9, 25), (4, 15)][kind];
        assert!((least_s..most_s).contains(&after.as_secs()), "{kind}: {after:?}");
    }
}
