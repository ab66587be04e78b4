//! Everything that happens is told: what is said and read, who comes and goes, what moderators decide.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use nova::conversations::draft::Draft;
use nova::events::schema::{MessagesSent, ReceiptsMoved, SentRange};
use nova::events::{Event, Logged, Topic, id, sequencer};
use nova::journal::{Journal, JournalConfig};
use nova::store::Store;
use nova::telemetry::Metrics;
use nova_actors::conversation::NewEntry;
use nova_actors::id::{ConversationId, UserId};
use nova_actors::port::MessageLog as _;
use reqwest::Method;
use serde_json::json;
use sqlx::{Connection as _, Row as _};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::accounts::PASSWORD;
use crate::app::TestApp;
use crate::chat_log::{direct, message};
use crate::chat_people::Person;
use crate::events::{beside, log};
use crate::{services, social};

fn sent(event: &Logged) -> MessagesSent {
    match event.event() {
        Ok(Some(Event::MessagesSent(sent))) => sent,
        other => panic!("{other:?}"),
    }
}

#[actix_rt::test]
async fn the_database_and_the_engine_give_a_key_the_same_part() {
    let database = services::database().await;
    let store = database.store().await;
    let keys: Vec<Uuid> = (0..500).map(|_| Uuid::now_v7()).chain([Uuid::nil(), Uuid::max()]).collect();
    let rows = sqlx::query(
        "SELECT event_part(k, 3::smallint) AS three, event_part(k, 6::smallint) AS six, event_part(k, 2::smallint) AS two FROM unnest($1::uuid[]) WITH ORDINALITY AS i (k, nth) ORDER BY nth",
    );
    let rows = rows.bind(&keys).fetch_all(store.pool()).await.unwrap();
    for (key, row) in keys.iter().zip(rows) {
        let parts = [Topic::Messaging, Topic::Content, Topic::Notification].map(|topic| topic.part_of(*key));
        let given = ["three", "six", "two"].map(|column| row.get::<i16, _>(column));
        assert_eq!(parts, given, "{key}");
    }
    for number in [0_i64, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, (1 << 35) - 1] {
        let written = sqlx::query_scalar("SELECT pb_varint5($1)").bind(number);
        let bytes: Vec<u8> = written.fetch_one(store.pool()).await.unwrap();
        let read = prost::encoding::decode_varint(&mut &bytes[..]).unwrap();
        assert_eq!((read, bytes.len()), (number.unsigned_abs(), 5));
    }
    let made: Uuid = sqlx::query_scalar("SELECT event_id_at(now())").fetch_one(store.pool()).await.unwrap();
    assert_eq!(made.get_version_num(), 7, "{made}");
}

/// Reads the whole log of a store nobody sequences, in order of places.
async fn sequenced(store: &Store) -> Vec<Logged> {
    let mut connection = store.connection().await.unwrap();
    while sequencer::sequence(&mut connection).await.unwrap() > 0 {}
    let _closed = connection.close().await;
    log(store).await
}

#[actix_rt::test]
async fn what_two_nodes_commit_is_told_once_in_the_order_of_its_numbers() {
    const EACH: usize = 30;
    let database = services::database().await;
    let store = database.store().await;
    let mut talks = Vec::new();
    for _ in 0..12 {
        talks.push(direct(&store).await);
    }
    let start = || Journal::start(store.clone(), JournalConfig::default(), Metrics::new(), Arc::new(()));
    let nodes = [start(), start()];
    let mut sends = Vec::new();
    for number in 0..EACH {
        for (node, journal) in nodes.iter().enumerate() {
            for (talk, ann, bo) in &talks {
                let sender = if node == 0 { *ann } else { *bo };
                sends.push(journal.append(message(*talk, sender, &format!("{node}-{number}"), "hello")));
            }
        }
    }
    for answer in join_all(sends).await {
        answer.unwrap();
    }
    // A retry is told to nobody.
    let (talk, ann, _) = talks[0];
    assert!(nodes[1].append(message(talk, ann, "0-0", "hello")).await.unwrap().duplicate);
    for journal in &nodes {
        journal.close().await;
    }
    let events = sequenced(&store).await;
    let mut tops: BTreeMap<Uuid, u64> = BTreeMap::new();
    let mut ranges = Vec::new();
    for event in events.iter().filter(|event| event.topic == Topic::Messaging) {
        for range in sent(event).ranges {
            let conversation = id(&range.conversation_id);
            assert_eq!(Topic::Messaging.part_of(conversation), event.part);
            let top = tops.entry(conversation).or_default();
            assert_eq!(range.first_seq, *top + 1, "nothing is left out, nothing comes twice");
            *top = range.last_seq;
            ranges.push(range);
        }
    }
    let all = 2 * EACH as u64;
    assert_eq!(tops.into_values().collect::<Vec<_>>(), vec![all; talks.len()]);
    let told = events.len() as u64;
    assert!(told < all * 12 / 3, "{told} rows for {} messages", all * 12);
    let messages = store.sent(&ranges).await.unwrap();
    assert_eq!(messages.len() as u64, all * 12);
    assert!(messages.iter().all(|message| message.body.contains("hello") && message.kind == "message"));
}

#[actix_rt::test]
async fn what_is_rolled_back_or_deleted_is_not_told() {
    let database = services::database().await;
    let store = database.store().await;
    let (talk, ann, _) = direct(&store).await;
    let told = |entry: NewEntry| async { store.append_entries(&[entry]).await.unwrap() };
    told(message(talk, ann, "m1", "a secret")).await;
    let stranger = UserId::generate();
    told(message(talk, stranger, "m1", "let me in")).await;
    told(message(ConversationId::generate(), ann, "m1", "nowhere")).await;
    let delete = Draft::Delete { target: 1 }.entry(talk, ann, "d1", OffsetDateTime::now_utc()).unwrap();
    told(delete).await;
    let events = sequenced(&store).await;
    let ranges: Vec<SentRange> = events.iter().flat_map(|event| sent(event).ranges).collect();
    let places: Vec<_> = ranges.iter().map(|range| (range.epoch, range.first_seq, range.last_seq)).collect();
    assert_eq!(places, [(1, 1, 1), (1, 2, 2)]);
    let payloads: Vec<_> = events.iter().flat_map(|event| event.payload.clone()).collect();
    assert!(!String::from_utf8_lossy(&payloads).contains("secret"), "the log says where, not what");
    let messages = store.sent(&ranges).await.unwrap();
    let bodies: Vec<_> =
        messages.iter().map(|message| (message.kind.as_str(), message.body.as_str())).collect();
    assert_eq!(bodies, [("message", r#"{"deleted": 2}"#), ("delete", r#"{"target": 1}"#)]);
}

#[actix_rt::test]
async fn receipts_are_told_forward_only() {
    let app = TestApp::start().await;
    let (ann, bo) = (Person::new(&app, "ann").await, Person::new(&app, "bobo").await);
    let talk = ann.writes_to(&bo).await;
    for _ in 0..5 {
        ann.says(&talk, "hello").await;
    }
    let path = format!("/v1/conversations/{talk}/read");
    for seq in [2, 1, 4, 4, 99] {
        assert_eq!(bo.asks(Method::PUT, &path, Some(json!({ "seq": seq }))).await.0, 200);
    }
    let store = beside(&app).await;
    let device: Uuid = sqlx::query_scalar(
        "SELECT d.id FROM devices d JOIN users u ON u.id = d.user_id WHERE u.username = 'bobo'",
    )
    .fetch_one(store.pool())
    .await
    .unwrap();
    let of: ConversationId = talk.parse().unwrap();
    for seq in [3, 2, 5] {
        store.acknowledge(&[(device.into(), of, seq)]).await.unwrap();
    }
    let all = log(&store).await;
    let receipts = all.iter().filter(|event| event.topic == Topic::RealtimeChat).flat_map(|event| {
        assert_eq!(event.key, of.as_uuid());
        let Ok(Some(Event::ReceiptsMoved(ReceiptsMoved { receipts }))) = event.event() else {
            panic!("{event:?}")
        };
        receipts
    });
    let mut moved = Vec::new();
    for receipt in receipts {
        assert_eq!(
            (id(&receipt.conversation_id), id(&receipt.user_id)),
            (of.as_uuid(), bo.id().parse::<UserId>().unwrap().as_uuid())
        );
        assert!(receipt.at_ms > 1_700_000_000_000, "{receipt:?}");
        moved.push((receipt.delivered, receipt.read));
    }
    assert_eq!(moved, [(0, 2), (0, 4), (0, 5), (3, 5), (5, 5)], "what moves nothing is not told");
}

#[actix_rt::test]
async fn accounts_and_what_moderators_decide_are_told() {
    let app = TestApp::start().await;
    let (ann, bo) = (social::Person::new(&app, "ann").await, social::Person::new(&app, "bobo").await);
    assert_eq!(bo.asks(Method::PATCH, "/v1/me", Some(json!({ "display_name": "Bo" }))).await.0, 200);
    bo.puts("block", &ann).await;
    bo.takes_back("block", &ann).await;
    let post_id = ann.posts("one").await;
    let said = json!({ "text": "rude" });
    let comment = bo.asks(Method::POST, &format!("/v1/posts/{post_id}/comments"), Some(said)).await.1;
    let path = format!("/v1/comments/{}", comment["id"].as_str().unwrap());
    assert_eq!(ann.asks(Method::DELETE, &path, None).await.0, 204);
    let stream = ann.asks(Method::POST, "/v1/streams", Some(json!({ "title": "mine" }))).await.1;
    let stream = stream["stream"]["id"].as_str().expect("an id").to_owned();
    let seat = format!("/v1/streams/{stream}/chat/timeouts/{}", bo.id());
    let (status, body) = ann.asks(Method::PUT, &seat, Some(json!({ "seconds": 60 }))).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(ann.asks(Method::DELETE, &seat, None).await.0, 204);
    let user: UserId = bo.id().parse().unwrap();
    app.engine.identity.suspend(user, true).await.unwrap();
    app.engine.identity.suspend(user, false).await.unwrap();
    let proof = Some(json!({ "password": PASSWORD }));
    assert_eq!(ann.asks(Method::DELETE, "/v1/me", proof).await.0, 204);

    let store = beside(&app).await;
    let all = log(&store).await;
    let of = |key: Uuid, topic: Topic| {
        let events = all.iter().filter(|event| event.key == key && event.topic == topic);
        events.map(|event| (event.kind.as_str(), event.version)).collect::<Vec<_>>()
    };
    let (ann_id, bo_id) = (ann.id().parse::<UserId>().unwrap().as_uuid(), user.as_uuid());
    assert_eq!(of(ann_id, Topic::User), [("UserRegistered", 1), ("UserDeleted", 2)]);
    let own = [("UserRegistered", 1), ("UserProfileUpdated", 2), ("UserBlocked", 0), ("UserBlocked", 0)];
    assert_eq!(of(bo_id, Topic::User), own);
    assert_eq!(of(ann_id, Topic::TrustSafety), [("AccountBlocked", 0), ("AccountBlocked", 0)]);
    let judged: Vec<_> = all
        .iter()
        .filter(|event| event.topic == Topic::TrustSafety && event.key == bo_id)
        .map(|event| match event.event() {
            Ok(Some(Event::AccountJudged(judged))) => {
                (judged.verdict, judged.scope.starts_with("conv_"), judged.until_ms > 0)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let wanted = [
        ("timed_out", true, true),
        ("let_in", true, false),
        ("suspended", false, false),
        ("restored", false, false),
    ];
    assert_eq!(judged, wanted.map(|(verdict, scope, until)| (verdict.to_owned(), scope, until)));
    let removed = all.iter().find(|event| event.kind == "ContentJudged").expect("told").event();
    let Ok(Some(Event::ContentJudged(removed))) = removed else { panic!("{removed:?}") };
    assert_eq!(
        (removed.subject.as_str(), id(&removed.moderator_id)),
        (comment["id"].as_str().unwrap(), ann_id)
    );
    let profile = all.iter().find(|event| event.kind == "UserProfileUpdated").expect("told").event();
    let Ok(Some(Event::UserProfileUpdated(profile))) = profile else { panic!("{profile:?}") };
    assert_eq!((profile.username, profile.display_name.as_deref()), (None, Some("Bo")));
}

#[actix_rt::test]
async fn who_is_to_hear_of_something_is_told_once() {
    let app = TestApp::start().await;
    let (ann, bo, cy) = (
        social::Person::new(&app, "ann").await,
        social::Person::new(&app, "bobo").await,
        social::Person::new(&app, "cyd").await,
    );
    bo.puts("follow", &ann).await;
    let post = ann.posts("one @bobo").await;
    let secret = ann.posts_for("two @bobo", "private").await;
    for _ in 0..2 {
        assert_eq!(bo.asks(Method::PUT, &format!("/v1/posts/{post}/like"), None).await.0, 200);
    }
    assert_eq!(ann.asks(Method::PUT, &format!("/v1/posts/{post}/like"), None).await.0, 200);
    ann.puts("mute", &cy).await;
    let said = json!({ "text": "hello @bobo" });
    assert_eq!(cy.asks(Method::POST, &format!("/v1/posts/{post}/comments"), Some(said)).await.0, 201);
    let store = beside(&app).await;
    let heard = async || {
        let all = log(&store).await;
        let told =
            all.iter().filter(|event| event.topic == Topic::Notification).map(|event| match event.event() {
                Ok(Some(Event::NotificationCreated(told))) => {
                    (event.id, id(&told.recipient_id), id(&told.sender_id), told.kind, told.subject)
                }
                other => panic!("{other:?}"),
            });
        told.collect::<Vec<_>>()
    };
    let told = crate::app::eventually("seven notifications are told", async || {
        let told = heard().await;
        (told.len() >= 7).then_some(told)
    })
    .await;
    let uuid = |person: &social::Person<'_>| person.id().parse::<UserId>().unwrap().as_uuid();
    let mut brief: Vec<_> = told.iter().map(|(_, to, from, kind, _)| (*to, *from, kind.as_str())).collect();
    brief.sort_unstable();
    let mut wanted = vec![
        (uuid(&ann), uuid(&bo), "follow"),
        (uuid(&ann), uuid(&bo), "like"),
        (uuid(&bo), uuid(&ann), "mention"),
        (uuid(&bo), uuid(&cy), "mention"),
        (uuid(&ann), Uuid::nil(), "welcome"),
        (uuid(&bo), Uuid::nil(), "welcome"),
        (uuid(&cy), Uuid::nil(), "welcome"),
    ];
    wanted.sort_unstable();
    assert_eq!(brief, wanted, "nobody hears of themself, of whom they muted, or of what they may not read");
    assert!(told.iter().all(|(.., subject)| *subject != secret));
    // A replay tells the same under the same ids.
    store.replay_group("notices", None, nova::store::events::ReplayFrom::Place(1)).await.unwrap();
    let again = crate::app::eventually("they are told again", async || {
        let told = heard().await;
        (told.len() == 14).then_some(told)
    })
    .await;
    let ids: std::collections::BTreeSet<_> = again.iter().map(|(id, ..)| id.as_uuid()).collect();
    assert_eq!(ids.len(), 7);
}

#[actix_rt::test]
async fn a_post_that_is_in_heads_is_told_with_how_many() {
    let app = TestApp::start().await;
    let (ann, bo, cy) = (
        social::Person::new(&app, "ann").await,
        social::Person::new(&app, "bobo").await,
        social::Person::new(&app, "cyd").await,
    );
    for reader in [&bo, &cy] {
        reader.puts("follow", &ann).await;
    }
    let store = beside(&app).await;
    log(&store).await;
    // A head is dropped when its node hears of a follow, so that is waited for.
    let followed = OffsetDateTime::now_utc();
    crate::app::eventually("heads have heard of the follows", async || {
        let page = bo.reads("/v1/feeds/home?mode=latest").await;
        let fresh_as_of = page["ranking"]["fresh_as_of"].as_str().expect("a time");
        let fresh_as_of = OffsetDateTime::parse(fresh_as_of, &Rfc3339).expect("a time");
        (page["ranking"]["level"] == "newest" && fresh_as_of > followed).then_some(())
    })
    .await;
    for reader in [&bo, &cy] {
        assert!(reader.home().await.is_empty());
    }
    let post = ann.posts("for two").await;
    let told = crate::app::eventually("it is told", async || {
        let all = log(&store).await;
        let told = all.iter().filter_map(|event| match event.event() {
            Ok(Some(Event::FeedUpdated(told))) => Some((event.key, id(&told.post_id), told.readers)),
            _ => None,
        });
        Some(told.collect::<Vec<_>>()).filter(|told| !told.is_empty())
    })
    .await;
    let post = post.parse::<nova_actors::id::PostId>().unwrap().as_uuid();
    assert_eq!(told, [(post, post, 2)]);
}
