//! A call whose pictures and sound are encrypted end to end by the page, as applications do it: the engine passes on what it cannot read.

use serde_json::{Value, json};

use super::Visit;
use super::calls::{PATIENCE, begins, comes, sees_and_hears, waits_for};
use crate::app::TestApp;
use crate::browser::Browser;
use crate::services::eventually;

/// Has a page encrypt every frame with `KEY`, all of it but the first `CLEAR` bytes of keyframes, others and sound, with a checksum behind it.
/// Frames that cannot be opened are dropped, as with a real cipher. Counts both. `KEY[0]` is odd: of whole frames of VP8 the encrypted bytes
/// say the contrary of whether they are keyframes. What that takes of an application is in the README: the descriptor is asked for, and no RED.
const ENCRYPTS: &str = "
    const works = `
        const counts = { opened: { audio: 0, video: 0 }, broken: { audio: 0, video: 0 } };
        onrtctransform = ({ transformer }) => {
            const { opens, kind, key, clear } = transformer.options;
            const sum = (bytes) => bytes.reduce((sum, byte) => Math.imul(sum ^ byte, 16777619) >>> 0, 2166136261);
            const mix = (bytes, from) => { for (let at = from; at < bytes.length; at++) bytes[at] ^= key[at % key.length]; };
            const from = (frame) => clear[kind === 'audio' ? 2 : frame.type === 'key' ? 0 : 1];
            const transform = (frame, out) => {
                const bytes = new Uint8Array(frame.data);
                if (!opens) {
                    const sealed = new Uint8Array(bytes.length + 4);
                    sealed.set(bytes);
                    new DataView(sealed.buffer).setUint32(bytes.length, sum(bytes));
                    mix(sealed, from(frame));
                    frame.data = sealed.buffer;
                    return out.enqueue(frame);
                }
                mix(bytes, from(frame));
                const plain = bytes.slice(0, Math.max(0, bytes.length - 4));
                const is_whole = bytes.length > 4 && new DataView(bytes.buffer).getUint32(plain.length) === sum(plain);
                counts[is_whole ? 'opened' : 'broken'][kind]++;
                postMessage(counts);
                if (!is_whole) return;
                frame.data = plain.buffer;
                out.enqueue(frame);
            };
            transformer.readable.pipeThrough(new TransformStream({ transform })).pipeTo(transformer.writable);
        };`;
    const descriptor = 'https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension';
    // Pages of the console make no worker of a mere string.
    const allowed = trustedTypes.createPolicy('encrypts', { createScriptURL: (url) => url });
    let worker;
    const add = RTCPeerConnection.prototype.addTransceiver;
    RTCPeerConnection.prototype.addTransceiver = function (...wanted) {
        if (!worker) {
            worker = new Worker(allowed.createScriptURL(URL.createObjectURL(new Blob([works]))));
            worker.onmessage = ({ data }) => { window.secrets = data; };
        }
        const made = add.apply(this, wanted);
        const kind = made.receiver.track.kind;
        const opens = wanted[1].direction === 'recvonly';
        (opens ? made.receiver : made.sender).transform =
            new RTCRtpScriptTransform(worker, { opens, kind, key: KEY, clear: CLEAR });
        const extensions = made.getHeaderExtensionsToNegotiate();
        for (const one of extensions) if (one.uri === descriptor && DESCRIBED) one.direction = 'sendrecv';
        made.setHeaderExtensionsToNegotiate(extensions);
        return made;
    };
    const capabilities = RTCRtpReceiver.getCapabilities.bind(RTCRtpReceiver);
    RTCRtpReceiver.getCapabilities = (kind) => {
        const known = capabilities(kind);
        return { ...known, codecs: known.codecs.filter((codec) => codec.mimeType.toLowerCase() !== 'audio/red') };
    };";

/// How an application encrypts.
struct Manner {
    /// Bytes that stay in clear: of keyframes, of other pictures, of sound.
    clear: [u8; 3],
    /// Pictures have a dependency descriptor in their headers.
    described: bool,
}

impl Manner {
    async fn is_of(&self, browser: &Browser, key: &[u8]) {
        let source = ENCRYPTS
            .replace("KEY", &json!(key).to_string())
            .replace("CLEAR", &json!(self.clear).to_string())
            .replace("DESCRIBED", &self.described.to_string());
        browser
            .devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": format!("{{ {source} }}") }))
            .await;
    }
}

/// Frames a page has opened, and those it could not.
async fn counts(browser: &Browser) -> [u64; 4] {
    let counts: Value = browser.run("return window.secrets ?? null").await;
    let count = |what: &str, kind: &str| counts[what][kind].as_u64().unwrap_or_default();
    [count("opened", "video"), count("opened", "audio"), count("broken", "video"), count("broken", "audio")]
}

const KEY: [u8; 7] = [0x5B, 0x11, 0xA4, 0x3F, 0x92, 0x6D, 0xC8];

async fn whoever_has_the_key_sees_and_hears(manner: Manner) {
    let visit = Visit { browser: Browser::start_with_devices().await, app: TestApp::start().await };
    let ann = &visit.browser;
    manner.is_of(ann, &KEY).await;
    let room = begins(&visit).await;
    let (bob, _) = comes(&visit.app, "bob").await;
    manner.is_of(&bob, &KEY).await;
    bob.open(&visit.app.at(&room)).await;
    bob.press("Join now").await;
    waits_for("Bob is in", &bob, ".group-call[data-state=in]", true).await;
    for (who, page) in [("Ann", ann), ("Bob", &bob)] {
        let seen = sees_and_hears(who, page).await;
        let [pictures, sounds, broken @ ..] = counts(page).await;
        println!("{who}: {seen:?}, opened {pictures} pictures and {sounds} sounds");
        assert!(pictures > 30 && sounds > 10, "{who}: {pictures} pictures and {sounds} sounds");
        assert_eq!(broken, [0, 0], "{who}: every byte came as it was sent");
    }

    // Who has another key is sent as much, and opens nothing.
    let (cyril, _) = comes(&visit.app, "cyril").await;
    manner.is_of(&cyril, &[0x21, 0x43]).await;
    cyril.open(&visit.app.at(&room)).await;
    cyril.press("Join now").await;
    waits_for("Cyril is in", &cyril, ".group-call[data-state=in]", true).await;
    let broken = eventually("Cyril is sent much he cannot open", PATIENCE, async || {
        let [_, _, broken @ ..] = counts(&cyril).await;
        (broken[0] > 60 && broken[1] > 60).then_some(broken)
    })
    .await;
    let [pictures, sounds, ..] = counts(&cyril).await;
    assert_eq!([pictures, sounds], [0, 0], "{broken:?} were broken");
    let decoded = "return window.connections.at(-1).getStats().then((stats) => [...stats.values()]
        .filter((one) => one.type === 'inbound-rtp' && one.kind === 'video')
        .reduce((sum, one) => sum + (one.framesDecoded ?? 0), 0));";
    assert_eq!(cyril.run(decoded).await, 0);
    let decoded = ann.run(decoded).await;
    assert!(decoded.as_u64() > Some(30), "Ann has decoded {decoded}");
}

#[actix_rt::test]
async fn frames_that_are_encrypted_behind_their_header_are_seen_and_heard_by_who_has_the_key() {
    whoever_has_the_key_sees_and_hears(Manner { clear: [10, 3, 1], described: false }).await;
}

#[actix_rt::test]
async fn frames_that_are_encrypted_whole_are_seen_and_heard_by_who_has_the_key() {
    whoever_has_the_key_sees_and_hears(Manner { clear: [0, 0, 0], described: true }).await;
}
