//! A call in the console: people in real browsers see and hear each other through the engine.

mod people;
mod seen;
mod turn;

use std::time::Duration;

use serde_json::{Value, json};

use super::Visit;
use crate::app::TestApp;
use crate::browser::Browser;
use crate::services::{self, eventually};

use people::PASSWORD;
pub(super) use people::{begins, comes, comes_in_firefox, hosts};
pub(super) use seen::sees_and_hears;
pub(super) use turn::with_turn;

/// How long browsers and an engine on the same busy cores may take for one step.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn waits_for(what: &str, browser: &Browser, css: &str, there: bool) {
    eventually(what, PATIENCE, async || (browser.has(css).await == there).then_some(())).await;
}

#[actix_rt::test]
async fn two_people_see_and_hear_each_other() {
    let visit = Visit { browser: Browser::start_with_devices().await, app: TestApp::start().await };
    let ann = &visit.browser;
    visit.signs_up("ann").await;
    let account = serde_json::json!({ "username": "bob", "email": "bob@example.org", "password": PASSWORD });
    let made = visit.app.http.post(visit.app.at("/v1/accounts")).json(&account).send().await.unwrap();
    assert!(made.status().is_success(), "{}", made.text().await.unwrap());

    ann.follow("Calls").await;
    ann.fill("title", "Monday's round").await;
    ann.press("Start the call").await;
    ann.press("Join now").await;
    waits_for("Ann is in", ann, ".group-call[data-state=in]", true).await;
    let room = ann.path().await;

    let bob = Browser::start_with_devices().await;
    bob.open(&visit.app.at("/console/login")).await;
    bob.fill("login", "bob").await;
    bob.fill("password", PASSWORD).await;
    bob.press("Log in").await;
    bob.sees("h1", "Hello, bob").await;
    bob.open(&visit.app.at(&room)).await;
    bob.press("Join now").await;
    waits_for("Bob is in", &bob, ".group-call[data-state=in]", true).await;

    let of_ann = sees_and_hears("Bob", &bob).await;
    let of_bob = sees_and_hears("Ann", ann).await;
    ann.picture("call").await;
    bob.narrow().await;
    bob.picture("narrow-call").await;
    println!("Bob of Ann {of_ann:?}, Ann of Bob {of_bob:?}");
    assert!(of_ann.width > 0 && of_bob.width > 0);
    ann.sees(".tile:not(.mine) figcaption", "bob").await;

    // What is withheld does not arrive, and comes back.
    bob.press("Camera off").await;
    waits_for("Ann sees no face", ann, ".tile:not(.mine) video", false).await;
    bob.press("Camera on").await;
    waits_for("Ann sees the face again", ann, ".tile:not(.mine) video", true).await;
    sees_and_hears("Ann", ann).await;

    // Who leaves is gone, and who made the room decides about the rest.
    bob.press("Leave").await;
    bob.sees(".lead", "You have left the call").await;
    waits_for("Ann is alone", ann, ".tile:not(.mine)", false).await;
    bob.press("Join again").await;
    waits_for("Bob is back", &bob, ".group-call[data-state=in]", true).await;
    waits_for("Ann sees him", ann, ".tile:not(.mine)", true).await;
    ann.click("[aria-label='Remove bob']").await;
    bob.sees(".lead", "The host took you out of the call").await;
    ann.is_clean(&[]).await;
    bob.is_clean(&[]).await;

    let packets = visit.app.metric("nova_rtc_packets_total{direction=\"out\"}").await;
    assert!(packets.is_some_and(|packets| packets > 100.0), "{packets:?}");
}

/// The conversation of these people; its id.
async fn talk(visit: &Visit, one: &Value, others: &[&Value]) -> String {
    let members: Vec<_> = others.iter().map(|other| other["user"]["id"].clone()).collect();
    let kind = if others.len() == 1 { "direct" } else { "group" };
    let body = json!({ "kind": kind, "members": members });
    let token = one["access_token"].as_str().unwrap();
    let made = visit.app.http.post(visit.app.at("/v1/conversations")).bearer_auth(token).json(&body);
    let made: Value = made.send().await.unwrap().json().await.unwrap();
    made["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
}

#[actix_rt::test]
async fn a_call_rings_on_whatever_page_and_is_answered_or_declined() {
    let visit = Visit { browser: Browser::start().await, app: TestApp::start().await };
    let (ann, anns) = comes(&visit.app, "ann").await;
    let (bob, bobs) = comes(&visit.app, "bob").await;
    let talk = talk(&visit, &anns, &[&bobs]).await;
    bob.follow("Devices").await;
    ann.open(&visit.app.at(&format!("/console/chat/{talk}"))).await;
    ann.click("[aria-label='Video call']").await;
    bob.sees("dialog h2", "ann is calling").await;
    waits_for("Ann is in", &ann, ".group-call[data-state=in]", true).await;
    bob.picture("ring").await;
    bob.press("Answer").await;
    waits_for("Bob is in", &bob, ".group-call[data-state=in]", true).await;
    sees_and_hears("Bob", &bob).await;
    sees_and_hears("Ann", &ann).await;
    bob.press("Leave").await;
    ann.sees(".lead", "The call is over").await;
    ann.press("To the conversation").await;
    ann.sees(".entries", "The call is over, it lasted").await;

    ann.click("[aria-label='Voice call']").await;
    bob.sees("dialog h2", "ann is calling").await;
    bob.narrow().await;
    bob.picture("narrow-ring").await;
    bob.press("Decline").await;
    ann.sees(".lead", "The call was declined").await;
    ann.press("To the conversation").await;
    ann.sees(".entries", "Your call was declined").await;
    ann.picture("call-log").await;

    // It is declined while Ann's browser still asks her for the microphone: she hears so at once, and nothing listens to her afterwards.
    ann.run(
        "const devices = navigator.mediaDevices;
        const ask = devices.getUserMedia.bind(devices);
        devices.getUserMedia = async (wanted) => {
            await new Promise((allow) => { window.allow = allow; });
            delete devices.getUserMedia;
            window.given = await ask(wanted);
            return window.given;
        };",
    )
    .await;
    ann.click("[aria-label='Voice call']").await;
    bob.press("Decline").await;
    ann.sees(".lead", "The call was declined").await;
    ann.run("window.allow();").await;
    let silent = "return window.given?.getTracks().every((track) => track.readyState === 'ended') ?? false";
    eventually("Ann's microphone is off", PATIENCE, async || (ann.run(silent).await == true).then_some(()))
        .await;
    ann.sees(".lead", "The call was declined").await;
    ann.press("To the conversation").await;
    ann.sees(".entries", "Your call was declined").await;

    // Whoever hangs up before anybody answers leaves a missed call.
    ann.click("[aria-label='Voice call']").await;
    bob.sees("dialog h2", "ann is calling").await;
    ann.press("Leave").await;
    waits_for("it rings no longer", &bob, "dialog", false).await;
    bob.open(&visit.app.at(&format!("/console/chat/{talk}"))).await;
    bob.sees(".entries", "Missed call from ann").await;
    ann.is_clean(&[]).await;
    bob.is_clean(&[]).await;
}

#[actix_rt::test]
async fn four_people_ask_to_come_in_and_see_each_other() {
    let visit = Visit { browser: Browser::start_with_devices().await, app: TestApp::start().await };
    let ann = &visit.browser;
    visit.signs_up("ann").await;
    ann.follow("Calls").await;
    ann.click("#lobby").await;
    ann.press("Start the call").await;
    ann.press("Join now").await;
    waits_for("Ann is in", ann, ".group-call[data-state=in]", true).await;
    let room = ann.path().await;
    let mut others = Vec::new();
    for name in ["bob", "cyril", "deedee"] {
        let (browser, _) = comes(&visit.app, name).await;
        browser.open(&visit.app.at(&room)).await;
        browser.press("Join now").await;
        browser.sees(".lead", "The host is asked to let you in").await;
        ann.sees(".guest", &format!("{name} wants to come in")).await;
        if name == "bob" {
            ann.picture("lobby").await;
        }
        ann.press("Let in").await;
        waits_for(name, &browser, ".group-call[data-state=in]", true).await;
        others.push(browser);
    }
    let seen = "return [...document.querySelectorAll('.tile:not(.mine) video')]
        .filter((face) => face.getVideoPlaybackQuality().totalVideoFrames > 5).length";
    for (browser, name) in [ann].into_iter().chain(&others).zip(["Ann", "Bob", "Cyril", "Deedee"]) {
        eventually(&format!("{name} sees three faces"), PATIENCE * 2, async || {
            (browser.run(seen).await == 3).then_some(())
        })
        .await;
    }
    ann.picture("four").await;
    others[0].narrow().await;
    others[0].picture("narrow-four").await;
    ann.press("Devices").await;
    ann.find("#choose-camera option").await;
    ann.picture("devices").await;
    ann.press("Done").await;
    // A listener shows and says nothing any more, until they may speak again.
    ann.click("[aria-label='Let deedee only listen']").await;
    waits_for("Deedee's camera is off", &others[2], ".tile.mine video", false).await;
    ann.press("Lock room").await;
    ann.sees(".controls", "Unlock room").await;
    ann.sees(".quality", "connection").await;
    ann.narrow().await;
    ann.picture("narrow-four-host").await;
    ann.is_clean(&[]).await;
}

#[actix_rt::test]
async fn what_is_written_and_waved_in_a_call_reaches_everybody_in_it() {
    let (visit, room) = hosts(TestApp::start().await).await;
    let ann = &visit.browser;
    let (bob, _) = comes(&visit.app, "bob").await;
    bob.open(&visit.app.at(&room)).await;
    bob.press("Join now").await;
    waits_for("Bob is in", &bob, ".group-call[data-state=in]", true).await;
    sees_and_hears("Ann", ann).await;

    // Words are promised.
    ann.press("Messages").await;
    bob.press("Messages").await;
    for (who, other, words) in
        [(ann, &bob, "good morning"), (&bob, ann, "and to you, ann"), (ann, &bob, "bye")]
    {
        who.fill("line", words).await;
        who.click("[aria-label='Send to everybody here']").await;
        who.sees(".talk [role=log]", words).await;
        other.sees(".talk [role=log]", words).await;
    }
    assert!(bob.text(".talk [role=log]").await.contains("ann good morning"));
    // What is waved may be lost, but not on this machine.
    bob.press("React").await;
    bob.click("[aria-label='React with 👏']").await;
    ann.sees(".tile:not(.mine) .wave", "👏").await;
    waits_for("it is gone after a while", ann, ".wave", false).await;
    ann.picture("call-messages").await;
    ann.press("React").await;
    assert!(!ann.has(".talk").await, "one thing is shown at a time");
    bob.press("Messages").await;
    bob.narrow().await;
    bob.picture("narrow-call-messages").await;

    // Who only listens reads; who may speak again is read again.
    ann.click("[aria-label='Let bob only listen']").await;
    bob.sees(".talk", "You only listen here").await;
    ann.press("Messages").await;
    ann.fill("line", "listen").await;
    ann.click("[aria-label='Send to everybody here']").await;
    bob.sees(".talk [role=log]", "listen").await;
    ann.click("[aria-label='Let bob speak']").await;
    bob.fill("line", "heard").await;
    bob.click("[aria-label='Send to everybody here']").await;
    ann.sees(".talk [role=log]", "heard").await;

    // A picture the network does not carry is said to be paused; the engine's word for it is put into Ann's ear here.
    waits_for("Bob's face is back", ann, ".tile:not(.mine) video", true).await;
    ann.run(
        "const send = WebSocket.prototype.send;
        WebSocket.prototype.send = function (message) { window.engine = this; return send.call(this, message); };",
    )
    .await;
    ann.press("Raise hand").await;
    ann.sees(".controls", "Lower hand").await;
    let pause = "const [paused] = arguments;
        const track = Number(document.querySelector('.tile:not(.mine)').dataset.track);
        const room = location.pathname.split('/').pop();
        window.engine.onmessage({ data: JSON.stringify({ type: 'room.event', room, event: 'paused', track, paused }) });";
    ann.run(&pause.replace("const [paused] = arguments", "const paused = true")).await;
    ann.sees(".tile:not(.mine) .paused", "your connection is too slow").await;
    assert!(!ann.has(".tile:not(.mine) video").await, "no picture that stands still");
    ann.picture("call-paused").await;
    ann.run(&pause.replace("const [paused] = arguments", "const paused = false")).await;
    waits_for("the picture goes on", ann, ".tile:not(.mine) video", true).await;

    // What is wanted while the connection ends is lost on the way, and told over the next: her label is what the engine says of her hand.
    ann.run(
        "const [hand] = [...document.querySelectorAll('.controls button')].filter((one) => one.innerText.includes('Lower hand'));
        window.lost = window.engine;
        window.lost.send = () => {};
        window.lost.close();
        hand.click();",
    )
    .await;
    ann.sees(".controls", "Raise hand").await;
    assert_eq!(ann.run("return window.engine !== window.lost").await, true);
    sees_and_hears("Bob", &bob).await;
    ann.is_clean(&[]).await;
    bob.is_clean(&[]).await;
    let messages = |direction: &str| format!("nova_rtc_messages_total{{direction=\"{direction}\"}}");
    eventually("all messages are counted", PATIENCE, async || {
        let (come, gone) =
            (visit.app.metric(&messages("in")).await, visit.app.metric(&messages("out")).await);
        (come == Some(6.0) && gone == Some(6.0)).then_some(())
    })
    .await;
}

#[actix_rt::test]
async fn who_can_send_no_udp_to_the_engine_is_heard_through_a_turn_server() {
    let (_turn, app) = with_turn().await;
    let (visit, room) = hosts(app).await;
    let ann = &visit.browser;
    let (bob, _) = comes(&visit.app, "bob").await;
    // Whatever path his browser finds, it may use relayed ones only.
    bob.open(&visit.app.at(&format!("{room}?join=video&relay"))).await;
    waits_for("Bob is in", &bob, ".group-call[data-state=in]", true).await;
    sees_and_hears("Ann", ann).await;
    sees_and_hears("Bob", &bob).await;
}

/// Firefox writes other offers, and has another ICE, DTLS and SRTP. It never looks for a path over loopback, so both go through TURN.
#[actix_rt::test]
async fn somebody_in_firefox_and_somebody_in_chromium_see_and_hear_each_other() {
    let (_turn, app) = with_turn().await;
    let (visit, room) = hosts(app).await;
    let ann = &visit.browser;

    let bob = comes_in_firefox(&visit.app, "bob").await;
    bob.enters(&visit.app.at(&format!("{room}?relay"))).await;
    let of_bob = sees_and_hears("Ann", ann).await;
    let of_ann = sees_and_hears("Bob", &bob).await;
    println!("Bob in Firefox of Ann {of_ann:?}, Ann in Chromium of Bob {of_bob:?}");

    // What is withheld is not seen, and comes back; what is written comes over the data channel.
    bob.press("Camera off").await;
    waits_for("Ann sees no face", ann, ".tile:not(.mine) video", false).await;
    bob.press("Camera on").await;
    waits_for("Ann sees the face again", ann, ".tile:not(.mine) video", true).await;
    sees_and_hears("Ann", ann).await;
    ann.press("Messages").await;
    bob.press("Messages").await;
    bob.fill("line", "from another house").await;
    bob.click("[aria-label='Send to everybody here']").await;
    ann.sees(".talk [role=log]", "from another house").await;
    bob.press("Leave").await;
    waits_for("Ann is alone", ann, ".tile:not(.mine)", false).await;
    ann.is_clean(&[]).await;
}

#[actix_rt::test]
async fn a_page_goes_to_the_node_of_its_call_and_comes_home_when_that_is_gone() {
    let redis = services::redis().await;
    let home = TestApp::start_with(|config| {
        config.bus.redis_url = Some(nova::config::Secret::from(redis.url.clone()));
        config.bus.redis_namespace = redis.namespace.clone();
    })
    .await;
    let (database, bus) = (home.engine.config.database.clone(), home.engine.config.bus.clone());
    let away = TestApp::start_with(|config| {
        config.database = database;
        config.bus = bus;
    })
    .await;
    let anns = Visit { browser: Browser::start_with_devices().await, app: away };
    let ann = &anns.browser;
    anns.signs_up("ann").await;
    ann.follow("Calls").await;
    ann.press("Start the call").await;
    ann.press("Join now").await;
    waits_for("Ann is in", ann, ".group-call[data-state=in]", true).await;
    let room = ann.path().await;
    // A page may go to nodes that were there when it was loaded.
    let socket_of_away = anns.app.url.replace("http", "ws");
    eventually("the nodes know each other", PATIENCE, async || {
        let page = home.http.get(home.at("/console/")).send().await.unwrap();
        let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
        policy.contains(&socket_of_away).then_some(())
    })
    .await;
    let (bob, _) = comes(&home, "bob").await;
    bob.open(&home.at(&format!("{room}?join=video"))).await;
    waits_for("Bob is in", &bob, ".group-call[data-state=in]", true).await;
    sees_and_hears("Bob", &bob).await;
    assert_eq!(home.metric("nova_rtc_participants").await, Some(0.0), "the room is on the other node");

    let Visit { app: away, browser: ann } = anns;
    away.stop();
    eventually("Bob is in the room at home", PATIENCE, async || {
        (home.metric("nova_rtc_participants").await == Some(1.0)).then_some(())
    })
    .await;
    waits_for("Bob is in again", &bob, ".group-call[data-state=in]", true).await;
    drop(ann);
}

#[actix_rt::test]
async fn a_host_goes_live_with_a_call_and_everybody_in_it_sees_that() {
    let app = TestApp::start_with(|config| config.live.ladder_cores = Some(4.0)).await;
    let visit = Visit { browser: Browser::start().await, app };
    let (ann, _) = comes(&visit.app, "ann").await;
    let (bob, _) = comes(&visit.app, "bob").await;
    ann.follow("Calls").await;
    ann.fill("title", "Monday's round").await;
    ann.press("Start the call").await;
    ann.press("Join now").await;
    waits_for("Ann is in", &ann, ".group-call[data-state=in]", true).await;
    bob.open(&visit.app.at(&ann.path().await)).await;
    bob.press("Join now").await;
    waits_for("Bob is in", &bob, ".group-call[data-state=in]", true).await;
    let asks = "return [...document.querySelectorAll('.controls .control')].some((one) => one.textContent === 'Go live')";
    assert_eq!(bob.run(asks).await, false, "only hosts go live");
    waits_for("nobody is told yet", &bob, ".on-air", false).await;

    ann.press("Go live").await;
    ann.sees("dialog h2", "Go live with this call").await;
    ann.picture("call-go-live").await;
    ann.click("#record").await;
    ann.press("Start the stream").await;
    ann.sees(".on-air", "Live and recorded.").await;
    bob.sees(".on-air", "People outside this call see whoever speaks").await;
    ann.picture("call-on-air").await;
    bob.narrow().await;
    bob.picture("narrow-call-on-air").await;

    // Somebody outside watches, with pictures and sound of the call.
    let watch = bob.run("return document.querySelector('.on-air a').href").await;
    let (cy, _) = comes(&visit.app, "cyril").await;
    cy.open(watch.as_str().expect("an address")).await;
    let plays = "
        const video = document.querySelector('.stage[data-state=playing] video');
        return video ? [video.videoWidth, video.getVideoPlaybackQuality().totalVideoFrames, video.webkitAudioDecodedByteCount] : null;";
    eventually("the call is watched", PATIENCE, async || {
        let seen = cy.run(plays).await;
        let at_least = |at: usize, least: u64| seen[at].as_u64().is_some_and(|count| count >= least);
        (at_least(0, 640) && at_least(1, 60) && at_least(2, 1_000)).then_some(())
    })
    .await;
    cy.picture("call-watched").await;

    // Who comes later is told, too; and everybody when it ends.
    bob.press("Leave").await;
    bob.press("Join again").await;
    bob.sees(".on-air", "Live and recorded.").await;
    ann.press("End live").await;
    waits_for("Ann sees that it is over", &ann, ".on-air", false).await;
    waits_for("Bob sees that it is over", &bob, ".on-air", false).await;
    ann.is_clean(&[]).await;
    bob.is_clean(&[]).await;
}
