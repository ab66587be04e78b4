//! What readers were shown and did, for `nova rank-train`.

use std::collections::{HashMap, HashSet};

use nova_actors::id::{PostId, UserId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::events::{Event, Topic, id};
use crate::feeds::features::Features;
use crate::feeds::training::{COUNTS_FOR, Shown};

/// Impressions whose features are asked for at once.
const ROWS: usize = 2_000;

impl Store {
    /// The latest impressions in the event log, up to so many, with what was known of each post when it was shown, and what it was worth.
    pub async fn shown_posts(&self, most: i64) -> Result<Vec<Shown>, StoreError> {
        let rows = sqlx::query!(
            "SELECT payload FROM event_log WHERE topic = $1 AND kind = 'BehaviourObserved' ORDER BY logged_at DESC LIMIT $2",
            Topic::Analytics.number(),
            most
        )
        .fetch_all(self.pool())
        .await?;
        let mut impressions = Vec::new();
        let mut opened: HashMap<(Uuid, Uuid), Vec<i64>> = HashMap::new();
        let mut hidden: HashSet<(Uuid, Uuid)> = HashSet::new();
        for row in rows {
            let Ok(Some(Event::BehaviourObserved(seen))) = Event::decode("BehaviourObserved", &row.payload)
            else {
                continue;
            };
            let (reader, post) = (id(&seen.user_id), id(&seen.post_id));
            match seen.action.as_str() {
                "impression" => impressions.push((reader, post, seen.at_ms)),
                "open" => opened.entry((reader, post)).or_default().push(seen.at_ms),
                "hide" => {
                    hidden.insert((reader, post));
                }
                // A like is a row of its own, which cannot be told without being true.
                _ => {}
            }
        }
        let mut shown = Vec::new();
        for some in impressions.chunks(ROWS) {
            let at = |ms: i64| {
                OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
                    .unwrap_or(OffsetDateTime::UNIX_EPOCH)
            };
            let readers: Vec<Uuid> = some.iter().map(|(reader, _, _)| *reader).collect();
            let posts: Vec<Uuid> = some.iter().map(|(_, post, _)| *post).collect();
            let times: Vec<OffsetDateTime> = some.iter().map(|(_, _, ms)| at(*ms)).collect();
            let until: Vec<OffsetDateTime> = times.iter().map(|at| *at + COUNTS_FOR).collect();
            let rows = sqlx::query!(
                r#"SELECT shown.reader AS "reader!", shown.at AS "at!", p.id, p.author, p.created_at,
                          (SELECT count(*) FROM post_likes l WHERE l.post_id = p.id AND l.created_at < shown.at) AS "likes!",
                          (SELECT count(*) FROM comments c WHERE c.post_id = p.id AND c.created_at < shown.at
                             AND (c.deleted_at IS NULL OR c.deleted_at >= shown.at)) AS "comments!",
                          (SELECT count(*) FROM (
                               SELECT l.post_id FROM post_likes l WHERE l.user_id = shown.reader AND l.created_at < shown.at
                               ORDER BY l.created_at DESC LIMIT 200
                           ) latest JOIN posts liked ON liked.id = latest.post_id WHERE liked.author = p.author) AS "affinity!",
                          EXISTS (SELECT FROM follows f WHERE f.follower = p.author AND f.followee = shown.reader
                                    AND f.created_at < shown.at) AS "is_mutual!",
                          EXISTS (SELECT FROM post_likes l WHERE l.post_id = p.id AND l.user_id = shown.reader
                                    AND l.created_at >= shown.at AND l.created_at < shown.until) AS "is_liked!",
                          EXISTS (SELECT FROM comments c WHERE c.post_id = p.id AND c.author = shown.reader
                                    AND c.created_at >= shown.at AND c.created_at < shown.until) AS "is_commented!"
                   FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[]) AS shown (reader, post, at, until)
                   JOIN posts p ON p.id = shown.post AND p.author <> shown.reader"#,
                &readers,
                &posts,
                &times,
                &until
            )
            .fetch_all(self.pool())
            .await?;
            for row in rows {
                let key = (row.reader, row.id);
                let since = crate::events::millis(row.at);
                let until = crate::events::millis(row.at + COUNTS_FOR);
                let is_opened =
                    opened.get(&key).is_some_and(|times| times.iter().any(|at| (since..until).contains(at)));
                let worth = match (hidden.contains(&key), row.is_commented, row.is_liked, is_opened) {
                    (true, ..) => 0,
                    (_, true, ..) => 3,
                    (_, _, true, _) => 2,
                    (.., is_opened) => u8::from(is_opened),
                };
                shown.push(Shown {
                    reader: UserId::from(row.reader),
                    at: row.at,
                    features: Features {
                        post: PostId::from(row.id),
                        author: UserId::from(row.author),
                        created_at: row.created_at,
                        likes: row.likes,
                        comments: row.comments,
                        affinity: row.affinity,
                        is_mutual: row.is_mutual,
                    },
                    worth,
                });
            }
        }
        Ok(shown)
    }
}
