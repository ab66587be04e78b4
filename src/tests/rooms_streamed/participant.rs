//! Somebody in a room without a browser, who shows and says what real encoders made.

use std::cell::Cell;
use std::process::Stdio;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nova::bench::calls::peer::{Peer, Shape, Tally, offer};
use nova_media::codec::{Configuration, ogg};
use nova_media::fmp4::Reader;
use nova_media::fmp4::reader::Event;
use nova_media::peer::Identity;
use nova_media::rtp::h264;
use nova_media::rtp::packet::Header;
use serde_json::{Value, json};
use tokio::process::Command;

use super::PATIENCE;
use crate::app::TestApp;
use crate::chat_people::Person;
use crate::chat_socket::Device;
use crate::services::eventually;

const PICTURE_EVERY: Duration = Duration::from_millis(40);
const WORD_EVERY: Duration = Duration::from_millis(20);
/// Numbers of codecs and extensions as the offers of native peers have them.
const VIDEO: u8 = 96;
const OPUS: u8 = 111;
const MID: u8 = 4;
const LEVEL: u8 = 14;

/// What somebody shows: payloads of each picture of two seconds, a keyframe every half.
pub(super) struct Clip(Vec<Vec<Vec<u8>>>);

/// Two seconds of a voice, in packets of 20 ms.
struct Words(Vec<Vec<u8>>);

async fn made(arguments: &str) -> Vec<u8> {
    let words = arguments.split(' ').filter(|word| !word.is_empty());
    let quiet = ["-v", "error", "-nostdin"];
    let run = Command::new("ffmpeg").args(quiet).args(words).stdin(Stdio::null()).output();
    let output = run.await.expect("ffmpeg is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

impl Clip {
    /// VP8 of one colour, as a browser's camera would send it.
    pub(super) async fn vp8(colour: &str, size: &str) -> Clip {
        let ivf = made(&format!(
            "-f lavfi -i color={colour}:size={size}:rate=25:duration=2 -c:v libvpx -deadline realtime -b:v 300k -g 12 \
             -keyint_min 12 -auto-alt-ref 0 -f ivf pipe:1"
        ))
        .await;
        let (mut rest, mut pictures) = (&ivf[32..], Vec::new());
        while let Some((len, _)) = rest.split_first_chunk::<4>() {
            let end = 12 + u32::from_le_bytes(*len) as usize;
            let pieces = rest[12..end].chunks(1_100).enumerate();
            // RFC 7741: the descriptor says where the picture begins.
            pictures.push(
                pieces.map(|(at, piece)| [&[if at == 0 { 0x10 } else { 0 }], piece].concat()).collect(),
            );
            rest = &rest[end..];
        }
        Clip(pictures)
    }

    /// H.264 of one colour.
    pub(super) async fn h264(colour: &str, size: &str) -> Clip {
        let mp4 = made(&format!(
            "-f lavfi -i color={colour}:size={size}:rate=25:duration=2 -c:v libx264 -profile:v baseline -tune zerolatency -g 12 \
             -pix_fmt yuv420p -f mp4 -movflags empty_moov+default_base_moof+frag_every_frame pipe:1"
        ))
        .await;
        let mut described = None;
        let mut pictures = Vec::new();
        for event in Reader::new().push(&mp4).expect("it is read") {
            match event {
                Event::Track { configuration, .. } => described = Some(configuration),
                Event::Sample { frame, .. } => {
                    let Some(Configuration::H264(found)) = described.as_deref() else { panic!("no H.264") };
                    let payloads = h264::payloads(&frame.payload, frame.keyframe, found);
                    pictures.push(payloads.iter().map(|payload| payload.to_vec()).collect());
                }
            }
        }
        Clip(pictures)
    }
}

impl Words {
    async fn of_pitch(hertz: u32) -> Words {
        let file = made(&format!(
            "-f lavfi -i sine=frequency={hertz}:sample_rate=48000:duration=2 -c:a libopus -b:a 48k -f ogg pipe:1"
        ))
        .await;
        let mut packets = ogg::Packets::default();
        packets.push(&file);
        let all = std::iter::from_fn(|| packets.take().expect("it is Ogg"));
        Words(all.skip(2).map(|packet| packet.to_vec()).collect())
    }
}

/// Somebody in a room, without a browser.
pub(super) struct Participant {
    pub(super) device: Device,
    pub(super) speaks: Rc<Cell<bool>>,
    pub(super) joined: Value,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Participant {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Participant {
    /// Joins, connects, and shows its clip; says nothing yet.
    pub(super) async fn joins(
        app: &TestApp,
        person: &Person<'_>,
        room: &str,
        clip: Clip,
        is_h264: bool,
        ssrc: u32,
    ) -> Self {
        let mut device = Device::returns(app, &person.session.token()).await.0;
        let identity = Arc::new(Identity::generate().expect("a certificate"));
        let shape = Shape { ears: 0, eyes: 0, has_voice: true, layers: 1 };
        let mut offered = offer(shape, &identity.fingerprint());
        if is_h264 {
            offered = offered.replace(
                "a=rtpmap:96 VP8/90000\r\n",
                "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;profile-level-id=42e01f\r\n",
            );
        }
        let joined = device.asks(json!({ "type": "room.join", "room": room, "offer": offered })).await;
        assert_eq!(joined["type"], "room.joined", "{joined}");
        let answer = joined["answer"].as_str().expect("an answer");
        let tally = Rc::new(Tally::default());
        let peer = Rc::new(Peer::new(&identity, answer, &tally, Instant::now(), 0).expect("a peer"));
        tokio::task::spawn_local(Rc::clone(&peer).listen());
        eventually("the peer connects", PATIENCE, async || {
            peer.tick(Instant::now());
            peer.is_connected().then_some(())
        })
        .await;
        let tracks = json!([{ "mid": "0", "source": "microphone" }, { "mid": "1", "source": "camera" }]);
        let published = device.asks(json!({ "type": "room.publish", "tracks": tracks })).await;
        assert_eq!(published["type"], "room.published", "{published}");
        let speaks = Rc::new(Cell::new(false));
        let words = Words::of_pitch(300 + 10 * ssrc).await;
        let task = tokio::task::spawn_local(performs(peer, clip, words, Rc::clone(&speaks), ssrc));
        Participant { device, speaks, joined, task }
    }

    pub(super) async fn does(&mut self, what: &str, mut fields: Value) -> Value {
        fields["type"] = format!("room.{what}").into();
        self.device.asks(fields).await
    }

    /// Waits until it is told how the room is shown.
    pub(super) async fn sees_streaming(&mut self) -> Value {
        loop {
            let told = self.device.hears("room.event").await;
            if told["event"] == "streaming" {
                return told;
            }
        }
    }
}

/// Sends at the pace of life.
async fn performs(peer: Rc<Peer>, clip: Clip, words: Words, speaks: Rc<Cell<bool>>, ssrc: u32) {
    let began = Instant::now();
    let (mut shown, mut said, mut number, mut spoken) = (0_u32, 0_u32, 0_u16, 0_u16);
    loop {
        let now = Instant::now();
        peer.tick(now);
        let send = |header: Header<'_>, payload: &[u8]| {
            let mut packet = Vec::with_capacity(1_300);
            header.write(&mut packet);
            packet.extend_from_slice(payload);
            if let Some(sealed) = peer.seal(&packet) {
                peer.throw(&sealed);
            }
        };
        while began + PICTURE_EVERY * shown <= now {
            let payloads = &clip.0[shown as usize % clip.0.len()];
            for (at, payload) in payloads.iter().enumerate() {
                let extensions: &[(u8, &[u8])] = &[(MID, b"1")];
                let (marker, timestamp) = (at + 1 == payloads.len(), shown.wrapping_mul(3_600));
                let sequence = number;
                send(Header { marker, payload_type: VIDEO, sequence, timestamp, ssrc, extensions }, payload);
                number = number.wrapping_add(1);
            }
            shown += 1;
        }
        while began + WORD_EVERY * said <= now {
            // Who does not speak sends nothing, as encoders do in silence.
            if speaks.get() {
                let extensions: &[(u8, &[u8])] = &[(MID, b"0"), (LEVEL, &[10])];
                let (sequence, timestamp, ssrc) = (spoken, said.wrapping_mul(960), ssrc + 1);
                let header =
                    Header { marker: false, payload_type: OPUS, sequence, timestamp, ssrc, extensions };
                send(header, &words.0[said as usize % words.0.len()]);
                spoken = spoken.wrapping_add(1);
            }
            said += 1;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
