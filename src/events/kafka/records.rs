//! What is sent to Kafka: for each event an envelope under its key; what one commit of chat tells of several conversations is split by them.

use std::collections::BTreeMap;

use nova_actors::id::EventId;
use prost::Message as _;
use rskafka::chrono::DateTime;
use rskafka::record::Record;
use uuid::Uuid;

use crate::events::schema::{MessageSent, MessagesSent, ReceiptMoved, ReceiptsMoved, SentRange};
use crate::events::{Event, HandleError, Logged, derived, id, millis};
use crate::store::Store;

/// Messages of a conversation in one record: 64 KiB each at most, so that a record fits into what brokers take (1 MiB).
const MESSAGES_MAX: u64 = 8;

/// Records of events of one part, in order, with what they are about.
///
/// # Errors
/// When PostgreSQL does not answer, or an event cannot be read.
pub async fn of(store: &Store, events: &[Logged]) -> Result<Vec<(Uuid, Record)>, HandleError> {
    let mut records = Vec::with_capacity(events.len());
    for event in events {
        match event.kind.as_str() {
            "MessagesSent" | "ReceiptsMoved" => match event.event().map_err(HandleError::because)? {
                Some(Event::MessagesSent(sent)) => {
                    let ranges: Vec<_> = sent.ranges.iter().flat_map(split).collect();
                    // What is in the event itself was written by an engine that told it so.
                    let said = match sent.messages.is_empty() {
                        true => store.sent(&ranges).await?,
                        false => sent.messages,
                    };
                    records.extend(ranges.into_iter().map(|range| messages(event, range, &said)));
                }
                Some(Event::ReceiptsMoved(moved)) => records.extend(receipts(event, moved)),
                _ => records.push(whole(event)),
            },
            // The bytes are passed on as they are: those of kinds this engine does not know, too.
            _ => records.push(whole(event)),
        }
    }
    Ok(records)
}

/// The parts of a range; they depend on nothing but the range, so that what is sent again has the same ids.
fn split(range: &SentRange) -> impl Iterator<Item = SentRange> {
    let (first, last, range) = (range.first_seq, range.last_seq, range.clone());
    (first..=last).step_by(MESSAGES_MAX as usize).map(move |first_seq| SentRange {
        first_seq,
        last_seq: last.min(first_seq.saturating_add(MESSAGES_MAX - 1)),
        ..range.clone()
    })
}

fn whole(event: &Logged) -> (Uuid, Record) {
    record(event, event.id, event.key, event.payload.clone())
}

/// What was said in one conversation.
fn messages(event: &Logged, range: SentRange, said: &[MessageSent]) -> (Uuid, Record) {
    let conversation = id(&range.conversation_id);
    let is_here = |message: &&MessageSent| {
        message.conversation_id == range.conversation_id
            && (range.first_seq..=range.last_seq).contains(&message.seq)
    };
    let event_id =
        derived(derived(event.id.as_uuid(), conversation), Uuid::from_u128(range.first_seq.into()));
    let messages = said.iter().filter(is_here).cloned().collect();
    let payload = MessagesSent { messages, ranges: vec![range] }.encode_to_vec();
    record(event, EventId::from_uuid(event_id), conversation, payload)
}

/// How far members of each conversation have come.
fn receipts(event: &Logged, moved: ReceiptsMoved) -> Vec<(Uuid, Record)> {
    let mut by: BTreeMap<Uuid, Vec<ReceiptMoved>> = BTreeMap::new();
    for receipt in moved.receipts {
        by.entry(id(&receipt.conversation_id)).or_default().push(receipt);
    }
    let one = |(conversation, receipts): (Uuid, Vec<ReceiptMoved>)| {
        let event_id = EventId::from_uuid(derived(event.id.as_uuid(), conversation));
        record(event, event_id, conversation, ReceiptsMoved { receipts }.encode_to_vec())
    };
    by.into_iter().map(one).collect()
}

fn record(event: &Logged, event_id: EventId, key: Uuid, payload: Vec<u8>) -> (Uuid, Record) {
    let mut envelope = event.envelope();
    envelope.event_id = event_id.as_uuid().as_bytes().to_vec();
    envelope.key = key.as_bytes().to_vec();
    envelope.payload = payload;
    let headers = BTreeMap::from([
        ("event_id".to_owned(), event_id.as_uuid().to_string().into_bytes()),
        ("kind".to_owned(), event.kind.clone().into_bytes()),
        ("schema_version".to_owned(), event.schema_version.to_string().into_bytes()),
    ]);
    let record = Record {
        key: Some(text(key)),
        value: Some(envelope.encode_to_vec()),
        headers,
        timestamp: DateTime::from_timestamp_millis(millis(event.at)).unwrap_or_default(),
    };
    (key, record)
}

/// A key as Kafka's `UUIDSerializer` writes it.
fn text(key: Uuid) -> Vec<u8> {
    key.hyphenated().to_string().into_bytes()
}

/// The partition of a key among so many, as the default partitioner of Kafka's own client gives it.
pub fn partition(key: Uuid, partitions: usize) -> usize {
    (murmur2(&text(key)) & 0x7fff_ffff) as usize % partitions.max(1)
}

/// MurmurHash2 with Kafka's seed (`org.apache.kafka.common.utils.Utils.murmur2`).
fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let k = u32::from_le_bytes(*word).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (k ^ (k >> 24)).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        hash = (hash ^ last).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Topic, bytes};
    use nova_actors::id::ConversationId;
    use time::OffsetDateTime;

    /// The vectors of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn keys_are_hashed_as_kafka_hashes_them() {
        let vectors: [(&str, i32); 6] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (text, hash) in vectors {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }

    fn logged(event: Event) -> Logged {
        Logged {
            topic: event.topic(),
            part: 0,
            place: 1,
            id: EventId::generate(),
            key: Uuid::now_v7(),
            kind: event.kind().to_owned(),
            schema_version: 1,
            version: 7,
            payload: event.encode(),
            at: OffsetDateTime::now_utc(),
        }
    }

    #[test]
    fn a_long_range_is_split_the_same_way_each_time() {
        let range = |first_seq, last_seq| SentRange { first_seq, last_seq, ..SentRange::default() };
        let parts =
            |of: SentRange| split(&of).map(|part| (part.first_seq, part.last_seq)).collect::<Vec<_>>();
        assert_eq!(parts(range(5, 5)), [(5, 5)]);
        assert_eq!(parts(range(1, 20)), [(1, 8), (9, 16), (17, 20)]);
        assert_eq!(parts(range(u64::MAX - 1, u64::MAX)), [(u64::MAX - 1, u64::MAX)]);
    }

    #[test]
    fn receipts_are_told_by_conversation_under_ids_that_stay() {
        let talks = [ConversationId::generate(), ConversationId::generate()];
        let receipt = |of: usize, read| ReceiptMoved {
            conversation_id: bytes(talks[of]),
            read,
            ..ReceiptMoved::default()
        };
        let moved = ReceiptsMoved { receipts: vec![receipt(0, 1), receipt(1, 2), receipt(0, 3)] };
        let event = logged(moved.clone().into());
        assert_eq!(event.topic, Topic::RealtimeChat);
        let told = receipts(&event, moved.clone());
        assert_eq!(told, receipts(&event, moved));
        let mut seen = BTreeMap::new();
        for (key, record) in told {
            let envelope = crate::events::schema::Envelope::decode(&record.value.unwrap()[..]).unwrap();
            assert_eq!((envelope.key.as_slice(), envelope.version), (key.as_bytes().as_slice(), 7));
            assert_eq!(record.key.unwrap(), key.to_string().into_bytes());
            let told = ReceiptsMoved::decode(&envelope.payload[..]).unwrap();
            assert!(told.receipts.iter().all(|receipt| id(&receipt.conversation_id) == key));
            seen.insert(
                envelope.event_id,
                told.receipts.iter().map(|receipt| receipt.read).collect::<Vec<_>>(),
            );
        }
        let mut reads: Vec<_> = seen.into_values().collect();
        reads.sort();
        assert_eq!(reads, [vec![1, 3], vec![2]]);
    }
}
