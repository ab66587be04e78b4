use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::wire::{self, FromDevice};
use super::validator::wrong;
use super::*;
use crate::calls::signalling;

fn parsed() -> Value {
    serde_json::from_str(document()).expect("JSON")
}

/// Whether a value is what the document says of a message.
fn is_valid(document: &Value, key: &str, value: &Value) -> bool {
    wrong(document, payload(document, key), value).is_none()
}

fn payload<'a>(document: &'a Value, key: &str) -> &'a Value {
    &document["components"]["messages"][key]["payload"]
}

/// Every place in a value, as JSON pointers.
fn places(value: &Value, at: &str, into: &mut Vec<String>) {
    into.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| places(value, &format!("{at}/{name}"), into))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, value)| places(value, &format!("{at}/{n}"), into));
        }
        _ => {}
    }
}

/// An example with something done to it, and what.
fn changed(example: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let mut at = Vec::new();
    places(example, "", &mut at);
    for place in at {
        let here = example.pointer(&place).expect("it is there").clone();
        let mut put = |what: String, value: Value| {
            let mut changed = example.clone();
            *changed.pointer_mut(&place).expect("it is there") = value;
            all.push((format!("{place}: {what}"), changed));
        };
        for other in [
            json!(null),
            json!(true),
            json!(7),
            json!(-1),
            json!(0),
            json!(1.5),
            json!("x"),
            json!(""),
            json!([]),
            json!({}),
        ] {
            put(other.to_string(), other);
        }
        for edge in [
            500,
            501,
            u64::from(u32::MAX),
            u64::from(u32::MAX) + 1,
            i64::MAX as u64,
            i64::MAX as u64 + 1,
            u64::MAX,
        ] {
            put(edge.to_string(), json!(edge));
        }
        for len in [32, 33, 64, 65, 256, 257, 512, 513, 4_096, 4_097] {
            put(format!("{len} characters"), json!("x".repeat(len)));
        }
        match &here {
            Value::Object(fields) => {
                let mut more = fields.clone();
                more.insert("surprise".to_owned(), json!(1));
                put("one field more".to_owned(), more.into());
                for name in fields.keys() {
                    let mut less = fields.clone();
                    less.remove(name);
                    put(format!("without {name}"), less.into());
                }
            }
            Value::Array(items) => {
                for len in [20, 21, 50, 51, 100, 101, 200, 201] {
                    put(format!("{len} items"), json!(vec![items.first().cloned().unwrap_or_default(); len]));
                }
            }
            Value::String(text) => {
                put("another noun".to_owned(), json!(text.replacen('_', "s_", 1).to_uppercase()))
            }
            _ => {}
        }
    }
    all
}

/// Reads a request, the fields of those about calls too.
fn read_whole(text: &str) -> Result<(), String> {
    match wire::read(text).map_err(|why| format!("{why:?}"))?.1 {
        FromDevice::Room(request) => signalling::check(request).map_err(|why| format!("{why:?}")),
        _ => Ok(()),
    }
}

#[test]
fn every_request_is_described() {
    let described: Vec<_> = schemas::requests().iter().map(|request| request.message.name).collect();
    let all: Vec<_> = FromDevice::KINDS.iter().chain(signalling::KINDS).copied().collect();
    assert_eq!(described, all);
}

#[test]
fn whatever_is_done_to_a_request_the_document_and_the_reader_agree() {
    let document = parsed();
    let (mut taken, mut refused) = (0, 0);
    for request in schemas::requests() {
        let key = request.message.key;
        for example in &request.message.examples {
            assert_eq!(wrong(&document, payload(&document, key), example), None, "{example}");
            let (reference, read) =
                wire::read(&example.to_string()).unwrap_or_else(|why| panic!("{example}: {why:?}"));
            assert_eq!(
                (reference.is_some(), read.is_answered()),
                (example.get("ref").is_some(), request.answer.is_some()),
                "{example}"
            );
            for (what, changed) in changed(example) {
                // Another type is another request.
                if what.starts_with("/type") {
                    continue;
                }
                let described = is_valid(&document, key, &changed);
                let read = read_whole(&changed.to_string());
                assert_eq!(described, read.is_ok(), "{key}, {what}: {read:?}");
                if described { taken += 1 } else { refused += 1 }
            }
        }
        assert!(!request.message.examples.is_empty(), "{key} has no example");
    }
    assert!(taken > 200 && refused > 2_000, "{taken} taken, {refused} refused");
}

#[test]
fn everything_that_is_said_is_described_and_everything_described_is_said() {
    let document = parsed();
    let mut said = BTreeSet::new();
    for (key, message) in samples::all_said() {
        assert_eq!(wrong(&document, payload(&document, key), &message), None, "{key}: {message}");
        let mut at = Vec::new();
        places(&message, "", &mut at);
        said.extend(at.into_iter().map(|place| format!("{key}{place}")));
        for (what, changed) in changed(&message) {
            // Those that REST describes.
            let elsewhere = ["body", "notification", "stats"].iter().any(|name| what.contains(name));
            let breaks = what.contains("one field more") && !elsewhere;
            if breaks {
                assert!(!is_valid(&document, key, &changed), "{key}, {what}: the document would not notice");
            }
        }
    }
    for message in schemas::answers().iter().chain(&schemas::pushes()) {
        let payload = &document["components"]["messages"][message.key]["payload"];
        for field in payload["properties"].as_object().expect("an object").keys() {
            assert!(
                said.contains(&format!("{}/{field}", message.key)),
                "{}: {field} is never said",
                message.key
            );
        }
        assert!(!message.examples.is_empty(), "{} is never said", message.key);
    }
}

#[test]
fn references_lead_somewhere_and_operations_name_messages_of_the_channel() {
    let document = parsed();
    let mut at = Vec::new();
    places(&document, "", &mut at);
    for place in at.iter().filter(|place| place.ends_with("/$ref")) {
        let reference = document.pointer(place).and_then(Value::as_str).expect("a text");
        let target = reference.strip_prefix('#').expect("inside the document");
        assert!(document.pointer(target).is_some(), "{place} leads nowhere: {reference}");
    }
    for (name, operation) in document["operations"].as_object().expect("operations") {
        for message in operation["messages"].as_array().expect("messages") {
            let reference = message["$ref"].as_str().expect("a reference");
            assert!(reference.starts_with("#/channels/socket/messages/"), "{name}");
        }
    }
    assert_eq!(document["channels"]["socket"]["address"], "/v1/ws");
}
