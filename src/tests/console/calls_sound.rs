//! The sound of a call between browsers: each packet says once more what the one before it said.

use serde_json::{Value, json};

use super::calls::{PATIENCE, comes, hosts, sees_and_hears, waits_for};
use crate::app::TestApp;
use crate::browser::Browser;
use crate::chat_people::Person;
use crate::chat_socket::Device;
use crate::services::eventually;
use crate::stacks::{Peer, Stack};

/// What a page sends first of the codecs of its microphone, and packets whose sound had come already, in the packet before. (Its statistics
/// call all of it Opus.)
async fn redundancy(page: &Browser) -> Value {
    page.run(
        "const connection = window.connections.at(-1);
        const [sender] = connection.getSenders().filter((one) => one.track?.kind === 'audio');
        return connection.getStats().then((stats) => {
            const of = (way) => [...stats.values()].filter((one) => one.type === way && one.kind === 'audio');
            return {
                codec: sender.getParameters().codecs[0].mimeType,
                again: Math.max(0, ...of('inbound-rtp').map((one) => one.packetsDiscarded)),
            };
        });",
    )
    .await
}

#[actix_rt::test]
async fn browsers_say_everything_twice_and_who_cannot_read_that_hears_them_too() {
    let (visit, room) = hosts(TestApp::start().await).await;
    let ann = &visit.browser;
    let (bob, _) = comes(&visit.app, "bob").await;
    bob.open(&visit.app.at(&room)).await;
    bob.press("Join now").await;
    waits_for("Bob is in", &bob, ".group-call[data-state=in]", true).await;
    sees_and_hears("Ann", ann).await;
    sees_and_hears("Bob", &bob).await;
    for (who, page) in [("Ann", ann), ("Bob", &bob)] {
        let seen = eventually(&format!("{who} is told everything twice"), PATIENCE, async || {
            let seen = redundancy(page).await;
            (seen["again"].as_u64() > Some(50)).then_some(seen)
        })
        .await;
        println!("{who}: {seen}");
        assert_eq!(seen["codec"], "audio/red", "{seen}");
    }

    // A stack that knows no such thing.
    let cy = Person::new(&visit.app, "cyril").await;
    let mut stack = Peer::start(Stack::Aiortc, &["room"]);
    let offer = stack.tells("offer", |_| true).await["sdp"].take();
    assert!(!offer.as_str().expect("text").contains("red/48000"), "{offer}");
    // Only now: nobody answers pings while the stack takes its time to start.
    let mut device = Device::returns(&visit.app, &cy.session.token()).await.0;
    let room = room.rsplit('/').next().expect("an id");
    let joined = device.asks(json!({ "type": "room.join", "room": room, "offer": offer })).await;
    assert_eq!(joined["type"], "room.joined", "{joined}");
    stack.hears(&joined["answer"]).await;
    stack.tells("seen", |seen| seen["energy"].as_f64() > Some(0.001)).await;
    stack.leaves(None).await;
}
