//! What a device was shown adds up to what it would be told if it asked anew: after every event, for everybody, whatever was done in
//! which order. Each keeps a copy of the conversation that is changed by what is pushed and by nothing else, by the rules a client goes by.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::app::TestApp;
use crate::chat_people::{Person, text};
use crate::chat_socket::Device;

/// Things that are done for each seed.
const STEPS: usize = 30;

/// A conversation as one of its members knows it.
#[derive(Debug, Clone, PartialEq)]
struct Copy {
    title: Value,
    retention_s: Value,
    joined_seq: u64,
    entries: BTreeMap<u64, Value>,
    members: BTreeMap<String, Line>,
}

#[derive(Debug, Clone, PartialEq)]
struct Line {
    role: String,
    read: u64,
    delivered: u64,
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("no {field} in {value}"))
}

/// What is the same of an entry that was pushed and one that was asked for.
fn essence(entry: &Value) -> Value {
    let fields = ["conversation", "epoch", "seq", "kind", "sender", "at", "client_msg_id", "body"];
    fields.iter().map(|field| ((*field).to_owned(), entry[*field].clone())).collect()
}

impl Copy {
    /// As it is told who asks. `None`: they are not in it.
    async fn fetched(person: &Person<'_>, talk: &str) -> Option<(Copy, Value)> {
        let (status, shown) = person.asks(Method::GET, &format!("/v1/conversations/{talk}"), None).await;
        if status == 403 {
            return None;
        }
        let members = person.gets(&format!("/v1/conversations/{talk}/members?limit=100")).await;
        let line = |line: &Value| Line {
            role: text(line, "role"),
            read: number(line, "read_seq"),
            delivered: number(line, "delivered_seq"),
        };
        let members = members["items"].as_array().unwrap();
        let members = members.iter().map(|member| (text(member, "user"), line(member))).collect();
        let entries = person.reads(talk).await;
        let copy = Copy {
            title: shown["title"].clone(),
            retention_s: shown["retention_s"].clone(),
            joined_seq: number(&shown, "joined_seq"),
            entries: entries.iter().map(|entry| (number(entry, "seq"), essence(entry))).collect(),
            members,
        };
        Some((copy, shown))
    }

    /// The line of the inbox that follows from what is known.
    fn inbox(&self, me: &str) -> Value {
        let (top, last) = self.entries.last_key_value().expect("a group begins with an entry");
        let own = &self.members[me];
        json!({
            "title": self.title, "retention_s": self.retention_s, "role": own.role, "read_seq": own.read,
            "last_seq": top, "unread": top.saturating_sub(own.read.max(self.joined_seq)),
            "last_at": last["at"], "last_entry": last,
        })
    }

    fn hears(&mut self, push: &Value) {
        match push["type"].as_str() {
            Some("entry") => self.takes(push),
            Some("receipt") => {
                if let Some(line) = self.members.get_mut(&text(push, "user")) {
                    line.read = line.read.max(push["read"].as_u64().unwrap_or_default());
                    line.delivered = line.delivered.max(push["delivered"].as_u64().unwrap_or_default());
                }
            }
            _ => {}
        }
    }

    fn takes(&mut self, entry: &Value) {
        let (seq, sender, body) = (number(entry, "seq"), text(entry, "sender"), &entry["body"]);
        let top = self.entries.last_key_value().map_or(0, |(top, _)| *top);
        if seq <= top {
            return;
        }
        assert_eq!(seq, top + 1, "a hole");
        self.entries.insert(seq, essence(entry));
        let target = body["target"].as_u64();
        match (entry["kind"].as_str(), target) {
            (Some("edit"), Some(target)) => {
                let message = &mut self.entries.get_mut(&target).expect("what is edited is there")["body"];
                message["text"] = body["text"].clone();
                message["edited"] = seq.into();
            }
            (Some("delete"), Some(target)) => {
                for (at, known) in &mut self.entries {
                    if *at == target {
                        known["body"] = json!({ "deleted": seq });
                    } else if known["kind"] == "edit" && known["body"]["target"] == target {
                        known["body"] = json!({ "target": target, "deleted": seq });
                    }
                }
            }
            (Some("title"), _) => {
                for (field, known) in [("title", &mut self.title), ("retention_s", &mut self.retention_s)] {
                    if let Some(now) = body.get(field) {
                        *known = now.clone();
                    }
                }
            }
            (Some("member"), _) => self.changes_members(seq, &sender, body),
            _ => {}
        }
        // Who writes has seen what came before.
        if let Some(line) = self.members.get_mut(&sender) {
            line.read = seq;
        }
    }

    fn changes_members(&mut self, seq: u64, sender: &str, body: &Value) {
        let user = text(body, "user");
        match body["action"].as_str() {
            Some("added") => {
                let line = Line { role: text(body, "role"), read: seq - 1, delivered: 0 };
                self.members.insert(user, line);
            }
            Some("role") => {
                let role = text(body, "role");
                // Whoever gives the group away becomes an administrator.
                if role == "owner"
                    && let Some(line) = self.members.get_mut(sender)
                {
                    line.role = "admin".to_owned();
                }
                self.members.get_mut(&user).expect("a member").role = role;
            }
            Some("left" | "removed") => {
                self.members.remove(&user);
                if let Some(owner) = body["owner"].as_str() {
                    self.members.get_mut(owner).expect("a member").role = "owner".to_owned();
                }
            }
            other => panic!("{other:?} is done to nobody here"),
        }
    }
}

/// Somebody with a socket and a copy.
struct Viewer<'a> {
    person: Person<'a>,
    device: Device,
    copy: Option<Copy>,
    /// They have been in it: nobody is brought in twice, since what they had read before is told to nobody.
    was_in: bool,
}

impl Viewer<'_> {
    fn takes_in(&mut self, talk: &str) {
        let mut pushes: Vec<Value> = self.device.entries.drain(..).collect();
        pushes.append(&mut self.device.pushes);
        if let Some(copy) = &mut self.copy {
            pushes.iter().filter(|push| push["conversation"] == talk).for_each(|push| copy.hears(push));
        }
    }

    /// Waits until what was pushed adds up to what is told.
    async fn is_right(&mut self, talk: &str, what: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            // What has come is taken in; then there may be nothing more for a while, which is no fault.
            while timeout(Duration::from_millis(20), self.device.takes()).await.is_ok() {}
            self.takes_in(talk);
            let me = self.person.id();
            let told = Copy::fetched(&self.person, talk).await;
            let is_in = told.is_some();
            let shown = told.as_ref().map(|(_, shown)| {
                let fields = ["title", "retention_s", "role", "read_seq", "last_seq", "unread", "last_at"];
                let mut line: serde_json::Map<_, _> =
                    fields.iter().map(|field| ((*field).to_owned(), shown[*field].clone())).collect();
                line.insert("last_entry".to_owned(), essence(&shown["last_entry"]));
                Value::Object(line)
            });
            let told = told.map(|(copy, _)| copy);
            // What they are told when they come in is where their copy begins; when they are out it is no use any more.
            if is_in && !self.was_in {
                (self.copy, self.was_in) = (told.clone(), true);
            }
            if !is_in && self.copy.as_ref().is_some_and(|copy| !copy.members.contains_key(&me)) {
                self.copy = None;
            }
            let line = self.copy.as_ref().map(|copy| copy.inbox(&me));
            if told == self.copy && shown == line {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "after {what}:\nknown {:#?}\ntold  {told:#?}\nknown {line:#?}\ntold  {shown:#?}",
                self.copy
            );
        }
    }
}

/// Does something, by chance; what, in words.
async fn something(dice: &mut StdRng, viewers: &mut [Viewer<'_>], talk: &str, step: usize) -> String {
    let count = viewers.len();
    let (who, other) = (dice.random_range(0..count), dice.random_range(0..count));
    let ids: Vec<String> = viewers.iter().map(|viewer| viewer.person.id()).collect();
    let other_was_in = viewers[other].was_in;
    let viewer = &mut viewers[who];
    let (person, device, copy) = (&viewer.person, &mut viewer.device, &viewer.copy);
    let known: Vec<(u64, bool)> = copy
        .iter()
        .flat_map(|copy| &copy.entries)
        .map(|(seq, entry)| {
            let is_plain = entry["body"].get("visible_to").is_none() && entry["body"].get("hidden").is_none();
            (*seq, entry["kind"] == "message" && is_plain)
        })
        .collect();
    let seq = if known.is_empty() { 1 } else { known[dice.random_range(0..known.len())].0 };
    let message =
        known.iter().rev().find(|(at, is_message)| *is_message && *at <= seq).map_or(seq, |known| known.0);
    let (at, key) = (format!("/v1/conversations/{talk}"), format!("step-{step}"));
    let member = format!("{at}/members/{}", ids[other]);
    let what = dice.random_range(0..15);
    let answer = match what {
        0 | 1 => device.sends(talk, &key, &format!("words of step {step}")).await,
        2 => person.sends(talk, &key, json!({ "text": "look", "reply_to": message, "mentions": [ids[other]] })).await.1,
        3 => {
            let voice = json!({ "media": "media_01h455vb4pex5vsknk084sn02q", "duration_ms": 1200, "waveform": "AAEC" });
            person.sends(talk, &key, json!({ "attachments": [voice] })).await.1
        }
        4 => {
            let place = json!({ "latitude": 1.25, "longitude": 2.5, "scope": "members", "members": [ids[other]] });
            person.sends(talk, &key, json!({ "location": place })).await.1
        }
        5 | 6 => {
            device.asks(json!({ "type": "edit", "conversation": talk, "target": message, "text": format!("better at {step}") })).await
        }
        7 => person.asks(Method::DELETE, &format!("{at}/messages/{seq}"), None).await.1,
        8 => {
            let on = dice.random_bool(0.7);
            device.asks(json!({ "type": "react", "conversation": talk, "target": seq, "emoji": "👍", "on": on })).await
        }
        9 => person.asks(Method::PATCH, &at, Some(json!({ "title": format!("called at {step}") }))).await.1,
        10 => {
            let retention = if dice.random_bool(0.5) { json!(86_400 + step) } else { Value::Null };
            person.asks(Method::PATCH, &at, Some(json!({ "retention_s": retention }))).await.1
        }
        11 => device.asks(json!({ "type": "read", "conversation": talk, "seq": seq })).await,
        12 if other_was_in => {
            let role = ["owner", "admin", "member"][dice.random_range(0..3)];
            let is_there = copy.as_ref().is_some_and(|copy| copy.members.contains_key(&ids[other]));
            match is_there {
                true => person.asks(Method::PUT, &member, Some(json!({ "role": role }))).await.1,
                false => Value::Null,
            }
        }
        12 => person.asks(Method::PUT, &member, Some(json!({}))).await.1,
        13 if dice.random_bool(0.3) => person.asks(Method::DELETE, &member, None).await.1,
        _ => {
            device.tells(json!({ "type": "ack", "conversation": talk, "seq": seq })).await;
            Value::Null
        }
    };
    format!("step {step}: {} of kind {what} about {seq}, {message} and {other}: {answer}", ids[who])
}

#[actix_rt::test]
async fn every_client_visible_state_equals_a_fresh_fetch_after_any_event() {
    let app = TestApp::start_with(|config| {
        (config.chat.ws_requests_per_s, config.chat.ws_user_requests_per_s) = (0, 0);
    })
    .await;
    for seed in 1..=3_u64 {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut people = Vec::new();
        for name in ["anna", "bobo", "cyril", "dora"] {
            people.push(Person::new(&app, &format!("{name}{seed}")).await);
        }
        let talk = people[0].gathers(&[&people[1], &people[2]], "us").await;
        let mut viewers = Vec::new();
        for person in people {
            let (device, _) = Device::returns(&app, &person.session.token()).await;
            viewers.push(Viewer { person, device, copy: None, was_in: false });
        }
        for viewer in &mut viewers {
            viewer.is_right(&talk, "coming").await;
        }
        for step in 0..STEPS {
            let what = something(&mut dice, &mut viewers, &talk, step).await;
            let what = format!("seed {seed}, {what}");
            for viewer in &mut viewers {
                viewer.is_right(&talk, &what).await;
            }
        }
        for viewer in viewers {
            viewer.device.leaves().await;
        }
    }
}
