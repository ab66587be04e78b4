//! Screens that are shared in a call, between browsers of two kinds.

use serde_json::Value;

use super::calls::{PATIENCE, comes_in_firefox, hosts, sees_and_hears, waits_for, with_turn};
use crate::services::{eventually, polled};

/// Of the screen somebody else shares, once it is shown: pictures that were decoded, their width in pixels, and how many colours are on a grid
/// over what is shown.
const SEEN: &str = "
    const video = document.querySelector('.tile.screen video');
    const [track] = video?.srcObject?.getVideoTracks() ?? [];
    const receiver = window.connections.at(-1).getReceivers().find((one) => one.track === track);
    if (!track || !receiver || video.videoWidth === 0) return null;
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [64, 36];
    const context = canvas.getContext('2d');
    context.drawImage(video, 0, 0, canvas.width, canvas.height);
    const colours = new Set(new Uint32Array(context.getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size;
    return receiver.getStats().then((stats) => {
        const [stream] = [...stats.values()].filter((one) => one.type === 'inbound-rtp');
        return { decoded: stream?.framesDecoded ?? 0, width: video.videoWidth, colours };
    });";

/// Waits until another's screen is seen as it moves, and is no plain surface.
async fn sees_a_screen(who: &str, run: impl AsyncFn() -> Value) -> Value {
    let mut first = None;
    let mut newest = Value::Null;
    let seen = polled(PATIENCE, async || {
        newest = run().await;
        let decoded = newest["decoded"].as_u64()?;
        let before = *first.get_or_insert(decoded);
        (decoded > before + 20 && newest["colours"].as_u64() > Some(8)).then(|| newest.clone())
    })
    .await;
    seen.unwrap_or_else(|| panic!("{who} does not see the screen of the other: {newest}"))
}

/// A Firefox without a screen has none to choose from, so in its page alone the choice is replaced: what is shared is its own tab, captured by
/// Firefox's capturer of tabs. Everything after that (the track, its encoder, the offer, the tile) is what it is for a screen.
const SHARES_ITS_TAB: &str = "
    const devices = navigator.mediaDevices;
    devices.getDisplayMedia = () => devices.getUserMedia({ video: { mediaSource: 'browser' } });";

#[actix_rt::test]
async fn a_screen_shared_from_firefox_is_seen_in_chromium_and_one_from_chromium_in_firefox() {
    let (_turn, app) = with_turn().await;
    let (visit, room) = hosts(app).await;
    let ann = &visit.browser;
    let bob = comes_in_firefox(&visit.app, "bob").await;
    bob.enters(&visit.app.at(&format!("{room}?relay"))).await;
    sees_and_hears("Ann", ann).await;
    sees_and_hears("Bob", &bob).await;

    bob.run(SHARES_ITS_TAB).await;
    bob.press("Share screen").await;
    bob.sees(".controls", "Stop sharing").await;
    ann.sees(".tile.screen figcaption", "bob shares a screen").await;
    let of_bob = sees_a_screen("Ann", async || ann.run(SEEN).await).await;
    // Faces go on beside it.
    sees_and_hears("Ann", ann).await;
    bob.press("Stop sharing").await;
    waits_for("Bob's screen is gone", ann, ".tile.screen", false).await;

    ann.press("Share screen").await;
    ann.sees(".controls", "Stop sharing").await;
    bob.sees(".tile.screen figcaption", "ann shares a screen").await;
    let of_ann = sees_a_screen("Bob", async || bob.run(SEEN).await).await;
    sees_and_hears("Bob", &bob).await;
    ann.press("Stop sharing").await;
    eventually("Ann's screen is gone", PATIENCE, async || {
        let shown = bob.run("return document.querySelector('.tile.screen') !== null").await;
        (shown == false).then_some(())
    })
    .await;
    println!("Ann in Chromium of Bob's screen {of_bob}, Bob in Firefox of Ann's {of_ann}");
    ann.is_clean(&[]).await;
}
