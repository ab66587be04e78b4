//! A thousand publishes of streams that begin, end and drop as fast as they can, at the door of the program itself.

use nova_media::rtmp::amf0::{self, Value};
use nova_media::rtmp::kind;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::app::eventually;
use crate::broadcaster::made_at;
use crate::program::Program;

const CYCLES: usize = 1_000;
/// Publishers at once, each with a stream of its own.
const PUBLISHERS: usize = 4;
/// The memory of a program that has done nothing yet says little of what it needs.
const WARM: usize = 200;
/// Three seconds of thirty pictures of this size: a cycle that left its broadcast behind would leave 270 KB, and 800 of them 216 MB.
const PICTURES: u32 = 90;
const PICTURE_BYTES: usize = 3_000;
/// What memory may grow by after the first cycles: a seventh of what all later ones bring.
const GROWTH_BYTES_MAX: u64 = 32 << 20;

/// Made by x264: 1280x720, 30 pictures a second.
const AVCC: &[u8] = &[
    0x01, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05,
    0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60,
    0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8, 0x00,
];

/// A whole message in one chunk.
fn message(chunk_stream: u8, kind: u8, time: u32, body: &[u8]) -> Vec<u8> {
    let length = body.len() as u32;
    let header =
        [&[chunk_stream][..], &time.to_be_bytes()[1..], &length.to_be_bytes()[1..], &[kind]].concat();
    [&header[..], &1_u32.to_le_bytes(), body].concat()
}

fn command(values: &[Value]) -> Vec<u8> {
    message(3, kind::COMMAND, 0, &amf0::encode(values))
}

/// What an encoder says before it may send.
fn asks(key: &str) -> Vec<u8> {
    let handshake = [&[3][..], &[0; 2 * 1_536]].concat();
    let connect = Value::Object(vec![("app".to_owned(), "live".into())]);
    [
        handshake,
        message(2, kind::SET_CHUNK_SIZE, 0, &65_536_u32.to_be_bytes()),
        command(&["connect".into(), 1.0.into(), connect]),
        command(&["createStream".into(), 2.0.into(), Value::Null]),
        command(&["publish".into(), 3.0.into(), Value::Null, key.into(), "live".into()]),
    ]
    .concat()
}

/// Three seconds of pictures, a keyframe in each.
fn shows() -> Vec<u8> {
    let mut bytes = message(6, kind::VIDEO, 0, &[&[0x17, 0, 0, 0, 0], AVCC].concat());
    for n in 0..PICTURES {
        let (first, slice) = if n % 30 == 0 { (0x17, 0x65) } else { (0x27, 0x41) };
        let length = (PICTURE_BYTES as u32).to_be_bytes();
        let mut body = [&[first, 1, 0, 0, 0][..], &length, &[slice, 0x88, 0x80]].concat();
        body.resize(9 + PICTURE_BYTES, n as u8);
        bytes.extend(message(6, kind::VIDEO, n * 1_000 / 30, &body));
    }
    bytes
}

/// One publish: asked for, granted, shown, and ended or dropped.
async fn publishes(rtmp: &str, key: &str, ends: bool) {
    let mut socket = TcpStream::connect(rtmp).await.expect("a connection");
    socket.write_all(&asks(key)).await.expect("it listens");
    let (mut heard, mut bytes) = (Vec::new(), [0; 4_096]);
    let granted = b"NetStream.Publish.Start";
    while !heard.windows(granted.len()).any(|window| window == granted) {
        let count = socket.read(&mut bytes).await.expect("an answer");
        assert!(count > 0, "refused: {}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&bytes[..count]);
    }
    socket.write_all(&shows()).await.expect("it listens");
    if ends {
        let end = command(&["deleteStream".into(), 4.0.into(), Value::Null, 1.0.into()]);
        socket.write_all(&end).await.expect("it listens");
        // Everything was read when the server has closed, or has nothing more to say.
        socket.shutdown().await.expect("a socket");
        while socket.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
    }
}

#[actix_web::test]
async fn a_thousand_publishes_leave_nothing_behind() {
    let data = tempfile::tempdir().expect("a directory");
    let engine = Program::serve(data.path(), &["--thumbnail-s", "0", "--user-requests-per-minute", "0"]);
    let (url, rtmp) = (engine.url("http"), engine.ready["rtmp"].as_str().expect("an address"));
    let (_, first, token) = made_at(&url, json!({ "title": "again and again" })).await;
    let http = reqwest::Client::new();
    let mut keys = vec![first];
    for n in 1..PUBLISHERS {
        let request = http.post(format!("{url}/v1/streams")).bearer_auth(&token);
        let made =
            request.json(&json!({ "title": format!("and again, {n}") })).send().await.expect("answers");
        let made: serde_json::Value = made.json().await.expect("json");
        keys.push(made["stream_key"].as_str().expect("a key").to_owned());
    }

    // Every second one ends; the others drop, and the next one goes on with their broadcast.
    let cycles = async |count: usize| {
        let each = keys.iter().map(async |key| {
            for n in 0..count / PUBLISHERS {
                publishes(rtmp, key, n % 2 == 1).await;
            }
        });
        futures_util::future::join_all(each).await;
    };
    let metrics = format!("http://{}/metrics", engine.ready["metrics"].as_str().expect("an address"));
    let metric = async |name: &str| {
        let text = http.get(&metrics).send().await.expect("metrics").text().await.expect("text");
        let line =
            text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    let all_left = async || {
        eventually("all publishers have left", async || {
            let left =
                metric("nova_rtmp_connections").await? == 0.0 && metric("nova_publishers").await? == 0.0;
            left.then_some(())
        })
        .await;
        engine.weight()
    };
    cycles(WARM).await;
    let (memory, files) = all_left().await;
    cycles(CYCLES - WARM).await;
    let (memory_after, files_after) = all_left().await;
    println!(
        "after {WARM} publishes {} MiB and {files} files, after {CYCLES} {} MiB and {files_after} files",
        memory >> 20,
        memory_after >> 20
    );
    assert!(memory_after <= memory + GROWTH_BYTES_MAX, "{memory} became {memory_after}");
    assert!(files_after <= files + 8, "{files} became {files_after}");
}
