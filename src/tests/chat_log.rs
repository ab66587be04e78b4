//! The log of conversations under the real PostgreSQL: the contract of the port, the journal's batches, the sweep.

use std::sync::{Arc, Mutex};

use nova::conversations::draft::{Draft, Message};
use nova::journal::{Committed, Journal, JournalConfig};
use nova::store::Store;
use nova::store::entries::Which;
use nova::telemetry::Metrics;
use nova_actors::conversation::{Appended, Entry, NewEntry, Seq, Top};
use nova_actors::id::{ConversationId, UserId};
use nova_actors::port::MessageLog;
use time::OffsetDateTime;

use crate::services;

/// Everything that was told, in order.
#[derive(Default)]
struct Told(Mutex<Vec<(ConversationId, Seq)>>);

impl Committed for Told {
    fn committed(&self, entries: Vec<Arc<Entry>>) {
        self.0.lock().unwrap().extend(entries.iter().map(|entry| (entry.conversation, entry.seq)));
    }

    fn reached(&self, _: ConversationId, _: Top) {}

    fn joined(&self, _: &[UserId]) {}

    fn left(&self, _: ConversationId, _: UserId, _: Seq) {}

    fn read(&self, _: ConversationId, _: UserId, _: Seq, _: Arc<[UserId]>) {}

    fn blocked(&self, _: UserId, _: UserId) {}
}

/// A user who never logs in.
async fn user(store: &Store) -> UserId {
    let id = UserId::generate();
    sqlx::query(
        "INSERT INTO users (id, username, username_fold, display_name, created_at, updated_at) VALUES ($1, $2, $2, $2, now(), now())",
    )
    .bind(id.as_uuid())
    .bind(id.to_string())
    .execute(store.pool())
    .await
    .unwrap();
    id
}

pub async fn direct(store: &Store) -> (ConversationId, UserId, UserId) {
    let (ann, bo) = (user(store).await, user(store).await);
    let made =
        store.direct_conversation(ConversationId::generate(), ann, bo, OffsetDateTime::now_utc()).await;
    (made.unwrap().0, ann, bo)
}

pub fn message(conversation: ConversationId, sender: UserId, id: &str, text: &str) -> NewEntry {
    let message = Message { text: Some(text.to_owned()), ..Message::default() };
    Draft::Message(message).entry(conversation, sender, id, OffsetDateTime::now_utc()).unwrap()
}

#[actix_rt::test]
async fn a_batch_holds_the_same_key_twice_and_two_edits_of_one_message() {
    let database = services::database().await;
    let store = database.store().await;
    let (talk, ann, _) = direct(&store).await;
    let metrics = Metrics::new();
    let config = JournalConfig { lanes: 1, ..JournalConfig::default() };
    let journal = Journal::start(store.clone(), config, metrics, Arc::new(()));
    let first = journal.append(message(talk, ann, "m1", "one")).await.unwrap();
    let edit = |id: &str, text: &str| {
        Draft::Edit { target: first.seq, text: text.to_owned() }
            .entry(talk, ann, id, OffsetDateTime::now_utc())
            .unwrap()
    };
    // All of them wait while the first batch is under way, so they come into one.
    let answers = tokio::join!(
        journal.append(message(talk, ann, "m2", "two")),
        journal.append(message(talk, ann, "m2", "two")),
        journal.append(message(talk, ann, "m2", "other")),
        journal.append(edit("e1", "first")),
        journal.append(edit("e2", "second")),
        journal.append(message(talk, ann, "m3", "three")),
    );
    let one = answers.0.unwrap();
    let again = answers.1.unwrap();
    assert_eq!((again.seq, again.duplicate), (one.seq, true));
    assert_eq!(
        answers.2.unwrap_err(),
        nova_actors::conversation::Refusal::IdempotencyMismatch.into(),
        "the same id with other content"
    );
    let (e1, e2) = (answers.3.unwrap().seq, answers.4.unwrap().seq);
    assert!(e1 < e2, "{e1} {e2}");
    answers.5.unwrap();
    let range = store.entry_range(talk, 0, 100).await.unwrap().unwrap();
    assert_eq!(range.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(range.entries[0].body.contains("second"), "{}", range.entries[0].body);
    journal.close().await;
}

#[actix_rt::test]
async fn two_nodes_append_to_the_same_conversations_and_numbers_have_no_hole() {
    const CONVERSATIONS: usize = 10;
    const EACH: usize = 40;
    let database = services::database().await;
    let store = database.store().await;
    let mut talks = Vec::new();
    for _ in 0..CONVERSATIONS {
        talks.push(direct(&store).await);
    }
    let told = [Arc::new(Told::default()), Arc::new(Told::default())];
    let nodes: Vec<Journal> = told
        .iter()
        .map(|told| Journal::start(store.clone(), JournalConfig::default(), Metrics::new(), told.clone()))
        .collect();
    let mut sends = Vec::new();
    for number in 0..EACH {
        for (node, journal) in nodes.iter().enumerate() {
            for (talk, ann, bo) in &talks {
                let sender = if node == 0 { *ann } else { *bo };
                let entry = message(*talk, sender, &format!("{node}-{number}"), "hello");
                sends.push(async move { (*talk, journal.append(entry).await.unwrap()) });
            }
        }
    }
    let answers: Vec<(ConversationId, Appended)> = futures_util::future::join_all(sends).await;
    for (talk, _, _) in &talks {
        let mut seqs: Vec<Seq> =
            answers.iter().filter(|(of, _)| of == talk).map(|(_, appended)| appended.seq).collect();
        seqs.sort_unstable();
        assert_eq!(seqs, (1..=2 * EACH as u64).collect::<Vec<_>>());
        for told in &told {
            let told = told.0.lock().unwrap();
            let of: Vec<Seq> = told.iter().filter(|(of, _)| of == talk).map(|(_, seq)| *seq).collect();
            assert_eq!(of.len(), EACH);
            assert!(of.is_sorted(), "told in the order of the numbers: {of:?}");
        }
        let range = store.entry_range(*talk, 0, 500).await.unwrap().unwrap();
        assert!(
            range.entries.is_sorted_by(|one, next| one.at <= next.at),
            "time does not run against the numbers"
        );
    }
    for node in &nodes {
        node.close().await;
    }
    assert!(nodes[0].append(message(talks[0].0, talks[0].1, "late", "x")).await.is_err(), "closed is closed");
}

#[actix_rt::test]
async fn a_full_journal_says_so_and_loses_nothing_it_took() {
    let database = services::database().await;
    let store = database.store().await;
    let (talk, ann, _) = direct(&store).await;
    let config = JournalConfig { lanes: 1, waiting_len_max: 4, batch_len_max: 2, ..JournalConfig::default() };
    let metrics = Metrics::new();
    let journal = Journal::start(store.clone(), config, metrics.clone(), Arc::new(()));
    let sends = (0..50).map(|number| journal.append(message(talk, ann, &format!("m{number}"), "x")));
    let answers = futures_util::future::join_all(sends).await;
    let taken = answers.iter().filter(|answer| answer.is_ok()).count() as u64;
    let full = answers
        .iter()
        .filter(|answer| matches!(answer, Err(nova_actors::conversation::AppendError::Overloaded { .. })));
    assert_eq!(full.count() as u64 + taken, 50, "{answers:?}");
    assert!((1..50).contains(&taken), "{taken}");
    assert_eq!(metrics.journal_overloaded.get(), 50 - taken);
    assert_eq!(store.tops(&[talk]).await.unwrap()[0].1.seq, taken);
    journal.close().await;
}

#[actix_rt::test]
async fn a_connection_lost_in_the_middle_neither_loses_nor_doubles() {
    let database = services::database().await;
    let store = database.store().await;
    let (talk, ann, _) = direct(&store).await;
    let metrics = Metrics::new();
    let journal = Journal::start(store.clone(), JournalConfig::default(), metrics.clone(), Arc::new(()));
    let sends = async {
        let sends = (0..400).map(|number| journal.append(message(talk, ann, &format!("m{number}"), "x")));
        futures_util::future::join_all(sends).await
    };
    let other = store.clone();
    let cuts = async {
        for _ in 0..5 {
            // Whoever runs an append is cut off.
            sqlx::query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%append_entries%'",
            )
            .execute(other.pool())
            .await
            .unwrap();
            tokio::task::yield_now().await;
        }
    };
    let (answers, ()) = tokio::join!(sends, cuts);
    let mut seqs: Vec<Seq> = answers.into_iter().map(|answer| answer.unwrap().seq).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=400).collect::<Vec<_>>());
    assert_eq!(store.tops(&[talk]).await.unwrap()[0].1.seq, 400);
    journal.close().await;
}

#[actix_rt::test]
async fn retention_takes_from_the_front_and_leaves_no_hole_in_what_is_told() {
    let database = services::database().await;
    let store = database.store().await;
    let (talk, ann, _) = direct(&store).await;
    let journal = Journal::start(store.clone(), JournalConfig::default(), Metrics::new(), Arc::new(()));
    for number in 0..10 {
        journal.append(message(talk, ann, &format!("m{number}"), "x")).await.unwrap();
    }
    sqlx::query("UPDATE conversations SET retention_s = 3600").execute(store.pool()).await.unwrap();
    sqlx::query("UPDATE entries SET at = at - interval '2 hours' WHERE seq <= 7")
        .execute(store.pool())
        .await
        .unwrap();
    let now = OffsetDateTime::now_utc();
    assert_eq!(store.sweep_entries(now, 5).await.unwrap(), 5, "in bites");
    assert_eq!(store.sweep_entries(now, 5).await.unwrap(), 2);
    assert_eq!(store.sweep_entries(now, 5).await.unwrap(), 0);
    let range = store.entry_range(talk, 0, 100).await.unwrap().unwrap();
    assert_eq!(range.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [8, 9, 10]);
    assert_eq!((range.top.seq, range.removed), (10, 7));
    // A retry finds what it repeats for a week, although it is shown to nobody any more.
    let again = journal.append(message(talk, ann, "m3", "x")).await.unwrap();
    assert_eq!((again.seq, again.duplicate), (4, true));
    let other = journal.append(message(talk, ann, "m3", "y")).await.unwrap_err();
    assert_eq!(other, nova_actors::conversation::Refusal::IdempotencyMismatch.into());
    let answer = Message { text: Some("to what?".to_owned()), reply_to: Some(4), ..Message::default() };
    let answer = Draft::Message(answer).entry(talk, ann, "answer", now).unwrap();
    let refused = journal.append(answer).await.unwrap_err();
    assert_eq!(refused, nova_actors::conversation::Refusal::NoSuchTarget.into());
    let shown = [Which::After(0), Which::Before(u64::MAX)].map(|which| store.entries(talk, which, 100));
    for page in futures_util::future::join_all(shown).await {
        let mut seqs: Vec<Seq> = page.unwrap().iter().map(|entry| entry.seq).collect();
        seqs.sort_unstable();
        assert_eq!(seqs, [8, 9, 10]);
    }
    let kept: Vec<String> = sqlx::query_scalar("SELECT body::text FROM entries WHERE seq <= 7")
        .fetch_all(store.pool())
        .await
        .unwrap();
    assert_eq!(kept, ["{}"; 7], "nothing is left of what was said");
    // After a week the key goes too, and what is as old as that goes at once.
    let later = now + time::Duration::days(8);
    while store.sweep_entries(later, 5).await.unwrap() > 0 {}
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM entries").fetch_one(store.pool()).await.unwrap();
    assert_eq!(rows, 0);
    let anew = journal.append(message(talk, ann, "m3", "x")).await.unwrap();
    assert_eq!((anew.seq, anew.duplicate), (11, false));
    journal.close().await;
}
