//! Conversations over REST: who may do what, and what the others see of it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::chat_people::{Person, text};

#[actix_rt::test]
async fn ann_writes_to_bo_and_bo_reads_it() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let talk = ann.writes_to(&bo).await;
    assert_eq!(bo.writes_to(&ann).await, talk, "the same pair has one conversation");
    ann.says(&talk, "hello").await;
    ann.says(&talk, "are you there?").await;
    bo.says(&talk, "yes").await;
    for reader in [&ann, &bo] {
        reader.has_read_in_order(&talk, &["hello", "are you there?", "yes"]).await;
    }
    let line = ann.inbox(&talk).await.expect("in the inbox");
    assert_eq!((&line["unread"], &line["last_seq"], &line["peer"]), (&json!(1), &json!(3), &json!(bo.id())));
    assert_eq!(line["last_entry"]["body"]["text"], "yes");
    // Who writes has seen what came before.
    assert_eq!(bo.inbox(&talk).await.expect("in the inbox")["unread"], 0);
    let path = format!("/v1/conversations/{talk}/read");
    assert_eq!(
        ann.asks(Method::PUT, &path, Some(json!({ "seq": 99 }))).await.1["seq"],
        3,
        "not beyond the end"
    );
    assert_eq!(ann.asks(Method::PUT, &path, Some(json!({ "seq": 1 }))).await.1["seq"], 3, "never back");
    assert_eq!(ann.inbox(&talk).await.expect("in the inbox")["unread"], 0);
}

#[actix_rt::test]
async fn a_retry_is_the_same_message() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let talk = ann.writes_to(&bo).await;
    let first = ann.sends(&talk, "m1", json!({ "text": "once" })).await.1;
    for _ in 0..5 {
        let (status, again) = ann.sends(&talk, "m1", json!({ "text": "once" })).await;
        assert_eq!((status.as_u16(), &again["duplicate"]), (200, &json!(true)));
        assert_eq!((&again["seq"], &again["at"]), (&first["seq"], &first["at"]));
    }
    let (status, other) = ann.sends(&talk, "m1", json!({ "text": "twice" })).await;
    assert_eq!((status.as_u16(), text(&other, "code")), (422, "idempotency_mismatch".to_owned()));
    // The id is its sender's: another may use the same.
    assert_eq!(bo.sends(&talk, "m1", json!({ "text": "mine" })).await.0, 201);
    bo.has_read_in_order(&talk, &["once", "mine"]).await;
}

#[actix_rt::test]
async fn many_retries_at_once_are_one_message() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let talk = ann.writes_to(&bo).await;
    let tries = (0..20).map(|_| ann.sends(&talk, "m1", json!({ "text": "once" })));
    let answers = futures_util::future::join_all(tries).await;
    assert!(answers.iter().all(|(_, body)| body["seq"] == 1), "{answers:?}");
    assert_eq!(answers.iter().filter(|(status, _)| *status == 201).count(), 1);
    bo.has_read_in_order(&talk, &["once"]).await;
}

#[actix_rt::test]
async fn strangers_neither_read_nor_write_nor_learn() {
    let app = TestApp::start().await;
    let (ann, bo, eve) =
        (Person::new(&app, "ann").await, Person::new(&app, "bobo").await, Person::new(&app, "eve").await);
    let talk = ann.writes_to(&bo).await;
    ann.says(&talk, "a secret").await;
    let nowhere = nova_actors::id::ConversationId::generate().to_string();
    for conversation in [&talk, &nowhere] {
        let at = |rest: &str| format!("/v1/conversations/{conversation}{rest}");
        let tries = [
            eve.asks(Method::GET, &at(""), None).await,
            eve.asks(Method::GET, &at("/entries"), None).await,
            eve.asks(Method::GET, &at("/members"), None).await,
            eve.sends(conversation, "m1", json!({ "text": "let me in" })).await,
            eve.asks(Method::PATCH, &at("/messages/1"), Some(json!({ "client_msg_id": "e", "text": "x" })))
                .await,
            eve.asks(Method::DELETE, &at("/messages/1"), None).await,
            eve.asks(Method::PUT, &at("/read"), Some(json!({ "seq": 1 }))).await,
            eve.asks(Method::PUT, &at("/mute"), Some(json!({}))).await,
            eve.asks(Method::PUT, &at(&format!("/members/{}", eve.id())), Some(json!({}))).await,
            eve.asks(Method::PATCH, &at(""), Some(json!({ "title": "mine" }))).await,
        ];
        for (status, problem) in tries {
            assert_eq!((status.as_u16(), text(&problem, "code")), (403, "not_a_member".to_owned()));
        }
    }
    assert_eq!(eve.gets("/v1/conversations").await["items"], json!([]));
    bo.has_read_in_order(&talk, &["a secret"]).await;
}

#[actix_rt::test]
async fn a_voice_message_has_a_length_and_a_shape_and_a_muted_conversation_says_until_when() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let talk = ann.writes_to(&bo).await;
    let voice =
        json!({ "media": "media_01h455vb4pex5vsknk084sn02q", "duration_ms": 4200, "waveform": "AAECAwQF" });
    let (status, sent) = ann.sends(&talk, "v1", json!({ "attachments": [voice] })).await;
    assert_eq!(status, 201, "{sent}");
    assert_eq!(bo.reads(&talk).await[0]["body"]["attachments"], json!([voice]));
    for (field, wrong) in
        [("duration_ms", json!(0)), ("duration_ms", json!(14_400_001)), ("waveform", json!("é"))]
    {
        let mut other = voice.clone();
        other[field] = wrong;
        let (status, problem) = ann.sends(&talk, "v2", json!({ "attachments": [other] })).await;
        assert_eq!((status.as_u16(), text(&problem, "code")), (422, "invalid_fields".to_owned()), "{field}");
    }
    let path = format!("/v1/conversations/{talk}/mute");
    let until = "2999-01-02T03:04:05.000Z";
    assert_eq!(bo.asks(Method::PUT, &path, Some(json!({ "until": until }))).await.0, 204);
    assert_eq!(bo.inbox(&talk).await.unwrap()["muted_until"], until);
    assert!(ann.inbox(&talk).await.unwrap().get("muted_until").is_none(), "it is his own matter");
    assert_eq!(bo.asks(Method::DELETE, &path, None).await.0, 204);
    assert!(bo.inbox(&talk).await.unwrap().get("muted_until").is_none());
}

#[actix_rt::test]
async fn only_its_sender_edits_and_what_is_deleted_is_gone() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let talk = ann.gathers(&[&bo], "us").await;
    let seq = bo.says(&talk, "helo").await;
    let path = format!("/v1/conversations/{talk}/messages/{seq}");
    let edit = |id: &str, text: &str| Some(json!({ "client_msg_id": id, "text": text }));
    assert_eq!(text(&ann.asks(Method::PATCH, &path, edit("e", "no")).await.1, "code"), "not_yours");
    let (status, edited) = bo.asks(Method::PATCH, &path, edit("e", "the wrong secret")).await;
    assert_eq!((status.as_u16(), &edited["seq"]), (200, &json!(seq + 1)), "{edited}");
    let entries = ann.reads(&talk).await;
    let message = entries.iter().find(|entry| entry["seq"] == seq).unwrap();
    assert_eq!(message["body"], json!({ "text": "the wrong secret", "edited": seq + 1 }));
    let nowhere = format!("/v1/conversations/{talk}/messages/77");
    assert_eq!(text(&bo.asks(Method::PATCH, &nowhere, edit("e2", "x")).await.1, "code"), "no_such_target");
    // Ann is the owner: she may take back what Bo wrote.
    let (status, deleted) = ann.asks(Method::DELETE, &path, None).await;
    assert_eq!(status, 200, "{deleted}");
    assert_eq!(ann.asks(Method::DELETE, &path, None).await.1["duplicate"], true);
    assert_eq!(text(&bo.asks(Method::PATCH, &path, edit("e3", "x")).await.1, "code"), "target_deleted");
    let rows: Vec<String> = sqlx::query_scalar("SELECT body::text FROM entries")
        .fetch_all(app.engine.store.pool())
        .await
        .unwrap();
    assert!(rows.iter().all(|body| !body.contains("secret")), "also in the database: {rows:?}");
    let all = serde_json::to_string(&bo.reads(&talk).await).unwrap();
    assert!(!all.contains("helo") && !all.contains("secret"), "nothing of it is left: {all}");
}

#[actix_rt::test]
async fn groups_have_an_owner_administrators_and_members() {
    let app = TestApp::start().await;
    let (ann, bo, cy, dee) = (
        Person::new(&app, "ann").await,
        Person::new(&app, "bobo").await,
        Person::new(&app, "cyril").await,
        Person::new(&app, "dee").await,
    );
    let talk = ann.gathers(&[&bo, &cy], "us").await;
    let member = |person: &Person<'_>| format!("/v1/conversations/{talk}/members/{}", person.id());
    let role = |role: &str| Some(json!({ "role": role }));
    // A member brings nobody in; an administrator does, and makes no administrators.
    assert_eq!(text(&bo.asks(Method::PUT, &member(&dee), Some(json!({}))).await.1, "code"), "role_too_low");
    assert_eq!(ann.asks(Method::PUT, &member(&bo), role("admin")).await.0, 204);
    assert_eq!(text(&bo.asks(Method::PUT, &member(&dee), role("admin")).await.1, "code"), "role_too_low");
    ann.says(&talk, "before").await;
    assert_eq!(bo.asks(Method::PUT, &member(&dee), Some(json!({}))).await.0, 204);
    assert_eq!(
        bo.asks(Method::PUT, &member(&dee), Some(json!({}))).await.0,
        204,
        "once more changes nothing"
    );
    let line = dee.inbox(&talk).await.expect("in the inbox");
    assert_eq!(line["unread"], 1, "what tells of her coming is the first she has not read: {line}");
    // Titles are for administrators.
    let at = format!("/v1/conversations/{talk}");
    assert_eq!(
        text(&cy.asks(Method::PATCH, &at, Some(json!({ "title": "x" }))).await.1, "code"),
        "role_too_low"
    );
    assert_eq!(
        bo.asks(Method::PATCH, &at, Some(json!({ "title": "all of us" }))).await.1["title"],
        "all of us"
    );
    // Nobody sends out who stands above them.
    assert_eq!(text(&bo.asks(Method::DELETE, &member(&ann), None).await.1, "code"), "role_too_low");
    assert_eq!(bo.asks(Method::DELETE, &member(&cy), None).await.0, 204);
    assert_eq!(text(&cy.sends(&talk, "m", json!({ "text": "still here?" })).await.1, "code"), "not_a_member");
    assert_eq!(cy.inbox(&talk).await, None);
    // The owner goes; the administrator inherits.
    assert_eq!(ann.asks(Method::DELETE, &member(&ann), None).await.0, 204);
    assert_eq!(bo.gets(&at).await["role"], "owner");
    let kinds: Vec<(String, Value)> = bo
        .reads(&talk)
        .await
        .iter()
        .map(|entry| (text(entry, "kind"), entry["body"]["action"].clone()))
        .collect();
    let expected = [
        ("member", json!("created")),
        ("member", json!("role")),
        ("message", Value::Null),
        ("member", json!("added")),
        ("title", Value::Null),
        ("member", json!("removed")),
        ("member", json!("left")),
    ];
    assert_eq!(kinds, expected.map(|(kind, action)| (kind.to_owned(), action)));
}

#[actix_rt::test]
async fn a_block_holds_both_ways_until_it_is_taken_back() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let talk = ann.writes_to(&bo).await;
    ann.says(&talk, "hello").await;
    let block = format!("/v1/users/{}/block", ann.id());
    assert_eq!(bo.asks(Method::PUT, &block, None).await.0, 204);
    for one in [&ann, &bo] {
        let (status, problem) = one.sends(&talk, "m2", json!({ "text": "hello?" })).await;
        assert_eq!((status.as_u16(), text(&problem, "code")), (403, "unreachable".to_owned()));
        assert_eq!(one.inbox(&talk).await, None);
    }
    let group = json!({ "kind": "group", "members": [bo.id()] });
    assert_eq!(
        text(&ann.asks(Method::POST, "/v1/conversations", Some(group)).await.1, "code"),
        "unreachable"
    );
    assert_eq!(bo.asks(Method::DELETE, &block, None).await.0, 204);
    ann.says(&talk, "hello again").await;
    bo.has_read_in_order(&talk, &["hello", "hello again"]).await;
}

#[actix_rt::test]
async fn a_place_is_shown_to_whom_its_sender_chose_and_not_longer() {
    let app = TestApp::start().await;
    let (ann, bo, cy) =
        (Person::new(&app, "ann").await, Person::new(&app, "bobo").await, Person::new(&app, "cyril").await);
    let talk = ann.gathers(&[&bo, &cy], "us").await;
    let until = time::OffsetDateTime::now_utc() + time::Duration::hours(1);
    let until = until.format(&time::format_description::well_known::Rfc3339).unwrap();
    let place = json!({
        "latitude": 52.52, "longitude": 13.4, "scope": "members", "members": [bo.id()], "until": until
    });
    let (status, sent) = ann.sends(&talk, "here", json!({ "location": place })).await;
    assert_eq!(status, 201, "{sent}");
    let seen = |entries: Vec<Value>| {
        entries.into_iter().find(|entry| entry["seq"] == sent["seq"]).unwrap()["body"].clone()
    };
    assert_eq!(seen(bo.reads(&talk).await)["location"]["latitude"], 52.52);
    assert_eq!(seen(cy.reads(&talk).await), json!({ "hidden": true }));
    assert_eq!(cy.inbox(&talk).await.unwrap()["last_entry"]["body"], json!({ "hidden": true }));
    let answer = json!({ "text": "where?", "reply_to": sent["seq"] });
    assert_eq!(text(&cy.sends(&talk, "r", answer.clone()).await.1, "code"), "no_such_target");
    assert_eq!(bo.sends(&talk, "r", answer).await.0, 201);
    // The hour passes.
    let later = time::OffsetDateTime::now_utc() + time::Duration::hours(2);
    assert_eq!(app.engine.store.sweep_entries(later, 100).await.unwrap(), 1);
    assert_eq!(seen(bo.reads(&talk).await)["location"], json!({ "ended": true }));
}

#[actix_rt::test]
async fn what_cannot_be_is_refused_by_field() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let talk = ann.writes_to(&bo).await;
    let nobody = nova_actors::id::UserId::generate().to_string();
    for (body, code) in [
        (json!({ "kind": "direct", "members": [ann.id()] }), "invalid_fields"),
        (json!({ "kind": "direct", "members": [] }), "invalid_fields"),
        (json!({ "kind": "direct", "members": [nobody] }), "no_such_user"),
        (json!({ "kind": "group", "members": [nobody] }), "no_such_user"),
        (json!({ "kind": "group", "members": [bo.id()], "title": " " }), "invalid_fields"),
        (json!({ "kind": "live", "members": [bo.id()] }), "invalid_fields"),
    ] {
        let (status, problem) = ann.asks(Method::POST, "/v1/conversations", Some(body.clone())).await;
        assert_eq!((status.as_u16(), text(&problem, "code").as_str()), (422, code), "{body}");
    }
    for body in
        [json!({}), json!({ "text": "" }), json!({ "text": "a\u{0}b" }), json!({ "text": "x", "colour": 1 })]
    {
        let (status, problem) = ann.sends(&talk, "m", body.clone()).await;
        assert_eq!(
            (status.as_u16(), text(&problem, "code").as_str()),
            (422, "invalid_fields"),
            "{body}: {problem}"
        );
    }
    let (status, problem) =
        ann.asks(Method::GET, &format!("/v1/conversations/{talk}/entries?after=1&before=3"), None).await;
    assert_eq!((status.as_u16(), text(&problem, "code").as_str()), (400, "invalid_query"));
    assert_eq!(ann.reads(&talk).await, Vec::<Value>::new(), "a refusal takes no number");
}

#[actix_rt::test]
async fn the_inbox_goes_page_by_page_with_the_latest_first() {
    let app = TestApp::start().await;
    let ann = Person::new(&app, "ann").await;
    let mut groups = Vec::new();
    for number in 0..5 {
        groups.push(ann.gathers(&[], &format!("group {number}")).await);
    }
    ann.says(&groups[1], "the latest").await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = ann.gets(&format!("/v1/conversations?limit=2{cursor}")).await;
        seen.extend(page["items"].as_array().unwrap().iter().map(|line| text(line, "id")));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, [1, 4, 3, 2, 0].map(|number: usize| groups[number].clone()));
}
