//! Which layer a packet belongs to: by its names first, by its stream from then on, and never by a guess.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
struct Arrival {
    ssrc: u32,
    /// The m-line and the layer it names, if it does.
    names: Option<(&'static str, &'static str)>,
    repairs: bool,
}

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let mid = prop_oneof![4 => Just("1"), 1 => Just("0"), 1 => Just("9")];
    let rid = prop_oneof![3 => Just("q"), 3 => Just("h"), 1 => Just("x")];
    let arrival = (1u32..7, proptest::option::of((mid, rid)), any::<bool>());
    let arrival = arrival.prop_map(|(ssrc, names, repairs)| Arrival { ssrc, names, repairs });
    proptest::collection::vec(arrival, 1..80)
}

thread_local! {
    static CALL: std::cell::RefCell<(Call, usize)> = std::cell::RefCell::new({
        let mut call = Call::new();
        let ann = call.join();
        (call, ann)
    });
}

proptest! {
    #[test]
    fn a_packet_belongs_where_its_names_say_or_where_its_stream_did(arrivals in arrivals()) {
        CALL.with_borrow_mut(|(call, ann)| {
            let id = call.people[*ann].id;
            let _ = call.sfu.unpublish(id, 1);
            call.sfu.publish(id, 1, "1", Source::Camera, false).unwrap();
            let member = &mut call.sfu.members[id.index as usize];
            // Stream to layer and whether it repairs.
            let mut model: HashMap<u32, (usize, bool)> = HashMap::new();
            for Arrival { ssrc, names, repairs } in arrivals {
                let mut extensions: Vec<(u8, &[u8])> = Vec::new();
                if let Some((mid, rid)) = names {
                    extensions.push((4, mid.as_bytes()));
                    extensions.push((if repairs { 11 } else { 10 }, rid.as_bytes()));
                }
                let mut bytes = Vec::new();
                let payload_type = if repairs { 97 } else { 96 };
                Header { payload_type, ssrc, extensions: &extensions, ..Header::default() }.write(&mut bytes);
                bytes.push(0x10);
                let named = names.and_then(|(mid, rid)| {
                    let layer = ["q", "h"].iter().position(|known| *known == rid)?;
                    (mid == "1").then_some((layer, repairs))
                });
                let expected = match (model.get(&ssrc).copied(), named) {
                    (Some(known), _) => Some(known),
                    (None, Some((layer, repairs))) => {
                        // A layer has one stream at a time: a new one replaces it.
                        if !repairs {
                            model.retain(|_, known| *known != (layer, false));
                        }
                        model.insert(ssrc, (layer, repairs));
                        Some((layer, repairs))
                    }
                    (None, None) => None,
                };
                let found = member.stream_of(&Packet::read(&bytes).unwrap());
                prop_assert_eq!(found.map(|stream| (stream.layer, stream.repairs)), expected);
            }
            Ok(())
        })?;
    }
}
