//! Feeds straight from PostgreSQL: the truth every cached head is compared with.

use nova_actors::id::{EventId, PostId, UserId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::events::{Told, tell_as};
use super::{Store, StoreError};
use crate::events::{bytes, millis, schema};
use crate::feeds::features::Features;
use crate::feeds::ladder::Level;

/// How long the order of a ranked feed is kept.
const SNAPSHOT_KEPT: time::Duration = time::Duration::minutes(15);

/// A post that is in heads of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedUpdate {
    /// The id it is told under, the same when it is told again.
    pub told_as: Uuid,
    /// Which.
    pub post: PostId,
    /// Whose.
    pub author: UserId,
    /// The version of the post.
    pub version: i64,
    /// In how many heads it is.
    pub readers: usize,
}

impl Store {
    /// Tells `feed-updates` what is in the heads of a node.
    pub async fn tell_feed_updates(&self, all: &[FeedUpdate], now: OffsetDateTime) -> Result<(), StoreError> {
        if all.is_empty() {
            return Ok(());
        }
        let told = |update: &FeedUpdate| {
            let event = schema::FeedUpdated {
                post_id: bytes(update.post),
                author_id: bytes(update.author),
                readers: update.readers as u64,
                pulled: false,
                at_ms: millis(now),
            };
            let told = Told { key: update.post.as_uuid(), version: update.version, event: event.into() };
            (EventId::from_uuid(update.told_as), told)
        };
        let mut tx = self.pool().begin().await?;
        tell_as(&mut tx, now, &all.iter().map(told).collect::<Vec<_>>()).await?;
        self.commit(tx).await?;
        Ok(())
    }

    /// The newest posts of those `reader` follows and has not muted, and the reader's own, below `after`.
    ///
    /// Each of the followed is asked for as many posts as the page has, by the index of their posts: a page is exact, and costs one short
    /// index read for each of them, however much they post.
    pub async fn home_ids(
        &self,
        reader: UserId,
        after: Option<PostId>,
        rows: i64,
    ) -> Result<Vec<PostId>, StoreError> {
        let ids = sqlx::query_scalar!(
            r#"WITH authors AS (
                   SELECT f.followee AS id FROM follows f JOIN users u ON u.id = f.followee
                   WHERE f.follower = $1 AND u.deleted_at IS NULL AND u.suspended_at IS NULL
                     AND NOT EXISTS (SELECT FROM mutes m WHERE m.muter = $1 AND m.muted = f.followee)
                   UNION ALL SELECT $1
               )
               SELECT newest.id AS "id!" FROM authors CROSS JOIN LATERAL (
                   SELECT p.id FROM posts p
                   WHERE p.author = authors.id AND p.deleted_at IS NULL AND (p.visibility <> 'private' OR p.author = $1)
                     AND ($2::uuid IS NULL OR p.id < $2)
                   ORDER BY p.id DESC LIMIT $3
               ) newest
               ORDER BY newest.id DESC LIMIT $3"#,
            reader.as_uuid(),
            after.map(|id| id.as_uuid()),
            rows
        )
        .fetch_all(self.pool())
        .await?;
        Ok(ids.into_iter().map(PostId::from).collect())
    }

    /// Whose posts are in the feed of `reader`: those they follow and have not muted, and they themself.
    pub async fn feed_authors(&self, reader: UserId, rows: i64) -> Result<Vec<UserId>, StoreError> {
        let ids = sqlx::query_scalar!(
            r#"SELECT $1::uuid AS "id!" UNION ALL
               (SELECT f.followee FROM follows f
                WHERE f.follower = $1 AND NOT EXISTS (SELECT FROM mutes m WHERE m.muter = $1 AND m.muted = f.followee) LIMIT $2)"#,
            reader.as_uuid(),
            rows
        )
        .fetch_all(self.pool())
        .await?;
        Ok(ids.into_iter().map(UserId::from).collect())
    }

    /// The newest posts of these authors that may be in the feed of `reader`; whether they may be shown is asked when they are. Authors
    /// who are suspended are among them: they may be let in again while a head is kept.
    pub async fn head_ids(
        &self,
        reader: UserId,
        authors: &[UserId],
        rows: i64,
    ) -> Result<Vec<PostId>, StoreError> {
        let authors: Vec<Uuid> = authors.iter().map(UserId::as_uuid).collect();
        let ids = sqlx::query_scalar!(
            r#"SELECT newest.id AS "id!" FROM unnest($2::uuid[]) AS authors (id) CROSS JOIN LATERAL (
                   SELECT p.id FROM posts p
                   WHERE p.author = authors.id AND p.deleted_at IS NULL AND (p.visibility <> 'private' OR p.author = $1)
                   ORDER BY p.id DESC LIMIT $3
               ) newest
               ORDER BY newest.id DESC LIMIT $3"#,
            reader.as_uuid(),
            &authors,
            rows
        )
        .fetch_all(self.pool())
        .await?;
        Ok(ids.into_iter().map(PostId::from).collect())
    }

    /// Of these posts those whose authors `reader` still follows and has not muted, and their own, in this order.
    pub async fn still_at_home(&self, reader: UserId, posts: &[PostId]) -> Result<Vec<PostId>, StoreError> {
        let ids: Vec<Uuid> = posts.iter().map(PostId::as_uuid).collect();
        let left = sqlx::query_scalar!(
            r#"SELECT p.id FROM unnest($2::uuid[]) WITH ORDINALITY AS wanted (id, nth) JOIN posts p ON p.id = wanted.id
               WHERE p.author = $1 OR (EXISTS (SELECT FROM follows f WHERE f.follower = $1 AND f.followee = p.author)
                 AND NOT EXISTS (SELECT FROM mutes m WHERE m.muter = $1 AND m.muted = p.author))
               ORDER BY wanted.nth"#,
            reader.as_uuid(),
            &ids
        )
        .fetch_all(self.pool())
        .await?;
        Ok(left.into_iter().map(PostId::from).collect())
    }

    /// Public posts of people `reader` does not follow, has not muted and is not one of, the newest first.
    pub async fn discover_ids(
        &self,
        reader: UserId,
        after: Option<PostId>,
        rows: i64,
    ) -> Result<Vec<PostId>, StoreError> {
        let ids = sqlx::query_scalar!(
            "SELECT p.id FROM posts p JOIN users u ON u.id = p.author
             WHERE p.deleted_at IS NULL AND p.visibility = 'public' AND ($2::uuid IS NULL OR p.id < $2) AND p.author <> $1
               AND u.deleted_at IS NULL AND u.suspended_at IS NULL AND NOT is_blocked($1, p.author)
               AND NOT EXISTS (SELECT FROM follows f WHERE f.follower = $1 AND f.followee = p.author)
               AND NOT EXISTS (SELECT FROM mutes m WHERE m.muter = $1 AND m.muted = p.author)
             ORDER BY p.id DESC LIMIT $3",
            reader.as_uuid(),
            after.map(|id| id.as_uuid()),
            rows
        )
        .fetch_all(self.pool())
        .await?;
        Ok(ids.into_iter().map(PostId::from).collect())
    }

    /// What age and engagement need to know of these posts: their counters alone, without asking who reads. `counted` is written out, as in
    /// [`posts_shown`](Store::posts_shown).
    pub async fn post_counters(&self, posts: &[PostId]) -> Result<Vec<Features>, StoreError> {
        let ids: Vec<Uuid> = posts.iter().map(PostId::as_uuid).collect();
        let rows = sqlx::query!(
            r#"SELECT p.id, p.author, p.created_at, coalesce((SELECT c.n FROM counters c WHERE c.subject = p.id AND c.what = 4), 0)
                          + coalesce((SELECT sum(d.by) FROM counter_deltas d WHERE d.subject = p.id AND d.what = 4), 0)::bigint AS "likes!",
                      coalesce((SELECT c.n FROM counters c WHERE c.subject = p.id AND c.what = 5), 0)
                          + coalesce((SELECT sum(d.by) FROM counter_deltas d WHERE d.subject = p.id AND d.what = 5), 0)::bigint AS "comments!"
               FROM posts p WHERE p.id = ANY ($1)"#,
            &ids
        )
        .fetch_all(self.pool())
        .await?;
        let features = rows.into_iter().map(|row| Features {
            post: row.id.into(),
            author: row.author.into(),
            created_at: row.created_at,
            likes: row.likes,
            comments: row.comments,
            affinity: 0,
            is_mutual: false,
        });
        Ok(features.collect())
    }

    /// What a model needs to know of these posts.
    pub async fn post_features(&self, reader: UserId, posts: &[PostId]) -> Result<Vec<Features>, StoreError> {
        let ids: Vec<Uuid> = posts.iter().map(PostId::as_uuid).collect();
        let rows = sqlx::query!(
            r#"WITH liked AS (
                   SELECT p.author, count(*) AS n FROM (
                       SELECT l.post_id FROM post_likes l WHERE l.user_id = $1 ORDER BY l.created_at DESC LIMIT 200
                   ) latest JOIN posts p ON p.id = latest.post_id GROUP BY p.author
               )
               SELECT p.id, p.author, p.created_at, coalesce((SELECT c.n FROM counters c WHERE c.subject = p.id AND c.what = 4), 0)
                          + coalesce((SELECT sum(d.by) FROM counter_deltas d WHERE d.subject = p.id AND d.what = 4), 0)::bigint AS "likes!",
                      coalesce((SELECT c.n FROM counters c WHERE c.subject = p.id AND c.what = 5), 0)
                          + coalesce((SELECT sum(d.by) FROM counter_deltas d WHERE d.subject = p.id AND d.what = 5), 0)::bigint AS "comments!", coalesce(liked.n, 0) AS "affinity!",
                      EXISTS (SELECT FROM follows f WHERE f.follower = p.author AND f.followee = $1) AS "is_mutual!"
               FROM posts p LEFT JOIN liked ON liked.author = p.author WHERE p.id = ANY ($2)"#,
            reader.as_uuid(),
            &ids
        )
        .fetch_all(self.pool())
        .await?;
        let features = rows.into_iter().map(|row| Features {
            post: row.id.into(),
            author: row.author.into(),
            created_at: row.created_at,
            likes: row.likes,
            comments: row.comments,
            affinity: row.affinity,
            is_mutual: row.is_mutual,
        });
        Ok(features.collect())
    }

    /// Keeps an order for those pages that follow, and takes away some that are too old.
    pub async fn keep_feed_snapshot(
        &self,
        id: Uuid,
        reader: UserId,
        snapshot: &Snapshot,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let posts: Vec<Uuid> = snapshot.posts.iter().map(PostId::as_uuid).collect();
        sqlx::query!(
            "WITH old AS (
                 DELETE FROM feed_snapshots WHERE id IN (
                     SELECT id FROM feed_snapshots WHERE created_at < $5 ORDER BY created_at LIMIT 3 FOR UPDATE SKIP LOCKED
                 )
             )
             INSERT INTO feed_snapshots (id, reader, posts, created_at, level, model) VALUES ($1, $2, $3, $4, $6, $7)",
            id,
            reader.as_uuid(),
            &posts,
            now,
            now - SNAPSHOT_KEPT,
            snapshot.level.as_str(),
            snapshot.model
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// An order that is kept for `reader`.
    pub async fn feed_snapshot(&self, id: Uuid, reader: UserId) -> Result<Option<Snapshot>, StoreError> {
        let row = sqlx::query!(
            "SELECT posts, level, model FROM feed_snapshots WHERE id = $1 AND reader = $2",
            id,
            reader.as_uuid()
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(row.map(|row| Snapshot {
            posts: row.posts.into_iter().map(PostId::from).collect(),
            level: Level::named(&row.level).unwrap_or(Level::Engagement),
            model: row.model,
        }))
    }
}

/// The order of a ranked feed, kept for the pages that go on in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The posts, the best first.
    pub posts: Vec<PostId>,
    /// What ordered them.
    pub level: Level,
    /// Its name.
    pub model: String,
}
