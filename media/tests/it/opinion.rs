//! A second opinion: another implementation as the publisher, and as the server of the same bytes.

use nova_media::frame::Track;
use nova_media::rtmp::Output;
use rtmp_runtime::client::{ClientConfig, ClientEvent, ClientSession};

use crate::encoder::{ASC_48K, AVCC_720P, Door, picture, replies};

#[test]
fn another_implementation_publishes_here() {
    let mut config = ClientConfig::default();
    config.app = "live".into();
    config.stream_key = "sk_test".into();
    let mut client = ClientSession::new(config);
    let mut door = Door::new();
    let mut to_server = client.start();
    let mut events = Vec::new();
    while !to_server.is_empty() {
        door.outputs.clear();
        door.hear(&to_server);
        if door.request().is_some_and(|request| request.key == "sk_test" && request.app == "live") {
            door.accept();
        }
        let answered = replies(&door.outputs);
        let (bytes, more) = client.handle_data(&answered).unwrap();
        to_server = bytes;
        events.extend(more);
    }
    assert!(client.is_publishing(), "{events:?}");
    assert!(events.contains(&ClientEvent::Publishing), "{events:?}");

    let mut sent = client.send_video(0, &[&[0x17, 0, 0, 0, 0], AVCC_720P].concat()).unwrap();
    sent.extend(client.send_audio(0, &[&[0xaf, 0], ASC_48K].concat()).unwrap());
    for n in 0..100_u32 {
        let mut body = picture(0, n % 30 == 0);
        body[5..9].copy_from_slice(&9_002_u32.to_be_bytes());
        body.resize(9 + 9_002, n as u8);
        sent.extend(client.send_video(n * 33, &body).unwrap());
        sent.extend(client.send_audio(n * 33, &[0xaf, 1, n as u8]).unwrap());
    }
    door.outputs.clear();
    for piece in sent.chunks(1_500) {
        door.hear(piece);
    }
    assert_eq!((door.frames(Track::Video).len(), door.frames(Track::Audio).len()), (100, 100));
    assert_eq!(door.times(Track::Video), (0..100).map(|n| n * 33).collect::<Vec<_>>());
    assert!(door.frames(Track::Video).iter().all(|frame| frame.payload.len() == 9_006));
    assert!(!door.outputs.iter().any(|output| matches!(output, Output::Ended(_))));
}
