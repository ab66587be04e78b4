//! A call over TCP, where the network lets no UDP through.

use super::calls::{comes, hosts, sees_and_hears, waits_for};
use crate::app::TestApp;

#[actix_rt::test]
async fn who_can_send_no_udp_and_has_no_turn_server_is_heard_over_tcp() {
    let (visit, room) = hosts(TestApp::start().await).await;
    let ann = &visit.browser;
    let (bob, _) = comes(&visit.app, "bob").await;
    bob.open(&visit.app.at(&room)).await;
    // Where UDP does not get through a browser learns so by waiting in vain; his is not told of it.
    bob.run(
        "const set = RTCPeerConnection.prototype.setRemoteDescription;
        RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
            const lines = sdp.split('\\r\\n').filter((line) => !/^a=candidate:.* udp /.test(line));
            return set.call(this, { type, sdp: lines.join('\\r\\n') });
        };",
    )
    .await;
    bob.press("Join now").await;
    waits_for("Bob is in", &bob, ".group-call[data-state=in]", true).await;
    sees_and_hears("Ann", ann).await;
    sees_and_hears("Bob", &bob).await;
    let over = "const stats = [...(await window.connections[0].getStats()).values()];
        const pair = stats.find((one) => one.type === 'candidate-pair' && one.nominated);
        return stats.find((one) => one.id === pair.remoteCandidateId).protocol;";
    assert_eq!(bob.run(over).await, "tcp");
    ann.is_clean(&[]).await;
    bob.is_clean(&[]).await;
}
