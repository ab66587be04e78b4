//! People who talk: Ann says, Bo reads.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::accounts::{Session, ask, registers};
use crate::app::TestApp;

/// Somebody with an account on an engine.
pub struct Person<'a> {
    pub app: &'a TestApp,
    pub session: Session,
}

impl<'a> Person<'a> {
    /// Registers.
    pub async fn new(app: &'a TestApp, name: &str) -> Person<'a> {
        Person { app, session: registers(app, name).await }
    }

    pub fn id(&self) -> String {
        self.session.user()
    }

    pub async fn asks(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        ask(self.app, method, path, Some(&self.session.token()), body).await
    }

    /// Asks for something that must be there.
    pub async fn gets(&self, path: &str) -> Value {
        let (status, body) = self.asks(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Begins the direct conversation with somebody; its id.
    pub async fn writes_to(&self, other: &Person<'_>) -> String {
        let body = json!({ "kind": "direct", "members": [other.id()] });
        let (status, body) = self.asks(Method::POST, "/v1/conversations", Some(body)).await;
        assert!(status == 201 || status == 200, "{body}");
        text(&body, "id")
    }

    /// Begins a group; its id.
    pub async fn gathers(&self, others: &[&Person<'_>], title: &str) -> String {
        let members: Vec<_> = others.iter().map(|other| other.id()).collect();
        let body = json!({ "kind": "group", "members": members, "title": title });
        let (status, body) = self.asks(Method::POST, "/v1/conversations", Some(body)).await;
        assert_eq!(status, 201, "{body}");
        text(&body, "id")
    }

    /// Sends; the answer, whatever it is.
    pub async fn sends(
        &self,
        conversation: &str,
        client_msg_id: &str,
        mut body: Value,
    ) -> (StatusCode, Value) {
        body["client_msg_id"] = client_msg_id.into();
        self.asks(Method::POST, &format!("/v1/conversations/{conversation}/messages"), Some(body)).await
    }

    /// Says something under a key of its own; its number.
    pub async fn says(&self, conversation: &str, words: &str) -> u64 {
        let key = uuid::Uuid::now_v7().to_string();
        let (status, body) = self.sends(conversation, &key, json!({ "text": words })).await;
        assert_eq!((status.as_u16(), &body["duplicate"]), (201, &json!(false)), "{body}");
        body["seq"].as_u64().expect("a number")
    }

    /// Everything in a conversation, oldest first.
    pub async fn reads(&self, conversation: &str) -> Vec<Value> {
        let mut all: Vec<Value> = Vec::new();
        loop {
            let after = all.last().map_or(0, |entry| entry["seq"].as_u64().expect("a number"));
            let path = format!("/v1/conversations/{conversation}/entries?after={after}&limit=100");
            let page = self.gets(&path).await;
            let items = page["items"].as_array().expect("items").clone();
            if items.is_empty() {
                return all;
            }
            all.extend(items);
        }
    }

    /// The words in a conversation, oldest first, from whoever; and that its numbers have no hole.
    pub async fn has_read_in_order(&self, conversation: &str, words: &[&str]) {
        let entries = self.reads(conversation).await;
        let seqs: Vec<_> = entries.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, (1..=entries.len() as u64).collect::<Vec<_>>(), "no hole and no repeat");
        let messages = entries.iter().filter(|entry| entry["kind"] == "message");
        let read: Vec<_> = messages.map(|entry| entry["body"]["text"].as_str().unwrap_or("—")).collect();
        assert_eq!(read, words);
    }

    /// A line of the inbox.
    pub async fn inbox(&self, conversation: &str) -> Option<Value> {
        let inbox = self.gets("/v1/conversations?limit=100").await;
        inbox["items"].as_array().unwrap().iter().find(|line| line["id"] == conversation).cloned()
    }
}

/// A text of an answer.
pub fn text(body: &Value, field: &str) -> String {
    body[field].as_str().unwrap_or_else(|| panic!("no {field} in {body}")).to_owned()
}
