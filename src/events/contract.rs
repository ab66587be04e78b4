//! The contract with those who read events: what the code says is what `proto/` says, and old bytes are read for ever.

use uuid::Uuid;

use super::{Event, Topic, derived, schema};

/// Fields as `(message, name, tag, type)`, from the text of the contract.
fn contract() -> Vec<(String, String, u32, String)> {
    let text = include_str!("../../proto/nova/events/v1/events.proto");
    let (mut found, mut message) = (Vec::new(), String::new());
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        if let Some(rest) = line.strip_prefix("message ") {
            message = rest.trim_end_matches(" {").to_owned();
        } else if let Some((field, tag)) = line.trim_end_matches(';').split_once(" = ")
            && !message.is_empty()
            && line.ends_with(';')
            && let Some((kind, name)) = field.rsplit_once(' ')
        {
            let kind = kind.replace("Visibility", "enumeration").replace(' ', "_");
            found.push((message.clone(), name.to_owned(), tag.parse().unwrap(), kind));
        } else if line == "}" {
            message.clear();
        }
    }
    found
}

/// The same from the text of the code.
fn code() -> Vec<(String, String, u32, String)> {
    let text = concat!(
        include_str!("schema.rs"),
        include_str!("schema/media.rs"),
        include_str!("schema/chat.rs"),
        include_str!("schema/readers.rs"),
        include_str!("schema/safety.rs")
    );
    let (mut found, mut message, mut attribute) = (Vec::new(), String::new(), String::new());
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("pub struct ") {
            message = rest.trim_end_matches(" {").to_owned();
        } else if let Some(rest) = line.strip_prefix("#[prost(") {
            attribute = rest.trim_end_matches(")]").to_owned();
        } else if let Some((name, rust)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(": ")) {
            let mut parts = attribute.split(", ");
            let kind = parts.next().unwrap().split(" = ").next().unwrap();
            let tag = attribute.split("tag = \"").nth(1).unwrap().trim_end_matches('"').parse().unwrap();
            let inner = rust.trim_end_matches(',').trim_end_matches('>');
            let inner = inner.trim_start_matches("Option<").trim_start_matches("Vec<");
            let kind = if kind == "message" { inner } else { kind };
            let kind = match parts.next() {
                Some("repeated") => format!("repeated_{kind}"),
                Some("optional") if kind != inner || kind.starts_with(char::is_lowercase) => {
                    format!("optional_{kind}")
                }
                _ => kind.to_owned(),
            };
            found.push((message.clone(), name.to_owned(), tag, kind));
        }
    }
    found
}

#[test]
fn the_messages_are_those_of_the_contract() {
    assert_eq!(code(), contract());
    assert!(code().len() > 90, "{}", code().len());
}

#[test]
fn derived_ids_are_of_both() {
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    assert_eq!(derived(one, other), derived(one, other));
    assert_ne!(derived(one, other), derived(other, one));
    assert_eq!(derived(one, other).get_version_num(), 8);
}

#[test]
fn every_topic_stands_once_and_a_key_keeps_its_part() {
    let names: std::collections::BTreeSet<_> = Topic::ALL.iter().map(|topic| topic.name()).collect();
    assert_eq!(names.len(), 10);
    for topic in Topic::ALL {
        assert_eq!(
            (Topic::named(topic.name()), Topic::numbered(topic.number())),
            (Some(*topic), Some(*topic))
        );
        let parts: std::collections::BTreeSet<_> = (0..200).map(|_| topic.part_of(Uuid::now_v7())).collect();
        assert_eq!(parts, (0..topic.parts()).collect(), "{}", topic.name());
    }
    let key = uuid::uuid!("0190a5ae-1f2b-7c3d-8e4f-001122334455");
    assert_eq!(Topic::Content.part_of(key), 5, "what is logged already must not move");
}

/// Bytes as versions have written them, those of today among them.
const GOLDEN: &str = include_str!("golden.txt");

/// Bytes as the first version wrote them, with fields left out.
const SPARSE: &str = "
PostDeleted 1 0a0201021202030418e907
UserFollowed 1 0a0101120102182a
UserProfileUpdated 1 0a01011a02416e2807
PostCreated 1 0a01011201021a0474657874220268692801320161
";

fn golden() -> impl Iterator<Item = (&'static str, i16, Vec<u8>)> {
    let lines =
        GOLDEN.lines().chain(SPARSE.lines()).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let mut words = line.split(' ');
        let (kind, version, hex) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (kind, version.parse().unwrap(), (0..hex.len()).step_by(2).map(byte).collect())
    })
}

#[test]
fn bytes_of_old_versions_are_still_read() {
    let mut present = std::collections::BTreeSet::new();
    for (kind, version, bytes) in golden() {
        let event = Event::decode(kind, &bytes).expect("decodes").expect("known");
        assert_eq!(event.kind(), kind);
        if version == event.schema_version() {
            // A field the code does not know would be gone.
            assert_eq!(event.encode(), bytes, "{kind}");
            present.insert(kind);
        }
    }
    let all: std::collections::BTreeSet<_> = Event::KINDS.iter().copied().collect();
    assert_eq!(present, all, "every kind has its bytes of today in golden.txt");
    let deleted = schema::PostDeleted { post_id: vec![1, 2], author_id: vec![3, 4], at_ms: 1001 };
    assert_eq!(
        Event::decode("PostDeleted", &Event::from(deleted.clone()).encode()),
        Ok(Some(deleted.into()))
    );
    assert_eq!(Event::decode("SomethingNew", b"any"), Ok(None), "a newer engine's kind is skipped");
    assert!(Event::decode("PostCreated", b"\xff").is_err());
}
