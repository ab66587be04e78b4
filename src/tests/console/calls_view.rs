//! Who wants fewer pictures a second is sent fewer, by a browser whose encoder makes temporal layers.

use serde_json::{Value, json};

use super::Visit;
use super::calls::{PATIENCE, begins, comes, sees_and_hears, waits_for};
use crate::app::TestApp;
use crate::browser::Browser;
use crate::services::eventually;

/// What the page says of what it shows goes out with `window.fps` in it, and can be said again.
const WISHES: &str = "{
    const send = WebSocket.prototype.send;
    WebSocket.prototype.send = function (said) {
        const request = typeof said === 'string' ? JSON.parse(said) : {};
        if (request.type !== 'room.view') return send.call(this, said);
        window.say_again = (fps) => {
            window.fps = fps;
            this.send(JSON.stringify({ ...request, ref: 4000000000 }));
        };
        for (const one of request.want) if (window.fps) one.fps = window.fps;
        return send.call(this, JSON.stringify(request));
    };
}";

/// Pictures a second of what a page sends or is sent, the most of its streams; and keyframes that came.
async fn pictures(browser: &Browser, direction: &str) -> (f64, u64) {
    let seen: Value = browser
        .run(&format!(
            "return window.connections.at(-1).getStats().then((stats) => {{
                const all = [...stats.values()].filter((one) => one.type === '{direction}' && one.kind === 'video');
                const sum = (key) => all.reduce((sum, one) => sum + (one[key] ?? 0), 0);
                return {{ fps: Math.max(0, ...all.map((one) => one.framesPerSecond ?? 0)), keyframes: sum('keyFramesDecoded') }};
            }});"
        ))
        .await;
    (seen["fps"].as_f64().unwrap_or_default(), seen["keyframes"].as_u64().unwrap_or_default())
}

#[actix_rt::test]
async fn who_wants_fewer_pictures_is_sent_fewer_and_more_again() {
    let visit = Visit { browser: Browser::start_with_devices().await, app: TestApp::start().await };
    let room = begins(&visit).await;
    let ann = &visit.browser;
    let (bob, _) = comes(&visit.app, "bob").await;
    bob.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": WISHES })).await;
    bob.open(&visit.app.at(&room)).await;
    bob.press("Join now").await;
    waits_for("Bob is in", &bob, ".group-call[data-state=in]", true).await;
    sees_and_hears("Bob", &bob).await;
    // Whatever the machine lets Ann's camera make: of it he is sent so much.
    let share = async || {
        let ((made, _), (seen, keyframes)) =
            (pictures(ann, "outbound-rtp").await, pictures(&bob, "inbound-rtp").await);
        (seen / made.max(1.0), keyframes)
    };
    let all = async || Some(share().await).filter(|(share, _)| *share > 0.8);
    eventually("he is sent all", PATIENCE, all).await;
    bob.run("window.say_again(1)").await;
    let few = async || Some(share().await).filter(|(share, _)| (0.1..0.4).contains(share));
    let (some, keyframes) = eventually("he is sent few", PATIENCE, few).await;
    bob.run("window.say_again(60)").await;
    let (all, keyframes_then) = eventually("he is sent all again", PATIENCE, all).await;
    println!("{some:.2} of the pictures, then {all:.2}, keyframes {keyframes} and {keyframes_then}");
    bob.is_clean(&[]).await;
}
