use time::{Duration, macros::datetime};

use crate::{
    id::{NodeId, StreamId},
    port::{Airing, KeyHash, LifeState, Standing, StreamRecord, Streams},
};

/// Panics where a store of streams does not do what [`Streams`] promises. `add` makes a stream with a key, as its owner would;
/// `noted` tells what was last noted of it.
pub async fn streams<S: Streams>(
    streams: &S,
    add: impl AsyncFn(KeyHash) -> StreamRecord,
    noted: impl AsyncFn(StreamId) -> Option<Airing>,
) {
    let key = |seed: u8| {
        let mut bytes = [seed; 32];
        bytes[..16].copy_from_slice(StreamId::generate().as_uuid().as_bytes());
        KeyHash(bytes)
    };
    let (ours, theirs) = (key(1), key(2));
    let (one, other) = (add(ours).await, add(theirs).await);
    assert_eq!(streams.load(one.id).await, Ok(Some(one.clone())));
    assert_eq!(streams.with_key(ours).await, Ok(Some(one.id)));
    assert_eq!(streams.with_key(theirs).await, Ok(Some(other.id)));
    assert_eq!(streams.with_key(key(3)).await, Ok(None));
    let nobody = StreamId::generate();
    assert_eq!(streams.load(nobody).await, Ok(None));

    assert_eq!(noted(one.id).await, None, "nobody has published yet");
    let start = datetime!(2026-01-02 12:00 UTC);
    let live = Airing {
        state: LifeState::Live,
        node: NodeId::generate(),
        started_at: start,
        ended_at: None,
        heard_at: start,
        viewers: 3,
        viewers_peak: 5,
        watched_s: 7,
        broadcast: "b1".to_owned(),
        standing: Standing { next_msn: 41, discontinuities: 2, sessions: 3 },
    };
    let ended = Airing {
        state: LifeState::Ended,
        ended_at: Some(start + Duration::MINUTE),
        heard_at: start + Duration::MINUTE,
        viewers: 0,
        watched_s: 99,
        ..live.clone()
    };
    let again =
        Airing { started_at: start + Duration::HOUR, heard_at: start + Duration::HOUR, ..live.clone() };
    for airing in [&live, &ended, &again] {
        streams.note(one.id, airing).await.expect("it is there");
        assert_eq!(noted(one.id).await.as_ref(), Some(airing));
        let loaded = streams.load(one.id).await.expect("it answers").expect("it is there");
        assert_eq!(loaded.airing.as_ref(), Some(airing), "whoever goes on with it reads the same");
    }
    assert_eq!(noted(other.id).await, None, "another stream is not touched");
    streams.note(nobody, &live).await.expect("a stream that is gone is no failure");
}
