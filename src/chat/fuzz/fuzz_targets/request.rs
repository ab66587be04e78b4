//! Requests: whatever is read keeps to its bounds, and reads the same when its JSON is printed anew.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nova_chat_fuzz::chat::wire::from_device::{FromDevice, read};

fuzz_target!(|text: &str| {
    let first = read(text);
    match &first {
        Ok((reference, request)) => {
            assert!(reference.is_some() || !request.is_answered());
            match request {
                FromDevice::Connect(connect) => assert!(connect.token.len() <= 4 << 10 && connect.focus.len() <= 50),
                FromDevice::Send(draft) => {
                    assert!((1..=64).contains(&draft.client_msg_id.len()) && draft.mentions.len() <= 100);
                    if let Some(location) = &draft.location {
                        assert!(location.latitude.abs() <= 90.0 && location.longitude.abs() <= 180.0);
                    }
                }
                FromDevice::Pull(pull) => assert!((1..=500).contains(&pull.limit)),
                FromDevice::Presence(presence) => assert!(presence.watch.len() <= 200 && presence.conversations.len() <= 20),
                _ => {}
            }
        }
        // What is told back is bounded: a stranger's text is not answered with itself.
        Err(refused) => assert!(refused.detail.chars().count() <= 400),
    }
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(text)
        && value.is_object()
    {
        let again = read(&value.to_string());
        assert_eq!(again.is_ok(), first.is_ok(), "{first:?} {again:?}");
        if let (Ok(first), Ok(again)) = (first, again) {
            assert_eq!(first, again);
        }
    }
});
